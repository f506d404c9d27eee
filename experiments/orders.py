"""The whole of a law, not its mean alone: divergences of every order, and the tail of a gold reward.

The Rényi divergence D_α(P_n‖P*) falls as α Var_{P*}(W)/2n² for every finite α, and as 1/n for α = inf:
the outcome with the largest ratio decides alone.

The tail: a proxy reward that is uniform on [0, 1] and equal to the gold reward, but for failures, which
cost much and are the likelier the higher the proxy. The worst tenth of what is selected turns down at a
smaller n than the mean does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.curves import GRID, NODES, curves, largest_weight, of_n, of_temperature
from experiments.dataset import REWARD, assemble, candidates, grid, variable
from softbon_jax import bounds

TAIL = ("tail_temperature", "tail_n")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      temperatures: in reward units, so in units of the reward range.
      orders: α of the divergences; inf is legal.
      largest_n: the grid of n runs from 1 to here.
      per_octave: points of that grid in each factor of two.
      outcomes: equally likely proxy rewards of the tail.
      tail_temperatures: λ of its selection.
      tail_n: the n of the tail run from 1 to here.
      failure: the chance of a failure at the highest proxy reward.
      steepness: that chance falls as this power of the proxy.
      loss: the gold reward of a failure is minus this.
      level: the tail is this share of what is selected.
      seed: of the random problems.
    """

    problems: tuple[str, ...] = problems.NAMES
    temperatures: tuple[float, ...] = (0.2, 0.5, 1.0)
    orders: tuple[float, ...] = (0.5, 1.0, 2.0, 8.0, float("inf"))
    largest_n: int = 2**20
    per_octave: int = 1
    outcomes: int = 512
    tail_temperatures: tuple[float, ...] = (0.0, 0.05, 0.2)
    tail_n: int = 256
    failure: float = 0.1
    steepness: int = 16
    loss: float = 1.0
    level: float = 0.1
    seed: int = 0


PAPER = Config()
SMOKE = Config(problems=("four", "dirichlet", "worst_case"), temperatures=(0.2, 0.5), outcomes=64)


def cells(config: Config) -> list[str]:
    """One cell a problem, and one for the tail."""
    return [*config.problems, "tail"]


def compute(config: Config, cell: str) -> xr.Dataset:
    """All orders, temperatures and n of the problem called `cell`, or the tail."""
    if cell == "tail":
        return _tail(config)
    on = curves(config, cell)
    constants = (on.problem, on.temperature)
    order = jnp.asarray(config.orders)[:, None, None]
    to_target = sb.renyi(*on.pairs, order, nodes=NODES)
    to_base = sb.renyi(*on.pairs, jnp.inf, "soft_base", nodes=NODES)
    least = jnp.exp(-sb.renyi(on.problem, 1.0, on.temperature, jnp.inf, "base_tilted"))
    cv_squared = bounds.cv_squared(*constants)
    dims = ("problem", "order", *GRID[1:])
    return xr.Dataset(
        {
            **on.metrics(("kl_soft_tilted", "chi2")),
            "renyi": variable(to_target[None], dims, "D_α(P_n‖P*)", "nats"),
            "largest_ratio": of_n(to_base, "D_∞(P_n‖P), log of the largest ratio", "nats"),
            "kl_coefficient": of_temperature(
                bounds.kl_asymptote_coefficient(*constants), "Var_{P*}(W)/2", "nats"
            ),
            "largest_coefficient": of_temperature(
                1 + cv_squared - least, "1 + CV² - min W", "nats"
            ),
            "largest_weight": largest_weight(*constants),
        },
        coords=grid(problem=[cell], order=config.orders, temperature=config.temperatures)
        | {"n": variable(np.asarray(on.numbers), ["n"], "number of candidates n", "1")},
    )


def _tail(config: Config) -> xr.Dataset:
    """Mean and tail of the gold reward and of the proxy that is selected, against n."""
    proxy = sb.uniform_quantiles(config.outcomes)
    fails = config.failure * proxy.rewards**config.steepness
    problem = sb.Problem(
        jnp.concatenate([proxy.log_probs + jnp.log1p(-fails), proxy.log_probs + jnp.log(fails)]),
        jnp.tile(proxy.rewards, 2),
    )
    gold = jnp.concatenate([proxy.rewards, jnp.full(config.outcomes, -config.loss)])
    numbers = candidates(config.tail_n, 4)
    n = jnp.asarray(numbers, float)
    temperature = jnp.asarray(config.tail_temperatures)[:, None]
    law = sb.log_soft_bon(problem, n, temperature)
    selected, of_proxy = sb.Problem(law, gold), sb.Problem(law, problem.rewards)
    values = {
        "gold": (jnp.exp(law) @ gold, "mean gold reward", REWARD),
        "gold_cvar": (sb.cvar(selected, config.level), "gold reward of the worst share", REWARD),
        "proxy_cvar": (sb.cvar(of_proxy, config.level), "proxy reward of the worst share", REWARD),
        "failures": (sb.tail_probability(selected, -config.loss), "chance of a failure", "1"),
    }
    return xr.Dataset(
        {name: variable(x, TAIL, label, units) for name, (x, label, units) in values.items()},
        coords={
            "tail_temperature": variable(
                config.tail_temperatures, TAIL[:1], "temperature λ", REWARD
            ),
            "tail_n": variable(np.asarray(numbers), TAIL[1:], "number of candidates n", "1"),
        },
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = "divergences of every order, and the tail of a gold reward"
    attributes = {"title": title, "level": config.level, "loss": config.loss}
    return assemble(parts[:-1], "problem", attributes).merge(parts[-1])
