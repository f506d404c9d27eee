"""How often what soft best-of-n selects beats the best of fresh draws, from pools."""

from __future__ import annotations

import functools
from typing import Any

from softbon_jax import _checks
from softbon_jax.pools import _arguments, _grid, _unbiased, _winning, _worker


@functools.cache
def _winning_against(others: int) -> _grid.Kernel:
    """One kernel for each number, so that nothing is compiled twice."""
    parts = (_winning.soft, _winning.hard, _winning.base)
    soft, hard, base = (functools.partial(part, against=others) for part in parts)
    return _grid.Kernel(soft, hard, base, _winning.elements)


def pool_win_rate(
    rewards: Any,
    n: Any,
    temperature: Any,
    *,
    where: Any = None,
    nodes: int | None = None,
    against: int = 1,
) -> _grid.Curve:
    """The chance that what soft best-of-n selects has more reward than fresh draws, unbiased.

    For each prompt, the mean over all subsets S of n of its N candidates, and over all sets of `against`
    that are not in S, of the chance that the one selected from S is better than all of these, that is,
    than what hard best-of-`against` selects. Where it ties with τ of them, better than all others, it
    counts 1/(1 + τ), as if ties were broken at random: ½ against one fresh draw.

    Args:
      rewards: `[prompts, N]` scores that select and compare, in the units of `temperature`, traced.
      n: `[M]` or scalar, integers from 1 to N - `against`, traced.
      temperature: `[T]` or scalar, at least 0, traced; 0 and inf as in `pool_curve`.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.
      against: static integer of at least 1, how many others are drawn.

    Returns:
      `Curve`, as `pool_curve`, of numbers between 0 and 1; NaN where a pool has fewer than
      n + `against`.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`; `against` is not an integer of at least 1, or n + `against` is above
        the size of the largest pool.

    Numerics: errors and cost are those of `pool_curve`, and memory is O(n · N) for one prompt besides.
      Without ties it is n/(n + `against`) at λ = 0; at λ = inf it is 1/(1 + `against`).
    Source: derived here, a U-statistic of degree n + `against`: one more factor in the recursion for
      means over subsets, the number of ways to draw the others from what is worse and not in the subset.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3], [0.5, 0.2, 0.2, 0.7]])
      >>> rate = sb.pool_win_rate(scores, n=[1, 2, 3], temperature=[0.0, 0.2])
      >>> np.round(np.float64(rate.mean), 3).tolist()
      [[0.5, 0.667, 0.75], [0.5, 0.634, 0.713]]
      >>> rate = sb.pool_win_rate(scores, n=2, temperature=[0.0, 0.2], against=2)
      >>> np.round(np.float64(rate.mean), 3).tolist()  # against the best of two
      [0.5, 0.481]
    """
    pools = _arguments.checked_pools(rewards, None, where)
    against = _checks.positive_integer("against", against)
    kept = _checks.concrete(pools.where)
    most = pools.rewards.shape[1] if kept is None else _arguments.largest_pool(kept)
    if 0 < most <= against:
        raise ValueError(f"against must be below {most}, the largest pool, got {against}")
    request = _arguments.checked(pools, n, temperature, nodes, spare=against, averaged=False)
    kernel = _winning_against(against)
    return _worker.curve(request, kernel, _unbiased.work_for, spare=against)
