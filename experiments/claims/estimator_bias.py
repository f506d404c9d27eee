"""Claims on estimates from pools against the truth."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import CHECK, DERIVED, TOLERANCES, Claim, at_most

NAME = "estimator_bias"

EFRON = "Efron, JASA 78 (1983)"
ALARMS = 0.03
"""By how much the level of a test by the bootstrap may be exceeded with 60 prompts."""


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
    alarms = 0.05 + ALARMS + 4 * np.sqrt(0.05 * 0.95 / dataset.attrs["tables"])
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
        at_most(
            NAME,
            "the standard error of a mean U-statistic is the spread of pools over √pools",
            abs(dataset.own_se / dataset.bias_se.sel(estimator="U-statistic") - 1),
            TOLERANCES.rounding,
            "largest difference, relative",
            source=CHECK,
        ),
        at_most(
            NAME,
            "KL(P_n‖P) from a pool: the jackknife removes most of the bias of the plug-in",
            abs(dataset.jackknifed_kl) + 2 * dataset.jackknifed_kl_se,
            float(abs(dataset.plug_in_kl)) / 3,
            f"plug-in {float(dataset.plug_in_kl):.2g}; bias left, two standard errors added,",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "the judge left out values without bias what the others select",
            abs(dataset.left_out / dataset.left_out_se),
            TOLERANCES.standard_errors,
            "error in standard errors",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "judges who select and value count their noise as gain",
            -dataset.by_the_same / dataset.by_the_same_se,
            -TOLERANCES.standard_errors,
            "gain in standard errors, times -1,",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "the value of the best of eight equal points is corrected for the choice",
            abs(dataset.advised_value) - 2 * dataset.advised_value_se,
            float(dataset.largest_mean) / 2,
            f"largest mean {float(dataset.largest_mean):.2g}; what is left, less two standard errors,",
            source=EFRON,
        ),
        at_most(
            NAME,
            "equal gold at every n: a point is recommended at the 5% level",
            dataset.false_advice,
            alarms,
            "share of tables with advice",
            source=DERIVED,
        ),
        at_most(
            NAME,
            'equal gold at every n: "turns down" at the 5% level, however many n there are',
            dataset.false_alarms,
            alarms,
            "share of false alarms",
            source=DERIVED,
        ),
    ]
