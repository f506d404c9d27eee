"""The empirical law of a pool: its value, its divergences, and these with their bias reduced.

With ρ = P_n/P and W = P*/P on the candidates, all three divergences are means over the candidates:
KL(P_n‖P) of ρ log ρ, KL(P*‖P) of W log W, KL(P*‖P_n) of W log(W/ρ).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax.pools._unbiased import Nodes, Pool, over_tiles, quadrature

Array = jax.Array


class Reduced(NamedTuple):
    """A divergence of the empirical law, plain, and less its bias by the jackknife; of one shape."""

    plain: Array
    reduced: Array


def _reduced(whole: Array, without: Array, there: Array, size: Array) -> Reduced:
    """Quenouille's N θ - (N-1) mean θ_{-i}; `without[i]` is θ_{-i}."""
    return Reduced(
        whole, size * whole - (size - 1) * jnp.sum(jnp.where(there, without, 0.0)) / size
    )


def _others(there: Array) -> Array:
    """Row i: who is left without candidate i; the last row: all."""
    return there[None] & ~jnp.eye(there.size + 1, there.size, dtype=bool)


def tilted_kl(pool: Pool, temperature: Array | None) -> Reduced:
    """KL(P*‖P), scalars; P given the best reward where the temperature is None."""
    counts = _others(_there(pool))
    size = _sizes(pool)
    log_tilt = _log_tilt(pool, counts, size, temperature)
    tilt = jnp.exp(log_tilt)
    kl = _mean_kl(tilt, jnp.where(tilt > 0, log_tilt, 0.0), counts, size)
    return _reduced(kl[-1], kl[:-1], _there(pool), pool.slots_used)


def _sizes(pool: Pool) -> Array:
    """Of the pools of `_others`, at least 1."""
    size = pool.slots_used
    fewer = jnp.full(pool.rewards.shape, jnp.maximum(size - 1, 1))
    return jnp.concatenate([fewer, size[None]])


def _log_tilt(pool: Pool, counts: Array, size: Array, temperature: Array | None) -> Array:
    """Log W `[rows, N]` of the pools `counts`; 0 where a candidate does not count."""
    # The best of a row is the first candidate that counts: the second without the first.
    best = pool.rewards[jnp.argmax(counts, axis=1)][:, None]
    if temperature is None:
        below = jnp.where(pool.rewards[None] == best, 0.0, -jnp.inf)
    else:
        below = (pool.rewards[None] - best) / temperature
    total = jnp.sum(jnp.where(counts, jnp.exp(below), 0.0), axis=1)
    log_tilt = below - jnp.log(jnp.where(total > 0, total / size, 1.0))[:, None]
    return jnp.where(counts, log_tilt, 0.0)


def soft_kl(pool: Pool, n: Array, temperature: Array, nodes: int) -> tuple[Reduced, Reduced]:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, for a temperature in (0, inf).

    P_n(x) = (n/N) Σ_q weight z e^{-z} φ^{n-1} with z = t w(x). Without candidate i, φ loses its
    e^{-z_i}, and the laws of all N pools of N - 1 candidates are one matrix product.
    """
    x, density, points = _points(pool, n, temperature, nodes)
    dtype, there, size = x.dtype, _there(pool), pool.slots_used
    total = jnp.sum(x, axis=1)
    remaining = jnp.maximum(total[:, None] - x, 0.0) / jnp.maximum(size - 1, 1)
    counts, sizes = _others(there), _sizes(pool)
    log_tilt = _log_tilt(pool, counts, sizes, temperature)
    tilt = jnp.exp(log_tilt)

    def at(n: Array) -> tuple[Reduced, Reduced]:
        def part(phi: Array, density: Array) -> Array:
            return _power(phi, n).T @ density

        phi = jnp.concatenate([remaining, (total / size)[:, None]], axis=1)
        zero = jnp.zeros((phi.shape[1], density.shape[1]), dtype)
        ratios = n * over_tiles(part, (phi, density), points.weight, zero)
        return _two_kls(ratios, log_tilt, tilt, counts, sizes, there)

    poison = jnp.where(points.resolved, 0.0, jnp.nan).astype(dtype)
    return jax.tree.map(lambda x: x + poison, jax.lax.map(at, n))


def _two_kls(
    ratio: Array, log_tilt: Array, tilt: Array, counts: Array, sizes: Array, there: Array
) -> tuple[Reduced, Reduced]:
    """KL(P_n‖P) and KL(P*‖P_n), scalars, from ρ, log W and W of the pools of `_others`."""
    log_ratio = jnp.log(jnp.where(ratio > 0, ratio, 1.0))
    parts = (
        _mean_kl(ratio, log_ratio, counts, sizes),
        _mean_kl_from(tilt, log_tilt, ratio, log_ratio, counts, sizes),
    )
    base, tilted = (_reduced(kl[-1], kl[:-1], there, sizes[-1]) for kl in parts)
    return base, tilted


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
    return jnp.where(n > 1, jnp.exp((n - 1) * _special.safe_log(phi)), 1.0)


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


def hard_kl(pool: Pool, n: Array) -> tuple[Reduced, Reduced]:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, for hard best-of-n; P* is P given the best reward.

    Tied candidates are one outcome.
    """
    dtype = pool.rewards.dtype
    there = _there(pool)
    counts, sizes = _others(there), _sizes(pool)
    # Row i, column x: how many of the pool without candidate i are worse than x, or as good.
    below = _without(jnp.less(pool.rewards[:, None], pool.rewards[None]) & there[:, None], dtype)
    tied = _without(jnp.equal(pool.rewards[:, None], pool.rewards[None]) & there[:, None], dtype)
    tied = jnp.where(counts, tied, 1.0)
    log_tilt = _log_tilt(pool, counts, sizes, None)
    tilt = jnp.exp(log_tilt)

    def at(n: Array) -> tuple[Reduced, Reduced]:
        size = sizes[:, None]
        share = ((below + tied) / size) ** n - (below / size) ** n
        return _two_kls(share * size / tied, log_tilt, tilt, counts, sizes, there)

    return jax.lax.map(at, n)


def _without(marks: Array, dtype: Any) -> Array:
    """Sums over the rows of `marks`, without each of them in turn and, last, with all."""
    marks = marks.astype(dtype)
    total = jnp.sum(marks, axis=0)[None]
    return jnp.concatenate([total - marks, total])


def _mean_kl_from(
    tilt: Array, log_tilt: Array, ratio: Array, log_ratio: Array, counts: Array, size: Array
) -> Array:
    """Σ W log(W/ρ) - W + ρ over the candidates that count, divided by `size`: terms >= 0."""
    known = counts & (ratio > 0) & (tilt > 0)
    log_excess = jnp.where(known, log_ratio - log_tilt, 0.0)
    # ρ/W near 1: by ρ/W - 1, which keeps the digits; else by logarithms, which do not overflow.
    near = known & (jnp.abs(log_excess) < _special.NEAR)
    delta = jnp.where(near, ratio, 1.0) / jnp.where(near, tilt, 1.0) - 1
    close = tilt * _special.ratio_minus_log(delta, log_excess)
    far = ratio - tilt - jnp.where(known, tilt * log_excess, 0.0)
    return jnp.sum(jnp.where(counts, jnp.where(near, close, far), 0.0), axis=-1) / size


def _mean_kl(ratio: Array, log_ratio: Array, counts: Array, size: Array) -> Array:
    """Σ ρ log ρ - ρ + 1 over the candidates that count, divided by `size`: terms >= 0."""
    near = jnp.abs(ratio - 1) < 0.5
    delta = jnp.where(near, ratio - 1, 0.0)
    close = _special.ratio_log_ratio(delta, log_ratio)
    far = ratio * log_ratio - ratio + 1
    terms = jnp.where(near, close, far)
    return jnp.sum(jnp.where(counts, terms, 0.0), axis=-1) / size
