"""Monte Carlo points to put beside exact curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import METRICS, variable

DIMS = ("problem", "simulated_temperature", "simulated_n")


class Settings(Protocol):
    """The part of a `Config` that sets the simulation."""

    @property
    def simulated_temperatures(self) -> tuple[float, ...]:
        """Temperatures, in reward units."""

    @property
    def simulated_n(self) -> tuple[int, ...]:
        """Numbers of candidates."""

    @property
    def trials(self) -> int:
        """Simulated selections for each temperature and n."""

    @property
    def seed(self) -> int:
        """Seed of the keys."""


def simulated(
    name: str, problem: sb.Problem, config: Settings, fields: Sequence[str]
) -> dict[str, xr.Variable]:
    """Simulated metrics with their standard errors and noise floors, on `DIMS`.

    NaN where the value is below its noise floor, too small to be seen in that many trials.

    Args:
      name: of the problem; it sets the keys.
      problem: the problem.
      config: which temperatures and n, how many trials, and the seed.
      fields: which metrics.
    """
    temperatures, numbers = config.simulated_temperatures, config.simulated_n
    trials = config.trials
    shape = (len(temperatures), len(numbers))
    estimates = {field: np.empty((3, *shape)) for field in fields}
    for i, temperature in enumerate(temperatures):
        for j, n in enumerate(numbers):
            key = problems.cell_key(config.seed, name, 1, i, n)
            estimate = sb.simulate(key, problem, float(n), temperature, trials=trials)
            for field in fields:
                of_field = (getattr(x, field) for x in (estimate.metrics, estimate.metrics_se))
                estimates[field][:, i, j] = *of_field, getattr(estimate.noise_floor, field)
    probs = np.exp(np.asarray(problem.log_probs))
    appearances = float(probs.min(where=probs > 0, initial=1.0)) * trials * np.asarray(numbers)
    labels = ("", "_se", "_floor")
    prefixes = ("simulated ", "standard error of simulated ", "noise floor of simulated ")
    result = {
        f"simulated_{field}{label}": variable(
            values[k][None], DIMS, prefix + METRICS[field][0], METRICS[field][1], trials=trials
        )
        for field, values in estimates.items()
        for k, (label, prefix) in enumerate(zip(labels, prefixes, strict=True))
    }
    result["simulated_appearances"] = variable(
        appearances[None],
        ("problem", "simulated_n"),
        "draws of the rarest outcome expected in a simulation",
        "1",
        note="where they are few, estimate and standard error both miss it",
    )
    return result
