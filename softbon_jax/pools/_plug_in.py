"""The mean value under the law of soft best-of-n whose base law is one pool of candidates."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _special
from softbon_jax.pools import _quadrature, _sorted
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


def elements(slots: int, count: int, nodes: int | None) -> int:
    """The array elements that a kernel of one pool needs at a time; without nodes at temperature 0."""
    if nodes is None:
        return 6 * count * slots + 16 * slots
    return (nodes + 8) * (4 * slots + 2 * count) + 2 * count * slots


def soft_value(pool: Pool, n: Array, temperature: Array, nodes: int) -> Array:
    """`[M]`: the mean value under the law of soft best-of-n, 0 < temperature < inf."""
    at = _at_nodes(pool, n, temperature, nodes)
    phi = jnp.sum(at.decay, axis=1, keepdims=True) / pool.float_size
    ratios = n[:, None] * (power(phi, n[None]).T @ at.density)
    total = ratios @ pool.values / pool.float_size
    return pool.center + jnp.where(at.resolved, total, jnp.nan)


def hard_value(pool: Pool, n: Array) -> Array:
    """`[M]`: the mean value under the law of the best of n draws."""
    below, tied = (x[None] for x in _sorted.ranks(pool))
    n = n[:, None]
    share = ((below + tied) / pool.float_size) ** n - (below / pool.float_size) ** n
    return pool.center + (share / tied) @ pool.values


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


def power(phi: Array, n: Array) -> Array:
    """φ^{n-1}, 1 at n = 1."""
    return jnp.where(n > 1, jnp.exp((n - 1) * _special.safe_log(phi)), 1.0)
