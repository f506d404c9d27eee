"""Claims on the Markov chain decoded by blocks."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import CHECK, DERIVED, TOLERANCES, VARIATIONAL, Claim, at_most

NAME = "decoding"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Decoded sequences have the exact reward and divergence, and no scheme beats the tilted laws."""
    temperature = dataset.attrs["decoded_temperature"]
    exact = dataset.sel(temperature=temperature, n=dataset.decoded_n.values)
    deviations = [
        (dataset[f"decoded_{field}"].values - exact[field].values)
        / dataset[f"decoded_{field}_se"].values
        for field in ("reward", "kl_soft_base")
    ]
    # The best reward at cost KL is min over slopes b of (KL + log E_P[e^{br}])/b.
    slope = dataset.slope
    log_moment = slope * dataset.frontier_reward - dataset.frontier_kl
    best = ((dataset.kl_soft_base + log_moment) / slope).min("slope")
    short = best - dataset.reward
    return [
        at_most(
            NAME,
            f"{name} of decoded sequences agrees with its exact value",
            np.abs(x),
            TOLERANCES.standard_errors,
            "standard errors at worst",
            source=CHECK,
        )
        for name, x in zip(("mean reward", "KL(P_n‖P)"), deviations, strict=True)
    ] + [
        at_most(
            NAME,
            "no decoding beats the tilted laws of whole sequences",
            dataset.reward - best,
            TOLERANCES.rounding,
            "largest lead in reward at equal KL",
            source=VARIATIONAL,
        ),
        at_most(
            NAME,
            "n = 1: the chain itself",
            [
                abs(dataset.kl_soft_base.sel(n=1)),
                abs(dataset.reward.sel(n=1) - dataset.reward.isel(block_size=0).sel(n=1)),
            ],
            TOLERANCES.rounding,
            "largest KL or difference of reward",
            source=CHECK,
        ),
        at_most(
            NAME,
            "with many candidates symbols are farther below the tilted laws than whole sequences",
            (short.isel(block_size=-1) - short.isel(block_size=0)).isel(n=-1),
            0.0,
            f"largest difference of the distances in reward at n = {int(dataset.n[-1])}",
            source=DERIVED,
        ),
    ]
