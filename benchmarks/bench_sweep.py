"""The exact sweep beside a NumPy simulation of one of its points, and beside its own floor.

The floor does nothing but the exponentials and multiply-adds of the sweep: for each temperature
e^{-tw} at all nodes and outcomes, and two products [N, nodes] @ [nodes, K], which take the same matrix
here and are one product of twice the rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb
from benchmarks import _timing
from softbon_jax import exact

DOUBLE, ROUNDS = True, 15
OUTCOMES, N, TEMPERATURES, POINTS_N = 64, 1024, 40, 20
TRIALS = 100_000


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


@jax.jit
def floor(t: jax.Array, w: jax.Array, rows: jax.Array) -> jax.Array:
    """The integrals over nodes [T, 2N, K], for t [T, nodes], w [T, K] and rows [T, 2N, nodes]."""
    return rows @ jnp.exp(-t[:, :, None] * w[:, None, :])


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race the sweep, in both precisions and with all kinds of n, with the floor and with NumPy."""
    base = sb.dirichlet(jax.random.key(0), OUTCOMES)
    problem = sb.Problem(base.log_probs, base.rewards / jnp.ptp(base.rewards))
    single = sb.Problem(*(x.astype(jnp.float32) for x in problem))
    small = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    n = np.unique(np.rint(np.geomspace(1, N, POINTS_N + 6)))[-POINTS_N:]
    real_n = np.geomspace(1.5, N, POINTS_N)
    temperature = np.geomspace(0.05, 10, TEMPERATURES)
    probs, rewards = np.exp(problem.log_probs), np.asarray(problem.rewards)
    rng = np.random.default_rng(0)
    points = n.size * temperature.size

    plan = exact.quadrature_plan(problem, temperature, jnp.log(n), None, grid=True)
    shapes = (plan.nodes,), (OUTCOMES,), (2 * n.size, plan.nodes)
    t, w, rows = (jnp.asarray(rng.random((TEMPERATURES, *shape))) for shape in shapes)
    counts = f"NumPy counts, one point, {TRIALS:,} trials"
    times = _timing.race(
        {
            "sweep": lambda: sb.sweep(problem, n, temperature),
            "sweep, float32": lambda: sb.sweep(single, n, temperature),
            "sweep, n + 1/2": lambda: sb.sweep(problem, n + 0.5, temperature),
            "sweep, real n from 1.5": lambda: sb.sweep(problem, real_n, temperature),
            "floor": lambda: floor(t, w, rows),
            "metrics, K = 4": lambda: sb.metrics(small, 16, 0.3),
            counts: lambda: simulate_one_point(rng, probs, rewards, 0.3),
        },
        rounds,
    )

    def over(above: str, below: str, at_most: float | None = None) -> _timing.Spread:
        return _timing.ratio(times, [above], [below], at_most=at_most)

    values = {
        "points of the sweep/s": _timing.per_second(times["sweep"], points),
        "NumPy / sweep, a point": _timing.ratio(times, [counts], ["sweep"], points),
        f"sweep / floor, {plan.nodes} nodes": over("sweep", "floor", 3),
        "float32 / float64": over("sweep, float32", "sweep"),
        "n + 1/2 / integer n": over("sweep, n + 1/2", "sweep", 1.5),
        "real n from 1.5 / integer n": over("sweep, real n from 1.5", "sweep", 1.5),
        "metrics of K = 4, called eagerly, ms": _timing.seconds(times["metrics, K = 4"], 1e3, 0.3),
    }
    title = f"K = {OUTCOMES}, {TEMPERATURES} λ by {n.size} n up to {N}, float64"
    return _timing.Report({title: times}, values)
