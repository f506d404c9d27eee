"""Hedging a proxy: the gold reward against n, ν and 1/λ, and the exact optimum of each rule.

The proxy is uniform on [0, 1], r(u) = u, and the gold reward is u^p (1 - u): it rises with the proxy
until u = p/(p+1) and then falls. The optimal 1/λ of soft best-of-n at finite n is above that
of the tilted law, which is its limit at n = inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import REWARD, assemble, grid, variable

PLAIN = ("hard", "poisson", "tilted")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      power: p of the gold reward.
      outcomes: equally likely proxy rewards that stand for a uniform one.
      n: numbers of candidates of soft best-of-n; one curve each.
      points: of each curve, over n, ν or 1/λ from 2 to 60.
    """

    power: int = 12
    outcomes: int = 1024
    n: tuple[int, ...] = (16, 32, 64, 128)
    points: int = 60


PAPER = Config()
SMOKE = Config(outcomes=128, points=9)


def cells(config: Config) -> list[str]:
    """One cell a curve."""
    return [*PLAIN, *(f"soft_{n}" for n in config.n)]


def compute(config: Config, cell: str) -> xr.Dataset:
    """The curve of gold reward called `cell`, and its optimum."""
    problem = sb.uniform_quantiles(config.outcomes)
    gold = problem.rewards**config.power * (1 - problem.rewards)
    x = jnp.geomspace(2.0, 60.0, config.points)
    rule, _, size = cell.partition("_")
    tilt = sb.hedge(problem, gold, rule="tilted")
    best = tilt
    if rule == "hard":
        laws = sb.log_best_of_n(problem, x)
        best = sb.hedge(problem, gold, rule="hard")
    elif rule == "poisson":
        laws = sb.log_best_of_poisson(problem, x, 0.0)
        best = sb.hedge(problem, gold, rule="poisson")
    elif rule == "tilted":
        laws = sb.log_tilted(problem, 1 / x)
    else:
        # Every n in one call, so that one kernel serves all curves.
        n = jnp.asarray(config.n, float)
        all_best = sb.hedge(problem, gold, n=n)
        at = config.n.index(int(size))
        best = jax.tree.map(lambda y: y[at], all_best)
        laws = sb.log_soft_bon(problem, float(size), 1 / x)
    inverse = rule in ("tilted", "soft")
    value = 1 / best.value if inverse else best.value
    missed = best.gold
    if rule == "soft":
        missed = jnp.exp(sb.log_soft_bon(problem, float(size), tilt.value)) @ gold

    def of_curve(value: jax.Array, name: str, units: str) -> xr.Variable:
        return variable(np.asarray(value)[None], ["curve"], name, units)

    return xr.Dataset(
        {
            "gold": variable(
                (jnp.exp(laws) @ gold)[None], ["curve", "strength"], "mean gold reward", REWARD
            ),
            "best": of_curve(value, "parameter of the largest gold reward", "1"),
            "best_gold": of_curve(best.gold, "largest mean gold reward", REWARD),
            "gold_by_tilt": of_curve(missed, "mean gold reward at the optimum of the tilt", REWARD),
        },
        coords=grid(curve=[cell], strength=np.asarray(x)),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The result from the pieces of `cells(config)`, in order."""
    title = f"gold reward u^{config.power} (1 - u) selected by the proxy u"
    attributes = {"title": title, "power": config.power, "outcomes": config.outcomes}
    return assemble(parts, "curve", attributes)


def run(config: Config) -> xr.Dataset:
    """The whole result."""
    return assemble_cells(config, [compute(config, cell) for cell in cells(config)])
