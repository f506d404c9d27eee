"""Estimates of reward, gold and KL for every prompt, on a grid of n and temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from softbon_jax import _checks
from softbon_jax.pools.curves import leave_one_out, pool_curve
from softbon_jax.pools.divergences import pool_kl
from softbon_jax.scores import Scores


class Table(NamedTuple):
    """Estimates on a grid of n and temperature, the same prompts at every point.

    Attributes:
      temperature: `[T]` in reward units.
      n: `[M]` integers, increasing.
      reward: `[prompts, T, M]` unbiased mean of the score that selects.
      gold: `[prompts, T, M]` unbiased mean of the gold score (of the judge left out, where one is); or
        None.
      kl: `[prompts, T, M]` KL(P_n‖P) in nats, jackknifed.
      prompts: `[prompts]` indices into `Scores.prompts`.
    """

    temperature: np.ndarray
    n: np.ndarray
    reward: np.ndarray
    gold: np.ndarray | None
    kl: np.ndarray
    prompts: np.ndarray

    @property
    def objective(self) -> np.ndarray:
        """The score to maximize: gold where there is one, else the score that selects."""
        return self.reward if self.gold is None else self.gold


@_checks.keyword_only("share")
def default_n(scores: Scores, *, share: float = 0.95) -> np.ndarray:
    """The numbers of candidates to tabulate: powers of two, and the most that nearly all prompts have.

    Args:
      scores: pools.
      share: fraction of the prompts that must have as many responses as the largest n, in (0, 1].

    Returns:
      `[M]` integers, increasing.

    Raises:
      ValueError: `share` is not in (0, 1].

    Numerics: exact.
    Source: derived here: an unbiased estimate at n needs n responses a prompt.

    Example:
      >>> from softbon_jax.command import advice
      >>> advice.default_n(sb.scores.padded({"a": np.zeros(12), "b": np.zeros(20)})).tolist()
      [1, 2, 4, 8, 12]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    sizes = np.sort(scores.where.sum(1))
    largest = int(sizes[int((1 - share) * len(sizes))])
    return np.unique([*(2 ** np.arange(largest.bit_length())), largest])


def default_temperatures(scores: Scores) -> np.ndarray:
    """The temperatures to tabulate: 0, inf, and seven scaled to the rewards.

    Args:
      scores: pools.

    Returns:
      `[9]` temperatures in reward units, increasing: 1/20, 1/10, 1/5, 1/2, 1, 2 and 5 times the median
      over prompts of the standard deviation of a prompt's rewards, and the two ends.

    Raises:
      Nothing for pools as `sb.scores.read` returns them.

    Numerics: rounded to two digits. Prompts whose rewards are all equal do not count; if all are such,
      the scale is 1.
    Source: derived here: below 1/20 the law is close to hard best-of-n, above 5 close to a single
      response.

    Example:
      >>> from softbon_jax.command import advice
      >>> advice.default_temperatures(sb.scores.padded({"a": [0.0, 2.0]})).tolist()
      [0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, inf]
    """
    spread = np.array([scores.rewards[i, w].std() for i, w in enumerate(scores.where)])
    scale = float(np.median(spread[spread > 0])) if (spread > 0).any() else 1.0
    between = [float(f"{scale * x:.2g}") for x in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)]
    return np.array([0.0, *between, np.inf])


@_checks.keyword_only("tell")
def tabulate(
    scores: Scores,
    n: Any,
    temperature: Any,
    *,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Table:
    """Estimates of reward, gold and KL for every prompt that has at least max(n) responses.

    Args:
      scores: pools.
      n: `[M]` integers >= 1; the largest is static: another one compiles again.
      temperature: `[T]` in reward units, at least 0; 0 and inf are legal.
      tell: called before each estimate and after the last with how many are done, and of how many.

    Returns:
      `Table`. Prompts with smaller pools are left out, so that all points compare the same prompts.
      Where one judge is left out in turn, every estimate is the mean over which one.

    Raises:
      ValueError: no prompt has that many responses, n is not an integer >= 1, or as `sb.pool_curve`.

    Numerics: those of `sb.pool_curve` and `sb.pool_kl` in the default float dtype: use 64-bit mode. J
      times the cost where one of J judges is left out.
    Source: the estimates are those of `sb.pool_curve`, `sb.pool_kl` and `sb.leave_one_out`.

    Example:
      >>> from softbon_jax.command import advice
      >>> pools = sb.scores.padded({"a": [0.0, 1.0], "b": [2.0, 4.0]})
      >>> table = advice.tabulate(pools, [1, 2], [0.0])
      >>> np.round(table.reward[:, 0].astype(float), 4).tolist()
      [[0.5, 1.0], [3.0, 4.0]]
    """
    n, temperature = np.unique(n), np.asarray(temperature, float)
    _checks.offending("n", n, ~((n >= 1) & (n == np.floor(n))), "an integer of at least 1")
    n, sizes = n.astype(int), scores.where.sum(1)
    prompts = np.flatnonzero(sizes >= n.max())
    if not prompts.size:
        raise ValueError(f"n must be at most {sizes.max()}, the largest pool, got {n.max()}")
    rewards, where = scores.rewards[prompts], scores.where[prompts]
    values = [rewards] if scores.gold is None else [rewards, scores.gold[prompts]]
    turns = 1
    if scores.judges is not None:
        turns = scores.judges.shape[-1]
        rewards, valued = (
            np.asarray(x).reshape(-1, where.shape[1]) for x in leave_one_out(scores.judges[prompts])
        )
        values, where = [rewards, valued], np.tile(where, (turns, 1))

    def over_turns(per_prompt: Any) -> np.ndarray:
        shape = (turns, len(prompts), len(temperature), len(n))
        return np.asarray(per_prompt).reshape(shape).mean(0)

    # One call for the whole grid: each compiles once, and the curves share what they compile.
    curves: list[np.ndarray] = []
    total = len(values) + 1
    for x in values:
        tell(len(curves), total)
        curve = pool_curve(rewards, n, temperature, values=x, where=where)
        curves.append(over_turns(curve.per_prompt))
    tell(len(curves), total)
    kl = over_turns(pool_kl(rewards, n, temperature, where=where).per_prompt)
    tell(total, total)
    return Table(
        temperature=temperature,
        n=n,
        reward=curves[0],
        gold=curves[1] if len(values) == 2 else None,
        kl=kl,
        prompts=prompts,
    )
