"""Means of a few scores that tie where they tie in exact arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DECIMALS = 12
"""Scores of at most so many digits behind the point are added as decimals."""


def mean_last(scores: np.ndarray) -> np.ndarray:
    """Means over the last axis, in float64: equal where the exact means are equal.

    Scores such as 0.1 are meant as decimals, so they are added as such, as integers in units of the last
    digit; where a row has no short decimals, the sum is that of the floats, rounded once.
    """
    flat = np.asarray(scores).reshape(-1, scores.shape[-1])
    count = flat.shape[-1]
    total, divisor = np.zeros(len(flat)), np.ones(len(flat))
    left = np.arange(len(flat))
    for digits in range(DECIMALS + 1):
        rows = np.asarray(flat[left], np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(rows * 10.0**digits)
            same = (whole / 10.0**digits).astype(flat.dtype) == flat[left]
            fits = np.all(same & (np.abs(whole) < 2**53 / count), axis=1)
        total[left[fits]], divisor[left[fits]] = whole[fits].sum(1), 10.0**digits * count
        left = left[~fits]
    if left.size:
        total[left] = [_mean(row) for row in np.asarray(flat[left], np.float64).tolist()]
    return (total / divisor).reshape(scores.shape[:-1])


def _mean(row: list[Any]) -> float:
    """The mean of a sum that is rounded once; infinite or NaN as IEEE arithmetic has it."""
    try:
        return math.fsum(row) / len(row)
    except OverflowError:
        return math.fsum(x / len(row) for x in row)
    except ValueError:  # infinities of both signs
        return math.nan
