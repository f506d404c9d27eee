"""The exact number of candidates that brings the divergence of sequences of m symbols down to ε.

Whole sequences need n exponential in m, with exponent D = KL(P*‖P), which is smaller than the
log(1 + CV²) of the O(1/n) bound. Symbol by symbol, a number that grows like √m is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import symbols
from experiments.dataset import a_cell_a_problem, assemble, grid, variable
from softbon_jax import bounds

GRID = ("problem", "temperature", "kl", "length")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.symbols`.
      temperature: in units of the reward of one symbol.
      kl: the divergences ε of the whole sequence, in nats.
      lengths: numbers of symbols m, in increasing order.
    """

    problems: tuple[str, ...] = ("thirds",)
    temperature: float = 0.3
    kl: tuple[float, ...] = (1.0, 0.1)
    lengths: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


PAPER = Config()
SMOKE = Config(lengths=(8, 16, 32, 64))

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All lengths and divergences of the symbol called `cell`."""
    symbol, temperature = symbols.build(cell), config.temperature
    kl, lengths = np.array(config.kl)[:, None], np.array(config.lengths, float)

    def of_sequences(m: int) -> Callable[[np.ndarray], Any]:
        def divergence(log_n: np.ndarray) -> Any:
            return sb.blockwise_metrics(
                symbol, m, None, temperature, log_n=log_n, nodes=symbols.nodes(m)
            ).kl_tilted_soft

        return divergence

    # Compiled as a whole: n is small here, and need not be an integer.
    of_symbol = jax.jit(
        lambda log_n: sb.metrics(symbol, None, temperature, log_n=log_n).kl_tilted_soft
    )

    high = np.asarray(bounds.log_n_for_block_kl_upper(symbol, lengths, kl, temperature))
    low = np.asarray(bounds.log_n_for_block_kl_lower(symbol, lengths, kl, temperature))
    enough = np.asarray(bounds.log_n_for_kl_upper(symbol, kl / lengths, temperature))
    by_symbol = _solved(of_symbol, kl / lengths, np.zeros_like(enough), enough)
    columns = [
        _solved(of_sequences(m), kl[:, 0], low[:, i], high[:, i])
        for i, m in enumerate(config.lengths)
    ]

    def log_n(values: np.ndarray, long_name: str) -> xr.Variable:
        return variable(values[None, None], GRID, long_name, "nats")

    def exponent(value: Any, long_name: str) -> xr.Variable:
        return variable([[float(value)]], GRID[:2], long_name, "nats")

    return xr.Dataset(
        {
            "log_n_blocks": log_n(np.stack(columns, axis=1), "log n for whole sequences"),
            "log_n_symbols": log_n(by_symbol, "log n for symbols"),
            "log_n_lower": log_n(low, "m D - ε"),
            "log_n_upper": log_n(high, "log(((1 + CV²)^m - 1)/(e^ε - 1))"),
            "threshold": exponent(bounds.threshold_exponent(symbol, temperature), "D = KL(P*‖P)"),
            "spread": exponent(
                symbols.spread(symbol, temperature), "s, the standard deviation of log W under P*"
            ),
            "threshold_upper": exponent(
                bounds.threshold_exponent_upper(symbol, temperature), "log(1 + CV²)"
            ),
        },
        coords={
            **grid(problem=[cell], temperature=[temperature], length=list(config.lengths)),
            "kl": variable(list(config.kl), ["kl"], "ε", "nats"),
        },
    )


def _solved(
    divergence: Callable[[np.ndarray], Any], kl: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The smallest log n whose divergence is at most `kl`, by bisection between two bounds."""
    for _ in range(34):
        middle = (low + high) / 2
        enough = np.asarray(divergence(middle)) <= kl
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "problem", {"title": "candidates needed for sequences of m symbols"})
