"""Claims on divergences of every order and on the tail of a gold reward."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import (
    CHECK,
    DERIVED,
    MEASURED,
    TOLERANCES,
    Claim,
    at_most,
    bound,
    power_laws,
)

NAME = "orders"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """The rates of finite orders and of α = inf, and which turns down first, the mean or the tail."""
    starts = dataset.largest_weight.values.reshape(-1)
    divergence = dataset.renyi.transpose("order", "problem", "temperature", "n")
    finite = dataset.order.values[np.isfinite(dataset.order.values)]
    coefficients = dataset.kl_coefficient.values.reshape(-1)
    numbers = dataset.n.values
    rows = power_laws(
        NAME,
        "D_α(P_n‖P*), every finite α,",
        "α Var_{P*}(W)/2",
        numbers,
        divergence.sel(order=finite).values.reshape(-1, numbers.size),
        np.concatenate([order * coefficients for order in finite]),
        np.tile(starts, finite.size),
        -2.0,
        source=DERIVED,
    )
    rows += power_laws(
        NAME,
        "D_∞(P_n‖P*)",
        "1 + CV² - min W",
        numbers,
        divergence.sel(order=np.inf).values.reshape(-1, numbers.size),
        dataset.largest_coefficient.values.reshape(-1),
        starts,
        -1.0,
        source=DERIVED,
    )
    rise = np.diff(divergence.values, axis=0) / divergence.values[1:]
    log_n = np.log(dataset.n)
    largest = dataset.largest_ratio
    later = dataset.isel(n=slice(1, None))
    peaks = {
        name: dataset.tail_n.values[dataset[name].transpose(..., "tail_n").argmax("tail_n").values]
        for name in ("gold", "gold_cvar")
    }
    return [
        *rows,
        at_most(NAME, "D_1 is KL(P_n‖P*)", later.renyi.sel(order=1.0) / later.kl_soft_tilted - 1,
                TOLERANCES.rounding, "relative difference", source=CHECK),
        at_most(NAME, "D_2 is log(1 + χ²(P_n‖P*))",
                np.abs(later.renyi.sel(order=2.0) / np.log1p(later.chi2) - 1),
                TOLERANCES.rounding, "relative difference", source=CHECK),
        at_most(NAME, "D_α(P_n‖P*) rises with α", -rise[..., 1:], TOLERANCES.rounding,
                "largest relative fall", source="definition"),
        bound(NAME, "D_∞(P_n‖P) ≤ log n: what n draws can reveal", largest, log_n, source=DERIVED),
        at_most(NAME, "and it comes within a tenth of log n",
                1 - (largest.isel(n=slice(1, None)) / log_n[1:]).max(), 0.1,
                "least relative distance", source=MEASURED),
        at_most(NAME, "the proxy reward of the worst share rises with n",
                -dataset.proxy_cvar.diff("tail_n"), TOLERANCES.rounding,
                "largest fall", source=DERIVED),
        bound(NAME, "a failure is selected with at most n times its probability",
              dataset.failures, dataset.tail_n * dataset.failures.isel(tail_n=0), source=DERIVED),
        at_most(NAME, "the worst tenth of the gold reward turns down before its mean does",
                peaks["gold_cvar"] / peaks["gold"], 0.5,
                "largest ratio of the n at which they peak", source=MEASURED),
    ]  # fmt: skip
