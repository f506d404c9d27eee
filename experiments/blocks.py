"""The exact divergence that remains when symbols, blocks or whole sequences are selected.

All schemes draw n symbols for each of the m positions. Symbol by symbol, the divergence from the tilted
law grows like m; for whole sequences it is at least m D - log n, so n must be exponential in m.
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

GRID = ("problem", "temperature", "n", "length", "scheme")
FIELDS = ("kl_tilted_soft", "kl_soft_base", "reward")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.symbols`.
      temperatures: in units of the reward of one symbol.
      n: numbers of candidates.
      lengths: numbers of symbols m.
      block_sizes: symbols in a block, at most m of them; 0 for the whole sequence.
    """

    problems: tuple[str, ...] = symbols.NAMES
    temperatures: tuple[float, ...] = (0.3, 1.0)
    n: tuple[int, ...] = (4, 64, 1024)
    lengths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    block_sizes: tuple[int, ...] = (1, 4, 16, 0)


PAPER = Config()
SMOKE = Config(problems=("thirds",), temperatures=(0.3,), n=(4, 64), lengths=(1, 2, 4, 16, 64))

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All schemes and lengths of the symbol called `cell`."""
    symbol = symbols.build(cell)
    temperature, n = np.array(config.temperatures)[:, None], np.array(config.n, float)
    values = {field: [] for field in FIELDS}  # type: dict[str, list]
    calls = []
    for m in config.lengths:
        sizes = [min(size, m) if size else m for size in config.block_sizes]
        exact = [
            sb.blockwise_metrics(symbol, m, n, temperature, block_size=size, nodes=symbols.NODES)
            for size in sizes
        ]
        for field in FIELDS:
            values[field].append(np.stack([getattr(x, field) for x in exact], axis=-1))
        costs = [sb.sequence_costs(m, n, block_size=size) for size in sizes]
        calls.append(np.stack([x.reward_calls for x in costs], axis=-1))
    one = sb.symbolwise_metrics(symbol, 1, n, temperature, nodes=symbols.NODES)
    of_length = np.array(config.lengths, float)
    on_grid = (symbol, of_length, n[:, None], temperature[..., None])

    return xr.Dataset(
        {
            **{
                field: variable(np.stack(x, axis=-2)[None], GRID, *METRICS[field])
                for field, x in values.items()
            },
            "kl_symbol": variable(
                np.asarray(one.kl_tilted_soft)[None],
                GRID[:3],
                f"{METRICS['kl_tilted_soft'][0]} of one symbol",
                "nats",
            ),
            "kl_lower": variable(
                bounds.block_kl_lower(*on_grid)[None], GRID[:4], "m D - log n", "nats"
            ),
            "kl_upper": variable(
                bounds.block_kl_upper(*on_grid)[None],
                GRID[:4],
                "log(1 + ((1 + CV²)^m - 1)/n)",
                "nats",
            ),
            "symbol_draws": variable(
                n[:, None] * of_length, GRID[2:4], "symbols drawn for a sequence", "1"
            ),
            "reward_calls": variable(
                np.stack(calls, axis=-2), GRID[2:], "blocks scored for a sequence", "1"
            ),
        },
        coords=grid(
            problem=[cell],
            temperature=config.temperatures,
            n=config.n,
            length=list(config.lengths),
            scheme=[symbols.scheme(size) for size in config.block_sizes],
        ),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(
        parts, "problem", {"title": "divergence of sequences, by symbols and by blocks"}
    )
