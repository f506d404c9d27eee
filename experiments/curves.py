"""What the experiments on rates share: one problem on a grid of temperatures and n."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.dataset import candidates, metric_variables, of_one_problem, variable

GRID = ("problem", "temperature", "n")
NODES = 512
"""Quadrature nodes, the same for all problems, so that one compiled kernel serves them. Where they are
too few the result is NaN, and `verify` fails."""


class Settings(Protocol):
    """The part of a `Config` that sets the grid."""

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures, in reward units."""

    @property
    def largest_n(self) -> int:
        """The grid of n runs from 1 to here."""

    @property
    def per_octave(self) -> int:
        """Points of that grid in each factor of two."""

    @property
    def seed(self) -> int:
        """Seed of the random problems."""


class Curves(NamedTuple):
    """A problem, the grid, and the exact metrics on it.

    Attributes:
      problem: the problem.
      numbers: the n of the grid, as integers.
      n: the same, `[N]` float.
      temperature: `[T]`.
      exact: metrics `[T, N]` of soft best-of-n.
    """

    problem: sb.Problem
    numbers: tuple[int, ...]
    n: jax.Array
    temperature: jax.Array
    exact: sb.Metrics

    @property
    def pairs(self) -> tuple[sb.Problem, jax.Array, jax.Array]:
        """Arguments that give any function of (problem, n, temperature) on the grid `[T, N]`."""
        return self.problem, self.n[None, :], self.temperature[:, None]

    def metrics(self, fields: Iterable[str]) -> dict[str, xr.Variable]:
        """Some fields of the exact metrics as variables on `GRID`."""
        return metric_variables(of_one_problem(self.exact), fields, GRID)


def curves(config: Settings, cell: str, nodes: int = NODES) -> Curves:
    """The exact metrics of the problem called `cell` on the grid of `config`."""
    problem = problems.build(cell, config.seed)
    numbers = candidates(config.largest_n, config.per_octave)
    n, temperature = jnp.asarray(numbers, float), jnp.asarray(config.temperatures)
    return Curves(problem, numbers, n, temperature, sb.sweep(problem, n, temperature, nodes=nodes))


def of_n(values: Any, long_name: str, units: str) -> xr.Variable:
    """`[T, N]` values of one problem as a variable on `GRID`."""
    return variable(values[None], GRID, long_name, units)


def of_temperature(values: Any, long_name: str, units: str) -> xr.Variable:
    """`[T]` values of one problem as a variable on the first two dimensions of `GRID`."""
    return variable(values[None], GRID[:2], long_name, units)


def largest_weight(problem: sb.Problem, temperature: jax.Array) -> xr.Variable:
    """Max W of a problem at each temperature: the power laws hold for n well above it."""
    log_p = np.asarray(problem.log_probs)
    log_w = np.asarray(sb.log_tilted(problem, temperature))[:, log_p > -np.inf]
    values = np.exp((log_w - log_p[log_p > -np.inf]).max(-1))
    return of_temperature(values, "max W", "1")
