"""Claims on where the bounds are attained, and on random and searched problems."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr

from experiments.claims import (
    BEIRAMI,
    CHECK,
    DERIVED,
    MEASURED,
    OPEN,
    TOLERANCES,
    Claim,
    at_most,
    bound,
)
from experiments.extremes import FIELDS, UPPERS
from experiments.families import FAMILIES

NAME = "extremes"

NU = "\N{GREEK SMALL LETTER NU}"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Suprema of exact value over bound, and what no problem breaks."""
    return [*_attained(dataset), *_random(dataset), *_two_outcomes(dataset)]


def _attained(dataset: xr.Dataset) -> list[Claim]:
    rows = []
    for name, family in FAMILIES.items():
        ratio = dataset.ratio.sel(bound=name).values
        last = float(ratio[-1])
        low, high = family.factor * (1 - family.within), family.factor * (1 + TOLERANCES.rounding)
        rows.append(
            Claim(
                NAME,
                f"{name}: attained"
                + (f" but for {family.factor:.4g}" if family.factor < 1 else ""),
                DERIVED,
                f"exact/bound {last:.6g} at the end, {family.where}",
                f"{family.factor:.6g}, to {family.within:g} below",
                bool(low <= last <= high and ratio.max() <= high),
                last,
            )
        )
    return rows


def _random(dataset: xr.Dataset) -> list[Claim]:
    t = TOLERANCES
    fields = dataset[list(FIELDS)].transpose(..., "real_n")
    steps = {}
    for name, x in fields.items():
        # A divergence is compared with itself, a reward with the range 1.
        unit = 1.0 if name == "reward" else abs(x.values[..., 1:]) + t.rounding**2
        steps[name] = np.diff(x.values) / unit
    ratios = [dataset.kl_tilted_soft / dataset[x] for x in UPPERS]
    rises = [-steps[x] for x in ("reward", "kl_soft_base")]
    falls = [steps[x] for x in ("kl_tilted_soft", "kl_soft_tilted", "tv")]
    what = "largest step the other way, relative,"
    return [
        at_most(
            NAME,
            "mean reward and KL(P_n‖P) never fall as real n grows",
            rises,
            t.rounding,
            what,
            source=DERIVED,
        ),
        at_most(
            NAME,
            "KL(P*‖P_n), KL(P_n‖P*) and TV never rise as real n grows",
            falls,
            t.rounding,
            what,
            source=DERIVED,
        ),
        replace(
            at_most(
                NAME,
                "KL(P*‖P_n) is at most each of its four bounds on random problems",
                ratios,
                1 + t.rounding,
                "largest ratio exact/bound",
                source=DERIVED,
            ),
            allowed="≤ 1",
        ),
        bound(
            NAME,
            "KL(P_n‖P) ≤ log(n/(1 + (n-1) e^{-Δ/λ})) on random problems",
            dataset.kl_soft_base,
            dataset.kl_base_upper,
            source=DERIVED,
        ),
        bound(
            NAME,
            "KL(P_n‖P) ≤ KL(P*‖P)",
            dataset.kl_soft_base,
            dataset.kl_tilted_base,
            source=DERIVED,
        ),
        bound(
            NAME,
            "KL(P*‖P) ≤ (Δ/λ)²/8",
            dataset.kl_tilted_base,
            dataset.temperature**-2 / 8,
            source=DERIVED,
        ),
        bound(
            NAME,
            "hard best-of-n, real n: KL ≤ the mean of Beirami's estimator (Conjecture 4.4)",
            dataset.hard_kl,
            dataset.hard_estimate,
            source=f"conjectured in {BEIRAMI}; proof: derived here",
        ),
        bound(
            NAME,
            "two symbols selected together are farther from their target than each by itself",
            dataset.kl_apart,
            dataset.kl_together,
            source=f"n → ∞: {DERIVED}; at every n: {MEASURED}",
        ),
        at_most(
            NAME,
            "three draws, ties among them: the law is the mean over all 4³ of them",
            abs(dataset.tied_law - dataset.tied_mean),
            t.rounding,
            "largest difference of a probability",
            source=CHECK,
        ),
        at_most(
            NAME,
            f"soft best-of-Poisson is the mixture of soft best-of-N over N = 1 + Poisson({NU})",
            abs(dataset.poisson_law - dataset.poisson_mixture),
            t.rounding,
            "largest difference of a probability",
            source=CHECK,
        ),
    ]


def _two_outcomes(dataset: xr.Dataset) -> list[Claim]:
    largest = dataset.searched.isel(generation=-1)
    found = ", ".join(f"{float(x):.4f} ({x['class'].item()})" for x in largest)
    return [
        bound(
            NAME,
            "integer n: KL(P*‖P_n) ≤ E[A log A], A the mean of W over the draws",
            dataset.two_kl,
            dataset.two_entropy,
            source=DERIVED,
        ),
        bound(
            NAME,
            "E[A log A] is at most log(1 + CV²/n)",
            dataset.two_entropy,
            dataset.two_bound,
            source=DERIVED,
        ),
        bound(
            NAME,
            "two outcomes: E[A log A] ≤ sinh²(Δ/2λ)/2n",
            dataset.two_entropy,
            dataset.two_half,
            source=OPEN,
        ),
        at_most(
            NAME,
            "searched for problems against KL(P*‖P_n) ≤ sinh²(Δ/2λ)/2n",
            largest,
            0.5 * (1 + TOLERANCES.rounding),
            f"largest KL(P*‖P_n)/(sinh²(Δ/2λ)/n): {found};",
            source=OPEN,
        ),
    ]
