"""Credits, win rates and votes of 1,000 prompts × 16 and 200 × 64, beside resampling in NumPy.

Credits are usually estimated by drawing subsets of n of a group and giving each of its members what the
subset earned; win rates and majority votes likewise. The error that resampling leaves is printed.
"""

from __future__ import annotations

import jax
import numpy as np

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = True, 5
TEMPERATURE, N, SUBSETS, CLASSES = 0.5, 8, 1000, 8


def subsets(size: int, rng: np.random.Generator) -> np.ndarray:
    """`[SUBSETS, N]` at random, none twice in one."""
    return rng.random((SUBSETS, size)).argpartition(N - 1, axis=1)[:, :N]


def selected(rewards: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """`[SUBSETS, N]`: how likely each member of a subset is to be selected."""
    w = np.exp((rewards - rewards.max()) / TEMPERATURE)[chosen]
    return w / w.sum(1, keepdims=True)


def credits_of(rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[prompts, group]`, without a baseline."""
    result = np.zeros(rewards.shape)
    for out, row in zip(result, rewards, strict=True):
        chosen = subsets(row.size, rng)
        earned = (selected(row, chosen) * row[chosen]).sum(1)
        np.add.at(out, chosen.ravel(), np.repeat(earned / SUBSETS, N))
    return result


def win_rates(rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[prompts]`."""
    result = np.empty(len(rewards))
    for i, row in enumerate(rewards):
        order = rng.random((SUBSETS, row.size)).argpartition(N, axis=1)[:, : N + 1]
        chosen, fresh = order[:, :N], order[:, N]
        better = row[chosen] > row[fresh][:, None]
        result[i] = (selected(row, chosen) * better).sum(1).mean()
    return result


def majorities(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[prompts, classes]`."""
    result = np.empty((len(answers), CLASSES))
    for i, row in enumerate(answers):
        votes = (row[subsets(row.size, rng)][:, :, None] == np.arange(CLASSES)).sum(1)
        most = votes == votes.max(1, keepdims=True)
        result[i] = (most / most.sum(1, keepdims=True)).mean(0)
    return result


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race all contestants."""
    rng = np.random.default_rng(0)
    groups, pools = rng.normal(size=(1000, 16)), rng.normal(size=(200, 64))
    answers = rng.choice(CLASSES, p=np.arange(CLASSES, 0, -1) / 36, size=(200, 64))
    few = groups[:50]  # resampling is slow: a part of the prompts, scaled up in the ratio

    def whole() -> jax.Array:
        return sb.pool_credits(groups, N, TEMPERATURE, baseline=False)

    def rate() -> jax.Array:
        return sb.pool_win_rate(pools, N, TEMPERATURE).per_prompt

    calls = {
        "pool_credits, 1,000 x 16": lambda: sb.pool_credits(groups, N, TEMPERATURE),
        "pool_credits, 1,000 x 16, no baseline": whole,
        "NumPy credits, 50 x 16": lambda: credits_of(few, rng),
        "pool_win_rate, 200 x 64": rate,
        "NumPy win rate, 200 x 64": lambda: win_rates(pools, rng),
        "pool_votes, 200 x 64": lambda: sb.pool_votes(answers, N),
        "NumPy votes, 200 x 64": lambda: majorities(answers, rng),
    }
    times = _timing.race(calls, rounds)
    names = list(calls)
    ratios = {
        "NumPy / pool_credits, no baseline": _timing.ratio(
            times, [names[2]], [names[1]], scale=20.0
        ),
        "NumPy / pool_win_rate": _timing.ratio(times, [names[4]], [names[3]]),
        "NumPy / pool_votes": _timing.ratio(times, [names[6]], [names[5]]),
    }
    off = {
        "credits": np.asarray(whole())[:50] - credits_of(few, rng),
        "win rate": np.asarray(rate()) - win_rates(pools, rng),
        "votes": np.asarray(sb.pool_votes(answers, N)) - majorities(answers, rng),
    }
    errors = ", ".join(f"{name} {np.sqrt(np.mean(x**2)):.2g}" for name, x in off.items())
    remark = f"error of {SUBSETS:,} subsets, rms: {errors}"
    return _timing.Report({f"float64, n = {N}": times}, ratios, [remark])
