"""Bounds and asymptotes against their definitions in mpmath and against exact laws."""

import functools
import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

from softbon_jax import bounds
from softbon_jax.problem import Problem, from_logits, from_probs, jackpot, worst_case

# The oracle: definitions, in mpmath ----------------------------------------------------------------


class Moments(NamedTuple):
    """P, P*, W and r on the outcomes of positive probability, as exact numbers."""

    p: list
    target: list
    w: list
    r: list


@functools.lru_cache(maxsize=None)
def of_problem(which: str, temperature: float) -> Moments:
    """The moments of one of PROBLEMS, in the working precision of the first call."""
    problem = PROBLEMS[which]
    return moments(np.asarray(problem.log_probs), np.asarray(problem.rewards), temperature)


def moments(log_probs: Any, rewards: Any, temperature: Any) -> Moments:
    kept = [(mpf(a), mpf(b)) for a, b in zip(log_probs, rewards, strict=True) if a != -math.inf]
    p = [mp.exp(a) for a, _ in kept]
    p = [x / mp.fsum(p) for x in p]
    r = [b for _, b in kept]
    top = max(r)
    if temperature == 0:
        w = [mpf(x == top) for x in r]
    else:
        w = [mp.exp((x - top) / mpf(temperature)) for x in r]
    mean = mp.fdot(p, w)
    w = [x / mean for x in w]
    return Moments(p, [a * b for a, b in zip(p, w, strict=True)], w, r)


def mean(q: list, x: list) -> mpf:
    return mp.fdot(q, x)


def cv2(m: Moments) -> mpf:
    return mean(m.p, [(x - 1) ** 2 for x in m.w])


def spread(m: Moments, temperature: Any) -> mpf:
    width = max(m.r) - min(m.r)
    if temperature == 0:
        return mp.inf if width else mpf(0)
    return width / mpf(temperature)


def sinh_squared(m: Moments, t: Any) -> mpf:
    return mp.inf if spread(m, t) == mp.inf else mp.sinh(spread(m, t) / 2) ** 2


def quadratic(m: Moments, n: mpf) -> mpf:
    if cv2(m) == 0:
        return mpf(0)
    b, excess = min(m.w), max(m.w) - 1
    if b == 0:
        return mp.inf
    square = mean(m.target, [(x - 1) ** 2 for x in m.w])
    return (1 + excess / n) * 2 / (n - 1 + b) ** 2 * (square + cv2(m) ** 2 / b**2)


def relative_excess(m: Moments) -> mpf:
    if min(m.r) == max(m.r):
        return mpf(0)
    return mean(m.target, [a * b for a, b in zip(m.r, m.w, strict=True)]) / mean(m.target, m.r) - 1


def centred_w(m: Moments) -> list:
    centre = mean(m.target, m.w)
    return [x - centre for x in m.w]


def covariance(m: Moments) -> mpf:
    centre = mean(m.target, m.r)
    return mean(m.target, [(a - centre) * b for a, b in zip(m.r, centred_w(m), strict=True)])


BUDGET = 0.03125  # of n_for_kl_upper

DEFINITIONS: dict[str, Callable[[Moments, mpf, Any], mpf]] = {
    "cv_squared": lambda m, n, t: cv2(m),
    "effective_sample_size": lambda m, n, t: n / (1 + cv2(m)),
    "kl_upper": lambda m, n, t: mp.log1p(cv2(m) / n),
    "kl_upper_linear": lambda m, n, t: cv2(m) / n,
    "kl_upper_sinh": lambda m, n, t: sinh_squared(m, t) / n,
    "kl_upper_quadratic": lambda m, n, t: quadratic(m, n),
    "n_for_kl_upper": lambda m, n, t: max(mpf(1), cv2(m) / mp.expm1(BUDGET)),
    "log_n_for_kl_upper": lambda m, n, t: mp.log(max(mpf(1), cv2(m) / mp.expm1(BUDGET))),
    "relative_gap_upper": lambda m, n, t: relative_excess(m) / (n + relative_excess(m)),
    "relative_gap_upper_crude": lambda m, n, t: (max(m.w) - 1) / (n + max(m.w) - 1),
    "kl_base_upper": lambda m, n, t: mp.log(n / (1 + (n - 1) * mp.exp(-spread(m, t)))),
    "kl_asymptote_coefficient": lambda m, n, t: mean(m.target, [x**2 for x in centred_w(m)]) / 2,
    "kl_asymptote": lambda m, n, t: mean(m.target, [x**2 for x in centred_w(m)]) / 2 / n**2,
    "tv_asymptote_coefficient": lambda m, n, t: mean(m.target, [abs(x) for x in centred_w(m)]) / 2,
    "tv_asymptote": lambda m, n, t: mean(m.target, [abs(x) for x in centred_w(m)]) / 2 / n,
    "reward_gap_asymptote_coefficient": lambda m, n, t: covariance(m),
    "reward_gap_asymptote": lambda m, n, t: covariance(m) / n,
}
NEEDS_NO_NEGATIVE_REWARD = ("relative_gap_upper", "relative_gap_upper_crude")


def call(name: str, problem: Problem, log_n: Any, temperature: Any) -> jax.Array:
    """The package's function of that name, in terms of log n."""
    function = getattr(bounds, name)
    parameters = list(inspect.signature(function).parameters)
    if "n" in parameters:
        return function(problem, None, temperature, log_n=log_n)
    return function(problem, *([BUDGET] if "kl" in parameters else []), temperature)


# The oracle: exact laws ----------------------------------------------------------------------------


class Exact(NamedTuple):
    kl_tilted_soft: mpf
    kl_soft_tilted: mpf
    kl_soft_base: mpf
    tv: mpf
    reward_gap: mpf
    relative_reward_gap: mpf


def kl(a: list, b: list) -> mpf:
    return mp.fsum(x * mp.log(x / y) for x, y in zip(a, b, strict=True))


def exact(problem: Problem, ns: list, temperature: float, step: float = 0.125) -> list[Exact]:
    """Metrics of soft best-of-n from P_n/P* = n mu ∫ e^{-tw} phi(t)^{n-1} dt, trapezoid rule in log t."""
    m = moments(np.asarray(problem.log_probs), np.asarray(problem.rewards), temperature)
    left = -mp.log(max(max(m.w), mpf(max(ns)))) - 80
    right = -mp.log(min(m.w)) + 5
    nodes = [mp.exp(left + step * k) for k in range(int((right - left) / step) + 1)]
    decay = [[mp.exp(-t * w) for w in m.w] for t in nodes]
    log_phi = [mp.log(mp.fdot(m.p, row)) for row in decay]
    out = []
    for n in ns:
        outer = [n * step * t * mp.exp((n - 1) * x) for t, x in zip(nodes, log_phi, strict=True)]
        ratio = [mp.fdot(outer, [row[k] for row in decay]) for k in range(len(m.w))]
        law = [a * b for a, b in zip(m.target, ratio, strict=True)]
        assert abs(mp.fsum(law) - 1) < mpf(10) ** -30
        gap = mean(m.target, m.r) - mean(law, m.r)
        relative = gap / mean(m.target, m.r)
        distance = mp.fsum(abs(a - b) for a, b in zip(law, m.target, strict=True)) / 2
        divergences = kl(m.target, law), kl(law, m.target), kl(law, m.p)
        out.append(Exact(*divergences, distance, gap, relative))
    return out


def by_counts(problem: Problem, n: int, temperature: float) -> list[float]:
    """The law of soft best-of-n for a problem without zeros, summed over multinomial counts."""
    p, r = np.exp(np.asarray(problem.log_probs)), np.asarray(problem.rewards)
    law = np.zeros_like(p)
    for draws in itertools.product(range(len(p)), repeat=n):
        w = np.exp((r[list(draws)] - r[list(draws)].max()) / temperature)
        np.add.at(law, list(draws), p[list(draws)].prod() * w / w.sum())
    return list(law)


# Problems ------------------------------------------------------------------------------------------

FOUR = from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
# A tie at the top, one below, and an impossible outcome with the highest reward.
TIED = from_probs([0.25, 0.0, 0.3, 0.2, 0.15, 0.1], [0.5, 9.0, 0.0, 0.5, 2.0, 2.0])
NEGATIVE = from_probs([0.2, 0.5, 0.3], [-3.0, -1.0, 0.5])
JACKPOT = jackpot(6, 1e-6)
# Nearly sure laws: of the likeliest outcome nothing is left in W - 1 but rounding, if it is formed so.
SURE = from_probs([1e-12, 1 - 4e-12, 3e-12], [0.0, 0.7, 1.0])
SURE_TIED = from_probs([0.5, 0.5 - 1e-13, 1e-13], [0.25, 0.25, 1.0])
CLOSE = from_probs([0.5, 0.5, 1e-25], [0.25, 0.25 + 2.0**-40, 1.0])
# Probabilities that underflow, as those of long sequences do.
TINY = from_logits([0.0, -400.0, -900.0], [0.0, 0.4, 1.0])
CONSTANT = from_probs([0.25, 0.75, 0.0], [0.3, 0.3, 1.0])
PROBLEMS = {
    "four": FOUR,
    "tied": TIED,
    "negative": NEGATIVE,
    "jackpot": JACKPOT,
    "sure": SURE,
    "sure tied": SURE_TIED,
    "close": CLOSE,
    "tiny": TINY,
    "constant": CONSTANT,
    "worst case": worst_case(2.5),
}


def width(problem: Problem) -> float:
    rewards = np.asarray(problem.rewards)[np.asarray(problem.log_probs) > -np.inf]
    return float(np.ptp(rewards)) or 1.0


# Values --------------------------------------------------------------------------------------------


def padded(problem: Problem, size: int) -> Problem:
    """The problem with impossible outcomes added at the end."""
    extra = (0, size - problem.num_outcomes)
    return Problem(
        jnp.pad(problem.log_probs, extra, constant_values=-jnp.inf),
        jnp.pad(problem.rewards, extra, constant_values=7.0),
    )


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_function_is_its_definition(name: str) -> None:
    names = [k for k in PROBLEMS if k != "negative" or name not in NEEDS_NO_NEGATIVE_REWARD]
    padded_problems = [padded(PROBLEMS[k], 6) for k in names]
    batch = Problem(*(jnp.stack(x)[:, None, None, :] for x in zip(*padded_problems, strict=True)))
    log_n = np.append(np.log([1.0, 2.0, 37.5, 1e6]), 300.0)
    scale = np.array([0.0, 1 / 600, 1 / 50, 0.3, 1.0, 20.0, 1e3, np.inf])
    temperature = np.stack([width(PROBLEMS[k]) * scale for k in names])
    got = np.asarray(call(name, batch, log_n, temperature[:, :, None]))
    got = np.broadcast_to(got, (*temperature.shape, len(log_n)))
    with mp.workdps(400):  # the deviation of a sure outcome from its mean cancels 260 digits
        for i, j, k in np.ndindex(got.shape):
            t, n = float(temperature[i, j]), mp.exp(mpf(log_n[k]))
            want = DEFINITIONS[name](of_problem(names[i], t), n, t)
            if want > 1e308:
                assert got[i, j, k] == math.inf
            else:
                case = f"{names[i]}, temperature {t}, log n {log_n[k]}"
                np.testing.assert_allclose(
                    got[i, j, k], float(want), rtol=1e-11, atol=1e-300, err_msg=case
                )


def test_float32_is_close_to_float64() -> None:
    log_n = np.log([1.0, 16.0, 1e8])
    temperature = np.array([[0.02], [0.3], [1.0], [50.0]])
    single = Problem(FOUR.log_probs.astype(np.float32), FOUR.rewards.astype(np.float32))
    for name in DEFINITIONS:
        got = call(name, single, log_n.astype(np.float32), temperature.astype(np.float32))
        assert got.dtype == np.float32
        want = np.asarray(call(name, FOUR, log_n, temperature))
        # Above e^88 a float32 is infinite, and a weight e^50 carries 50 roundings of its exponent.
        want = np.where(want > 3e38, np.inf, want)
        np.testing.assert_allclose(
            got, want, rtol=2e-4 if "quadratic" in name else 5e-5, atol=1e-37
        )


def test_check_values() -> None:
    # Var/2 and Cov times n² and n are near the exact values at n = 1024.
    assert float(bounds.kl_asymptote(FOUR, 1024, 0.3)) == pytest.approx(2.9314903e-6, rel=1e-2)
    assert float(bounds.reward_gap_asymptote(FOUR, 1024, 0.3)) == pytest.approx(8.378e-4, rel=1e-2)


def test_limits_of_the_temperature() -> None:
    best, n = 0.25, 8.0  # P(best) of TIED
    at_zero = {
        "cv_squared": 1 / best - 1,
        "effective_sample_size": n * best,
        "kl_upper": math.log1p((1 / best - 1) / n),
        "kl_upper_linear": (1 / best - 1) / n,
        "kl_upper_sinh": math.inf,
        "kl_upper_quadratic": math.inf,
        "relative_gap_upper_crude": (1 / best - 1) / (n + 1 / best - 1),
        "kl_base_upper": math.log(n),
        "kl_asymptote": 0.0,
        "tv_asymptote": 0.0,
        "reward_gap_asymptote": 0.0,
    }
    for name, value in at_zero.items():
        assert float(call(name, TIED, math.log(n), 0.0)) == pytest.approx(value, rel=1e-14)
        at_infinity = {"effective_sample_size": n}.get(name, 0.0)
        assert float(call(name, TIED, math.log(n), math.inf)) == pytest.approx(
            at_infinity, rel=1e-14
        )


def test_what_overflows_is_infinite_and_what_need_not_does_not() -> None:
    problem = worst_case(2000.0)
    assert float(bounds.cv_squared(problem, 1.0)) == math.inf
    assert float(bounds.kl_upper_sinh(problem, 1e9, 1.0)) == math.inf
    # log CV² = 2000 - 2 log 2
    log_cv_squared = 2000 - 2 * math.log(2)
    assert float(bounds.kl_upper(problem, 1.0, 1.0)) == pytest.approx(log_cv_squared, rel=1e-13)
    got = bounds.kl_upper(problem, None, 1.0, log_n=2010.0)
    assert float(got) == pytest.approx(math.exp(log_cv_squared - 2010), rel=1e-11)
    assert float(bounds.log_n_for_kl_upper(problem, math.log(2), 1.0)) == pytest.approx(
        log_cv_squared
    )
    assert float(bounds.n_for_kl_upper(problem, 1.0, 1.0)) == math.inf
    assert float(bounds.effective_sample_size(problem, None, 1.0, log_n=2010.0)) == pytest.approx(
        math.exp(2010 - log_cv_squared), rel=1e-11
    )


def test_best_of_n_forms() -> None:
    n = np.array([1.0, 1 + 1e-9, 1.001, 1.05, 1.06, 2.0, 10.0, 1e6, 1e300])
    with mp.workdps(60):
        exact_n = [mpf(float(x)) for x in n]
        want_kl = [float(mp.log(x) - (x - 1) / x) for x in exact_n]
        want_win = [float(x / (x + 1)) for x in exact_n]
    np.testing.assert_allclose(bounds.best_of_n_kl(n), want_kl, rtol=1e-12)
    np.testing.assert_allclose(bounds.best_of_n_win_rate(n), want_win, rtol=1e-14)
    np.testing.assert_allclose(bounds.best_of_n_kl(None, log_n=1e4), 1e4 - 1, rtol=1e-14)
    assert bounds.best_of_n_kl(np.float32(3)).dtype == np.float32
    slope = jax.vmap(jax.grad(bounds.best_of_n_kl))(jnp.asarray(n[:-1]))
    np.testing.assert_allclose(slope, (n[:-1] - 1) / n[:-1] ** 2, rtol=1e-6, atol=1e-15)


# Bounds bound ----------------------------------------------------------------------------------------

GRID_N = [1, 2, mpf(7.5), 64, 10_000]


@functools.cache
def grid() -> list[tuple[Problem, float, list[Exact]]]:
    with mp.workdps(45):
        return [
            (problem, width(problem) * scale, exact(problem, GRID_N, width(problem) * scale))
            for problem in (FOUR, TIED, NEGATIVE, JACKPOT, worst_case(2.5))
            for scale in (0.05, 0.3, 1.0, 10.0)
        ]


def test_oracle_agrees_with_enumeration() -> None:
    for temperature in (0.1, 0.5):
        law = by_counts(FOUR, 4, temperature)
        m = moments(np.asarray(FOUR.log_probs), np.asarray(FOUR.rewards), temperature)
        want = kl([mpf(x) for x in m.target], [mpf(x) for x in law])
        with mp.workdps(45):
            got = exact(FOUR, [4], temperature)[0]
        assert float(got.kl_tilted_soft) == pytest.approx(float(want), rel=1e-12)


@pytest.mark.parametrize(
    ("bound", "quantity"),
    [
        ("kl_upper", "kl_tilted_soft"),
        ("kl_upper_linear", "kl_tilted_soft"),
        ("kl_upper_sinh", "kl_tilted_soft"),
        ("kl_upper_quadratic", "kl_tilted_soft"),
        ("kl_base_upper", "kl_soft_base"),
        ("relative_gap_upper", "relative_reward_gap"),
        ("relative_gap_upper_crude", "relative_reward_gap"),
    ],
)
def test_bounds_are_above_the_exact_value(bound: str, quantity: str) -> None:
    largest = 0.0
    for problem, temperature, exact_values in grid():
        if bound in NEEDS_NO_NEGATIVE_REWARD and float(jnp.min(problem.rewards)) < 0:
            continue
        for n, value in zip(GRID_N, exact_values, strict=True):
            limit = float(call(bound, problem, math.log(n), temperature))
            # n = 1 and base: both are 0, the exact value to 30 digits.
            assert float(getattr(value, quantity)) <= limit * (1 + 1e-12) + 1e-25, (temperature, n)
            if limit > 0:
                largest = max(largest, float(getattr(value, quantity)) / limit)
    # Not vacuous: somewhere on the grid the bound is within this factor of the exact value.
    assert largest > {"kl_upper_quadratic": 0.05}.get(bound, 0.3)


def test_bounds_are_ordered() -> None:
    for problem, temperature, _ in grid():
        n = np.array([float(x) for x in GRID_N])
        chain = [bounds.kl_upper, bounds.kl_upper_linear, bounds.kl_upper_sinh]
        values = [np.asarray(f(problem, n, temperature)) for f in chain]
        assert np.all(values[0] < values[1])
        assert np.all(values[1] <= values[2] * (1 + 1e-12))
        if float(jnp.min(problem.rewards)) >= 0:
            tight = np.asarray(bounds.relative_gap_upper(problem, n, temperature))
            assert np.all(
                tight <= bounds.relative_gap_upper_crude(problem, n, temperature) * (1 + 1e-12)
            )


@pytest.mark.parametrize("span", [1e-3, 1.0, 50.0, 600.0])
def test_sinh_bound_is_attained(span: float) -> None:
    problem = worst_case(span)
    sinh = bounds.kl_upper_sinh(problem, 3.0, 1.0)
    np.testing.assert_allclose(bounds.kl_upper_linear(problem, 3.0, 1.0), sinh, rtol=1e-12)
    # and only there
    skewed = from_logits(problem.log_probs + jnp.array([0.0, 0.3]), problem.rewards)
    assert float(bounds.kl_upper_linear(skewed, 3.0, 1.0)) < 0.999 * float(sinh)


def test_n_for_kl_upper_suffices() -> None:
    for problem, temperature, _ in grid()[::3]:
        for budget in (1e-3, 0.1, 2.0):
            n = float(bounds.n_for_kl_upper(problem, budget, temperature))
            assert n >= 1
            at_n = float(bounds.kl_upper(problem, n, temperature))
            assert at_n <= budget * (1 + 1e-12)
            if n > 1:  # and no smaller n would do for this bound
                assert at_n == pytest.approx(budget, rel=1e-12)
    with mp.workdps(45):
        n = float(bounds.n_for_kl_upper(FOUR, 0.1, 0.3))
        assert exact(FOUR, [mpf(n)], 0.3)[0].kl_tilted_soft <= 0.1
    assert float(bounds.n_for_kl_upper(FOUR, 0.0, 0.3)) == math.inf
    assert float(bounds.n_for_kl_upper(FOUR, math.inf, 0.3)) == 1.0
    assert float(bounds.n_for_kl_upper(CONSTANT, 0.0, 0.3)) == 1.0


def test_best_of_n_formulas_bound_discrete_laws_and_are_their_limit() -> None:
    def hard(size: int, n: int) -> tuple[float, float]:
        edges = (np.arange(size + 1) / size) ** n
        law = np.diff(edges)
        win = law @ ((np.arange(size) + 0.5) / size)
        return float(np.sum(law * np.log(np.maximum(law * size, 1e-300)))), float(win)

    for n in (1, 2, 10, 100):
        limit_kl, limit_win = float(bounds.best_of_n_kl(n)), float(bounds.best_of_n_win_rate(n))
        for size in (2, 10, 1000):
            value_kl, value_win = hard(size, n)
            assert value_kl <= limit_kl + 1e-12
            assert value_win <= limit_win + 1e-12
        fine_kl, fine_win = hard(1_000_000, n)
        assert fine_kl == pytest.approx(limit_kl, rel=1e-3)
        assert fine_win == pytest.approx(limit_win, rel=1e-5)
    assert hard(10, 10)[0] == pytest.approx(1.3611, abs=1e-4)


# Asymptotes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asymptote", "quantities"),
    [
        ("kl_asymptote", ("kl_tilted_soft", "kl_soft_tilted")),
        ("tv_asymptote", ("tv",)),
        ("reward_gap_asymptote", ("reward_gap",)),
    ],
)
def test_asymptotes_are_the_limit_at_the_rate_one_over_n(
    asymptote: str, quantities: tuple[str, ...]
) -> None:
    ns = [10_000, 100_000, 1_000_000]
    for problem, temperature in ((FOUR, 0.3), (TIED, 0.8), (NEGATIVE, 1.0)):
        limits = np.asarray(call(asymptote, problem, np.log(ns), temperature))
        for quantity in quantities:
            with mp.workdps(50):
                values = [float(getattr(x, quantity)) for x in large_n(problem, temperature)]
            off = np.abs(np.array(values) / limits - 1)
            assert np.all(off < 50 / np.array(ns)), off
            # The next term is of relative order 1/n: each factor 10 in n gains a factor 10.
            np.testing.assert_allclose(off[:-1] / off[1:], 10, rtol=0.05)


@functools.cache
def _large_n(which: int, temperature: float) -> list[Exact]:
    problem = (FOUR, TIED, NEGATIVE)[which]
    return exact(problem, [10_000, 100_000, 1_000_000], temperature)


def large_n(problem: Problem, temperature: float) -> list[Exact]:
    return _large_n([p is problem for p in (FOUR, TIED, NEGATIVE)].index(True), temperature)


# Gradients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("which", ["four", "tied", "sure"])
def test_gradients_are_those_of_the_definition(which: str, name: str) -> None:
    problem, log_n = PROBLEMS[which], math.log(6.5)
    temperature = 0.7
    parameters = (problem.log_probs, problem.rewards, jnp.float64(log_n), jnp.float64(temperature))

    def value(log_probs: Any, rewards: Any, log_n: Any, temperature: Any) -> jax.Array:
        return call(name, Problem(log_probs, rewards), log_n, temperature)

    got = jax.grad(value, argnums=(0, 1, 2, 3))(*parameters)
    chex.assert_tree_all_finite(got)
    numbers = [np.asarray(x).reshape(-1) for x in parameters]
    sizes = np.cumsum([0] + [len(x) for x in numbers])
    flat = list(np.concatenate(numbers))
    ranked = np.sort(np.asarray(problem.rewards))

    def definition(x: list) -> mpf:
        m = moments(x[: sizes[1]], x[sizes[1] : sizes[2]], x[-1])
        return DEFINITIONS[name](m, mp.exp(x[-2]), x[-1])

    with mp.workdps(100):
        step = mpf(10) ** -40
        for i, slope in enumerate(np.concatenate([np.asarray(x).reshape(-1) for x in got])):
            if flat[i] == -math.inf:
                assert slope == 0
                continue
            is_reward = sizes[1] <= i < sizes[2]
            at_edge = flat[i] in (ranked[-1], ranked[-2], ranked[0]) or which == "tied"
            extremes = ("sinh", "crude", "quadratic", "base_upper")
            if is_reward and at_edge and which == "tied" and any(x in name for x in extremes):
                continue  # a kink: the largest or smallest of tied rewards
            up, down = ([mpf(y) for y in flat] for _ in range(2))
            up[i] += step
            down[i] -= step
            want = float((definition(up) - definition(down)) / (2 * step))
            np.testing.assert_allclose(slope, want, rtol=1e-8, atol=1e-14, err_msg=f"parameter {i}")


@pytest.mark.parametrize("name", DEFINITIONS)
def test_gradients_are_finite_where_something_degenerates(name: str) -> None:
    for problem in (CONSTANT, TIED, TINY, SURE_TIED):
        for temperature in (0.0, 1e-3, 1.0, 1e6, math.inf):
            value, slope = jax.value_and_grad(lambda p, t: call(name, p, 0.5, t), argnums=(0, 1))(
                problem, jnp.float64(temperature)
            )
            assert not jnp.isnan(value)
            if jnp.isfinite(value):
                chex.assert_tree_all_finite(slope)


# The interface ---------------------------------------------------------------------------------------


def test_every_public_function_is_tested() -> None:
    public = {
        name
        for name, x in vars(bounds).items()
        if inspect.isfunction(x) and x.__module__ == bounds.__name__ and name[0] != "_"
    }
    assert public == {*DEFINITIONS, "best_of_n_kl", "best_of_n_win_rate"}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_jit_vmap_and_broadcasting_agree(name: str) -> None:
    log_probs = jnp.stack([FOUR.log_probs, FOUR.log_probs[::-1]])
    batch = Problem(log_probs[:, None, None, :], FOUR.rewards)
    temperature, log_n = (
        jnp.array([[0.0], [0.2], [jnp.inf]]),
        jnp.log(jnp.array([1.0, 3.0, 50.0, 1e9])),
    )
    together = jnp.broadcast_to(call(name, batch, log_n, temperature), (2, 3, 4))

    def one(log_probs: Any, temperature: Any, log_n: Any) -> jax.Array:
        return call(name, Problem(log_probs, FOUR.rewards), log_n, temperature)

    mapped = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
    np.testing.assert_allclose(mapped(log_probs, temperature[:, 0], log_n), together, rtol=1e-13)
    np.testing.assert_allclose(
        jax.jit(one)(log_probs[1], 0.2, log_n[1]), together[1, 1, 1], rtol=1e-13
    )
    single = call(name, FOUR, jnp.log(3.0), 0.2)
    assert single.shape == ()
    np.testing.assert_allclose(single, together[0, 1, 1], rtol=1e-13)


def test_n_and_log_n_are_the_same_argument() -> None:
    by_n = bounds.kl_upper(FOUR, [1, 5, 1000], 0.3)
    by_log_n = bounds.kl_upper(FOUR, None, 0.3, log_n=np.log([1.0, 5, 1000]))
    np.testing.assert_allclose(by_n, by_log_n, rtol=1e-14)


def test_new_temperatures_do_not_compile_again() -> None:
    counted = chex.assert_max_traces(lambda t, n: bounds.kl_upper(FOUR, n, t), n=1)
    compiled = jax.jit(counted)
    for t in (0.0, 0.1, 3.0, math.inf):
        compiled(jnp.float64(t), jnp.float64(2.0 + t if t < 5 else 9.0))
    before = bounds._run._cache_size()
    bounds.kl_upper(FOUR, 4.0, 0.123)
    after_one = bounds._run._cache_size()
    bounds.kl_upper(FOUR, 5.0, 0.456)
    assert bounds._run._cache_size() == after_one <= before + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FOUR, 0.5, 1.0), "n must be finite and at least 1, got 0.5"),
        ((FOUR, math.nan, 1.0), "n must be"),
        ((FOUR, 2.0, -1.0), "temperature must be at least 0 .*got -1.0"),
        ((FOUR, 2.0, math.nan), "temperature must be"),
        ((FOUR, None, 1.0), "exactly one of n and log_n"),
        ((FOUR, [1.0, 2.0], [1.0, 2.0, 3.0]), "do not broadcast"),
        ((Problem(FOUR.log_probs, FOUR.rewards[:3]), 2.0, 1.0), "K >= 1 outcomes"),
        ((Problem(FOUR.log_probs, FOUR.rewards.at[1].set(jnp.nan)), 2.0, 1.0), "problem.rewards"),
        ((Problem(FOUR.log_probs + 1, FOUR.rewards), 2.0, 1.0), "the sum of exp"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, message: str) -> None:
    for function in (bounds.kl_upper, bounds.kl_asymptote, bounds.relative_gap_upper):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def test_bad_rewards_budgets_and_n_of_single_functions() -> None:
    for function in (bounds.relative_gap_upper, bounds.relative_gap_upper_crude):
        with pytest.raises(
            ValueError, match=r"at least 0 where P is positive, got -3\.0 at index 0"
        ):
            function(NEGATIVE, 2.0, 1.0)
    impossible = from_probs([0.5, 0.5, 0.0], [1.0, 2.0, -1.0])
    assert jnp.isfinite(bounds.relative_gap_upper(impossible, 2.0, 1.0))
    with pytest.raises(ValueError, match=r"kl must be at least 0, got -0\.5"):
        bounds.n_for_kl_upper(FOUR, -0.5, 1.0)
    for function in (bounds.best_of_n_kl, bounds.best_of_n_win_rate):
        with pytest.raises(ValueError, match="n must be finite and at least 1, got 0"):
            function(0)
        with pytest.raises(ValueError, match="exactly one"):
            function(None)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_traced_bad_values_give_nan(name: str) -> None:
    traced = jax.jit(lambda p, x, t: call(name, p, x, t))
    assert jnp.isfinite(traced(FOUR, 1.0, 0.5))
    assert jnp.isnan(traced(FOUR, 1.0, -0.5))
    assert jnp.isnan(traced(FOUR, 1.0, jnp.nan))
    assert jnp.isnan(traced(Problem(FOUR.log_probs + 1, FOUR.rewards), 1.0, 0.5))
    for bad in (jnp.nan, jnp.inf):
        assert jnp.isnan(traced(Problem(FOUR.log_probs, FOUR.rewards.at[2].set(bad)), 1.0, 0.5))
    if "log_n" in inspect.signature(getattr(bounds, name)).parameters:
        assert jnp.isnan(traced(FOUR, -1.0, 0.5))
    if name in NEEDS_NO_NEGATIVE_REWARD:
        assert jnp.isnan(traced(NEGATIVE, 1.0, 0.5))
