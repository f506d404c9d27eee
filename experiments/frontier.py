"""What a selection rule costs in KL from the reference law, and what it earns in reward.

In the plane of KL(·‖P) and mean reward the tilted laws are the frontier: nothing earns more at
equal cost. Soft best-of-n runs below it for every n, as its temperature goes from infinity (the
reference law) to 0 (hard best-of-n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import METRICS, REWARD, assemble, grid, metric_variables, variable
from softbon_jax import bounds

GRID = ("problem", "temperature", "n")
NODES = (8192, 768)
"""Quadrature points for temperatures near 0 and for the others: equal for all problems, so that one
kernel serves them. If they are too few for a config the result is NaN, which `verify` reports."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      near_zero: a temperature so small that soft and hard best-of-n should be the same.
      lowest: smallest of the temperatures in between, in reward units.
      highest: largest of them.
      temperatures: how many in between, evenly in their logarithm; 0 and inf are added.
      n: numbers of candidates.
      seed: of the random problems.
    """

    problems: tuple[str, ...] = problems.NAMES
    near_zero: float = 1e-6
    lowest: float = 0.01
    highest: float = 1e3
    temperatures: int = 81
    n: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1024)
    seed: int = 0


PAPER = Config()
SMOKE = Config(problems=("four", "dirichlet", "uniform"), temperatures=31, n=(1, 2, 4, 16, 64))


def cells(config: Config) -> list[str]:
    """One cell a problem."""
    return list(config.problems)


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the problem called `cell`."""
    problem = problems.build(cell, config.seed)
    between = np.geomspace(config.lowest, config.highest, config.temperatures)
    temperature = jnp.asarray([0.0, config.near_zero, *between, np.inf])
    n = jnp.asarray(config.n, float)
    parts = [
        sb.sweep(problem, n, part, nodes=nodes)
        for part, nodes in zip((temperature[:2], temperature[2:]), NODES, strict=True)
    ]
    exact = sb.Metrics(*(jnp.concatenate(x)[None] for x in zip(*parts, strict=True)))
    base_reward = np.asarray(exact.reward[:, -1, 0])
    probs, rewards = np.exp(problem.log_probs), np.asarray(problem.rewards)

    return xr.Dataset(
        {
            **metric_variables(exact, ("reward", "kl_soft_base", "win_rate"), GRID),
            **{
                field: variable(getattr(exact, field)[..., 0], GRID[:2], *METRICS[field])
                for field in ("tilted_reward", "kl_tilted_base")
            },
            "kl_base_upper": variable(
                bounds.kl_base_upper(problem, n[None, :], temperature[:, None])[None],
                GRID,
                "log(n/(1 + (n-1) e^{-Δ/λ}))",
                "nats",
            ),
            "best_of_n_kl": variable(bounds.best_of_n_kl(n), ["n"], "log n - (n-1)/n", "nats"),
            "best_of_n_win_rate": variable(bounds.best_of_n_win_rate(n), ["n"], "n/(n+1)", "1"),
            "base_reward": variable(
                base_reward, ["problem"], "mean reward of the reference law", REWARD
            ),
            "base_variance": variable(
                [probs @ (rewards - base_reward) ** 2],
                ["problem"],
                "variance of the reward in the reference law",
                f"({REWARD})²",
            ),
        },
        coords=grid(problem=[cell], temperature=temperature, n=config.n),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The result from the pieces of `cells(config)`, in order."""
    title = "mean reward against KL from the reference law"
    return assemble(parts, "problem", {"title": title})


def run(config: Config) -> xr.Dataset:
    """The whole result."""
    return assemble_cells(config, [compute(config, cell) for cell in cells(config)])
