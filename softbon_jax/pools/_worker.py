"""The compiled worker of all curves: a kernel on every pool, and the means over prompts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _sharding
from softbon_jax.pools import _arguments, _grid, _sorted

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
    return _compiled_curve(
        request.pools,
        request.order,
        request.n,
        request.temperature,
        members,
        kernel=kernel,
        groups=groups,
        turns=turns,
        spare=spare,
    )


@partial(jax.jit, static_argnames=("kernel", "groups", "turns", "spare"))
def _compiled_curve(
    pools: _sorted.Pools,
    order: Array | None,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    kernel: _grid.Kernel,
    groups: tuple[_grid.Group, ...],
    turns: int,
    spare: int,
) -> _grid.Curve:
    number = n.astype(pools.dtype)

    def prompt(
        unsorted: tuple[_sorted.Pools, Array | None], number: Array, temperature: Array
    ) -> Array:
        pool = _sorted.sorted_pool(*unsorted)
        return _grid.over_grid(kernel, groups, members, pool, number, temperature)

    per_pool = _sharding.each_row(prompt, (pools, order), number, temperature)
    size = jnp.sum(pools.where, axis=1, dtype=jnp.int32) - spare
    if turns > 1:
        per_pool = jnp.mean(per_pool.reshape(turns, -1, *per_pool.shape[1:]), axis=0)
    return _grid.curve_of(per_pool, size[: len(per_pool)], n, temperature)


def for_each_candidate(request: _arguments.Request, kernel: _grid.Kernel, work: Any) -> Array:
    """`[prompts, .., M, N]`: a kernel that returns `[N, M]`, with the candidates as they came."""
    groups, members = _grid.grouped(request.temperature, partial(work, request))
    return _compiled_candidates(
        request.pools,
        request.order,
        request.n,
        request.temperature,
        members,
        kernel=kernel,
        groups=groups,
    )


@partial(jax.jit, static_argnames=("kernel", "groups"))
def _compiled_candidates(
    pools: _sorted.Pools,
    order: Array | None,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    kernel: _grid.Kernel,
    groups: tuple[_grid.Group, ...],
) -> Array:
    number = n.astype(pools.dtype)

    def prompt(
        unsorted: tuple[_sorted.Pools, Array | None], number: Array, temperature: Array
    ) -> Array:
        one, order = unsorted
        if order is None:
            order, _ = _sorted.sorted_rewards(jnp, one.rewards, one.where)
        pool = _sorted.sorted_pool(one, order)
        out = _grid.over_grid(kernel, groups, members, pool, number, temperature)
        out = jnp.where(pool.present[:, None], out, 0.0)
        return jnp.moveaxis(jnp.zeros_like(out).at[:, order].set(out), 1, -1)

    out = _sharding.each_row(prompt, (pools, order), number, temperature)
    return out.reshape(len(out), *temperature.shape, *n.shape, -1)
