"""Claims on float32."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import MEASURED, TOLERANCES, Claim, at_most

NAME = "single"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Every kind of quantity agrees with float64, and none had to be flagged."""
    kinds = [str(x).split(":")[0] for x in dataset.quantity.values]
    return [
        *(
            at_most(NAME, f"float32 beside float64: {kind}",
                    dataset.error[np.array(kinds) == kind], TOLERANCES.single,
                    "largest error, relative", source=MEASURED)
            for kind in dict.fromkeys(kinds)
        ),
        at_most(NAME, "float32 resolves all of it: no value is flagged as NaN",
                dataset.flagged, 0.0, "largest share", source=MEASURED),
    ]  # fmt: skip
