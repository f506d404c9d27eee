"""Fits of y ~ C n^α on the asymptotic part of a curve, exact or noisy: the machinery of `sb.rates`.

Host code in NumPy float64, on checked arrays in increasing n.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.scipy.special import gammainc, gammaincc

# An exact value is used if it is above this multiple of its noise floor, a noisy one if it is above
# these multiples of the floor and of its own standard error.
_EXACT_MARGIN = 1000.0
_NOISY_MARGIN = 10.0
_MIN_SIGNAL = 3.0

# Exact curves: the slope must settle at least as fast as under a correction of relative size n^-0.4,
# which leaves room for the next term of a curve whose first correction is n^-1/2.
_SLOWEST = 0.4
# Models of the remaining correction, as exponents γ of its terms n^-γ. The first gives the estimate, the
# last ones are the last slope itself and the slowest approach that is allowed. The interval reaches
# _STRETCH times as far as the farthest of them.
_EXPANSIONS = ((1.0,), (1.0, 2.0), (0.5, 1.0), (), (_SLOWEST,))
_STRETCH = 2.0

# Noisy curves: a window is accepted if χ² does not reject the fit at this level, if a bend of the slope
# in log n is within this many standard errors of 0, and if the correction a/n at the start of the
# window, less two standard errors, is no larger than this. The curve is refused if the window covers
# less than this share of log n, or if χ² is so small that independent errors of the stated size leave
# as little only this often.
_MIN_P_VALUE = 0.05
_MAX_BEND = 2.0
_MAX_CORRECTION = 0.5
_MIN_SHARE = 1 / 3
_MIN_SCATTER = 0.01
_MAX_NEIGHBORS = 0.9  # of the correlation of neighbors that is estimated
# Slow corrections that the interval allows for, each beside one in 1/n: powers n^-γ, and log n itself.
_SLOW_POWERS = (0.5, 0.2)


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
    """Fit by extrapolation of the local slope; `log_error` `[N]` bounds the errors of log y.

    The points within a factor 2 of the last one each end a sequence of points a factor 2 apart. The
    answer is that of the first sequence, and the others must be consistent with it.
    """
    fit = _fit_sequence(n, log_y, log_error, exponent, min_points)
    for stop in range(len(n) - 1, 0, -1):
        if n[stop - 1] <= n[-1] / 2 * (1 + 1e-9):
            break
        try:
            other = _fit_sequence(n[:stop], log_y[:stop], log_error[:stop], exponent, min_points)
        except RefusedError:
            continue
        pairs = ((fit.exponent, other.exponent), (fit.log_constant, other.log_constant))
        if any(max(a[1], b[1]) > min(a[2], b[2]) for a, b in pairs):
            raise RefusedError(
                f"the curve oscillates: the points a factor 2 apart up to n = {n[-1]:g} and up to"
                f" n = {n[stop - 1]:g} are on different power laws"
            )
    return fit


def _fit_sequence(
    n: np.ndarray, log_y: np.ndarray, log_error: np.ndarray, exponent: float | None, min_points: int
) -> Fit:
    """The fit to points a factor 2 apart that end with the last one."""
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
            f"the local slope does not settle: {recent} over the last steps up"
            f" to n = {n[-1]:g}, with values taken as exact to {log_error[-1]:.2g}"
        )
    n, log_y, log_error = n[first:], log_y[first:], log_error[first:]

    def extrapolated(exponent: float | None) -> tuple[Interval, Interval]:
        return _stretched([_extrapolated(n, log_y, log_error, x, exponent) for x in _EXPANSIONS])

    slope, log_constant = extrapolated(None)
    if exponent is None:
        return Fit(slope, log_constant, True, n)
    agrees = slope[1] <= exponent <= slope[2]
    return Fit(slope, extrapolated(exponent)[1], agrees, n)


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


def _stretched(candidates: list[tuple[_Estimate, _Estimate]]) -> tuple[Interval, Interval]:
    """For α and for log C, the first candidate and a range that holds all of them and their errors."""

    def span(pairs: list[_Estimate]) -> Interval:
        middle = pairs[0][0]
        low = min(middle + _STRETCH * (x - middle) - error for x, error in pairs)
        return middle, low, max(middle + _STRETCH * (x - middle) + error for x, error in pairs)

    return span([slope for slope, _ in candidates]), span([log_c for _, log_c in candidates])


# Noisy curves ------------------------------------------------------------------------------------


def fit_noisy(
    n: np.ndarray,
    y: np.ndarray,
    covariance: np.ndarray,
    noise_floor: np.ndarray,
    exponent: float | None,
    min_points: int,
    quantile: float,
) -> Fit:
    """Fit by generalized least squares; `quantile` is that of a normal.

    `covariance` is `[N, N]`, or `[N]` the variances of independent errors; without the noise floor.
    """
    floor = noise_floor**2
    root = _whitening(covariance + (floor if covariance.ndim == 1 else np.diag(floor)))
    first = _consistent_from(n, y, root, min_points)
    share = math.log(n[-1] / n[first]) / math.log(n[-1] / n[0])
    if share < _MIN_SHARE:
        raise RefusedError(
            f"a power law fits only from n = {n[first]:g}, the last {100 * share:.0f} % of log n"
        )
    n, y, root = n[first:], y[first:], _from(root, first)
    bias = noise_floor[first:] / y
    x, u, one = np.log(n), n[0] / n, np.ones_like(n)
    # log n from 1 on, or from the first point if that is smaller.
    slow = np.log1p(x - min(x[0], 0.0))
    corrections = [[u, u * u], *([u, n**-power] for power in _SLOW_POWERS), [u, slow]]

    def hull(fits: list[_LeastSquares], k: int, quantile: float) -> Interval:
        """The first estimate, and the hull of all intervals."""
        ends = [
            (
                fit.coefficients[k],
                quantile * fit.standard_error[k] + np.abs(fit.sensitivity[k]) @ bias,
            )
            for fit in fits
        ]
        low, high = min(c - half for c, half in ends), max(c + half for c, half in ends)
        return float(ends[0][0]), float(low), float(high)

    fits = [_least_squares([one, x, *terms], y, root) for terms in corrections]
    freedom = len(n) - len(fits[0].coefficients)
    if freedom > 0:
        # Of the errors alone: a bias below the noise floor does not scatter.
        alone = _times(_from(_whitening(covariance), first), fits[0].residual)
        chi2 = float(alone @ alone)
        if float(gammainc(freedom / 2, chi2 / 2)) < _MIN_SCATTER:
            raise RefusedError(
                f"the values scatter less than errors of this size would (χ² = {chi2:.2g} for {freedom}"
                " degrees of freedom): give the correlation of the errors"
            )
        # What errors correlated along the curve take from the scatter they add to the slope. Two more
        # degrees of freedom keep the ratio near 1 where there are few. What they leave shows as the
        # correlation ρ of neighbors, which multiplies the variance of a mean by (1 + ρ)/(1 - ρ).
        neighbors = float(np.clip(alone[1:] @ alone[:-1] / chi2, 0.0, _MAX_NEIGHBORS))
        scatter = (freedom + 2) / (chi2 + 2)
        quantile *= math.sqrt(max(1.0, scatter) * (1 + neighbors) / (1 - neighbors))
    slope, agrees = hull(fits, 1, quantile), True
    if exponent is not None:
        _, low, high = hull(fits, 1, max(quantile, 4.0))
        agrees = low <= exponent <= high
        fits = [_least_squares([one, *terms], y, root, exponent * x) for terms in corrections]
    # With a correction in log log n there is no C.
    return Fit(slope, hull(fits[:-1], 0, quantile), agrees, n)


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """A matrix `[N, N]`, or its diagonal `[N]`, that makes the errors independent with variance 1.

    It is upper triangular, so that the block of the last points whitens those by themselves.
    """
    if covariance.ndim == 1:
        return 1 / np.sqrt(covariance)
    return np.linalg.inv(np.linalg.cholesky(covariance[::-1, ::-1]))[::-1, ::-1]


def _times(root: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The whitened x."""
    return root * x if root.ndim == 1 else root @ x


def _from(root: np.ndarray, first: int) -> np.ndarray:
    """The whitening of the points from `first` on."""
    return root[(slice(first, None),) * root.ndim]


def _consistent_from(n: np.ndarray, y: np.ndarray, root: np.ndarray, min_points: int) -> int:
    """The smallest index from which on the curve is consistent with y = C n^α e^{a/n}."""
    best_p_value = 0.0
    for first in range(len(n) - min_points + 1):
        window = slice(first, None)
        x, u = np.log(n[window]), n[first] / n[window]
        one = np.ones_like(x)
        try:
            fit = _least_squares([one, x, u], y[window], _from(root, first))
            bent = _least_squares([one, x, u, x * x], y[window], _from(root, first))
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
      residual: `[points]`
      chi2: the sum of squared residuals in standard errors.
    """

    coefficients: np.ndarray
    standard_error: np.ndarray
    sensitivity: np.ndarray
    residual: np.ndarray
    chi2: float


def _least_squares(
    columns: list[np.ndarray], y: np.ndarray, root: np.ndarray, offset: Any = 0.0
) -> _LeastSquares:
    """Least squares of root (y - e^{offset + columns·coefficients}) by Gauss-Newton.

    Each iteration is generalized least squares in log y, with weights and working response from the
    previous fit.
    """
    design = np.stack(columns, axis=-1)
    log_y = log_fit = np.log(y)
    coefficients = np.zeros(len(columns))
    for _ in range(100):
        fit = np.exp(log_fit)
        weight = root * fit
        inverse = np.linalg.pinv(np.stack([_times(weight, x) for x in design.T], axis=-1))
        sensitivity = inverse * weight if weight.ndim == 1 else inverse @ weight
        before = coefficients
        coefficients = sensitivity @ (log_fit - offset + y / fit - 1)
        log_fit = offset + design @ coefficients
        if not np.all(np.abs(log_fit - log_y) < 20):
            break
        if np.all(np.abs(coefficients - before) < 1e-9 * (1 + np.abs(coefficients))):
            residual = y - np.exp(log_fit)
            standard_error = np.sqrt(np.sum(inverse**2, axis=-1))
            white = _times(root, residual)
            chi2 = float(white @ white)
            return _LeastSquares(coefficients, standard_error, sensitivity, residual, chi2)
    raise RefusedError("the least-squares fit does not converge")
