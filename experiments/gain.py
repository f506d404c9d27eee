"""How much reward per symbol the selection of whole sequences gains where n = e^{mR}.

No selection among n sequences gains more than Δ√(R/2), nor more than the tilted law whose divergence
from the reference law is R. Hard best-of-n approaches that law as m grows; soft best-of-n stops at its
own target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import symbols
from experiments.dataset import REWARD, a_cell_a_problem, assemble, grid, variable
from softbon_jax import bounds

GRID = ("problem", "temperature", "length", "rate")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.symbols`.
      temperatures: in units of the reward of one symbol; 0 is hard best-of-n.
      lengths: numbers of symbols m.
      largest_rate: the grid of R = log n/m runs from 0 to here.
      rates: number of points of that grid.
    """

    problems: tuple[str, ...] = ("thirds",)
    temperatures: tuple[float, ...] = (0.0, 0.3, 1.0)
    lengths: tuple[int, ...] = (16, 64, 256)
    largest_rate: float = 1.0
    rates: int = 26


PAPER = Config()
SMOKE = Config(lengths=(16, 64), rates=11)

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures, lengths and rates of the symbol called `cell`."""
    symbol = symbols.build(cell)
    rates, temperature = symbols.rates(config.largest_rate, config.rates), config.temperatures
    per_symbol = [
        sb.blockwise_metrics(
            symbol,
            m,
            None,
            np.array(temperature)[:, None],
            log_n=m * rates,
            nodes=symbols.nodes(m),
        ).reward
        / m
        for m in config.lengths
    ]
    targets = [sb.metrics(symbol, 1, t, nodes=symbols.NODES) for t in temperature]
    mean = float(np.exp(symbol.log_probs) @ symbol.rewards)
    lengths = np.array(config.lengths, float)[:, None]
    cap = bounds.block_gain_upper(symbol, lengths, None, log_n=lengths * rates)
    return xr.Dataset(
        {
            "gain": variable(
                np.stack(per_symbol, axis=1)[None] - mean, GRID, "gain of reward per symbol", REWARD
            ),
            "gain_upper": variable(
                np.asarray(cap)[None], ("problem", "length", "rate"), "Δ√(log n/2m)", REWARD
            ),
            "frontier": variable(
                (_frontier(symbol, rates) - mean)[None],
                ("problem", "rate"),
                "gain of the tilted law with KL = R",
                REWARD,
            ),
            "tilted_gain": variable(
                [[float(x.tilted_reward) - mean for x in targets]],
                GRID[:2],
                "gain of the target",
                REWARD,
            ),
        },
        coords={
            **grid(problem=[cell], temperature=temperature, length=list(config.lengths)),
            "rate": variable(rates, ["rate"], "R = log n/m", "nats"),
        },
    )


def _frontier(symbol: sb.Problem, rates: np.ndarray) -> np.ndarray:
    """The largest mean reward of a law with KL(·‖P) <= R: that of a tilted law, by bisection."""
    log_p, rewards = np.asarray(symbol.log_probs), np.asarray(symbol.rewards)

    def tilted(slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_q = log_p + slope[:, None] * (rewards - rewards.max())
        log_q -= np.logaddexp.reduce(log_q, axis=1)[:, None]
        q = np.exp(log_q)
        return np.sum(q * (log_q - log_p), axis=1), q @ rewards

    low, high = np.zeros_like(rates), np.full_like(rates, 1e4 / np.ptp(rewards))
    for _ in range(80):
        middle = (low + high) / 2
        below = tilted(middle)[0] < rates
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return tilted(high)[1]


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "problem", {"title": "reward gained per symbol where n = exp(mR)"})
