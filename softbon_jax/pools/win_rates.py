"""How often what soft best-of-n selects beats a fresh draw, from pools."""

from __future__ import annotations

from typing import Any

from softbon_jax.pools import _arguments, _grid, _unbiased, _winning, _worker

WINNING = _grid.Kernel(_winning.soft, _winning.hard, _winning.base)


def pool_win_rate(
    rewards: Any, n: Any, temperature: Any, *, where: Any = None, nodes: int | None = None
) -> _grid.Curve:
    """The chance that what soft best-of-n selects has more reward than a fresh draw, unbiased.

    For each prompt, the mean over all subsets S of n of its N candidates, and over the N - n that are
    not in S, of the chance that the one selected from S is better; ties count ½.

    Args:
      rewards: `[prompts, N]` scores that select and compare, in the units of `temperature`, traced.
      n: `[M]` or scalar, integers from 1 to N - 1, traced.
      temperature: `[T]` or scalar, at least 0, traced; 0 and inf as in `pool_curve`.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.

    Returns:
      `Curve`, as `pool_curve`, of numbers between 0 and 1; NaN where a pool has fewer than n + 1.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`; n is not below the size of the largest pool.

    Numerics: errors and cost are those of `pool_curve`. At λ = 0 without ties it is n/(n+1), at λ = inf
      1/2.
    Source: derived here, a U-statistic of degree n + 1: one more factor in the recursion for means over
      subsets, the number of worse candidates that are not in the subset.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3], [0.5, 0.2, 0.2, 0.7]])
      >>> rate = sb.pool_win_rate(scores, n=[1, 2, 3], temperature=[0.0, 0.2])
      >>> np.round(np.float64(rate.mean), 3).tolist()
      [[0.5, 0.667, 0.75], [0.5, 0.634, 0.713]]
    """
    pools = _arguments.checked_pools(rewards, None, where)
    request = _arguments.checked(pools, n, temperature, nodes, spare=1, averaged=False)
    return _worker.curve(request, WINNING, _unbiased.work_for, spare=1)
