"""What the results claim, one module an experiment, with a function `claims(dataset)`.

A claim compares a measured number with an allowed range. Every tolerance stands in `TOLERANCES`. A
comparison with NaN fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from softbon_jax.rates import Rate, fit_rate


@dataclass(frozen=True)
class Tolerances:
    """How far a measured number may be from what is claimed, and why so far.

    Attributes:
      rounding: of quantities of order 1 in float64, and of ratios that should not exceed 1.
      exponent: of a fitted exponent: the local slope still moves at the last n.
      constant: of a fitted constant against its formula, relative; likewise.
      asymptotic: a curve must be a power law where n has reached this multiple of 1 + CV², at which
        the effective sample size is 1.
      near_zero: between soft best-of-n at the smallest temperature and hard best-of-n: near ties.
      near_infinity: of first-order expansions in 1/λ, relative, times λ/range.
      standard_errors: between simulation and exact value.
      appearances: of the rarest outcome, expected in a simulation that is to be compared.
      spread: of the root mean square of those deviations from 1.
      limit: of the divergence per symbol of long sequences from its limit, away from its corner, nats.
      approach: of the gain of hard best-of-n from its limit, in reward units times (1 + log m)/m.
      deviations: of log n for whole sequences from m D, in standard deviations of log W under P*.
      growth: of an exponent of the length m that is read off its last two values.
    """

    rounding: float = 1e-10
    exponent: float = 0.01
    constant: float = 0.01
    asymptotic: float = 1e3
    near_zero: float = 1e-6
    near_infinity: float = 1.0
    standard_errors: float = 5.0
    appearances: float = 30.0
    spread: float = 0.3
    limit: float = 1e-3
    approach: float = 1.0
    deviations: float = 3.0
    growth: float = 0.05


TOLERANCES = Tolerances()


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
      experiment: whose result it is about.
      claim: what is claimed.
      measured: what was measured, in words.
      allowed: the range that it must be in.
      passed: whether it is.
      value: the measured number.
    """

    experiment: str
    claim: str
    measured: str
    allowed: str
    passed: bool
    value: float


def at_most(experiment: str, claim: str, values: Any, limit: float, what: str) -> Claim:
    """The largest of `values` is at most `limit`."""
    values = np.asarray(values, float)
    largest = float(values.max()) if values.size else np.nan  # NaN if any is
    return Claim(
        experiment,
        claim,
        f"{what} {largest:.6g} ({values.size:,} points)",
        f"≤ {limit:.6g}",
        bool(largest <= limit),
        largest,
    )


def bound(experiment: str, claim: str, exact_of: xr.DataArray, upper_of: xr.DataArray) -> Claim:
    """`exact_of` ≤ `upper_of` everywhere: the largest ratio is at most 1, but for rounding."""
    exact, upper = (x.values for x in xr.broadcast(exact_of, upper_of))
    # 0 ≤ 0 holds. A divergence that is 0 may come out as rounding of numbers of order 1.
    trivial = (exact <= TOLERANCES.rounding**2) & (upper >= 0) & (exact >= 0)
    ratio = np.where(trivial, 0.0, exact / np.where(upper == 0, np.finfo(float).tiny, upper))
    result = at_most(experiment, claim, ratio, 1 + TOLERANCES.rounding, "largest ratio exact/bound")
    return Claim(**{**vars(result), "allowed": "≤ 1"})


def power_laws(
    experiment: str,
    name: str,
    formula: str,
    n: np.ndarray,
    curves: np.ndarray,
    coefficients: np.ndarray,
    starts: np.ndarray,
    exponent: int,
) -> list[Claim]:
    """Two claims on `curves` `[C, N]`: they fall as n^exponent, and with these coefficients `[C]`.

    `starts` `[C]` is 1 + CV². Where n reaches `TOLERANCES.asymptotic` times that, a curve must be a
    power law; where it does not, a fit may be refused, and then it does not count.
    """
    fits: list[tuple[Rate, Rate, float]] = []
    refused, failures = 0, []
    for curve, coefficient, start in zip(curves, coefficients, starts, strict=True):
        usable = np.isfinite(curve).all()
        free = fit_rate(n, curve) if usable else None
        if free is not None and free.ok:
            fits.append((free, fit_rate(n, curve, exponent=float(exponent)), coefficient))
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
            experiment, claim, measured, allowed, bool(good.all()) and not failures,
            float(estimates[worst]),
        )  # fmt: skip

    slopes = [(free.exponent, free.exponent_low, free.exponent_high) for free, _, _ in fits]
    constants = [
        (given.constant / c, given.constant_low / c, given.constant_high / c)
        for _, given, c in fits
    ]
    power = f"n^{exponent}".replace("-2", "⁻²").replace("-1", "⁻¹").replace("^", "")
    return [
        row(f"{name} falls as {power} for a fixed problem", slopes, exponent, t.exponent),
        row(
            f"{name} · n{'²' if exponent == -2 else ''} → {formula}: ratio",
            constants,
            1,
            t.constant,
        ),
    ]


def simulation(experiment: str, dataset: xr.Dataset, field: str) -> Claim:
    """A simulated metric agrees with the exact one, in standard errors, where it can be seen.

    That is above its noise floor, and where every outcome has come up: the standard error of a
    simulation that has missed the rarest outcome knows nothing of it.
    """
    t = TOLERANCES
    estimate, error, floor = (dataset[f"simulated_{field}{x}"] for x in ("", "_se", "_floor"))
    exact = dataset[field].sel(
        temperature=dataset.simulated_temperature.values, n=dataset.simulated_n.values
    )
    complete = (dataset.simulated_appearances >= t.appearances).broadcast_like(estimate).values
    seen = complete & (estimate > floor).values & (error > 0).values
    deviations = (estimate.values - exact.values)[seen] / error.values[seen]
    worst = float(np.abs(deviations).max()) if deviations.size else np.nan
    spread = float(np.sqrt(np.mean(deviations**2))) if deviations.size else np.nan
    return Claim(
        experiment,
        f"simulation of {exact.attrs['long_name']} agrees with its exact value",
        f"{worst:.2f} standard errors at worst, {spread:.2f} rms ({seen.sum()} points; "
        f"{(complete & ~seen).sum()} below the noise, {(~complete).sum()} with a rare outcome)",
        f"≤ {t.standard_errors:g} at worst, {1 - t.spread:g} to {1 + t.spread:g} rms",
        worst <= t.standard_errors and abs(spread - 1) <= t.spread,
        worst,
    )
