"""Claims on the model beyond the pool."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import DERIVED, MEASURED, TOLERANCES, Claim, at_most

NAME = "beyond"
PARETO = ("uniform", "exponential", "Pareto, ξ = 0.25")
TENDING = ("normal", "Student t, 5")
REFUSED = ("Pareto, ξ = 0.6", "rounded normal")
NOMINAL, LEAST, FEW = 0.95, 0.7, 0.05


def claims(dataset: xr.Dataset) -> list[Claim]:
    """How often intervals hold the truth, what bias is left, and what is refused."""
    of = {name: dataset.sel(law=list(laws)) for name, laws in
          (("pareto", PARETO), ("tending", TENDING), ("refused", REFUSED))}  # fmt: skip
    count = of["pareto"].resolved * dataset.attrs["studies"]
    error = np.sqrt(NOMINAL * (1 - NOMINAL) / count)
    known = dataset.sel(law=[*PARETO, *TENDING])
    return [
        at_most(NAME, "generalized-Pareto tails: 95% intervals hold the truth at n = 4N",
                (NOMINAL - of["pareto"].coverage) / error, TOLERANCES.standard_errors,
                "too few, in standard errors,", source=MEASURED),
        at_most(NAME, "tails that only tend to it: intervals hold the truth 7 times in 10 or more",
                -of["tending"].coverage, -LEAST, "least coverage, negative,", source=MEASURED),
        at_most(NAME, "the model's reward at n = 4N is off by less than a tenth, all laws",
                np.abs(known.bias / known.value), 0.1, "largest relative bias", source=MEASURED),
        at_most(NAME, "a tail without variance and rounded scores are refused",
                of["refused"].resolved, FEW, "largest share that is not", source=DERIVED),
    ]  # fmt: skip
