"""Curves of several values and the KL from one pass over the pools."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _checks, _sharding
from softbon_jax.pools import (
    _arguments,
    _blocks,
    _grid,
    _jackknife,
    _soft_kl,
    _sorted,
    _unbiased,
    _worker,
)

Array = jax.Array


class PoolTable(NamedTuple):
    """Estimates against n, of the same pools.

    Attributes:
      values: `Curve` of what was averaged; with V kinds of values its `mean` and `standard_error` are
        `[V, .., M]` and its `per_prompt` is `[prompts, V, .., M]`.
      kl: `Curve` of KL(P_n‖P) in nats, jackknifed.
    """

    values: _grid.Curve
    kl: _grid.Curve


@_checks.keyword_only("values", "where")
def pool_table(
    rewards: Any,
    n: Any,
    temperature: Any,
    *,
    values: Any = None,
    where: Any = None,
    nodes: int | None = None,
) -> PoolTable:
    """The curves of `pool_curve` for several values and the KL of `pool_kl`, in one pass.

    Each pool is sorted once, and all values share the recursion over its subsets. Only KL(P_n‖P) is
    estimated of the divergences.

    Args:
      rewards: `[prompts, N]` scores that select, in the units of `temperature`, traced.
      n: `[M]` or scalar, integers >= 1, traced.
      temperature: `[T]` or scalar, at least 0, traced; 0 and inf as in `pool_curve`.
      values: `[prompts, N]` or `[prompts, V, N]` what is averaged, traced; the rewards if None.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.

    Returns:
      `PoolTable` in the common dtype of rewards and values, at least float32; NaN where n is above a
      pool's size.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`.

    Numerics: those of `pool_curve` and `pool_kl`.
    Source: as those two.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3], [0.5, 0.2, 0.2, 0.7]])
      >>> gold = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
      >>> table = sb.pool_table(scores, [1, 2], 0.2, values=np.stack([scores, gold], axis=1))
      >>> np.round(np.float64(table.values.mean), 3).tolist()
      [[0.425, 0.554], [0.625, 0.541]]
      >>> np.round(np.float64(table.kl.mean), 3).tolist()
      [0.0, 0.097]
    """
    pools = _arguments.checked_pools(rewards, None, where)
    if values is not None:
        values = _checks.as_float("values", values)
        shape = values.shape if values.ndim != 3 else (values.shape[0], *values.shape[2:])
        if values.ndim not in (2, 3) or shape != pools.rewards.shape:
            raise ValueError(
                f"values has shape {values.shape}, rewards has shape {pools.rewards.shape}"
            )
        pools = pools._replace(values=values)
    request = _arguments.checked(pools, n, temperature, nodes)

    def work(temperature: float | None) -> Work:
        return Work(
            _unbiased.work_for(request, temperature), _soft_kl.work_for(request, temperature)
        )

    groups, members = _grid.grouped(request.temperature, work)
    rows, shared = (request.pools, request.order), (request.n, request.temperature)
    if not _blocks.can_be_cut(rows):
        return _table(rows, *shared, members, groups=groups)
    per_pool = _blocks.in_blocks(_per_pool, rows, *shared, members, groups=groups)
    return _over_pools(per_pool, rows[0], *shared)


class Work(NamedTuple):
    """The sizes that the kernels are compiled for; static."""

    values: _unbiased.Work
    kl: _soft_kl.Work


class PerPool(NamedTuple):
    """The means of all values `[.., V, M]` and KL(P_n‖P) `[.., M]`."""

    values: Any
    kl: Any


# The compiled workers ----------------------------------------------------------------------------


def _each(kernel: Any, pool: _sorted.Pool, *arguments: Any) -> Array:
    """A kernel for every kind of value; what does not depend on the values is done once."""

    def one(values: Array, mean: Array, center: Array) -> Array:
        return kernel(pool._replace(values=values, mean=mean, center=center), *arguments)

    return jax.vmap(one)(pool.values, pool.mean, pool.center)


def _soft(pool: _sorted.Pool, n: Array, temperature: Array, work: Work) -> PerPool:
    kl = _soft_kl.soft_kl(pool, n, temperature, work.kl)
    return PerPool(
        _each(_unbiased.soft, pool, n, temperature, work.values), kl.soft_base.jackknifed
    )


def _hard(pool: _sorted.Pool, n: Array) -> PerPool:
    kl = _jackknife.hard_kl(pool, n)
    return PerPool(_each(_unbiased.hard, pool, n), kl.soft_base.jackknifed)


def _base(pool: _sorted.Pool, n: Array) -> PerPool:
    return PerPool(_each(_unbiased.base, pool, n), jnp.zeros_like(n))


KERNEL = _grid.Kernel(_soft, _hard, _base)


@partial(jax.jit, static_argnames="groups")
def _per_pool(
    rows: _worker.Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    groups: tuple[_grid.Group, ...],
) -> PerPool:
    """`[prompts, T, V, M]` and `[prompts, T, M]`."""

    def prompt(unsorted: _worker.Unsorted, number: Array, temperature: Array) -> PerPool:
        pools, order = unsorted
        values = pools.values.reshape(-1, pools.values.shape[-1])

        def of(values: Array) -> _sorted.Pool:
            return _sorted.sorted_pool(pools._replace(values=values), order)

        pool = jax.vmap(of, out_axes=_sorted.Pool._make((None, 0, 0, 0, None)))(values)
        return _grid.over_grid(KERNEL, groups, members, pool, number, temperature)

    return _sharding.each_row(prompt, rows, n.astype(rows[0].dtype), temperature)


@jax.jit
def _over_pools(per_pool: PerPool, pools: _sorted.Pools, n: Array, temperature: Array) -> PoolTable:
    size = jnp.sum(pools.where, axis=1, dtype=jnp.int32)

    def curve(per_pool: Array) -> _grid.Curve:
        return _grid.curve_of(per_pool, size, n, temperature)

    kinds = jax.vmap(curve, in_axes=2, out_axes=_grid.Curve._make((0, 0, 1, None)))(per_pool.values)
    if pools.values.ndim == 2:
        kinds = _grid.Curve(
            kinds.mean[0], kinds.standard_error[0], kinds.per_prompt[:, 0], kinds.prompts
        )
    return PoolTable(kinds, curve(per_pool.kl))


@partial(jax.jit, static_argnames="groups")
def _table(
    rows: _worker.Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    groups: tuple[_grid.Group, ...],
) -> PoolTable:
    """Both in one program."""
    per_pool = _per_pool(rows, n, temperature, members, groups=groups)
    return _over_pools(per_pool, rows[0], n, temperature)
