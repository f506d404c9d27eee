"""The exponent of a curve y ~ C n^α with an interval, or a refusal with its reason.

Host code in NumPy float64, for the analysis of finished curves: not for use under `jit` or `vmap`.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

import numpy as np
from jax.scipy.special import gammaincc

# An exact value is used if it exceeds its noise floor this many times over, a noisy one if it
# exceeds the floor and its own standard error this many times over.
_EXACT_MARGIN = 1000.0
_NOISY_MARGIN = 10.0
_MIN_SIGNAL = 3.0

# Exact curves: the slope must settle at least as fast as a correction of relative size n^-γ does.
# The 0.4 leaves room for the next term of a curve whose first correction is n^-1/2.
_SLOWEST = 0.4
# What may be left of the correction: terms n^-γ. The first gives the estimate, all of them together
# the interval: 1/n, nothing, as slow as it may be, and 1/n with 1/n².
_APPROACHES = ((1.0,), (), (_SLOWEST,), (1.0, 2.0))

# Noisy curves: a window is accepted if the fit is not rejected at this level, if a bend of the
# slope in log n is not seen at this many standard errors, and if the correction a/n is no larger
# than this (by two standard errors) where the window begins; and the curve is refused if the window
# covers less than this share of log n.
_MIN_P_VALUE = 0.05
_MAX_BEND = 2.0
_MAX_CORRECTION = 0.5
_MIN_SHARE = 1 / 3


class Rate(NamedTuple):
    """A fitted power law y ~ constant · n^exponent, or a refusal.

    Attributes:
      exponent: α; NaN if refused, like every number below it.
      exponent_low: lower end of its interval.
      exponent_high: upper end.
      constant: C, at the fitted exponent or at the one that was given.
      constant_low: lower end of its interval.
      constant_high: upper end.
      n_low: where the asymptotic part, on which the fit rests, begins.
      n_high: where it ends.
      num_points: points of the curve used in it; 0 if refused.
      ok: whether there is a fit.
      reason: why not, or "" if there is one.
    """

    exponent: float
    exponent_low: float
    exponent_high: float
    constant: float
    constant_low: float
    constant_high: float
    n_low: float
    n_high: float
    num_points: int
    ok: bool
    reason: str


_Estimate = tuple[float, float]  # a number and its error
_Interval = tuple[float, float, float]  # a number and the ends of its interval


class _Fit(NamedTuple):
    """What a fit found, and the points that it rests on."""

    exponent: _Interval
    log_constant: _Interval
    agrees: bool  # with the exponent that was given, if one was
    n: np.ndarray


class _RefusedError(Exception):
    """Carries the reason of a refusal."""


def fit_rate(
    n: Any,
    values: Any,
    standard_error: Any = None,
    noise_floor: Any = None,
    *,
    exponent: float | None = None,
    confidence: float = 0.95,
    min_points: int = 4,
    tolerance: float = 0.1,
    relative_error: float = 1e-11,
) -> Rate:
    """Fit y ~ C n^α on the asymptotic part of a curve, found from the curve itself.

    Without `standard_error` the curve is taken as exact. What is uncertain is how far the local
    slope d log y / d log n still has to move. Points closer than a factor 2 in n are thinned out.
    The asymptotic part is the longest stretch, up to the last point, on which the slope settles at
    least as fast as for y = C n^α (1 + a n^-0.4): the second differences of log y keep their sign,
    and their ratio to those of n^-0.4 does not grow. The estimate extrapolates the slope as for
    y = C n^α (1 + a/n), the form of every exact curve of soft best-of-n. The interval spans that, the
    last local slope (nothing left to move), and the extrapolations for a n^-0.4 and for a/n + b/n²,
    each with the worst effect of `relative_error` and `noise_floor`. It bounds the error of the
    model and has no confidence.

    With `standard_error` the curve is noisy. The model log y = log C + α log n + a/n is fitted by
    weighted least squares, with weights from the fitted values, so that a point gains nothing by
    its own noise. The asymptotic part is the longest stretch, up to the last point, on which χ²
    does not reject the model at the 5 % level, a further term in (log n)² is below two standard
    errors, and |a|/n is at most 1/2, to within two standard errors. There α and C are fitted anew
    with one correction more, b/n², so that what the tests could not see does not bias them; the
    interval is the normal one at `confidence`. A `noise_floor` is added in quadrature to the
    errors, and its worst effect to the interval.

    Args:
      n: `[N]` positive, all different, in any order.
      values: `[N]` finite y. Values that are not positive count as lost in the noise.
      standard_error: `[N]` or scalar, positive: of each value, with errors independent and normal.
        None for an exact curve.
      noise_floor: `[N]` or scalar >= 0: the size below which a value means nothing (rounding, or
        the bias of an estimate). Used are values above 1000 times the floor if the curve is exact,
        above 10 times the floor and 3 standard errors if it is noisy: their longest run.
      exponent: fit C at this exponent and not at the fitted one, which is reported all the same.
      confidence: of the intervals of a noisy curve, in (0, 1).
      min_points: fewest points of the asymptotic part, at least 4.
      tolerance: largest distance allowed from the exponent to an end of its interval.
      relative_error: bound on the relative error of each value of an exact curve.

    Returns:
      A `Rate`. `ok` is False, and `reason` says why, if too few points are usable; if the slope
      does not settle, or no stretch, or none longer than a third of log n, is consistent with a
      power law; if the exponent is not determined to within `tolerance`; or if the given exponent
      is not the curve's (outside the interval if exact, 4 standard errors away if noisy).

    Raises:
      ValueError: an argument of the wrong shape or value.

    Numerics: a noisy curve that bends by less than its errors show is taken for a power law: log n
      up to n = 65536 is refused 9 times in 10 if the errors are 0.1 %, and has an exponent near
      0.1 if they are 1 %.
    Source: derived here (Richardson extrapolation; weighted least squares).
    """
    n, values, standard_error, noise_floor = _checked(n, values, standard_error, noise_floor)
    _check_options(exponent, confidence, min_points, tolerance, relative_error)
    try:
        used = _usable(values, standard_error, noise_floor, min_points)
        n, values, noise_floor = n[used], values[used], noise_floor[used]
        if standard_error is None:
            log_error = relative_error + noise_floor / values
            fit = _fit_exact(n, np.log(values), log_error, exponent, min_points)
        else:
            quantile = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
            error = standard_error[used]
            fit = _fit_noisy(n, values, error, noise_floor, exponent, min_points, quantile)
        estimate, low, high = fit.exponent
        if not max(high - estimate, estimate - low) <= tolerance:
            raise _RefusedError(
                f"the exponent is not determined to within {tolerance:g}: {estimate:.4g} in"
                f" [{low:.4g}, {high:.4g}]"
            )
        if not fit.agrees:
            raise _RefusedError(
                f"the given exponent {exponent:g} is not the curve's: {estimate:.6g} in"
                f" [{low:.6g}, {high:.6g}]"
            )
    except _RefusedError as refusal:
        nan = math.nan
        return Rate(nan, nan, nan, nan, nan, nan, nan, nan, 0, False, str(refusal))
    constant, constant_low, constant_high = (float(np.exp(x)) for x in fit.log_constant)
    ends = float(fit.n[0]), float(fit.n[-1])
    return Rate(*fit.exponent, constant, constant_low, constant_high, *ends, len(fit.n), True, "")


def _checked(
    n: Any, values: Any, standard_error: Any, noise_floor: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """The curve as float64 arrays in increasing n."""
    n, values = np.asarray(n, np.float64), np.asarray(values, np.float64)
    if n.ndim != 1 or values.shape != n.shape:
        raise ValueError(
            f"n and values must be vectors of one length, got shapes {n.shape} and {values.shape}"
        )

    def aligned(name: str, x: Any) -> np.ndarray:
        x = np.asarray(x, np.float64)
        if x.shape not in ((), n.shape):
            raise ValueError(f"{name} must be a scalar or of shape {n.shape}, got shape {x.shape}")
        return np.broadcast_to(x, n.shape)

    noise_floor = aligned("noise_floor", 0.0 if noise_floor is None else noise_floor)
    requirements = [
        ("n", n, (n > 0) & np.isfinite(n), "positive and finite"),
        ("values", values, np.isfinite(values), "finite"),
        ("noise_floor", noise_floor, np.isfinite(noise_floor) & (noise_floor >= 0), "at least 0"),
    ]
    if standard_error is not None:
        standard_error = aligned("standard_error", standard_error)
        legal = (standard_error > 0) & np.isfinite(standard_error)
        requirements.append(("standard_error", standard_error, legal, "positive and finite"))
    for name, x, good, requirement in requirements:
        if not good.all():
            at = int(np.argmin(good))
            raise ValueError(f"{name} must be {requirement}, got {x[at]} at index {at}")
    order = np.argsort(n)
    twice = np.flatnonzero(np.diff(n[order]) == 0)
    if twice.size:
        raise ValueError(f"n must be all different, got {n[order][twice[0]]} more than once")
    error = None if standard_error is None else standard_error[order]
    return n[order], values[order], error, noise_floor[order]


def _check_options(
    exponent: float | None,
    confidence: float,
    min_points: int,
    tolerance: float,
    relative_error: float,
) -> None:
    if exponent is not None and not math.isfinite(exponent):
        raise ValueError(f"exponent must be finite, got {exponent}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, got {confidence}")
    if min_points < 4:
        raise ValueError(f"min_points must be at least 4, got {min_points}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if not 0 <= relative_error < 1:
        raise ValueError(f"relative_error must be in [0, 1), got {relative_error}")


def _usable(
    values: np.ndarray, standard_error: np.ndarray | None, noise_floor: np.ndarray, min_points: int
) -> slice:
    """The longest run of values above the noise; of equally long ones the last."""
    if standard_error is None:
        above = values > _EXACT_MARGIN * noise_floor
        level = f"{_EXACT_MARGIN:g} times the noise floor"
    else:
        above = values > np.maximum(_NOISY_MARGIN * noise_floor, _MIN_SIGNAL * standard_error)
        level = f"{_NOISY_MARGIN:g} times the noise floor and {_MIN_SIGNAL:g} standard errors"
    edges = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(int)))
    starts, stops = edges[::2], edges[1::2]
    if not starts.size or max(stops - starts) < min_points:
        longest = int(max(stops - starts, default=0))
        raise _RefusedError(
            f"{longest} of {len(values)} points in a row are positive and above {level},"
            f" {min_points} are needed"
        )
    last = len(starts) - 1 - int(np.argmax((stops - starts)[::-1]))
    return slice(int(starts[last]), int(stops[last]))


# Exact curves ------------------------------------------------------------------------------------


def _fit_exact(
    n: np.ndarray, log_y: np.ndarray, log_error: np.ndarray, exponent: float | None, min_points: int
) -> _Fit:
    kept = _thinned(n)
    n, log_y, log_error = n[kept], log_y[kept], log_error[kept]
    if len(n) < min_points:
        raise _RefusedError(
            f"{len(n)} usable points at least a factor 2 apart in n, {min_points} are needed"
        )
    first = _settled_from(n, log_y, log_error)
    if len(n) - first < min_points:
        slopes = np.diff(log_y) / np.diff(np.log(n))
        recent = ", ".join(f"{s:.12g}" for s in slopes[-3:])
        raise _RefusedError(
            f"the local slope does not settle: {recent} over the last steps up to n = {n[-1]:g},"
            f" with values taken as exact to {log_error[-1]:.2g}"
        )
    n, log_y, log_error = n[first:], log_y[first:], log_error[first:]
    slope, log_constant = _hull([_extrapolated(n, log_y, log_error, g, None) for g in _APPROACHES])
    agrees = True
    if exponent is not None:
        agrees = slope[1] <= exponent <= slope[2]
        fixed = [_extrapolated(n, log_y, log_error, g, exponent) for g in _APPROACHES]
        _, log_constant = _hull(fixed)
    return _Fit(slope, log_constant, agrees, n)


def _thinned(n: np.ndarray) -> np.ndarray:
    """Indices, from the last point down, each at most half the one above; in increasing order."""
    kept = [len(n) - 1]
    for i in range(len(n) - 2, -1, -1):
        if n[i] <= n[kept[-1]] / 2 * (1 + 1e-9):
            kept.append(i)
    return np.array(kept[::-1])


def _settled_from(n: np.ndarray, log_y: np.ndarray, log_error: np.ndarray) -> int:
    """Index from which on the slope settles; len(n) - 3 or more if it does not settle at all.

    The second differences of log y, in units of those of n^-_SLOWEST, must neither grow nor change
    sign by more than their error.
    """
    left, right = np.diff(np.log(n))[:-1], np.diff(np.log(n))[1:]

    def bend(z: np.ndarray) -> np.ndarray:
        return (z[2:] - z[1:-1]) / right - (z[1:-1] - z[:-2]) / left

    unit = bend((n / n[-1]) ** -_SLOWEST)
    drift = bend(log_y) / unit
    error = log_error[2:] / right + log_error[1:-1] * (1 / right + 1 / left) + log_error[:-2] / left
    error = error / unit
    grows = np.abs(drift[1:]) - np.abs(drift[:-1]) > error[1:] + error[:-1]
    seen = np.abs(drift) > error
    turns = (drift[1:] * drift[:-1] < 0) & seen[1:] & seen[:-1]
    fails = np.flatnonzero(grows | turns)
    return int(fails[-1]) + 1 if fails.size else 0


def _extrapolated(
    n: np.ndarray,
    log_y: np.ndarray,
    log_error: np.ndarray,
    rates: tuple[float, ...],
    exponent: float | None,
) -> tuple[_Estimate, _Estimate]:
    """α and log C of log y = log C + α log n + Σ a_γ n^-γ, γ in `rates`, through the last points.

    As many points as unknowns; `exponent` fixes α.
    """
    x = np.log(n / n[-1])
    columns = [np.ones_like(x)]
    if exponent is None:
        columns.append(x)
    else:
        log_y = log_y - exponent * x
    columns += [np.exp(-rate * x) for rate in rates]
    size = len(columns)
    inverse = np.linalg.inv(np.stack(columns, axis=-1)[-size:])
    slope = inverse[1] if exponent is None else np.zeros(size)
    # C is wanted at n = 1 and x is 0 at the last n.
    intercept = inverse[0] - math.log(n[-1]) * slope
    shift = 0.0 if exponent is None else exponent * math.log(n[-1])
    z, error = log_y[-size:], log_error[-size:]
    return (
        (float(slope @ z), float(np.abs(slope) @ error)),
        (float(intercept @ z) - shift, float(np.abs(intercept) @ error)),
    )


def _hull(candidates: list[tuple[_Estimate, _Estimate]]) -> tuple[_Interval, _Interval]:
    """The first candidate, and the span of all with their errors, for α and for log C."""

    def span(pairs: list[_Estimate]) -> _Interval:
        return pairs[0][0], min(x - e for x, e in pairs), max(x + e for x, e in pairs)

    return span([slope for slope, _ in candidates]), span([log_c for _, log_c in candidates])


# Noisy curves ------------------------------------------------------------------------------------


def _fit_noisy(
    n: np.ndarray,
    y: np.ndarray,
    error: np.ndarray,
    noise_floor: np.ndarray,
    exponent: float | None,
    min_points: int,
    quantile: float,
) -> _Fit:
    error = np.hypot(error, noise_floor)
    first = _consistent_from(n, y, error, min_points)
    share = math.log(n[-1] / n[first]) / math.log(n[-1] / n[0])
    if share < _MIN_SHARE:
        raise _RefusedError(
            f"a power law fits only from n = {n[first]:g}, the last {100 * share:.0f} % of log n"
        )
    n, y, error = n[first:], y[first:], error[first:]
    bias = noise_floor[first:] / y

    def interval(fit: _LeastSquares, k: int) -> _Interval:
        estimate = float(fit.coefficients[k])
        half = quantile * fit.standard_error[k] + float(np.abs(fit.sensitivity[k]) @ bias)
        return estimate, estimate - half, estimate + half

    x, u = np.log(n), n[0] / n
    one = np.ones_like(n)
    fit = _least_squares([one, x, u, u * u], y, error)
    slope, log_constant, agrees = interval(fit, 1), interval(fit, 0), True
    if exponent is not None:
        agrees = abs(exponent - slope[0]) <= 4 * fit.standard_error[1]
        log_constant = interval(_least_squares([one, u, u * u], y, error, exponent * x), 0)
    return _Fit(slope, log_constant, agrees, n)


def _consistent_from(n: np.ndarray, y: np.ndarray, error: np.ndarray, min_points: int) -> int:
    """Smallest index from which on the curve is consistent with y = C n^α e^{a/n}."""
    best_p_value = 0.0
    for first in range(len(n) - min_points + 1):
        window = slice(first, None)
        x, u = np.log(n[window]), n[first] / n[window]
        one = np.ones_like(x)
        try:
            fit = _least_squares([one, x, u], y[window], error[window])
            bent = _least_squares([one, x, u, x * x], y[window], error[window])
        except _RefusedError:
            continue
        p_value = float(gammaincc((len(x) - 3) / 2, fit.chi2 / 2))
        best_p_value = max(best_p_value, p_value)
        bend = abs(bent.coefficients[3]) / bent.standard_error[3]
        correction = abs(fit.coefficients[2]) - 2 * fit.standard_error[2]
        if p_value > _MIN_P_VALUE and bend < _MAX_BEND and correction < _MAX_CORRECTION:
            return first
    raise _RefusedError(
        f"no stretch of {min_points} points or more up to n = {n[-1]:g} is a power law with errors"
        f" of this size (goodness of fit p <= {best_p_value:.2g})"
    )


class _LeastSquares(NamedTuple):
    coefficients: np.ndarray
    standard_error: np.ndarray
    sensitivity: np.ndarray  # of the coefficients to log y, [coefficients, points]
    chi2: float


def _least_squares(
    columns: list[np.ndarray], y: np.ndarray, error: np.ndarray, offset: Any = 0.0
) -> _LeastSquares:
    """Least squares of (y - e^{offset + columns·coefficients})/error by Gauss-Newton.

    That is weighted least squares in log y, with the weights and the working response from the
    last fit.
    """
    design = np.stack(columns, axis=-1)
    log_y = log_fit = np.log(y)
    coefficients = np.zeros(len(columns))
    for _ in range(100):
        fit = np.exp(log_fit)
        weight = fit / error
        inverse = np.linalg.pinv(weight[:, None] * design)
        before = coefficients
        coefficients = inverse @ (weight * (log_fit - offset + y / fit - 1))
        log_fit = offset + design @ coefficients
        if not np.all(np.abs(log_fit - log_y) < 20):
            break
        if np.all(np.abs(coefficients - before) < 1e-9 * (1 + np.abs(coefficients))):
            residual = (y - np.exp(log_fit)) / error
            standard_error = np.sqrt(np.sum(inverse**2, axis=-1))
            chi2 = float(residual @ residual)
            return _LeastSquares(coefficients, standard_error, inverse * weight, chi2)
    raise _RefusedError("the least-squares fit does not converge")
