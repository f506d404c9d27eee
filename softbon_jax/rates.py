"""The exponent of a curve y ~ C n^α with an interval, or a refusal with its reason.

Host code in NumPy float64, for the analysis of finished curves: not for use under `jit` or `vmap`.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from softbon_jax import _checks, _fits


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
    confidence: float = 0.95,
    min_points: int = 4,
    tolerance: float = 0.1,
    relative_error: float = 1e-11,
) -> Rate:
    """Fit y ~ C n^α on the asymptotic part of a curve, found from the curve itself.

    Without `standard_error` the curve is taken as exact, and the uncertainty is how far the local slope
    d log y / d log n is from its limit. Points closer than a factor 2 in n are thinned out. The
    asymptotic part is the longest stretch up to the last point on which the slope settles at least as
    fast as that of y = C n^α (1 + a n^-0.4): the second differences of log y keep their sign, and their
    ratio to those of n^-0.4 does not grow. The estimate extrapolates the slope as for
    y = C n^α (1 + a/n), the form of every exact curve of soft best-of-n. The interval covers this
    estimate, the last local slope, and the extrapolations for corrections a n^-0.4 and a/n + b/n², each
    with the worst-case effect of `relative_error` and `noise_floor`. It reflects how the choice of the
    correction moves the estimate, and has no confidence level.

    With `standard_error` the curve is noisy. The model log y = log C + α log n + a/n is fitted by
    weighted least squares, the weights taken from the fitted values, so that no point gains weight by
    its own noise. The asymptotic part is the longest stretch up to the last point on which χ² does not
    reject the model at the 5 % level, a further term in (log n)² is within two standard errors of 0,
    and |a|/n less two standard errors is at most 1/2. There α and C are fitted again with one more
    correction, b/n², so that a correction too small for the tests does not bias them; the interval is
    the normal one at `confidence`. A `noise_floor` is added in quadrature to the errors, and its
    worst-case effect to the interval.

    Args:
      n: `[N]` positive and all different, in any order.
      values: `[N]` finite y. Values that are not positive count as lost in the noise.
      standard_error: `[N]` or scalar, positive: that of each value, with independent normal errors.
        None for an exact curve.
      noise_floor: `[N]` or scalar >= 0: the size below which a value carries no information (rounding,
        or the bias of an estimate). The fit uses the longest run of values above 1000 times the floor
        if the curve is exact, and above 10 times the floor and 3 standard errors if it is noisy.
      exponent: fit C at this exponent instead of the fitted one, which is still reported.
      confidence: that of the intervals of a noisy curve, in (0, 1).
      min_points: the fewest points of the asymptotic part, an integer of at least 4.
      tolerance: the largest distance allowed between the exponent and an end of its interval.
      relative_error: a bound on the relative error of each value of an exact curve, in [0, 1).

    Returns:
      A `Rate`. `ok` is False, with the `reason`, if too few points are usable; if the slope does not
      settle, or no stretch, or none longer than a third of log n, is consistent with a power law; if
      the exponent is not determined to within `tolerance`; or if the given exponent is not the curve's
      (outside the interval if exact, 4 standard errors away if noisy).

    Raises:
      TypeError: a curve or an option that is not real numbers.
      ValueError: an argument of the wrong shape or value.

    Numerics: host code in float64; nothing is traced. The model is a power law with corrections in 1/n,
      and curves that cannot be told from one are fitted as one. An exact curve of few points with slower
      corrections may be accepted with an interval that misses: (1 + 8 n^-½ - 3 n^-1½)/n at n = 1, 2, 4,
      8, 16 gives -1.324 in [-1.324, -1.308]. A noisy curve that bends by less than its errors show is
      taken for a power law: log n up to n = 65536 is refused 9 times in 10 if the errors are 0.1 %, and
      has an exponent near 0.1 if they are 1 %.
    Source: derived here (Richardson extrapolation; weighted least squares).

    Example:
      >>> n = 2.0 ** np.arange(12)
      >>> rate = sb.rates.fit_rate(n, 3 / n * (1 + 5 / n))
      >>> round(rate.exponent, 3), round(rate.constant, 3), rate.ok
      (-1.0, 3.001, True)
      >>> sb.rates.fit_rate(n[1:], np.log(n[1:])).reason.split(":")[0]
      'the local slope does not settle'
    """
    n, values, standard_error, noise_floor = _checked_curve(n, values, standard_error, noise_floor)
    _check_options(exponent, confidence, min_points, tolerance, relative_error)
    try:
        used = _fits.usable(values, standard_error, noise_floor, min_points)
        n, values, noise_floor = n[used], values[used], noise_floor[used]
        if standard_error is None:
            log_error = relative_error + noise_floor / values
            fit = _fits.fit_exact(n, np.log(values), log_error, exponent, min_points)
        else:
            quantile = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
            error = standard_error[used]
            fit = _fits.fit_noisy(n, values, error, noise_floor, exponent, min_points, quantile)
        estimate, low, high = fit.exponent
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
    constant, constant_low, constant_high = (float(np.exp(x)) for x in fit.log_constant)
    ends = float(fit.n[0]), float(fit.n[-1])
    return Rate(*fit.exponent, constant, constant_low, constant_high, *ends, len(fit.n), True, "")


def _checked_curve(
    n: Any, values: Any, standard_error: Any, noise_floor: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """The curve as float64 arrays in increasing n."""
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
    return n[order], values[order], standard_error, noise_floor[order]


def _check_options(
    exponent: float | None,
    confidence: float,
    min_points: int,
    tolerance: float,
    relative_error: float,
) -> None:
    if exponent is not None:
        _checks.finite("exponent", _checks.number("exponent", exponent))
    _checks.inside_unit_interval("confidence", _checks.number("confidence", confidence))
    _checks.positive_integer("min_points", min_points, least=4)
    if not _checks.number("tolerance", tolerance) > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if not 0 <= _checks.number("relative_error", relative_error) < 1:
        raise ValueError(f"relative_error must be in [0, 1), got {relative_error}")
