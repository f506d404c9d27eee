"""Temperature for a KL budget: one problem of 64 outcomes, and 1,000 problems in one call, float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = True, 10
OUTCOMES, PROBLEMS, N, BUDGET = 64, 1000, 16, 0.7


def run(rounds: int, quick: bool) -> _timing.Report:
    """Time both calls, and find the largest relative error in the budget."""
    keys = jax.random.split(jax.random.key(0), PROBLEMS)
    batch = jax.vmap(lambda key: sb.dirichlet(key, OUTCOMES))(keys)
    one = jax.tree.map(lambda x: x[0], batch)
    calls = {
        "one problem": lambda: sb.temperature_for_kl(one, N, BUDGET),
        f"{PROBLEMS} problems": lambda: sb.temperature_for_kl(batch, N, BUDGET),
    }
    times = _timing.race(calls, rounds)
    answer = sb.temperature_for_kl(batch, N, BUDGET)
    met = sb.metrics(batch, N, answer.value).kl_soft_base
    miss = f"largest relative miss {float(jnp.max(jnp.abs(met / BUDGET - 1))):.1e}"
    return _timing.Report({f"K = {OUTCOMES}, n = {N}, budget {BUDGET} nats": times}, {}, [miss])
