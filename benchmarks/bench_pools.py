"""`pool_curve` on 200 prompts × 256 scores and 10,000 × 64, beside resampling subsets in NumPy.

Then the parts of a whole table of 1,000 × 64 scores, at nine λ and seven n with their errors: curve, KL,
win rate and votes. The `table` is all of them.

The usual estimate of the curve draws subsets of n scores and averages the softmax mean over them. With
1,200 subsets for each prompt and n it has an error of its own, which is printed; the exact average has
none.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = True, 5
TEMPERATURE, SUBSETS = 0.5, 1200


def resample(rewards: np.ndarray, numbers: list[int], rng: np.random.Generator) -> np.ndarray:
    """`[prompts, M]`: the mean over random subsets, what a careful NumPy user would write."""
    result = np.empty((len(rewards), len(numbers)))
    size = rewards.shape[1]
    for i, row in enumerate(rewards):
        weights = np.exp((row - row.max()) / TEMPERATURE)
        for j, n in enumerate(numbers):
            order = rng.random((SUBSETS, size)).argpartition(n - 1, axis=1)[:, :n]
            w = weights[order]
            result[i, j] = np.mean((w * row[order]).sum(1) / w.sum(1))
    return result


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race all contestants."""
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(200, 256)), rng.normal(size=(10_000, 64))
    small_n, large_n = 2 ** np.arange(9), 2 ** np.arange(7)
    few = small[:10]  # resampling is slow: a twentieth of the prompts, scaled up in the ratio
    calls = {
        "pool_curve, 200 x 256, 9 n": lambda: sb.pool_curve(small, small_n, TEMPERATURE).mean,
        "pool_curve, 200 x 256, hard": lambda: sb.pool_curve(small, small_n, 0.0).mean,
        "pool_kl, 200 x 256, 9 n": lambda: sb.pool_kl(small, small_n, TEMPERATURE).mean,
        "pool_curve, 10,000 x 64, 7 n": lambda: sb.pool_curve(large, large_n, TEMPERATURE).mean,
        "NumPy subsets, 10 x 256, 9 n": lambda: resample(few, small_n.tolist(), rng),
    }
    some, answers = large[:1000], rng.integers(8, size=(1000, 64))
    grid = np.concatenate([[0.0], np.geomspace(0.1, 1.5, 7), [np.inf]])
    parts = {
        "curve": lambda: sb.pool_curve(some, large_n, grid).mean,
        "KL": lambda: sb.pool_kl(some, large_n, grid).mean,
        "win rate": lambda: sb.pool_win_rate(some, large_n[:-1], grid).mean,
        "votes": lambda: sb.pool_votes(answers, large_n),
    }
    gold = np.stack([some, rng.normal(size=some.shape)], axis=1)
    alone = {
        "reward": parts["curve"],
        "gold": lambda: sb.pool_curve(some, large_n, grid, values=gold[:, 1]).mean,
        "KL(P_n‖P) and of the tilted law": parts["KL"],
        "pool_table": lambda: sb.pool_table(some, large_n, grid, values=gold).kl.mean,
        "pool_table, float32": lambda: (
            sb.pool_table(np.float32(some), large_n, grid, values=np.float32(gold)).kl.mean
        ),
    }
    one_pass = _timing.race(alone, rounds)
    table = _timing.race(parts | {"table": lambda: [part() for part in parts.values()]}, rounds)
    times = _timing.race(calls, rounds)
    ratios = {
        "NumPy subsets / pool_curve, a prompt": _timing.ratio(
            times, ["NumPy subsets, 10 x 256, 9 n"], ["pool_curve, 200 x 256, 9 n"], scale=20.0
        ),
        "pool_curve twice and pool_kl / pool_table": _timing.ratio(
            one_pass, list(alone)[:3], ["pool_table"]
        ),
        "pool_table, float64 / float32": _timing.ratio(
            one_pass, ["pool_table"], ["pool_table, float32"]
        ),
    }
    exact = sb.pool_curve(few, small_n, TEMPERATURE).per_prompt
    error = jnp.sqrt(jnp.mean((exact - resample(few, small_n.tolist(), rng)) ** 2, axis=0))
    remark = f"error of {SUBSETS:,} subsets, rms over prompts: {[f'{x:.2g}' for x in error]}"
    measured = {"float64, one λ": times, "1,000 x 64, nine λ, seven n": table}
    measured["the same, in one pass"] = one_pass
    return _timing.Report(measured, ratios, [remark])
