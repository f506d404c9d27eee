"""Claims on the reward of fixed, random and stopped numbers of draws."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import DERIVED, MEASURED, TOLERANCES, Claim, at_most, bound

NAME = "stopping"
WEITZMAN = "Weitzman, Econometrica 47 (1979)"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Fixed beats random, and a threshold beats both; what the best threshold nets is known."""
    fixed, poisson, geometric = (
        dataset.reward.sel(rule=rule) for rule in ("fixed", "poisson", "geometric")
    )
    hard, soft = dataset.sel(temperature=0.0), dataset.where(dataset.temperature > 0, drop=True)
    as_fixed = 1 / (1 - hard.stopped_reward) - 1  # n with the reward n/(n+1)
    best_fixed = (fixed - dataset.price * dataset.n).max("n")
    random = (dataset.reward - dataset.price * dataset.n).max(["n", "rule"])
    slopes = np.diff(fixed.transpose("temperature", "n").values) / np.diff(dataset.n.values)
    return [
        bound(
            NAME,
            "1 + Poisson candidates earn no more than a fixed number of that mean",
            poisson,
            fixed,
            source=DERIVED,
        ),
        bound(
            NAME,
            "a geometric number earns no more than 1 + Poisson of that mean",
            geometric,
            poisson,
            source=DERIVED,
        ),
        at_most(
            NAME,
            "mean reward is concave in real n",
            np.diff(slopes) / slopes[:, :1],
            TOLERANCES.rounding,
            "largest rise of its slope, in slopes at n = 1",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "λ = 0: the best threshold z solves E(r - z)+ = price",
            np.abs(dataset.excess / dataset.price - 1),
            TOLERANCES.rounding,
            "relative difference",
            source=WEITZMAN,
        ),
        at_most(
            NAME,
            "λ = 0: what the best threshold earns net of its draws is z itself",
            np.abs(hard.net - hard.reservation),
            TOLERANCES.rounding,
            "difference",
            source=WEITZMAN,
        ),
        at_most(
            NAME,
            "no fixed, random or stopped number nets more than z, at any λ",
            np.maximum(np.maximum(random, dataset.net) - dataset.reservation, -1.0),
            TOLERANCES.rounding,
            "largest lead",
            source=WEITZMAN,
        ),
        at_most(
            NAME,
            "the best threshold nets at least as much as the best fixed n, at every λ and price",
            best_fixed - dataset.net,
            TOLERANCES.rounding,
            "largest lead of the fixed n",
            source=MEASURED,
        ),
        at_most(
            NAME,
            "λ = 0, uniform reward: a threshold earns with E[N] draws what 2 E[N] - 1 fixed ones do",
            np.abs(as_fixed / (2 * hard.mean_n - 1) - 1),
            TOLERANCES.rounding,
            "relative difference in draws",
            source=DERIVED,
        ),
        bound(
            NAME,
            "λ > 0: at a low price the best threshold earns more than the tilted law",
            soft.tilted_reward,
            soft.stopped_reward.max("price"),
            source=MEASURED,
        ),
    ]
