"""Claims on the number of candidates needed for a divergence over whole sequences."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import DERIVED, PAPER_RATE_SOLVED, TOLERANCES, Claim, at_most, bound

NAME = "samples_needed"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The two bounds, the exponent, and the number needed symbol by symbol."""
    whole, by_symbol, length = dataset.log_n_blocks, dataset.log_n_symbols, dataset.length
    last, before = length.values[-1], length.values[-2]
    excess = abs(whole - length * dataset.threshold) / (dataset.spread * np.sqrt(length))
    growth = (by_symbol.sel(length=last) - by_symbol.sel(length=before)) / np.log(last / before)
    return [
        bound(NAME, "log n ≥ m D - ε", dataset.log_n_lower, whole, source=DERIVED),
        bound(
            NAME,
            "log n ≤ log(((1 + CV²)^m - 1)/(e^ε - 1))",
            whole,
            dataset.log_n_upper,
            source=PAPER_RATE_SOLVED,
        ),
        at_most(
            NAME,
            "whole sequences: log n = m D + O(√m)",
            excess,
            TOLERANCES.deviations,
            "largest |log n - m D|/(s√m)",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "symbols: n grows like √m",
            abs(growth - 0.5),
            TOLERANCES.growth,
            f"exponent of m from m = {before} to {last}: largest difference from 1/2",
            source=DERIVED,
        ),
    ]
