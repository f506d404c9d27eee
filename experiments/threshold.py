"""How many candidates whole sequences need: the divergence per symbol where n = e^{mR}.

KL(P*‖P_n)/m tends to (D - R)₊ with D = KL(P*‖P) of one symbol. Below e^{mD} candidates, the threshold of
importance sampling, the selected sequence is as far from the target as it can be after log n nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import symbols
from experiments.dataset import METRICS, a_cell_a_problem, assemble, grid, variable
from softbon_jax import bounds

GRID = ("problem", "temperature", "length", "rate")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.symbols`.
      temperature: in units of the reward of one symbol.
      lengths: numbers of symbols m.
      largest_rate: the grid of R = log n/m runs from 0 to here.
      rates: number of points of that grid.
    """

    problems: tuple[str, ...] = ("thirds",)
    temperature: float = 0.3
    lengths: tuple[int, ...] = (16, 64, 256, 1000)
    largest_rate: float = 1.4
    rates: int = 36


PAPER = Config()
SMOKE = Config(lengths=(16, 64), rates=15)

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All lengths and rates of the symbol called `cell`."""
    symbol, temperature = symbols.build(cell), config.temperature
    rates = symbols.rates(config.largest_rate, config.rates)
    lengths = np.array(config.lengths, float)[:, None]
    exact = [
        sb.blockwise_metrics(symbol, m, None, temperature, log_n=m * rates, nodes=symbols.nodes(m))
        for m in config.lengths
    ]
    threshold = float(bounds.threshold_exponent(symbol, temperature))
    spread = symbols.spread(symbol, temperature)
    limit = np.maximum(threshold - rates, 0)
    arguments = (symbol, lengths, None, temperature)

    def of_all(values: np.ndarray, long_name: str) -> xr.Variable:
        return variable(values[None, None], GRID, long_name, "nats")

    def of_problem(value: float, long_name: str) -> xr.Variable:
        return variable([[value]], GRID[:2], long_name, "nats")

    return xr.Dataset(
        {
            "kl_per_symbol": of_all(
                np.stack(
                    [x.kl_tilted_soft / m for m, x in zip(config.lengths, exact, strict=True)]
                ),
                f"{METRICS['kl_tilted_soft'][0]} per symbol",
            ),
            "limit": variable(limit[None, None], (*GRID[:2], "rate"), "(D - R)₊", "nats"),
            "kl_limit_upper": of_all(
                limit + spread / (2 * np.sqrt(lengths)) + np.log(2) / lengths,
                "(D - R)₊ + s/2√m + (log 2)/m",
            ),
            "kl_lower": of_all(
                np.asarray(bounds.block_kl_lower(*arguments, log_n=lengths * rates)) / lengths,
                "(m D - log n)/m",
            ),
            "kl_upper": of_all(
                np.asarray(bounds.block_kl_upper(*arguments, log_n=lengths * rates)) / lengths,
                "log(1 + ((1 + CV²)^m - 1)/n)/m",
            ),
            "threshold": of_problem(threshold, "D = KL(P*‖P)"),
            "threshold_upper": of_problem(
                float(bounds.threshold_exponent_upper(symbol, temperature)), "log(1 + CV²)"
            ),
            "spread": of_problem(spread, "s, the standard deviation of log W under P*"),
        },
        coords={
            **grid(problem=[cell], temperature=[temperature], length=list(config.lengths)),
            "rate": variable(rates, ["rate"], "R = log n/m", "nats"),
        },
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "problem", {"title": "divergence per symbol where n = exp(mR)"})
