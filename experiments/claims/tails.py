"""Claims on proxies whose error has a light, an exponential or a heavy tail."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import DERIVED, MEASURED, TOLERANCES, Claim, at_most, bound
from experiments.tails import LOGISTIC

NAME = "tails"
GOODHART = "arXiv:2407.14503"
"""Kwa, Thomas and Garriga-Alonso, on proxies whose errors have heavy tails."""


def claims(dataset: xr.Dataset) -> list[Claim]:
    """What a tail earns and gives back, and where a temperature bounds the KL."""
    t = TOLERANCES
    normal, logistic, student = (
        dataset.sel(error=name) for name in ("normal", "logistic", "student")
    )
    regression = np.concatenate(
        [
            (normal.gold - normal.reward / 2).values.ravel(),
            (normal.hard_gold - normal.hard_reward / 2).values,
        ]
    )
    exists = np.isfinite(dataset.kl_tilted_base.isel(n=0))
    light = (dataset.error == "normal") | (
        (dataset.error == "logistic") & (dataset.temperature > LOGISTIC)
    )
    shown = np.isfinite(dataset.kl_soft_base.isel(n=1))
    rises = [  # of KL(P_n‖P) over that of log n, at the largest n that is there
        np.diff(curve[np.isfinite(curve)])[-1] / np.log(2)
        for curve in dataset.kl_soft_base.values[(shown & ~light).values]
    ]
    soft = student.gold.values[np.isfinite(student.gold.values[:, 1])]
    left = [curve[np.isfinite(curve)][-1] / np.nanmax(curve) for curve in soft]
    exponent = np.log2(student.hard_reward.values[-1] / student.hard_reward.values[-2])
    limit = 1 / LOGISTIC
    spent = dataset[["kl_soft_base", "kl_tilted_base"]].where(light)
    spent = spent.stack(at=("error", "temperature", "n")).dropna("at")
    return [
        at_most(NAME, "normal error: the true reward is half the proxy's, soft or hard, at every n",
                np.abs(regression), t.rounding, "largest difference", source=DERIVED),
        at_most(NAME, "logistic error of scale s: hard best-of-n earns less than 1/s at every n",
                logistic.hard_gold, limit, "largest true reward", source=DERIVED),
        at_most(NAME, "logistic error: and it comes within a thousandth of 1/s",
                1 - logistic.hard_gold.max() / limit, 1e-3, "relative distance", source=DERIVED),
        at_most(NAME, "heavy error: hard best-of-n gives back what it earned",
                student.hard_gold[-1] / student.hard_gold.max(), t.vanished,
                "share of the peak at the largest n", source=GOODHART),
        at_most(NAME, "heavy error: while its proxy reward grows as n^(1/3)",
                np.abs(exponent - 1 / 3), t.exponent, "distance of the exponent",
                source="extreme value theory"),
        at_most(NAME, "heavy error: soft best-of-n turns down as well",
                left, 0.99, "share of the peak at the largest n", source=MEASURED),
        at_most(NAME, "P* is there for normal errors, for logistic ones if λ > s, for heavy ones never",
                (exists != light).values[shown.values], 0.0, "wrong answers", source=DERIVED),
        bound(NAME, "where P* is there, KL(P_n‖P) ≤ KL(P*‖P), however many the draws",
              spent.kl_soft_base, spent.kl_tilted_base, source=DERIVED),
        at_most(NAME, "where it is not, KL(P_n‖P) rises with log n without end",
                -np.array(rises), -0.5, "least rise a nat of log n, negative,", source=MEASURED),
    ]  # fmt: skip
