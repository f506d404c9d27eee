"""Legal values at the ends of the float range: the right limit, and not a warning.

The laws depend on rewards and temperature through their ratio alone, so each has a twin with plain
numbers. Some in single precision is left to `make test-long`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax import bounds

PROBS = np.array([0.5, 0.3, 0.1, 0.1])
REWARDS = np.array([-1.0, 0.0, 0.25, 1.0])
TEMPERATURE = 0.5
LAWS = {
    "tilted": sb.log_tilted,
    "soft": lambda problem, t: sb.log_soft_bon(problem, 5, t),
    "race": lambda problem, t: sb.log_uniform_race(problem, 5, t),
    "rejection": lambda problem, t: sb.log_rejection(problem, 5, t),
    "poisson": lambda problem, t: sb.log_best_of_poisson(problem, 4.0, t),
    "selection": lambda problem, t: sb.selection_log_probs(problem.rewards, t),
}
MEASURES = {
    "cv_squared": bounds.cv_squared,
    "kl_upper": lambda problem, t: bounds.kl_upper(problem, 5, t),
    "kl_upper_sinh": lambda problem, t: bounds.kl_upper_sinh(problem, 5, t),
    "metrics": lambda problem, t: sb.metrics(problem, 5, t),
    "race metrics": lambda problem, t: sb.race_metrics(problem, 5, t),
}
OF_REWARDS = {"reward", "tilted_reward", "reward_gap"}


def problem(unit=1.0, dtype=np.float64):
    return sb.from_probs(PROBS.astype(dtype), (REWARDS * unit).astype(dtype))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "units", "dtype"),
    [
        (jax.jit, (1e308, 1e-300), np.float64),
        pytest.param(jax.jit, (1e38,), np.float32, marks=pytest.mark.long),
        (lambda f: f, (1e308, 1e-300), np.float64),
        (lambda f: f, (1e38,), np.float32),
    ],
)
def test_rewards_and_temperature_at_the_ends_of_the_range(how, units, dtype):
    """Of [-1e308, 1e308] the range itself overflows, and so does 1/λ underflow."""
    for unit in units:
        at_the_end(how, unit, dtype)


def at_the_end(how, unit, dtype):
    near = {"rtol": 1e-12} if dtype == np.float64 else {"rtol": 2e-5}
    extreme, plain = problem(unit, dtype), problem(1.0, dtype)
    at = dtype(unit) * dtype(TEMPERATURE), dtype(TEMPERATURE)
    for name, law in LAWS.items():
        got, expected = how(law)(extreme, at[0]), how(law)(plain, at[1])
        np.testing.assert_allclose(np.exp(got), np.exp(expected), err_msg=name, **near)
    for name, measure in MEASURES.items():
        got, expected = how(measure)(extreme, at[0]), how(measure)(plain, at[1])
        if isinstance(got, tuple):
            scaled = {x: getattr(expected, x) * dtype(unit) for x in OF_REWARDS}
            expected = expected._replace(**scaled)
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, err_msg=name, **near)


def test_two_rewards_as_far_apart_as_their_temperature():
    law = np.exp(sb.selection_log_probs([0.0, 1e308], 1e308))
    np.testing.assert_allclose(law, [1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-14)
    index = jax.vmap(lambda key: sb.select(key, [0.0, 1e308], 1e308))(
        jax.random.split(jax.random.key(0), 4000)
    )
    assert abs(index.mean() - np.e / (1 + np.e)) < 5 * 0.45 / 4000**0.5


@functools.partial(jax.jit, static_argnames="nodes")
def traced(problem, temperature, nodes=None):
    return (
        sb.metrics(problem, 5.0, temperature, nodes=nodes),
        sb.log_soft_bon(problem, 5.0, temperature, nodes=nodes),
        sb.log_best_of_poisson(problem, 5.0, temperature, nodes=nodes),
    )


def eager(problem, temperature):
    return (
        sb.metrics(problem, 5.0, temperature),
        sb.log_soft_bon(problem, 5.0, temperature),
        sb.log_best_of_poisson(problem, 5.0, temperature),
    )


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        (traced, np.float64),
        pytest.param(traced, np.float32, marks=pytest.mark.long),
        pytest.param(eager, np.float64, marks=pytest.mark.slow),
        pytest.param(eager, np.float32, marks=pytest.mark.long),
    ],
)
def test_the_lowest_temperatures_are_the_hard_limit(how, dtype):
    near = {"rtol": 1e-12} if dtype == np.float64 else {"rtol": 1e-5}
    hard = how(problem(dtype=dtype), dtype(0))
    smallest = float(np.finfo(dtype).tiny)
    for temperature in (1e-12, 1e-20, 4 * smallest, smallest / 4):
        got = how(problem(dtype=dtype), dtype(temperature))
        at = dtype(temperature)
        if temperature >= smallest:  # a subnormal number is 0
            # KL(P_n‖P*) = KL(P_n‖P) - KL(P*‖P) + gap/λ, which grows without end.
            with np.errstate(over="ignore"):
                steep = hard[0].kl_soft_base - hard[0].kl_tilted_base + hard[0].reward_gap / at
            np.testing.assert_allclose(got[0].kl_soft_tilted, steep, **near)
            got = (got[0]._replace(kl_soft_tilted=hard[0].kl_soft_tilted), *got[1:])
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(hard), strict=True):
            np.testing.assert_allclose(x, y, err_msg=f"{temperature}", **near)


def test_a_low_temperature_is_the_hard_limit_only_where_every_digit_says_so():
    """Two rewards are as close as λ, the others are 2^30 of it away: the quadrature serves."""
    rewards = np.array([0.0, 2.0**30, 2.0**30 + 1, 2.0**30 + 1])
    near = sb.from_probs(PROBS, rewards)
    law = np.exp(sb.log_soft_bon(near, 3, 1.0))
    # the lowest only if all three are, and the others are a soft best of those that are not
    alone = sb.from_probs(PROBS[1:] / 0.5, rewards[1:] - 2.0**30)
    expected = sum(
        weight * np.exp(sb.log_soft_bon(alone, m, 1.0))
        for m, weight in ((1, 3 * 0.5**3), (2, 3 * 0.5**3), (3, 0.5**3))
    )
    np.testing.assert_allclose(law, [0.5**3, *expected], rtol=1e-6)


@pytest.mark.slow
def test_the_slopes_at_the_lowest_temperatures_are_finite():
    def reward(log_probs, rewards, temperature):
        return sb.metrics(sb.Problem(log_probs, rewards), 5.0, temperature).reward

    slopes = jax.jit(jax.grad(reward, argnums=(0, 1, 2)))
    got, expected = slopes(*problem(), 1e-20), slopes(*problem(), 0.0)
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)


def test_a_temperature_above_the_range_of_the_floats_is_inf():
    law = np.exp(sb.log_soft_bon(problem(dtype=np.float32), 5, 1e300))
    np.testing.assert_allclose(law, PROBS, rtol=1e-6)
    with pytest.raises(ValueError, match="prize must be finite in float32, got 1e\\+300"):
        sb.jackpot(4, p=np.float32(0.1), prize=1e300)


def test_integers_of_any_size():
    np.testing.assert_allclose(bounds.best_of_n_kl(2**70), 70 * np.log(2) - 1, rtol=1e-15)
    with pytest.raises(ValueError, match=r"n must be below 1\.8e308, got a larger integer"):
        bounds.best_of_n_kl(10**400)
    assert jnp.isfinite(sb.sequence_costs(3, 2**70).symbol_draws)


@pytest.mark.slow
def test_a_temperature_far_below_the_gaps_misses_the_best_by_chance_alone():
    """KL(P*‖P_n) is then -log(1 - 0.9^n), for a best outcome of probability 0.1."""
    n = np.array([20, 50, 200])
    found = sb.metrics(sb.from_probs([0.1, 0.5, 0.4], [1.0, 0.5, 0.0]), n, 1e-9)
    np.testing.assert_allclose(found.kl_tilted_soft, -np.log1p(-(0.9**n)), rtol=1e-12)
