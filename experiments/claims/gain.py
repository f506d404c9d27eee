"""Claims on the reward per symbol that whole sequences gain where n = e^{mR}."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import CHECK, DERIVED, TOLERANCES, Claim, at_most, bound

NAME = "gain"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The cap, the tilted law of the same divergence, the target, and monotonicity."""
    gain = dataset.gain
    rises = np.diff(gain.transpose(..., "rate").values)
    positive = gain.clip(0.0).where(dataset.rate > 0, drop=True)
    soft = gain.where(dataset.temperature > 0, drop=True).clip(0.0)
    target = dataset.tilted_gain.sel(temperature=soft.temperature)
    hard = gain.sel(temperature=0.0, length=int(dataset.length.max()))
    return [
        bound(
            NAME,
            "gain ≤ Δ√(log n/2m)",
            positive,
            dataset.gain_upper.sel(rate=positive.rate),
            source=DERIVED,
        ),
        bound(
            NAME,
            "gain ≤ that of the tilted law with KL = log n/m",
            positive,
            dataset.frontier.sel(rate=positive.rate),
            source=DERIVED,
        ),
        bound(NAME, "gain ≤ that of the target", soft, target, source=DERIVED),
        at_most(
            NAME,
            "the gain never falls as n grows",
            -rises,
            TOLERANCES.rounding,
            "largest fall from one n to the next",
            source=CHECK,
        ),
        at_most(
            NAME,
            "hard best-of-n approaches the tilted law with KL = log n/m",
            (dataset.frontier - hard)
            * float(dataset.length.max())
            / (1 + np.log(dataset.length.max())),
            TOLERANCES.approach,
            f"largest m/(1 + log m) times the gap at m = {int(dataset.length.max())}",
            source=DERIVED,
        ),
    ]
