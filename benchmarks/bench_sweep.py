"""The exact sweep beside a NumPy simulation of one of its points."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = True, 10
OUTCOMES, N, TEMPERATURES, POINTS_N = 64, 1024, 40, 20
TRIALS, IN_A_ROW = 100_000, 20


def simulate_one_point(
    rng: np.random.Generator, probs: np.ndarray, rewards: np.ndarray, temperature: float
) -> np.ndarray:
    """The selected law from multinomial counts: what a careful NumPy user would write."""
    total, chunk = np.zeros_like(probs), 10_000
    weights = np.exp((rewards - rewards.max()) / temperature)
    for _ in range(TRIALS // chunk):
        scores = rng.multinomial(N, probs, size=chunk) * weights
        total += (scores / scores.sum(axis=1, keepdims=True)).sum(axis=0)
    return total / TRIALS


def run(rounds: int, json: Path | None) -> None:
    """Run both and print the tables."""
    base = sb.dirichlet(jax.random.key(0), OUTCOMES)
    problem = sb.Problem(base.log_probs, base.rewards / jnp.ptp(base.rewards))
    n = np.unique(np.rint(np.geomspace(1, N, POINTS_N + 6)))[-POINTS_N:]
    temperature = np.geomspace(0.05, 10, TEMPERATURES)
    probs, rewards = np.exp(problem.log_probs), np.asarray(problem.rewards)
    rng = np.random.default_rng(0)
    points = n.size * temperature.size

    sweep = f"{IN_A_ROW} sweeps of {points} points"  # to take about as long as the other
    counts = f"NumPy counts, one point, {TRIALS:,} trials"
    times = _timing.race(
        {
            sweep: lambda: [
                jax.block_until_ready(sb.sweep(problem, n, temperature)) for _ in range(IN_A_ROW)
            ],
            counts: lambda: simulate_one_point(rng, probs, rewards, 0.3),
        },
        rounds,
    )
    work = {sweep: float(IN_A_ROW * points), counts: 1.0}
    title = f"K = {OUTCOMES}, {TEMPERATURES} λ by {n.size} n up to {N}, float64"
    _timing.print_times(title, times, work, "points")
    ratios = {"NumPy / sweep, a point": _timing.ratio(times, [counts], [sweep], IN_A_ROW * points)}
    _timing.print_ratios("how many times faster, median and range over the rounds", ratios)
    _timing.write_json(json, {"sweep": times}, ratios)
