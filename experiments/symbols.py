"""What the experiments on sequences share: laws of one symbol, and names of decoding schemes."""

from __future__ import annotations

import numpy as np

import softbon_jax as sb

_BUILDERS = {
    "thirds": lambda: sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 1 / 3, 2 / 3, 1.0]),
    "coin": lambda: sb.bernoulli(0.5),
}

NAMES = tuple(_BUILDERS)
"""thirds, coin: rewards in [0, 1], on a lattice."""


NODES = 6144
"""Quadrature nodes for sequences of up to 256 symbols at λ = 0.3, the same for all, so that few compiled
kernels serve them. Where they are too few the result is NaN, and `verify` fails."""


def nodes(length: int) -> int | None:
    """Quadrature nodes for sequences of this length; None lets the library choose."""
    return NODES if length <= 256 else None


def rates(largest: float, count: int) -> np.ndarray:
    """Values of R = log n/m: 0, and evenly spaced ones from 0.12 to `largest`.

    For sequences of 16 symbols or more n is then 1 or above 6, where few quadrature nodes are enough for
    real n too, and one compiled kernel serves all.
    """
    return np.append(0.0, np.linspace(0.12, largest, count - 1))


def build(name: str) -> sb.Problem:
    """The law of a symbol called `name`."""
    if name not in _BUILDERS:
        raise ValueError(f"no symbol is called {name!r}; there are {', '.join(NAMES)}")
    return _BUILDERS[name]()


def spread(symbol: sb.Problem, temperature: float) -> float:
    """The standard deviation of log W, which is that of r/λ, under the tilted law, in nats."""
    target = np.exp(sb.log_tilted(symbol, temperature))
    rewards = np.asarray(symbol.rewards)
    return float(np.sqrt(target @ (rewards - target @ rewards) ** 2)) / temperature


def scheme(block_size: int) -> str:
    """The label of decoding by blocks of this size; 0 stands for the whole sequence."""
    return {0: "whole", 1: "symbols"}.get(block_size, f"blocks of {block_size}")
