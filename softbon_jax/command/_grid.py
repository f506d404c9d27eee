"""Estimates of reward, gold and KL for every prompt, on a grid of n and temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from softbon_jax import _checks
from softbon_jax.command import _processes
from softbon_jax.pools.curves import leave_one_out
from softbon_jax.pools.tables import pool_table
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
      bounds: the lowest and the highest score of a response, of the kind to maximize; None if unknown.
      verdicts: whether these scores are two values only, such as 0 and 1.
    """

    temperature: np.ndarray
    n: np.ndarray
    reward: np.ndarray
    gold: np.ndarray | None
    kl: np.ndarray
    prompts: np.ndarray
    bounds: tuple[float, float] | None = None
    verdicts: bool = False

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


SHARES = (0.95, 0.85, 0.7, 0.5, 0.3, 0.15, 0.07)
"""Of the KL of hard best-of-n, what the temperatures of the default grid spend."""

CALIBRATED = 32
"""The most prompts that the default grid is calibrated on, evenly chosen."""


def default_temperatures(scores: Scores) -> np.ndarray:
    """The temperatures to tabulate: 0, inf, and seven by what they spend.

    Args:
      scores: pools.

    Returns:
      Up to 9 temperatures in reward units, increasing: those at which soft best-of-n, n the largest of
      `default_n`, spends the `SHARES` of the mean KL that hard best-of-n does, and the two ends.

    Raises:
      Nothing for pools as `sb.scores.read` returns them.

    Numerics: rounded to two digits; KL is that of the empirical laws, of at most `CALIBRATED` prompts.
      If all rewards of every prompt are equal, the temperatures are 1/20 to 5.
    Source: derived here: KL says how far a law is from both ends, and no outlier has a hold on it, while
      a spread is what the largest outlier makes it.

    Example:
      >>> from softbon_jax.command import advice
      >>> advice.default_temperatures(sb.scores.padded({"a": [0.0, 2.0]})).tolist()
      [0.0, 0.45, 0.61, 0.81, 1.1, 1.6, 2.4, 3.6, inf]
    """
    n = int(default_n(scores)[-1])
    some = np.flatnonzero(scores.where.sum(1) >= n)
    some = some[np.linspace(0, len(some) - 1, min(len(some), CALIBRATED)).astype(int)]
    pools = [scores.rewards[i, scores.where[i]] for i in some]
    pools = [x for x in pools if np.isfinite(x).any()] or [np.zeros(1)]
    finite = [np.unique(x[np.isfinite(x)]) for x in pools]
    gaps = np.concatenate([np.diff(x) for x in finite])
    if not gaps.size:
        return np.array([0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, np.inf])
    reach = max(float(np.ptp(x)) for x in finite if x.size)
    hard = np.mean([_kl(x, n, gaps.min() / 1000) for x in pools])
    grid = np.geomspace(gaps.min() / 100, 100 * reach, 33)
    for _ in range(2):  # the second time between the outermost answers of the first
        spent = np.array([np.mean([_kl(x, n, t) for x in pools]) for t in grid]) / hard
        falling = np.minimum.accumulate(spent)[::-1]
        answers = np.exp(np.interp(SHARES, falling, np.log(grid)[::-1]))
        grid = np.geomspace(answers.min() / 2, answers.max() * 2, 33)
    return np.unique([0.0, *(float(f"{x:.2g}") for x in answers), np.inf])


def _kl(rewards: np.ndarray, n: int, temperature: float) -> float:
    """KL(P_n‖P) of one pool taken for the policy, to about 1e-6; -inf is never selected.

    P_n/P at a candidate of weight w is n ∫ tw e^{-tw} φ(t)^{n-1} d log t, φ the mean of e^{-tw}: the
    trapezoidal rule on a lattice in log t, where any candidate has a say.
    """
    log_w = (rewards - rewards.max()) / temperature
    step, reach = 0.5, np.arange(-32, 9)
    near = np.round(-log_w[np.isfinite(log_w)] / step)
    lattice = step * np.unique(near[:, None] + reach)
    z = np.exp(np.minimum(lattice[:, None] + log_w, 30.0))
    decay = np.exp(-z)
    ratio = n * step * (decay.mean(1) ** (n - 1)) @ (z * decay)
    return float(np.mean(ratio * np.log(np.where(ratio > 0, ratio, 1.0))))


TOGETHER = 4096
"""The most prompts that are worked on together."""


@_checks.keyword_only("tell")
def tabulate(
    scores: Scores,
    n: Any,
    temperature: Any,
    *,
    tell: Callable[[int, int], None] = lambda done, total: None,
    float32: bool = False,
) -> Table:
    """Estimates of reward, gold and KL for every prompt that has at least max(n) responses.

    Args:
      scores: pools.
      n: `[M]` integers >= 1; the largest is static: another one compiles again.
      temperature: `[T]` in reward units, at least 0; 0 and inf are legal.
      tell: called before each part of up to `TOGETHER` prompts, and at the end, with how many parts are
        done and of how many.
      float32: whether to estimate in float32, of scores less the best or the mean of each pool and in
        units of their range. A third of the time; the table is float64 either way.

    Returns:
      `Table`. Prompts with smaller pools are left out, so that all points compare the same prompts.
      Where one judge is left out in turn, every estimate is the mean over which one. A draw of reward
      -inf counts as the lowest reward there is in the curve of rewards. After
      `jax.distributed.initialize()` every process estimates its part of the prompts and has the whole
      table; all must call this alike.

    Raises:
      ValueError: no prompt has that many responses, n is not an integer >= 1, or as `sb.pool_curve`;
        processes were given different scores or grids.

    Numerics: those of `sb.pool_table` in the default float dtype: use 64-bit mode. With `float32` the
      estimates of one prompt are off by up to 1e-5 of the range of its scores, and KL by 1e-5 nats. J
      times the cost where one of J judges is left out.
    Source: the estimates are those of `sb.pool_table` and `sb.leave_one_out`.

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
    # What a draw that is lost would earn, if nothing else were there: no less than the lowest reward.
    lowest = np.min(scores.rewards[scores.where & np.isfinite(scores.rewards)], initial=np.inf)
    shared = jax.process_count() * -(-len(prompts) // (TOGETHER * jax.process_count()))
    slices = np.array_split(prompts, min(shared, len(prompts)))

    def work(number: int, some: np.ndarray) -> np.ndarray:
        tell(number, len(slices))
        return _estimates(scores, some, n, temperature, float(lowest), float32)

    whole = (scores.rewards, scores.gold, scores.judges, scores.where)
    given = (n, temperature, *(x for x in whole if x is not None))
    found = _processes.each(slices, work, *given)
    tell(len(slices), len(slices))
    reached = _reached(scores, prompts, float(lowest))
    return Table(
        temperature=temperature,
        n=n,
        reward=found[:, 0],
        gold=found[:, 1] if found.shape[1] == 3 else None,
        kl=found[:, -1],
        prompts=prompts,
        bounds=(float(reached.min()), float(reached.max())),
        verdicts=len(np.unique(reached)) <= 2,
    )


def _valued(scores: Scores, prompts: np.ndarray, lowest: float) -> list[np.ndarray]:
    """What is averaged of some prompts, each `[prompts, N]`, without judges."""
    rewards = scores.rewards[prompts]
    valued_as = np.where(np.isneginf(rewards), lowest, rewards)
    return [valued_as] if scores.gold is None else [valued_as, scores.gold[prompts]]


def _reached(scores: Scores, prompts: np.ndarray, lowest: float) -> np.ndarray:
    """The scores to maximize of all responses, in one vector."""
    kept = scores.where[prompts]
    if scores.judges is not None:
        return scores.judges[prompts][kept].ravel()
    return _valued(scores, prompts, lowest)[-1][kept]


def _estimates(
    scores: Scores,
    prompts: np.ndarray,
    n: np.ndarray,
    temperature: np.ndarray,
    lowest: float,
    float32: bool,
) -> np.ndarray:
    """The values of some prompts, and last their KL: `[prompts, V + 1, T, M]`."""
    rewards, where, turns = scores.rewards[prompts], scores.where[prompts], 1
    if scores.judges is None:
        values = _valued(scores, prompts, lowest)
    else:
        turns = scores.judges.shape[-1]
        rewards, left_out = (
            np.asarray(x).reshape(-1, where.shape[1]) for x in leave_one_out(scores.judges[prompts])
        )
        values, where = [rewards, left_out], np.tile(where, (turns, 1))
    averaged = np.stack(values, axis=1)
    if float32:
        rewards, temperature, averaged, units, center = _in_float32(
            rewards, temperature, averaged, where
        )
    table = pool_table(rewards, n, temperature, values=averaged, where=where)
    of_values, kl = (np.asarray(x.per_prompt) for x in (table.values, table.kl))
    if float32:
        of_values = of_values.astype(np.float64) * units[..., None] + center[..., None]
    both = np.concatenate([of_values, kl[:, None]], axis=1)
    return both.reshape(turns, len(prompts), *both.shape[1:]).mean(0)


def _in_float32(
    rewards: np.ndarray, temperature: np.ndarray, values: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, ...]:
    """What selects less the best, what is averaged less its mean, in units that are powers of two.

    Returns the rewards, temperatures and values, and the units and means of the values, in float64.
    """
    best = np.max(np.where(where, rewards, -np.inf), axis=1, keepdims=True)
    below = np.where(where, rewards - np.where(np.isneginf(best), 0.0, best), 0.0)
    unit, kept = _unit(below[np.isfinite(below)]), where[:, None]
    center = np.mean(values, axis=2, where=kept, keepdims=True)
    off = np.where(kept, values - center, 0.0)
    units = np.array([_unit(off[:, i]) for i in range(off.shape[1])])[:, None]
    scaled, of_values = ((x / y).astype(np.float32) for x, y in ((below, unit), (off, units)))
    return scaled, temperature / unit, of_values, units, center


def _unit(values: np.ndarray) -> float:
    """The power of two next above all values, by size; 1 for none."""
    return float(2.0 ** np.frexp(np.max(np.abs(values), initial=0.0))[1])
