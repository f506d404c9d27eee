"""Bounds bound the exact values, and asymptotes are their limits as n grows."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mpf

import softbon_jax as sb
from softbon_jax import bounds
from softbon_jax.problem import Problem, from_logits, worst_case
from tests import oracles
from tests.bound_cases import (
    CONSTANT,
    FOUR,
    JACKPOT,
    NEEDS_NO_NEGATIVE_REWARD,
    NEGATIVE,
    PROBLEMS,
    TIED,
    batched,
    call,
    width,
)

# Exact laws --------------------------------------------------------------------------------------

Exact = dict[str, mpf]


def exact(problem: Problem, ns: list, temperature: float) -> list[Exact]:
    """The metrics of the exact law at each n, to some 30 digits."""
    out = []
    for n in ns:
        arguments = (np.asarray(problem.log_probs), np.asarray(problem.rewards))
        law = oracles.exact_law(*arguments, n, temperature, digits=45)
        out.append(oracles.metrics_of_law(*arguments, law, temperature))
    return out


GRID_N = [1.0, 2.0, 7.5, 64.0, 1e4]


GRID = [
    (problem, width(problem) * scale)
    for problem in (FOUR, TIED, NEGATIVE, JACKPOT, worst_case(2.5))
    for scale in (0.05, 0.3, 1.0, 10.0)
]


@functools.cache
def on_the_grid() -> list[tuple[Problem, float, list[Exact]]]:
    return [(*one, exact(one[0], GRID_N, one[1])) for one in GRID]


# Bounds ------------------------------------------------------------------------------------------


@pytest.mark.slow
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
    cases = on_the_grid()
    if bound in NEEDS_NO_NEGATIVE_REWARD:
        cases = [x for x in cases if float(jnp.min(x[0].rewards)) >= 0]
    problems = jax.tree.map(lambda x: x[:, None], batched(*(x[0] for x in cases)))
    log_n = np.log(GRID_N)
    limits = np.asarray(call(bound, problems, log_n, np.array([[x[1]] for x in cases])))
    largest = 0.0
    for limit, value in zip(limits.reshape(-1), [y for x in cases for y in x[2]], strict=True):
        exact_value = float(value[quantity])
        # For n = 1 some are 0 on both sides, the exact value to 30 digits.
        assert exact_value <= limit * (1 + 1e-12) + 1e-25
        if limit > 0:
            largest = max(largest, exact_value / limit)
    # Not vacuous: somewhere on the grid the bound is within this factor of the exact value.
    assert largest > {"kl_upper_quadratic": 0.05}.get(bound, 0.3)


def test_bounds_are_ordered() -> None:
    problems = batched(*(x[0] for x in GRID))
    temperature = np.array([x[1] for x in GRID])
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
    problems = batched(*(x[0] for x in GRID))
    temperature = np.array([x[1] for x in GRID])
    for budget in (1e-3, 0.1, 2.0):
        n = np.asarray(bounds.n_for_kl_upper(problems, budget, temperature))
        at_n = np.asarray(bounds.kl_upper(problems, n, temperature))
        assert np.all(n >= 1)
        assert np.all(at_n <= budget * (1 + 1e-12))
        # and no smaller n would do for this bound
        np.testing.assert_allclose(at_n[n > 1], budget, rtol=1e-12)
    n = float(bounds.n_for_kl_upper(FOUR, 0.1, 0.3))
    assert exact(FOUR, [n], 0.3)[0]["kl_tilted_soft"] <= 0.1
    assert float(bounds.n_for_kl_upper(FOUR, 0.0, 0.3)) == math.inf
    assert float(bounds.n_for_kl_upper(FOUR, math.inf, 0.3)) == 1.0
    assert float(bounds.n_for_kl_upper(CONSTANT, 0.0, 0.3)) == 1.0


# Asymptotes --------------------------------------------------------------------------------------

LARGE_N = [10_000, 100_000, 1_000_000]


@pytest.mark.slow
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
            values = [float(x[quantity]) for x in large_n(which, temperature)]
            off = np.abs(np.array(values) / limits - 1)
            assert np.all(off < 50 / np.array(LARGE_N)), off
            # The next term is of relative order 1/n: each factor 10 in n gains a factor 10.
            np.testing.assert_allclose(off[:-1] / off[1:], 10, rtol=0.05)


@functools.cache
def large_n(which: str, temperature: float) -> list[Exact]:
    return exact(PROBLEMS[which], LARGE_N, temperature)


@pytest.mark.slow
def test_the_divergence_falls_as_its_asymptote_only_above_the_largest_weight():
    """Max W, and not 1 + CV², is where 1/n² begins."""
    problem = sb.from_probs([0.5, 0.5 - 1e-8, 1e-8], [0.0, 1.0, 12.0])
    second_moment = 1 + float(bounds.cv_squared(problem, 1.0))
    largest = float(np.exp(sb.log_tilted(problem, 1.0) - problem.log_probs).max())
    assert largest > 1000 * second_moment
    n = np.array([10 * second_moment, largest / 10, 10 * largest, 1000 * largest])
    ratio = bounds.kl_asymptote(problem, n, 1.0) / sb.metrics(problem, n, 1.0).kl_tilted_soft
    assert ratio[0] > 1000
    assert ratio[1] > 5
    assert ratio[2] == pytest.approx(1, rel=0.2)
    assert ratio[3] == pytest.approx(1, rel=2e-3)
