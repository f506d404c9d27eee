"""Sequences with memory: whole, block by block and step by step, with and without values.

The states of a Markov chain have rewards, and the way to the best leads through the worst. All schemes
draw n states for each of the m positions. Step by step, selection by rewards alone tends to another law
than the tilted one; with soft values it tends to that, like 1/n², where whole sequences need an n
that is exponential in m. Values with an error leave a floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import METRICS, REWARD, assemble, grid, variable
from softbon_jax import bounds

INITIAL = (0.0, 1.0, 0.0, 0.0)
KERNEL = (
    (0.3, 0.6, 0.1, 0.0),  # a shortcut
    (0.3, 0.4, 0.3, 0.0),  # where sequences begin
    (0.1, 0.2, 0.3, 0.4),  # without reward, but from here
    (0.1, 0.2, 0.1, 0.6),  # one comes here
)
REWARDS = (0.5, 0.25, 0.0, 1.0)
BLOCK = 4
SCHEMES = ("whole", f"blocks of {BLOCK}", "steps", "steps, soft values")
FIELDS = ("kl_tilted_soft", "kl_soft_base", "reward", "tilted_reward", "kl_tilted_base")
GRID, NOISY = ("length", "scheme", "n"), ("length", "error", "n")
POINTS = 6
"""n runs over 2 POINTS - 1 powers of 4, from 1."""
OF_WHOLE, OF_STEPS = 1024, 192
"""Nodes of the quadrature: enough at every length, so that few programs serve all."""
MANY = 30.0
"""The log of an n at which nothing but the error of the values is left."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      lengths: numbers of states m, above 4.
      temperature: λ in reward units.
      errors: standard deviations of the errors of the values, in reward units.
      rates: log n of whole sequences, in units of KL(P*‖P).
      seed: of the errors.
    """

    lengths: tuple[int, ...] = (8, 16, 32, 64)
    temperature: float = 0.25
    errors: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08)
    rates: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
    seed: int = 0


PAPER = Config()
SMOKE = Config(lengths=(8, 16, 32), errors=(0.01, 0.02))


def cells(config: Config) -> list[str]:
    """One cell a length."""
    return [str(m) for m in config.lengths]


def compute(config: Config, cell: str) -> xr.Dataset:
    """All schemes, errors and n at one length."""
    m, temperature = int(cell), config.temperature
    chain = INITIAL, KERNEL, REWARDS, m
    log_n = np.append(np.arange(2 * POINTS - 1) * np.log(4.0), MANY)
    values = np.asarray(sb.soft_values(KERNEL, REWARDS, m, temperature))
    errors = np.asarray(jax.random.normal(jax.random.key(config.seed), values.shape))

    def metrics(log_n: Any, **options: Any) -> dict[str, np.ndarray]:
        found = sb.markov_metrics(*chain, temperature=temperature, log_n=log_n, **options)
        return {field: np.asarray(getattr(found, field)) for field in FIELDS}

    # None, soft ones, and those with errors: one program for all.
    sizes = np.array(config.errors)[:, None, None]
    kinds = np.concatenate([0 * values[None], values[None], values + sizes * errors])[:, None]
    halves = [metrics(x, block_size=1, values=kinds, nodes=OF_STEPS) for x in np.split(log_n, 2)]
    steps = {field: np.concatenate([x[field] for x in halves], axis=-1) for field in FIELDS}
    whole = metrics(log_n[:-1], nodes=OF_WHOLE)
    blocks = metrics(log_n[:-1], block_size=BLOCK, nodes=OF_STEPS)
    exact = {x: np.stack([whole[x], blocks[x], *steps[x][:2, :-1]]) for x in FIELDS}
    noisy = steps["kl_tilted_soft"][2:]
    needed = float(whole["kl_tilted_base"][0])
    starts, coefficient, floor = _asymptotes(values, errors, temperature)

    fields = {x: variable(exact[x][None], GRID, *METRICS[x]) for x in FIELDS}
    kl = METRICS["kl_tilted_soft"]

    def of_length(value: object, name: str, units: str = "1") -> xr.Variable:
        return variable(np.array([value]), ["length"], name, units)

    return xr.Dataset(
        {
            **fields,
            "kl_of_errors": variable(noisy[None, :, :-1], NOISY, *kl),
            "floor": variable(noisy[None, :, -1], NOISY[:2], f"{kl[0]} as n → ∞", "nats"),
            "kl_whole": variable(
                metrics(np.array(config.rates) * needed, nodes=OF_WHOLE)["kl_tilted_soft"][None],
                ["length", "rate"],
                *kl,
            ),
            "largest_weight": of_length(starts, "largest max W of a step"),
            "coefficient": of_length(coefficient, "limit of n² KL(P*‖P_n) with soft values"),
            "floor_coefficient": of_length(floor, "KL over the squared error of values"),
        },
        coords=grid(
            length=[m],
            scheme=list(SCHEMES),
            n=4 ** np.arange(2 * POINTS - 1),
        )
        | {
            "error": variable(np.array(config.errors), ["error"], "error of the values", REWARD),
            "rate": variable(np.array(config.rates), ["rate"], "log n/KL(P*‖P)", "1"),
        },
    )


def _asymptotes(
    values: np.ndarray, errors: np.ndarray, temperature: float
) -> tuple[float, float, float]:
    """The largest max W, lim n² KL with soft values, and lim KL/error²: row by row, under P*."""
    scores = np.array(REWARDS) + values  # [m, S], of the state that a step leads to
    laws = np.broadcast_to(np.array((INITIAL, *KERNEL)), (len(values), 5, 4))
    rows = sb.from_probs(laws, scores[:, None])
    target = np.exp(np.asarray(sb.log_tilted(rows, temperature)))
    weights = np.where(laws > 0, target / np.where(laws > 0, laws, 1.0), 0.0)
    each = np.asarray(bounds.kl_asymptote_coefficient(rows, temperature))
    means = np.einsum("tsk,tk->ts", target, errors)
    spread = np.einsum("tsk,tk->ts", target, errors**2) - means**2
    at = np.eye(5)[0]  # the start, then the chance of each state
    coefficient = floor = 0.0
    for t in range(len(values)):
        coefficient += at @ each[t]
        floor += at @ spread[t] / (2 * temperature**2)
        at = np.append(0.0, at @ target[t])
    return float(weights.max()), float(coefficient), float(floor)


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    attributes = {"title": "sequences with memory: whole, by blocks, by steps, with values"}
    return assemble(parts, "length", attributes | {"temperature": config.temperature})
