"""The streaming reservoir: the law of `select` whatever the batching, and merging in any order."""

import functools
import os
import subprocess
import sys
from functools import partial, reduce

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from softbon_jax.sampling.reservoir import reservoir_init, reservoir_merge, reservoir_update
from tests.frequencies import chi_squared_p
from tests.oracles import softmax

REWARDS = np.array([0.3, 1.0, -0.5, 1.0, 0.9, -np.inf, 1.0, 0.2, 0.0, 0.4])
KEPT = np.array([True, False] + 7 * [True] + [False])


def assert_law(items, law):
    assert chi_squared_p(items, law) > 1e-3


def run_stream(key, rewards, temperature, cuts, where=None):
    """The state after the candidates have come in batches that end at `cuts`; items are indices."""
    state = reservoir_init(jnp.int32(0), dtype=rewards.dtype)
    start = 0
    for batch_key, end in zip(jax.random.split(key, len(cuts)), cuts, strict=True):
        part = slice(start, end)
        state = reservoir_update(
            batch_key,
            state,
            jnp.arange(start, end, dtype=jnp.int32),
            rewards[part],
            temperature,
            where=None if where is None else where[part],
        )
        start = end
    return state


@functools.cache
def streams(cuts):
    """`run_stream` over keys, compiled once for all temperatures of a dtype."""
    return jax.jit(
        jax.vmap(lambda key, rewards, t: run_stream(key, rewards, t, cuts, KEPT), (0, None, None))
    )


BATCHINGS = {"one batch": (10,), "two": (3, 10), "small": (1, 2, 4, 7, 10)}


@pytest.mark.parametrize("cuts", BATCHINGS.values(), ids=BATCHINGS)
@pytest.mark.parametrize(
    ("temperature", "dtype"),
    [(0.0, jnp.float32), (0.3, jnp.float32), (0.3, jnp.float64), (np.inf, jnp.float32)],
)
def test_law_whatever_the_batching(cuts, temperature, dtype):
    keys = jax.random.split(jax.random.key(1), 20_000)
    rewards = jnp.asarray(REWARDS, dtype)
    state = streams(cuts)(keys, rewards, jnp.asarray(temperature, dtype))
    assert state.reward.dtype == dtype
    assert_law(
        state.item, softmax(np.where(KEPT, np.asarray(rewards, np.float64), -np.inf), temperature)
    )
    assert np.array_equal(state.reward, rewards[state.item])


def test_large_rewards_keep_their_digits():
    """Rewards near 1e4 at λ = 0.01 in float32, one at a time: r / λ is only good to 0.06."""
    rewards = jnp.float32([1e4, 1e4 + 0.0009765625, 1e4 - 0.0009765625])
    keys = jax.random.split(jax.random.key(2), 40_000)
    state = jax.jit(jax.vmap(lambda key: run_stream(key, rewards, 0.01, (1, 2, 3))))(keys)
    assert_law(state.item, softmax(np.float64(rewards), 0.01))


@pytest.mark.slow
def test_a_scan_of_many_batches_is_uniform_at_infinite_temperature():
    """Where in a stream of 6,400 candidates the item comes from."""
    items = jnp.arange(6_400).reshape(64, 100)

    @jax.vmap
    def stream(key):
        def step(state, batch):
            batch_key, items = batch
            rewards = jnp.sin(items.astype(jnp.float32))
            return reservoir_update(batch_key, state, items, rewards, jnp.inf), None

        start = reservoir_init(jnp.int64(0), dtype=jnp.float32)
        return jax.lax.scan(step, start, (jax.random.split(key, 64), items))[0]

    # Scanning over keys made inside vmap is reported as reuse, wrongly: each is used once.
    with jax.debug_key_reuse(False):
        chosen = stream(jax.random.split(jax.random.key(3), 2_000)).item
    assert stats.kstest(np.asarray(chosen) / 6_400, "uniform").pvalue > 1e-3


def pieces(count, temperature, rewards=REWARDS):
    """Single-candidate states, one stream cut into `count` pieces."""
    start = reservoir_init(jnp.int32(0))
    keys = jax.random.split(jax.random.key(4), count)
    return [
        reservoir_update(key, start, jnp.int32([i]), [rewards[i % len(rewards)]], temperature)
        for i, key in enumerate(keys)
    ]


prefixes = jax.jit(partial(jax.lax.associative_scan, reservoir_merge))


@pytest.mark.parametrize("temperature", [0.0, 0.3, np.inf])
def test_merging_in_any_order_and_grouping_gives_the_same_item(temperature):
    states = pieces(12, temperature)
    expected = reduce(reservoir_merge, states)
    assert np.array_equal(reduce(reservoir_merge, states[::-1]).item, expected.item)
    halves = [reduce(reservoir_merge, half) for half in (states[::2], states[1::2])]
    assert np.array_equal(reservoir_merge(*halves).item, expected.item)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    prefix = prefixes(stacked)
    for got, want in zip(jax.tree.map(lambda x: x[-1], prefix), expected, strict=True):
        assert np.array_equal(got, want)


def test_law_of_merged_streams():
    """Two streams of 4 and 6 candidates, updated apart and merged."""
    rewards = jnp.asarray(REWARDS)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def stream(key, temperature):
        left, right = jax.random.split(key)
        a = run_stream(left, rewards[:4], temperature, (2, 4))
        b = run_stream(right, rewards[4:], temperature, (6,))
        return reservoir_merge(a, b._replace(item=b.item + 4))

    for seed, temperature in enumerate((0.0, 0.3)):
        state = stream(jax.random.split(jax.random.key(seed), 20_000), temperature)
        assert_law(state.item, softmax(REWARDS, temperature))


def test_items_may_be_any_pytree():
    example = {"tokens": np.zeros((3,), np.int32), "score": (np.float64(0),)}
    state = reservoir_init(example)
    tokens = jnp.arange(12, dtype=jnp.int32).reshape(4, 3)
    scores = jnp.array([0.0, 5.0, 1.0, 2.0])
    state = reservoir_update(
        jax.random.key(0), state, {"tokens": tokens, "score": (scores,)}, scores, 0.0
    )
    assert np.array_equal(state.item["tokens"], [3, 4, 5])
    assert state.item["score"][0] == state.reward == 5


def test_empty_streams_and_empty_batches():
    empty = reservoir_init(jnp.int32(0))
    none = np.zeros(2, bool)
    still = reservoir_update(
        jax.random.key(0), empty, jnp.int32([1, 2]), [3.0, 4.0], 0.5, where=none
    )
    assert still.reward == -jnp.inf
    one = reservoir_update(jax.random.key(1), still, jnp.int32([7]), [-2.0], 0.5)
    assert (one.item, one.reward, one.temperature) == (7, -2, 0.5)
    same = reservoir_update(jax.random.key(2), one, jnp.int32([1, 2]), [3.0, 4.0], 0.5, where=none)
    for merged in (same, reservoir_merge(one, empty), reservoir_merge(empty, one)):
        assert all(np.array_equal(x, y) for x, y in zip(merged, one, strict=True))
    assert reservoir_merge(empty, still).reward == -jnp.inf


def test_what_is_refused():
    update = partial(reservoir_update, jax.random.key(0))
    empty = reservoir_init(jnp.int32(0))
    item = jnp.int32([0])
    full = update(empty, item, [1.0], 0.5)
    cases = [
        ("got nan at index 0", (full, item, [np.nan], 0.5)),
        ("got inf at index 0", (empty, item, [np.inf], 0.5)),
        ("temperature must be that of the stream, 0.5", (full, item, [1.0], 0.6)),
        ("temperature must be at least 0", (full, item, [1.0], -1.0)),
        ("earlier batch", (full._replace(reward=jnp.full((), jnp.nan)), item, [1.0], 0.5)),
    ]
    for message, (state, items, rewards, temperature) in cases:
        with pytest.raises(ValueError, match=message):
            reservoir_update(jax.random.key(0), state, items, rewards, temperature)
        traced = jax.jit(partial(reservoir_update, jax.random.key(0)))
        assert jnp.isnan(traced(state, items, jnp.asarray(rewards), temperature).reward)
    other = reservoir_update(jax.random.key(1), empty, item, [1.0], 0.6)
    with pytest.raises(ValueError, match="temperature must be that of the other stream"):
        reservoir_merge(full, other)
    assert jnp.isnan(jax.jit(reservoir_merge)(full, other).reward)


def test_bad_shapes():
    key = partial(jax.random.key, 0)
    state = reservoir_init(jnp.int32(0), dtype=jnp.float32)
    with pytest.raises(ValueError, match="items must be"):
        reservoir_update(key(), state, jnp.int32([0, 1]), np.float32([1]), 0.5)
    with pytest.raises(ValueError, match="items must be"):
        reservoir_update(key(), state, jnp.int64([0]), np.float32([1]), 0.5)
    with pytest.raises(ValueError, match="make it with dtype="):
        reservoir_update(key(), state, jnp.int32([0]), np.float64([1]), 0.5)
    with pytest.raises(ValueError, match="rewards must be"):
        reservoir_update(key(), state, jnp.int32([[0]]), np.float32([[1]]), 0.5)
    with pytest.raises(ValueError, match="temperature must be a scalar"):
        reservoir_update(key(), state, jnp.int32([0]), np.float32([1]), np.float32([0.5]))
    with pytest.raises(ValueError, match=r"where must broadcast against rewards \(1,\)"):
        reservoir_update(key(), state, jnp.int32([0]), np.float32([1]), 0.5, where=np.ones(2, bool))
    with pytest.raises(ValueError, match="where must be bool, got dtype int"):
        reservoir_update(key(), state, jnp.int32([0]), np.float32([1]), 0.5, where=np.ones(1, int))
    with pytest.raises(TypeError, match=r"dtype must be a floating dtype.*got int32"):
        reservoir_init(jnp.int32(0), dtype=jnp.int32)
    with pytest.raises(ValueError, match="states do not match"):
        reservoir_merge(state, reservoir_init(jnp.int32(0), dtype=jnp.float64))
    with pytest.raises(ValueError, match="states do not match"):
        reservoir_merge(state, reservoir_init({"a": jnp.int32(0)}, dtype=jnp.float32))


def test_half_precision_is_promoted_and_a_mask_broadcasts():
    state = reservoir_init(jnp.int32(0), dtype=jnp.bfloat16)
    assert state.reward.dtype == jnp.float32
    items, rewards = jnp.arange(3, dtype=jnp.int32), jnp.array([0.1, 0.3, 0.2])
    for dtype in (jnp.float16, jnp.bfloat16):
        half = rewards.astype(dtype)
        after, exact = (
            reservoir_update(jax.random.key(0), state, items, x, 0.5, where=np.array(True))
            for x in (half, half.astype(jnp.float32))
        )
        assert after.reward.dtype == after.noise.dtype == jnp.float32
        chex.assert_trees_all_equal(after, exact)


def test_the_old_positions_warn_and_give_the_same_state():
    items, rewards, where = jnp.arange(3, dtype=jnp.int32), [0.1, 0.3, 0.2], [True, False, True]
    state = reservoir_init(jnp.int32(0), dtype=jnp.float64)
    with pytest.warns(DeprecationWarning, match="pass dtype="):
        old = reservoir_init(jnp.int32(0), jnp.float64)
    chex.assert_trees_all_equal(old, state)
    key = partial(jax.random.key, 0)
    with pytest.warns(DeprecationWarning, match="pass where="):
        old = reservoir_update(key(), state, items, rewards, 0.5, where)
    new = reservoir_update(key(), state, items, rewards, 0.5, where=where)
    chex.assert_trees_all_equal(old, new)


ACROSS_DEVICES = """
from functools import partial, reduce
import jax, jax.numpy as jnp, numpy as np
from scipy import stats
from softbon_jax.sampling.reservoir import reservoir_init, reservoir_merge, reservoir_update

assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
P = jax.sharding.PartitionSpec
rewards = np.float32([0.3, 1.0, -0.5, 1.0, 0.9, 0.0, 1.0, 0.2])

@jax.jit
@partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("x"), P("x")), out_specs=P(), check_vma=False)
def pick(key, items, rewards):
    keys = jax.random.split(jax.random.fold_in(key, jax.lax.axis_index("x")), 10_000)
    start = reservoir_init(jnp.int32(0), dtype=jnp.float32)
    local = jax.vmap(lambda key: reservoir_update(key, start, items, rewards, 0.4))(keys)
    gathered = jax.lax.all_gather(local, "x")
    parts = [jax.tree.map(lambda leaf: leaf[i], gathered) for i in range(4)]
    return reduce(reservoir_merge, parts)

state = pick(jax.random.key(0), jnp.arange(8, dtype=jnp.int32), rewards)
weights = np.exp(np.float64(rewards) / 0.4)
counts, share = np.bincount(state.item, minlength=8), weights / weights.sum()
assert stats.chisquare(counts, 10_000 * share).pvalue > 1e-3
print("merged on", jax.device_count())
"""


@pytest.mark.slow
def test_merge_is_a_reduction_across_devices():
    """Four devices hold two candidates each; a process of its own, for the device count."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", ACROSS_DEVICES], env=environment, capture_output=True, text=True
    )
    assert "merged on 4" in done.stdout, done.stderr
