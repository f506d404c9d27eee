"""The soft, hard and race rules: their laws by chi-squared against NumPy, and their limits."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from softbon_jax.sampling import _noise
from softbon_jax.sampling.rules import pessimism_log_probs
from softbon_jax.sampling.select import (
    select,
    select_best,
    select_many,
    select_race,
    selection_log_probs,
)
from tests.frequencies import chi_squared_p
from tests.oracles import plackett_luce, race_selection, softmax, uniform_race_law

FLOATS = [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64]
REWARDS = np.array([0.3, 1.0, -0.5, 1.0, 0.9, 0.0, 1.0, 0.2])
KEPT = np.array([True, False, True, True, True, False, True, True])


def many(rule, draws, rewards, *args, seed=0, **kwargs):
    """`draws` selections from the same candidates, as one batch."""
    rewards = jnp.asarray(rewards)
    rows = jnp.broadcast_to(rewards, (draws, *rewards.shape))
    return np.asarray(rule(jax.random.key(seed), rows, *args, **kwargs))


# The law of select -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [0.0, 1e-3, 0.3, 10.0, np.inf])
@pytest.mark.parametrize("where", [None, KEPT])
def test_law_of_select(dtype, temperature, where):
    rewards = jnp.asarray(REWARDS, dtype)
    index = many(select, 40_000, rewards, temperature, where=where)
    law = softmax(np.asarray(rewards, np.float64), temperature, where)
    assert index.dtype == np.int32
    assert chi_squared_p(index, law) > 1e-3


def test_a_test_that_sees_the_weights_applied_twice():
    """The chi-squared has the power to see half the temperature, which is what that bug does."""
    index = many(select, 40_000, REWARDS, 0.3)
    assert chi_squared_p(index, softmax(REWARDS, 0.3)) > 1e-3
    assert chi_squared_p(index, softmax(REWARDS, 0.15)) < 1e-12


def test_large_rewards_keep_their_digits():
    """Rewards near 1e4 in float32: r / λ itself is only good to 0.06 in the exponent."""
    rewards = np.float32([1e4, 1e4 + 0.0009765625, 1e4 - 0.0009765625])
    index = many(select, 40_000, rewards, 1e-2)
    assert chi_squared_p(index, softmax(rewards, 1e-2)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_weights_of_1e_12_are_never_over_selected(dtype):
    """49 candidates of weight 1e-12 beside one of weight 1: expected 5e-6 times in 1e5 draws."""
    rewards = jnp.full((50,), np.log(1e-12), dtype).at[27].set(0)
    assert np.all(many(select, 100_000, rewards, 1.0) == 27)


def test_small_weights_are_selected_in_proportion():
    """Weight 1e-4 each for 39 of 40: the float32 noise has its upper tail."""
    rewards = jnp.full((40,), np.log(1e-4), jnp.float32).at[3].set(0)
    hits = np.sum(many(select, 100_000, rewards, 1.0) != 3)
    expected = 100_000 * 39e-4 / (1 + 39e-4)
    assert stats.poisson.sf(hits - 1, expected) > 1e-3
    assert stats.poisson.cdf(hits, expected) > 1e-3


@pytest.mark.slow
@pytest.mark.computes
@pytest.mark.parametrize("rule", ["soft", "race"])
def test_a_million_candidates(rule):
    """Four levels of reward: their shares are right, and no position is favored within them."""
    level = np.arange(1_000_000) % 4
    rewards = jnp.asarray(0.5 * level, jnp.float32)
    pick = select if rule == "soft" else select_race
    keys = jax.random.split(jax.random.key(1), 200)
    index = np.array(jax.lax.map(lambda key: pick(key, rewards, 0.7), keys))
    # With so many candidates the best score is far up, where the race has the law of the soft rule.
    assert chi_squared_p(level[index], softmax(0.5 * np.arange(4), 0.7)) > 1e-3
    assert stats.kstest(index / 1e6, "uniform").pvalue > 1e-3
    assert np.unique(index).size == 200


def test_noise_of_a_million_candidates_has_a_fine_grid():
    """The largest of a million float32 Gumbels: on jax.random's grid one in nine would tie."""
    scores = jax.vmap(lambda key: _noise.gumbel(key, (10**6,), jnp.float32, one_word=False))(
        jax.random.split(jax.random.key(0), 4)
    )
    top = np.sort(np.asarray(jax.lax.top_k(scores, 50)[0]), axis=1)
    assert np.all(np.diff(top, axis=1) > 0)
    # The spacings of extreme Gumbels are exponential: j (G_(j) - G_(j+1)) ~ Exp(1), Renyi.
    spacings = np.diff(top.astype(np.float64), axis=1)[:, ::-1] * np.arange(1, 50)
    assert stats.kstest(spacings.ravel(), "expon").pvalue > 1e-3


# Transformations ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rule", [select, select_race])
def test_eager_jit_and_vmap_agree_for_equal_keys(rule):
    keys = jax.random.split(jax.random.key(5), 16)
    rewards = jax.random.normal(jax.random.key(6), (16, 33))
    again = partial(jax.random.clone, keys)
    eager = np.array([rule(key, row, 0.4) for key, row in zip(again(), rewards, strict=True)])
    assert np.array_equal(eager, jax.vmap(lambda k, r: rule(k, r, 0.4))(again(), rewards))
    assert np.array_equal(eager, jax.jit(jax.vmap(rule))(again(), rewards, jnp.full(16, 0.4)))
    _, scanned = jax.lax.scan(lambda _, x: (None, rule(*x, 0.4)), None, (again(), rewards))
    assert np.array_equal(eager, scanned)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg", "philox2x32"])
def test_other_generators(impl):
    try:
        jax.random.key(1, impl=impl)
    except ValueError:
        pytest.skip(f"this version of JAX has no {impl}")
    again = partial(jax.random.clone, jax.random.key(1, impl=impl))
    rows = jnp.broadcast_to(jnp.asarray(REWARDS), (20_000, REWARDS.size))
    index = select(again(), rows, 0.4)
    assert np.array_equal(jax.jit(select)(again(), rows, 0.4), index)
    assert chi_squared_p(index, softmax(REWARDS, 0.4)) > 1e-3
    for shape in ((), (0, 3), (5,)):
        bits = np.asarray(jax.random.bits(again(), shape, jnp.uint32))
        uniform = _noise.uniform(again(), shape, jnp.float32, one_word=True)
        expected = (bits.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
        np.testing.assert_array_equal(uniform, expected)


def test_law_under_vmap_over_keys():
    keys = jax.random.split(jax.random.key(7), 40_000)
    index = jax.vmap(lambda key: select(key, jnp.asarray(REWARDS), 0.3))(keys)
    assert chi_squared_p(index, softmax(REWARDS, 0.3)) > 1e-3


def test_inside_shard_map():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("x")
    rewards = jax.random.normal(jax.random.key(8), (16, 5))

    @partial(
        jax.shard_map, mesh=mesh, in_specs=(jax.sharding.PartitionSpec(), spec), out_specs=spec
    )
    def sharded(key, rewards):
        return select(key, rewards, 0.5)

    drawn = jax.jit(sharded)(jax.random.key(9), rewards)
    assert np.array_equal(drawn, select(jax.random.key(9), rewards, 0.5))


def test_batch_axes_broadcast_and_every_row_has_its_own_noise():
    key = jax.random.key(10)
    index = select(
        key, np.zeros((50, 1, 40)), np.array([0.0, 1.0, np.inf]), where=np.ones((1, 1, 40), bool)
    )
    assert index.shape == (50, 3)
    assert len(np.unique(np.asarray(index))) > 30


def test_temperatures_share_one_trace():
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(select, n=1))
    for temperature in (0.0, 0.5, jnp.inf):
        traced(jax.random.key(0), jnp.asarray(REWARDS), temperature)


# Hard and race -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_select_best_is_uniform_over_exact_ties(dtype):
    rewards = jnp.asarray(REWARDS, dtype)
    index = many(select_best, 30_000, rewards, where=KEPT)
    assert chi_squared_p(index, softmax(REWARDS, 0, KEPT)) > 1e-3
    assert np.array_equal(index, many(select, 30_000, rewards, 0.0, where=KEPT))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_law_of_select_race(dtype, temperature):
    rewards = jnp.asarray(REWARDS, dtype)
    index = many(select_race, 40_000, rewards, temperature, seed=3)
    assert chi_squared_p(index, race_selection(np.asarray(rewards, np.float64), temperature)) > 1e-3
    assert chi_squared_p(index, softmax(REWARDS, temperature)) < 1e-4


def test_the_race_of_candidates_averages_to_that_of_draws():
    """Two oracles: one integrates for each set of three draws, the other once for all."""
    probs, rewards = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.3, 1.0])
    drawn = np.array(list(np.ndindex(3, 3, 3)))
    given = np.array([race_selection(rewards[x], 0.4) for x in drawn])
    law = np.bincount(drawn.ravel(), (np.prod(probs[drawn], axis=1)[:, None] * given).ravel())
    exact = uniform_race_law(probs, rewards, 3, 0.4)
    np.testing.assert_allclose(law, exact, rtol=1e-13)


@pytest.mark.parametrize("temperature", [0.0, np.inf])
def test_limits_of_select_race(temperature):
    index = many(select_race, 30_000, REWARDS, temperature, where=KEPT)
    assert chi_squared_p(index, softmax(REWARDS, temperature, KEPT)) > 1e-3


# Several without replacement ---------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1e-7, 0.3, np.inf])
def test_law_of_select_many(temperature):
    """At 1e-7 the float32 noise is lost in the sum and must still order the ties."""
    rewards = np.float32([1.0, 2.0, 0.5, 2.0, 1.0])
    law = plackett_luce(rewards, temperature, 3)
    index = many(select_many, 60_000, rewards, temperature, k=3)
    assert index.shape == (60_000, 3)
    code = {row: i for i, row in enumerate(law)}
    drawn = np.array([code[tuple(row)] for row in index.tolist()])
    assert chi_squared_p(drawn, np.array(list(law.values()))) > 1e-3


@pytest.mark.parametrize("temperature", [0.0, 0.5, np.inf])
def test_select_many_begins_with_select_and_grows_by_appending(temperature):
    rewards = jax.random.normal(jax.random.key(0), (500, 20))
    key = partial(jax.random.key, 1)
    five = select_many(key(), rewards, temperature, k=5)
    assert np.array_equal(five[:, 0], select(key(), rewards, temperature))
    assert np.array_equal(five[:, :2], select_many(key(), rewards, temperature, k=2))
    every = np.sort(select_many(key(), rewards, temperature, k=20), axis=-1)
    assert np.array_equal(every, np.broadcast_to(np.arange(20), (500, 20)))


@pytest.mark.parametrize("temperature", [0.0, 0.5, np.inf])
def test_select_many_says_when_the_candidates_run_out(temperature):
    rewards = np.array([1.0, -np.inf, 3.0, 3.0, 7.0])
    where = np.array([True, True, True, True, False])
    index = many(select_many, 100, rewards, temperature, where=where, k=5)
    assert np.array_equal(np.sort(index, axis=-1), np.broadcast_to([-1, -1, 0, 2, 3], (100, 5)))
    assert np.all(index[:, 3:] == -1)
    if temperature == 0:
        assert np.all(index[:, 2] == 0)
        assert np.unique(index[:, 0]).tolist() == [2, 3]


# Log-probabilities -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [0.0, 1e-3, 0.3, 10.0, np.inf])
@pytest.mark.parametrize("where", [None, KEPT])
def test_selection_log_probs(dtype, temperature, where):
    rewards = jnp.asarray(REWARDS, dtype)
    log_probs = selection_log_probs(rewards, temperature, where=where)
    assert log_probs.dtype == (dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)
    law = softmax(np.asarray(rewards, np.float64), temperature, where)
    # exp(log p) loses the digits of log p before the point: compare where p is not tiny.
    tolerance = {4: 1e-6, 8: 1e-14}[log_probs.dtype.itemsize]
    np.testing.assert_allclose(np.exp(np.float64(log_probs)), law, rtol=tolerance, atol=tolerance)
    assert np.array_equal(np.isneginf(np.float64(log_probs)), law == 0) or temperature == 1e-3


@pytest.mark.parametrize("temperature", [0.3, 5.0])
def test_gradients_of_selection_log_probs(temperature):
    def value(rewards, temperature):
        return selection_log_probs(rewards, temperature, where=KEPT)[6]

    by_reward, by_temperature = jax.grad(value, argnums=(0, 1))(jnp.asarray(REWARDS), temperature)
    law = softmax(REWARDS, temperature, KEPT)
    np.testing.assert_allclose(
        by_reward, (np.eye(8)[6] - law) / temperature, rtol=1e-12, atol=1e-14
    )
    mean = np.sum(law * REWARDS)
    assert by_temperature == pytest.approx((mean - REWARDS[6]) / temperature**2, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 0.3, np.inf])
def test_gradients_are_finite_with_excluded_candidates(temperature):
    def total(rewards, temperature):
        log_probs = selection_log_probs(rewards, temperature, where=KEPT)
        return jnp.sum(jnp.where(jnp.isfinite(log_probs), log_probs, 0))

    rewards = jnp.asarray(REWARDS).at[0].set(-jnp.inf)
    gradients = jax.grad(total, argnums=(0, 1))(rewards, temperature)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    if temperature != 0.3:
        assert all(np.all(np.asarray(g) == 0) for g in gradients)


# Invariances -------------------------------------------------------------------------------------

REWARD_ROWS = st.lists(st.floats(-3, 3), min_size=6, max_size=6).map(np.array)
PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


def probs(log_probs, *args):
    return np.exp(np.asarray(log_probs(*args)))


@pytest.mark.parametrize("log_probs", [selection_log_probs, pessimism_log_probs])
@PROPERTY
@given(rewards=REWARD_ROWS, temperature=st.floats(0.1, 10), by=st.floats(-1e3, 1e3))
def test_shifting_all_rewards_changes_nothing(log_probs, rewards, temperature, by):
    law = probs(log_probs, rewards, temperature)
    # The shift itself rounds, by up to 1e-13 in units of a temperature of 0.1.
    np.testing.assert_allclose(
        probs(log_probs, rewards + by, temperature), law, rtol=1e-10, atol=1e-11
    )


@pytest.mark.parametrize("log_probs", [selection_log_probs, pessimism_log_probs])
@PROPERTY
@given(rewards=REWARD_ROWS, temperature=st.floats(0.1, 10), by=st.floats(1e-3, 1e3))
def test_scaling_rewards_and_temperature_together_changes_nothing(
    log_probs, rewards, temperature, by
):
    law = probs(log_probs, rewards, temperature)
    np.testing.assert_allclose(
        probs(log_probs, rewards * by, temperature * by), law, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("log_probs", [selection_log_probs, pessimism_log_probs])
@PROPERTY
@given(rewards=REWARD_ROWS, temperature=st.floats(0, 10), order=st.permutations(range(6)))
def test_permuting_the_candidates_permutes_the_law(log_probs, rewards, temperature, order):
    law = probs(log_probs, rewards, temperature)
    np.testing.assert_allclose(
        probs(log_probs, rewards[order], temperature), law[order], rtol=1e-12, atol=1e-13
    )
