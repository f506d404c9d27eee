"""Fitted exponents: families of curves on which a fit could be sure of a wrong one."""

import jax
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax.rates import Rate, fit_rate
from tests.test_rates import DECADES, NOISY_N, POWERS_OF_TWO, covers, over_grids, refused


def holds_or_refuses(rate: Rate, exponent: float) -> bool:
    """Whether the curve is fitted; if it is, its exponent must be within the interval."""
    assert not rate.ok or rate.exponent_low <= exponent <= rate.exponent_high, rate
    return rate.ok


TWO_TERMS = [(0.5, 1.5), (0.5, 1.0), (1.0, 2.0), (1.0, 1.5), (1.0, 3.0), (0.5, 2.0), (0.5, 3.0)]


@pytest.mark.slow
@pytest.mark.parametrize(("points", "fitted"), [(5, 0), (6, 0), (8, 30), (12, 200), (16, 280)])
def test_two_corrections_on_few_points_do_not_give_another_exponent(
    points: int, fitted: int
) -> None:
    n, accepted = 2.0 ** np.arange(points), 0
    for first, second in TWO_TERMS:
        for a in (-0.9, -0.5, 0.5, 1, 2, 4, 8, 20):
            for b in (-20, -8, -3, -1, -0.3, 0.3, 1, 3, 8, 20, 100):
                factor = 1 + a * n**-first + b * n**-second
                if np.all(factor > 0):
                    accepted += holds_or_refuses(fit_rate(n, factor / n), -1.0)
    assert accepted >= fitted


@over_grids
def test_two_corrections_are_covered_or_refused_wherever_the_range_ends(n: np.ndarray) -> None:
    # At some of these the drift of the slope changes its sign just at the end of the range.
    accepted = 0
    n = n[n >= n[-1] / (1e5 if n is DECADES else 1e3)]
    for b in n[-1] * np.array([*np.geomspace(1e-4, 1.5, 100), 3, 10, 100]):
        for a in (1.0, -1.0):
            values = np.exp(np.clip(a * (1 / n - b / n**2), -500, 500)) / n
            rate = fit_rate(n, values)
            if rate.ok:
                accepted += 1
                assert rate.exponent_low <= -1 <= rate.exponent_high, b / n[-1]
    assert accepted > 40


def test_a_fading_oscillation_is_refused() -> None:
    # The slope does settle, but no extrapolation follows it there.
    n = POWERS_OF_TWO
    for frequency in (3.77, 4.24, 4.76):
        values = np.exp(0.01 * np.cos(frequency * np.log(n)) / np.sqrt(n)) / n
        refused(fit_rate(n, values), "does not settle")


def test_a_plateau_is_no_exponent_unless_it_is_said_to_be_one() -> None:
    n = 2.0 ** np.arange(10)
    values = (1 + 0.3 / n) / (1 + n / 1e14)
    refused(fit_rate(n, values), "the curve is flat up to n = 512")
    noise = 1e-3 * np.random.default_rng(0).standard_normal(10)
    refused(fit_rate(n, values + noise, 1e-3), "the curve is flat up to n = 512")
    assert fit_rate(n, values, start=1).ok
    assert fit_rate(n, values, exponent=0).ok
    # What falls with slope -1 from n = 1e6 on, seen as far as that.
    n = 2.0 ** np.arange(24)
    holds_or_refuses(fit_rate(n, 1 / (1 + n / 1e6)), -1.0)


@pytest.mark.slow
@pytest.mark.parametrize("last", [1e2, 1e3, 1e4, 1e5])
def test_curves_of_a_rare_outcome_before_n_reaches_its_weight(last: float) -> None:
    # max W = 87,466 and 1 + CV² = 77.7.
    n = np.geomspace(1, last, 21)
    with jax.enable_x64(True):
        rare = sb.from_probs([0.5, 0.5 - 1e-8, 1e-8], [0.0, 1.0, 12.0])
        curves = sb.metrics(rare, n, 1.0)
        for values, exponent in ((curves.kl_tilted_soft, -2), (curves.tv, -1)):
            holds_or_refuses(fit_rate(n, values), exponent)
            refused(fit_rate(n, values, start=87466), "are needed")


def test_start_leaves_out_what_is_before() -> None:
    n = POWERS_OF_TWO
    values = np.where(n < 64, 1.0, (1 + 1 / n) / n)
    rate = fit_rate(n, values, start=64)
    covers(rate, -1.0, 1.0)
    assert rate.n_low == 64
    assert fit_rate(n[6:], values[6:]) == rate


def test_an_oscillation_with_the_period_of_the_grid_is_seen_between_its_points() -> None:
    n = 2.0 ** np.arange(0, 21, 0.5)
    values = (1 + 0.01 * np.cos(2 * np.pi * np.log2(n))) / n
    refused(fit_rate(n, values), "oscillates")
    assert fit_rate(n[::2], values[::2]).ok  # they are 1.01/n


DENSE = np.unique(np.round(np.geomspace(2, 1e6, 40)))
NOISY = {
    "pure": (lambda n: 3 / n, -1.0, 3.0),
    "1 + 10/n": (lambda n: 3 / n * (1 + 10 / n), -1.0, 3.0),
    "1 + 2 n^-1/2": (lambda n: n**-0.5 * (1 + 2 * n**-0.5), -0.5, 1.0),
    "1 + n^-1/5": (lambda n: (1 + n**-0.2) / n, -1.0, None),
    "1/log n": (lambda n: 1 / (n * np.log(n)), -1.0, None),
    "log n": (lambda n: np.log(n) / n, -1.0, None),
}
FAMILIES = [
    *((which, 0.0, None) for which in NOISY),
    ("pure", 0.5, None),
    ("pure", 0.9, None),
    ("pure", 0.9, 0.9),
    ("1 + 2 n^-1/2", 0.5, 0.5),
]


@pytest.mark.slow
@pytest.mark.parametrize("n", [NOISY_N[1:], DENSE], ids=["powers of 2", "rounded"])
@pytest.mark.parametrize(("which", "correlation", "told"), FAMILIES)
def test_intervals_cover_whatever_the_errors_and_the_correction(
    which: str, correlation: float, told: float | None, n: np.ndarray
) -> None:
    rng, (curve, exponent, constant) = np.random.default_rng(20241126), NOISY[which]
    between = np.abs(np.subtract.outer(np.arange(len(n)), np.arange(len(n))))
    root = np.linalg.cholesky(correlation**between)
    values, covered, constants = curve(n), [], []
    error = 0.01 * values
    for _ in range(40):
        noise = error * (root @ rng.standard_normal(len(n)))
        rate = fit_rate(n, values + noise, error, correlation=told)
        if rate.ok:
            covered.append(rate.exponent_low <= exponent <= rate.exponent_high)
            if constant is not None:  # none with a factor of log n; too slow with n^-1/5
                constants.append(rate.constant_low <= constant <= rate.constant_high)
    # Errors that are nearly one common factor scatter too little, and are mostly refused.
    assert len(covered) >= (1 if correlation > 0.6 and told is None else 15)
    assert np.mean(covered) >= 0.93
    assert np.mean(constants or [1.0]) >= 0.93


def test_correlations_are_those_of_the_points_in_their_order() -> None:
    rng = np.random.default_rng(2)
    n, size = NOISY_N, len(NOISY_N)
    matrix = 0.6 ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    error = 0.01 / n
    values = 3 / n + error * (np.linalg.cholesky(matrix) @ rng.standard_normal(size))
    rate = fit_rate(n, values, error, correlation=0.6)
    assert rate.ok
    order = rng.permutation(size)
    shuffled = fit_rate(
        n[order], values[order], error[order], correlation=matrix[np.ix_(order, order)]
    )
    np.testing.assert_allclose(shuffled[:9], rate[:9], rtol=1e-9)
    independent = fit_rate(n, values, error)
    np.testing.assert_allclose(
        fit_rate(n, values, error, correlation=0.0)[:9], independent[:9], rtol=1e-9
    )
    assert abs(rate.exponent - independent.exponent) > 1e-5
