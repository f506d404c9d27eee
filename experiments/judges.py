"""A better judge, or more samples? The true reward of what a noisy judge selects, exactly.

The true reward is normal, in units of its standard deviation, and the judge adds normal noise; the draw
with the best score wins. Calls of the judge can be spent on more draws, or on scoring each of them
several times and averaging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy import special

import softbon_jax as sb
from experiments.dataset import REWARD, assemble, candidates, grid, variable


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      outcomes: equally likely true rewards at the quantiles of a normal law.
      noise: standard deviations of the judge's noise, one cell each.
      largest_n: the grid of n runs from 1 to here.
      per_octave: points of that grid in each factor of two.
      calls: of the judge, as many as draws times scores a draw.
      temperatures: of the check by Gumbel noise and of the identity of normal laws.
      values: of a normal law in that identity.
    """

    outcomes: int = 64
    noise: tuple[float, ...] = tuple(2.0 ** (k / 2) for k in range(-6, 5))
    largest_n: int = 1024
    per_octave: int = 4
    calls: int = 64
    temperatures: tuple[float, ...] = (0.5, 1.0, 2.0)
    values: int = 61


PAPER = Config()
SMOKE = Config(outcomes=24, noise=(0.25, 1.0, 4.0), per_octave=1, temperatures=(1.0,), values=41)

IDENTITY = ("temperature", "identity_n")


def cells(config: Config) -> list[str]:
    """One cell a standard deviation of the noise, and one for the identities."""
    return [*(f"{x:.6g}" for x in config.noise), "identities"]


def compute(config: Config, cell: str) -> xr.Dataset:
    """The true reward of the draw with the best score, for all n and all ways to spend the calls."""
    if cell == "identities":
        return _identities(config)
    scale = config.noise[cells(config).index(cell)]
    problem = _truth(config)
    numbers = candidates(config.largest_n, config.per_octave)
    law = sb.log_noisy_best_of_n(problem, jnp.asarray(numbers, float), scale)
    scores = np.array([k for k in range(1, config.calls + 1) if config.calls % k == 0])
    spent = sb.log_noisy_best_of_n(
        problem, config.calls / scores, (scale / np.sqrt(scores))[:, None]
    )
    return xr.Dataset(
        {
            "gold": variable(
                (jnp.exp(law) @ problem.rewards)[None], ("noise", "n"), "mean true reward", REWARD
            ),
            "gold_of_calls": variable(
                (jnp.exp(spent) @ problem.rewards)[None],
                ("noise", "scores"),
                "mean true reward of a fixed number of calls",
                REWARD,
            ),
        },
        coords=grid(n=np.asarray(numbers))
        | {
            "noise": variable([scale], ["noise"], "standard deviation of the noise", REWARD),
            "scores": variable(scores, ["scores"], "scores of each draw", "1"),
        },
    )


def _truth(config: Config) -> sb.Problem:
    levels = (np.arange(config.outcomes) + 0.5) / config.outcomes
    return sb.empirical(special.ndtri(levels))


def _identities(config: Config) -> xr.Dataset:
    """Gumbel noise with the best score beside the soft law, and the regression of normal laws."""
    temperature = jnp.asarray(config.temperatures)[:, None]
    n = jnp.asarray([1.0, 4.0, 64.0, 1e6])
    problem = _truth(config)
    soft = sb.log_soft_bon(problem, n, temperature)
    best = sb.log_noisy_best_of_n(problem, n, temperature[..., None], noise="gumbel")
    # True reward and noise normal, with unlike spreads: the score and the truth are bivariate normal.
    truth, noise = (
        sb.normal_noise(1.0, nodes=config.values),
        sb.normal_noise(0.75, nodes=config.values),
    )
    normal = sb.Problem(jnp.log(truth.weights), truth.values)
    pairs = sb.Problem(
        (jnp.log(truth.weights)[:, None] + jnp.log(noise.weights)[None]).ravel(),
        (truth.values[:, None] + noise.values[None]).ravel(),
    )
    few = n[:3]
    gold = jnp.exp(sb.log_noisy_soft_bon(normal, few, temperature, *noise)) @ normal.rewards
    # By the program that has just been compiled: the pairs are the outcomes that it selects from.
    score = jnp.exp(sb.log_soft_bon(pairs, few, temperature)) @ pairs.rewards
    return xr.Dataset(
        {
            "gumbel_difference": variable(
                jnp.abs(best - soft).max(-1),
                ("temperature", "all_n"),
                "largest difference of log-probabilities",
                "nats",
            ),
            "regressed": variable(
                gold - score / (1 + 0.75**2),
                IDENTITY,
                "mean true reward less its regression on the mean score",
                REWARD,
            ),
            "regressed_gold": variable(gold, IDENTITY, "mean true reward", REWARD),
        },
        coords=grid(temperature=config.temperatures)
        | {
            "all_n": variable(n, ["all_n"], "number of candidates n", "1"),
            "identity_n": variable(few, ["identity_n"], "number of candidates n", "1"),
        },
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    attributes = {"title": "true reward selected by a noisy judge", "calls": config.calls}
    whole = assemble(parts[:-1], "noise", attributes)
    whole["noise"].attrs = parts[0]["noise"].attrs  # which joining the pieces loses
    return whole.merge(parts[-1])
