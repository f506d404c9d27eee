"""Reward against the mean number of draws: a fixed number, a random one, or draws up to a threshold.

The reward is uniform on [0, 1]. At equal mean number a random number earns less than a fixed one. Draws
that end at the first reward above a threshold earn more, and with hard selection they need half as many;
the threshold is the best one at a price a draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import xarray as xr

import softbon_jax as sb
from experiments.dataset import METRICS, REWARD, assemble, grid, variable

RULES = ("fixed", "poisson", "geometric")
NODES = 512
"""Of the quadrature: enough for every temperature, so that one program serves all."""
OF_RULES, OF_PRICES = ("temperature", "rule", "n"), ("temperature", "price")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      outcomes: equally likely rewards that stand in for a uniform one.
      temperatures: λ in units of the range of the reward.
      largest_n: mean numbers run from 1 to here.
      points: how many of them, and how many prices.
      most: draws after which even a threshold that is not reached ends the drawing.
      largest_price: prices run from here down to what makes about `largest_n` draws worth it.
    """

    outcomes: int = 500
    temperatures: tuple[float, ...] = (0.0, 0.05, 0.2)
    largest_n: float = 32.0
    points: int = 49
    most: float = 1e6
    largest_price: float = 0.25


PAPER = Config()
SMOKE = Config(outcomes=200, points=13)


def cells(config: Config) -> list[str]:
    """One cell a temperature."""
    return [f"{x:g}" for x in config.temperatures]


def compute(config: Config, cell: str) -> xr.Dataset:
    """The rewards of fixed and random numbers, and of the best threshold at every price."""
    temperature = float(cell)
    problem = sb.uniform_quantiles(config.outcomes)
    n = jnp.geomspace(1.0, config.largest_n, config.points)
    laws = (
        sb.log_soft_bon(problem, n, temperature, nodes=NODES),
        sb.log_random_n(problem, sb.OnePlusPoisson(n - 1), temperature, nodes=NODES),
        sb.log_random_n(problem, sb.Geometric(1 / n), temperature, nodes=NODES),
    )
    rewards = jnp.exp(jnp.stack(laws)) @ problem.rewards
    # Hard selection from [0, 1] stops after about 1/√(2c) draws.
    least_price = 1 / (2 * config.largest_n**2)
    price = jnp.geomspace(least_price, config.largest_price, config.points)
    best = sb.best_threshold(problem, price, config.most, temperature, nodes=NODES)
    hard = sb.best_threshold(problem, price, config.most, 0.0, nodes=NODES)

    def of_prices(values: object, name: str, units: str) -> xr.Variable:
        return variable(jnp.asarray(values)[None], OF_PRICES, name, units)

    return xr.Dataset(
        {
            "reward": variable(
                rewards[None], OF_RULES, "mean reward at a mean number of candidates", REWARD
            ),
            "tilted_reward": variable(
                (jnp.exp(sb.log_tilted(problem, temperature)) @ problem.rewards)[None],
                ["temperature"],
                *METRICS["tilted_reward"],
            ),
            "threshold": of_prices(best.value, "best threshold", REWARD),
            "stopped_reward": of_prices(best.reward, "mean reward of stopping at it", REWARD),
            "mean_n": of_prices(best.mean_n, "mean number of draws", "1"),
            "net": of_prices(best.net, "mean reward less the price of the draws", REWARD),
            "reservation": of_prices(hard.value, "z with E(r - z)+ = the price of a draw", REWARD),
            "excess": of_prices(
                jnp.maximum(problem.rewards[None] - hard.value[:, None], 0.0).mean(-1),
                "E(r - z)+ at that z",
                REWARD,
            ),
        },
        coords=grid(temperature=[temperature], rule=list(RULES), n=n)
        | {"price": variable(price, ["price"], "price of a draw", REWARD)},
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    attributes = {"title": "reward against draws: fixed, random and stopped", "most": config.most}
    whole = assemble(parts, "temperature", attributes)
    whole["temperature"].attrs = parts[0]["temperature"].attrs  # which joining the pieces loses
    return whole
