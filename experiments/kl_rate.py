"""How fast the selected sample approaches the tilted law in KL and in total variation.

KL(P*‖P_n) exactly, its upper bounds of order 1/n, and its asymptote Var_{P*}(W)/2n², which a fixed
problem follows once n is large: the bound is of the right order only uniformly over problems.
Simulation checks it at a few n, with a control variate: plain simulation would see nothing below its
noise, about (K - 1)/2T nats for K outcomes and T trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import (
    assemble,
    candidates,
    grid,
    metric_variables,
    of_one_problem,
    variable,
)
from experiments.simulation import simulated
from softbon_jax import bounds

GRID = ("problem", "temperature", "n")
NODES = 512
"""Quadrature points: equal for all problems, so that one kernel serves them. If they are too few
for a config the result is NaN, which `verify` reports."""
SIMULATED = ("kl_tilted_soft", "kl_soft_tilted", "tv")


@dataclass(frozen=True)
class Config:
    """Settings of `kl_rate` and of `reward_rate`.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      temperatures: in reward units, so in units of the reward range.
      largest_n: the grid of n runs from 1 to here.
      per_octave: points of that grid to a factor of two.
      simulated_temperatures: some of those temperatures, to simulate at as well,
      simulated_n: with these numbers of candidates,
      trials: and so many simulated selections each.
      seed: of the random problems and of the simulation.
    """

    problems: tuple[str, ...] = problems.NAMES
    temperatures: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
    largest_n: int = 2**20
    per_octave: int = 2
    simulated_temperatures: tuple[float, ...] = (0.1, 0.2, 0.5)
    simulated_n: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 2**14, 2**17, 2**20)
    trials: int = 4_096
    seed: int = 0


PAPER = Config()
SMOKE = Config(
    problems=("four", "dirichlet", "worst_case"),
    temperatures=(0.2, 0.5, 2.0),
    per_octave=1,
    simulated_temperatures=(0.2, 0.5),
    simulated_n=(4, 8, 16, 32, 64, 128, 256, 1024, 4096),
    trials=2_048,
)


def cells(config: Config) -> list[str]:
    """One cell a problem."""
    return list(config.problems)


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the problem called `cell`."""
    problem = problems.build(cell, config.seed)
    numbers = candidates(config.largest_n, config.per_octave)
    n, temperature = jnp.asarray(numbers, float), jnp.asarray(config.temperatures)
    exact = of_one_problem(sb.sweep(problem, n, temperature, nodes=NODES))
    on_grid = (problem, n[None, :], temperature[:, None])

    def of_n(values: Any, long_name: str, units: str = "nats") -> xr.Variable:
        return variable(values[None], GRID, long_name, units)

    def constant(values: Any, long_name: str, units: str = "1") -> xr.Variable:
        return variable(values[None], GRID[:2], long_name, units)

    return xr.Dataset(
        {
            **metric_variables(exact, ("kl_tilted_soft", "kl_soft_tilted", "tv", "chi2"), GRID),
            "kl_upper": of_n(bounds.kl_upper(*on_grid), "log(1 + CV²/n)"),
            "kl_upper_linear": of_n(bounds.kl_upper_linear(*on_grid), "CV²/n"),
            "kl_upper_sinh": of_n(bounds.kl_upper_sinh(*on_grid), "sinh²(Δ/2λ)/n"),
            "kl_upper_quadratic": of_n(bounds.kl_upper_quadratic(*on_grid), "bound O(1/n²)"),
            "kl_asymptote": of_n(bounds.kl_asymptote(*on_grid), "Var_{P*}(W)/2n²"),
            "tv_asymptote": of_n(bounds.tv_asymptote(*on_grid), "E_{P*}|1 + CV² - W|/2n", "1"),
            "cv_squared": constant(bounds.cv_squared(problem, temperature), "CV² = χ²(P*‖P)"),
            "kl_coefficient": constant(
                bounds.kl_asymptote_coefficient(problem, temperature), "Var_{P*}(W)/2", "nats"
            ),
            "tv_coefficient": constant(
                bounds.tv_asymptote_coefficient(problem, temperature), "E_{P*}|1 + CV² - W|/2"
            ),
            "plain_floor": variable(
                [(np.isfinite(problem.log_probs).sum() - 1) / (2 * config.trials)],
                ["problem"],
                "noise of KL estimated from as many plain trials",
                "nats",
            ),
            **simulated(
                cell,
                problem,
                config.simulated_temperatures,
                config.simulated_n,
                config.trials,
                config.seed,
                SIMULATED,
            ),
        },
        coords=grid(
            problem=[cell],
            temperature=config.temperatures,
            n=numbers,
            simulated_temperature=config.simulated_temperatures,
            simulated_n=config.simulated_n,
        ),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The result from the pieces of `cells(config)`, in order."""
    title = "approach of soft best-of-n to the tilted law, in divergence"
    return assemble(parts, "problem", {"title": title, "trials": config.trials})


def run(config: Config) -> xr.Dataset:
    """The whole result."""
    return assemble_cells(config, [compute(config, cell) for cell in cells(config)])
