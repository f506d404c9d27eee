"""Two rates in total variation: of the selected sample's law, and of the law given the draws.

Given its n draws, soft best-of-n selects from a softmax measure R that fluctuates around the tilted
law at order n^-1/2. The average of R over the draws is P_n, and most of the fluctuation cancels:
TV(P_n, P*) falls as 1/n for a fixed problem. A lower bound of order n^-1/2 can only be one on
E TV(R, P*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.curves import curves, largest_weight, of_n, of_temperature
from experiments.dataset import a_cell_a_problem, assemble, grid, variable
from softbon_jax import bounds

SIMULATED = ("problem", "temperature", "simulated_n")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      temperatures: in reward units, so in units of the reward range.
      largest_n: the grid of n runs from 1 to here.
      per_octave: points of that grid in each factor of two.
      simulated_n: numbers of candidates, on that grid, at which the fluctuation is simulated.
      trials: simulated sets of draws for each temperature and n.
      seed: of the random problems and of the simulation.
    """

    problems: tuple[str, ...] = ("four", "bernoulli", "dirichlet", "zipf", "uniform", "worst_case")
    temperatures: tuple[float, ...] = (0.2, 0.5, 1.0)
    largest_n: int = 2**20
    per_octave: int = 2
    simulated_n: tuple[int, ...] = tuple(4**k for k in range(1, 11))
    trials: int = 4_096
    seed: int = 0


PAPER = Config()
SMOKE = Config(
    problems=("four", "dirichlet", "worst_case"),
    temperatures=(0.2, 0.5),
    per_octave=1,
    trials=2_048,
)


cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the problem called `cell`."""
    on = curves(config, cell)
    constants = (on.problem, on.temperature)
    fluctuation = [
        [
            sb.conditional_fluctuation(
                problems.cell_key(config.seed, cell, 3, i, number),
                on.problem, float(number), on.temperature[i], trials=config.trials,
            )
            for number in config.simulated_n
        ]
        for i in range(len(config.temperatures))
    ]  # fmt: skip
    mean, error = np.moveaxis(np.array(fluctuation), -1, 0)
    return xr.Dataset(
        {
            **on.metrics(("tv",)),
            "tv_asymptote": of_n(bounds.tv_asymptote(*on.pairs), "E_{P*}|1 + CV² - W|/2n", "1"),
            "fluctuation_asymptote": of_n(
                bounds.fluctuation_asymptote(*on.pairs), "Σ_x sd(W (1_x - P*(x)))/√(2πn)", "1"
            ),
            "fluctuation": variable(
                mean[None],
                SIMULATED,
                "mean total variation between the softmax measure of the draws and P*",
                "1",
                trials=config.trials,
            ),
            "fluctuation_se": variable(
                error[None], SIMULATED, "standard error of that mean", "1", trials=config.trials
            ),
            "tv_coefficient": of_temperature(
                bounds.tv_asymptote_coefficient(*constants), "E_{P*}|1 + CV² - W|/2", "1"
            ),
            "fluctuation_coefficient": of_temperature(
                bounds.fluctuation_asymptote_coefficient(*constants),
                "Σ_x sd(W (1_x - P*(x)))/√(2π)",
                "1",
            ),
            "largest_weight": largest_weight(*constants),
        },
        coords=grid(
            problem=[cell],
            temperature=config.temperatures,
            n=on.numbers,
            simulated_n=config.simulated_n,
        ),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = "total variation from the tilted law: averaged over the draws, and given them"
    return assemble(parts, "problem", {"title": title, "trials": config.trials})
