"""A large pool condensed to few weighted points, which give the same sums of smooth functions.

What the divergences of a pool without candidate i sum over candidates x is analytic in log w_i and
log w_x in a strip of half-width π about the real axis, since without i P_n/P is, up to a factor,
the mean of w_x/(w_x + S) over sums S of weights. So the candidates of a cell, a short interval of
log w = r/λ, are replaced by Chebyshev nodes, each weighted by the sum of its Lagrange polynomial over
the candidates. How many points there are depends on range/λ, not on N.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax.pools._arguments import Presorted
from softbon_jax.pools._sorted import Pool

Array = jax.Array

DIRECT = 512
"""Pools of up to so many slots are not condensed."""

WIDTH = 3.0
"""Width of a cell in log w."""

MARGIN = 2.0
"""Where a weight, or its inverse, is above e^-MARGIN of the sum of all, its cell is not condensed.

Without a weight as large as all the others together nothing is analytic.
"""


class Points(NamedTuple):
    """Weighted points in the place of candidates, best first; `[K]`.

    Attributes:
      rewards: an empty slot repeats the worst.
      amount: how many candidates a point stands for; 0 in empty slots, and may be negative.
      resolved: scalar, whether K was enough.
    """

    rewards: Array
    amount: Array
    resolved: Array


class Cells(NamedTuple):
    """How sorted pools `[..., N]` are condensed.

    Attributes:
      depth: (best - reward)/λ in units of the width of a cell.
      cell: its integer part, the number of the cell, as a float.
      width: `[..., 1]` of a cell in log w.
      first: whether a candidate is the first of its cell.
      merged: whether its cell is condensed to Chebyshev nodes; otherwise tied candidates are a point.
      stop: number of points up to and including this candidate's.
    """

    depth: Any
    cell: Any
    width: Any
    first: Any
    merged: Any
    stop: Any


def degree_for(dtype: Any) -> int:
    """The number of Chebyshev nodes in a cell that reaches the precision of `dtype`."""
    return 20 if jnp.finfo(dtype).bits >= 64 else 10


def cells(xp: Any, rewards: Any, size: Any, temperature: Any, degree: int) -> Cells:
    """The cells of sorted pools `[..., N]` with `size` `[...]`; `xp` NumPy or JAX."""
    slots = rewards.shape[-1]
    index = xp.broadcast_to(xp.arange(slots, dtype=np.int32), rewards.shape)
    present = index < size[..., None]
    below = (rewards[..., :1] - rewards) / temperature
    reach = below[..., -1:]
    number = xp.maximum(xp.ceil(reach / WIDTH), 1.0)
    width = xp.where(reach > 0, reach, 1.0) / number
    depth = below / width
    cell = xp.minimum(xp.floor(depth), number - 1)

    def starts(x: Any) -> Any:
        head = xp.ones_like(present[..., :1])
        return xp.concatenate([head, x[..., 1:] != x[..., :-1]], axis=-1) & present

    first, new = starts(cell), starts(rewards)
    # The cell's candidates are those from its first to that before the next one's first.
    begin, following = xp.where(first, index, 0), xp.where(first, index, slots)
    following = xp.concatenate([following[..., 1:], xp.full_like(index[..., :1], slots)], axis=-1)
    if xp is np:
        begin = np.maximum.accumulate(begin, -1)
        following = np.minimum.accumulate(following[..., ::-1], -1)[..., ::-1]
    else:
        begin = jax.lax.cummax(begin, axis=begin.ndim - 1)
        following = jax.lax.cummin(following, axis=begin.ndim - 1, reverse=True)
    outcomes = xp.cumsum(new, axis=-1, dtype=np.int32)
    last = xp.take_along_axis(outcomes, following - 1, axis=-1)
    several = last - xp.take_along_axis(outcomes, begin, axis=-1) >= degree

    def total(log_weights: Any) -> Any:
        return xp.log(xp.sum(xp.where(present, xp.exp(log_weights), 0.0), -1, keepdims=True))

    light = MARGIN - cell * width <= total(-below)
    heavy = MARGIN + (cell + 1) * width - reach <= total(below - reach)
    merged = several & light & heavy & present
    new = new.astype(np.int32)
    added = xp.where(merged, degree * first.astype(np.int32), new)
    stop = xp.cumsum(added, axis=-1, dtype=np.int32)
    return Cells(depth, cell, width, first, merged, stop)


def points_for(pools: Presorted, temperature: float) -> int:
    """How many points the pools need at a temperature in (0, inf), rounded up."""
    slots = pools.rewards.shape[1]
    if slots <= DIRECT:
        return slots
    degree, needed = degree_for(pools.rewards.dtype), 0
    with np.errstate(over="ignore", invalid="ignore"):
        for row, size in zip(pools.rewards.astype(np.float64), pools.size, strict=True):
            needed = max(needed, int(cells(np, row, size, temperature, degree).stop[-1]))
    return rounded_up(needed, slots)


def rounded_up(needed: int, slots: int) -> int:
    """`needed` rounded up to 256·8^i, at most all slots: few sizes, so few compilations."""
    bucket = 256
    while bucket < needed:
        bucket *= 8
    return min(bucket, slots)


def condensed(pool: Pool, temperature: Array, points: int) -> Points:
    """At most `points` points for a sorted pool, at a temperature in (0, inf)."""
    slots, dtype = pool.rewards.size, pool.rewards.dtype
    if slots <= DIRECT:
        return Points(pool.rewards, pool.present.astype(dtype), jnp.ones((), bool))
    degree = degree_for(dtype)
    parts = cells(jnp, pool.rewards, pool.size, temperature, degree)
    angles = np.pi * (np.arange(degree) + 0.5) / degree
    nodes = jnp.asarray(np.cos(angles), dtype)  # best first
    # Lagrange polynomials by discrete orthogonality: L_k(s) = Σ_m c_m T_m(x_k) T_m(s)/p, c = 1, 2, ...
    transform = np.cos(np.outer(np.arange(degree), angles)) * 2 / degree
    transform[0] /= 2
    s = 2 * (parts.cell - parts.depth) + 1
    chebyshev = [jnp.ones_like(s), s]
    while len(chebyshev) < degree:
        chebyshev.append(2 * s * chebyshev[-1] - chebyshev[-2])
    ones = jnp.zeros((slots, degree), dtype).at[:, 0].set(1.0)
    basis = jnp.stack(chebyshev, axis=1) @ jnp.asarray(transform, dtype)
    share = jnp.where(parts.merged[:, None], basis, ones)
    # Candidates with the same `stop` share their points: those of a merged cell, or tied ones.
    same = jnp.where(pool.present, parts.stop - 1, slots)
    totals = jnp.zeros((slots, degree), dtype).at[same].add(share, mode="drop")
    position = jnp.arange(points, dtype=jnp.int32)
    at = jnp.minimum(jnp.searchsorted(parts.stop, position, side="right"), slots - 1)
    merged, stop = parts.merged[at], parts.stop[at]
    lane = jnp.where(merged, jnp.clip(position - stop + degree, 0, degree - 1), 0)
    middle = (parts.cell[at] + 0.5) * parts.width
    of_node = pool.rewards[0] - temperature * (middle - nodes[lane] * parts.width / 2)
    filled = position < parts.stop[-1]
    return Points(
        jnp.where(filled, jnp.where(merged, of_node, pool.rewards[at]), pool.rewards[-1]),
        jnp.where(filled, totals[jnp.maximum(stop - 1, 0), lane], 0.0),
        parts.stop[-1] <= points,
    )
