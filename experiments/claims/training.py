"""Claims on policies that are trained from groups of scored responses."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import MEASURED, TOLERANCES, Claim, at_most, bound

NAME = "training"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Groups are enough, and what serves is what should be trained on."""
    last = dataset.isel(step=-1)
    late = dataset.gap.where(dataset.step >= dataset.step[-1] / 4, drop=True).mean("step")
    trained, students = (
        last.gap.sel(learner=list(x)) for x in (("mean", "soft", "hard"), ("weights", "selected"))
    )
    what = "largest share of the way that is left"
    return [
        at_most(
            NAME,
            "credits from groups lead a policy to the optimum of exact gradients: mean, soft and hard",
            np.abs(trained),
            TOLERANCES.training,
            what,
            source=MEASURED,
        ),
        at_most(
            NAME,
            "students of the soft rule end at its law P_n",
            np.abs(students),
            TOLERANCES.training,
            what,
            source=MEASURED,
        ),
        bound(
            NAME,
            "served through soft best-of-n, what is trained on it nets most",
            last.net.sel(learner=["mean", "hard"]),
            last.net.sel(learner="soft"),
            source=MEASURED,
        ),
        bound(
            NAME,
            "at one price of KL, training on soft best-of-n moves the policy less than on the mean",
            last.kl.sel(learner="soft"),
            last.kl.sel(learner="mean"),
            source=MEASURED,
        ),
        bound(
            NAME,
            "a student that weighs all responses is nearer, on average over training, than one of those "
            "selected",
            late.sel(learner="weights"),
            late.sel(learner="selected"),
            source=MEASURED,
        ),
    ]
