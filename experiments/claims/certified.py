"""Claims that are proved, by ball arithmetic, and not only measured."""

from __future__ import annotations

import xarray as xr

from experiments.claims import DERIVED, TOLERANCES, Claim, at_most

NAME = "certified"

_GROUPS = {
    "law": "the law of the four-outcome example, n = 2 to 1e12",
    "divergence": "its KL(P*‖P_n), down to 3e-24, and its reward gap, also of two symbols",
    "constant": "the constants of the rates, and the threshold",
    "formula": "values of bounds, and of the laws of other rules and orders",
}


def claims(dataset: xr.Dataset) -> list[Claim]:
    """How many digits are proved right, and inequalities without a tolerance."""
    limits = {
        "law": TOLERANCES.certified_law,
        "divergence": TOLERANCES.certified_divergence,
        "constant": TOLERANCES.certified_constant,
        "formula": TOLERANCES.certified_law,
    }
    rows = [
        at_most(
            NAME,
            f"{name}: relative distance from the truth, proved",
            dataset.distance.values[dataset.group.values == group],
            limits[group],
            "at most",
            source=DERIVED,
        )
        for group, name in _GROUPS.items()
    ]
    count = len(set(dataset.bound.values.tolist()))
    rows.append(
        at_most(
            NAME,
            f"{count} bounds hold at two named problems, proved",
            dataset.excess,
            0.0,
            "largest upper end of exact/bound - 1:",
            source=DERIVED,
        )
    )
    return rows
