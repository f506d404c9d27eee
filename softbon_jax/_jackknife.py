"""KL of the empirical law of a pool, and the same with its bias reduced by the jackknife."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from softbon_jax import _numerics
from softbon_jax._subsets import Pool, over_tiles, quadrature

Array = jax.Array


def soft_kl(pool: Pool, n: Array, temperature: Array, nodes: int) -> tuple[Array, Array]:
    """KL(P_n‖P) `[M]` of the empirical law for a temperature in (0, inf), plain and reduced.

    P_n(x) = (n/N) Σ_q weight z e^{-z} φ^{n-1} with z = t w(x). Without candidate i, φ loses its
    e^{-z_i}, and the laws of all N pools of N - 1 candidates are one matrix product.
    """
    dtype = pool.rewards.dtype
    there = jnp.arange(pool.rewards.shape[0], dtype=jnp.int32) < pool.size
    log_total = jax.lax.stop_gradient(jnp.log(jnp.max(n, initial=1.0)))[None]
    points = quadrature(pool.rewards, temperature, log_total, nodes)
    lead = pool.rewards[points.lead][:, None]
    log_z = points.u[:, None] - (lead - pool.rewards[None]) / temperature
    z = jnp.exp(jnp.minimum(log_z, 30.0))
    x = jnp.where(there[None], jnp.exp(-z), 0.0)
    density = jnp.where(there[None], z * x, 0.0) * points.weight[:, None]
    total, size = jnp.sum(x, axis=1), pool.slots_used
    fewer = jnp.maximum(size - 1, 1)
    remaining = jnp.maximum(total[:, None] - x, 0.0) / fewer

    def at(n: Array) -> tuple[Array, Array]:
        def power(phi: Array) -> Array:
            return jnp.where(n > 1, jnp.exp((n - 1) * _numerics.safe_log(phi)), 1.0)

        def part(phi: Array, density: Array) -> Array:
            return power(phi).T @ density

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


def hard_kl(pool: Pool, n: Array) -> tuple[Array, Array]:
    """KL(P_n‖P) `[M]` of hard best-of-n from the empirical law, plain and reduced.

    Tied candidates are one outcome.
    """
    dtype = pool.rewards.dtype
    there = jnp.arange(pool.rewards.shape[0], dtype=jnp.int32) < pool.size
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
