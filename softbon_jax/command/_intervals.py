"""Means over prompts, and how far they may be off."""

from __future__ import annotations

import functools
import math

import numpy as np


def means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over prompts and its standard error.

    Args:
      values: `[prompts, ...]` estimates.

    Returns:
      The mean and its standard error, `[...]`; for a single prompt the error is NaN.

    Raises:
      IndexError: there are no prompts.

    Numerics: float64; the spread between prompts has divisor prompts - 1.
    Source: the standard error of a mean of independent prompts.

    Example:
      >>> from softbon_jax.command import report
      >>> mean, error = report.means(np.array([[1.0], [2.0], [3.0]]))
      >>> mean.tolist(), np.round(error, 4).tolist()
      ([2.0], [0.5774])
    """
    count = len(values)
    error = (
        values.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.full(values[0].shape, np.nan)
    )
    return values.mean(0), error


@functools.cache
def student(degrees: int) -> float:
    """The 97.5% quantile of Student's t: that many standard errors reach the ends of a 95% interval.

    Args:
      degrees: of freedom: the number of prompts less one.

    Returns:
      The quantile; NaN below one degree.

    Raises:
      Nothing.

    Numerics: relative error below 1e-6, by the trapezoidal rule.
    Source: with t = √degrees · tan a the density of the angle a is proportional to cos(a)^(degrees-1).

    Example:
      >>> from softbon_jax.command._intervals import student
      >>> round(student(19), 4), round(student(1_000_000), 4)
      (2.093, 1.96)
    """
    if degrees < 1:
        return math.nan
    angle = np.linspace(0.0, min(math.pi / 2, 12 / math.sqrt(degrees)), 20_001)
    density = np.cos(angle) ** (degrees - 1)
    total = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(float(np.interp(0.95 * total[-1], total, angle)))
