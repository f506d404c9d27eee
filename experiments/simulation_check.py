"""Both simulators against the exact law of soft best-of-n, in standard errors.

Literal simulation draws n candidates and selects one of them. Simulation on counts averages over the
selection and uses the counts as a control variate, so that its error falls as 1/n. Temperatures 0 and
inf are hard best-of-n and the reference law.

Beside them, at one n and λ and many trials, streams that come in two batches: those of literal
simulation, and those of a `Reservoir`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import (
    METRICS,
    a_cell_a_problem,
    assemble,
    grid,
    metric_variables,
    of_one_problem,
    variable,
)

METHODS: tuple[Literal["counts", "literal"], ...] = ("counts", "literal")
FIELDS = ("reward", "kl_soft_base", "kl_tilted_soft", "tv")
GRID = ("problem", "temperature", "n")
DIMS = ("problem", "simulator", "temperature", "n")
STREAMS = ("literal", "reservoir")
LENGTH, FIRST, STREAM_TEMPERATURE = 20, 7, 0.2
"""Candidates of a stream and, in the reservoir, of its first batch; literal simulation takes 16."""
SHARE = 4
"""Reservoirs take far longer than literal simulation: there is one for so many trials of that."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      temperatures: in reward units, so in units of the reward range.
      n: numbers of candidates.
      trials: simulated selections for each temperature, n and method.
      streams: selections from streams by literal simulation.
      appearances: a probability is compared if literal simulation is expected to select its outcome,
        and to select another, at least this often.
      seed: of the random problems and of the simulation.
    """

    problems: tuple[str, ...] = ("four", "dirichlet", "zipf", "worst_case")
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.5, 1.0, np.inf)
    n: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    trials: int = 16_384
    streams: int = 131_072
    appearances: float = 30.0
    seed: int = 0


PAPER = Config()
SMOKE = Config(
    problems=("four", "dirichlet"),
    temperatures=(0.0, 0.2, 0.5, np.inf),
    n=(1, 2, 4, 8, 16, 64, 256),
    trials=2_048,
    streams=65_536,
)

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All methods, temperatures and n of the problem called `cell`."""
    problem = problems.build(cell, config.seed)
    temperature, n = jnp.asarray(config.temperatures), jnp.asarray(config.n, float)
    exact = sb.sweep(problem, n, temperature)
    log_law = sb.log_soft_bon(problem, n[None, :], temperature[:, None])
    estimates = [
        [
            [
                sb.simulate(
                    problems.cell_key(config.seed, cell, 2, k, i, number),
                    problem, float(number), temperature[i], trials=config.trials, method=method,
                )
                for number in config.n
            ]
            for i in range(len(config.temperatures))
        ]
        for k, method in enumerate(METHODS)
    ]  # fmt: skip
    shape = (len(METHODS), len(config.temperatures), len(config.n))
    leaves = (x for by_t in estimates for by_n in by_t for x in by_n)
    flat = jax.tree.map(lambda *x: np.stack(x), *leaves)
    estimate = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), flat)

    possible = np.isfinite(problem.log_probs)
    in_draws = np.exp(problem.log_probs[possible].min()) * config.trials * np.array(config.n)
    selected = np.exp(log_law[..., possible].min(axis=-1)) * config.trials
    rarer = np.minimum(np.exp(log_law), 1 - np.exp(log_law))
    seen = rarer * config.trials >= config.appearances
    deviation = np.where(seen, estimate.probs - np.exp(log_law), 0.0)
    error = np.where(seen, estimate.probs_se, np.inf)
    # At λ = inf the counts give the law exactly, and their standard error is rounding.
    error = np.maximum(error, 1e-12)
    streamed = _streams(config, problem, cell)
    labels = {"": estimate.metrics, "_se": estimate.metrics_se, "_floor": estimate.noise_floor}
    prefixes = ("simulated ", "standard error of simulated ", "noise floor of simulated ")
    return xr.Dataset(
        {
            **metric_variables(of_one_problem(exact), FIELDS, GRID),
            **{
                f"simulated_{field}{label}": variable(
                    getattr(values, field)[None], DIMS, prefix + METRICS[field][0], METRICS[field][1]
                )
                for field in FIELDS
                for (label, values), prefix in zip(labels.items(), prefixes, strict=True)
            },
            "simulated_law_se": variable(
                np.sqrt(np.sum(estimate.probs_se**2, axis=-1))[None],
                DIMS,
                "root of the summed variances of the simulated probabilities",
                "1",
            ),
            "simulated_law_deviation": variable(
                np.max(np.abs(deviation) / error, axis=-1)[None],
                DIMS,
                "largest deviation of a simulated probability",
                "standard errors",
                outcomes=f"expected {config.appearances:g} times or more",
            ),
            "stream_deviation": variable(
                streamed[None],
                ("problem", "stream"),
                "largest deviation of a probability, streams in two batches",
                "standard errors",
                outcomes=f"expected {config.appearances:g} times or more",
            ),
            "simulated_rarest": variable(
                np.stack([np.broadcast_to(in_draws, shape[1:]), selected])[None],
                DIMS,
                "expected number of the rarest outcome: among the draws of counts, and selected",
                "1",
            ),
        },
        coords={
            **grid(
                problem=[cell], simulator=list(METHODS), temperature=config.temperatures, n=config.n
            ),
            "stream": list(STREAMS),
        },
    )  # fmt: skip


def _streams(config: Config, problem: sb.Problem, cell: str) -> np.ndarray:
    """The largest deviations of probabilities, in standard errors, in the order of `STREAMS`."""
    key, own = (problems.cell_key(config.seed, cell, 3, i) for i in range(2))
    literal = sb.simulate(
        key, problem, float(LENGTH), STREAM_TEMPERATURE, trials=config.streams, method="literal"
    )
    reservoirs = config.streams // SHARE
    probs = np.exp(np.asarray(problem.log_probs, float))
    random = np.random.default_rng([config.seed, config.problems.index(cell)])
    drawn = random.choice(probs.size, (reservoirs, LENGTH), p=probs / probs.sum())
    kept = _reservoirs(jax.random.split(own, reservoirs), drawn, problem.rewards)
    law = np.exp(sb.log_soft_bon(problem, float(LENGTH), STREAM_TEMPERATURE))
    counts = np.bincount(np.asarray(kept), minlength=probs.size)
    found = ((literal.probs, config.streams), (counts / reservoirs, reservoirs))
    worst = []
    for shares, trials in found:
        seen = np.minimum(law, 1 - law) * trials >= config.appearances
        error = np.sqrt(law * (1 - law) / trials)
        worst.append(np.max(np.abs(shares - law)[seen] / error[seen]))
    return np.array(worst)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def _reservoirs(key: jax.Array, drawn: jax.Array, rewards: jax.Array) -> jax.Array:
    """The outcome that a reservoir keeps of a stream, which comes in two batches."""
    state = sb.reservoir_init(drawn[0], dtype=rewards.dtype)
    batches = (drawn[:FIRST], drawn[FIRST:])
    for each, batch in zip(jax.random.split(key), batches, strict=True):
        state = sb.reservoir_update(each, state, batch, rewards[batch], STREAM_TEMPERATURE)
    return state.item


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = "two simulations of soft best-of-n against its exact law"
    return assemble(
        parts,
        "problem",
        {"title": title, "trials": config.trials},
    )
