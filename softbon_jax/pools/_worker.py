"""The compiled worker of all curves: a kernel on every pool, and the means over prompts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _batching
from softbon_jax.pools import _arguments, _blocks, _grid, _sorted

Array = jax.Array


def curve(
    request: _arguments.Request,
    kernel: _grid.Kernel,
    work: Any,
    *,
    turns: int = 1,
    spare: int = 0,
) -> _grid.Curve:
    """The curve that a request asks for.

    Args:
      request: checked arguments.
      kernel: what is done to one pool.
      work: from a request and a temperature to the sizes that the soft kernel is compiled for.
      turns: the pools are `[turns * prompts, N]`, and the curve is the average over the turns.
      spare: how many candidates beyond n a pool must have.
    """
    groups, members = _grid.grouped(request.temperature, partial(work, request))
    rows, shared = (request.pools, request.order), (request.n, request.temperature)
    if not _blocks.can_be_cut(rows):
        static = {"kernel": kernel, "groups": groups}
        return _curve(rows, *shared, members, turns=turns, spare=spare, **static)
    per_pool = _blocks.in_blocks(_per_pool, rows, *shared, members, kernel=kernel, groups=groups)
    return _over_pools(per_pool, request.pools.where, *shared, turns=turns, spare=spare)


Unsorted = tuple[_sorted.Pools, Array | None]
"""Pools, and their order where it is known."""


@partial(jax.jit, static_argnames=("kernel", "groups"))
def _per_pool(
    rows: Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    kernel: _grid.Kernel,
    groups: tuple[_grid.Group, ...],
) -> Any:
    def prompt(unsorted: Unsorted, number: Array, temperature: Array) -> Array:
        pool = _sorted.sorted_pool(*unsorted)
        return _grid.over_grid(kernel, groups, members, pool, number, temperature)

    elements = _grid.elements(kernel, groups, rows[0].rewards.shape[1], n.size)
    dtype = rows[0].dtype
    return _batching.each_row(
        prompt, rows, n.astype(dtype), temperature, elements=elements, dtype=dtype
    )


@partial(jax.jit, static_argnames=("turns", "spare"))
def _over_pools(
    per_pool: Array, where: Array, n: Array, temperature: Array, *, turns: int, spare: int
) -> _grid.Curve:
    size = jnp.sum(where, axis=1, dtype=jnp.int32) - spare
    if turns > 1:
        per_pool = jnp.mean(per_pool.reshape(turns, -1, *per_pool.shape[1:]), axis=0)
    return _grid.curve_of(per_pool, size[: len(per_pool)], n, temperature)


@partial(jax.jit, static_argnames=("kernel", "groups", "turns", "spare"))
def _curve(
    rows: Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    kernel: _grid.Kernel,
    groups: tuple[_grid.Group, ...],
    turns: int,
    spare: int,
) -> _grid.Curve:
    """Both in one program."""
    per_pool = _per_pool(rows, n, temperature, members, kernel=kernel, groups=groups)
    return _over_pools(per_pool, rows[0].where, n, temperature, turns=turns, spare=spare)


def for_each_candidate(request: _arguments.Request, kernel: _grid.Kernel, work: Any) -> Array:
    """`[prompts, .., M, N]`: a kernel that returns `[N, M]`, with the candidates as they came."""
    groups, members = _grid.grouped(request.temperature, partial(work, request))
    rows, shared = (request.pools, request.order), (request.n, request.temperature, members)
    return _blocks.anyhow(_each_candidate, rows, *shared, kernel=kernel, groups=groups)


@partial(jax.jit, static_argnames=("kernel", "groups"))
def _each_candidate(
    rows: Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    kernel: _grid.Kernel,
    groups: tuple[_grid.Group, ...],
) -> Array:
    def prompt(unsorted: Unsorted, number: Array, temperature: Array) -> Array:
        one, order = unsorted
        if order is None:
            order, _ = _sorted.sorted_rewards(jnp, one.rewards, one.where)
        pool = _sorted.sorted_pool(one, order)
        out = _grid.over_grid(kernel, groups, members, pool, number, temperature)
        out = jnp.where(pool.present[:, None], out, 0.0)
        return jnp.moveaxis(jnp.zeros_like(out).at[:, order].set(out), 1, -1)

    elements = _grid.elements(kernel, groups, rows[0].rewards.shape[1], n.size)
    dtype = rows[0].dtype
    out = _batching.each_row(
        prompt, rows, n.astype(dtype), temperature, elements=elements, dtype=dtype
    )
    return out.reshape(len(out), *temperature.shape, *n.shape, -1)
