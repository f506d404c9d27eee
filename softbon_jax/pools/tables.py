"""Curves of several values, the KL and win rates from one pass over the pools."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _batching, _checks
from softbon_jax.pools import (
    _arguments,
    _blocks,
    _grid,
    _jackknife,
    _soft_kl,
    _sorted,
    _unbiased,
    _winning,
    _worker,
)

Array = jax.Array


class PoolTable(NamedTuple):
    """Estimates against n, of the same pools.

    Attributes:
      values: `Curve` of what was averaged; with V kinds of values its `mean` and `standard_error` are
        `[V, .., M]` and its `per_prompt` is `[prompts, V, .., M]`.
      kl: `Curve` of KL(P_n‖P) in nats, jackknifed.
      win_rate: `Curve` of the chance to beat `against` fresh draws; None if that was None.
    """

    values: _grid.Curve
    kl: _grid.Curve
    win_rate: _grid.Curve | None


@_checks.keyword_only("values", "where")
def pool_table(
    rewards: Any,
    n: Any,
    temperature: Any,
    *,
    values: Any = None,
    where: Any = None,
    nodes: int | None = None,
    against: int | None = None,
) -> PoolTable:
    """The curves of `pool_curve` for several values, KL(P_n‖P) of `pool_kl` and win rates, in one pass.

    Each pool is sorted once, and all values and the win rate share the recursion over its subsets.

    Args:
      rewards: `[prompts, N]` scores that select, in the units of `temperature`, traced.
      n: `[M]` or scalar, integers >= 1, traced.
      temperature: `[T]` or scalar, at least 0, traced; 0 and inf as in `pool_curve`.
      values: `[prompts, N]` or `[prompts, V, N]` what is averaged, traced; the rewards if None.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.
      against: static; of how many fresh draws the best is to be beaten, as in `pool_win_rate`; None for
        no win rates.

    Returns:
      `PoolTable` in the common dtype of rewards and values, at least float32; NaN where n is above a
      pool's size, or n + `against` is for win rates.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`; `against` is not an integer of at least 1.

    Numerics: those of `pool_curve`, `pool_kl` and `pool_win_rate`; at n = 1 the mean of a candidate and
      a KL of 0. In float32 it takes about a third of the time (`python -m benchmarks pools`).
    Source: as those three.

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
    if against is not None:
        against = _checks.positive_integer("against", against)
    request = _arguments.checked(pools, n, temperature, nodes)

    number = request.known_n
    from_one = number is not None and number.size > 1 and bool(number.flat[0] == 1)

    def work(temperature: float | None) -> Work:
        values, kl = (x.work_for(request, temperature) for x in (_unbiased, _soft_kl))
        return Work(values, kl, from_one)

    groups, members = _grid.grouped(request.temperature, work)
    rows, shared = (request.pools, request.order), (request.n, request.temperature)
    static = {"groups": groups, "against": against}
    if not _blocks.can_be_cut(rows):
        return _table(rows, *shared, members, **static)
    per_pool = _blocks.in_blocks(_per_pool, rows, *shared, members, **static)
    return _over_pools(per_pool, rows[0], *shared, against=against)


class Work(NamedTuple):
    """The sizes that the kernels are compiled for, and whether the first n is 1; static."""

    values: _unbiased.Work
    kl: _soft_kl.Work
    from_one: bool


class PerPool(NamedTuple):
    """The means of all values `[.., V, M]`, KL(P_n‖P) and the win rate, if any, `[.., M]`."""

    values: Any
    kl: Any
    win_rate: Any


# The compiled workers ----------------------------------------------------------------------------


def _elements(slots: int, count: int, work: Work | None, *, kinds: int, against: int | None) -> int:
    """The array elements that a pool needs at a time."""
    of_kinds = kinds * 8 * slots
    if work is None:
        of_values = kinds * _unbiased.elements(slots, count, None)
        return of_values + _soft_kl.elements(slots, count, None) + of_kinds
    chances = 4 * work.values.largest * slots if against else 0
    of_values = _unbiased.elements(slots, count, work.values)
    of_values += _unbiased.of_tile(work.values, kinds + bool(against)) + chances
    return max(of_values, _soft_kl.elements(slots, count, work.kl)) + of_kinds


def _each(kernel: Any, pool: _sorted.Pool) -> Any:
    """A pair of what differs between kinds of values, for every kind, and of what does not."""

    def one(values: Array, mean: Array, center: Array) -> Any:
        return kernel(pool._replace(values=values, mean=mean, center=center))

    return jax.vmap(one, out_axes=(0, None))(pool.values, pool.mean, pool.center)


def _soft(
    pool: _sorted.Pool, n: Array, temperature: Array, work: Work, *, against: int | None
) -> PerPool:
    kinds = (0,) if against is None else (0, against)

    def values(pool: _sorted.Pool) -> tuple[Array, list[Array]]:
        total, *won = _unbiased.soft_sum(pool, n, temperature, work.values, against=kinds)
        return _unbiased.of_values(pool, n, temperature, total), won

    means, won = _each(values, pool)
    rate = _winning.of_sum(pool, n, won[0], against=against) if against else None
    selected = n[1:] if work.from_one else n
    kl = _soft_kl.soft_kl(pool, selected, temperature, work.kl).soft_base.jackknifed
    if work.from_one:
        kl = jnp.append(jnp.zeros(1, kl.dtype), kl)
    return PerPool(_alike_at_one(means, pool, n), kl, rate)


def _hard(pool: _sorted.Pool, n: Array, *, against: int | None) -> PerPool:
    means, _ = _each(lambda pool: (_unbiased.hard(pool, n), None), pool)
    rate = _winning.hard(pool, n, against=against) if against else None
    kl = _jackknife.hard_kl(pool, n).soft_base.jackknifed
    return PerPool(_alike_at_one(means, pool, n), kl, rate)


def _alike_at_one(means: Array, pool: _sorted.Pool, n: Array) -> Array:
    """The same mean of a candidate at every temperature, so that a gain over it begins with 0."""
    return jnp.where(n[None] == 1, pool.mean[:, None], means)


def _base(pool: _sorted.Pool, n: Array, *, against: int | None) -> PerPool:
    means, _ = _each(lambda pool: (_unbiased.base(pool, n), None), pool)
    rate = _winning.base(pool, n, against=against) if against else None
    return PerPool(means, jnp.zeros_like(n), rate)


@partial(jax.jit, static_argnames=("groups", "against"))
def _per_pool(
    rows: _worker.Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    groups: tuple[_grid.Group, ...],
    against: int | None,
) -> PerPool:
    """`[prompts, T, V, M]` and `[prompts, T, M]`."""
    kinds = math.prod(rows[0].values.shape[1:-1])
    soft, hard, base = (partial(part, against=against) for part in (_soft, _hard, _base))
    elements_of = partial(_elements, kinds=kinds, against=against)
    kernel = _grid.Kernel(soft, hard, base, elements_of)

    def prompt(unsorted: _worker.Unsorted, number: Array, temperature: Array) -> PerPool:
        pools, order = unsorted
        values = pools.values.reshape(-1, pools.values.shape[-1])

        def of(values: Array) -> _sorted.Pool:
            return _sorted.sorted_pool(pools._replace(values=values), order)

        pool = jax.vmap(of, out_axes=_sorted.Pool._make((None, 0, 0, 0, None)))(values)
        return _grid.over_grid(kernel, groups, members, pool, number, temperature)

    elements = _grid.elements(kernel, groups, rows[0].rewards.shape[1], n.size)
    dtype = rows[0].dtype
    return _batching.each_row(
        prompt, rows, n.astype(dtype), temperature, elements=elements, dtype=dtype
    )


@partial(jax.jit, static_argnames="against")
def _over_pools(
    per_pool: PerPool,
    pools: _sorted.Pools,
    n: Array,
    temperature: Array,
    *,
    against: int | None,
) -> PoolTable:
    size = jnp.sum(pools.where, axis=1, dtype=jnp.int32)

    def curve(per_pool: Array, spare: int = 0) -> _grid.Curve:
        return _grid.curve_of(per_pool, size - spare, n, temperature)

    kinds = jax.vmap(curve, in_axes=2, out_axes=_grid.Curve._make((0, 0, 1, None)))(per_pool.values)
    if pools.values.ndim == 2:
        kinds = _grid.Curve(
            kinds.mean[0], kinds.standard_error[0], kinds.per_prompt[:, 0], kinds.prompts
        )
    rate = curve(per_pool.win_rate, against) if against else None
    return PoolTable(kinds, curve(per_pool.kl), rate)


@partial(jax.jit, static_argnames=("groups", "against"))
def _table(
    rows: _worker.Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    groups: tuple[_grid.Group, ...],
    against: int | None,
) -> PoolTable:
    """Both in one program."""
    per_pool = _per_pool(rows, n, temperature, members, groups=groups, against=against)
    return _over_pools(per_pool, rows[0], n, temperature, against=against)
