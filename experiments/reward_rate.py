"""How fast the mean reward of the selected sample approaches that of the tilted law.

The relative reward gap exactly, its two upper bounds of order 1/n, and its asymptote
Cov_{P*}(r, W)/(n E_{P*}[r]): here the bound and the truth are of the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import (
    REWARD,
    assemble,
    candidates,
    grid,
    metric_variables,
    of_one_problem,
    variable,
)
from experiments.kl_rate import GRID, NODES, PAPER, SMOKE, Config, cells
from experiments.simulation import simulated
from softbon_jax import bounds

__all__ = ["PAPER", "SMOKE", "Config", "assemble_cells", "cells", "compute", "run"]

EXACT = ("reward", "tilted_reward", "reward_gap", "relative_reward_gap")
SIMULATED = ("reward", "reward_gap", "relative_reward_gap")


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the problem called `cell`."""
    problem = problems.build(cell, config.seed)
    numbers = candidates(config.largest_n, config.per_octave)
    n, temperature = jnp.asarray(numbers, float), jnp.asarray(config.temperatures)
    exact = of_one_problem(sb.sweep(problem, n, temperature, nodes=NODES))
    on_grid = (problem, n[None, :], temperature[:, None])
    asymptote = bounds.reward_gap_asymptote(*on_grid)

    def of_n(values: Any, long_name: str, units: str = "1") -> xr.Variable:
        return variable(values[None], GRID, long_name, units)

    return xr.Dataset(
        {
            **metric_variables(exact, EXACT, GRID),
            "gap_upper": of_n(bounds.relative_gap_upper(*on_grid), "M'/(n + M')"),
            "gap_upper_crude": of_n(bounds.relative_gap_upper_crude(*on_grid), "M/(n + M)"),
            "gap_asymptote": of_n(asymptote, "Cov_{P*}(r, W)/n", REWARD),
            "relative_gap_asymptote": of_n(
                asymptote / exact.tilted_reward[0], "Cov_{P*}(r, W)/(n E_{P*}[r])"
            ),
            "gap_coefficient": variable(
                bounds.reward_gap_asymptote_coefficient(problem, temperature)[None],
                GRID[:2],
                "Cov_{P*}(r, W)",
                REWARD,
            ),
            "cv_squared": variable(
                bounds.cv_squared(problem, temperature)[None], GRID[:2], "CV² = χ²(P*‖P)", "1"
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
    title = "approach of soft best-of-n to the tilted law, in mean reward"
    return assemble(parts, "problem", {"title": title, "trials": config.trials})


def run(config: Config) -> xr.Dataset:
    """The whole result."""
    return assemble_cells(config, [compute(config, cell) for cell in cells(config)])
