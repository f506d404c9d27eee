"""Claims on the divergence from the tilted law."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import (
    CHECK,
    DERIVED,
    PAPER_RATE,
    TOLERANCES,
    Claim,
    at_most,
    bound,
    power_laws,
    simulation,
)
from softbon_jax.rates import fit_rate

NAME = "kl_rate"

BOUNDS = {
    "kl_upper": ("log(1 + CV²/n)", PAPER_RATE),
    "kl_upper_sinh": ("sinh²(Δ/2λ)/n", PAPER_RATE),
    "kl_upper_quadratic": ("the O(1/n²) bound", DERIVED),
}


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The bounds, the rates of a fixed problem, and simulation."""
    exact, size = dataset.kl_tilted_soft, dataset.sizes["n"]
    n, starts = dataset.n.values, dataset.largest_weight.values.reshape(-1)
    rows = [
        bound(NAME, f"KL(P*‖P_n) ≤ {formula}", exact, dataset[field], source=source)
        for field, (formula, source) in BOUNDS.items()
    ]
    for field, name, coefficient, exponent in (
        ("kl_tilted_soft", "KL(P*‖P_n)", "kl_coefficient", -2),
        ("kl_soft_tilted", "KL(P_n‖P*)", "kl_coefficient", -2),
        ("tv", "TV(P_n, P*)", "tv_coefficient", -1),
    ):
        rows += power_laws(
            NAME,
            name,
            dataset[coefficient].attrs["long_name"],
            n,
            dataset[field].values.reshape(-1, size),
            dataset[coefficient].values.reshape(-1),
            starts,
            exponent,
            source=DERIVED,
        )
    rows.append(_through_the_last(n, exact.values.reshape(-1, size)))
    return rows + [simulation(NAME, dataset, field) for field in ("kl_tilted_soft", "tv")]


def _through_the_last(n: np.ndarray, curves: np.ndarray) -> Claim:
    """Constant and exponent fitted together give back the value that they were extrapolated from."""
    missed = []
    for curve in curves:
        if not np.isfinite(curve).all():
            missed.append(np.nan)
            continue
        fit = fit_rate(n, curve)
        if fit.ok:
            missed.append(abs(fit.constant * n[-1] ** fit.exponent / curve[-1] - 1))
    return at_most(
        NAME,
        "constant · n^exponent, both fitted to KL(P*‖P_n), is its value at the largest n",
        missed,
        TOLERANCES.constant,
        "largest difference, relative",
        source=CHECK,
    )
