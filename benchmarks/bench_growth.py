"""How the cost grows with the size of a problem: slopes of log time against log size."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = True, 7
TEMPERATURE = 0.3
QUICK = 3
"""Sizes of a ladder in a quick run: the first ones."""

LARGEST, LARGEST_BYTES = 1_000_000, 4 * 2**30
"""Outcomes of a problem beyond the ladder, where so much memory is free: twice what it takes."""


class Ladder(NamedTuple):
    """A call for every size."""

    call: Callable[[int], Callable[[], Any]]
    sizes: tuple[int, ...]


def problem(outcomes: int) -> sb.Problem:
    """Rewards spread over [0, 1], no outcome much rarer than another."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, outcomes)
    return sb.from_probs(weights / weights.sum(), rng.random(outcomes))


def metrics(outcomes: int) -> Callable[[], Any]:
    """`metrics` of K outcomes."""
    law = problem(outcomes)
    return lambda: sb.metrics(law, 64, TEMPERATURE)


def sweep(points_n: int = 16, temperatures: int = 16) -> Callable[[], Any]:
    """`sweep` over evenly spaced n up to 1,024, integers all, and λ between fixed ends."""
    law, n = problem(64), 1024 // points_n * np.arange(1, points_n + 1)
    temperature = np.geomspace(0.05, 10, temperatures)
    return lambda: sb.sweep(law, n, temperature)


def law(n: int) -> Callable[[], Any]:
    """`log_soft_bon` of 1,000 outcomes."""
    outcomes = problem(1000)
    return lambda: sb.log_soft_bon(outcomes, n, TEMPERATURE)


def pools(function: Callable[..., Any], prompts: int = 16, size: int = 64) -> Callable[[], Any]:
    """A function of pools, at four n."""
    rewards = np.random.default_rng(0).normal(size=(prompts, size))
    return lambda: function(rewards, np.array([2, 4, 8, 16]), TEMPERATURE)


def simulate(method: Any, n: int = 64, trials: int = 4096) -> Callable[[], Any]:
    """`simulate` 64 outcomes."""
    law, key = problem(64), jax.random.key(0)
    return lambda: sb.simulate(key, law, n, TEMPERATURE, trials=trials, method=method)


def powers(base: int, first: int, stop: int) -> tuple[int, ...]:
    """Powers of the base."""
    return tuple(base**k for k in range(first, stop))


LADDERS = {
    "metrics against K": Ladder(metrics, powers(10, 2, 6)),
    "sweep against the number of n": Ladder(sweep, powers(4, 1, 6)),
    "sweep against the number of λ": Ladder(lambda x: sweep(temperatures=x), powers(4, 1, 6)),
    "log_soft_bon against n": Ladder(law, powers(16, 1, 9)),
    "pool_curve against the pool": Ladder(lambda x: pools(sb.pool_curve, size=x), powers(2, 5, 10)),
    "pool_curve against the prompts": Ladder(
        lambda x: pools(sb.pool_curve, prompts=x), powers(4, 1, 6)
    ),
    "pool_kl against the pool": Ladder(lambda x: pools(sb.pool_kl, size=x), powers(2, 5, 10)),
    "pool_kl against the prompts": Ladder(lambda x: pools(sb.pool_kl, prompts=x), powers(4, 1, 6)),
    "simulate on counts against n": Ladder(lambda x: simulate("counts", n=x), powers(16, 1, 6)),
    "simulate on counts against trials": Ladder(
        lambda x: simulate("counts", trials=x), powers(4, 4, 9)
    ),
    "simulate literally against n": Ladder(lambda x: simulate("literal", n=x), powers(4, 1, 7)),
    "simulate literally against trials": Ladder(
        lambda x: simulate("literal", trials=x), powers(4, 4, 10)
    ),
}


def free_memory() -> int:
    """Bytes of memory that are free, 0 where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race the sizes of each ladder, and fit the exponents; and time the largest problem."""
    tables, exponents = {}, {}
    for name, ladder in LADDERS.items():
        sizes = ladder.sizes[:QUICK] if quick else ladder.sizes
        times = _timing.race({f"{size:,}": ladder.call(size) for size in sizes}, rounds)
        tables[name] = times
        upper = _timing.upper(sizes)
        exponents[f"exponent of {name}, {upper[0]:,} to {upper[-1]:,}"] = _timing.exponent(
            list(times.values()), sizes
        )
    remarks = []
    if not quick and free_memory() >= LARGEST_BYTES:
        tables["metrics of the largest K"] = _timing.race(
            {f"{LARGEST:,}": metrics(LARGEST)}, rounds
        )
    elif not quick:
        remarks.append(f"less than {LARGEST_BYTES / 2**30:g} GiB are free: no K = {LARGEST:,}")
    return _timing.Report(tables, exponents, remarks)
