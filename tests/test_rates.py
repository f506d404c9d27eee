"""Fitted exponents: exact curves, noisy curves, and curves that must be refused."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.optimize import curve_fit

from softbon_jax.rates import Rate, fit_rate
from tests import oracles

POWERS_OF_TWO = 2.0 ** np.arange(21)
DECADES = 10.0 ** np.arange(8)
ONE_TWO_FIVE = np.array([a * 10.0**k for k in range(6) for a in (1, 2, 5)])
ROUNDED = np.unique(np.round(np.geomspace(1, 1e6, 60)))
GRIDS = [POWERS_OF_TWO, DECADES, ONE_TWO_FIVE, ROUNDED]
over_grids = pytest.mark.parametrize("n", GRIDS, ids=["powers of 2", "decades", "1-2-5", "rounded"])


def covers(rate: Rate, exponent: float, constant: float) -> None:
    assert rate.ok, rate.reason
    assert rate.reason == ""
    assert rate.exponent_low <= exponent <= rate.exponent_high, rate
    assert rate.constant_low <= constant <= rate.constant_high, rate
    assert rate.exponent_low <= rate.exponent <= rate.exponent_high
    assert rate.constant_low <= rate.constant <= rate.constant_high
    assert rate.num_points >= 4


def refused(rate: Rate, *words: str) -> None:
    assert not rate.ok, rate
    assert all(word in rate.reason for word in words), rate.reason
    assert all(math.isnan(x) for x in rate[:8])
    assert rate.num_points == 0


# Exact curves ------------------------------------------------------------------------------------


@over_grids
@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.0, 1.5])
def test_a_power_law_is_found_on_its_whole_range(n: np.ndarray, exponent: float) -> None:
    # A constant is a plateau unless it is said to be none.
    rate = fit_rate(n, 3 * n**exponent, start=n[0] if exponent == 0 else None)
    covers(rate, exponent, 3.0)
    assert rate.n_low <= 2  # thinning may leave out the first point
    assert rate.n_high == n[-1]
    # What is left is the effect of relative_error = 1e-11.
    assert rate.exponent_high - rate.exponent_low < 3e-9
    assert rate.exponent == pytest.approx(exponent, abs=1e-10)


CORRECTED = {
    "1 + 10/n": (lambda n: 3 * n**-2.0 * (1 + 10 / n), -2.0, 3.0),
    "1 - 4/n + 30/n²": (lambda n: 3 * n**-2.0 * (1 - 4 / n + 30 / n**2), -2.0, 3.0),
    "1/(n + 50)²": (lambda n: 3 / (n + 50) ** 2, -2.0, 3.0),
    "log(1 + 5/n)": (lambda n: np.log1p(5 / n), -1.0, 5.0),
    "1 + 100/n²": (lambda n: (1 + 100 / n**2) / n, -1.0, 1.0),
    "1 + n^-3/2": (lambda n: (1 + n**-1.5) / n, -1.0, 1.0),
    "1 + 1000/n³": (lambda n: (1 + 1000 / n**3) / n, -1.0, 1.0),
    "crossed over long ago": (lambda n: 1 / n + 30 / n**2, -1.0, 1.0),
    "1 + n^-1/2": (lambda n: (1 + n**-0.5) / n, -1.0, 1.0),
    "sqrt n + 3": (lambda n: np.sqrt(n) + 3, 0.5, 1.0),
    "saturated long ago": (lambda n: 1 / n + 0.01, 0.0, 0.01),
}


@over_grids
@pytest.mark.parametrize("which", CORRECTED)
def test_corrections_are_extrapolated(n: np.ndarray, which: str) -> None:
    curve, exponent, constant = CORRECTED[which]
    values = curve(n)
    start = n[0] if "saturated" in which else None
    free, fixed = (fit_rate(n, values, exponent=x, start=start) for x in (None, exponent))
    covers(free, exponent, constant)
    covers(fixed, exponent, constant)
    assert fixed[:3] == free[:3]
    assert fixed.constant_high - fixed.constant_low <= free.constant_high - free.constant_low
    if any(x in which for x in ("1/2", "3/2", "sqrt", "/n³", "100/n²")):
        return
    # Of what the slope has still to move, the interval is a multiple and the estimate leaves little.
    last = np.diff(np.log(values[-2:]))[0] / np.diff(np.log(n[-2:]))[0]
    # The fit without the last point makes that multiple larger where the steps are longer.
    multiple = 60 if n is DECADES else 10
    assert free.exponent_high - free.exponent_low < multiple * abs(last - exponent)
    assert abs(free.exponent - exponent) < 0.1 * abs(last - exponent)


def test_the_asymptotic_part_is_found() -> None:
    n = POWERS_OF_TWO
    for scale in (10, 100, 1000):
        rate = fit_rate(n, (1 + scale / n) / n)
        # The slope begins to settle where the correction a/n is of order 1.
        assert scale / 8 <= rate.n_low <= 8 * scale
        assert rate.num_points == 1 + math.log2(rate.n_high / rate.n_low)


def test_order_does_not_matter_and_jax_arrays_are_accepted() -> None:
    n = POWERS_OF_TWO
    values = (1 + 7 / n) / n
    shuffled = np.random.default_rng(0).permutation(len(n))
    assert fit_rate(n[shuffled], values[shuffled]) == fit_rate(n, values)
    assert fit_rate(jax.numpy.asarray(n), jax.numpy.asarray(values)) == fit_rate(n, values)


def test_rates_of_a_real_problem() -> None:
    # W on the two outcomes; Var and Cov under P*.
    p, w = 0.2, math.exp(-1 / 0.7)
    with mp.workdps(40):
        n = 2.0 ** np.arange(2, 13)
        curves = [oracles.two_outcome_distances(int(x), p, w) for x in n]
        mean = mpf(p) + (1 - mpf(p)) * mpf(w)
        target = mpf(p) / mean
        jump = (1 - mpf(w)) / mean
        product = target * (1 - target)
        constants = {
            "kl": (-2, float(product * jump**2 / 2)),
            "tv": (-1, float(product * jump)),
        }
    for quantity, (exponent, constant) in constants.items():
        values = np.array([float(x[quantity]) for x in curves])
        rate = fit_rate(n, values, exponent=exponent)
        covers(rate, exponent, constant)
        assert rate.exponent_high - rate.exponent_low < 0.01
        assert rate.constant == pytest.approx(constant, rel=1e-5)


REFUSED = {
    "exponential": lambda n: np.exp(-n / 1e5),
    "steep exponential": lambda n: np.exp(-n[n < 600]),
    "log n": lambda n: np.log(n + 1),
    "log n / n": lambda n: np.log(n + 1) / n,
    "stretched": lambda n: np.exp(-np.sqrt(n) / 30),
    "crossing over at the end": lambda n: 1 / n + n[-1] / n**2,
    "saturating at the end": lambda n: 1 / n + 1 / n[-1],
    "crossing over beyond": lambda n: 1 / n + 100 * n[-1] / n**2,
    "oscillating": lambda n: (1 + 0.1 * np.cos(np.log(n))) / n,
    "zigzag": lambda n: (1 + 1e-3 * (-1.0) ** np.arange(len(n))) / n,
    "best-of-n's divergence": lambda n: np.log(n) - (n - 1) / n + 1e-3,
}


@over_grids
@pytest.mark.parametrize("which", REFUSED)
def test_what_is_no_power_law_is_refused(n: np.ndarray, which: str) -> None:
    values = REFUSED[which](n)
    refused(fit_rate(n[: len(values)], values), "")
    reason = fit_rate(n[: len(values)], values).reason
    assert "does not settle" in reason or "not determined" in reason or "are needed" in reason


def test_values_rougher_than_stated_are_refused_and_accepted_when_stated() -> None:
    n = POWERS_OF_TWO
    values = (1 + 1e-6 * np.random.default_rng(0).uniform(-1, 1, n.size)) / n
    refused(fit_rate(n, values), "does not settle", "1e-11")
    covers(fit_rate(n, values, relative_error=1e-6), -1.0, 1.0)


def test_the_given_exponent_must_be_the_curves() -> None:
    n = POWERS_OF_TWO
    refused(fit_rate(n, (1 + 1 / n) / n**2, exponent=-1.0), "given exponent -1", "-2")


def test_the_tolerance_is_on_the_exponent() -> None:
    n = 2.0 ** np.arange(13)
    values = (1 + 10 / n) / n
    rate = fit_rate(n, values, tolerance=0.1)
    half = max(rate.exponent_high - rate.exponent, rate.exponent - rate.exponent_low)
    refused(fit_rate(n, values, tolerance=0.99 * half), "not determined to within")
    assert fit_rate(n, values, tolerance=1.01 * half).ok


# The noise floor ---------------------------------------------------------------------------------


def test_an_exact_curve_is_used_down_to_its_noise_floor() -> None:
    n = POWERS_OF_TWO
    rough = 1e-10 * np.random.default_rng(1).uniform(-1, 1, n.size)
    values = (1 + 5 / n) / n**2 + rough
    refused(fit_rate(n, values), "")
    rate = fit_rate(n, values, noise_floor=1e-10)
    covers(rate, -2.0, 1.0)
    assert rate.n_high == 2048  # the last with n^-2 > 1000 · 1e-10
    refused(fit_rate(n, values, noise_floor=1e-3), "1 of 21", "noise floor")
    refused(fit_rate(n, values, noise_floor=1e-4), "3 of 21 points", "1000 times the noise floor")
    # a floor of each point
    assert fit_rate(n, values, noise_floor=np.full(n.size, 1e-10)) == rate


def test_negative_and_zero_values_are_below_the_noise() -> None:
    n = POWERS_OF_TWO
    values = 1 / n
    values[12:] = [0.0, -1e-5, 1e-5, -2e-5, 0.0, 1e-6, -1e-6, 1e-5, -1e-5]
    rate = fit_rate(n, values)
    covers(rate, -1.0, 1.0)
    assert rate.n_high == n[11]
    refused(fit_rate(n, -1 / n), "0 of 21", "positive")


def test_too_few_points_are_refused() -> None:
    refused(fit_rate([1, 2, 4], [1, 0.5, 0.25]), "3 of 3", "5 are needed")
    refused(fit_rate([], []), "0 of 0")
    n = 4.0 ** np.arange(5)
    assert fit_rate(n, 1 / n).ok
    refused(fit_rate(n, 1 / n, min_points=6), "6 are needed")
    refused(fit_rate(n, 1 / n, min_span=257), "spans a factor of 256 in n, 257 is needed")
    assert fit_rate(n, 1 / n, min_span=256).ok
    two = 2.0 ** np.arange(8)
    assert fit_rate(two, 1 / two).ok
    few = two[:7]
    noisy = (1 + 1e-3 * np.random.default_rng(0).standard_normal(7)) / few
    for rate in (fit_rate(few, 1 / few), fit_rate(few, noisy, 1e-3 / few)):
        refused(rate, "n = 1 to 64", "spans a factor of 64", "100 is needed")
    close = np.linspace(1000, 1100, 50)
    refused(fit_rate(close, 1 / close), "1 usable points at least a factor 2 apart")


def test_the_longest_run_is_used() -> None:
    n = POWERS_OF_TWO
    values = 1 / n
    values[5] = -1.0
    assert fit_rate(n, values).n_low == n[6]
    values[15] = 0.0
    rate = fit_rate(n, values)
    assert (rate.n_low, rate.n_high) == (n[6], n[14])


# Noisy curves ------------------------------------------------------------------------------------

NOISY_N = 2.0 ** np.arange(17)


def repeated(values: np.ndarray, error: Any, repetitions: int, **options: Any) -> list[Rate]:
    rng = np.random.default_rng(20240501)
    error = np.broadcast_to(error, values.shape)
    return [
        fit_rate(NOISY_N, values + error * rng.standard_normal(values.shape), error, **options)
        for _ in range(repetitions)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "error"),
    [
        (3 / NOISY_N, 0.03 / NOISY_N),
        (3 * (1 + 10 / NOISY_N) / NOISY_N, 0.03 / NOISY_N),
        (3 / NOISY_N, 1e-4),
    ],
    ids=["pure", "1 + 10/n", "falling into the noise"],
)
def test_intervals_cover_at_their_confidence(values: np.ndarray, error: Any) -> None:
    rates = repeated(values, error, 150, exponent=-1.0)
    fitted = [rate for rate in rates if rate.ok]
    assert len(fitted) >= 0.9 * len(rates)
    exponent = np.mean([r.exponent_low <= -1 <= r.exponent_high for r in fitted])
    constant = np.mean([r.constant_low <= 3 <= r.constant_high for r in fitted])
    # They allow for corrections that are not there.
    assert exponent >= 0.93
    assert constant >= 0.93


def test_intervals_widen_with_confidence_and_error() -> None:
    values = 3 / NOISY_N

    def width(**options: Any) -> float:
        rate = repeated(values, options.pop("error", 0.03 / NOISY_N), 1, **options)[0]
        return rate.exponent_high - rate.exponent_low

    # Normal quantiles: 1.9600 and 2.5758.
    assert width(confidence=0.99) / width() == pytest.approx(2.5758 / 1.9600, rel=1e-4)
    assert width(error=0.06 / NOISY_N) / width() == pytest.approx(2, rel=0.05)


@pytest.mark.slow
def test_a_noisy_window_leaves_out_what_is_not_yet_asymptotic() -> None:
    values = 3 * (1 + 10 / NOISY_N) / NOISY_N
    low = [r.n_low for r in repeated(values, 0.01 * values, 40)]
    precise = [r.n_low for r in repeated(values, 0.001 * values, 40)]
    assert 8 <= np.nanmedian(low) <= 64
    assert np.nanmedian(precise) > np.nanmedian(low)


def test_a_noisy_fit_is_the_least_squares_fit_of_the_model() -> None:
    # At 15 % noise a fit of log y, or weights from the values themselves, would be far off.
    rng = np.random.default_rng(5)
    error = 0.45 / NOISY_N
    values = 3 / NOISY_N + error * rng.standard_normal(NOISY_N.shape)
    rate = fit_rate(NOISY_N, values, error)
    assert rate.n_low == 1

    def fitted(second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        def model(n: np.ndarray, log_c: float, alpha: float, a: float, b: float) -> np.ndarray:
            return np.exp(log_c + alpha * np.log(n) + a / n + b * second)

        best, covariance = curve_fit(
            model, NOISY_N, values, (math.log(3), -1.0, 0.0, 0.0), error,
            absolute_sigma=True, xtol=1e-14, ftol=1e-14,
        )  # fmt: skip
        residual = (values - model(NOISY_N, *best)) / error
        return best, 1.959964 * np.sqrt(np.diag(covariance)), residual

    n = NOISY_N
    fits = [fitted(x) for x in (n**-2.0, n**-0.5, n**-0.2, np.log(1 + np.log(n)))]
    best, _, residual = fits[0]
    chi2 = residual @ residual
    neighbors = max(0, residual[1:] @ residual[:-1] / chi2)
    assert neighbors > 0.05
    wider = math.sqrt(max(1, (13 + 2) / (chi2 + 2)) * (1 + neighbors) / (1 - neighbors))
    low = [best - wider * half for best, half, _ in fits]
    high = [best + wider * half for best, half, _ in fits]
    assert rate.exponent == pytest.approx(best[1], abs=1e-7)
    assert rate.exponent_low == pytest.approx(min(x[1] for x in low), abs=1e-5)
    assert rate.exponent_high == pytest.approx(max(x[1] for x in high), abs=1e-5)
    assert math.log(rate.constant) == pytest.approx(best[0], abs=1e-6)
    assert math.log(rate.constant_low) == pytest.approx(min(x[0] for x in low[:3]), abs=1e-4)
    assert math.log(rate.constant_high) == pytest.approx(max(x[0] for x in high[:3]), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "relative"),
    [
        (np.exp(-NOISY_N / 1e3), 0.01),
        (np.exp(-NOISY_N / 1e3), 0.1),
        (1 / NOISY_N + 1e-4, 0.01),
        (np.log(NOISY_N + 1), 0.001),
        ((1 + 0.2 * np.cos(np.log(NOISY_N))) / NOISY_N, 0.01),
    ],
    ids=["exponential", "exponential, noisy", "saturating", "log n", "oscillating"],
)
def test_noisy_curves_that_are_no_power_law_are_refused(
    values: np.ndarray, relative: float
) -> None:
    rates = repeated(values, relative * values, 40)
    assert np.mean([r.ok for r in rates]) <= 0.1
    for rate in rates:
        if not rate.ok:
            refused(rate, "")


def test_a_noisy_curve_below_its_noise_is_refused() -> None:
    rng = np.random.default_rng(3)
    n = NOISY_N
    noise = 1e-3 * rng.standard_normal(n.size)
    refused(fit_rate(n, 1e-4 / n + noise, 1e-3), "3 standard errors", "5 are needed")
    refused(fit_rate(n, 1 / n + noise / 1e3, 1e-6, noise_floor=0.05), "10 times the noise floor")
    rate = fit_rate(n, 1 / n + noise / 1e3, 1e-6, noise_floor=1e-3, tolerance=5, min_span=1)
    assert rate.n_high == 64


def test_a_bias_at_the_noise_floor_is_covered() -> None:
    # A plug-in estimate that levels off at its bias 1e-4, which is stated as the noise floor.
    values = 1 / NOISY_N + 1e-4
    for relative in (0.02, 1e-4):
        rates = repeated(values, relative * values, 40, noise_floor=1e-4, tolerance=5)
        assert all(r.ok and r.n_high <= 1111 for r in rates)
        assert np.mean([r.exponent_low <= -1 <= r.exponent_high for r in rates]) > 0.95
        assert np.mean([r.constant_low <= 1 <= r.constant_high for r in rates]) > 0.95


def test_scatter_beyond_the_stated_errors_is_refused() -> None:
    rng = np.random.default_rng(6)
    curves = (1 + 0.05 * rng.standard_normal((40, NOISY_N.size))) / NOISY_N
    rates = [fit_rate(NOISY_N, y, 0.01 / NOISY_N) for y in curves]
    assert np.mean([r.ok for r in rates]) <= 0.1


@pytest.mark.slow
def test_a_slight_bend_shortens_the_window() -> None:
    # Three standard errors of the term in (log n)²: too little for χ² in half of the repetitions.
    values = np.exp(-np.log(NOISY_N) + 1.2e-3 * np.log(NOISY_N) ** 2)
    whole = [r.n_low == 1 for r in repeated(values, 0.01 * values, 100)]
    straight = [r.n_low == 1 for r in repeated(1 / NOISY_N, 0.01 / NOISY_N, 100)]
    assert np.mean(whole) < 0.35
    assert np.mean(straight) > 0.8


def test_a_window_begins_where_its_correction_is_small() -> None:
    values = np.exp(20 / NOISY_N) / NOISY_N
    rates = repeated(values, 0.01 * values, 20)
    assert all(r.ok and r.n_low == 64 for r in rates if r.n_low < 100)


def test_a_noisy_curve_with_another_exponent_is_refused() -> None:
    rate = repeated(3 / NOISY_N, 0.03 / NOISY_N, 1, exponent=-2.0)[0]
    refused(rate, "given exponent -2")


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 2, 4], [1, 2]), {}, r"n and values must be vectors of one length.*\(3,\) and \(2,\)"),
        (([[1, 2]], [[1, 2]]), {}, "must be vectors"),
        (([0, 1, 2], [1, 1, 1]), {}, "n must be positive and finite, got 0 at index 0"),
        (([1, math.inf], [1, 1]), {}, "n must be positive and finite, got inf at index 1"),
        (([1, 2, 2], [1, 1, 1]), {}, "n must be all different, got 2.0"),
        (([1, 2], [1, math.nan]), {}, "values must be finite, got nan at index 1"),
        (
            ([1, 2], [1, 1], [1, 0]),
            {},
            "standard_error must be positive and finite, got 0 at index 1",
        ),
        (([1, 2], [1, 1], [1, 1, 1]), {}, r"standard_error must be a scalar or of shape \(2,\)"),
        (([1, 2], [1, 1], None, -1), {}, "noise_floor must be finite and at least 0, got -1"),
        (([1, 2], [1, 1]), {"min_points": 3}, "min_points must be an integer of at least 4, got 3"),
        (([1, 2], [1, 1]), {"confidence": 1.0}, "confidence must be strictly between"),
        (([1, 2], [1, 1]), {"min_span": 0.5}, "min_span must be at least 1, got 0.5"),
        (([1, 2], [1, 1]), {"start": 0.0}, "start must be positive and finite, got 0"),
        (([1, 2], [1, 1]), {"correlation": 0.5}, "it needs a standard_error, got None"),
        (
            ([1, 2], [1, 1], 1),
            {"correlation": 1.0},
            "correlation must be strictly between -1 and 1",
        ),
        (
            ([1, 2], [1, 1], 1),
            {"correlation": [1, 0]},
            r"correlation must be a scalar or .*\(2, 2\)",
        ),
        (([1, 2], [1, 1], 1), {"correlation": [[1, 0], [0.5, 1]]}, "correlation must be symmetric"),
        (([1, 2], [1, 1], 1), {"correlation": [[1, 2], [2, 1]]}, "positive definite, got an eig"),
        (([1, 2], [1, 1]), {"tolerance": 0.0}, "tolerance must be positive"),
        (([1, 2], [1, 1]), {"relative_error": -1e-9}, "relative_error must be in"),
        (([1, 2], [1, 1]), {"exponent": math.nan}, "exponent must be finite"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_rate(*arguments, **options)


def test_what_is_not_real_numbers_is_refused() -> None:
    for arguments in ((["a", "b"], [1, 2]), ([1, 2], [True, False]), ([1, 2], [1, 2j])):
        with pytest.raises(TypeError, match="must be real numbers"):
            fit_rate(*arguments)
    with pytest.raises(TypeError, match="exponent must be real numbers"):
        fit_rate([1, 2], [1, 1], exponent="-1")
