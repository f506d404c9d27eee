"""A temperature for every prompt, chosen on one half of its responses and valued on the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from softbon_jax import _checks
from softbon_jax.command._grid import Table, tabulate
from softbon_jax.command._intervals import means, student
from softbon_jax.scores import Scores


class PerPrompt(NamedTuple):
    """One temperature for each prompt instead of one for all, at equal n and equal mean KL.

    The gains are those of temperatures that are chosen on one half of the responses and valued on the
    other. They are NaN without halves.

    Attributes:
      temperature: `[prompts]` in reward units, chosen on all responses.
      reward: mean of the score that selects, which the temperatures maximize, on the other halves.
      gain: increase in mean reward over one shared temperature.
      gain_se: standard error of `gain`, over prompts.
      objective_gain: increase in mean gold over one shared temperature, where there is a gold score,
        which the choice of temperatures does not use; else `gain`.
      objective_gain_se: standard error of `objective_gain`.
      n: number of candidates at which the gains are valued: no more than half of a pool.
      gain_low: lower end of the 95% interval for `gain`.
      gain_high: upper end of that interval.
      objective_gain_low: lower end of the 95% interval for `objective_gain`.
      objective_gain_high: upper end of that interval.
    """

    temperature: np.ndarray
    reward: float
    gain: float
    gain_se: float
    objective_gain: float
    objective_gain_se: float
    n: int
    gain_low: float
    gain_high: float
    objective_gain_low: float
    objective_gain_high: float


def halves(
    scores: Scores,
    table: Table,
    n: int,
    *,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
    float32: bool = False,
) -> tuple[Table, Table] | None:
    """Estimates on two halves of the responses of every prompt, which are cut at random.

    Args:
      scores: the pools.
      table: estimates on whole pools, from `tabulate`.
      n: number of candidates; the largest that half a pool of every prompt has, if that is smaller.
      seed: of the cut.
      tell: as that of `tabulate`.
      float32: as that of `tabulate`.

    Returns:
      Two tables of one n, with the prompts and the temperatures of `table`; or None if half of a pool
      has fewer than two responses.

    Raises:
      ValueError: `n` or `seed` is not a whole number, or is too small.

    Numerics: those of `tabulate`. The odd response of a pool is left out.
    Source: derived here: given the prompt, the halves are independent.

    Example:
      >>> from softbon_jax.command import advice
      >>> pools = sb.scores.padded({"a": [0.0, 1.0, 2.0, 3.0], "b": [2.0, 2.0, 4.0, 4.0]})
      >>> table = advice.tabulate(pools, [1, 4], [0.0])
      >>> first, second = advice.halves(pools, table, 4)
      >>> first.n.tolist(), first.reward.shape
      ([2], (2, 1, 1))
    """
    n = _checks.positive_integer("n", n)
    seed = _checks.positive_integer("seed", seed, least=0, most=2**63 - 1)
    where = scores.where[table.prompts]
    size = where.sum(1, keepdims=True) // 2
    if size.min() < 2:
        return None
    random = np.random.default_rng(seed)
    order = np.argsort(np.where(where, random.random(where.shape), 2.0), axis=1)
    column = np.arange(size.max())
    ours = np.tile(column < size, (2, 1))
    # Beyond its size a half shows again what it begins with, which `ours` hides.
    other = np.take_along_axis(order, size + np.where(column < size, column, 0), axis=1)
    places = np.concatenate([order[:, column], other])
    rows = np.tile(table.prompts, 2)[:, None]

    def cut(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows, places]

    both = scores._replace(
        rewards=scores.rewards[rows, places],
        gold=cut(scores.gold),
        judges=cut(scores.judges),
        where=ours,
    )
    fewest = [min(n, int(size.min()))]
    found = tabulate(both, fewest, table.temperature, tell=tell, float32=float32)
    count = len(table.prompts)
    first, second = (
        found._replace(
            reward=found.reward[part],
            gold=None if found.gold is None else found.gold[part],
            kl=found.kl[part],
            prompts=table.prompts,
        )
        for part in (slice(count), slice(count, None))
    )
    return first, second


def per_prompt_temperatures(
    table: Table, n: int, kl: float, *, halves: tuple[Table, Table] | None = None
) -> PerPrompt:
    """A temperature for every prompt: the most reward at the mean KL of one shared temperature.

    Each prompt takes the temperature of the grid with the largest reward - μ KL; μ is the smallest price
    at which the mean KL is at most `kl`. What that earns cannot be told from the same responses, whose
    noise the choice follows. So it is done again on each half of the responses, and valued on the other,
    against a shared temperature that is interpolated in the grid to the mean KL that is spent there.

    Args:
      table: estimates, from `tabulate`.
      n: one of `table.n`.
      kl: mean KL(P_n‖P) in nats to spend.
      halves: estimates on two halves of the responses, from `halves`; None to leave the gains out.

    Returns:
      `PerPrompt`. Where half of a pool has fewer than n responses, the gains are those at the n of
      `halves`, at the KL that the shared temperature spends there.

    Raises:
      ValueError: n is not in the table.

    Numerics: float64; μ by 60 bisections. Intervals have Student's t quantiles over prompts; where
      prompts are alike, their lower end is above 0 in at most 5 of 100 data sets
      (tests/test_per_prompt.py).
    Source: derived here: the Lagrangian of a mean KL budget separates over prompts.

    Example:
      >>> from softbon_jax.command import advice
      >>> reward = np.array([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 9.0], [0.0, 0.0]]])
      >>> kl = np.array([[[0.0, 1.0], [0.0, 0.0]]] * 2)
      >>> grid = (np.array([0.0, np.inf]), np.array([1, 2]))
      >>> table = advice.Table(*grid, reward, None, kl, np.arange(2))
      >>> half = table._replace(n=grid[1][1:], reward=reward[..., 1:], kl=kl[..., 1:])
      >>> each = advice.per_prompt_temperatures(table, 2, 0.5, halves=(half, half))
      >>> each.temperature.tolist(), each.gain
      ([inf, 0.0], 2.0)
    """
    if n not in table.n:
        raise ValueError(f"n must be one of {list(table.n)}, got {n}")
    column = int(np.flatnonzero(table.n == n)[0])
    temperature = table.temperature[_pick(table.reward[:, :, column], table.kl[:, :, column], kl)]
    if halves is None:
        return PerPrompt(temperature, *(float("nan"),) * 5, 0, *(float("nan"),) * 4)
    # The place in the grid of the shared temperature that spends `kl`.
    order = np.argsort(table.kl[:, :, column].mean(0))
    place = np.interp(kl, table.kl[:, :, column].mean(0)[order], np.arange(len(order)))
    rewards, gains, objective_gains = [], [], []
    for chosen, valued in (halves, halves[::-1]):
        spent = np.interp(place, np.arange(len(order)), chosen.kl[:, :, 0].mean(0)[order])
        mine = _pick(chosen.reward[:, :, 0], chosen.kl[:, :, 0], float(spent))
        rewards.append(float(np.take_along_axis(valued.reward[:, :, 0], mine[:, None], 1).mean()))
        gains.append(_gained(valued.reward[:, :, 0], valued.kl[:, :, 0], mine))
        objective_gains.append(_gained(valued.objective[:, :, 0], valued.kl[:, :, 0], mine))
    reach = student(len(table.prompts) - 1)
    gain, gain_se = map(float, means(np.mean(gains, axis=0)))
    objective, objective_se = map(float, means(np.mean(objective_gains, axis=0)))
    return PerPrompt(
        temperature=temperature,
        reward=float(np.mean(rewards)),
        gain=gain,
        gain_se=gain_se,
        objective_gain=objective,
        objective_gain_se=objective_se,
        n=int(halves[0].n[0]),
        gain_low=gain - reach * gain_se,
        gain_high=gain + reach * gain_se,
        objective_gain_low=objective - reach * objective_se,
        objective_gain_high=objective + reach * objective_se,
    )


def _pick(reward: np.ndarray, cost: np.ndarray, kl: float) -> np.ndarray:
    """For each prompt of `[prompts, T]` the index of its temperature, at a mean cost of at most `kl`."""
    index = np.arange(len(reward))

    def pick(price: float) -> np.ndarray:
        return np.argmax(reward - price * cost, axis=1)

    low, high = 0.0, float(np.ptp(reward) / max(cost.max(), 1e-12) + 1)
    while cost[index, pick(high)].mean() > kl and high < 1e12:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost[index, pick(middle)].mean() > kl else (low, middle)
    return pick(high)


def _gained(values: np.ndarray, cost: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """What each prompt gains by its own temperature over a shared one of the same mean cost.

    The shared one lies between two of the grid. Where in between depends on what is spent, which is an
    estimate too: the last term, whose mean is 0, gives the spread over prompts its part.
    """
    level = cost.mean(0)
    own, own_cost = (np.take_along_axis(x, mine[:, None], 1)[:, 0] for x in (values, cost))
    order = np.argsort(level)
    at = np.interp(own_cost.mean(), level[order], np.arange(len(order)))
    left = min(int(at), max(len(order) - 2, 0))
    share = float(at - left)
    low, high = order[left], order[min(left + 1, len(order) - 1)]
    shared, shared_cost = ((1 - share) * x[:, low] + share * x[:, high] for x in (values, cost))
    width = level[high] - level[low]
    slope = (values[:, high] - values[:, low]).mean() / width if width > 0 else 0.0
    return own - shared - slope * (own_cost - shared_cost)
