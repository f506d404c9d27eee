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
from softbon_jax.bounds import _moments
from softbon_jax.problem import Problem, from_logits, from_probs, jackpot, worst_case

# The oracle: definitions, in mpmath --------------------------------------------------------------


class Moments(NamedTuple):
    """P, P*, W and r on the outcomes of positive probability, as exact numbers."""

    p: list
    target: list
    w: list
    r: list


@functools.cache
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


def centered_w(m: Moments) -> list:
    center = mean(m.target, m.w)
    return [x - center for x in m.w]


def covariance(m: Moments) -> mpf:
    center = mean(m.target, m.r)
    return mean(m.target, [(a - center) * b for a, b in zip(m.r, centered_w(m), strict=True)])


def fluctuation(m: Moments) -> mpf:
    def moment(x: int) -> mpf:
        away = [(i == x) - m.target[x] for i in range(len(m.p))]
        return mean(m.p, [(a * b) ** 2 for a, b in zip(m.w, away, strict=True)])

    return mp.fsum(mp.sqrt(moment(x)) for x in range(len(m.p))) / mp.sqrt(2 * mp.pi)


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
    "kl_asymptote_coefficient": lambda m, n, t: mean(m.target, [x**2 for x in centered_w(m)]) / 2,
    "kl_asymptote": lambda m, n, t: mean(m.target, [x**2 for x in centered_w(m)]) / 2 / n**2,
    "tv_asymptote_coefficient": lambda m, n, t: mean(m.target, [abs(x) for x in centered_w(m)]) / 2,
    "tv_asymptote": lambda m, n, t: mean(m.target, [abs(x) for x in centered_w(m)]) / 2 / n,
    "fluctuation_asymptote_coefficient": lambda m, n, t: fluctuation(m),
    "fluctuation_asymptote": lambda m, n, t: fluctuation(m) / mp.sqrt(n),
    "reward_gap_asymptote_coefficient": lambda m, n, t: covariance(m),
    "reward_gap_asymptote": lambda m, n, t: covariance(m) / n,
}
# One function of each formula; the others differ in the power of n.
ESSENTIAL = [x for x in DEFINITIONS if not x.endswith("_coefficient") and x != "n_for_kl_upper"]
NEEDS_NO_NEGATIVE_REWARD = ("relative_gap_upper", "relative_gap_upper_crude")


def call(name: str, problem: Problem, log_n: Any, temperature: Any) -> jax.Array:
    """The package's function of that name, in terms of log n."""
    function = getattr(bounds, name)
    parameters = list(inspect.signature(function).parameters)
    if "n" in parameters:
        return function(problem, None, temperature, log_n=log_n)
    return function(problem, *([BUDGET] if "kl" in parameters else []), temperature)


# The oracle: exact laws --------------------------------------------------------------------------


class Exact(NamedTuple):
    """Metrics of the exact law."""

    kl_tilted_soft: mpf
    kl_soft_tilted: mpf
    kl_soft_base: mpf
    tv: mpf
    reward_gap: mpf
    relative_reward_gap: mpf


def kl(a: list, b: list) -> mpf:
    return mp.fsum(x * mp.log(x / y) for x, y in zip(a, b, strict=True))


def exact(problem: Problem, ns: list, temperature: float, step: float = 0.125) -> list[Exact]:
    """Metrics of soft best-of-n from P_n/P* = n ∫ e^{-tW} φ(t)^{n-1} dt, φ = E_P[e^{-tW}].

    By the trapezoid rule in log t, whose error falls like e^{-π²/step}.
    """
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


# Problems ----------------------------------------------------------------------------------------

FOUR = from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
# A tie at the top, one below, and an impossible outcome with the highest reward.
TIED = from_probs([0.25, 0.0, 0.3, 0.2, 0.15, 0.1], [0.5, 9.0, 0.0, 0.5, 2.0, 2.0])
NEGATIVE = from_probs([0.2, 0.5, 0.3], [-3.0, -1.0, 0.5])
JACKPOT = jackpot(6, 1e-6)
# Nearly sure laws: W - 1 of the likeliest outcome is nothing but rounding, if it is formed so.
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


# Values ------------------------------------------------------------------------------------------


def batched(*problems: Problem) -> Problem:
    """The problems as one, with impossible outcomes added to give all of them K = 6."""

    def padded(x: jax.Array, filling: float) -> jax.Array:
        return jnp.pad(x, (0, 6 - x.shape[-1]), constant_values=filling)

    return Problem(
        jnp.stack([padded(x.log_probs, -jnp.inf) for x in problems]),
        jnp.stack([padded(x.rewards, 7.0) for x in problems]),
    )


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_function_is_its_definition(name: str) -> None:
    names = [k for k in PROBLEMS if k != "negative" or name not in NEEDS_NO_NEGATIVE_REWARD]
    batch = jax.tree.map(lambda x: x[:, None, None, :], batched(*(PROBLEMS[k] for k in names)))
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


@pytest.mark.parametrize("name", [x for x in ESSENTIAL if x != "kl_upper_linear"])
def test_float32_is_close_to_the_definition(name: str) -> None:
    log_n = np.log([1.0, 16.0, 1e8]).astype(np.float32)
    temperature = np.array([[0.02], [0.3], [1.0], [50.0]], np.float32)
    single = Problem(FOUR.log_probs.astype(np.float32), FOUR.rewards.astype(np.float32))
    got = call(name, single, log_n, temperature)
    assert got.dtype == np.float32
    for i, j in np.ndindex(4, 3):
        t, n = float(temperature[i, 0]), mp.exp(float(log_n[j]))
        m = moments(*(np.asarray(x, np.float64) for x in single), t)
        want = DEFINITIONS[name](m, n, t)
        if want > 3e38:
            assert got[i, j] == math.inf
        else:  # an exponent of 50 has rounding errors of 50 eps, and b^-4 has four such exponents
            rtol = 1e-4 if "quadratic" in name else 3e-5
            np.testing.assert_allclose(got[i, j], float(want), rtol=rtol, atol=1e-37)


def test_what_overflows_is_infinite_and_what_need_not_does_not() -> None:
    problem = worst_case(2000.0)
    assert float(bounds.cv_squared(problem, 1.0)) == math.inf
    assert float(bounds.kl_upper_sinh(problem, 1e9, 1.0)) == math.inf
    # log CV² = 2000 - 2 log 2
    log_cv_squared = 2000 - 2 * math.log(2)
    assert float(bounds.kl_upper(problem, 1.0, 1.0)) == pytest.approx(log_cv_squared, rel=1e-13)
    got = bounds.kl_upper(problem, None, 1.0, log_n=2010.0)
    want = math.log1p(math.exp(log_cv_squared - 2010))
    assert float(got) == pytest.approx(want, rel=1e-11)
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


# Bounds bound ------------------------------------------------------------------------------------

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
    cases = grid()
    if bound in NEEDS_NO_NEGATIVE_REWARD:
        cases = [x for x in cases if float(jnp.min(x[0].rewards)) >= 0]
    problems = jax.tree.map(lambda x: x[:, None], batched(*(x[0] for x in cases)))
    log_n = np.log([float(n) for n in GRID_N])
    limits = np.asarray(call(bound, problems, log_n, np.array([[x[1]] for x in cases])))
    largest = 0.0
    for limit, value in zip(limits.reshape(-1), [y for x in cases for y in x[2]], strict=True):
        exact_value = float(getattr(value, quantity))
        # For n = 1 some are 0 on both sides, the exact value to 30 digits.
        assert exact_value <= limit * (1 + 1e-12) + 1e-25
        if limit > 0:
            largest = max(largest, exact_value / limit)
    # Not vacuous: somewhere on the grid the bound is within this factor of the exact value.
    assert largest > {"kl_upper_quadratic": 0.05}.get(bound, 0.3)


def test_bounds_are_ordered() -> None:
    problems = batched(*(x[0] for x in grid()))
    temperature = np.array([x[1] for x in grid()])
    for log_n in np.log([1.0, 2.0, 64.0, 1e4]):
        chain = ["kl_upper", "kl_upper_linear", "kl_upper_sinh"]
        low, middle, high = (np.asarray(call(f, problems, log_n, temperature)) for f in chain)
        assert np.all(low < middle)
        assert np.all(middle <= high * (1 + 1e-12))
        positive = Problem(problems.log_probs, problems.rewards + 3.0)
        tight, crude = (call(f, positive, log_n, temperature) for f in NEEDS_NO_NEGATIVE_REWARD)
        assert np.all(np.asarray(tight) <= np.asarray(crude) * (1 + 1e-12))


@pytest.mark.parametrize("span", [1e-3, 1.0, 50.0, 600.0])
def test_sinh_bound_is_attained(span: float) -> None:
    problem = worst_case(span)
    sinh = bounds.kl_upper_sinh(problem, 3.0, 1.0)
    np.testing.assert_allclose(bounds.kl_upper_linear(problem, 3.0, 1.0), sinh, rtol=1e-12)
    # and only there
    skewed = from_logits(problem.log_probs + jnp.array([0.0, 0.3]), problem.rewards)
    assert float(bounds.kl_upper_linear(skewed, 3.0, 1.0)) < 0.999 * float(sinh)


def test_n_for_kl_upper_suffices() -> None:
    problems = batched(*(x[0] for x in grid()))
    temperature = np.array([x[1] for x in grid()])
    for budget in (1e-3, 0.1, 2.0):
        n = np.asarray(bounds.n_for_kl_upper(problems, budget, temperature))
        at_n = np.asarray(bounds.kl_upper(problems, n, temperature))
        assert np.all(n >= 1)
        assert np.all(at_n <= budget * (1 + 1e-12))
        # and no smaller n would do for this bound
        np.testing.assert_allclose(at_n[n > 1], budget, rtol=1e-12)
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

LARGE_N = [10_000, 100_000, 1_000_000]


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
    for which, temperature in (("four", 0.3), ("tied", 0.8), ("negative", 1.0)):
        limits = np.asarray(call(asymptote, PROBLEMS[which], np.log(LARGE_N), temperature))
        for quantity in quantities:
            values = [float(getattr(x, quantity)) for x in large_n(which, temperature)]
            off = np.abs(np.array(values) / limits - 1)
            assert np.all(off < 50 / np.array(LARGE_N)), off
            # The next term is of relative order 1/n: each factor 10 in n gains a factor 10.
            np.testing.assert_allclose(off[:-1] / off[1:], 10, rtol=0.05)


@functools.cache
def large_n(which: str, temperature: float) -> list[Exact]:
    with mp.workdps(50):
        return exact(PROBLEMS[which], LARGE_N, temperature)


# Gradients ---------------------------------------------------------------------------------------


# No reward twice at the top or the bottom, where the range and max W have kinks.
TIED_INSIDE = from_probs([0.2, 0.0, 0.3, 0.3, 0.2], [0.5, 9.0, 0.0, 0.5, 2.0])
DIFFERENTIATED = batched(FOUR, TIED_INSIDE, SURE, CONSTANT, TIED, TINY, SURE_TIED)
AT_LOG_N = math.log(6.5)
AT_TEMPERATURE = [0.7, 0.0, 1e-3, 1.0, 1e6, math.inf]


@functools.cache
def values_and_gradients(name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values and gradients at all of DIFFERENTIATED and, on the second axis, AT_TEMPERATURE."""

    def value(log_probs: Any, rewards: Any, log_n: Any, temperature: Any) -> jax.Array:
        return call(name, Problem(log_probs, rewards), log_n, temperature)

    at = jax.value_and_grad(value, argnums=(0, 1, 2, 3))
    over_temperature = jax.vmap(at, (None, None, None, 0))
    everywhere = jax.jit(jax.vmap(over_temperature, (0, 0, None, None)))
    values, gradients = everywhere(*DIFFERENTIATED, AT_LOG_N, jnp.array(AT_TEMPERATURE))
    return np.asarray(values), [np.asarray(x) for x in gradients]


@pytest.mark.parametrize("name", ESSENTIAL)
def test_gradients_are_those_of_the_definition(name: str) -> None:
    _, gradients = values_and_gradients(name)

    def definition(x: list) -> mpf:
        return DEFINITIONS[name](moments(x[:6], x[6:12], x[13]), mp.exp(x[12]), x[13])

    with mp.workdps(100):
        step = mpf(10) ** -40
        for row in range(3):
            at = [float(y) for x in DIFFERENTIATED for y in x[row]]
            at += [AT_LOG_N, AT_TEMPERATURE[0]]
            slope = np.concatenate([x[row, 0].reshape(-1) for x in gradients])
            for i in range(14):
                if at[i % 6 if i < 12 else i] == -math.inf:
                    assert slope[i] == 0
                    continue
                up, down = ([mpf(x) for x in at] for _ in range(2))
                up[i] += step
                down[i] -= step
                want = float((definition(up) - definition(down)) / (2 * step))
                case = f"problem {row}, parameter {i}"
                np.testing.assert_allclose(slope[i], want, rtol=1e-8, atol=1e-14, err_msg=case)


@pytest.mark.parametrize("name", ESSENTIAL)
def test_gradients_are_finite_where_something_degenerates(name: str) -> None:
    values, gradients = values_and_gradients(name)
    assert not np.any(np.isnan(values))
    finite = np.isfinite(values)
    assert finite.sum() >= 21
    for x in gradients:
        assert np.all(np.isfinite(x[finite]))


# The interface -----------------------------------------------------------------------------------


def test_every_public_function_is_tested() -> None:
    elsewhere = {  # test_sequence_bounds.py and test_rules.py
        name
        for name in bounds.__all__
        if getattr(bounds, name).__module__.endswith((".sequences", ".rules"))
    }
    assert set(bounds.__all__) - elsewhere == set(DEFINITIONS)


@pytest.mark.parametrize("name", ["n_for_kl_upper", "tv_asymptote"])
def test_jit_vmap_and_broadcasting_agree(name: str) -> None:
    log_probs = jnp.stack([FOUR.log_probs, FOUR.log_probs[::-1]])
    batch = Problem(log_probs[:, None, None, :], FOUR.rewards)
    temperature = jnp.array([[0.0], [0.2], [jnp.inf]])
    log_n = jnp.log(jnp.array([1.0, 3.0, 50.0, 1e9]))
    together = jnp.broadcast_to(call(name, batch, log_n, temperature), (2, 3, 4))

    def one(log_probs: Any, temperature: Any, log_n: Any) -> jax.Array:
        return call(name, Problem(log_probs, FOUR.rewards), log_n, temperature)

    mapped = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
    np.testing.assert_allclose(mapped(log_probs, temperature[:, 0], log_n), together, rtol=1e-13)
    compiled = jax.jit(one)(log_probs[1], 0.2, log_n[1])
    np.testing.assert_allclose(compiled, together[1, 1, 1], rtol=1e-13)
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
    before = _moments.run._cache_size()
    bounds.kl_upper(FOUR, 4.0, 0.123)
    after_one = _moments.run._cache_size()
    bounds.kl_upper(FOUR, 5.0, 0.456)
    assert _moments.run._cache_size() == after_one <= before + 1


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


@pytest.mark.parametrize("name", ESSENTIAL)
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
        assert jnp.isnan(traced(Problem(FOUR.log_probs, FOUR.rewards - 0.1), 1.0, 0.5))
