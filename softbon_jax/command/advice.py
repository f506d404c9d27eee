"""What to serve: the best n and λ within a budget, how sure that is, and whether the proxy is overdone.

Everything here looks at tables with one row a prompt, which `tabulate` makes; uncertainty is that of
the choice of prompts, by the bootstrap. Where the data cannot tell, the answer says so and why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from softbon_jax.pools.curves import leave_one_out, pool_curve
from softbon_jax.pools.divergences import pool_kl
from softbon_jax.scores import Scores

FEWEST_PROMPTS = 10
"""With fewer, the spread between prompts is not known well enough to say anything."""


class Table(NamedTuple):
    """Estimates `[prompts, T, M]` on a grid, of the same prompts everywhere.

    Attributes:
      temperature: `[T]` in reward units.
      n: `[M]` integers, rising.
      reward: unbiased mean of the selecting score.
      gold: unbiased mean of the gold score, or None; of the judge left out, where one is.
      kl: KL(P_n‖P) in nats, jackknifed.
      prompts: which of the prompts of `Scores` are in, `[prompts]` indices.
    """

    temperature: np.ndarray
    n: np.ndarray
    reward: np.ndarray
    gold: np.ndarray | None
    kl: np.ndarray
    prompts: np.ndarray

    @property
    def objective(self) -> np.ndarray:
        """The gold score where there is one, else the selecting one."""
        return self.reward if self.gold is None else self.gold


class Choice(NamedTuple):
    """The best point of a grid within a budget.

    Attributes:
      ok: whether the data allow a recommendation.
      reason: why not, or what binds; in words.
      n: number of candidates.
      temperature: in reward units.
      value: mean of the objective there, less the optimism of having chosen the largest.
      low: 95% interval for `value`.
      high: likewise.
      gain: `value` less the mean of a single response, with its interval.
      gain_low: likewise.
      gain_high: likewise.
      kl: mean KL(P_n‖P) in nats.
      agreement: share of the bootstrap samples of prompts that choose the same point.
      near: `[T, M]`, share of the bootstrap samples that choose each point.
    """

    ok: bool
    reason: str
    n: int
    temperature: float
    value: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    kl: float
    agreement: float
    near: np.ndarray


class PerPrompt(NamedTuple):
    """A temperature for every prompt instead of one for all, at equal n and equal mean KL.

    Attributes:
      temperature: `[prompts]` in reward units.
      reward: mean of the selecting score, by which the temperatures were chosen.
      gain: of `reward` over one temperature; and its standard error.
      gain_se: likewise.
      objective_gain: of the gold score where there is one (not used for choosing), else `gain`.
      objective_gain_se: its standard error.
    """

    temperature: np.ndarray
    reward: float
    gain: float
    gain_se: float
    objective_gain: float
    objective_gain_se: float


class Verdict(NamedTuple):
    """Whether more selection by the proxy costs gold reward, at one temperature.

    Attributes:
      finding: "turns down", "still rising" or "cannot tell".
      reason: in words, with numbers.
      peak: the n with the largest mean gold score.
      drop: mean gold score at the peak less that at the largest n.
      drop_se: its standard error.
      p_value: of "the gold curve never exceeds its last value", simultaneous over all n.
    """

    finding: str
    reason: str
    peak: int
    drop: float
    drop_se: float
    p_value: float


def default_n(scores: Scores, share: float = 0.95) -> np.ndarray:
    """Powers of two up to the largest n that `share` of the prompts have, and that n."""
    sizes = np.sort(scores.where.sum(1))
    largest = int(sizes[int((1 - share) * len(sizes))])
    return np.unique([*(2 ** np.arange(largest.bit_length())), largest])


def default_temperatures(scores: Scores) -> np.ndarray:
    """0, inf and seven in between: 1/20 to 5 times the typical spread of a prompt's scores."""
    spread = np.array([scores.rewards[i, w].std() for i, w in enumerate(scores.where)])
    scale = float(np.median(spread[spread > 0])) if (spread > 0).any() else 1.0
    between = [float(f"{scale * x:.2g}") for x in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)]
    return np.array([0.0, *between, np.inf])


def tabulate(
    scores: Scores,
    n: np.ndarray,
    temperature: np.ndarray,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Table:
    """The estimates for all prompts that have at least max(n) responses.

    Args:
      scores: pools.
      n: `[M]` integers >= 1.
      temperature: `[T]` in reward units, at least 0.
      tell: is called with how many temperatures are done, and of how many.

    Returns:
      `Table`. Prompts with smaller pools are left out, so that all points are about the same prompts.
      Where judges are left out, all estimates are means over which one is, and J times as costly.

    Raises:
      ValueError: no prompt has that many responses, or as `pool_curve`.
    """
    n = np.unique(np.asarray(n, int))
    temperature = np.asarray(temperature, float)
    sizes = scores.where.sum(1)
    prompts = np.flatnonzero(sizes >= n.max())
    if not prompts.size:
        raise ValueError(f"n must be at most {sizes.max()}, the largest pool, got {n.max()}")
    rewards, where = scores.rewards[prompts], scores.where[prompts]
    values = [rewards] if scores.gold is None else [rewards, scores.gold[prompts]]
    turns = 1
    if scores.judges is not None:
        turns = scores.judges.shape[-1]
        selecting, valuing = leave_one_out(scores.judges[prompts])
        rewards, valued = (np.asarray(x).reshape(-1, where.shape[1]) for x in (selecting, valuing))
        values, where = [rewards, valued], np.tile(where, (turns, 1))

    def of_prompts(estimates: jax.Array) -> np.ndarray:
        return np.asarray(estimates).reshape(turns, len(prompts), -1).mean(0)

    columns: list[list[np.ndarray]] = []
    for done, t in enumerate(temperature):
        tell(done, len(temperature))
        curves = [pool_curve(rewards, n, t, values=x, where=where).per_prompt for x in values]
        kl = pool_kl(rewards, n, t, where=where).per_prompt
        columns.append([of_prompts(x) for x in (curves[0], curves[-1], kl)])
    tell(len(temperature), len(temperature))
    reward, gold, cost = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
    return Table(temperature, n, reward, None if len(values) == 1 else gold, cost, prompts)


def choose(
    table: Table,
    *,
    kl: float | None = None,
    n: int | None = None,
    seed: int = 0,
    samples: int = 2000,
) -> Choice:
    """The best point of the grid within a KL budget, a budget of candidates, or both.

    Args:
      table: of estimates.
      kl: largest mean KL(P_n‖P) in nats.
      n: largest number of candidates.
      seed: of the bootstrap over prompts.
      samples: of it.

    Returns:
      `Choice`. Bootstrap samples choose anew, so that `value` is freed of the optimism of choosing.

    Source: derived here; the bootstrap's estimate of optimism is Efron's (1983).
    """
    prompts = len(table.prompts)
    shape = table.objective.shape[1:]
    objective, costs = (x.reshape(prompts, -1) for x in (table.objective, table.kl))
    weights = _bootstrap(prompts, samples, seed)
    mean, mean_kl = objective.mean(0), costs.mean(0)
    in_reach = np.ones(shape, bool) if n is None else np.broadcast_to(table.n <= n, shape)
    within = in_reach.ravel() & (mean_kl <= (np.inf if kl is None else kl))
    if not within.any():
        lowest = np.nanmin(np.where(in_reach, table.kl.mean(0), np.inf))
        reason = (
            f"no point of the grid is within the budget: the lowest mean KL is {lowest:.3g} nats"
        )
        return _no_choice(reason, shape)
    # Of points that are equally good but for rounding, the cheapest.
    slight = np.ptp(mean) * 1e-9 / max(float(np.ptp(mean_kl)), 1e-300)
    best = int(np.argmax(np.where(within, mean - slight * mean_kl, -np.inf)))
    if prompts < FEWEST_PROMPTS:
        return _no_choice(f"{prompts} prompts are too few, {FEWEST_PROMPTS} are needed", shape)
    means, kls = weights @ objective, weights @ costs
    allowed = in_reach.ravel() & (kls <= (np.inf if kl is None else kl))
    choices = np.argmax(np.where(allowed, means - slight * kls, -np.inf), axis=1)
    optimism = float(np.mean(means[np.arange(samples), choices] - mean[choices]))
    single = objective[:, int(np.argmin(table.n))]
    gains = means[:, best] - weights @ single
    near = np.bincount(choices, minlength=objective.shape[1]).reshape(shape) / samples
    row, column = divmod(best, shape[1])
    low, high = np.quantile(means[:, best], (0.025, 0.975))
    gain_low, gain_high = np.quantile(gains, (0.025, 0.975)) - optimism
    ok, reason = True, _what_binds(table, row, column, kl, n, float(mean_kl[best]))
    if gain_low <= 0:
        ok = False
        gain = mean[best] - single.mean() - optimism
        reason = (
            "no point of the grid is better than a single response beyond doubt: the gain is "
            f"{gain:.3g}, 95% interval {gain_low:.3g} to {gain_high:.3g}"
        )
    return Choice(
        ok,
        reason,
        int(table.n[column]),
        float(table.temperature[row]),
        float(mean[best] - optimism),
        float(low - optimism),
        float(high - optimism),
        float(mean[best] - single.mean() - optimism),
        float(gain_low),
        float(gain_high),
        float(mean_kl[best]),
        float(near[row, column]),
        near,
    )


def _what_binds(
    table: Table, row: int, column: int, kl: float | None, n: int | None, cost: float
) -> str:
    if column == len(table.n) - 1 and (n is None or table.n[-1] <= n):
        return "the largest n that the pools can tell about: more may be better still"
    if n is not None and table.n[column] == table.n[table.n <= n].max():
        return "the budget of candidates binds"
    if kl is not None and cost > 0.8 * kl:
        return "the KL budget binds"
    return "best inside the grid"


def _no_choice(reason: str, shape: tuple[int, ...]) -> Choice:
    nothing = (float("nan"),) * 9
    return Choice(False, reason, 0, *nothing, np.zeros(shape))


def per_prompt_temperatures(table: Table, n: int, kl: float) -> PerPrompt:
    """A temperature for every prompt: the most reward at a mean KL that one temperature would also cost.

    Each prompt takes the temperature of the grid with the largest reward - μ KL, and μ is set so that
    the mean KL comes up to `kl` but not above. One temperature for all is interpolated in the grid to
    exactly the same mean KL.

    Args:
      table: of estimates.
      n: one of the table's.
      kl: mean KL(P_n‖P) in nats to spend.

    Returns:
      `PerPrompt`.

    Raises:
      ValueError: n is not in the table.
    """
    if n not in table.n:
        raise ValueError(f"n must be one of {list(table.n)}, got {n}")
    column = int(np.flatnonzero(table.n == n)[0])
    reward, cost = table.reward[:, :, column], table.kl[:, :, column]
    index = np.arange(len(reward))

    def pick(price: float) -> np.ndarray:
        return np.argmax(reward - price * cost, axis=1)

    low, high = 0.0, float(np.ptp(reward) / max(cost.max(), 1e-12) + 1)
    while cost[index, pick(high)].mean() > kl and high < 1e12:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost[index, pick(middle)].mean() > kl else (low, middle)
    mine = pick(high)
    spent = cost[index, mine].mean()
    order = np.argsort(cost.mean(0))
    at = np.interp(spent, cost.mean(0)[order], np.arange(len(order)))
    left, share = int(np.floor(at)), float(at - np.floor(at))
    right = min(left + 1, len(order) - 1)

    def gain(values: np.ndarray) -> tuple[float, float]:
        common = (1 - share) * values[:, order[left]] + share * values[:, order[right]]
        difference = values[index, mine] - common
        error = difference.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        return float(difference.mean()), float(error)

    objective = table.objective[:, :, column]
    return PerPrompt(
        table.temperature[mine],
        float(reward[index, mine].mean()),
        *gain(reward),
        *gain(objective),
    )


def overoptimized(
    table: Table, temperature: float, *, seed: int = 0, samples: int = 2000
) -> Verdict:
    """Whether the gold curve turns down as n grows, at one temperature of the table.

    The largest studentized lead of an earlier n over the last is compared with its bootstrap law
    under no lead, so that having looked for the peak is paid for.

    Args:
      table: of estimates, with gold.
      temperature: one of the table's.
      seed: of the bootstrap over prompts.
      samples: of it.

    Returns:
      `Verdict`.

    Raises:
      ValueError: no gold score, or the temperature is not in the table.
    """
    if table.gold is None:
        raise ValueError("gold must be there to compare the proxy with, got None")
    rows = np.flatnonzero(table.temperature == temperature)
    if not rows.size:
        raise ValueError(f"temperature must be one of {list(table.temperature)}, got {temperature}")
    gold = table.gold[:, int(rows[0])]
    prompts = len(gold)
    mean = gold.mean(0)
    peak = int(np.argmax(mean))
    leads = gold[:, :-1] - gold[:, -1:]
    if prompts < FEWEST_PROMPTS or len(table.n) < 2:
        what = f"{prompts} prompts" if prompts < FEWEST_PROMPTS else "one n"
        reason = f"{what} cannot tell; {FEWEST_PROMPTS} prompts and two n are needed"
        return Verdict("cannot tell", reason, int(table.n[peak]), *(float("nan"),) * 3)
    lead = leads.mean(0)
    error = leads.std(0, ddof=1) / np.sqrt(prompts)
    error = np.where(error > 0, error, np.inf)
    studentized = _bootstrap(prompts, samples, seed) @ (leads - lead) / error
    p_value = float(np.mean(studentized.max(1) >= (lead / error).max()))
    drop, at = float(mean[peak] - mean[-1]), int(table.n[peak])
    drop_se = float(error[peak]) if peak < len(error) and np.isfinite(error[peak]) else 0.0
    last = int(table.n[-1])
    if p_value < 0.05:
        finding = "turns down"
        reason = (
            f"mean gold is highest at n = {at} and {drop:.3g} ± {drop_se:.2g} lower at n = {last} "
            f"(p = {max(p_value, 1 / samples):.2g})"
        )
    elif (lead / error).max() < -1.645:  # every earlier n is lower, each at the one-sided 5% level
        finding = "still rising"
        reason = f"mean gold at n = {last} is above that at every smaller n (5% level)"
    else:
        finding = "cannot tell"
        widest = float(1.96 * error[np.isfinite(error)].max(initial=0.0))
        reason = (
            f"mean gold at n = {last} differs from that at smaller n by less than the prompts can "
            f"resolve (± {widest:.2g})"
        )
    return Verdict(finding, reason, at, drop, drop_se, p_value)


def _bootstrap(prompts: int, samples: int, seed: int) -> np.ndarray:
    """Weights `[samples, prompts]` of means over prompts drawn with replacement."""
    random = np.random.default_rng(seed)
    return random.multinomial(prompts, np.full(prompts, 1 / prompts), size=samples) / prompts
