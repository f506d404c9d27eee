"""A policy trained to maximize E[r] - λ KL(·‖P) ends at the tilted law, which soft best-of-n approaches.

The policy is a vector of logits, one for each outcome, trained by Adam with exact gradients. Soft
best-of-n from the reference law is then compared with the trained policy: the divergence between them
falls with n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import a_cell_a_problem, assemble, candidates, grid, variable
from softbon_jax.tuning.distillation import distill

CURVE = ("problem", "temperature")
NODES = 768


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      temperatures: in reward units.
      steps: of training.
      learning_rate: of the first step.
      largest_n: n runs from 1 to here, one point in each factor of two.
      seed: of the random problems.
    """

    problems: tuple[str, ...] = ("four", "dirichlet", "zipf")
    temperatures: tuple[float, ...] = (0.1, 0.2, 0.5)
    steps: int = 12_000
    learning_rate: float = 0.1
    largest_n: int = 4096
    seed: int = 0


PAPER = Config()
SMOKE = Config(problems=("four", "dirichlet"), temperatures=(0.2, 0.5), steps=800, largest_n=256)

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """Training on the problem called `cell`, and soft best-of-n beside the trained policy."""
    problem = problems.build(cell, config.seed)
    temperature = jnp.asarray(config.temperatures)
    policy = distill(problem, temperature, steps=config.steps, learning_rate=config.learning_rate)
    numbers = candidates(config.largest_n, 1)
    n = jnp.asarray(numbers, float)
    laws = sb.log_soft_bon(problem, n[None, :], temperature[:, None], nodes=NODES)
    exact = sb.sweep(problem, n, temperature, nodes=NODES)
    q = policy.log_probs[:, None, :]
    live = problem.log_probs > -jnp.inf
    to_policy = jnp.sum(
        jnp.where(live, jnp.exp(q) * (jnp.where(live, q, 0) - jnp.where(live, laws, 0)), 0), axis=-1
    )
    tilted = jnp.exp(sb.log_tilted(problem, temperature))
    return xr.Dataset(
        {
            "training": variable(
                policy.kl_to_tilted[None], (*CURVE, "step"), "KL(policy‖P*) in training", "nats"
            ),
            "distance": variable(
                jnp.sum(jnp.abs(jnp.exp(policy.log_probs) - tilted), -1)[None] / 2,
                CURVE,
                "TV of the trained policy to the tilted law",
                "1",
            ),
            "kl_policy_soft": variable(
                to_policy[None], (*CURVE, "n"), "KL(policy‖soft best-of-n)", "nats"
            ),
            "kl_tilted_soft": variable(
                exact.kl_tilted_soft[None], (*CURVE, "n"), "KL(P*‖soft best-of-n)", "nats"
            ),
        },
        coords=grid(
            problem=[cell],
            temperature=config.temperatures,
            n=numbers,
            step=np.arange(config.steps),
        ),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "problem", {"title": "a trained policy and soft best-of-n"})
