"""Claims on the selection from pools of scores."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import BEIRAMI, CHECK, TOLERANCES, VARIATIONAL, Claim, at_most, bound

NAME = "pool_frontier"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The law at n = 1, optimality of the tilted laws, and hard best-of-n, for every prompt."""
    hard, between = dataset.sel(temperature=0.0), dataset.isel(temperature=slice(1, -1))
    scale = float(abs(dataset.pool_mean).max() + between.temperature.min())
    temperature = between.temperature
    lead = (between.reward - between.tilted_reward) - temperature * (
        between.kl_soft_base - between.kl_tilted_base
    )
    best_of_n_kl = np.log(dataset.n) - (dataset.n - 1) / dataset.n
    return [
        at_most(
            NAME,
            "n = 1: the mean score of every pool, at every λ",
            abs(dataset.reward.sel(n=1) - dataset.pool_mean) / scale,
            TOLERANCES.rounding,
            "largest difference, relative to the scores",
            source=CHECK,
        ),
        at_most(
            NAME,
            "E[r] - λ KL(·‖P) is below that of the tilted law by exactly λ KL(P_n‖P*)",
            abs(lead + temperature * between.kl_soft_tilted) / np.maximum(temperature, scale),
            TOLERANCES.rounding,
            "largest difference, relative to the scores",
            source=VARIATIONAL,
        ),
        bound(
            NAME,
            "hard best-of-n: KL(P_n‖P) ≤ log n - (n-1)/n",
            hard.kl_soft_base,
            best_of_n_kl,
            source=BEIRAMI,
        ),
    ]
