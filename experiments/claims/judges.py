"""Claims on what a noisy judge selects."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import DERIVED, MEASURED, TOLERANCES, Claim, at_most

NAME = "judges"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Gumbel noise makes hard selection soft; noise costs, draws pay, and what serves better."""
    t = TOLERANCES
    gold = dataset.gold.transpose("noise", "n")
    noise, draws = dataset.noise.values, dataset.n.values
    spent = dataset.gold_of_calls.transpose("noise", "scores")
    best = dataset.scores.values[spent.values.argmax(-1)]
    several = spent.max("scores") - spent.isel(scores=0)
    # As many draws as a judge with half the noise or less needs none of.
    most = gold.isel(n=-1).values
    better = np.array([gold.values[noise <= x / 2, :] for x in noise], dtype=object)
    saved = [
        draws[np.argmax(row[-1] >= most[i])]
        for i, row in enumerate(better)
        if len(row) and noise[i] >= 1 and (row[-1] >= most[i]).any()
    ]
    return [
        at_most(NAME, "Gumbel(λ) noise and the best score: the law of soft best-of-n at λ",
                dataset.gumbel_difference, t.rounding, "largest difference, nats",
                source="the Gumbel-max trick"),
        at_most(NAME, "normal truth and noise: true reward = regression on the score, any n and λ",
                np.abs(dataset.regressed / dataset.regressed_gold.max()), t.rounding,
                "difference, relative to the largest", source=DERIVED),
        at_most(NAME, "more noise never selects a higher true reward",
                gold.diff("noise"), t.rounding, "largest rise", source=DERIVED),
        at_most(NAME, "more draws never select a lower true reward, however noisy the judge",
                -gold.diff("n"), t.rounding, "largest fall", source=DERIVED),
        at_most(NAME, "noise ≥ the spread of the truth: several scores a draw beat more draws",
                -several.where(dataset.noise >= 1, drop=True), -0.01,
                "least gain, negative,", source=MEASURED),
        at_most(NAME, "noise ≤ a quarter of it: more draws beat a second score",
                best[noise <= 0.25], 1.0, "best number of scores a draw", source=MEASURED),
        at_most(NAME, f"noise ≥ the spread: half of it, and few draws earn what {draws[-1]:,} did",
                saved, draws[-1] / 4, "largest number of draws", source=MEASURED),
    ]  # fmt: skip
