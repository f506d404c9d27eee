"""Claims on the trained policy."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import PAPER, VARIATIONAL, Claim, at_most

NAME = "distillation"

TRAINED = 1e-6
"""Total variation that Adam leaves after its last step."""

APPROACH = f"limit: {PAPER}; at every doubling: measured here"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """It ends at the tilted law, and soft best-of-n comes closer to it with every doubling of n."""
    steps = np.diff(np.log(dataset.kl_policy_soft.values), axis=-1)
    return [
        at_most(
            NAME,
            "training E[r] - λ KL(·‖P) ends at the tilted law",
            dataset.distance,
            TRAINED,
            "largest total variation",
            source=VARIATIONAL,
        ),
        at_most(
            NAME,
            "soft best-of-n is nearer to the trained policy with every doubling of n",
            steps,
            -1e-3,
            "largest change of log KL",
            source=APPROACH,
        ),
    ]
