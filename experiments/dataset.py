"""Labeled datasets: dimensions, units and long names of variables, and assembly from pieces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import xarray as xr

from softbon_jax import Metrics

REWARD = "reward units"

# Long name and unit of every field of Metrics; P_n is the law of the selected sample.
METRICS: dict[str, tuple[str, str]] = {
    "reward": ("mean reward of the selected sample", REWARD),
    "tilted_reward": ("mean reward of the tilted law", REWARD),
    "reward_gap": ("mean reward of the tilted law less that of the selected sample", REWARD),
    "relative_reward_gap": ("reward gap divided by the mean reward of the tilted law", "1"),
    "kl_tilted_soft": ("KL(P*‖P_n)", "nats"),
    "kl_soft_tilted": ("KL(P_n‖P*)", "nats"),
    "kl_soft_base": ("KL(P_n‖P)", "nats"),
    "kl_tilted_base": ("KL(P*‖P)", "nats"),
    "tv": ("total variation between P_n and P*", "1"),
    "chi2": ("χ²(P_n‖P*)", "1"),
    "win_rate": ("probability that the selected sample beats a fresh one", "1"),
}


def variable(
    values: Any, dims: Sequence[str], long_name: str, units: str, **attributes: Any
) -> xr.Variable:
    """An array with named dimensions, a long name and a unit."""
    attributes = {"long_name": long_name, "units": units, **attributes}
    return xr.Variable(tuple(dims), np.asarray(values), attributes)


def metric_variables(
    metrics: Metrics, fields: Iterable[str], dims: Sequence[str]
) -> dict[str, xr.Variable]:
    """Some fields of `metrics` as labeled variables."""
    return {field: variable(getattr(metrics, field), dims, *METRICS[field]) for field in fields}


def of_one_problem(metrics: Metrics) -> Metrics:
    """The metrics of a single problem, with an axis in front for the problem."""
    return Metrics(*(x[None] for x in metrics))


def grid(*, temperature: Any = None, n: Any = None, **others: Any) -> dict[str, xr.Variable]:
    """Coordinates: temperatures in reward units, numbers of candidates, and plain labels."""
    coordinates = {name: xr.Variable((name,), np.atleast_1d(x)) for name, x in others.items()}
    if temperature is not None:
        coordinates["temperature"] = variable(
            np.asarray(temperature, float), ["temperature"], "temperature λ", REWARD
        )
    if n is not None:
        coordinates["n"] = variable(np.asarray(n), ["n"], "number of candidates n", "1")
    return coordinates


class WithProblems(Protocol):
    """A `Config` that names problems."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Their names."""


def a_cell_a_problem(config: WithProblems) -> list[str]:
    """The names of the cells of an experiment that computes its problems one by one."""
    return list(config.problems)


def assemble(parts: Sequence[xr.Dataset], dim: str, attributes: Mapping[str, Any]) -> xr.Dataset:
    """The pieces of one result joined along `dim`; what lacks `dim` must be equal in all of them."""
    whole = xr.concat(
        parts, dim=dim, data_vars="minimal", coords="minimal", compat="equals", join="exact",
        combine_attrs="identical",
    )  # fmt: skip
    # Joining truncates strings to the length of those in the first piece.
    labels = np.concatenate([part[dim].values.astype(object) for part in parts])
    return whole.assign_coords({dim: labels}).assign_attrs(dict(attributes))


def candidates(largest: int, per_octave: int) -> tuple[int, ...]:
    """Integers from 1 to `largest`, both included, about `per_octave` in each factor of two."""
    octaves = np.log2(largest)
    exact = 2.0 ** (np.arange(int(octaves * per_octave) + 1) / per_octave)
    return tuple(sorted({*(round(x) for x in exact), largest}))
