"""Hard best-of-n on finite alphabets: exact KL and win rate beside the formulas for continuous rewards.

log n - (n-1)/n and n/(n+1) are upper bounds, and close ones while n is well below the number of
outcomes. Beirami's estimator follows the exact KL beyond that. A rare jackpot has no visible effect
until n is about 1/P(jackpot).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import assemble, grid, variable
from softbon_jax import bounds

GRID = ("problem", "n")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      alphabets: numbers of equally likely outcomes.
      jackpot: probability of the prize in the law with a jackpot.
      octaves: n runs from 1 to 2 to this power.
      per_octave: points of that grid in each factor of two; 10 and 100 are added.
    """

    alphabets: tuple[int, ...] = (10, 100, 1_000, 10_000)
    jackpot: float = 1e-6
    octaves: int = 20
    per_octave: int = 4


PAPER = Config()
SMOKE = Config(alphabets=(10, 1_000), octaves=12, per_octave=1)


def cells(config: Config) -> list[str]:
    """One cell a law."""
    return [*(f"uniform_{size}" for size in config.alphabets), "jackpot"]


def compute(config: Config, cell: str) -> xr.Dataset:
    """All n on the law called `cell`."""
    if cell == "jackpot":
        problem = sb.jackpot(16, config.jackpot)
    else:
        problem = sb.uniform_quantiles(int(cell.rsplit("_", 1)[1]))
    exact = 2.0 ** (np.arange(config.octaves * config.per_octave + 1) / config.per_octave)
    n = jnp.asarray(sorted({*exact, 10.0, 100.0}))
    hard = sb.law_metrics(problem, sb.log_best_of_n(problem, n), 0.0)
    estimate = bounds.expected_best_of_n_kl_estimate(problem, n)

    def of_n(values: Any, name: str, units: str) -> xr.Variable:
        return variable(values[None], GRID, name, units)

    return xr.Dataset(
        {
            "kl": of_n(hard.kl_soft_base, "KL(best-of-n‖P)", "nats"),
            "kl_estimate": of_n(estimate, "mean of Beirami's estimator", "nats"),
            "win_rate": of_n(hard.win_rate, "win rate of best-of-n", "1"),
            "kl_ceiling": variable(
                [float(hard.kl_tilted_base[0])],
                ["problem"],
                "KL of the best outcome from P",
                "nats",
            ),
            "kl_formula": variable(bounds.best_of_n_kl(n), ["n"], "log n - (n-1)/n", "nats"),
            "win_formula": variable(bounds.best_of_n_win_rate(n), ["n"], "n/(n+1)", "1"),
        },
        coords=grid(problem=[cell], n=n),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "problem", {"title": "hard best-of-n on finite alphabets"})
