"""Claims on the gap of best-of-n and best-of-Poisson to the tilted law."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import HEDGING, TOLERANCES, VARIATIONAL, Claim, at_most, bound

NAME = "poisson"

NU = "\N{GREEK SMALL LETTER NU}"

# The largest gap (nats), its last digit, and where it is: arXiv:2506.19248.
PUBLISHED = {
    "best-of-Poisson": (6.75e-4, 5e-7, NU, 3.39),
    "best-of-n": (0.0237, 5e-5, "n", 2.69),
}
FLAT = 0.05
"""A gap is within its last digit of its maximum over a range as wide as this."""


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The tilted law is cheapest; the largest gap of each rule, and where it is."""
    rows = [
        bound(
            NAME,
            "no rule is cheaper than the tilted law",
            dataset.least_kl,
            dataset.kl,
            source=VARIATIONAL,
        )
    ]
    for rule, (largest, digits, letter, place) in PUBLISHED.items():
        gap = dataset.gap.sel(rule=rule)
        at = float(gap.n[int(np.argmax(gap.values))]) - (letter == NU)
        rows += [
            at_most(
                NAME,
                f"{rule}: the largest gap to the tilt is {largest:g} nats",
                [abs(float(gap.max()) - largest)],
                digits,
                f"largest gap {float(gap.max()):.4g}, difference",
                source=HEDGING,
            ),
            at_most(
                NAME,
                f"{rule}: it is near {letter} = {place}",
                [abs(at - place)],
                FLAT,
                f"at {letter} = {at:.3f}, difference",
                source=HEDGING,
            ),
        ]
    ratio = dataset.gap.sel(rule="best-of-Poisson") / dataset.gap.sel(rule="best-of-n")
    # Where the gaps themselves are below rounding there is nothing to compare.
    known = dataset.gap.sel(rule="best-of-n") > np.sqrt(TOLERANCES.rounding)
    return [
        *rows,
        at_most(
            NAME,
            "at equal mean number of candidates best-of-Poisson is nearer to the tilt",
            ratio.where(known, 0.0),
            1.0,
            "largest ratio of the gaps",
            source=HEDGING,
        ),
    ]
