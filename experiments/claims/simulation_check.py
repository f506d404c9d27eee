"""Claims on the two simulators."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import CHECK, TOLERANCES, Claim, agreement, at_most

NAME = "simulation_check"

FIELDS = ("reward", "kl_soft_base", "kl_tilted_soft", "tv")


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Each simulator against the exact law, what it cannot detect, and one against the other."""
    rows = []
    dims = ("problem", "temperature", "n")
    for method in dataset.simulator.values:
        simulated = dataset.sel(simulator=method).transpose(*dims, ...)
        for field in FIELDS:
            exact = simulated[field]
            labels = (f"simulated_{field}", f"simulated_{field}_se", f"simulated_{field}_floor")
            estimate, error, floor = (simulated[label] for label in labels)
            complete = simulated.simulated_rarest >= TOLERANCES.appearances
            if method == "literal" and field == "tv":  # needs both selections and others
                rarer = np.minimum(exact, 1 - exact)
                complete = rarer * dataset.attrs["trials"] >= TOLERANCES.appearances
            elif method == "literal" and field != "kl_tilted_soft":
                complete = xr.ones_like(complete)  # rare outcomes have little weight
            rows.append(
                agreement(
                    NAME,
                    f"{method}: {exact.attrs['long_name']} agrees with its exact value",
                    estimate.values,
                    error.values,
                    exact.values,
                    complete.values,
                    np.where(floor > 0, floor, -np.inf),
                    source=CHECK,
                )
            )
        rows.append(
            at_most(
                NAME,
                f"{method}: every probability agrees with the exact law",
                simulated.simulated_law_deviation,
                TOLERANCES.standard_errors,
                "standard errors at worst",
                source=CHECK,
            )
        )
    for stream in dataset.stream.values:
        rows.append(
            at_most(
                NAME,
                f"{stream}: streams in two batches have the exact law",
                dataset.stream_deviation.sel(stream=stream),
                TOLERANCES.standard_errors,
                "largest error of a probability in standard errors",
                source=CHECK,
            )
        )
    # The law at λ = inf is P: a simulation may report 0 or nothing, but no other number.
    nothing = dataset.sel(temperature=np.inf)
    said = [np.nan_to_num(nothing[f"simulated_{x}"].values) for x in ("kl_soft_base", "tv")]
    counts, literal = (dataset.simulated_law_se.sel(simulator=x) for x in ("counts", "literal"))
    return [
        *rows,
        at_most(
            NAME,
            "a divergence that is 0 is reported as 0 or as below the noise",
            [np.mean(np.abs(x) > TOLERANCES.rounding) for x in said],
            TOLERANCES.false_alarms,
            "share of numbers reported",
            source=CHECK,
        ),
        at_most(
            NAME,
            "simulation on counts is not noisier than literal simulation, at any n and λ > 0",
            (counts / literal).where(dataset.temperature > 0, drop=True),
            1 + TOLERANCES.noise,
            "largest ratio of standard errors of the law",
            source=CHECK,
        ),
    ]
