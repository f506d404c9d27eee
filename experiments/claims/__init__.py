"""What the results claim, one module an experiment, with a function `claims(dataset)`.

A claim compares a measured number with an allowed range and says where it comes from. All tolerances are
in `TOLERANCES`. A comparison with NaN fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from softbon_jax.rates import Rate, fit_rate

PAPER = "arXiv:2505.03156"
"""Verdun, Oesterling, Lakkaraju and Calmon. Credited to it is what its abstract states: the sampler, its
target, and that the divergence from the target and the relative reward gap are O(1/n)."""
PAPER_RATE = f"rate: {PAPER}; form: derived here"
PAPER_RATE_OF_PRODUCTS = f"rate: {PAPER}, for the product law; form: derived here"
PAPER_RATE_SOLVED = f"rate: {PAPER}, solved for n; form: derived here"
DERIVED = "derived here"
MEASURED = "measured here"
OPEN = "open; measured here"
CHECK = "check of the computation"
BEIRAMI = "arXiv:2401.01879"
AMINIAN = "arXiv:2507.05913"
HEDGING = "arXiv:2506.19248"
OVEROPTIMIZATION = "arXiv:2210.10760"
VARIATIONAL = "Donsker and Varadhan's variational formula"


@dataclass(frozen=True)
class Tolerances:
    """How far a measured number may be from what is claimed, and why.

    Attributes:
      rounding: for quantities of order 1 in float64, and for ratios that should not exceed 1.
      exponent: for a fitted exponent; the local slope still moves at the last n.
      constant: for a fitted constant against its formula, relative, for the same reason.
      asymptotic: a curve must be a power law once n reaches this multiple of max W, from which the
        expansion in W/n takes over.
      vanished: share of its peak that a curve that tends to 0 may have left at the largest n.
      near: largest shortfall from the frontier at the largest n, in reward ranges.
      near_zero: between soft best-of-n at the smallest temperature and hard best-of-n, for near ties.
      near_infinity: for first-order expansions in 1/λ, relative, times λ/range.
      standard_errors: between a simulation and the exact value.
      pool_errors: standard errors between the mean over very many pools and the exact value. Of six
        comparisons, those at one temperature share their pools; about 1 % of seeds fail by chance, and
        the seed was not chosen.
      appearances: of the rarest outcome, expected in a simulation for it to be compared.
      resolution: for a metric formed from differences of probabilities in float64.
      level: chance that independent normal deviations have a root mean square outside its range.
      false_alarms: share of divergences equal to 0 that noise may lift above its floor.
      noise: for a ratio of two standard errors, each good to about 6 % (127 degrees of freedom).
      noisy_exponent: for an exponent fitted to simulated values.
      noisy_constant: for their constant, relative.
      jackknife: for a KL estimated from pools, relative; a bias of order 1/N² remains.
      limit: between the divergence per symbol of long sequences and its limit, away from its corner.
      approach: between the gain of hard best-of-n and its limit, in reward units times (1 + log m)/m.
      deviations: between log n for whole sequences and m D, in standard deviations of log W under P*.
      growth: for an exponent in the length m, taken from its last two values.
      training: what is left of the way to the optimum after training, of all of it.
      single: of float32 beside float64, relative.
      certified_law: between a probability and its enclosure, relative.
      certified_divergence: the same for a divergence or a gap of any size.
      certified_constant: the same for a closed form.
    """

    rounding: float = 1e-10
    exponent: float = 0.01
    constant: float = 0.01
    asymptotic: float = 1e3
    vanished: float = 0.05
    near: float = 0.05
    near_zero: float = 1e-6
    near_infinity: float = 1.0
    standard_errors: float = 5.0
    pool_errors: float = 3.0
    appearances: float = 30.0
    resolution: float = 1e-14
    level: float = 1e-3
    false_alarms: float = 0.05
    noise: float = 0.2
    noisy_exponent: float = 0.02
    noisy_constant: float = 0.02
    jackknife: float = 0.02
    limit: float = 1e-3
    approach: float = 1.0
    deviations: float = 3.0
    growth: float = 0.05
    training: float = 0.01
    single: float = 1e-4
    certified_law: float = 1e-13
    certified_divergence: float = 1e-11
    certified_constant: float = 1e-14


TOLERANCES = Tolerances()


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
      experiment: whose result it is about.
      claim: what is claimed.
      source: who says so: a paper, "derived here", or a check of the computation.
      measured: what was measured, in words.
      allowed: the range that it must be in.
      passed: whether it is.
      value: the measured number.
    """

    experiment: str
    claim: str
    source: str
    measured: str
    allowed: str
    passed: bool
    value: float


def at_most(
    experiment: str, claim: str, values: Any, limit: float, what: str, *, source: str
) -> Claim:
    """The largest of `values` is at most `limit`."""
    values = np.asarray(values, float)
    largest = float(values.max()) if values.size else np.nan  # NaN if any is
    return Claim(
        experiment,
        claim,
        source,
        f"{what} {largest:.6g} ({values.size:,} points)",
        f"≤ {limit:.6g}",
        bool(largest <= limit),
        largest,
    )


def bound(
    experiment: str, claim: str, exact_of: xr.DataArray, upper_of: xr.DataArray, *, source: str
) -> Claim:
    """`exact_of` ≤ `upper_of` everywhere: the largest ratio is at most 1, up to rounding."""
    exact, upper = (x.values for x in xr.broadcast(exact_of, upper_of))
    # 0 ≤ 0 holds, and a divergence that is 0 may be computed as rounding of numbers of order 1.
    trivial = (exact <= TOLERANCES.rounding**2) & (upper >= 0) & (exact >= 0)
    ratio = np.where(trivial, 0.0, exact / np.where(upper == 0, np.finfo(float).tiny, upper))
    what, limit = "largest ratio exact/bound", 1 + TOLERANCES.rounding
    return replace(at_most(experiment, claim, ratio, limit, what, source=source), allowed="≤ 1")


def power_laws(
    experiment: str,
    name: str,
    formula: str,
    n: np.ndarray,
    curves: np.ndarray,
    coefficients: np.ndarray,
    starts: np.ndarray,
    exponent: float,
    errors: np.ndarray | None = None,
    *,
    source: str,
) -> list[Claim]:
    """Two claims on `curves` `[C, N]`: they fall as n^exponent, and with these coefficients `[C]`.

    `starts` `[C]` is max W. If n reaches `TOLERANCES.asymptotic` times that, the curve must be a power
    law; if not, a fit that is refused does not count. `errors` `[C, N]` are the standard errors of
    simulated curves, whose intervals have confidence 1 - `TOLERANCES.level`.
    """
    fits: list[tuple[Rate, Rate, float]] = []
    refused, failures = 0, []
    noise: list[dict[str, Any]] = [{}] * len(curves)
    if errors is not None:
        noise = [{"standard_error": x, "confidence": 1 - TOLERANCES.level} for x in errors]
    for curve, coefficient, start, options in zip(curves, coefficients, starts, noise, strict=True):
        usable = np.isfinite(curve).all()
        free = fit_rate(n, curve, **options) if usable else None
        if free is not None and free.ok:
            fits.append((free, fit_rate(n, curve, exponent=exponent, **options), coefficient))
        elif not usable or n[-1] >= TOLERANCES.asymptotic * start:
            failures.append("the curve is not finite" if free is None else free.reason)
        else:
            refused += 1
    counts = f"{len(fits)} curves" + (f", {refused} not there yet" if refused else "")
    t = TOLERANCES

    def row(
        claim: str, values: list[tuple[float, float, float]], target: float, limit: float
    ) -> Claim:
        """Every estimate within `limit` of the target, and the target within every interval."""
        estimates, low, high = np.array(values or [(np.nan,) * 3]).T
        worst = int(np.argmax(np.abs(estimates - target)))
        good = np.abs(estimates - target) <= limit
        good &= (low - t.rounding <= target) & (target <= high + t.rounding)
        measured = (
            f"{estimates[worst]:.5f} at worst, intervals in [{low.min():.4f}, {high.max():.4f}] "
            f"({counts})"
        )
        if failures:
            measured += f"; {len(failures)} curves have none: {failures[0]}"
        allowed = f"{target:g} ± {limit:g}"
        return Claim(
            experiment, claim, source, measured, allowed, bool(good.all()) and not failures,
            float(estimates[worst]),
        )  # fmt: skip

    slopes = [(free.exponent, free.exponent_low, free.exponent_high) for free, _, _ in fits]
    constants = [
        (given.constant / c, given.constant_low / c, given.constant_high / c)
        for _, given, c in fits
    ]
    falls, times = {-2: ("n⁻²", "n²"), -1: ("n⁻¹", "n"), -0.5: ("n^-½", "√n")}[exponent]
    of_exponent, of_constant = (
        (t.exponent, t.constant) if errors is None else (t.noisy_exponent, t.noisy_constant)
    )
    return [
        row(f"{name} falls as {falls} for a fixed problem", slopes, exponent, of_exponent),
        row(f"{name} · {times} → {formula}: ratio", constants, 1, of_constant),
    ]


def simulation(experiment: str, dataset: xr.Dataset, field: str) -> Claim:
    """A simulated metric agrees with the exact one, in standard errors, where it can be compared.

    It can where it exceeds its noise floor and every outcome has been drawn often enough: the standard
    error of a simulation that never drew the rarest outcome does not account for it.
    """
    exact = dataset[field].sel(
        temperature=dataset.simulated_temperature.values, n=dataset.simulated_n.values
    )
    labels = (f"simulated_{field}", f"simulated_{field}_se", f"simulated_{field}_floor")
    estimate, error, floor = (dataset[label].values for label in labels)
    complete = dataset.simulated_appearances >= TOLERANCES.appearances
    return agreement(
        experiment,
        f"simulation of {exact.attrs['long_name']} agrees with its exact value",
        estimate,
        error,
        exact.values,
        complete.broadcast_like(dataset[labels[0]]).values,
        floor,
        source=CHECK,
    )


def agreement(
    experiment: str,
    claim: str,
    estimate: np.ndarray,
    error: np.ndarray,
    exact: np.ndarray,
    complete: np.ndarray,
    floor: np.ndarray,
    *,
    source: str,
) -> Claim:
    """Independent estimates, all of one shape, deviate as their standard errors predict.

    No deviation exceeds `TOLERANCES.standard_errors`, and their root mean square is between quantiles
    of χ²/points that leave out `TOLERANCES.level`, which catches standard errors that are too large as
    well as too small. Points that are not `complete`, not above the `floor`, or exact up to rounding do
    not count.
    """
    t = TOLERANCES
    known = error <= t.resolution + t.rounding * np.abs(exact)
    seen = complete & (estimate > floor) & ~known
    deviations = (estimate - exact)[seen] / error[seen]
    points = int(seen.sum())
    worst = float(np.abs(deviations).max()) if points else np.nan
    spread = float(np.sqrt(np.mean(deviations**2))) if points else np.nan
    ends = special.chdtri(points, [1 - t.level / 2, t.level / 2]) if points else np.full(2, np.nan)
    low, high = np.sqrt(ends / max(points, 1))
    return Claim(
        experiment,
        claim,
        source,
        f"{worst:.2f} standard errors at worst, {spread:.2f} rms ({points} points; "
        f"{(complete & ~seen).sum()} below the noise, {(~complete).sum()} with a rare outcome)",
        f"≤ {t.standard_errors:g} at worst, {low:.2f} to {high:.2f} rms",
        bool(worst <= t.standard_errors and low <= spread <= high),
        worst,
    )
