"""What the results claim, one module an experiment, with a function `claims(dataset)`.

A claim compares a measured number with an allowed range. Every tolerance stands in `TOLERANCES`. A
comparison with NaN fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from experiments.claims.sources import source_of
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
      pool_errors: standard errors between the mean over very many pools and the exact value: six
        comparisons, those at one temperature on the same pools, so that chance alone fails about 1 %
        of the seeds; the seed was not chosen.
      appearances: of the rarest outcome, expected in a simulation that is to be compared.
      resolution: of a metric formed from differences of probabilities in float64.
      level: chance that independent normal deviations have a root mean square outside its range.
      false_alarms: share of divergences of 0 that noise may carry above its floor.
      noise: of a ratio of two standard errors, each good to about 6 % (127 degrees of freedom).
      noisy_exponent: of an exponent fitted to simulated values.
      noisy_constant: of their constant, relative.
      jackknife: of a KL that was estimated from pools, relative: bias of order 1/N² is left.
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

    @property
    def source(self) -> str:
        """The paper that says so, or "derived here", or a check of the computation."""
        return source_of(self.experiment, self.claim)


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
    exponent: float,
    errors: np.ndarray | None = None,
) -> list[Claim]:
    """Two claims on `curves` `[C, N]`: they fall as n^exponent, and with these coefficients `[C]`.

    `starts` `[C]` is 1 + CV². Where n reaches `TOLERANCES.asymptotic` times that, a curve must be a
    power law; where it does not, a fit may be refused, and then it does not count. `errors`
    `[C, N]` are the standard errors of simulated curves, whose intervals have the confidence
    1 - `TOLERANCES.level`.
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
            experiment, claim, measured, allowed, bool(good.all()) and not failures,
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
    """A simulated metric agrees with the exact one, in standard errors, where it can be seen.

    That is above its noise floor, and where every outcome has come up: the standard error of a
    simulation that has missed the rarest outcome knows nothing of it.
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
    )


def agreement(
    experiment: str,
    claim: str,
    estimate: np.ndarray,
    error: np.ndarray,
    exact: np.ndarray,
    complete: np.ndarray,
    floor: np.ndarray,
) -> Claim:
    """Independent estimates, all of one shape, are off by what their standard errors say.

    None by more than `TOLERANCES.standard_errors`; and the root mean square of the deviations is
    between the quantiles of χ²/points that leave out `TOLERANCES.level`, which catches errors that
    are too large as well as too small. Points that are not `complete`, not above the `floor`, or
    known but for rounding do not count.
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
        f"{worst:.2f} standard errors at worst, {spread:.2f} rms ({points} points; "
        f"{(complete & ~seen).sum()} below the noise, {(~complete).sum()} with a rare outcome)",
        f"≤ {t.standard_errors:g} at worst, {low:.2f} to {high:.2f} rms",
        bool(worst <= t.standard_errors and low <= spread <= high),
        worst,
    )
