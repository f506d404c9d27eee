"""Quadrature in u = log t for integrals of sums of e^{-t w} over a sorted pool of candidates.

Written for the temperature in (0, inf) and w = e^{r/λ}. The nodes follow the candidates, best first:
between two of very different weight the integrand is linear in t, and no nodes are spent on it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _loops

Array = jax.Array


class Constants(NamedTuple):
    """The quadrature in u = log t for one float dtype.

    Attributes:
      spacing: h, the step in u; the trapezoid sum is off by about exp(-π²/h).
      first: at t Σw = e^first and below, the integrand is a polynomial in t.
      left: at t w = e^-left of the best remaining candidate, the integrand is linear in t.
      right: at t w = e^right nothing is left of a candidate.
      idle: at t w = e^-idle a candidate counts as a member of a subset, but has no weight.
      degree: number of Gauss nodes for the polynomial.
      tile: number of nodes that are evaluated together; at high temperatures there are about 40, or 28.
    """

    spacing: float
    first: float
    left: float
    right: float
    idle: float
    degree: int
    tile: int


def constants_for(dtype: Any) -> Constants:
    """The constants that reach the precision of `dtype`."""
    if jnp.finfo(dtype).bits >= 64:
        return Constants(0.28, 1.0, 20.0, 3.75, 37.0, 8, 48)
    return Constants(0.5, 1.0, 12.0, 3.0, 18.0, 5, 32)


MOST_IN_TILE = constants_for(float).tile
"""Nodes of a tile in float64."""

DEFAULT_NODES = 512
"""Number of nodes where rewards or temperature are traced and none is given."""


def nodes_needed(rewards: np.ndarray, temperature: float, log_total: Any) -> int:
    """How many nodes `quadrature` uses for sorted pools `[prompts, N]`, rounded up.

    The `log_total` is a number or `[prompts, 1]`.
    """
    totals = np.broadcast_to(log_total, (len(rewards), 1))
    with np.errstate(over="ignore"):
        parts = clusters(
            np, constants_for(rewards.dtype), rewards.astype(np.float64), temperature, totals
        )
    return rounded_up(int(parts.stop[:, -1].max()))


def rounded_up(size: int) -> int:
    """`size` rounded up to 128·8^i: few sizes, so few compilations."""
    bucket = 128
    while bucket < size:
        bucket *= 8
    return bucket


@functools.cache
def geometric_gauss(spacing: float, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights for the measure h Σ_{i>=0} q^i δ(q^i), q = e^-h, on (0, 1].

    They replace all nodes of the trapezoid sum from t = 1 down to 0 and are exact for t times a
    polynomial of degree 2·degree - 1. Lanczos' method on the measure itself.
    """
    atoms = np.exp(-spacing * np.arange(math.ceil(45 / spacing)))
    mass = spacing * atoms
    basis = [np.sqrt(mass / mass.sum())]
    diagonal, beside = [], []
    for _ in range(degree):
        diagonal.append(basis[-1] @ (atoms * basis[-1]))
        rest = atoms * basis[-1]
        for _ in range(2):  # twice, against rounding
            for known in basis:
                rest = rest - (known @ rest) * known
        beside.append(np.linalg.norm(rest))
        basis.append(rest / beside[-1])
    jacobi = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    nodes, vectors = np.linalg.eigh(jacobi)
    return nodes, mass.sum() * vectors[0] ** 2


class Clusters(NamedTuple):
    """For each candidate, best first, where its part of the nodes begins and ends.

    A candidate more than left + right below the one before it starts a cluster, whose nodes are
    counted from its own weight, so that offsets are small numbers however small the temperature is.
    Arrays `[..., N]`.

    Attributes:
      lead: index of the first candidate of the cluster.
      start: u of the first node of the cluster, relative to -log w of its first candidate.
      distance: to the last node of the previous cluster, where a cluster begins; else meaningless.
      stop: number of nodes up to and including this candidate's, as a float.
      begin: number of nodes before the cluster, as a float.
    """

    lead: Any
    start: Any
    distance: Any
    stop: Any
    begin: Any


def clusters(
    xp: Any, constants: Constants, rewards: Any, temperature: Any, log_total: Any
) -> Clusters:
    """The clusters of sorted pools `[..., N]` with log Σw `log_total` `[..., 1]`; `xp` NumPy or JAX."""
    index = xp.broadcast_to(xp.arange(rewards.shape[-1], dtype=np.int32), rewards.shape)
    step = (rewards[..., :-1] - rewards[..., 1:]) / temperature
    step = xp.concatenate([xp.full_like(rewards[..., :1], xp.inf), step], axis=-1)
    new = step > constants.left + constants.right
    lead = xp.where(new, index, 0)
    lead = np.maximum.accumulate(lead, -1) if xp is np else jax.lax.cummax(lead, axis=lead.ndim - 1)
    below = (xp.take_along_axis(rewards, lead, axis=-1) - rewards) / temperature
    start = xp.where(lead == 0, constants.first - log_total + constants.spacing, -constants.left)
    own = xp.floor((below + constants.right - start) / constants.spacing) + 1
    last = start + constants.spacing * (own - 1) - below  # relative to the candidate's own -log w

    def previous(x: Any) -> Any:
        return xp.concatenate([xp.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)

    stop = xp.cumsum(own - xp.where(new, 0.0, previous(own)), axis=-1)
    begin = xp.take_along_axis(previous(stop), lead, axis=-1)
    return Clusters(lead, start, step - constants.left - previous(last), stop, begin)


class Nodes(NamedTuple):
    """Quadrature nodes `[Q]`.

    Attributes:
      first: the best candidate with t w <= e^right; nothing is left of those before it.
      lead: the candidate whose log w is added to log t in `u`.
      u: log t + log w of the lead.
      weight: of t times the integrand, in the sum; 0 for nodes that are not needed.
      resolved: scalar, whether Q was enough.
    """

    first: Array
    lead: Array
    u: Array
    weight: Array
    resolved: Array


def quadrature(rewards: Array, temperature: Array, log_total: Array, nodes: int) -> Nodes:
    """The nodes for one sorted pool `[N]`; a constant to differentiation.

    No sum of weights that occurs in the integrand may have a logarithm above `log_total` `[1]`.
    """
    rewards, temperature, log_total = jax.lax.stop_gradient((rewards, temperature, log_total))
    constants = constants_for(rewards.dtype)
    h, dtype = constants.spacing, rewards.dtype
    parts = clusters(jnp, constants, rewards, temperature, log_total)
    position = jnp.arange(nodes, dtype=dtype)
    first = jnp.searchsorted(parts.stop, position, side="right")
    used = position < parts.stop[-1]
    first = jnp.where(used, first, 0)
    inside = position - parts.begin[first]
    lead = parts.lead[first]
    geometric = jnp.expm1(-parts.distance[lead]) / math.expm1(-h)
    weight = h * jnp.where((inside == 0) & (lead > 0), geometric, 1.0)
    gauss, masses = geometric_gauss(h, constants.degree)
    zeros = jnp.zeros(constants.degree, first.dtype)
    polynomial = constants.first - log_total + jnp.asarray(np.log(gauss), dtype)
    return Nodes(
        jnp.concatenate([zeros, first]),
        jnp.concatenate([zeros, lead]),
        jnp.concatenate([polynomial, jnp.where(used, parts.start[first] + h * inside, 0.0)]),
        jnp.concatenate([jnp.asarray(masses / gauss, dtype), jnp.where(used, weight, 0.0)]),
        parts.stop[-1] <= nodes,
    )


def over_tiles(part: Any, arrays: tuple[Array, ...], weight: Array, zero: Any) -> Any:
    """The sum of `part(*tile)`, a pytree, over tiles of nodes; those without weight are skipped.

    So the number of nodes is a bound, and the work is that of the nodes that a pool needs.
    """
    tile = constants_for(weight.dtype).tile
    tiles = -(-weight.size // tile)

    def tiled(x: Array) -> Array:
        rest = ((0, tiles * tile - weight.size), *((0, 0),) * (x.ndim - 1))
        return jnp.pad(x, rest).reshape(tiles, tile, *x.shape[1:])

    def add(total: Any, one: tuple[Any, Array]) -> tuple[Any, None]:
        of_tile, used = one
        none = jax.tree.map(jnp.zeros_like, zero)
        more = _loops.cond(used, lambda x: part(*x), lambda x: none, of_tile)
        return jax.tree.map(jnp.add, total, more), None

    used = jnp.any(tiled(weight) != 0, axis=1)
    return _loops.scan(add, zero, (tuple(map(tiled, arrays)), used))[0]


def log_sum(xp: Any, rewards: Any, size: Any, temperature: Any) -> Any:
    """Log Σw `[..., 1]` of sorted pools, w = 1 for the best candidate."""
    present = xp.arange(rewards.shape[-1], dtype=np.int32) < xp.expand_dims(size, -1)
    w = xp.where(present, xp.exp((rewards - rewards[..., :1]) / temperature), 0.0)
    return xp.log(xp.sum(w, axis=-1, keepdims=True))
