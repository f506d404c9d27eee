"""Claims on the divergence per symbol of whole sequences where n = e^{mR}."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import (
    CHECK,
    DERIVED,
    PAPER_RATE_OF_PRODUCTS,
    TOLERANCES,
    Claim,
    at_most,
    bound,
)

NAME = "threshold"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The limit (D - R)₊: bounds around it at every m, and the distance from it at the largest."""
    exact, rate = dataset.kl_per_symbol, dataset.rate
    falls = np.diff(exact.transpose(..., "rate").values)
    longest = int(dataset.length.max())
    last = exact.sel(length=longest)
    # Away from the corner: three standard deviations of log W per symbol under the target.
    corner = 3 * dataset.spread / np.sqrt(longest)
    away = (abs(rate - dataset.threshold) > corner).broadcast_like(last)
    distance = abs(last - dataset.limit).broadcast_like(last).values[away.values]
    excess = (exact - dataset.limit).max("rate")
    order = np.diff(excess.sortby("length").transpose(..., "length").values)
    return [
        bound(NAME, "KL(P*‖P_n)/m ≥ D - R", dataset.kl_lower, exact, source=DERIVED),
        bound(
            NAME,
            "KL(P*‖P_n)/m ≤ log(1 + ((1 + CV²)^m - 1)/n)/m",
            exact,
            dataset.kl_upper,
            source=PAPER_RATE_OF_PRODUCTS,
        ),
        bound(
            NAME,
            "KL(P*‖P_n)/m ≤ (D - R)₊ + s/2√m + (log 2)/m",
            exact,
            dataset.kl_limit_upper,
            source=DERIVED,
        ),
        at_most(
            NAME,
            "KL(P*‖P_n)/m → (D - R)₊ away from the corner",
            distance,
            TOLERANCES.limit,
            f"largest difference at m = {longest} beyond 3s/√m",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "the largest excess over (D - R)₊ falls as m grows",
            order,
            0.0,
            "largest change from one m to the next",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "the divergence falls as n grows",
            falls,
            TOLERANCES.rounding,
            "largest rise from one n to the next",
            source=CHECK,
        ),
        bound(
            NAME,
            "the exponent D is at most the log(1 + CV²) of the O(1/n) bound",
            dataset.threshold,
            dataset.threshold_upper,
            source=DERIVED,
        ),
    ]
