"""What to serve: the best n and λ within a budget, with its uncertainty, and signs of over-optimization.

`tabulate` estimates reward, gold and KL for every prompt on a grid of n and λ; the other functions read
its `Table`. Uncertainty is that of the sample of prompts, by the bootstrap over prompts. Where the data
do not settle a question, the answer says so and gives the reason.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from softbon_jax import _checks
from softbon_jax.command._ballot import Ballot as Ballot, ballot as ballot
from softbon_jax.command._grid import (
    Table as Table,
    default_n as default_n,
    default_temperatures as default_temperatures,
    tabulate as tabulate,
)
from softbon_jax.command._intervals import student
from softbon_jax.command._per_prompt import (
    PerPrompt as PerPrompt,
    halves as halves,
    per_prompt_temperatures as per_prompt_temperatures,
)

FEWEST_PROMPTS = 10
"""With fewer, the spread between prompts is too uncertain for any conclusion."""


MOST_RESAMPLED = 4096
"""Of more prompts than this, so many groups are resampled instead."""


class Choice(NamedTuple):
    """The best point of a grid within a budget.

    Attributes:
      ok: whether the data support a recommendation.
      reason: why not, or which limit binds; in words.
      n: number of candidates.
      temperature: in reward units.
      value: mean of the objective at the point, corrected for the optimism of choosing the largest.
      low: lower end of the 95% interval for `value`.
      high: upper end of that interval.
      gain: `value` minus the mean objective of a single response.
      gain_low: lower end of the 95% interval for `gain`.
      gain_high: upper end of that interval.
      kl: mean KL(P_n‖P) in nats.
      agreement: fraction of the bootstrap samples of prompts in which the same point is best.
      near: `[T, M]` fraction of the bootstrap samples in which each point is best.
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


class Verdict(NamedTuple):
    """Whether more selection by the proxy lowers the gold score, at one temperature.

    Attributes:
      finding: "turns down", "still rising" or "cannot tell".
      reason: in words, with numbers.
      peak: the n with the largest mean gold score.
      drop: mean gold score at the peak minus that at the largest n.
      drop_se: standard error of `drop`.
      p_value: of the hypothesis that mean gold at no n exceeds that at the largest, simultaneously over
        all n.
    """

    finding: str
    reason: str
    peak: int
    drop: float
    drop_se: float
    p_value: float


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
      table: estimates, from `tabulate`.
      kl: largest mean KL(P_n‖P) in nats; None for no limit.
      n: largest number of candidates; None for no limit.
      seed: of the bootstrap over prompts.
      samples: number of bootstrap samples.

    Returns:
      `Choice`. Each bootstrap sample repeats the choice, which measures the optimism of choosing the
      largest of noisy means; `value` and `gain` are corrected for it. The intervals hold for all points
      at once, so that the choice does not spoil them; gains are paired with a single response, and
      where scores are 0 or 1 their interval allows for one more prompt at either end. `ok` is False if
      no point is within the budget, if there are fewer than `FEWEST_PROMPTS` prompts, if the best point
      is that of a single response, or if the 95% interval of the gain over one reaches 0.

    Raises:
      ValueError: `samples` is not a positive integer.

    Numerics: float64, deterministic for a seed; memory is `samples` times the number of prompts, or
      `MOST_RESAMPLED`, and `samples` times that of points. Of points that are equal to 1e-9 of the
      spread the one of lower KL is chosen.
    Source: derived here; the bootstrap estimate of optimism is Efron's (JASA 78, 1983).

    Example:
      >>> from softbon_jax.command import advice
      >>> kl = np.log([1.0, 2.0, 4.0]) * np.ones((40, 1, 1))
      >>> reward = np.random.default_rng(0).normal(size=(40, 1, 3)) + [0.0, 2.0, 4.0]
      >>> grid = (np.zeros(1), np.array([1, 2, 4]))
      >>> choice = advice.choose(advice.Table(*grid, reward, None, kl, np.arange(40)), kl=1.0)
      >>> choice.n, choice.reason
      (2, 'best inside the grid')
    """
    samples = _checks.positive_integer("samples", samples)
    prompts = len(table.prompts)
    shape = table.objective.shape[1:]
    objective, costs = (x.reshape(prompts, -1) for x in (table.objective, table.kl))
    # All points of one response, and all at λ = inf, are one law: that of a single response.
    single = objective[:, [int(np.argmin(table.n))]]
    same = ((table.n == 1)[None] | np.isposinf(table.temperature)[:, None]).ravel()
    (objective, costs), size = _in_groups(np.where(same, single, objective), costs)
    single = objective[:, [int(np.argmin(table.n))]]
    weights = _bootstrap(len(objective), samples, seed)
    mean, mean_kl = objective.mean(0), costs.mean(0)
    in_reach = np.ones(shape, bool) if n is None else np.broadcast_to(table.n <= n, shape)
    within = in_reach.ravel() & (mean_kl <= (np.inf if kl is None else kl))
    if not within.any():
        lowest = np.nanmin(np.where(in_reach, table.kl.mean(0), np.inf))
        reason = (
            f"no point of the grid is within the budget: the lowest mean KL is {lowest:.3g} nats"
        )
        return _no_choice(reason, shape)
    # Of points that are equal up to rounding, the cheapest.
    slight = np.ptp(mean) * 1e-9 / max(float(np.ptp(mean_kl)), 1e-300)
    best = int(np.argmax(np.where(within, mean - slight * mean_kl, -np.inf)))
    if prompts < FEWEST_PROMPTS:
        return _no_choice(f"{prompts} prompts are too few, {FEWEST_PROMPTS} are needed", shape)
    means, kls = weights @ objective, weights @ costs
    allowed = in_reach.ravel() & (kls <= (np.inf if kl is None else kl))
    choices = np.argmax(np.where(allowed, means - slight * kls, -np.inf), axis=1)
    optimism = float(np.mean(means[np.arange(samples), choices] - mean[choices]))
    near = np.bincount(choices, minlength=objective.shape[1]).reshape(shape) / samples
    row, column = divmod(best, shape[1])
    gained = objective - single
    low, high = _simultaneous(objective, weights, within, best)
    gain_low, gain_high = _simultaneous(gained, weights, within & ~same, best)
    if table.bounds is not None and table.verdicts:  # a rare failure may not have been seen
        more = _bootstrap(len(gained) + 1, samples, seed)
        ends = [_with_another(gained, x - single.mean(), size) for x in table.bounds]
        gain_low = _simultaneous(ends[0], more, within & ~same, best)[0]
        gain_high = _simultaneous(ends[1], more, within & ~same, best)[1]
    gain = float(gained[:, best].mean()) - optimism
    ok, reason = True, _binding(table, row, column, kl, n, float(mean_kl[best]))
    if same[best]:
        ok, gain, gain_low, gain_high = False, 0.0, 0.0, 0.0
        reason = "no point of the grid within the budget earns more than a single response"
    elif gain_low <= 0:
        ok = False
        reason = (
            "no point of the grid is better than a single response beyond doubt: the gain is "
            f"{gain:.3g}, 95% interval {gain_low:.3g} to {gain_high:.3g}"
        )
    return Choice(
        ok=ok,
        reason=reason,
        n=int(table.n[column]),
        temperature=float(table.temperature[row]),
        value=float(mean[best] - optimism),
        low=low,
        high=high,
        gain=gain,
        gain_low=gain_low,
        gain_high=gain_high,
        kl=float(mean_kl[best]),
        agreement=float(near[row, column]),
        near=near,
    )


def _simultaneous(
    values: np.ndarray, weights: np.ndarray, among: np.ndarray, at: int
) -> tuple[float, float]:
    """A 95% interval for the mean of one point that holds for whichever of `among` is chosen.

    The bootstrap-t of the largest studentized deviation over all of them.
    """
    mean, count = values.mean(0), len(values)
    whole = np.sqrt(values.var(0) / count)
    if whole[at] == 0:
        return float(mean[at]), float(mean[at])
    among = among & (whole > 1e-12 * max(float(np.abs(values).max()), 1e-300))
    moved = weights @ values[:, among] - mean[among]
    spread = np.maximum(weights @ (values[:, among] - mean[among]) ** 2 - moved**2, 0.0) / count
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(moved) / np.sqrt(spread)
    largest = np.nanmax(ratio, axis=1, initial=0.0)
    reach = float(np.quantile(largest, 0.95, method="higher")) * float(whole[at])
    return float(mean[at]) - reach, float(mean[at]) + reach


def _binding(
    table: Table, row: int, column: int, kl: float | None, n: int | None, cost: float
) -> str:
    if column == len(table.n) - 1 and (n is None or table.n[-1] <= n):
        return "the largest n that the pools allow: more may be better still"
    if n is not None and table.n[column] == table.n[table.n <= n].max():
        return "the budget of candidates binds"
    if kl is not None and cost > 0.8 * kl:
        return "the KL budget binds"
    return "best inside the grid"


def _no_choice(reason: str, shape: tuple[int, ...]) -> Choice:
    """No recommendation, for a reason; every number is NaN."""
    nothing = (float("nan"),) * 9
    return Choice(False, reason, 0, *nothing, np.zeros(shape))


def overoptimized(
    table: Table, temperature: float, *, seed: int = 0, samples: int = 2000
) -> Verdict:
    """Whether the gold curve turns down as n grows, at one temperature of the table.

    The lead of an n is its mean gold score minus that at the largest n. The largest studentized lead is
    compared with its bootstrap-t distribution when no n leads, which accounts for the search for the
    peak and for skewness. A prompt is added in which the largest n earns the highest score there is:
    what few prompts have not shown is not taken to be impossible.

    Args:
      table: estimates with gold, from `tabulate`.
      temperature: one of `table.temperature`.
      seed: of the bootstrap over prompts.
      samples: number of bootstrap samples.

    Returns:
      `Verdict`.

    Raises:
      ValueError: the table has no gold score, the temperature is not in the table, or `samples` is not
        a positive integer.

    Numerics: float64, deterministic for a seed. "turns down" at the 5% level; "still rising" if every
      earlier n is lower, each at the one-sided 5% level. Where gold is independent of the proxy, it says
      "turns down" in at most 5 of 100 data sets of 10 to 100 prompts, for gold that is 0/1, normal or
      skewed (tests/test_advice_errors.py).
    Source: derived here; the maximum of studentized differences is the statistic of Hansen's test of
      superior ability (J. Bus. Econ. Stat. 23, 2005); the bootstrap-t is Efron's.

    Example:
      >>> from softbon_jax.command import advice
      >>> gold = np.random.default_rng(0).normal(size=(40, 1, 3)) + [0.0, 2.0, 1.0]
      >>> grid = (np.zeros(1), np.array([1, 2, 4]))
      >>> table = advice.Table(*grid, gold, gold, np.zeros_like(gold), np.arange(40))
      >>> verdict = advice.overoptimized(table, 0.0)
      >>> verdict.finding, verdict.peak
      ('turns down', 2)
    """
    samples = _checks.positive_integer("samples", samples)
    if table.gold is None:
        raise ValueError("overoptimized needs a table with a gold score, got gold None")
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
    error = leads.std(0, ddof=1) / np.sqrt(prompts)
    error = np.where(error > 0, error, np.inf)
    low, high = table.bounds or (float(gold.min()), float(gold.max()))
    (groups,), size = _in_groups(leads)
    p_value = _p_of_leads(_with_another(groups, mean[:-1] - high, size), samples, seed)
    rising = _with_another(-groups, low - mean[:-1], size)
    p_rising = _p_of_leads(rising, samples, seed, every=True)
    drop, at = float(mean[peak] - mean[-1]), int(table.n[peak])
    drop_se = float(error[peak]) if peak < len(error) and np.isfinite(error[peak]) else 0.0
    last = int(table.n[-1])
    if p_value < 0.05:
        finding = "turns down"
        reason = (
            f"mean gold is highest at n = {at} and {drop:.3g} ± {drop_se:.2g} lower at n = {last} "
            f"(p = {max(p_value, 1 / samples):.2g})"
        )
    elif p_rising < 0.05:
        finding = "still rising"
        reason = f"mean gold at n = {last} is above that at every smaller n (5% level)"
    else:
        finding = "cannot tell"
        widest = float(student(prompts - 1) * error[np.isfinite(error)].max(initial=0.0))
        reason = (
            f"mean gold at n = {last} differs from that at smaller n by less than the prompts can "
            f"resolve (± {widest:.2g})"
        )
    return Verdict(finding, reason, at, drop, drop_se, p_value)


def _p_of_leads(leads: np.ndarray, samples: int, seed: int, *, every: bool = False) -> float:
    """Bootstrap-t p-value of the hypothesis that no mean of `[prompts, M]` leads, or groups, is above 0.

    With `every`, that not every one of them is: the largest p-value.
    """
    prompts = len(leads)
    weights = _bootstrap(prompts, samples, seed)
    mean = leads.mean(0)
    moved = weights @ leads - mean
    spread = np.maximum(weights @ (leads - mean) ** 2 - moved**2, 0.0)
    error, whole = np.sqrt(spread / prompts), np.sqrt(leads.var(0) / prompts)
    tiny = 1e-9 * max(float(np.abs(leads).max()), 1e-300)
    # A sample without any spread says nothing: it counts against the finding where it moved up.
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(whole > tiny, mean / whole, np.where(mean > tiny, np.inf, -np.inf))
        drawn = np.where(error > tiny, moved / error, np.where(moved >= -tiny, np.inf, -np.inf))
    if every:
        return float(np.max(np.mean(drawn >= found, axis=0)))
    return float(np.mean(drawn.max(1) >= found.max()))


def _in_groups(*values: np.ndarray) -> tuple[list[np.ndarray], float]:
    """Arrays `[prompts, M]`, or the means of groups where prompts are many, and the size of a group.

    The sizes differ by one prompt at most. What a group deviates is a sum divided by their mean: so the
    mean of the groups is that of all prompts, and its variance, estimated from them, has no bias.
    """
    prompts = len(values[0])
    if prompts <= MOST_RESAMPLED:
        return list(values), 1.0
    size = prompts / MOST_RESAMPLED
    starts = np.arange(MOST_RESAMPLED) * prompts // MOST_RESAMPLED
    # Neighbors in a file may be alike: a group takes its prompts from all over it.
    order = np.random.default_rng(prompts).permutation(prompts)
    means = [x.mean(0) for x in values]
    sums = [
        np.add.reduceat((x - mean)[order], starts) for x, mean in zip(values, means, strict=True)
    ]
    return [mean + x / size for mean, x in zip(means, sums, strict=True)], size


def _with_another(values: np.ndarray, other: Any, size: float) -> np.ndarray:
    """Prompts, or groups of a size, and one more: `other`, among prompts like the mean."""
    mean = values.mean(0)
    return np.vstack([values, np.broadcast_to(mean + (other - mean) / size, mean.shape)])


def _bootstrap(prompts: int, samples: int, seed: int) -> np.ndarray:
    """Weights `[samples, prompts]` of means over prompts drawn with replacement."""
    random = np.random.default_rng(seed)
    return random.multinomial(prompts, np.full(prompts, 1 / prompts), size=samples) / prompts


def __getattr__(name: str) -> Any:
    """The name before American spelling, for one release."""
    if name == "overoptimised":
        warnings.warn("overoptimised is now overoptimized", DeprecationWarning, stacklevel=2)
        return overoptimized
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
