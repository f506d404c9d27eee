"""Claims on the divergence of sequences by symbols, by blocks and whole."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import (
    CHECK,
    DERIVED,
    MEASURED,
    PAPER_RATE_OF_PRODUCTS,
    TOLERANCES,
    Claim,
    at_most,
    bound,
)

NAME = "blocks"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The bounds on whole sequences, additivity over symbols, and the order of the schemes."""
    exact = dataset.kl_tilted_soft
    whole, symbols = exact.sel(scheme="whole"), exact.sel(scheme="symbols")
    single = dataset.kl_symbol
    growth = np.diff(exact.transpose(..., "scheme").values)
    scale = np.maximum(exact.transpose(..., "scheme").values[..., 1:], TOLERANCES.rounding)
    calls = dataset.reward_calls
    return [
        bound(
            NAME,
            "whole sequences: KL(P*‖P_n) ≥ m D - log n",
            dataset.kl_lower,
            whole,
            source=DERIVED,
        ),
        bound(
            NAME,
            "whole sequences: KL(P*‖P_n) ≤ log(1 + ((1 + CV²)^m - 1)/n)",
            whole,
            dataset.kl_upper,
            source=PAPER_RATE_OF_PRODUCTS,
        ),
        at_most(
            NAME,
            "symbols: KL(P*‖P_n) = m times that of one symbol",
            abs(symbols / (single * dataset.length) - 1),
            TOLERANCES.rounding,
            "largest relative difference",
            source=CHECK,
        ),
        at_most(
            NAME,
            "a sequence of one symbol: all schemes agree",
            abs(exact.sel(length=1) / single - 1),
            TOLERANCES.rounding,
            "largest relative difference",
            source=CHECK,
        ),
        at_most(
            NAME,
            "with as many symbols drawn, larger blocks are farther from the tilted law",
            -growth / scale,
            TOLERANCES.rounding,
            "largest relative fall from one block size to the next",
            source=f"n → ∞: {DERIVED}; at every n: {MEASURED}",
        ),
        at_most(
            NAME,
            "symbols drawn are n·m for all, blocks scored n·m for symbols and n for sequences",
            [
                abs(calls.sel(scheme="symbols") / dataset.symbol_draws - 1),
                abs(calls.sel(scheme="whole") * dataset.length / dataset.symbol_draws - 1),
            ],
            TOLERANCES.rounding,
            "largest relative difference",
            source=CHECK,
        ),
    ]
