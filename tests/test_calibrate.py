"""Calibration inverts exact metrics, says what cannot be met, and has the gradients of the inverse."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import softbon_jax as sb
from tests import oracles
from tests.public import programs

PROBS, REWARDS = [0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0]
PROBLEM = sb.from_probs(PROBS, REWARDS)


@pytest.mark.slow
def test_temperature_for_kl_inverts():
    n = np.repeat([2.0, 16.0, 1.3, 1e6], 4)
    top = sb.metrics(PROBLEM, n, 0.0).kl_soft_base
    kl = top * np.tile([1e-6, 0.1, 0.5, 0.99], 4)
    got = sb.temperature_for_kl(PROBLEM, n, kl)
    assert got.feasible.all()
    np.testing.assert_allclose(sb.metrics(PROBLEM, n, got.value).kl_soft_base, kl, rtol=2e-10)
    np.testing.assert_allclose(got.achieved, kl, rtol=1e-10)
    np.testing.assert_allclose(got.high, top, rtol=1e-12)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param("kl_tilted_soft", marks=pytest.mark.slow),
        pytest.param("kl_soft_tilted", marks=pytest.mark.long),
    ],
)
def test_divergences_to_the_tilted_law(field):
    """Down to 1e-12 nats, where nothing but the stable form has digits left.

    `make slow` has one of them, and both where a budget holds from the answer on.
    """
    kl = np.array([1e-12, 1e-4, 0.1])
    got = sb.temperature_for_kl(PROBLEM, 16, kl, divergence=field)
    np.testing.assert_allclose(getattr(sb.metrics(PROBLEM, 16, got.value), field), kl, rtol=1e-9)
    size = sb.n_for_kl(PROBLEM, kl, 0.3, divergence=field)
    np.testing.assert_allclose(getattr(sb.metrics(PROBLEM, size.value, 0.3), field), kl, rtol=1e-9)


def test_temperature_by_an_independent_search():
    """The law by multinomial counts, the root by SciPy."""

    def excess(log_temperature):
        law = oracles.law_by_counts(np.log(PROBS), np.array(REWARDS), 4, np.exp(log_temperature))
        return np.sum(law * np.log(law / PROBS)) - 0.4

    exact = np.exp(optimize.brentq(excess, -3, 3, xtol=1e-13))
    np.testing.assert_allclose(sb.temperature_for_kl(PROBLEM, 4, [0.4]).value, exact, rtol=1e-10)


@pytest.mark.parametrize(
    "field", ["kl_tilted_soft", pytest.param("kl_soft_tilted", marks=pytest.mark.slow)]
)
def test_a_budget_holds_from_the_answer_on(field):
    """Two outcomes and n = 100: exponentially small near 0, a rise to 1.3e-5, and a last fall."""

    def divergence(temperature):
        law = oracles.law_by_counts(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 100, temperature)
        target = oracles.tilted_law(np.log([0.5, 0.5]), np.array([0.0, 1.0]), temperature)
        p, q = (target, law) if field == "kl_tilted_soft" else (law, target)
        return np.sum(p * np.log(p / q))

    coin = sb.from_probs([0.5, 0.5], [0.0, 1.0])
    grid = np.geomspace(0.05, 50, 400)
    values = np.array([divergence(t) for t in grid])
    crest = optimize.minimize_scalar(lambda t: -divergence(t), bounds=(0.3, 1.0), method="bounded")
    budgets = np.array([1e-6, 1.2e-5])
    got = sb.temperature_for_kl(coin, 100, [*budgets, 1.0, 0.0], divergence=field)
    for kl, value in zip(budgets, got.value[:2], strict=True):
        last = np.flatnonzero(values >= kl)[-1]
        exact = optimize.brentq(lambda t, kl=kl: divergence(t) - kl, grid[last], grid[last + 1])
        np.testing.assert_allclose(value, exact, rtol=1e-7)  # rounding of the oracle
        assert values[0] < kl < -crest.fun  # met more than once
    np.testing.assert_allclose(got.achieved[:2], budgets, rtol=1e-10)
    if field == "kl_tilted_soft":
        np.testing.assert_array_equal(got.feasible, [True, True, False, True])
        np.testing.assert_array_equal(got.value[2:], [0.0, np.inf])
        np.testing.assert_allclose(got.high, -crest.fun, rtol=1e-7)
        np.testing.assert_allclose(got.achieved[2], -np.log1p(-(0.5**100)), rtol=1e-12)
    else:  # unbounded: where λ is tiny the miss of 2^-100 weighs 1/λ
        assert got.feasible.all()
        np.testing.assert_array_equal(got.high, np.inf)
        np.testing.assert_allclose(got.value[2], 0.5**100, rtol=1e-9)


@pytest.mark.slow
def test_n_for_kl_inverts():
    kl = np.array([1e-4, 0.1, 0.7, 0.8151])
    got = sb.n_for_kl(PROBLEM, kl, 0.3)
    np.testing.assert_allclose(sb.metrics(PROBLEM, got.value, 0.3).kl_soft_base, kl, rtol=1e-10)


@pytest.mark.slow
def test_temperature_for_reward_inverts():
    got = sb.temperature_for_reward(PROBLEM, 16, np.array([0.2501, 0.6, 0.91]))
    np.testing.assert_allclose(
        sb.metrics(PROBLEM, 16, got.value).reward, [0.2501, 0.6, 0.91], rtol=1e-10
    )


@pytest.mark.slow
def test_what_cannot_be_met():
    hard = sb.metrics(PROBLEM, 16, 0.0)
    for budget, value, feasible in ((0.0, np.inf, True), (3.0, 0.0, False)):
        got = sb.temperature_for_kl(PROBLEM, 16, budget)
        assert (float(got.value), bool(got.feasible)) == (value, feasible)
    np.testing.assert_allclose([got.achieved, got.high], hard.kl_soft_base, rtol=1e-12)
    assert got.low == 0
    got = sb.temperature_for_reward(PROBLEM, 16, np.array([0.1, 0.99]))
    np.testing.assert_array_equal(got.value, [np.inf, 0.0])
    assert not got.feasible.any()
    np.testing.assert_allclose([got.low[0], got.high[0]], [0.25, hard.reward], rtol=1e-12)
    got = sb.n_for_kl(PROBLEM, np.array([0.0, 2.0]), 0.3)
    np.testing.assert_array_equal(got.value, [1.0, np.inf])
    np.testing.assert_array_equal(got.feasible, [True, False])
    np.testing.assert_allclose(got.high, sb.metrics(PROBLEM, 2, 0.3).kl_tilted_base, rtol=1e-12)


@pytest.mark.slow
def test_budget_just_below_hard_best_of_n():
    """λ is then far below the first bracket: reached at the second attempt."""
    top = float(sb.metrics(PROBLEM, 16, 0.0).kl_soft_base)
    got = sb.temperature_for_kl(PROBLEM, 16, top - 1e-9)
    assert 0 < got.value < 1 / 64
    np.testing.assert_allclose(got.achieved, top - 1e-9, rtol=1e-13)


@pytest.mark.slow
def test_gradients_are_those_of_the_inverse():
    def value(kl, rewards, n):
        return sb.temperature_for_kl(sb.Problem(PROBLEM.log_probs, rewards), n, kl).value

    by_all = jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2)))
    temperature, got = by_all(0.5, PROBLEM.rewards, 16.0)

    def kl(rewards, n, temperature):
        return sb.metrics(sb.Problem(PROBLEM.log_probs, rewards), n, temperature).kl_soft_base

    by_all = jax.jit(jax.grad(kl, argnums=(0, 1, 2)))
    by_rewards, by_n, slope = by_all(PROBLEM.rewards, 16.0, temperature)
    for ours, exact in zip(got, (1 / slope, -by_rewards / slope, -by_n / slope), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-7)


@pytest.mark.slow
def test_traced_and_batched():
    traced = jax.jit(jax.vmap(lambda kl: sb.temperature_for_kl(PROBLEM, 16, kl)))
    kl = jnp.array([0.1, 0.5, 9.0, -1.0])
    got, exact = traced(kl), sb.temperature_for_kl(PROBLEM, 16, kl[:3])
    np.testing.assert_allclose(got.value[:3], exact.value, rtol=1e-10)
    np.testing.assert_array_equal(got.feasible, [True, True, False, False])


@pytest.mark.slow
def test_frontier():
    n = np.array([[4.0], [16.0]])
    got = sb.frontier(PROBLEM, n[:, 0], [0.1, 0.5, 3.0])
    assert got.reward.shape == (2, 3)
    exact = sb.metrics(PROBLEM, n, got.temperature)
    np.testing.assert_allclose(got.kl_base, exact.kl_soft_base, rtol=1e-10)
    np.testing.assert_array_equal(got.kl, got.kl_base)
    np.testing.assert_allclose(got.reward, exact.reward, rtol=1e-12)
    np.testing.assert_array_equal(got.feasible, [[True, True, False]] * 2)


def test_the_module_and_the_package_have_the_same_functions():
    assert isinstance(sb.calibrate, types.ModuleType)
    for name in set(sb.calibrate.__all__) - {"Divergence"}:
        assert getattr(sb, name) is getattr(sb.calibrate, name)


@pytest.mark.slow
def test_log_n_stands_for_n():
    log_n = np.log(16.0)
    by_kl = sb.temperature_for_kl(PROBLEM, 16, [0.5])
    same = sb.temperature_for_kl(PROBLEM, kl=[0.5], log_n=log_n)
    np.testing.assert_allclose(same.value, by_kl.value, rtol=1e-12)
    reward = sb.metrics(PROBLEM, 16, by_kl.value).reward
    same = sb.temperature_for_reward(PROBLEM, reward=np.repeat(reward, 3), log_n=log_n)
    np.testing.assert_allclose(same.value, np.repeat(by_kl.value, 3), rtol=1e-9)
    same = sb.frontier(PROBLEM, kl=[0.5], log_n=log_n)
    np.testing.assert_allclose(same.temperature, by_kl.value, rtol=1e-12)
    np.testing.assert_allclose(same.reward, reward, rtol=1e-12)


def test_a_temperature_follows_the_units_of_the_reward_and_not_their_order_or_origin():
    order = np.array([2, 0, 3, 1])
    other = sb.from_probs(np.array(PROBS)[order], 7.0 * np.array(REWARDS)[order] + 3.0)
    for kl in (1e-4, 0.5):
        plain, moved = (sb.temperature_for_kl(x, 16, [kl]).value for x in (PROBLEM, other))
        np.testing.assert_allclose(moved, 7.0 * plain, rtol=1e-9)


def test_a_call_compiles_three_programs_and_other_values_none(caplog):
    """These shapes are used nowhere else here, so nothing is compiled before."""
    problem = sb.from_probs([0.2] * 5, [0.0, 0.1, 0.5, 0.7, 1.0])
    first = programs(caplog, lambda: sb.temperature_for_kl(problem, 16, [[0.5], [0.4]]))
    assert first == ["temperature_bracket", "_solve", "_temperature_answer"]
    assert programs(caplog, lambda: sb.temperature_for_kl(problem, 17, [[0.4], [0.6]])) == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_single_and_half_precision(dtype):
    single = sb.Problem(*(x.astype(jnp.float32) for x in PROBLEM))
    problem = sb.Problem(single.log_probs, single.rewards.astype(dtype))
    got = sb.temperature_for_kl(problem, 16, 0.5)
    assert got.value.dtype == jnp.float32
    exact = sb.temperature_for_kl(sb.from_probs(PROBS, np.float64(problem.rewards)), 16, 0.5)
    np.testing.assert_allclose(got.value, exact.value, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sb.temperature_for_kl(PROBLEM, 2, -0.1), r"kl must be at least 0, got -0\.1"),
        (lambda: sb.temperature_for_kl(PROBLEM, 2, 0.1, divergence="tv"), "divergence must be"),
        (lambda: sb.temperature_for_kl(PROBLEM, 2, 0.1, log_n=1.0), "exactly one of n and log_n"),
        (lambda: sb.temperature_for_kl(PROBLEM, kl=0.1), "exactly one of n and log_n"),
        (lambda: sb.n_for_kl(PROBLEM, 0.1, 0.0), r"temperature must be positive.*0\.0"),
        (lambda: sb.n_for_kl(PROBLEM, 0.1, np.inf), "temperature must be positive.*inf"),
        (lambda: sb.n_for_kl(PROBLEM, [0.1] * 2, [1.0] * 3), r"kl \(2,\)"),
        (lambda: sb.temperature_for_reward(PROBLEM, 2, np.nan), "reward must be finite"),
        (lambda: sb.frontier(PROBLEM, 2, 0.1), "kl must be a vector"),
        (lambda: sb.frontier(PROBLEM, 2, [0.1, -1.0]), "kl must be at least 0.*at index 1"),
        (lambda: jax.jit(lambda x: sb.n_for_kl(PROBLEM, -0.1, x))(0.3), r"kl must .*-0\.1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: sb.temperature_for_kl(PROBLEM, 2),
        lambda: sb.frontier(PROBLEM, 2),
        lambda: sb.temperature_for_kl(PROBLEM, 2, True),
    ],
)
def test_what_is_missing_or_no_number_is_named(call):
    with pytest.raises(TypeError, match="kl must be real numbers"):
        call()


@pytest.mark.slow
def test_traced_bad_values_give_nan():
    """Compiled once: the programs are those of one scalar, whatever it is."""
    by_kl = jax.jit(lambda kl: sb.temperature_for_kl(PROBLEM, 16, kl, nodes=256).value)
    np.testing.assert_array_equal([by_kl(0.0), by_kl(9.0)], [np.inf, 0.0])
    assert np.isnan(by_kl(np.nan))
    by_temperature = jax.jit(lambda t: sb.n_for_kl(PROBLEM, 0.1, t, nodes=1024).value)
    assert by_temperature(0.3) > 1
    for bad in (0.0, -1.0, np.inf, np.nan):
        assert np.isnan(by_temperature(bad))
