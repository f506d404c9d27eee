"""Soft best-of-n over a stream: one pass, memory for one candidate, and states that merge.

The soft rule takes the largest r_i/λ + Gumbel_i, and a maximum does not care how its terms are
grouped: a state holds the best candidate so far with its reward and its noise, and two states merge
into the state of both streams.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.sampling import _noise
from softbon_jax.sampling._candidates import argmax, explain_rewards, masked, scaled

Array = jax.Array


class Reservoir(NamedTuple):
    """The selected candidate of a stream so far; `[...]` is the batch shape, `()` for one stream.

    Attributes:
      item: any pytree, leaves `[..., *shape of the item's leaf]`; zeros while the stream is empty.
      reward: `[...]` the item's reward; `-inf` while the stream is empty, NaN once a batch was not
        valid (see `reservoir_update`).
      noise: `[...]` the item's Gumbel noise. Reward and noise are kept apart so that streams
        compare by differences: large rewards at a small temperature keep their digits.
      temperature: `[...]` of the stream, in the units of the reward; 0 while the stream is empty.
    """

    item: Any
    reward: Array
    noise: Array
    temperature: Array


@_checks.keyword_only("dtype")
def reservoir_init(example_item: Any, *, dtype: Any = None) -> Reservoir:
    """The state of an empty stream.

    Args:
      example_item: pytree of arrays or numbers with the shapes and dtypes of one item; values
        unused.
      dtype: of the rewards and the noise, static: float32 or float64; half precision becomes
        float32. Default: the default float dtype.

    Returns:
      A `Reservoir` of batch shape `()`.

    Raises:
      TypeError: `dtype` is not a floating dtype, or a leaf of the item is no array.
      ValueError: `dtype` is float64 while 64-bit types are off.

    Numerics: exact; the state is zeros and `-inf`.
    Source: derived here: the maximum over no candidates.

    Example:
      >>> state = sb.reservoir_init({"tokens": jnp.zeros(3, jnp.int32)}, dtype=jnp.float32)
      >>> float(state.reward), state.item["tokens"].shape
      (-inf, (3,))
    """
    asked, dtype = dtype, _checks.float_dtype(dtype)
    if asked is not None and jnp.finfo(asked).bits > jnp.finfo(dtype).bits:
        raise ValueError(f"dtype must be float32, or float64 with 64-bit types on, got {asked}")
    empty = jnp.full((), -jnp.inf, dtype)
    example_item = _checks.leaves("example_item", example_item)
    return Reservoir(jax.tree.map(jnp.zeros_like, example_item), empty, empty, jnp.zeros((), dtype))


@_checks.keyword_only("where")
def reservoir_update(
    key: Array, state: Reservoir, items: Any, rewards: Any, temperature: Any, *, where: Any = None
) -> Reservoir:
    """The state after a further batch of candidates.

    After any sequence of updates the item is candidate i of all those seen with probability
    softmax(rewards / temperature)_i, however they were batched.

    Args:
      key: a typed PRNG key, traced; consumed. A fresh one for every batch.
      state: of one stream, batch shape `()`, traced; map over it with `vmap` for several.
      items: pytree like the example item, with a leading axis of b >= 1 candidates, traced.
      rewards: `[b]` real, traced, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar, at least 0, traced; the same for all batches of a stream. 0 keeps the
        largest reward, uniformly among exact ties; `inf` keeps any candidate with equal
        probability.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate. A batch without
        candidates changes nothing.

    Returns:
      The new `Reservoir`. Under tracing its reward is NaN, permanently, if a candidate's reward is
      NaN or `+inf`, the temperature is NaN or negative, or it differs from that of the stream.

    Raises:
      TypeError: `key` is not a typed key, or an argument is not real.
      ValueError: shapes or dtypes do not match the state (float64 rewards in a float32 state), or,
        when the values are concrete, one of the cases above that give NaN under tracing.

    Numerics: computed in the state's dtype, so half-precision rewards in float32. Always with the
    fine noise of long streams (two random words a candidate in float32): the law does not depend on
    the batching.
    Source: arXiv:2505.03156 (the sampler); derived here: the maximum of a union is the larger of
    the two maxima.

    Example:
      >>> state = sb.reservoir_init(jnp.int32(0), dtype=jnp.float32)
      >>> for key, batch in zip(jax.random.split(jax.random.key(0)), ([0, 1], [2, 3, 4])):
      ...     scores = jnp.float32([0.3, 0.1, 0.9, 0.4, 0.7])[jnp.array(batch)]
      ...     state = sb.reservoir_update(key, state, jnp.int32(batch), scores, 0.0)
      >>> int(state.item), round(float(state.reward), 2)
      (2, 0.9)
    """
    _checks.key(key)
    state = _checked_state("state", state)
    dtype = state.reward.dtype
    rewards = _checks.as_float("rewards", rewards)
    if rewards.ndim != 1 or rewards.size == 0 or state.reward.ndim != 0:
        raise ValueError(
            "rewards must be [b] with b >= 1 and the state that of one stream, got rewards"
            f" {rewards.shape} and a state {state.reward.shape}; use vmap for several streams"
        )
    if jnp.finfo(rewards.dtype).bits > jnp.finfo(dtype).bits:
        raise ValueError(f"rewards are {rewards.dtype}, the reservoir {dtype}: make it with dtype=")
    if where is not None:
        where = _checks.mask(where, rewards.shape)
    items = _checks.leaves("items", items)
    expected = jax.tree.map(lambda x: (x.dtype, (rewards.size, *x.shape)), state.item)
    if signature(items) != expected:
        raise ValueError(f"items must be {expected} (dtype, shape), got {signature(items)}")
    temperature = _checks.temperature(temperature, dtype)
    if temperature.ndim != 0:
        raise ValueError(f"temperature must be a scalar, got shape {temperature.shape}")
    rewards = rewards.astype(dtype)
    after = _update(key, state, items, rewards, temperature, where)
    value = _checks.concrete(after.reward)
    if value is not None and np.isnan(value):
        _explain(state, rewards, temperature, where)
    return after


def reservoir_merge(a: Reservoir, b: Reservoir) -> Reservoir:
    """The state of two streams together.

    Associative and commutative (except for exact ties of float noise), so it serves as a reduction
    over devices: gather the states and fold them with this function.

    Args:
      a: a `Reservoir` of batch shape `[...]`, traced.
      b: another of the same shapes and dtypes, made with different keys and the same temperature.

    Returns:
      The merged `Reservoir`. Under tracing its reward is NaN where either one's is, and where both
      hold an item and their temperatures differ.

    Raises:
      ValueError: shapes or dtypes differ, or the values are concrete and the temperatures differ.

    Numerics: rewards are compared by (r_a - r_b)/λ + noise_a - noise_b, good to the dtype's
    epsilon.
    Source: derived here, as `reservoir_update`.

    Example:
      >>> empty = sb.reservoir_init(jnp.int32(0), dtype=jnp.float32)
      >>> a, b = (
      ...     sb.reservoir_update(jax.random.key(i), empty, jnp.int32([i]), jnp.float32([i]), 0.0)
      ...     for i in (3, 5)
      ... )
      >>> int(sb.reservoir_merge(a, b).item)
      5
    """
    a, b = _checked_state("a", a), _checked_state("b", b)
    if signature(a) != signature(b):
        raise ValueError(
            f"the states do not match: a is {signature(a)}, b is {signature(b)} (dtype, shape)"
        )
    merged = _merge(a, b)
    rewards = [_checks.concrete(x.reward) for x in (merged, a, b)]
    spoiled = [np.isnan(x) for x in rewards if x is not None]
    if len(spoiled) == 3 and (spoiled[0] > spoiled[1] | spoiled[2]).any():
        raise ValueError(
            f"temperature must be that of the other stream, got {a.temperature} and {b.temperature}"
        )
    return merged


def _checked_state(name: str, x: Any) -> Reservoir:
    """A reservoir with every leaf as a JAX array; TypeError for anything else."""
    _checks.instance(name, x, Reservoir)
    return _checks.leaves(name, x)


def signature(tree: Any) -> Any:
    """The (dtype, shape) of every leaf of a pytree, in its place."""
    return jax.tree.map(lambda x: (x.dtype, x.shape), tree)


def _explain(state: Reservoir, rewards: Array, temperature: Array, where: Array | None) -> None:
    """Raise `ValueError` for a concrete update whose reward came out NaN."""
    explain_rewards(rewards, where)
    if not np.isnan(state.reward):
        raise ValueError(
            f"temperature must be that of the stream, {state.temperature}, got {temperature}"
        )
    raise ValueError("state.reward must not be NaN: an earlier batch was not valid")


@jax.jit
def _update(
    key: Array,
    state: Reservoir,
    items: Any,
    rewards: Array,
    temperature: Array,
    where: Array | None,
) -> Reservoir:
    chex.assert_rank([rewards, temperature, state.reward], [1, 0, 0])
    chex.assert_type([rewards, temperature], state.reward.dtype)
    rewards = masked(rewards, where)
    logits, can_win, _ = scaled(rewards, temperature[None])
    noise = _noise.gumbel(key, rewards.shape, rewards.dtype, one_word=False)
    index = argmax(jnp.where(can_win, logits + noise, -jnp.inf))
    # A batch without candidates is valid; NaN is not below inf.
    valid = (jnp.max(rewards) < jnp.inf) & (temperature >= 0)
    batch = Reservoir(
        jax.tree.map(lambda x: x[index], items),
        jnp.where(valid, rewards[index], jnp.nan),
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
