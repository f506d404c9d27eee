"""The empirical law of one pool: its value, its divergences, and these with their bias reduced.

With ρ = P_n/P and W = P*/P on the candidates, all three divergences are means over the candidates:
KL(P_n‖P) of ρ log ρ, KL(P*‖P) of W log W, KL(P*‖P_n) of W log(W/ρ).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _special
from softbon_jax.pools import _quadrature
from softbon_jax.pools._arguments import Request
from softbon_jax.pools._sorted import Pool

Array = jax.Array


def nodes_for(request: Request, temperature: float | None) -> int:
    """How many nodes a request needs at a temperature in (0, inf), rounded up; None is a traced one."""
    pools, n = request.presorted, request.known_n
    if request.nodes is not None:
        return request.nodes
    if pools is None or n is None or temperature is None:
        return _quadrature.DEFAULT_NODES
    return _quadrature.nodes_needed(pools.rewards, temperature, float(np.log(n.max())))


# The value ---------------------------------------------------------------------------------------


def soft_value(pool: Pool, n: Array, temperature: Array, nodes: int) -> Array:
    """`[M]`: the mean value under the law of soft best-of-n, 0 < temperature < inf."""
    at = _at_nodes(pool, n, temperature, nodes)
    phi = jnp.sum(at.decay, axis=1, keepdims=True) / pool.float_size
    ratios = n[:, None] * (_power(phi, n[None]).T @ at.density)
    total = ratios @ pool.values / pool.float_size
    return pool.mean + jnp.where(at.resolved, total, jnp.nan)


def hard_value(pool: Pool, n: Array) -> Array:
    """`[M]`: the mean value under the law of the best of n draws."""
    present, dtype = pool.present, pool.rewards.dtype
    lower = (pool.rewards[None] < pool.rewards[:, None]) & present[None]
    same = (pool.rewards[None] == pool.rewards[:, None]) & present[None]
    below, tied = (jnp.sum(x, axis=1).astype(dtype)[None] for x in (lower, same))
    n = n[:, None]
    share = ((below + tied) / pool.float_size) ** n - (below / pool.float_size) ** n
    return pool.mean + (share / jnp.maximum(tied, 1.0)) @ jnp.where(present, pool.values, 0.0)


class AtNodes(NamedTuple):
    """What the integrals are made of, `[Q, N]`: nodes by candidates.

    Attributes:
      decay: e^{-tw}, 0 in empty slots.
      density: weight · tw e^{-tw}.
      weight: `[Q]`.
      resolved: scalar, whether there are enough nodes.
    """

    decay: Array
    density: Array
    weight: Array
    resolved: Array


def _at_nodes(pool: Pool, n: Array, temperature: Array, nodes: int) -> AtNodes:
    chex.assert_rank([pool.rewards, n, temperature], [1, 1, 0])
    present = pool.present[None]
    log_total = jax.lax.stop_gradient(jnp.log(jnp.max(n, initial=1.0)))[None]
    at = _quadrature.quadrature(pool.rewards, temperature, log_total, nodes)
    lead = pool.rewards[at.lead][:, None]
    log_z = at.u[:, None] - (lead - pool.rewards[None]) / temperature
    z = jnp.exp(jnp.minimum(log_z, 30.0))
    decay = jnp.where(present, jnp.exp(-z), 0.0)
    density = jnp.where(present, z * decay, 0.0) * at.weight[:, None]
    return AtNodes(decay, density, at.weight, at.resolved)


def _power(phi: Array, n: Array) -> Array:
    """φ^{n-1}, 1 at n = 1."""
    return jnp.where(n > 1, jnp.exp((n - 1) * _special.safe_log(phi)), 1.0)


# The divergences ---------------------------------------------------------------------------------


class Divergence(NamedTuple):
    """A divergence of the empirical law, and the same less its bias by the jackknife; one shape."""

    plug_in: Array
    jackknifed: Array


class Selected(NamedTuple):
    """KL(P_n‖P) and KL(P*‖P_n)."""

    soft_base: Divergence
    tilted_soft: Divergence


class Rows(NamedTuple):
    """A pool without each of its candidates in turn and, in the last row, the whole pool.

    Attributes:
      members: `[N + 1, N]` bool, which candidates a row has.
      size: `[N + 1]` how many, at least 1, as a float.
      log_tilt: `[N + 1, N]` log W; 0 for who is not a member.
      tilt: `[N + 1, N]` W.
    """

    members: Array
    size: Array
    log_tilt: Array
    tilt: Array


def _rows(pool: Pool, temperature: Array | None) -> Rows:
    """At a temperature in (0, inf); where it is None, P* is P given the best reward."""
    slots, size = pool.rewards.size, pool.float_size
    members = pool.present[None] & ~jnp.eye(slots + 1, slots, dtype=bool)
    fewer = jnp.full(pool.rewards.shape, jnp.maximum(size - 1, 1))
    sizes = jnp.concatenate([fewer, size[None]])
    # The best of a row is its first member: the second candidate in the row without the first.
    best = pool.rewards[jnp.argmax(members, axis=1)][:, None]
    if temperature is None:
        below = jnp.where(pool.rewards[None] == best, 0.0, -jnp.inf).astype(size.dtype)
    else:
        below = (pool.rewards[None] - best) / temperature
    total = jnp.sum(jnp.where(members, jnp.exp(below), 0.0), axis=1)
    log_tilt = below - jnp.log(jnp.where(total > 0, total / sizes, 1.0))[:, None]
    log_tilt = jnp.where(members, log_tilt, 0.0)
    return Rows(members, sizes, log_tilt, jnp.exp(log_tilt))


def _jackknifed(of_rows: Array, pool: Pool) -> Divergence:
    """Quenouille's N θ - (N-1) mean θ_{-i}; `of_rows[i]` is θ_{-i}, the last one θ."""
    whole, size = of_rows[-1], pool.float_size
    without = jnp.sum(jnp.where(pool.present, of_rows[:-1], 0.0))
    return Divergence(whole, size * whole - (size - 1) * without / size)


def soft_tilted_kl(pool: Pool, temperature: Array) -> Divergence:
    """KL(P*‖P), scalars, for a temperature in (0, inf)."""
    return _tilted_kl(pool, temperature)


def hard_tilted_kl(pool: Pool) -> Divergence:
    """KL(P*‖P), scalars, at temperature 0: P* is P given the best reward."""
    return _tilted_kl(pool, None)


def _tilted_kl(pool: Pool, temperature: Array | None) -> Divergence:
    rows = _rows(pool, temperature)
    log_tilt = jnp.where(rows.tilt > 0, rows.log_tilt, 0.0)
    return _jackknifed(_kl_to_base(rows.tilt, log_tilt, rows), pool)


def soft_kl(pool: Pool, n: Array, temperature: Array, nodes: int) -> Selected:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, for a temperature in (0, inf).

    P_n(x) = (n/N) Σ_q weight z e^{-z} φ^{n-1} with z = t w(x). Without candidate i, φ loses its
    e^{-z_i}, and the laws of all N pools of N - 1 candidates are one matrix product.
    """
    at, size, rows = (
        _at_nodes(pool, n, temperature, nodes),
        pool.float_size,
        _rows(pool, temperature),
    )
    total = jnp.sum(at.decay, axis=1)
    remaining = jnp.maximum(total[:, None] - at.decay, 0.0) / jnp.maximum(size - 1, 1)

    def at_n(n: Array) -> Selected:
        def part(phi: Array, density: Array) -> Array:
            return _power(phi, n).T @ density

        phi = jnp.concatenate([remaining, (total / size)[:, None]], axis=1)
        zero = jnp.zeros((phi.shape[1], at.density.shape[1]), phi.dtype)
        ratio = n * _quadrature.over_tiles(part, (phi, at.density), at.weight, zero)
        return _selected(ratio, rows, pool)

    poison = jnp.where(at.resolved, 0.0, jnp.nan).astype(n.dtype)
    return jax.tree.map(lambda x: x + poison, jax.lax.map(at_n, n))


def hard_kl(pool: Pool, n: Array) -> Selected:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, for hard best-of-n; P* is P given the best reward.

    Tied candidates are one outcome.
    """
    rewards, present, rows = pool.rewards, pool.present, _rows(pool, None)
    # Row i, column x: how many of the pool without candidate i are worse than x, or as good.
    below = _without_each(jnp.less(rewards[:, None], rewards[None]) & present[:, None], n.dtype)
    tied = _without_each(jnp.equal(rewards[:, None], rewards[None]) & present[:, None], n.dtype)
    tied = jnp.where(rows.members, tied, 1.0)

    def at_n(n: Array) -> Selected:
        size = rows.size[:, None]
        share = ((below + tied) / size) ** n - (below / size) ** n
        return _selected(share * size / tied, rows, pool)

    return jax.lax.map(at_n, n)


def base_kl(pool: Pool, n: Array) -> Selected:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, without selection."""
    nothing = Divergence(jnp.zeros_like(n), jnp.zeros_like(n))
    return Selected(nothing, nothing)


def _without_each(marks: Array, dtype: Any) -> Array:
    """Sums over the rows of `marks`, without each of them in turn and, last, with all."""
    marks = marks.astype(dtype)
    total = jnp.sum(marks, axis=0)[None]
    return jnp.concatenate([total - marks, total])


def _selected(ratio: Array, rows: Rows, pool: Pool) -> Selected:
    """KL(P_n‖P) and KL(P*‖P_n), scalars, from ρ `[N + 1, N]`."""
    log_ratio = jnp.log(jnp.where(ratio > 0, ratio, 1.0))
    return Selected(
        _jackknifed(_kl_to_base(ratio, log_ratio, rows), pool),
        _jackknifed(_kl_from_tilted(ratio, log_ratio, rows), pool),
    )


# As `exact.both_ways`, but row by row, over members only, and with uniform P.


def _kl_to_base(ratio: Array, log_ratio: Array, rows: Rows) -> Array:
    """Σ ρ log ρ - ρ + 1 over the members, divided by their number: terms >= 0."""
    near = jnp.abs(ratio - 1) < 0.5
    delta = jnp.where(near, ratio - 1, 0.0)
    close = _special.ratio_log_ratio(delta, log_ratio)
    far = ratio * log_ratio - ratio + 1
    terms = jnp.where(near, close, far)
    return jnp.sum(jnp.where(rows.members, terms, 0.0), axis=-1) / rows.size


def _kl_from_tilted(ratio: Array, log_ratio: Array, rows: Rows) -> Array:
    """Σ W log(W/ρ) - W + ρ over the members, divided by their number: terms >= 0."""
    tilt = rows.tilt
    known = rows.members & (ratio > 0) & (tilt > 0)
    log_excess = jnp.where(known, log_ratio - rows.log_tilt, 0.0)
    # ρ/W near 1: by ρ/W - 1, which keeps the digits; else by logarithms, which do not overflow.
    near = known & (jnp.abs(log_excess) < _special.NEAR)
    delta = jnp.where(near, ratio, 1.0) / jnp.where(near, tilt, 1.0) - 1
    close = tilt * _special.ratio_minus_log(delta, log_excess)
    far = ratio - tilt - jnp.where(known, tilt * log_excess, 0.0)
    terms = jnp.where(near, close, far)
    return jnp.sum(jnp.where(rows.members, terms, 0.0), axis=-1) / rows.size
