"""python -m benchmarks: the exact sweep beside a NumPy simulation of one of its points."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb

OUTCOMES, N, TEMPERATURES, POINTS_N = 64, 1024, 40, 20
TRIALS, ROUNDS, CALLS = 100_000, 5, 10


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


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call, its results ready."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def main() -> None:
    """Print medians, spreads and the ratio a point."""
    jax.config.update("jax_enable_x64", True)
    base = sb.dirichlet(jax.random.key(0), OUTCOMES)
    problem = sb.Problem(base.log_probs, base.rewards / jnp.ptp(base.rewards))
    n = np.unique(np.rint(np.geomspace(1, N, POINTS_N + 6)))[-POINTS_N:]
    temperature = np.geomspace(0.05, 10, TEMPERATURES)
    probs, rewards = np.exp(problem.log_probs), np.asarray(problem.rewards)
    rng = np.random.default_rng(0)

    compile_time = seconds(lambda: sb.sweep(problem, n, temperature))
    exact, simulated = [], []
    for _ in range(ROUNDS):  # interleaved, so that a drift of the machine meets both
        exact += [seconds(lambda: sb.sweep(problem, n, temperature)) for _ in range(CALLS)]
        simulated.append(seconds(lambda: simulate_one_point(rng, probs, rewards, 0.3)))
    points = n.size * temperature.size
    per_point = statistics.median(exact) / points
    device = jax.devices()[0]
    print(
        f"{device.device_kind} ({device.platform}), jax {jax.__version__}, float64, K = {OUTCOMES}"
    )
    print(f"sweep of {temperature.size} λ by {n.size} n, first call: {compile_time:.2f} s")
    print(
        f"sweep, warm: median {1e3 * statistics.median(exact):.2f} ms "
        f"[{1e3 * min(exact):.2f}, {1e3 * max(exact):.2f}], {1 / per_point:,.0f} points/s"
    )
    print(
        f"NumPy multinomial counts, one point, n = {N}, {TRIALS:,} trials: median "
        f"{statistics.median(simulated):.2f} s [{min(simulated):.2f}, {max(simulated):.2f}]"
    )
    print(f"ratio a point: {statistics.median(simulated) / per_point:,.0f}")


if __name__ == "__main__":
    main()
