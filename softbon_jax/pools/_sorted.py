"""Sorted pools, the best candidate first: what all estimates start from."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Pools(NamedTuple):
    """What selects, what is averaged, and which candidates count; `[prompts, N]` or one prompt's."""

    rewards: Array
    values: Array
    where: Array

    @property
    def dtype(self) -> Any:
        """Of the estimates."""
        return jnp.promote_types(self.rewards.dtype, self.values.dtype)


class Pool(NamedTuple):
    """One pool of N slots, best candidate first and empty slots last.

    Attributes:
      rewards: `[N]`; an empty slot repeats the worst reward.
      values: `[N]` less `center`; 0 in empty slots.
      mean: scalar, the mean of the values.
      center: scalar, the value of the best: a sentinel of -1e9 among the others rounds nothing away.
      size: scalar integer, the number of candidates.
    """

    rewards: Array
    values: Array
    mean: Array
    center: Array
    size: Array

    @property
    def float_size(self) -> Array:
        """The size as a float."""
        return self.size.astype(self.rewards.dtype)

    @property
    def present(self) -> Array:
        """`[N]` bool, which slots hold a candidate."""
        return jnp.arange(self.rewards.shape[0], dtype=jnp.int32) < self.size


def sorted_rewards(xp: Any, rewards: Any, where: Any, order: Any = None) -> tuple[Any, Any]:
    """The order of the last axis, best first and empty slots last, and the rewards in it.

    With `xp` NumPy or JAX; both keep candidates that tie as they come.
    """
    if order is None:
        stable = {"kind": "stable"} if xp is np else {"stable": True}
        order = xp.argsort(xp.where(where, -rewards, xp.inf), axis=-1, **stable)
    worst = xp.min(xp.where(where, rewards, xp.inf), axis=-1, keepdims=True)
    return order, xp.take_along_axis(xp.where(where, rewards, worst), order, axis=-1)


def sorted_pool(pools: Pools, order: Array | None) -> Pool:
    """One prompt's pool out of arrays `[N]`, sorted here unless its order is known."""
    chex.assert_rank(pools, 1)
    chex.assert_equal_shape(pools)
    chex.assert_type(pools.where, bool)
    rewards, values = (
        jnp.where(pools.where, x.astype(pools.dtype), 0.0) for x in (pools.rewards, pools.values)
    )
    order, rewards = sorted_rewards(jnp, rewards, pools.where, order)
    present = pools.where[order]
    values = jnp.where(present, values[order], 0.0)
    size = jnp.sum(pools.where, dtype=jnp.int32)
    mean = jnp.sum(values) / size.astype(pools.dtype)
    center = values[0]
    return Pool(rewards, jnp.where(present, values - center, 0.0), mean, center, size)


def ranks(pool: Pool) -> tuple[Array, Array]:
    """For each candidate how many are worse and how many as good, itself included; `[N]` floats."""
    index = jnp.arange(pool.rewards.size, dtype=jnp.int32)
    new = jnp.concatenate([jnp.ones(1, bool), pool.rewards[1:] < pool.rewards[:-1]])
    begin = jax.lax.cummax(jnp.where(new, index, 0))
    group = jnp.cumsum(new) - 1
    tied = jax.ops.segment_sum(pool.present.astype(jnp.int32), group, index.size)[group]
    dtype = pool.rewards.dtype
    return (pool.size - begin - tied).astype(dtype), tied.astype(dtype)
