"""Claims on sequences with memory: what values are worth, and what their errors cost."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import (
    DERIVED,
    MEASURED,
    TOLERANCES,
    Claim,
    at_most,
    bound,
    power_laws,
)

NAME = "memory"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Whole sequences need an exponential n; steps need soft values; errors of these set a floor."""
    exact, n = dataset.kl_tilted_soft, dataset.n.values.astype(float)
    whole, blocks, steps, valued = (exact.sel(scheme=x) for x in dataset.scheme.values)
    needed = dataset.kl_tilted_base.isel(scheme=0, n=0)
    last = exact.isel(n=-1)
    longest = dataset.isel(length=-1)
    missing = (1 - dataset.rate).clip(min=0) - dataset.kl_whole / needed
    left = last.sel(scheme=dataset.scheme.values[2]).values
    rises = np.diff(np.stack([left, dataset.coefficient.values]))[:, -2:]
    growth = np.log2(rises[:, 1] / rises[:, 0])  # from one doubling of m to the next
    sizes = np.log(dataset.error.values)
    of_error = np.diff(np.log(dataset.floor.transpose(..., "error").values)) / np.diff(sizes)
    return [
        *power_laws(
            NAME,
            "steps with soft values: KL(P*‖P_n)",
            "Σ E Var(W_t)/2",
            n,
            valued.values,
            dataset.coefficient.values,
            dataset.largest_weight.values,
            -2,
            source=DERIVED,
        ),
        bound(
            NAME,
            "whole sequences: KL(P*‖P_n) ≥ KL(P*‖P) - log n",
            needed - np.log(dataset.n),
            whole,
            source=DERIVED,
        ),
        at_most(
            NAME,
            "whole sequences of log n = R KL(P*‖P): KL(P*‖P_n)/KL(P*‖P) is (1 - R)+, away from R = 1",
            abs(missing.isel(length=-1).where(abs(dataset.rate - 1) > 0.3, drop=True)),
            TOLERANCES.limit,
            f"largest difference at m = {int(longest.length)}",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "steps without values tend to another law: KL(P*‖P_n) no longer falls at the largest n",
            abs(steps.isel(n=-1) / steps.isel(n=-3) - 1),
            TOLERANCES.constant,
            "largest relative change over the last factor of 16",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "steps: what is left without values, and n² KL with soft values, rise in proportion to m",
            np.abs(growth - 1),
            TOLERANCES.growth,
            "largest deviation of the exponent from 1",
            source=DERIVED,
        ),
        bound(
            NAME,
            "with as many states drawn, steps with soft values are nearer than all other schemes, n > 1",
            valued.isel(n=slice(1, None)),
            np.minimum(np.minimum(whole, blocks), steps).isel(n=slice(1, None)),
            source=MEASURED,
        ),
        at_most(
            NAME,
            "values with an error: the floor of KL(P*‖P_n) has the exponent 2 in small errors",
            np.abs(of_error[:, 0] - 2),
            TOLERANCES.growth,
            "largest deviation of the exponent between the two smallest",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "values with an error: floor/error² → Σ E Var(error)/2λ² for unit errors",
            abs(dataset.floor / dataset.error**2 / dataset.floor_coefficient - 1).isel(error=0),
            2 * TOLERANCES.constant,
            "relative difference at the smallest error",
            source=DERIVED,
        ),
    ]
