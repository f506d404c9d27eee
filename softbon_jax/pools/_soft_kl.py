"""The divergences of soft best-of-n from one pool, whole and without each of its candidates.

Large pools are condensed to points. Rows, which are left out, and columns, which are summed over, are
worked on by blocks.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _loops
from softbon_jax.pools import _condensed, _plug_in, _quadrature
from softbon_jax.pools._arguments import Request
from softbon_jax.pools._jackknife import Selected, Sums, Tilts, divergence, of_terms
from softbon_jax.pools._sorted import Pool

Array = jax.Array

BLOCK = 256
"""How many rows and columns are worked on together."""

TOGETHER = 16
"""How many n are worked on together."""

CHUNK = 1024
"""How many candidates are added together in φ."""


class Work(NamedTuple):
    """The sizes that `soft_kl` is compiled for; static.

    Attributes:
      nodes: number of quadrature nodes.
      points: number of points that a pool is condensed to.
    """

    nodes: int
    points: int


def work_for(request: Request, temperature: float | None) -> Work:
    """What a request needs at a temperature in (0, inf), in rounded-up sizes; None is a traced one."""
    nodes = _plug_in.nodes_for(request, temperature)
    if request.presorted is None or temperature is None:
        slots = request.pools.rewards.shape[1]
        direct = slots <= _condensed.DIRECT
        return Work(nodes, slots if direct else _condensed.rounded_up(4 * nodes, slots))
    return Work(nodes, _condensed.points_for(request.presorted, temperature))


def elements(slots: int, count: int, work: Work | None) -> int:
    """The array elements that a kernel of one pool needs at a time; without work at temperature 0."""
    if work is None:
        return 64 * slots + 8 * count
    block, together = min(BLOCK, work.points), min(TOGETHER, count)
    pairs = together * block * (3 * _quadrature.MOST_IN_TILE + 10 * block)
    of_cells = 3 * _condensed.degree_for(float) * slots if slots > _condensed.DIRECT else 0
    return pairs + 2 * CHUNK * _quadrature.MOST_IN_TILE + of_cells + 24 * slots + 8 * work.nodes


class Rows(NamedTuple):
    """Candidates to be left out; `[R]`, or `[blocks, R]`.

    Attributes:
      rewards: their own.
      amount: how many candidates each of them stands for.
      reference: the best reward of the others.
      log_rest: log of the mean of e^{(reward - reference)/λ} over the others.
      loss: W/W' - 1, with W' the W of the others.
    """

    rewards: Array
    amount: Array
    reference: Array
    log_rest: Array
    loss: Array


class Tiles(NamedTuple):
    """Quadrature nodes, by tiles.

    Attributes:
      reference: the reward whose weight is included in u.
      u: log t plus the log weight of the reference.
      weight: 0 for nodes that are not needed.
      total: N φ.
    """

    reference: Array
    u: Array
    weight: Array
    total: Array


def soft_kl(pool: Pool, n: Array, temperature: Array, work: Work) -> Selected:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, for a temperature in (0, inf).

    P_n(x) = (n/N) Σ_q weight z e^{-z} φ^{n-1} with z = t w(x). Without candidate i, φ loses its
    e^{-z_i}; the laws without each of a block of rows, on a block of columns, are a matrix product.
    """
    points = _condensed.condensed(pool, temperature, work.points)
    log_total = jax.lax.stop_gradient(jnp.log(jnp.max(n, initial=1.0)))[None]
    at = _quadrature.quadrature(pool.rewards, temperature, log_total, work.nodes)
    tiles = _tiles(pool, at, temperature)
    size = pool.float_size
    rows = _rows(points, size, temperature)

    def at_n(n: Array) -> tuple[Sums, Sums]:
        return _sums(rows, tiles, size, n, temperature, pool.rewards.size)

    if n.size <= TOGETHER:
        sums = at_n(n)
    else:
        padded = jnp.pad(n, (0, -n.size % TOGETHER), constant_values=1).reshape(-1, TOGETHER)
        sums = jax.lax.map(at_n, padded)
        sums = jax.tree.map(lambda x: x.reshape(-1)[: n.size], sums)
    poison = jnp.where(at.resolved & points.resolved, 0.0, jnp.nan).astype(n.dtype)
    return jax.tree.map(lambda x: x + poison, Selected(*(divergence(x, size) for x in sums)))


def _tiles(pool: Pool, at: _quadrature.Nodes, temperature: Array) -> Tiles:
    """The nodes by tiles, with N φ of the pool itself: candidates of no weight or all gone are free."""
    constants = _quadrature.constants_for(pool.rewards.dtype)
    tile = constants.tile
    reference, u, weight = (
        jnp.pad(x, (0, -x.size % tile)).reshape(-1, tile)
        for x in (pool.rewards[at.lead], at.u, at.weight)
    )
    chunk = min(CHUNK, pool.rewards.size)
    ends = (0, -pool.rewards.size % chunk)
    rewards = jnp.pad(pool.rewards, ends, mode="edge").reshape(-1, chunk)
    present = jnp.pad(pool.present, ends).reshape(-1, chunk)

    def log_z(nodes: Any, rewards: Array) -> Array:
        reference, u, _ = nodes
        return u[:, None] - (reference[:, None] - rewards[None]) / temperature

    def partly(nodes: Any, rewards: Array, present: Array) -> Array:
        z = jnp.exp(jnp.minimum(log_z(nodes, rewards), 30.0))
        return jnp.exp(-z) @ present.astype(z.dtype)

    def fully(nodes: Any, rewards: Array, present: Array) -> Array:
        return jnp.full_like(nodes[1], jnp.sum(present, dtype=rewards.dtype))

    def gone(nodes: Any, rewards: Array, present: Array) -> Array:
        return jnp.zeros_like(nodes[1])

    def of_tile(nodes: Any) -> Array:
        if len(rewards) == 1:
            matters = jnp.any(nodes[2] != 0)
            return _loops.cond(matters, partly, gone, nodes, rewards[0], present[0])

        def add(total: Array, candidates: tuple[Array, Array]) -> tuple[Array, None]:
            most, least = log_z(nodes, candidates[0][:1]), log_z(nodes, candidates[0][-1:])
            idle = jnp.max(most) < -constants.idle - 1
            over = jnp.min(least) > constants.right + 1
            needed = jnp.any(nodes[2] != 0) & jnp.any(candidates[1]) & ~over
            case = jnp.where(needed, jnp.where(idle, 1, 0), 2)
            more = _loops.switch(case, [partly, fully, gone], nodes, *candidates)
            return total + more, None

        return _loops.scan(add, jnp.zeros_like(nodes[1]), (rewards, present))[0]

    return Tiles(reference, u, weight, jax.lax.map(of_tile, (reference, u, weight)))


def _rows(points: _condensed.Points, size: Array, temperature: Array) -> Rows:
    """All points by blocks, the last one filled up with empty slots."""
    rewards, count = points.rewards, points.amount
    second = rewards[min(1, rewards.size - 1)]
    w = jnp.exp((rewards - rewards[0]) / temperature)
    total = jnp.sum(count * w)
    rest = total - w
    loss = (1 - size * w / total) / jnp.maximum(size - 1, 1)
    # Without the best candidate, which may have all the weight, relative to the second.
    alone = (count[0] == 1) & (size > 1)
    of_others = count[1:] * jnp.exp((rewards[1:] - second) / temperature)
    rest = rest.at[0].set(jnp.where(alone, jnp.sum(of_others), rest[0]))
    reference = jnp.full_like(rewards, rewards[0]).at[0].set(jnp.where(alone, second, rewards[0]))
    mean = rest / jnp.maximum(size - 1, 1)
    log_rest = jnp.log(jnp.where((count != 0) & (mean > 0), mean, 1.0))
    block = min(BLOCK, rewards.size)
    ends = (0, -rewards.size % block)
    return Rows(
        jnp.pad(rewards, ends, mode="edge").reshape(-1, block),
        *(jnp.pad(x, ends).reshape(-1, block) for x in (count, reference, log_rest, loss)),
    )


def _sums(
    rows: Rows, tiles: Tiles, size: Array, n: Array, temperature: Array, most: int
) -> tuple[Sums, Sums]:
    """Over all columns, and over all pairs; `[M]`. The n are at most `most`, static.

    Where t w of a column matters, e^{-tw} of a far better row is 0 and that of a far worse one is 1.
    So far rows are replaced by one of them on either side. What else they do, by way of W, is nothing
    for far worse columns, whose W is below 1e-17 N with or without one row.
    """
    blocks, block = rows.rewards.shape
    flat = Rows(*(x.reshape(-1) for x in rows))
    pair = partial(
        _pair, tiles=tiles, flat=flat, size=size, n=n, temperature=temperature, most=most
    )
    itself = jnp.eye(block, dtype=rows.rewards.dtype)
    if blocks == 1:
        weight = flat.amount[:, None] * flat.amount[None] - itself * flat.amount[None]
        matters = jnp.any(tiles.weight != 0, axis=1)
        return pair(flat, flat.rewards, weight, flat.amount, matters)
    constants = _quadrature.constants_for(rows.rewards.dtype)
    reach = constants.idle + constants.right + 1
    filled, held = jnp.any(rows.amount != 0, axis=1), jnp.sum(rows.amount, axis=1)
    highest, lowest = rows.rewards[:, 0], rows.rewards[:, -1]
    zero = jnp.zeros_like(n)
    nothing = (Sums(zero, zero), Sums(zero, zero))

    def of_columns(columns: Any) -> tuple[Sums, Sums]:
        number, rewards, count = columns
        better = (lowest - rewards[0]) / temperature > reach
        worse = (rewards[-1] - highest) / temperature > reach
        before, after = jnp.sum(better), blocks - jnp.sum(worse)
        far = jnp.stack([before * block - 1, after * block])
        extras = Rows(*(x[jnp.clip(far, 0, blocks * block - 1)] for x in flat))
        far_amount = jnp.stack([jnp.sum(jnp.where(x, held, 0.0)) for x in (better, worse)])

        def log_z(reward: Array) -> Array:
            return tiles.u - (tiles.reference - reward) / temperature

        within = (log_z(rewards[0]) > -constants.idle) & (log_z(rewards[-1]) < constants.right + 1)
        matters = jnp.any(within & (tiles.weight != 0), axis=1)

        def of_block(block_of: Rows, own: Array) -> tuple[Sums, Sums]:
            rows = Rows(*(jnp.concatenate(x) for x in zip(extras, block_of, strict=True)))
            # The extras and the terms of the whole pool go with the rows that are these columns.
            row_count = jnp.concatenate([own * far_amount, block_of.amount])
            diagonal = jnp.pad(own * itself, ((2, 0), (0, 0)))
            weight = row_count[:, None] * count[None] - diagonal * count[None]
            return pair(rows, rewards, weight, own * count, matters)

        def add(sums: Any, row: Any) -> tuple[Any, None]:
            index, block_of, needed = row
            own = (index == number).astype(n.dtype)
            more = _loops.cond(needed, of_block, lambda *_: nothing, block_of, own)
            return jax.tree.map(jnp.add, sums, more), None

        needed = filled & ~better & ~worse & filled[number]
        return _loops.scan(add, nothing, (jnp.arange(blocks), rows, needed))[0]

    columns = (jnp.arange(blocks), rows.rewards, rows.amount)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.lax.map(of_columns, columns))


def _pair(
    rows: Rows,
    columns: Array,
    weight: Array,
    count: Array,
    matters: Array,
    *,
    tiles: Tiles,
    flat: Rows,
    size: Array,
    n: Array,
    temperature: Array,
    most: int,
) -> tuple[Sums, Sums]:
    """The sums over a block of rows and one of columns with rewards `columns`; as in `of_terms`."""
    ratio, change = _ratio(rows.rewards, columns, tiles, matters, size, n, temperature, most)
    w = jnp.exp((flat.rewards - flat.rewards[0]) / temperature)
    log_whole = (columns - flat.rewards[0]) / temperature - jnp.log(jnp.sum(flat.amount * w) / size)
    log_parts = (columns[None] - rows.reference[:, None]) / temperature - rows.log_rest[:, None]
    log_parts = jnp.where(weight != 0, log_parts, 0.0)
    tilts = Tilts(jnp.exp(log_whole), log_whole, jnp.exp(log_parts), log_parts)
    return of_terms(ratio, change, tilts, rows.loss[:, None], weight, count)


def _ratio(
    rows: Array,
    columns: Array,
    tiles: Tiles,
    matters: Array,
    size: Array,
    n: Array,
    temperature: Array,
    most: int,
) -> tuple[Array, Array]:
    """ρ of the whole pool `[M, C]`, and by how much without each row ρ is larger, over ρ, `[M, R, C]`.

    Tiles that do not matter are skipped.
    """
    fewer = jnp.maximum(size - 1, 1)

    def of_tile(tile: Tiles) -> tuple[Array, Array]:
        def z(rewards: Array) -> Array:
            log_z = tile.u[None] - (tile.reference[None] - rewards[:, None]) / temperature
            return jnp.exp(jnp.minimum(log_z, 30.0))

        total = jnp.where(tile.total > 0, tile.total, 1.0)[None]
        share = jnp.minimum(jnp.exp(-z(rows)) / total, 1.0)
        # φ without a row over φ, less 1, and its power n - 1, less 1.
        excess = (1 - size * share) / fewer
        phi = _plug_in.power((tile.total / size)[None], n[:, None]) * tile.weight[None]
        gain = _raised(excess, n - 1, most - 1) * phi[:, None]
        of_columns = z(columns)
        density = of_columns * jnp.exp(-of_columns)
        lost = gain.reshape(-1, gain.shape[-1]) @ density.T
        return phi @ density.T, lost.reshape(n.size, rows.size, columns.size)

    zero = (
        jnp.zeros((n.size, columns.size), rows.dtype),
        jnp.zeros((n.size, rows.size, columns.size), rows.dtype),
    )

    def add(total: Any, tile: tuple[Tiles, Array]) -> tuple[Any, None]:
        def more(total: Any, tile: Tiles) -> Any:
            return jax.tree.map(jnp.add, total, of_tile(tile))

        return _loops.cond(tile[1], more, lambda total, _: total, total, tile[0]), None

    whole, lost = _loops.scan(add, zero, (tiles, matters))[0]
    change = lost / jnp.where(whole > 0, whole, 1.0)[:, None]
    return n[:, None] * whole, jnp.maximum(change, -1.0)


def _raised(excess: Array, power: Array, most: int) -> Array:
    """`[M, ...]`: (1 + x)^p - 1 for integers p `[M]` from 0 to `most`, by products that do not cancel.

    The x is at most 1/(N-1) and p at most N-1, so nothing that is used reaches 2.
    """
    power = jnp.clip(power, 0, most).astype(jnp.int32).reshape(-1, *(1,) * excess.ndim)
    total, doubled = jnp.zeros((len(power), *excess.shape), excess.dtype), excess
    for bit in range(most.bit_length()):
        factor = jnp.where(jnp.right_shift(power, bit) & 1 == 1, doubled[None], 0.0)
        total = total + factor * (1 + total)
        doubled = jnp.minimum(doubled * (2 + doubled), 2.0)
    return total
