"""How fast the mean reward of the selected sample approaches that of the tilted law.

The relative reward gap is computed exactly and put beside its two upper bounds of order 1/n and its
asymptote Cov_{P*}(r, W)/(n E_{P*}[r]). Here bounds and truth are of the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from experiments.curves import curves, largest_weight, of_n, of_temperature
from experiments.dataset import REWARD, assemble, grid
from experiments.kl_rate import PAPER, SMOKE, Config, cells
from experiments.simulation import simulated
from softbon_jax import bounds

__all__ = ["PAPER", "SMOKE", "Config", "assemble_cells", "cells", "compute"]

EXACT = ("reward", "tilted_reward", "reward_gap", "relative_reward_gap")
SIMULATED = ("reward", "reward_gap", "relative_reward_gap")


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the problem called `cell`."""
    on = curves(config, cell)
    constants = (on.problem, on.temperature)
    asymptote = bounds.reward_gap_asymptote(*on.pairs)
    relative = asymptote / on.exact.tilted_reward
    return xr.Dataset(
        {
            **on.metrics(EXACT),
            "gap_upper": of_n(bounds.relative_gap_upper(*on.pairs), "M'/(n + M')", "1"),
            "gap_upper_crude": of_n(bounds.relative_gap_upper_crude(*on.pairs), "M/(n + M)", "1"),
            "gap_asymptote": of_n(asymptote, "Cov_{P*}(r, W)/n", REWARD),
            "relative_gap_asymptote": of_n(relative, "Cov_{P*}(r, W)/(n E_{P*}[r])", "1"),
            "gap_coefficient": of_temperature(
                bounds.reward_gap_asymptote_coefficient(*constants), "Cov_{P*}(r, W)", REWARD
            ),
            "largest_weight": largest_weight(*constants),
            **simulated(cell, on.problem, config, SIMULATED),
        },
        coords=grid(
            problem=[cell],
            temperature=config.temperatures,
            n=on.numbers,
            simulated_temperature=config.simulated_temperatures,
            simulated_n=config.simulated_n,
        ),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = "approach of soft best-of-n to the tilted law, in mean reward"
    return assemble(parts, "problem", {"title": title, "trials": config.trials})
