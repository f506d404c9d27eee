"""Claims on the optima of hedging, gold u^12 (1 - u), and on budgets that prompts share."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import CHECK, DERIVED, HEDGING, TOLERANCES, Claim, at_most

NAME = "hedging"

# For a uniform proxy, computed from densities: the optimal n, ν and β = 1/λ.
OPTIMA = {"hard": 12.490, "poisson": 12.400, "tilted": 13.529}
OPTIMA |= {"soft_16": 26.12, "soft_32": 17.67, "soft_64": 15.05, "soft_128": 14.18}
PRICE = 0.02
"""Relative difference of a price from a difference quotient, whose error is of second order."""
DISCRETE = 5e-4
"""Largest relative difference between 1,024 outcomes and a continuous reward; it falls as 1/K²."""


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Each optimum has its known value and is one; the condition on the tilt misses it."""
    allowed = DISCRETE * (1024 / int(dataset.attrs["outcomes"])) ** 2
    curves = [str(x) for x in dataset.curve.values]
    letters = {"hard": "n", "poisson": "\N{GREEK SMALL LETTER NU}"}
    rows = [
        at_most(
            NAME,
            f"{curve.replace('_', ', n = ')}: gold is largest at "
            f"{letters.get(curve, '1/λ')} = {OPTIMA[curve]:g}",
            [abs(float(dataset.best.sel(curve=curve)) / OPTIMA[curve] - 1)],
            allowed,
            f"{float(dataset.best.sel(curve=curve)):.3f}, relative difference",
            source=f"{HEDGING}, the optimum derived here",
        )
        for curve in curves
        if curve in OPTIMA
    ]
    soft = dataset.sel(curve=[x for x in curves if x.startswith("soft")])
    power = int(dataset.attrs["power"])
    return [
        *rows,
        at_most(
            NAME,
            "hard: the optimal n is √(p(p+1))",
            [abs(float(dataset.best.sel(curve="hard")) / np.sqrt(power * (power + 1)) - 1)],
            allowed,
            "relative difference",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "no point of a curve is above its optimum",
            dataset.gold / dataset.best_gold,
            1 + TOLERANCES.rounding,
            "largest ratio",
            source=CHECK,
        ),
        at_most(
            NAME,
            "the condition on the tilt misses the optimum at every finite n",
            soft.gold_by_tilt / soft.best_gold,
            1 - 1e-4,
            "largest share of the best gold reward that it earns",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "no common n and λ of a grid within the budgets earns more than the best",
            dataset.grid_gold - dataset.common_gold,
            TOLERANCES.rounding,
            "largest excess",
            source=CHECK,
        ),
        at_most(
            NAME,
            "n and λ for each prompt earn more than the best in common",
            dataset.common_gold - dataset.each_gold,
            -1e-4,
            "largest excess of that in common",
            source=DERIVED,
        ),
        *(
            at_most(
                NAME,
                f"the price of a {unit} is the gold that a little more of the budget earns",
                _off(dataset[f"price_{budget}"], dataset[f"worth_{budget}"]),
                PRICE,
                "where it binds, largest relative difference from a difference quotient",
                source=DERIVED,
            )
            for budget, unit in (("kl", "nat"), ("draws", "draw"))
        ),
        at_most(
            NAME,
            "the budgets of draws and of KL are kept",
            dataset.budget_used,
            1 + 1e-6,
            "largest share used",
            source=CHECK,
        ),
    ]


def _off(price: xr.DataArray, worth: xr.DataArray) -> np.ndarray:
    """The relative differences where the budget has a price; none is NaN, and fails."""
    binds = price.values > 0
    return np.abs(price.values[binds] / worth.values[binds] - 1)
