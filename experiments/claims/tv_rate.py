"""Claims on the two rates in total variation."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import DERIVED, TOLERANCES, Claim, at_most, bound, power_laws

NAME = "tv_rate"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The rate of the law, the rate of the law given the draws, and which of the two is larger."""
    starts = dataset.largest_weight.values.reshape(-1)
    rows = []
    for field, name, formula, numbers, exponent in (
        ("tv", "TV(P_n, P*)", "E_{P*}|1 + CV² - W|/2", dataset.n, -1.0),
        ("fluctuation", "E TV(R, P*)", "its normal limit", dataset.simulated_n, -0.5),
    ):
        curves = dataset[field].values.reshape(-1, numbers.size)
        simulated = f"{field}_se" in dataset
        errors = dataset[f"{field}_se"].values.reshape(curves.shape) if simulated else None
        coefficients = dataset[f"{field}_coefficient"].values.reshape(-1)
        rows += power_laws(
            NAME,
            name,
            formula,
            numbers.values,
            curves,
            coefficients,
            starts,
            exponent,
            errors,
            source=DERIVED,
        )
    # By how much √(n-1) TV has fallen, from its peak to the largest n.
    scaled = (dataset.tv * np.sqrt(dataset.n - 1)).transpose(..., "n")
    left = scaled.isel(n=-1) / scaled.max("n")
    margin = TOLERANCES.standard_errors * dataset.fluctuation_se
    tv = dataset.tv.sel(n=dataset.simulated_n.values).rename(n="simulated_n")
    return [
        *rows,
        at_most(
            NAME,
            "no converse TV(P_n, P*) ≥ C/√(n-1) on a fixed problem: √(n-1) TV → 0",
            left,
            TOLERANCES.vanished,
            f"largest share of its peak that √(n-1) TV has at n = {int(dataset.n[-1]):,}",
            source=DERIVED,
        ),
        bound(NAME, "TV(P_n, P*) ≤ E TV(R, P*): the average is closer than what is averaged",
              tv, dataset.fluctuation + margin, source=DERIVED),
    ]  # fmt: skip
