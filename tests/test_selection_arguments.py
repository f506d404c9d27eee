"""Arguments of the selection rules: what is refused, what is promoted, and what is keyword-only."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax import (
    pessimism_log_probs,
    select,
    select_best,
    select_many,
    select_pessimist,
    select_race,
    select_rejection,
    selection_log_probs,
)

REWARDS = np.array([0.3, 1.0, -0.5, 1.0, 0.9, 0.0, 1.0, 0.2])
KEPT = np.array([True, False, True, True, True, False, True, True])
KEY = partial(jax.random.key, 0)

# Every public function of rewards and a mask, as a function of (rewards, mask).
OF_ROWS = {
    "select": lambda r, **x: select(KEY(), r, 0.5, **x),
    "select_best": lambda r, **x: select_best(KEY(), r, **x),
    "select_race": lambda r, **x: select_race(KEY(), r, 0.5, **x),
    "select_many": lambda r, **x: select_many(KEY(), r, 0.5, k=2, **x),
    "select_rejection": lambda r, **x: select_rejection(KEY(), r, 0.5, 1.0, **x),
    "select_pessimist": lambda r, **x: select_pessimist(KEY(), r, 0.5, **x),
    "selection_log_probs": lambda r, **x: selection_log_probs(r, 0.5, **x),
    "pessimism_log_probs": lambda r, **x: pessimism_log_probs(r, 0.5, **x),
}
of_every_function = pytest.mark.parametrize("call", OF_ROWS.values(), ids=OF_ROWS)


# Options -----------------------------------------------------------------------------------------

OLD_POSITIONS = {
    "select": lambda: select(KEY(), REWARDS, 0.5, KEPT),
    "select_best": lambda: select_best(KEY(), REWARDS, KEPT),
    "select_race": lambda: select_race(KEY(), REWARDS, 0.5, KEPT),
    "select_many": lambda: select_many(KEY(), REWARDS, 0.5, KEPT, k=2),
    "select_rejection": lambda: select_rejection(KEY(), REWARDS, 0.5, 1.0, KEPT),
    "select_pessimist": lambda: select_pessimist(KEY(), REWARDS, 0.5, KEPT),
    "selection_log_probs": lambda: selection_log_probs(REWARDS, 0.5, KEPT),
    "pessimism_log_probs": lambda: pessimism_log_probs(REWARDS, 0.5, KEPT),
}


@pytest.mark.parametrize("name", OLD_POSITIONS)
def test_a_mask_by_position_warns_and_gives_the_same_answer(name):
    with pytest.warns(DeprecationWarning, match=f"{name}: pass where="):
        old = OLD_POSITIONS[name]()
    np.testing.assert_array_equal(old, OF_ROWS[name](REWARDS, where=KEPT))


@of_every_function
def test_a_mask_broadcasts(call):
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)))
    masks = {"row": KEPT, "column": np.array([[True], [True], [True]]), "scalar": np.array(True)}
    for mask in masks.values():
        full = np.broadcast_to(mask, rows.shape)
        np.testing.assert_array_equal(call(rows, where=mask), call(rows, where=full))
    # A mask of several rows makes a batch of one row of rewards.
    many = call(rows[0], where=np.stack([KEPT, ~KEPT]))
    assert many.shape[0] == 2


@of_every_function
def test_excluding_by_a_mask_is_excluding_by_the_reward(call):
    excluded = np.where(KEPT, REWARDS, -np.inf)
    np.testing.assert_array_equal(call(REWARDS, where=KEPT), call(excluded))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@of_every_function
def test_half_precision_is_promoted_to_float32(call, dtype):
    half = jnp.asarray(REWARDS, dtype)
    got, promoted = call(half), call(half.astype(jnp.float32))
    assert got.dtype in (jnp.int32, jnp.float32)
    np.testing.assert_array_equal(got, promoted)


@of_every_function
def test_integers_are_real_numbers_and_bools_are_not(call):
    np.testing.assert_array_equal(call([-1, 1, 0]), call([-1.0, 1.0, 0.0]))
    with pytest.raises(TypeError, match="rewards must be real numbers, got dtype bool"):
        call(np.array([True, False]))


def test_half_precision_in_poisson_mask():
    masks = [
        sb.poisson_mask(KEY(), (500, 12), np.asarray(2.5, dtype))
        for dtype in (jnp.float16, jnp.bfloat16, np.float32)
    ]
    assert np.array_equal(masks[0], masks[2])
    assert np.array_equal(masks[1], masks[2])


@pytest.mark.parametrize("k", [0, 9, 2.0, True])
def test_k_is_an_integer_from_1_to_n(k):
    with pytest.raises(ValueError, match=f"k must be an integer from 1 to 8, got {k}"):
        select_many(KEY(), REWARDS, 1.0, k=k)


# Values ------------------------------------------------------------------------------------------

BAD_ROWS = {
    r"got nan at index \(0, 1\)": [1.0, np.nan],
    r"got inf at index \(0, 0\)": [np.inf, 0.0],
    "number of candidates must be at least 1, got 0 at index 0": [-np.inf, -np.inf],
}

INDICES = [
    lambda r, t: select(KEY(), r, t),
    lambda r, t: select_race(KEY(), r, t),
    lambda r, t: select_many(KEY(), r, t, k=2),
    lambda r, t: select_best(KEY(), r),
    lambda r, t: select_rejection(KEY(), r, t, 2.0),
    lambda r, t: select_pessimist(KEY(), r, t),
]
TRACED_INDICES = [jax.jit(rule) for rule in INDICES]
LOG_PROBS = [selection_log_probs, pessimism_log_probs]
TRACED_LOG_PROBS = [jax.jit(log_probs) for log_probs in LOG_PROBS]


@pytest.mark.parametrize(("message", "row"), BAD_ROWS.items())
def test_bad_rewards_raise_when_concrete_and_give_minus_one_when_traced(message, row):
    rows = jnp.stack([jnp.asarray(row), jnp.array([1.0, 2.0])])
    for temperature in (0.5, 0.0, jnp.inf):
        for rule, traced_rule in zip(INDICES, TRACED_INDICES, strict=True):
            with pytest.raises(ValueError, match=message):
                rule(rows, temperature)
            traced = np.asarray(traced_rule(rows, temperature))
            assert np.all(traced[0] == -1), "the bad row is marked"
            assert np.all(traced[1] >= 0), "the good row is not harmed"
    for log_probs, traced_log_probs in zip(LOG_PROBS, TRACED_LOG_PROBS, strict=True):
        with pytest.raises(ValueError, match=message):
            log_probs(rows, 0.5)
        nan = np.isnan(traced_log_probs(rows, 0.5))
        assert np.array_equal(nan, [[True, True], [False, False]])


def test_what_is_bad_may_hide_behind_the_mask():
    rewards = np.array([1.0, np.nan, np.inf])
    where = np.array([True, False, False])
    for name, call in OF_ROWS.items():
        if name not in ("select_many", "selection_log_probs", "pessimism_log_probs"):
            assert call(rewards, where=where) == 0
    assert np.array_equal(select_many(KEY(), rewards, 0.5, k=2, where=where), [0, -1])
    for log_probs in LOG_PROBS:
        assert np.array_equal(log_probs(rewards, 0.5, where=where), [0.0, -np.inf, -np.inf])


@pytest.mark.parametrize("temperature", [-1.0, np.nan])
def test_bad_temperature(temperature):
    rewards = jnp.asarray(REWARDS)
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        select(KEY(), rewards, temperature)
    assert jax.jit(lambda t: select(KEY(), rewards, t))(temperature) == -1
    with pytest.raises(ValueError, match="regularization must be at least 0"):
        select_pessimist(KEY(), rewards, temperature)
    assert jax.jit(lambda t: select_pessimist(KEY(), rewards, t))(temperature) == -1


def test_an_envelope_that_is_not_finite():
    with pytest.raises(ValueError, match="envelope must be finite, got nan"):
        select_rejection(KEY(), REWARDS, 0.5, np.nan)
    assert jax.jit(lambda e: select_rejection(KEY(), REWARDS, 0.5, e))(np.inf) == -1
    with pytest.raises(ValueError, match="fallback must be 'any' or 'best', got 'none'"):
        select_rejection(KEY(), REWARDS, 0.5, 1.0, fallback="none")
    with pytest.raises(ValueError, match=r"envelope must broadcast against \(\), got shape \(2,\)"):
        select_rejection(KEY(), REWARDS, 0.5, np.ones(2))


def test_bad_shapes_and_types():
    rewards = jnp.asarray(REWARDS)
    with pytest.raises(ValueError, match=r"rewards must have at least one candidate.*\(3, 0\)"):
        select(KEY(), jnp.zeros((3, 0)), 1.0)
    with pytest.raises(ValueError, match="rewards must have at least one candidate"):
        jax.jit(lambda r: select(KEY(), r, 1.0))(jnp.zeros(0))
    with pytest.raises(ValueError, match="where must be bool, got dtype int"):
        select(KEY(), rewards, 1.0, where=jnp.ones(8, int))
    for n, size in ((8, 7), (1, 8)):
        message = rf"where must broadcast against rewards \({n},\), got shape \({size},\)"
        with pytest.raises(ValueError, match=message):
            select(KEY(), jnp.zeros(n), 1.0, where=jnp.ones(size, bool))
    with pytest.raises(ValueError, match=r"do not broadcast: rewards \(2,\), temperature \(3,\)"):
        select(KEY(), jnp.zeros((2, 8)), jnp.ones(3))
    with pytest.raises(TypeError, match="typed PRNG key"):
        select(jnp.zeros(2, jnp.uint32), rewards, 1.0)
    with pytest.raises(ValueError, match="single key"):
        select(jax.random.split(KEY(), 2), rewards, 1.0)
    with pytest.raises(TypeError, match="complex"):
        select(KEY(), rewards.astype(complex), 1.0)
    with pytest.raises(ValueError, match="shape must have at least one candidate"):
        sb.poisson_mask(KEY(), (3, 0), 1.0)
    with pytest.raises(ValueError, match=r"mean_extra must be finite and at least 0, got -1\.0"):
        sb.poisson_mask(KEY(), (3,), -1.0)
