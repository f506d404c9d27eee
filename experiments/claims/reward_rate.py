"""Claims on the mean reward against that of the tilted law."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import (
    DERIVED,
    PAPER_RATE,
    TOLERANCES,
    Claim,
    at_most,
    bound,
    power_laws,
    simulation,
)

NAME = "reward_rate"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The bounds, monotonicity, the rate and its constant, and simulation."""
    exact, size = dataset.relative_reward_gap, dataset.sizes["n"]
    falls = -np.diff(dataset.reward.transpose(..., "n").values)
    return [
        bound(
            NAME, "relative reward gap ≤ M'/(n + M')", exact, dataset.gap_upper, source=PAPER_RATE
        ),
        bound(
            NAME,
            "relative reward gap ≤ M/(n + M)",
            exact,
            dataset.gap_upper_crude,
            source=PAPER_RATE,
        ),
        at_most(
            NAME,
            "the relative reward gap is never negative",
            -exact,
            0.0,
            "largest of -gap",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "mean reward never falls as n grows",
            falls,
            TOLERANCES.rounding,
            "largest fall from one n to the next",
            source=DERIVED,
        ),
        *power_laws(
            NAME,
            "reward gap",
            "Cov_{P*}(r, W)",
            dataset.n.values,
            dataset.reward_gap.values.reshape(-1, size),
            dataset.gap_coefficient.values.reshape(-1),
            dataset.largest_weight.values.reshape(-1),
            -1,
            source=DERIVED,
        ),
        simulation(NAME, dataset, "reward"),
    ]
