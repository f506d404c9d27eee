"""Claims on the rivals: exponential approach of the race, and no rule above the tilted laws."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import CHECK, DERIVED, TOLERANCES, VARIATIONAL, Claim, at_most, bound

NAME = "rivals"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The bound in n, the ratio of successive n, the frontier, and the simulated race."""
    t = TOLERANCES
    plane_n = int(dataset.attrs["plane_n"])
    lead = (dataset.plane_reward - dataset.tilted_reward) - dataset.plane_temperature * (
        dataset.plane_kl - dataset.tilted_kl
    )
    loss = dataset.plane_temperature * dataset.plane_kl_tilted
    seen = dataset.simulated_race_se > 0
    deviation = abs(dataset.simulated_race - dataset.simulated_race_exact).where(seen, 0.0)
    common = dataset.simulated_race_exact > 0.01
    return [
        bound(
            NAME, "race: TV ≤ (1 - μ/w_max)^n", dataset.race_tv, dataset.tv_upper, source=DERIVED
        ),
        bound(
            NAME,
            "rejection: TV ≤ (1 - μ/w_max)^n",
            (dataset.rejection_tv - t.rounding).clip(0),
            dataset.tv_upper,
            source=DERIVED,
        ),
        bound(
            NAME,
            "race: TV ≥ P*(best) (1 - μ/w_max)^n",
            dataset.best * dataset.tv_upper,
            dataset.race_tv + t.rounding**2,
            source=DERIVED,
        ),
        bound(
            NAME,
            "rejection: TV ≥ P*(best) (1 - μ/w_max)^n",
            dataset.best * dataset.tv_upper,
            dataset.rejection_tv + t.rounding,
            source=DERIVED,
        ),
        at_most(
            NAME,
            "every rule has a law: its probabilities sum to 1",
            abs(dataset.plane_total - 1),
            t.rounding,
            "largest difference",
            source=CHECK,
        ),
        at_most(
            NAME,
            "race is nearer to the tilted law than soft best-of-n at the largest n",
            (dataset.race_tv / dataset.soft_tv).isel(n=-1),
            1.0,
            "largest ratio of total variations",
            source=DERIVED,
        ),
        at_most(
            NAME,
            f"n = {plane_n}: E[r] - λ KL(·‖P) of every rule is below that of the tilted law "
            "by λ KL(·‖P*)",
            abs(lead + loss) / np.maximum(dataset.plane_temperature, 1.0),
            t.rounding,
            "largest difference",
            source=VARIATIONAL,
        ),
        at_most(
            NAME,
            "simulation of the race agrees with the closed form",
            (deviation / dataset.simulated_race_se.where(seen, 1.0)).where(common, 0.0),
            t.standard_errors,
            "standard errors at worst, outcomes above 1%:",
            source=CHECK,
        ),
    ]
