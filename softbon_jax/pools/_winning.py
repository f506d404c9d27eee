"""The mean, over all subsets of n candidates, of how often the selected one beats others not in it."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from softbon_jax.pools import _sorted, _unbiased
from softbon_jax.pools._sorted import Pool


def elements(slots: int, count: int, work: _unbiased.Work | None) -> int:
    """The array elements that a kernel of one pool needs at a time; without work at temperature 0."""
    if work is None:
        return 10 * count * slots + 16 * slots
    return _unbiased.elements(slots, count, work) + 4 * work.largest * slots


def _left(pool: Pool, n: Array, against: int) -> Array:
    """N - n, NaN where fewer than `against` are left."""
    left = pool.float_size - n
    return jnp.where(left >= against, left, jnp.nan)


def soft(pool: Pool, n: Array, temperature: Array, work: _unbiased.Work, *, against: int) -> Array:
    """`[M]`, for a temperature in (0, inf).

    Among candidates that tie, any strict order gives the same mean over S, since their p are equal. One
    that ties with τ of the others comes before them in 1/(1 + τ) of these orders.
    """
    (total,) = _unbiased.soft_sum(pool, n, temperature, work, against=(against,))
    return of_sum(pool, n, total, against=against)


def of_sum(pool: Pool, n: Array, total: Array, *, against: int) -> Array:
    """NaN where too few are left to be beaten."""
    return total + 0.0 * _left(pool, n, against)


def hard(pool: Pool, n: Array, *, against: int) -> Array:
    """`[M]`, at temperature 0.

    With m = `against`, B worse and G tied, X = B + G + 1 and s of the tied in S, the win over m is

      Σ_s C(G, s) C(B, n-s) [C(X-n, m+1) - C(B-n+s, m+1)]/(G-s+1)
        = 1/(G+1) Σ_{B <= y < X} C(y, n-1) [C(X-n, m+1) - C(y-n+1, m+1) C(B, m+1)/C(y, m+1)]

    over C(N, n) C(N-n, m): the sum over τ in the brackets, and C(G, s)/(G-s+1) = C(G+1, s)/(G+1).
    """
    slots, dtype = pool.rewards.shape[0], pool.rewards.dtype
    size, left, top = pool.float_size, _left(pool, n, against), slots + 1
    below, tied = (jnp.where(pool.present, x, 1.0).astype(jnp.int32) for x in _sorted.ranks(pool))
    rank = jnp.arange(1, top, dtype=jnp.int32) - (pool.size - below - tied)  # among the tied
    more = jnp.full_like(n, against + 1)
    of_all = _unbiased.subset_shares(size, more[:1], top, dtype)[0]
    of_rest = _unbiased.subset_shares(left + 1, more, top, dtype)
    chosen = _unbiased.subset_shares(size + 1, n, top, dtype) * n[:, None]
    number = n.astype(jnp.int32)[:, None]

    def rest(x: Array) -> Array:
        return jnp.take_along_axis(of_rest, jnp.clip(x[None] - number, 0, top), axis=1)

    def summand(y: Array) -> Array:
        """`[M, N]`."""
        y = jnp.clip(y, 0, slots)
        share = jnp.where(of_all[y] > 0, of_all[below] / of_all[y], 0.0)
        won = rest(below + tied + 1) - rest(y + 1) * share[None]
        return chosen[:, y + 1] / (y + 1).astype(dtype)[None] * won

    both = summand(below + rank) + jnp.where(rank == 1, 1.0, 0.0)[None] * summand(below)
    both = jnp.where(pool.present[None], both / (tied + 1).astype(dtype)[None], 0.0)
    return jnp.sum(both, axis=1) * (size + 1) / (against + 1) + 0.0 * left


def base(pool: Pool, n: Array, *, against: int) -> Array:
    """`[M]`, at temperature inf: any of `against` + 1 fresh draws is the best as often."""
    return 1 / (against + 1) + 0.0 * _left(pool, n, against)
