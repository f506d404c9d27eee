"""How fast the law of the selected sample approaches the tilted law, in KL and in total variation.

KL(P*‖P_n) is computed exactly and put beside its upper bounds of order 1/n and its asymptote
Var_{P*}(W)/2n². A fixed problem follows the asymptote once n is large; the bounds have the right order
only uniformly over problems. At a few n the exact value is checked by simulation with a control variate.
Plain simulation would be blind below its noise floor of about (K - 1)/2T nats, with K outcomes and T
trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from experiments import problems
from experiments.curves import curves, largest_weight, of_n, of_temperature
from experiments.dataset import a_cell_a_problem, assemble, grid, variable
from experiments.simulation import simulated
from softbon_jax import bounds

SIMULATED = ("kl_tilted_soft", "kl_soft_tilted", "tv")


@dataclass(frozen=True)
class Config:
    """Settings of `kl_rate` and of `reward_rate`.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      temperatures: in reward units, so in units of the reward range.
      largest_n: the grid of n runs from 1 to here.
      per_octave: points of that grid in each factor of two.
      simulated_temperatures: a subset of the temperatures at which selection is also simulated.
      simulated_n: numbers of candidates in the simulation.
      trials: simulated selections for each temperature and n.
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

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the problem called `cell`."""
    on = curves(config, cell)
    constants = (on.problem, on.temperature)
    possible = np.isfinite(on.problem.log_probs).sum()
    return xr.Dataset(
        {
            **on.metrics(("kl_tilted_soft", "kl_soft_tilted", "tv", "chi2")),
            "kl_upper": of_n(bounds.kl_upper(*on.pairs), "log(1 + CV²/n)", "nats"),
            "kl_upper_linear": of_n(bounds.kl_upper_linear(*on.pairs), "CV²/n", "nats"),
            "kl_upper_sinh": of_n(bounds.kl_upper_sinh(*on.pairs), "sinh²(Δ/2λ)/n", "nats"),
            "kl_upper_quadratic": of_n(
                bounds.kl_upper_quadratic(*on.pairs), "bound O(1/n²)", "nats"
            ),
            "kl_asymptote": of_n(bounds.kl_asymptote(*on.pairs), "Var_{P*}(W)/2n²", "nats"),
            "tv_asymptote": of_n(bounds.tv_asymptote(*on.pairs), "E_{P*}|1 + CV² - W|/2n", "1"),
            "largest_weight": largest_weight(*constants),
            "kl_coefficient": of_temperature(
                bounds.kl_asymptote_coefficient(*constants), "Var_{P*}(W)/2", "nats"
            ),
            "tv_coefficient": of_temperature(
                bounds.tv_asymptote_coefficient(*constants), "E_{P*}|1 + CV² - W|/2", "1"
            ),
            "plain_floor": variable(
                [(possible - 1) / (2 * config.trials)],
                ["problem"],
                "noise of KL estimated from as many plain trials",
                "nats",
            ),
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
    title = "approach of soft best-of-n to the tilted law, in divergence"
    return assemble(parts, "problem", {"title": title, "trials": config.trials})
