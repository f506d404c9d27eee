"""How often each answer has the largest total, or mean, weight in random subsets of a pool."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from softbon_jax import _loops

Array = jax.Array

TOGETHER = 2**16
"""How many numbers the largest array of a chunk of subsets has."""


def elements(slots: int, count: int, num_classes: int, subsets: int) -> int:
    """The array elements that a pool needs at a time."""
    wide = max(slots, 2 * num_classes)
    return 4 * count * wide * chunk_of(slots, count, num_classes, subsets) + 6 * slots * num_classes


def chunk_of(slots: int, count: int, num_classes: int, subsets: int) -> int:
    """How many subsets are worked on together."""
    return min(subsets, max(1, TOGETHER // (count * max(slots, 2 * num_classes))))


def weighted_votes(
    key: Array,
    answers: Array,
    weights: Array,
    where: Array,
    n: Array,
    *,
    subsets: int,
    num_classes: int,
    by_mean: bool = False,
) -> tuple[Array, Array]:
    """The mean and its standard error, each `[M, classes]`, for one pool `[N]`, n from 1 to N.

    Subset b has the n candidates with the smallest of the numbers that `fold_in(key, b)` draws for all,
    so that it does not depend on how many subsets are worked on together.
    """
    slots, dtype = answers.size, weights.dtype
    chunk = chunk_of(slots, n.size, num_classes, subsets)
    own = (answers[:, None] == jnp.arange(num_classes, dtype=answers.dtype)[None]) & where[:, None]
    scaled = jnp.where(where, weights, 0.0) / 2.0 ** math.ceil(math.log2(slots))  # sums are finite
    own_and_weight = jnp.concatenate(
        [own.astype(dtype), jnp.where(own, scaled[:, None], 0.0)], axis=1
    )
    rounding = 1 - slots * jnp.finfo(dtype).eps

    low = (1 << math.ceil(math.log2(slots))) - 1
    candidate = jnp.arange(slots, dtype=jnp.uint32)

    def numbers(index: Array) -> Array:
        """Random numbers for the candidates, no two alike; the absent have the largest."""
        bits = jax.random.bits(jax.random.fold_in(key, index), (slots + 1,), jnp.uint32)
        # The low bits tell candidates apart; flipped at random, they prefer none of two.
        last = candidate ^ (bits[-1] & jnp.uint32(low))
        return jnp.where(where, (bits[:-1] & jnp.uint32(2**31 - 1 - low)) | last, jnp.uint32(2**31))

    def add(sums: tuple[Array, Array], first: Array) -> tuple[tuple[Array, Array], None]:
        index = first + jnp.arange(chunk, dtype=jnp.int32)
        drawn = jax.vmap(numbers)(index)
        last = jnp.sort(drawn, axis=1)[:, n - 1]
        members = (drawn[:, None] <= last[:, :, None]).astype(dtype)
        both = jnp.matmul(members, own_and_weight, precision="highest")
        votes, totals = jnp.split(both, 2, axis=2)
        if by_mean:
            totals = totals / jnp.maximum(votes, 1.0)
        totals = jnp.where(votes > 0, totals, -1.0)
        won = (totals >= rounding * jnp.max(totals, axis=2, keepdims=True)).astype(dtype)
        share = won / jnp.sum(won, axis=2, keepdims=True)
        share = jnp.where((index < subsets)[:, None, None], share, 0.0)
        return (sums[0] + jnp.sum(share, axis=0), sums[1] + jnp.sum(share**2, axis=0)), None

    zero = jnp.zeros((n.size, num_classes), dtype)
    (total, square), _ = _loops.scan(
        add, (zero, zero), jnp.arange(0, subsets, chunk, dtype=jnp.int32)
    )
    mean = total / subsets
    spread = jnp.sqrt(jnp.maximum(subsets * square - total**2, 0.0)) / subsets
    return mean, spread / math.sqrt(subsets - 1) if subsets > 1 else jnp.full_like(mean, jnp.nan)
