"""Claims on estimates from pools against the truth."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import DERIVED, TOLERANCES, Claim, at_most

NAME = "estimator_bias"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The U-statistic is unbiased and its intervals cover the truth; the others are biased."""
    sigmas = dataset.bias / dataset.bias_se.where(dataset.bias_se > 0, np.inf)
    own = sigmas.sel(estimator="U-statistic")
    others = sigmas.sel(estimator=["plug-in", "bootstrap"]).sel(n=dataset.attrs["size"])
    large = abs(dataset.large_bias) / dataset.large_bias_se
    pools, size = dataset.attrs["large_pools"], dataset.attrs["large_size"]
    sizes = ", ".join(str(n) for n in dataset.large_n.values)
    coverage = dataset.coverage.sel(estimator="U-statistic")
    noise = np.sqrt(0.95 * 0.05 / dataset.attrs["studies"])
    # Student's t with 49 degrees of freedom instead of the normal, and a skewed mean, cost about 1%.
    return [
        at_most(
            NAME,
            "the U-statistic is unbiased, also at n = N",
            abs(own),
            TOLERANCES.standard_errors,
            "largest error in standard errors",
            source=DERIVED,
        ),
        at_most(
            NAME,
            f"the mean U-statistic of {pools:,} pools of {size} is the truth, at n = {sizes}",
            large,
            TOLERANCES.pool_errors,
            "largest error in standard errors",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "plug-in and bootstrap are biased low at n = N",
            others,
            -TOLERANCES.standard_errors,
            "smallest bias in standard errors",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "95% intervals of the U-statistic hold the truth",
            0.95 - coverage,
            0.01 + 4 * noise,
            "largest lack of coverage",
            source=DERIVED,
        ),
    ]
