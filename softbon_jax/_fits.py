"""Fits of y ~ C n^α on the asymptotic part of a curve, exact or noisy: the machinery of `sb.rates`.

Host code in NumPy float64, on checked arrays in increasing n.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.scipy.special import gammaincc

# An exact value is used if it is above this multiple of its noise floor, a noisy one if it is above
# these multiples of the floor and of its own standard error.
_EXACT_MARGIN = 1000.0
_NOISY_MARGIN = 10.0
_MIN_SIGNAL = 3.0

# Exact curves: the slope must settle at least as fast as under a correction of relative size n^-0.4,
# which leaves room for the next term of a curve whose first correction is n^-1/2.
_SLOWEST = 0.4
# Models of the remaining correction, as exponents γ of its terms n^-γ: 1/n, none, the slowest that is
# allowed, and 1/n with 1/n². The first gives the estimate, the range of all four the interval.
_APPROACHES = ((1.0,), (), (_SLOWEST,), (1.0, 2.0))

# Noisy curves: a window is accepted if χ² does not reject the fit at this level, if a bend of the slope
# in log n is within this many standard errors of 0, and if the correction a/n at the start of the
# window, less two standard errors, is no larger than this. The curve is refused if the window covers
# less than this share of log n.
_MIN_P_VALUE = 0.05
_MAX_BEND = 2.0
_MAX_CORRECTION = 0.5
_MIN_SHARE = 1 / 3


_Estimate = tuple[float, float]  # a number and its error
Interval = tuple[float, float, float]  # a number and the ends of its interval


class Fit(NamedTuple):
    """A fit and the points that it rests on.

    Attributes:
      exponent: α and its interval.
      log_constant: log C and its interval.
      agrees: whether α agrees with the exponent that was given; True if none was.
      n: the points used.
    """

    exponent: Interval
    log_constant: Interval
    agrees: bool
    n: np.ndarray


class RefusedError(Exception):
    """A curve is refused; the message is the reason."""


def usable(
    values: np.ndarray, standard_error: np.ndarray | None, noise_floor: np.ndarray, min_points: int
) -> slice:
    """The longest run of values above the noise, and of several longest runs the last."""
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
        raise RefusedError(
            f"{longest} of {len(values)} points in a row are positive and above {level},"
            f" {min_points} are needed"
        )
    last = len(starts) - 1 - int(np.argmax((stops - starts)[::-1]))
    return slice(int(starts[last]), int(stops[last]))


# Exact curves ------------------------------------------------------------------------------------


def fit_exact(
    n: np.ndarray, log_y: np.ndarray, log_error: np.ndarray, exponent: float | None, min_points: int
) -> Fit:
    """Fit by extrapolation of the local slope; `log_error` `[N]` bounds the errors of log y."""
    kept = _thinned(n)
    n, log_y, log_error = n[kept], log_y[kept], log_error[kept]
    if len(n) < min_points:
        raise RefusedError(
            f"{len(n)} usable points at least a factor 2 apart in n, {min_points} are needed"
        )
    first = _settled_from(n, log_y, log_error)
    if len(n) - first < min_points:
        slopes = np.diff(log_y) / np.diff(np.log(n))
        recent = ", ".join(f"{s:.12g}" for s in slopes[-3:])
        raise RefusedError(
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
    return Fit(slope, log_constant, agrees, n)


def _thinned(n: np.ndarray) -> np.ndarray:
    """Indices of points that are at least a factor 2 apart in n, chosen from the last one down."""
    kept = [len(n) - 1]
    for i in range(len(n) - 2, -1, -1):
        if n[i] <= n[kept[-1]] / 2 * (1 + 1e-9):
            kept.append(i)
    return np.array(kept[::-1])


def _settled_from(n: np.ndarray, log_y: np.ndarray, log_error: np.ndarray) -> int:
    """The index from which on the slope settles; len(n) - 3 or more if it does not settle at all.

    The second differences of log y, divided by those of n^-_SLOWEST, must neither grow in size nor
    change sign by more than their error.
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
    """α and log C of log y = log C + α log n + Σ a_γ n^-γ, γ in `rates`, with their errors.

    The curve passes through as many of the last points as it has unknowns; `exponent` fixes α.
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
    # C is the value at n = 1, and x is 0 at the last n.
    intercept = inverse[0] - math.log(n[-1]) * slope
    shift = 0.0 if exponent is None else exponent * math.log(n[-1])
    z, error = log_y[-size:], log_error[-size:]
    return (
        (float(slope @ z), float(np.abs(slope) @ error)),
        (float(intercept @ z) - shift, float(np.abs(intercept) @ error)),
    )


def _hull(candidates: list[tuple[_Estimate, _Estimate]]) -> tuple[Interval, Interval]:
    """For α and for log C, the first candidate and the range of all of them with their errors."""

    def span(pairs: list[_Estimate]) -> Interval:
        return pairs[0][0], min(x - e for x, e in pairs), max(x + e for x, e in pairs)

    return span([slope for slope, _ in candidates]), span([log_c for _, log_c in candidates])


# Noisy curves ------------------------------------------------------------------------------------


def fit_noisy(
    n: np.ndarray,
    y: np.ndarray,
    error: np.ndarray,
    noise_floor: np.ndarray,
    exponent: float | None,
    min_points: int,
    quantile: float,
) -> Fit:
    """Fit by weighted least squares; `error` `[N]` are standard errors, `quantile` that of a normal."""
    error = np.hypot(error, noise_floor)
    first = _consistent_from(n, y, error, min_points)
    share = math.log(n[-1] / n[first]) / math.log(n[-1] / n[0])
    if share < _MIN_SHARE:
        raise RefusedError(
            f"a power law fits only from n = {n[first]:g}, the last {100 * share:.0f} % of log n"
        )
    n, y, error = n[first:], y[first:], error[first:]
    bias = noise_floor[first:] / y

    def interval(fit: _LeastSquares, k: int) -> Interval:
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
    return Fit(slope, log_constant, agrees, n)


def _consistent_from(n: np.ndarray, y: np.ndarray, error: np.ndarray, min_points: int) -> int:
    """The smallest index from which on the curve is consistent with y = C n^α e^{a/n}."""
    best_p_value = 0.0
    for first in range(len(n) - min_points + 1):
        window = slice(first, None)
        x, u = np.log(n[window]), n[first] / n[window]
        one = np.ones_like(x)
        try:
            fit = _least_squares([one, x, u], y[window], error[window])
            bent = _least_squares([one, x, u, x * x], y[window], error[window])
        except RefusedError:
            continue
        p_value = float(gammaincc((len(x) - 3) / 2, fit.chi2 / 2))
        best_p_value = max(best_p_value, p_value)
        bend = abs(bent.coefficients[3]) / bent.standard_error[3]
        correction = abs(fit.coefficients[2]) - 2 * fit.standard_error[2]
        if p_value > _MIN_P_VALUE and bend < _MAX_BEND and correction < _MAX_CORRECTION:
            return first
    raise RefusedError(
        f"no stretch of {min_points} points or more up to n = {n[-1]:g} is a power law with errors"
        f" of this size (goodness of fit p <= {best_p_value:.2g})"
    )


class _LeastSquares(NamedTuple):
    """A least-squares fit.

    Attributes:
      coefficients: `[columns]`
      standard_error: `[columns]` of each coefficient.
      sensitivity: `[columns, points]` derivative of the coefficients with respect to log y.
      chi2: the sum of squared residuals in standard errors.
    """

    coefficients: np.ndarray
    standard_error: np.ndarray
    sensitivity: np.ndarray
    chi2: float


def _least_squares(
    columns: list[np.ndarray], y: np.ndarray, error: np.ndarray, offset: Any = 0.0
) -> _LeastSquares:
    """Least squares of (y - e^{offset + columns·coefficients})/error by Gauss-Newton.

    Each iteration is weighted least squares in log y, with weights and working response from the
    previous fit.
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
    raise RefusedError("the least-squares fit does not converge")
