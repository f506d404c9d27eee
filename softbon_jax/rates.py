"""The exponent of a curve y ~ C n^α with an interval, or a refusal with its reason.

Host code in NumPy float64, for the analysis of finished curves: not for use under `jit` or `vmap`.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from softbon_jax import _checks, _fits

_FLAT = 0.05  # exponents no larger in size are those of a plateau
_TOLERANCES = {"exact": 0.1, "noisy": 0.3}


class Rate(NamedTuple):
    """A fitted power law y ~ constant · n^exponent, or a refusal.

    Attributes:
      exponent: α. It and the seven numbers after it are NaN if the curve is refused.
      exponent_low: lower end of the interval of the exponent.
      exponent_high: upper end of the interval of the exponent.
      constant: C, at the fitted exponent or at the one that was given.
      constant_low: lower end of the interval of the constant.
      constant_high: upper end of the interval of the constant.
      n_low: the smallest n of the asymptotic part, on which the fit rests.
      n_high: the largest n of the asymptotic part.
      num_points: number of points of the curve used in the fit; 0 if refused.
      ok: whether the curve was fitted.
      reason: why it was refused, or "".
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


def fit_rate(
    n: Any,
    values: Any,
    standard_error: Any = None,
    noise_floor: Any = None,
    *,
    exponent: float | None = None,
    start: float | None = None,
    correlation: Any = None,
    confidence: float = 0.95,
    min_points: int = 5,
    min_span: float = 100.0,
    tolerance: float | None = None,
    relative_error: float = 1e-11,
) -> Rate:
    """Fit y ~ C n^α on the asymptotic part of a curve, found from the curve itself.

    Without `standard_error` the curve is taken as exact, and the uncertainty is how far the local slope
    d log y / d log n is from its limit. Points closer than a factor 2 in n are thinned out. The
    asymptotic part is the longest stretch up to the last point on which the slope settles at least as
    fast as that of y = C n^α (1 + a n^-0.4): the second differences of log y keep their sign, and their
    ratio to those of n^-0.4 does not grow. The estimate extrapolates the slope as for
    y = C n^α (1 + a/n), the form of every exact curve of soft best-of-n. The interval reaches twice as
    far as the farthest of these: the last local slope, and the extrapolations for corrections in
    n^-0.4, in 1/n, in 1/n and 1/n², and in n^-½ and 1/n. Each counts with the worst-case effect of
    `relative_error` and `noise_floor`. The interval reflects how the choice of the correction moves the
    estimate, and has no confidence level. What has been thinned out must be consistent with it.

    With `standard_error` the curve is noisy. The model log y = log C + α log n + a/n is fitted by
    generalized least squares, the weights taken from the fitted values, so that no point gains weight by
    its own noise. The asymptotic part is the longest stretch up to the last point on which χ² does not
    reject the model at the 5 % level, a further term in (log n)² is within two standard errors of 0,
    and |a|/n less two standard errors is at most 1/2. There the estimate is that of the model with one
    more correction, b/n². The interval holds the normal ones at `confidence` of this model and of those
    with b n^-½, b n^-0.2 and b log(1 + log n) in place of b/n², so that it covers slow corrections, and
    factors of log n, that the data cannot exclude (that of C leaves out the last, with which there is
    no C). Errors correlated along the curve leave residuals that are too small and too much alike: the
    interval is wider by the ratio by which they are too small, and by √((1 + ρ)/(1 - ρ)), with ρ the
    correlation of neighbors where it is positive. A `noise_floor` is added in quadrature to the errors,
    and its worst-case effect to the interval.

    Args:
      n: `[N]` positive and all different, in any order.
      values: `[N]` finite y. Values that are not positive count as lost in the noise.
      standard_error: `[N]` or scalar, positive: that of each value, with normal errors. None for an
        exact curve.
      noise_floor: `[N]` or scalar >= 0: the size below which a value carries no information (rounding,
        or the bias of an estimate). The fit uses the longest run of values above 1000 times the floor
        if the curve is exact, and above 10 times the floor and 3 standard errors if it is noisy.
      exponent: fit C at this exponent instead of the fitted one, which is still reported.
      start: the smallest n to use, positive. The laws of soft best-of-n are asymptotic for n ≫ max W,
        with W = P*/P on the support of P; no curve shows by itself that it has got there. Default: all.
      correlation: that of the errors: one number in (-1, 1), the correlation ρ of neighbors in n, which
        is ρ^k between points k apart; or a positive definite `[N, N]`, in the order of `n`. Default:
        independent errors.
      confidence: that of the intervals of a noisy curve, in (0, 1).
      min_points: the fewest points of the asymptotic part, an integer of at least 4.
      min_span: the least ratio of the last n of the asymptotic part to its first, at least 1. On
        less, two corrections that cancel for a while look like another exponent.
      tolerance: the largest distance allowed between the exponent and an end of its interval. Default:
        0.1 if the curve is exact, 0.3 if it is noisy.
      relative_error: a bound on the relative error of each value of an exact curve, in [0, 1).

    Returns:
      A `Rate`. `ok` is False, with the `reason`, if too few points are usable; if the slope does not
      settle, or no stretch, or none longer than a third of log n, is consistent with a power law; if
      that stretch is shorter than `min_span`; if the exponent is not determined to within `tolerance`;
      if it is within 0.05 of 0 and neither `start` nor `exponent` is given, since a curve that has not
      begun to fall is as flat; if noisy values scatter too little for their errors; or if the given
      exponent is not the curve's (outside the interval if exact, outside that of 4 standard errors if
      noisy).

    Raises:
      TypeError: a curve or an option that is not real numbers.
      ValueError: an argument of the wrong shape or value.

    Numerics: host code in float64; nothing is traced. Measured: 2,309 fits of exact curves
      n^α (1 + a n^-γ + b n^-δ) on 8 to 16 powers of 2, γ and δ from 1/2 to 3, a and b up to 100, all
      with α in the interval. Noisy curves of 9 to 60 points, errors of 1 and 10 %: pure with
      correlations 0, 0.5 and 0.9, stated or not, and independent with a factor 1 + 10/n, 1 + 2 n^-½,
      1 + n^-0.2, log n or 1/log n: the 95 % interval holds α in 96 to 100 % of what is fitted. That of
      C is less sure: 85 % with the factor 1 + n^-0.2.
      Two limits. A correction that has hardly begun to fall at the last n is part of the power law as
      far as the curve can tell: 1/n + 10⁴ n^-1½ is n^-1½ up to n = 10³. Give `start`, or a larger n.
      And no grid shows an oscillation whose period is its own step: n = 2^k cannot see
      cos(2π log₂ n), and takes it for part of C. Points in between show it.
    Source: derived here (Richardson extrapolation; generalized least squares; the union of intervals
      over models, which covers if that of a right one does).

    Example:
      >>> n = 2.0 ** np.arange(12)
      >>> rate = sb.rates.fit_rate(n, 3 / n * (1 + 5 / n))
      >>> round(rate.exponent, 3), round(rate.constant, 3), rate.ok
      (-1.0, 3.001, True)
      >>> sb.rates.fit_rate(n[1:], np.log(n[1:])).reason.split(":")[0]
      'the local slope does not settle'
    """
    curve = _checked_curve(n, values, standard_error, noise_floor, correlation)
    _check_options(exponent, start, confidence, min_points, min_span, tolerance, relative_error)
    if tolerance is None:
        tolerance = _TOLERANCES["exact" if standard_error is None else "noisy"]
    try:
        if start is not None:
            curve = curve.part(curve.n >= start)
        used = _fits.usable(curve.values, curve.standard_error, curve.noise_floor, min_points)
        n, values, standard_error, noise_floor, correlation = curve.part(used)
        if standard_error is None:
            log_error = relative_error + noise_floor / values
            fit = _fits.fit_exact(n, np.log(values), log_error, exponent, min_points)
        else:
            quantile = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
            covariance = standard_error**2
            if correlation is not None:
                covariance = correlation * np.outer(standard_error, standard_error)
            fit = _fits.fit_noisy(
                n, values, covariance, noise_floor, exponent, min_points, quantile
            )
        estimate, low, high = fit.exponent
        span = float(fit.n[-1] / fit.n[0])
        if span < min_span * (1 - 1e-9):
            raise _fits.RefusedError(
                f"the asymptotic part, n = {fit.n[0]:g} to {fit.n[-1]:g}, spans a factor of {span:g}"
                f" in n, {min_span:g} is needed"
            )
        if abs(estimate) <= _FLAT and exponent is None and start is None:
            raise _fits.RefusedError(
                f"the curve is flat up to n = {n[-1]:g}: a plateau that ends beyond it looks the same;"
                " give start or exponent=0 if it is none"
            )
        if not max(high - estimate, estimate - low) <= tolerance:
            raise _fits.RefusedError(
                f"the exponent is not determined to within {tolerance:g}: {estimate:.4g} in"
                f" [{low:.4g}, {high:.4g}]"
            )
        if not fit.agrees:
            raise _fits.RefusedError(
                f"the given exponent {exponent:g} is not the curve's: {estimate:.6g} in"
                f" [{low:.6g}, {high:.6g}]"
            )
    except _fits.RefusedError as refusal:
        nan = math.nan
        return Rate(nan, nan, nan, nan, nan, nan, nan, nan, 0, False, str(refusal))
    with np.errstate(over="ignore"):
        constant, constant_low, constant_high = (float(np.exp(x)) for x in fit.log_constant)
    ends = float(fit.n[0]), float(fit.n[-1])
    return Rate(*fit.exponent, constant, constant_low, constant_high, *ends, len(fit.n), True, "")


class _Curve(NamedTuple):
    """Float64 arrays `[N]` in increasing n, and `[N, N]` correlations."""

    n: np.ndarray
    values: np.ndarray
    standard_error: np.ndarray | None
    noise_floor: np.ndarray
    correlation: np.ndarray | None

    def part(self, which: Any) -> _Curve:
        """The points at an index, all of whose correlations are among themselves."""
        error, correlation = self.standard_error, self.correlation
        return _Curve(
            self.n[which],
            self.values[which],
            None if error is None else error[which],
            self.noise_floor[which],
            None if correlation is None else correlation[which][:, which],
        )


def _checked_curve(
    n: Any, values: Any, standard_error: Any, noise_floor: Any, correlation: Any
) -> _Curve:
    n, values = _checks.real("n", n), _checks.real("values", values)
    _checks.finite_positive("n", n)
    _checks.finite("values", values)
    _checks.finite_not_negative("noise_floor", 0.0 if noise_floor is None else noise_floor)
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

    order = np.argsort(n)
    twice = np.flatnonzero(np.diff(n[order]) == 0)
    if twice.size:
        raise ValueError(f"n must be all different, got {n[order][twice[0]]} more than once")
    noise_floor = aligned("noise_floor", 0.0 if noise_floor is None else noise_floor)
    if standard_error is not None:
        _checks.finite_positive("standard_error", standard_error)
        standard_error = aligned("standard_error", standard_error)[order]
    if correlation is not None:
        if standard_error is None:
            raise ValueError("correlation is that of errors: it needs a standard_error, got None")
        correlation = _checked_correlation(correlation, order)
    return _Curve(n[order], values[order], standard_error, noise_floor[order], correlation)


def _checked_correlation(correlation: Any, order: np.ndarray) -> np.ndarray:
    """The matrix of correlations of the points in increasing n."""
    _checks.finite("correlation", correlation)
    correlation, size = np.asarray(correlation, np.float64), len(order)
    if correlation.ndim == 0:
        if not -1 < correlation < 1:
            raise ValueError(f"correlation must be strictly between -1 and 1, got {correlation}")
        return correlation ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    if correlation.shape != (size, size):
        raise ValueError(
            f"correlation must be a scalar or of shape {(size, size)}, got shape {correlation.shape}"
        )
    if np.any(np.abs(correlation - correlation.T) > 1e-9) or np.any(
        np.abs(np.diagonal(correlation) - 1) > 1e-9
    ):
        raise ValueError("correlation must be symmetric with ones on the diagonal")
    least = float(np.linalg.eigvalsh(correlation).min(initial=1.0))
    if not least > 0:
        raise ValueError(f"correlation must be positive definite, got an eigenvalue {least:.3g}")
    return correlation[np.ix_(order, order)]


def _check_options(
    exponent: float | None,
    start: float | None,
    confidence: float,
    min_points: int,
    min_span: float,
    tolerance: float | None,
    relative_error: float,
) -> None:
    if exponent is not None:
        _checks.finite("exponent", _checks.number("exponent", exponent))
    if start is not None:
        _checks.finite_positive("start", _checks.number("start", start))
    _checks.inside_unit_interval("confidence", _checks.number("confidence", confidence))
    _checks.positive_integer("min_points", min_points, least=4)
    if not _checks.number("min_span", min_span) >= 1:
        raise ValueError(f"min_span must be at least 1, got {min_span}")
    if tolerance is not None and not _checks.number("tolerance", tolerance) > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if not 0 <= _checks.number("relative_error", relative_error) < 1:
        raise ValueError(f"relative_error must be in [0, 1), got {relative_error}")
