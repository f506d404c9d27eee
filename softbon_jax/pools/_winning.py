"""The mean, over all subsets of n candidates, of how often the selected one beats one not in it."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from softbon_jax.pools import _sorted, _unbiased
from softbon_jax.pools._sorted import Pool


def _others(pool: Pool, n: Array) -> Array:
    """N - n, NaN where no candidate is left to be beaten."""
    left = pool.float_size - n
    return jnp.where(left > 0, left, jnp.nan)


def soft(pool: Pool, n: Array, temperature: Array, work: _unbiased.Work) -> Array:
    """`[M]`, for a temperature in (0, inf).

    The mean over S of Σ_i p_i(S) (b_i - b_i(S))/(N - n), where b_i candidates of the pool are worse
    than i, b_i(S) of them in S; ties count ½. Two in S that tie count as one worse than the other,
    because their p are equal.
    """
    below, tied = _sorted.ranks(pool)
    beaten = jnp.where(pool.present, below + (tied - 1) / 2, 0.0)
    total = _unbiased.soft_sum(pool._replace(values=beaten), n, temperature, work, outside=True)
    return total / _others(pool, n)


def hard(pool: Pool, n: Array) -> Array:
    """`[M]`, at temperature 0.

    Of n + 1 candidates the one left out is a best one as often as any other. It then costs ½ if others
    tie with it, else 1. With B worse and G tied, 1 less ½ Σ_i (C(B+G-1, n) + C(B, n))/((N-n) C(N, n)).
    """
    slots, dtype = pool.rewards.shape[0], pool.rewards.dtype
    shares = _unbiased.subset_shares(pool.float_size, n, slots, dtype)
    below, tied = (jnp.where(pool.present, x, 1.0).astype(jnp.int32) for x in _sorted.ranks(pool))
    both = shares[:, jnp.clip(below + tied - 1, 0, slots)] + shares[:, jnp.clip(below, 0, slots)]
    lost = jnp.sum(jnp.where(pool.present[None], both, 0.0), axis=1) / 2
    return 1 - lost / _others(pool, n)


def base(pool: Pool, n: Array) -> Array:
    """`[M]`, at temperature inf: a fresh draw against another."""
    return 0.5 + 0.0 * _others(pool, n)
