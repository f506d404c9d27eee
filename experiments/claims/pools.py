"""Claims on pools with a gold reward: over-optimization, and the recommended point."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import BEIRAMI, CHECK, OVEROPTIMIZATION, TOLERANCES, Claim, at_most

NAME = "pools"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """What holds for any pools, and what those of the factory show."""
    base = dataset.gold_mean.sel(n=1)
    kl = dataset.kl_mean.where((dataset.n > 1) & (dataset.n <= dataset.n.max() / 2), drop=True)
    recommended = (dataset.gold_mean * dataset.chosen).sum(("temperature", "n"))
    within = dataset.kl_mean <= dataset.attrs["budget"]
    best = dataset.gold_mean.where(within).max(("temperature", "n"))
    rows = [
        at_most(
            NAME,
            "n = 1: the mean gold reward, at every λ",
            abs(base - dataset.pool_mean) / abs(dataset.gold_mean).max(),
            TOLERANCES.rounding,
            "largest difference, relative",
            source=CHECK,
        ),
        at_most(
            NAME,
            "mean proxy reward never falls as n grows",
            -dataset.proxy_reward_mean.diff("n") / dataset.spread,
            TOLERANCES.rounding,
            "largest fall, in spreads of the proxy",
            source=CHECK,
        ),
        at_most(
            NAME,
            "mean KL(P_n‖P) ≤ log n - (n-1)/n, for n up to N/2",
            kl / (np.log(kl.n) - (kl.n - 1) / kl.n),
            1 + TOLERANCES.jackknife,
            "largest ratio",
            source=BEIRAMI,
        ),
        at_most(
            NAME,
            "no point within the KL budget has more mean gold than the recommended one",
            (best - recommended) / (abs(recommended) + abs(base).max()),
            1e-6,
            "largest lead, relative",
            source=CHECK,
        ),
    ]
    if dataset.sizes["proxy"] > 1:
        few, many = dataset.isel(proxy=0), dataset.isel(proxy=-1)
        rows += [
            at_most(
                NAME,
                f"hard best-of-n on the proxy of {few.proxy.item()} turns down in gold",
                few.p_value,
                0.05,
                f"gold falls by {float(few.gold_drop):.3g} ± {float(few.gold_drop_se):.2g}, p",
                source=OVEROPTIMIZATION,
            ),
            at_most(
                NAME,
                f"more pairs over-optimize less: the drop of {many.proxy.item()}",
                many.gold_drop - few.gold_drop,
                -1.645 * float(np.hypot(few.gold_drop_se, many.gold_drop_se)),
                "difference of the drops",
                source=OVEROPTIMIZATION,
            ),
        ]
    return rows
