"""Experiments: thin scripts over `softbon_jax` that turn a config into a labeled dataset.

Each experiment is one module with

* `Config`, a frozen dataclass, and two instances of it: `SMOKE` (seconds) and `PAPER`;
* `cells(config)`, the names of the independent pieces of its result, in order;
* `compute(config, cell)`, one piece, an `xarray.Dataset`;
* `assemble_cells(config, parts)`, the whole result from its pieces;
* optionally `inputs(config)`, the files it reads.

All of them are pure. `run` computes a result in memory, `runner` computes and saves it piece by piece,
and `verify` checks what the results claim.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import xarray as xr

NAMES = (
    "frontier",
    "kl_rate",
    "reward_rate",
    "tv_rate",
    "orders",
    "extremes",
    "single",
    "simulation_check",
    "blocks",
    "threshold",
    "gain",
    "memory",
    "samples_needed",
    "decoding",
    "pool_frontier",
    "pools",
    "estimator_bias",
    "beyond",
    "rivals",
    "hard_limit",
    "poisson",
    "stopping",
    "judges",
    "tails",
    "hedging",
    "distillation",
    "training",
    "certified",
)
"""The experiments, in the order in which `reproduce` runs them."""


def module(name: str) -> ModuleType:
    """The module of the experiment called `name`; ValueError if there is none."""
    if name not in NAMES:
        raise ValueError(f"no experiment is called {name!r}; there are {', '.join(NAMES)}")
    return importlib.import_module(f"experiments.{name}")


def run(name: str, config: Any) -> xr.Dataset:
    """The whole result of the experiment called `name` at `config`, an instance of its `Config`."""
    experiment = module(name)
    parts = [experiment.compute(config, cell) for cell in experiment.cells(config)]
    return experiment.assemble_cells(config, parts)
