"""Selection rules: their laws by chi-squared against NumPy, their limits, and what they refuse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from softbon_jax.sampling import _noise
from softbon_jax.sampling import select as selection
from softbon_jax.sampling.select import (
    select,
    select_best,
    select_many,
    select_race,
    selection_log_probs,
)

FLOATS = [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64]
REWARDS = np.array([0.3, 1.0, -0.5, 1.0, 0.9, 0.0, 1.0, 0.2])
KEPT = np.array([True, False, True, True, True, False, True, True])


def softmax(rewards, temperature, where=None):
    """The selection law in float64, an exclusion being a reward of -inf."""
    rewards = np.asarray(rewards, np.float64)
    if where is not None:
        rewards = np.where(where, rewards, -np.inf)
    if temperature == 0:
        weights = (rewards == rewards.max()).astype(np.float64)
    elif temperature == np.inf:
        weights = np.isfinite(rewards).astype(np.float64)
    else:
        weights = np.exp((rewards - rewards.max()) / temperature)
    return weights / weights.sum()


def chi_squared_p(index, law):
    """p-value of the indices under the law; cells expecting fewer than 5 are pooled."""
    index = np.asarray(index).ravel()
    counts = np.bincount(index, minlength=law.size)
    assert counts[law == 0].sum() == 0, "an excluded candidate was selected"
    expected = law * index.size
    small = expected < 5
    counts, expected = (
        np.append(x[~small], x[small].sum()) if small.any() else x for x in (counts, expected)
    )
    counts, expected = counts[expected > 0], expected[expected > 0]
    if counts.size == 1:
        return 1.0
    return stats.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue


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
    index = many(select, 40_000, rewards, temperature, where)
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
    scores = jax.vmap(
        lambda key: selection._noise.gumbel(key, (10**6,), jnp.float32, one_word=False)
    )(jax.random.split(jax.random.key(0), 4))
    top = np.sort(np.asarray(jax.lax.top_k(scores, 50)[0]), axis=1)
    assert np.all(np.diff(top, axis=1) > 0)
    # The spacings of extreme Gumbels are exponential: j (G_(j) - G_(j+1)) ~ Exp(1), Renyi.
    spacings = np.diff(top.astype(np.float64), axis=1)[:, ::-1] * np.arange(1, 50)
    assert stats.kstest(spacings.ravel(), "expon").pvalue > 1e-3


# Transformations ---------------------------------------------------------------------------------


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
        key, np.zeros((50, 1, 40)), np.array([0.0, 1.0, np.inf]), np.ones((1, 1, 40), bool)
    )
    assert index.shape == (50, 3)
    assert len(np.unique(np.asarray(index))) > 30


def test_temperatures_share_one_trace():
    traces = []

    @jax.jit
    def traced(key, rewards, temperature):
        traces.append(1)
        return select(key, rewards, temperature)

    for temperature in (0.0, 0.5, jnp.inf):
        traced(jax.random.key(0), jnp.asarray(REWARDS), temperature)
    assert len(traces) == 1


# Hard and race -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_select_best_is_uniform_over_exact_ties(dtype):
    rewards = jnp.asarray(REWARDS, dtype)
    index = many(select_best, 30_000, rewards, KEPT)
    assert chi_squared_p(index, softmax(REWARDS, 0, KEPT)) > 1e-3
    assert np.array_equal(index, many(select, 30_000, rewards, 0.0, KEPT))


def race_law(rewards, temperature):
    """Pr(i has the largest w_i / U_i), by quadrature over the others' distribution functions."""
    weights = np.exp((rewards - rewards.max()) / temperature)
    # 1/v = s: Pr(w_j / U_j < v) = (1 - w_j s)_+, with 1/v uniform on pieces between the 1/w_j.
    s, ds = np.linspace(0, 1, 400_001, retstep=True)
    below = np.clip(1 - weights[:, None] * s, 0, None)
    law = []
    for i, w in enumerate(weights):
        others = np.prod(np.delete(below, i, axis=0), axis=0)
        law.append(np.trapezoid(w * others * (w * s <= 1), dx=ds))
    return np.array(law)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_law_of_select_race(dtype, temperature):
    law = race_law(REWARDS, temperature)
    assert law.sum() == pytest.approx(1, abs=1e-5)
    rewards = jnp.asarray(REWARDS, dtype)
    index = many(select_race, 40_000, rewards, temperature, seed=3)
    assert chi_squared_p(index, race_law(np.asarray(rewards, np.float64), temperature)) > 1e-3
    assert chi_squared_p(index, softmax(REWARDS, temperature)) < 1e-4


@pytest.mark.parametrize("temperature", [0.0, np.inf])
def test_limits_of_select_race(temperature):
    index = many(select_race, 30_000, REWARDS, temperature, KEPT)
    assert chi_squared_p(index, softmax(REWARDS, temperature, KEPT)) > 1e-3


# Several without replacement ---------------------------------------------------------------------


def plackett_luce(rewards, temperature, k):
    """{(i_1, .., i_k): probability} by the definition."""
    law = {(): 1.0}
    for _ in range(k):
        longer = {}
        for prefix, prob in law.items():
            left = np.array([np.nan if i in prefix else r for i, r in enumerate(rewards)])
            step = softmax(np.where(np.isnan(left), -np.inf, left), temperature)
            for i, p in enumerate(step):
                if p > 0:
                    longer[(*prefix, i)] = prob * p
        law = longer
    return law


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
    index = many(select_many, 100, rewards, temperature, where, k=5)
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
    log_probs = selection_log_probs(rewards, temperature, where)
    assert log_probs.dtype == (dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)
    law = softmax(np.asarray(rewards, np.float64), temperature, where)
    # exp(log p) loses the digits of log p before the point: compare where p is not tiny.
    tolerance = {4: 1e-6, 8: 1e-14}[log_probs.dtype.itemsize]
    np.testing.assert_allclose(np.exp(np.float64(log_probs)), law, rtol=tolerance, atol=tolerance)
    assert np.array_equal(np.isneginf(np.float64(log_probs)), law == 0) or temperature == 1e-3


@pytest.mark.parametrize("temperature", [0.3, 5.0])
def test_gradients_of_selection_log_probs(temperature):
    def value(rewards, temperature):
        return selection_log_probs(rewards, temperature, KEPT)[6]

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
        log_probs = selection_log_probs(rewards, temperature, KEPT)
        return jnp.sum(jnp.where(jnp.isfinite(log_probs), log_probs, 0))

    rewards = jnp.asarray(REWARDS).at[0].set(-jnp.inf)
    gradients = jax.grad(total, argnums=(0, 1))(rewards, temperature)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    if temperature != 0.3:
        assert all(np.all(np.asarray(g) == 0) for g in gradients)


# What is refused ---------------------------------------------------------------------------------

BAD_ROWS = {
    r"got nan at index \(0, 1\)": [1.0, np.nan],
    r"got inf at index \(0, 0\)": [np.inf, 0.0],
    "number of candidates must be at least 1, got 0 at index 0": [-np.inf, -np.inf],
}


KEY = partial(jax.random.key, 0)
RULES = [
    lambda r, t: select(KEY(), r, t),
    lambda r, t: select_race(KEY(), r, t),
    lambda r, t: select_many(KEY(), r, t, k=2),
    lambda r, t: select_best(KEY(), r),
]
TRACED_RULES = [jax.jit(rule) for rule in RULES]
traced_log_probs = jax.jit(selection_log_probs)


@pytest.mark.parametrize(("message", "row"), BAD_ROWS.items())
def test_bad_rewards_raise_when_concrete_and_give_minus_one_when_traced(message, row):
    rows = jnp.stack([jnp.asarray(row), jnp.array([1.0, 2.0])])
    for temperature in (0.5, 0.0, jnp.inf):
        for rule, traced_rule in zip(RULES, TRACED_RULES, strict=True):
            with pytest.raises(ValueError, match=message):
                rule(rows, temperature)
            traced = np.asarray(traced_rule(rows, temperature))
            assert np.all(traced[0] == -1), "the bad row is marked"
            assert np.all(traced[1] >= 0), "the good row is not harmed"
    with pytest.raises(ValueError, match=message):
        selection_log_probs(rows, 0.5)
    assert np.array_equal(np.isnan(traced_log_probs(rows, 0.5)), [[True, True], [False, False]])


def test_what_is_bad_may_hide_behind_the_mask():
    rewards = np.array([1.0, np.nan, np.inf])
    where = np.array([True, False, False])
    assert select(jax.random.key(0), rewards, 0.5, where) == 0
    assert np.array_equal(selection_log_probs(rewards, 0.5, where), [0.0, -np.inf, -np.inf])


@pytest.mark.parametrize("temperature", [-1.0, np.nan])
def test_bad_temperature(temperature):
    key, rewards = partial(jax.random.key, 0), jnp.asarray(REWARDS)
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        select(key(), rewards, temperature)
    assert jax.jit(lambda t: select(key(), rewards, t))(temperature) == -1


def test_bad_shapes_and_types():
    key, rewards = partial(jax.random.key, 0), jnp.asarray(REWARDS)
    with pytest.raises(ValueError, match=r"rewards must have at least one candidate.*\(3, 0\)"):
        select(key(), jnp.zeros((3, 0)), 1.0)
    with pytest.raises(ValueError, match="rewards must have at least one candidate"):
        jax.jit(lambda r: select(key(), r, 1.0))(jnp.zeros(0))
    with pytest.raises(ValueError, match="where must be bool, got dtype int"):
        select(key(), rewards, 1.0, jnp.ones(8, int))
    with pytest.raises(ValueError, match=r"do not broadcast.*\(8,\).*\(7,\)"):
        select(key(), rewards, 1.0, jnp.ones(7, bool))
    with pytest.raises(ValueError, match="where has shape"):
        select(key(), jnp.zeros(1), 1.0, jnp.ones(8, bool))
    with pytest.raises(ValueError, match="do not broadcast"):
        select(key(), jnp.zeros((2, 8)), jnp.ones(3))
    with pytest.raises(ValueError, match="k must be between 1 and n = 8, got 9"):
        select_many(key(), rewards, 1.0, k=9)
    with pytest.raises(TypeError, match="typed PRNG key"):
        select(jnp.zeros(2, jnp.uint32), rewards, 1.0)
    with pytest.raises(ValueError, match="single key"):
        select(jax.random.split(key(), 2), rewards, 1.0)
    with pytest.raises(TypeError, match="complex"):
        select(key(), rewards.astype(complex), 1.0)


def test_integer_rewards_are_real_numbers():
    assert select_best(jax.random.key(0), [3, 9, 4]) == 1
