"""Best-of-n and best-of-Poisson for a uniform reward: what each costs in KL above the tilted law.

At equal mean reward the tilted law is the cheapest law. A Poisson number of candidates always comes
within 7e-4 nats of it, a fixed number within 0.024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import xarray as xr

from experiments.dataset import assemble, grid, variable
from softbon_jax import bounds

GRID = ("rule", "n")
RULES = ("best-of-n", "best-of-Poisson")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      largest_n: mean numbers of candidates run from 1.01 to here, evenly spaced in log(n - 1).
      points: how many of them.
    """

    largest_n: float = 1000.0
    points: int = 2001


PAPER = Config()
SMOKE = Config(points=801)


def cells(config: Config) -> list[str]:
    """One cell a rule."""
    return list(RULES)


def compute(config: Config, cell: str) -> xr.Dataset:
    """KL, win rate and the least KL at that win rate, for all mean numbers of candidates."""
    extra = jnp.geomspace(0.01, config.largest_n - 1, config.points)
    n = 1 + extra
    if cell == "best-of-n":
        kl, win = bounds.best_of_n_kl(n), bounds.best_of_n_win_rate(n)
    else:
        kl, win = bounds.best_of_poisson_kl(extra), bounds.best_of_poisson_win_rate(extra)
    least = bounds.least_kl_for_win_rate(win)
    return xr.Dataset(
        {
            "kl": variable(kl[None], GRID, "KL from the reference law", "nats"),
            "win_rate": variable(win[None], GRID, "win rate", "1"),
            "least_kl": variable(
                least[None], GRID, "KL of the tilted law of that win rate", "nats"
            ),
            "gap": variable((kl - least)[None], GRID, "KL above the tilted law", "nats"),
        },
        coords=grid(rule=[cell], n=n),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "rule", {"title": "gap of best-of-n and best-of-Poisson to the tilt"})
