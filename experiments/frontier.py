"""What a selection rule costs in KL from the reference law, and what it earns in reward.

In the plane of KL(·‖P) and mean reward the tilted laws are the frontier: no law earns more at the same
cost. For every n, soft best-of-n traces a curve below it, from the reference law at infinite temperature
to hard best-of-n at temperature 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import (
    METRICS,
    REWARD,
    a_cell_a_problem,
    assemble,
    grid,
    metric_variables,
    variable,
)
from softbon_jax import bounds

GRID = ("problem", "temperature", "n")
NODES = (8192, 768)
"""Quadrature nodes for temperatures near 0 and for the others, the same for all problems, so that one
compiled kernel serves them. Where they are too few the result is NaN, and `verify` fails."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      near_zero: a temperature so small that soft and hard best-of-n should agree.
      lowest: smallest of the other temperatures, in reward units.
      highest: largest of them.
      temperatures: how many of these, evenly spaced in their logarithm; 0 and inf are added.
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

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the problem called `cell`."""
    problem = problems.build(cell, config.seed)
    between = np.geomspace(config.lowest, config.highest, config.temperatures)
    temperature = np.array([0.0, config.near_zero, *between, np.inf])
    n = jnp.asarray(config.n, float)
    ends, inside = (
        jax.device_get(sb.sweep(problem, n, part, nodes=nodes))
        for part, nodes in zip((temperature[[0, 1, -1]], between), NODES, strict=True)
    )
    exact = jax.tree.map(lambda x, y: np.concatenate([x[:2], y, x[2:]])[None], ends, inside)
    base_reward = np.asarray(exact.reward[:, -1, 0])
    probs, rewards = np.exp(problem.log_probs), np.asarray(problem.rewards)

    return xr.Dataset(
        {
            **metric_variables(
                exact, ("reward", "kl_soft_base", "kl_soft_tilted", "win_rate"), GRID
            ),
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
    """The whole result from the pieces of `cells(config)`, in order."""
    title = "mean reward against KL from the reference law"
    return assemble(parts, "problem", {"title": title})
