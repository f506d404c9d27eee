"""Calibration inverts exact metrics, says what cannot be met, and has the gradients of the inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize

import softbon_jax as sb
from tests import oracles

PROBS, REWARDS = [0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0]
PROBLEM = sb.from_probs(PROBS, REWARDS)
FIELDS = ("kl_soft_base", "kl_tilted_soft", "kl_soft_tilted")


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


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS[1:])
def test_divergences_to_the_tilted_law(field):
    """Down to 1e-12 nats, where nothing but the stable form has digits left."""
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
    np.testing.assert_allclose(sb.temperature_for_kl(PROBLEM, 4, 0.4).value, exact, rtol=1e-10)


def test_n_for_kl_inverts():
    kl = np.array([1e-4, 0.1, 0.7, 0.8151])
    got = sb.n_for_kl(PROBLEM, kl, 0.3)
    np.testing.assert_allclose(sb.metrics(PROBLEM, got.value, 0.3).kl_soft_base, kl, rtol=1e-10)


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

    got = jax.grad(value, argnums=(0, 1, 2))(0.5, PROBLEM.rewards, 16.0)
    temperature = value(0.5, PROBLEM.rewards, 16.0)

    def kl(rewards, n, temperature):
        return sb.metrics(sb.Problem(PROBLEM.log_probs, rewards), n, temperature).kl_soft_base

    by_rewards, by_n, slope = jax.grad(kl, argnums=(0, 1, 2))(PROBLEM.rewards, 16.0, temperature)
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
    got = sb.calibrate.frontier(PROBLEM, 16, [0.1, 0.5, 3.0])
    exact = sb.metrics(PROBLEM, 16, got.temperature)
    np.testing.assert_allclose(got.kl, exact.kl_soft_base, rtol=1e-10)
    np.testing.assert_allclose(got.reward, exact.reward, rtol=1e-12)
    np.testing.assert_array_equal(got.feasible, [True, True, False])


@pytest.mark.slow
def test_float32():
    single = sb.Problem(*(x.astype(jnp.float32) for x in PROBLEM))
    got = sb.temperature_for_kl(single, 16, 0.5)
    assert got.value.dtype == jnp.float32
    np.testing.assert_allclose(got.value, sb.temperature_for_kl(PROBLEM, 16, 0.5).value, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sb.temperature_for_kl(PROBLEM, 2, -0.1), r"kl must be at least 0, got -0\.1"),
        (lambda: sb.temperature_for_kl(PROBLEM, 2, 0.1, divergence="tv"), "divergence must be"),
        (lambda: sb.n_for_kl(PROBLEM, 0.1, 0.0), r"temperature must be positive.*0\.0"),
        (lambda: sb.temperature_for_reward(PROBLEM, 2, np.nan), "reward must be finite"),
        (lambda: sb.calibrate.frontier(PROBLEM, 2, 0.1), "kl must be a vector"),
        (lambda: sb.hedge(PROBLEM, REWARDS), "takes n or temperature"),
        (lambda: sb.hedge(PROBLEM, REWARDS, rule="hard", n=3), "takes neither"),
        (lambda: sb.hedge(PROBLEM, REWARDS, rule="lucky", n=3), "rule must be one of"),
        (lambda: sb.hedge(PROBLEM, [1.0], n=3), "gold must have"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Hedging ------------------------------------------------------------------------------------------

# E[u^12 (1 - u)] of the selected u, for rewards that are uniform: by SciPy, from densities.
POWER = 12
OUTCOMES = 128
UNIFORM = sb.uniform_quantiles(OUTCOMES)
GOLD = UNIFORM.rewards**POWER * (1 - UNIFORM.rewards)


def best(density, low, high):
    """The parameter in [low, high] at which the density on [0, 1] has the most of u^12 (1 - u)."""

    def loss(x):
        return -integrate.quad(
            lambda u: u**POWER * (1 - u) * density(u, x), 0, 1, epsabs=1e-14, limit=200
        )[0]

    return optimize.minimize_scalar(
        loss, (low, high), bounds=(low, high), options={"xatol": 1e-6}
    ).x


RULES = {
    "hard": (lambda u, n: n * u ** (n - 1), 12.490),
    "poisson": (lambda u, v: (1 + v * u) * np.exp(-v * (1 - u)), 12.400),
    "tilted": (lambda u, b: b * np.exp(-b * (1 - u)) / -np.expm1(-b), 13.529),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_hedging_a_uniform_reward(rule):
    density, published = RULES[rule]
    got = sb.hedge(UNIFORM, GOLD, rule=rule)
    value = 1 / got.value if rule == "tilted" else got.value
    exact = best(density, 5, 30)
    assert exact == pytest.approx(published, abs=1e-3)
    # The alphabet is that far from a continuous reward.
    np.testing.assert_allclose(value, exact, rtol=8e-3)
    assert got.interior


@pytest.mark.slow
def test_hedging_soft_is_stationary_and_the_tilt_condition_misses_it():
    problem = sb.uniform_quantiles(48)
    gold = problem.rewards**POWER * (1 - problem.rewards)
    got = sb.hedge(problem, gold, n=16)
    tilted = sb.hedge(problem, gold, rule="tilted")

    def earned(temperature):
        return float(np.exp(sb.log_soft_bon(problem, 16, temperature)) @ gold)

    value = float(got.value)
    np.testing.assert_allclose(got.gold, earned(value), rtol=1e-10)
    assert earned(value) > max(earned(value * 1.01), earned(value / 1.01))
    assert earned(value) > 1.02 * earned(float(tilted.value))
    assert 1 / value > 1.5 / float(tilted.value)


@pytest.mark.slow
def test_hedging_where_gold_is_the_proxy_goes_to_the_end():
    either = np.stack([REWARDS, -np.asarray(REWARDS)])
    for rule, given in (("soft", {"n": 4}), ("tilted", {})):
        got = sb.hedge(PROBLEM, either, rule=rule, **given)
        np.testing.assert_array_equal(got.value, [0.0, np.inf])
        assert not got.interior.any()
        np.testing.assert_allclose(got.proxy[1], 0.25, rtol=1e-12)
    got = sb.hedge(PROBLEM, REWARDS, rule="hard")
    assert got.value == np.inf
    np.testing.assert_allclose(got.gold, 1.0, rtol=1e-12)


def test_hedging_gives_each_prompt_its_own_temperature():
    gold = np.array([[0.0, 0.9, 1.0, 0.1], [0.0, 1.0, 0.5, 0.1]])
    both = sb.hedge(PROBLEM, gold, n=64)
    assert both.interior.all()
    assert both.value[0] < both.value[1] / 1.1
    for i in range(2):
        around = both.value[i] * np.array([0.999, 1.0, 1.001])
        earned = np.exp(sb.log_soft_bon(PROBLEM, 64, around)) @ gold[i]
        assert earned.argmax() == 1
        np.testing.assert_allclose(both.gold[i], earned[1], rtol=1e-10)
