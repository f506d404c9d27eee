"""When a proxy runs away: the tail of its error decides what n draws and a temperature are worth.

The true reward is standard normal. The proxy adds an independent error of the same variance with a light
(normal), an exponential (logistic) or a heavy tail (Student's t with three degrees of freedom). All laws
are continuous; what is selected, hard or soft, is computed from their densities.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import METRICS, REWARD, assemble, candidates, grid, variable

LOGISTIC = math.sqrt(3) / math.pi
"""The scale of a logistic error of variance 1; also the temperature below which P* does not exist."""
ERRORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda x: np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
    "logistic": lambda x: 1 / (4 * LOGISTIC * np.cosh(x / (2 * LOGISTIC)) ** 2),
    "student": lambda x: 2 / math.pi / (1 + x**2) ** 2,
}
"""Densities of variance 1: light, exponential and heavy (three degrees of freedom) in the tail."""
FIELDS = ("reward", "kl_soft_base", "kl_tilted_base")
FINENESS = 6
"""Nodes of the trapezoid rule over the true reward, a unit: errors of e^{-2π·6} at poles a unit away."""
TRUTHS = np.arange(-9 * FINENESS, 9 * FINENESS + 1) / FINENESS


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      errors: laws of the proxy's error, one cell each.
      temperatures: of soft selection, rising; under a heavy tail the last one alone.
      largest_heavy_n: of soft selection under a heavy tail.
      largest_n: the grid of n runs from 1 to here.
      per_octave: points of that grid in each factor of two.
      finest: the temperature that the nodes of hard selection resolve.
    """

    errors: tuple[str, ...] = tuple(ERRORS)
    temperatures: tuple[float, ...] = (0.4, 1.0)
    largest_heavy_n: int = 2**10
    largest_n: int = 2**20
    per_octave: int = 1
    finest: float = 0.1


PAPER = Config()
SMOKE = Config(largest_heavy_n=2**8)


def cells(config: Config) -> list[str]:
    """One cell an error."""
    return list(config.errors)


def compute(config: Config, cell: str) -> xr.Dataset:
    """Proxy reward, true reward and KL of what is selected, for all n and temperatures."""
    numbers = np.asarray(candidates(config.largest_n, config.per_octave), float)

    logpdf = functools.partial(_log_density, cell)
    soft = _soft(cell, logpdf, numbers, config)
    dims = ("error", "temperature", "n")
    labels = {name: METRICS[name] for name in FIELDS} | {
        "gold": ("mean true reward", REWARD),
        "mass": ("sum of probabilities", "1"),
    }
    values = {
        name: variable(soft[name][None], dims, *label)
        for name, label in labels.items()
        if name != "mass"
    }
    hard = _hard(cell, logpdf, numbers, config)
    for name, value in hard.items():
        label, unit = labels[name]
        values[f"hard_{name}"] = variable(value[None], ("error", "n"), f"{label}, hard", unit)
    return xr.Dataset(
        values, coords=grid(error=[cell], n=numbers.astype(int), temperature=config.temperatures)
    )


def _log_density(error: str, reward: np.ndarray) -> np.ndarray:
    """Of the proxy's reward, nats; -inf where it underflows."""
    with np.errstate(over="ignore", divide="ignore"):
        return np.asarray(np.log(_joint(error, reward).sum(-1)))


def _expected_truth(error: str, reward: np.ndarray) -> np.ndarray:
    """E[true reward | proxy reward]."""
    joint = _joint(error, reward)
    return (joint @ TRUTHS) / joint.sum(-1)


def _joint(error: str, reward: np.ndarray) -> np.ndarray:
    """Density of true rewards and the proxy's `reward`, true rewards on a new last axis."""
    truth = np.exp(-(TRUTHS**2) / 2) / (math.sqrt(2 * math.pi) * FINENESS)
    return truth * ERRORS[error](np.asarray(reward)[..., None] - TRUTHS)


def _soft(
    error: str, logpdf: Callable[[np.ndarray], np.ndarray], numbers: np.ndarray, config: Config
) -> dict[str, np.ndarray]:
    """Soft selection, `[temperature, n]`; NaN where a heavy tail needs too many nodes."""
    heavy = error == "student"
    temperatures = config.temperatures[-1:] if heavy else config.temperatures
    few = numbers[numbers <= config.largest_heavy_n] if heavy else numbers
    law = sb.from_distribution(logpdf=logpdf, temperature=min(temperatures), n=few[-1])
    metrics = sb.sweep(law, few, temperatures)
    log_law = sb.log_soft_bon(law, few, np.array(temperatures)[:, None])
    gold = jnp.exp(log_law) @ _expected_truth(error, np.asarray(law.rewards))
    found = {name: getattr(metrics, name) for name in FIELDS} | {"gold": gold}
    shape = len(config.temperatures), numbers.size
    result = {name: np.full(shape, np.nan) for name in found}
    for name, value in found.items():
        result[name][-len(temperatures) :, : few.size] = value
    return result


def _hard(
    error: str,
    logpdf: Callable[[np.ndarray], np.ndarray],
    numbers: np.ndarray,
    config: Config,
) -> dict[str, np.ndarray]:
    """Selection of the largest: density n F^{n-1}, by the distribution function at the nodes."""
    heavy = error == "student"  # whose tail has no scale: what nodes resolve it at λ, resolve it
    law = sb.from_distribution(
        logpdf=logpdf, temperature=1.0 if heavy else config.finest, n=64 if heavy else 1024
    )
    n = numbers[:, None]
    selected = np.exp(law.log_probs[None] + np.log(n) + (n - 1) * law.log_below[None])
    return {
        "reward": selected @ law.rewards,
        "gold": selected @ _expected_truth(error, np.asarray(law.rewards)),
        "mass": selected.sum(-1),
    }


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "error", {"title": "true reward under tails of the proxy's error"})
