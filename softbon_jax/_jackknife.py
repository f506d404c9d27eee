"""The empirical law of a pool: its value, its KL, and the KL with its bias reduced by the jackknife."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from softbon_jax import _numerics
from softbon_jax._subsets import Nodes, Pool, over_tiles, quadrature

Array = jax.Array


def soft_kl(pool: Pool, n: Array, temperature: Array, nodes: int) -> tuple[Array, Array]:
    """KL(P_n‖P) `[M]` of the empirical law for a temperature in (0, inf), plain and reduced.

    P_n(x) = (n/N) Σ_q weight z e^{-z} φ^{n-1} with z = t w(x). Without candidate i, φ loses its
    e^{-z_i}, and the laws of all N pools of N - 1 candidates are one matrix product.
    """
    x, density, points = _points(pool, n, temperature, nodes)
    dtype, there, size = x.dtype, _there(pool), pool.slots_used
    total = jnp.sum(x, axis=1)
    fewer = jnp.maximum(size - 1, 1)
    remaining = jnp.maximum(total[:, None] - x, 0.0) / fewer

    def at(n: Array) -> tuple[Array, Array]:
        def part(phi: Array, density: Array) -> Array:
            return _power(phi, n).T @ density

        # The last row: the whole pool. Row i: the pool without candidate i.
        phi = jnp.concatenate([remaining, (total / size)[:, None]], axis=1)
        zero = jnp.zeros((phi.shape[1], density.shape[1]), dtype)
        ratios = n * over_tiles(part, (phi, density), points.weight, zero)
        whole = _mean_kl(ratios[-1], there, size)
        others = there[None] & ~jnp.eye(there.size, dtype=bool)
        without = jnp.where(there, _mean_kl(ratios[:-1], others, fewer), 0.0)
        return whole, size * whole - (size - 1) * jnp.sum(without) / size

    plain, reduced = jax.lax.map(at, n)
    poison = jnp.where(points.resolved, 0.0, jnp.nan).astype(dtype)
    return plain + poison, reduced + poison


def soft_plug_in(pool: Pool, n: Array, temperature: Array, nodes: int) -> Array:
    """The expected value `[M]` of what is selected from the empirical law, 0 < temperature < inf."""
    x, density, points = _points(pool, n, temperature, nodes)
    phi = jnp.sum(x, axis=1, keepdims=True) / pool.slots_used
    ratios = n[:, None] * (_power(phi, n[None]).T @ density)
    total = ratios @ pool.values / pool.slots_used
    return jnp.where(points.resolved, total, jnp.nan)


def hard_plug_in(pool: Pool, n: Array) -> Array:
    """The expected value `[M]` of the best of n draws from the empirical law."""
    there, size, dtype = _there(pool), pool.slots_used, pool.rewards.dtype
    lower = (pool.rewards[None] < pool.rewards[:, None]) & there[None]
    same = (pool.rewards[None] == pool.rewards[:, None]) & there[None]
    below, tied = (jnp.sum(x, axis=1).astype(dtype)[None] for x in (lower, same))
    n = n[:, None]
    share = ((below + tied) / size) ** n - (below / size) ** n
    return (share / jnp.maximum(tied, 1.0)) @ jnp.where(there, pool.values, 0.0)


def _there(pool: Pool) -> Array:
    return jnp.arange(pool.rewards.shape[0], dtype=jnp.int32) < pool.size


def _power(phi: Array, n: Array) -> Array:
    """φ^{n-1}, 1 at n = 1."""
    return jnp.where(n > 1, jnp.exp((n - 1) * _numerics.safe_log(phi)), 1.0)


def _points(pool: Pool, n: Array, temperature: Array, nodes: int) -> tuple[Array, Array, Nodes]:
    """E^{-tw} and weight · tw e^{-tw} on points × candidates, and the points."""
    there = _there(pool)[None]
    log_total = jax.lax.stop_gradient(jnp.log(jnp.max(n, initial=1.0)))[None]
    points = quadrature(pool.rewards, temperature, log_total, nodes)
    lead = pool.rewards[points.lead][:, None]
    log_z = points.u[:, None] - (lead - pool.rewards[None]) / temperature
    z = jnp.exp(jnp.minimum(log_z, 30.0))
    x = jnp.where(there, jnp.exp(-z), 0.0)
    return x, jnp.where(there, z * x, 0.0) * points.weight[:, None], points


def hard_kl(pool: Pool, n: Array) -> tuple[Array, Array]:
    """KL(P_n‖P) `[M]` of hard best-of-n from the empirical law, plain and reduced.

    Tied candidates are one outcome.
    """
    dtype = pool.rewards.dtype
    there = _there(pool)
    lower = pool.rewards[None] < pool.rewards[:, None]  # [x, j]: j is worse than x
    same = pool.rewards[None] == pool.rewards[:, None]
    below = jnp.sum(lower & there[None], axis=1).astype(dtype)
    tied = jnp.sum(same & there[None], axis=1).astype(dtype)
    size = pool.slots_used
    fewer = jnp.maximum(size - 1, 1)

    def at(n: Array) -> tuple[Array, Array]:
        def kl(below: Array, tied: Array, counts: Array, size: Array) -> Array:
            tied = jnp.where(counts, tied, 1.0)
            share = ((below + tied) / size) ** n - (below / size) ** n
            return _mean_kl(share * size / tied, counts, size)

        whole = kl(below, tied, there, size)
        others = there[None] & ~jnp.eye(there.size, dtype=bool)
        # Row i, column x: the counts of x without candidate i.
        less = (below[None] - lower.T.astype(dtype), tied[None] - same.T.astype(dtype))
        without = jnp.where(there, kl(*less, others, fewer), 0.0)
        return whole, size * whole - (size - 1) * jnp.sum(without) / size

    return jax.lax.map(at, n)


def _mean_kl(ratio: Array, counts: Array, size: Array) -> Array:
    """Σ ρ log ρ - ρ + 1 over the candidates that count, divided by `size`: terms >= 0."""
    near = jnp.abs(ratio - 1) < 0.5
    delta = jnp.where(near, ratio - 1, 0.0)
    positive = ratio > 0
    safe = jnp.where(positive, ratio, 1.0)
    far = jnp.where(positive, safe * jnp.log(safe) - safe + 1, 1.0)
    terms = jnp.where(near, _numerics.ratio_log_ratio(delta), far)
    return jnp.sum(jnp.where(counts, terms, 0.0), axis=-1) / size
