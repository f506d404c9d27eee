"""Soft best-of-n over a stream: one pass, memory for one candidate, and states that merge.

The soft rule takes the largest r_i/λ + Gumbel_i, and a maximum does not care how its terms are
grouped: a state holds the best candidate so far with its reward and its noise, and two states merge
into the state of both streams.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _checks
from softbon_jax.sampling import _noise
from softbon_jax.sampling.select import argmax, scaled

Array = jax.Array


class Reservoir(NamedTuple):
    """The selected candidate of a stream so far; `[...]` is the batch shape, `()` for one stream.

    Attributes:
      item: any pytree, leaves `[..., *shape of the item's leaf]`; zeros while the stream is empty.
      reward: `[...]` the item's reward; `-inf` while the stream is empty, NaN once something in it
        was not in order (see `reservoir_update`).
      noise: `[...]` the item's Gumbel noise. Reward and noise are kept apart so that streams
        compare by differences: large rewards at a small temperature keep their digits.
      temperature: `[...]` of the stream, in the units of the reward; 0 while the stream is empty.
    """

    item: Any
    reward: Array
    noise: Array
    temperature: Array


def reservoir_init(example_item: Any, dtype: Any = None) -> Reservoir:
    """The state of an empty stream.

    Args:
      example_item: pytree of arrays or numbers with the shapes and dtypes of one item; values
        unused.
      dtype: float32 or float64, of the rewards and the noise; default: the default float dtype.

    Returns:
      A `Reservoir` of batch shape `()`.

    Raises:
      ValueError: `dtype` is another dtype, or float64 while 64-bit types are off.
    """
    dtype = jnp.result_type(float) if dtype is None else jnp.dtype(dtype)
    if dtype not in (jnp.float32, jnp.float64) or jnp.zeros((), dtype).dtype != dtype:
        raise ValueError(f"dtype must be float32, or float64 with 64-bit types on, got {dtype}")
    empty = jnp.full((), -jnp.inf, dtype)
    return Reservoir(jax.tree.map(jnp.zeros_like, example_item), empty, empty, jnp.zeros((), dtype))


def reservoir_update(
    key: Array, state: Reservoir, items: Any, rewards: Any, temperature: Any, where: Any = None
) -> Reservoir:
    """The state after a further batch of candidates.

    After any sequence of updates the item is candidate i of all those seen with probability
    softmax(rewards / temperature)_i, however they were batched.

    Args:
      key: a typed PRNG key; consumed. A fresh one for every batch.
      state: of one stream, batch shape `()`; map over it with `vmap` for several.
      items: pytree like the example item with a leading axis of b candidates, b >= 1 static.
      rewards: `[b]` float, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar, at least 0, traced; the same for all batches of a stream. 0 keeps the
        largest reward, uniformly among exact ties; `inf` keeps any candidate with equal
        probability.
      where: `[b]` bool; False excludes a candidate. A batch without candidates changes nothing.

    Returns:
      The new `Reservoir`. Under tracing its reward is NaN, for good, if a candidate's reward is NaN
      or `+inf`, the temperature is NaN or negative, or it differs from that of the stream.

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: shapes or dtypes do not match the state (float64 rewards in a float32 state), or,
        when the values are concrete, one of the cases above that give NaN under tracing.

    Numerics: computed in the state's dtype. Always with the fine noise of long streams (two random
    words a candidate in float32), so that the law does not depend on the batching.
    Source: arXiv:2505.03156 (the sampler); derived here: the maximum of a union is the larger of
    the two maxima.
    """
    _checks.key(key)
    dtype = state.reward.dtype
    rewards = _checks.as_float("rewards", rewards)
    if rewards.ndim != 1 or rewards.size == 0 or state.reward.ndim != 0:
        raise ValueError(
            "rewards must be [b] with b >= 1 and the state that of one stream, got rewards"
            f" {rewards.shape} and a state {state.reward.shape}; use vmap for several streams"
        )
    if jnp.finfo(_checks.compute_dtype(rewards.dtype)).bits > jnp.finfo(dtype).bits:
        raise ValueError(f"rewards are {rewards.dtype}, the reservoir {dtype}: make it with dtype=")
    if where is not None:
        where = jnp.asarray(where)
        if where.dtype != bool or where.shape != rewards.shape:
            raise ValueError(
                f"where must be bool of shape {rewards.shape}, got {where.dtype} {where.shape}"
            )
    items = jax.tree.map(jnp.asarray, items)
    _check_items(state.item, items, rewards.shape[0])
    _checks.temperature(temperature)
    temperature = _checks.as_float("temperature", temperature, dtype)
    if temperature.ndim != 0:
        raise ValueError(f"temperature must be a scalar, got shape {temperature.shape}")
    rewards = rewards.astype(dtype)
    after = _update(key, state, items, rewards, temperature, where)
    value = _checks.concrete(after.reward)
    if value is not None and jnp.isnan(value):
        _explain(state, rewards, temperature, where)
    return after


def reservoir_merge(a: Reservoir, b: Reservoir) -> Reservoir:
    """The state of two streams together.

    Associative and commutative (but for exact ties of float noise), so it serves as a reduction
    over devices: gather the states and fold them with this function.

    Args:
      a: a `Reservoir` of batch shape `[...]`.
      b: another of the same shapes and dtypes, made with different keys and the same temperature.

    Returns:
      The merged `Reservoir`. Under tracing its reward is NaN where either one's is, and where both
      hold an item and their temperatures differ.

    Raises:
      ValueError: shapes or dtypes differ, or the values are concrete and the temperatures differ.

    Numerics: rewards are compared by (r_a - r_b)/λ + noise_a - noise_b, good to the dtype's
    epsilon.
    Source: derived here, as `reservoir_update`.
    """
    for x, y in zip(_leaves(a), _leaves(b), strict=True):
        if x.shape != y.shape or x.dtype != y.dtype:
            raise ValueError(f"states do not match: {x.dtype} {x.shape} and {y.dtype} {y.shape}")
    merged = _merge(a, b)
    clash = _checks.concrete(jnp.isnan(merged.reward) & ~jnp.isnan(a.reward) & ~jnp.isnan(b.reward))
    if clash is not None and clash.any():
        raise ValueError(
            f"temperature must be that of the other stream, got {a.temperature} and {b.temperature}"
        )
    return merged


def _leaves(state: Reservoir) -> list[Array]:
    return [jnp.asarray(x) for x in jax.tree.leaves(state)]


def _check_items(held: Any, items: Any, size: int) -> None:
    expected = jax.tree.map(lambda x: (x.dtype, (size, *x.shape)), held)
    got = jax.tree.map(lambda x: (x.dtype, x.shape), items)
    if got != expected:
        raise ValueError(f"items must be {expected} (dtype, shape), got {got}")


def _explain(state: Reservoir, rewards: Array, temperature: Array, where: Array | None) -> None:
    """Raise `ValueError` for a concrete update whose reward came out NaN."""
    counted = _checks.concrete(rewards if where is None else jnp.where(where, rewards, -jnp.inf))
    if counted is not None:
        _checks.offending(
            "rewards", counted, ~(counted < jnp.inf), "finite or -inf where they count"
        )
    if not jnp.isnan(state.reward):
        raise ValueError(
            f"temperature must be that of the stream, {state.temperature}, got {temperature}"
        )
    raise ValueError("state.reward must not be NaN: an earlier batch was not in order")


@jax.jit
def _update(
    key: Array,
    state: Reservoir,
    items: Any,
    rewards: Array,
    temperature: Array,
    where: Array | None,
) -> Reservoir:
    logits, can_win, _ = scaled(rewards, temperature[None], where)
    noise = _noise.gumbel(key, rewards.shape, rewards.dtype, one_word=False)
    index = argmax(jnp.where(can_win, logits + noise, -jnp.inf))
    counted = rewards if where is None else jnp.where(where, rewards, -jnp.inf)
    largest = jnp.max(counted)
    in_order = (largest < jnp.inf) & (temperature >= 0)  # False if either is NaN
    batch = Reservoir(
        jax.tree.map(lambda x: x[index], items),
        jnp.where(in_order, counted[index], jnp.nan),
        noise[index],
        temperature,
    )
    return _merge(state, batch)


@jax.jit
def _merge(a: Reservoir, b: Reservoir) -> Reservoir:
    a_empty, b_empty = (jnp.isneginf(x.reward) for x in (a, b))
    both = ~(a_empty | b_empty)
    temperature = jnp.where(a_empty, b.temperature, a.temperature)
    gap = jnp.where(both, b.reward - a.reward, 0)
    # At λ = inf rewards do not count, not even an overflowing gap; at λ = 0, ±inf decides.
    noiseless = (gap == 0) | (temperature == jnp.inf)
    scaled_gap = jnp.where(noiseless, 0, gap / jnp.where(noiseless, 1, temperature))
    b_wins = ~b_empty & (a_empty | (scaled_gap + (b.noise - a.noise) > 0))

    def pick(x: Array, y: Array) -> Array:
        return jnp.where(b_wins.reshape(b_wins.shape + (1,) * (x.ndim - b_wins.ndim)), y, x)

    spoiled = jnp.isnan(a.reward) | jnp.isnan(b.reward) | (both & (a.temperature != b.temperature))
    merged = jax.tree.map(pick, a, b)
    return merged._replace(
        reward=jnp.where(spoiled, jnp.nan, merged.reward),
        temperature=jnp.where(a_empty & b_empty, 0, temperature),
    )
