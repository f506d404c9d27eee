"""Claims on hard best-of-n on finite alphabets."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import BEIRAMI, CHECK, DERIVED, Claim, at_most, bound

NAME = "hard_limit"

UNIFORM_10_AT_100 = 2.30228
"""KL(best-of-100‖P) on ten equally likely outcomes, nats, to the digits given."""


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Bounds, the check value, and the continuous limit."""
    uniform = [str(x) for x in dataset.problem.values if str(x).startswith("uniform")]
    largest = dataset.sel(problem=max(uniform, key=lambda x: int(x.rsplit("_", 1)[1])))
    size = int(str(largest.problem.values).rsplit("_", 1)[1])
    early = largest.sel(n=(largest.n > 1) & (largest.n <= size / 100))
    return [
        bound(NAME, "KL ≤ log n - (n-1)/n", dataset.kl, dataset.kl_formula, source=BEIRAMI),
        bound(NAME, "win rate ≤ n/(n+1)", dataset.win_rate, dataset.win_formula, source=BEIRAMI),
        bound(NAME, "KL ≤ KL of the best outcome", dataset.kl, dataset.kl_ceiling, source=DERIVED),
        bound(
            NAME,
            "KL ≤ the mean of Beirami's estimator",
            dataset.kl,
            dataset.kl_estimate,
            source=DERIVED,
        ),
        bound(
            NAME,
            "Beirami's estimator ≤ log n - (n-1)/n",
            dataset.kl_estimate,
            dataset.kl_formula,
            source=BEIRAMI,
        ),
        at_most(
            NAME,
            f"ten outcomes, n = 100: KL = {UNIFORM_10_AT_100}",
            abs(dataset.kl.sel(problem="uniform_10", n=100.0) - UNIFORM_10_AT_100),
            5e-6,
            "difference",
            source=CHECK,
        ),
        at_most(
            NAME,
            f"{size:,} outcomes: log n - (n-1)/n holds to 1% while n ≤ K/100",
            np.asarray(1 - early.kl / early.kl_formula),
            0.01,
            "largest relative excess",
            source=BEIRAMI,
        ),
        at_most(
            NAME,
            f"{size:,} outcomes: n/(n+1) holds to 0.01% while n ≤ K/100",
            np.asarray(1 - early.win_rate / early.win_formula),
            1e-4,
            "largest relative excess",
            source=BEIRAMI,
        ),
    ]
