"""The law of a sum of independent rewards, in NumPy: by convolution on a lattice, otherwise by types.

Probabilities are kept as logarithms between steps, and every sum is of non-negative terms, so that a
probability of e^{-thousands} has the same relative accuracy as the likeliest one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from softbon_jax import _memory

MAX_ATOMS = 2**16
"""The most distinct totals that a block may have."""

_LEVEL = 300.0  # nats; products of numbers within e^300 of the largest stay in the float range


class Law(NamedTuple):
    """A law on finitely many values: `[S]` values, rising strictly, and finite log-probabilities."""

    values: np.ndarray
    log_probs: np.ndarray


class TooManyAtomsError(ValueError):
    """The total takes more than `MAX_ATOMS` values, or may."""


def of_sum(parts: Sequence[tuple[Law, int]], epsilon: float) -> Law:
    """The law of the sum of `count` independent values of each law.

    Values are assumed accurate to `epsilon` relative to the largest; totals closer than that are
    merged.

    Raises:
      TooManyAtomsError: with the reason; the caller says what to do about it.
    """
    scale = max(float(np.abs(law.values).max()) for law, _ in parts)
    span = sum(count * float(np.ptp(law.values)) for law, count in parts)
    steps = np.concatenate([law.values - law.values[0] for law, _ in parts])
    step = common_step(steps, 4 * epsilon * scale, span / MAX_ATOMS)
    if step is None:
        return _by_types(parts, 4 * epsilon * scale * sum(count for _, count in parts))
    log_probs = np.zeros(1)
    for law, count in parts:
        index = np.rint((law.values - law.values[0]) / step).astype(int)
        on_lattice = np.full(index[-1] + 1, -np.inf)
        on_lattice[index] = law.log_probs
        log_probs = log_convolve(log_probs, _log_power(on_lattice, count))
    lowest = math.fsum(count * float(law.values[0]) for law, count in parts)
    return _possible(lowest + step * np.arange(log_probs.size), log_probs)


def common_step(differences: np.ndarray, error: float, least: float) -> float | None:
    """The largest step of which all `differences` (>= 0) are multiples, to within `error`.

    None if there is none above `least`; 1 if all differences are 0. Euclid's algorithm, with
    remainders below half of `least` taken as 0, and a check at the end.
    """
    step = 0.0
    for difference in np.unique(differences):
        larger, smaller = float(difference), step
        while smaller > least / 2:
            larger, smaller = smaller, abs(larger - smaller * round(larger / smaller))
        step = larger
    if step == 0:
        return 1.0
    multiples = np.rint(differences / step)
    step = float(multiples @ differences / (multiples @ multiples))
    fits = np.abs(differences - multiples * step) <= error
    return step if step > least and fits.all() else None


def log_convolve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The logarithm of the convolution of e^a and e^b, every entry relatively accurate.

    The entries of each are split by size into levels of e^300, so that plain convolution of two
    levels neither overflows nor loses a term.
    """
    total = np.full(a.size + b.size - 1, -np.inf)
    for (i, x, log_x), (j, y, log_y) in itertools.product(_levels(a), _levels(b)):
        with np.errstate(divide="ignore"):
            part = np.log(np.convolve(x, y)) + (log_x + log_y)
        where = total[i + j : i + j + part.size]
        np.logaddexp(where, part, out=where)
    return total


def _levels(log_x: np.ndarray) -> Iterator[tuple[int, np.ndarray, float]]:
    """Pieces (first index, entries divided by e^scale, scale), whose sum is e^log_x."""
    top = log_x.max()
    level = np.floor((top - log_x) / _LEVEL)
    for k in np.unique(level[np.isfinite(level)]):
        (index,) = np.nonzero(level == k)
        first, stop = index[0], index[-1] + 1
        scale = float(top - k * _LEVEL)
        piece = np.where(level[first:stop] == k, log_x[first:stop] - scale, -np.inf)
        yield int(first), np.exp(piece), scale


def _log_power(log_x: np.ndarray, count: int) -> np.ndarray:
    """`log_x` convolved with itself, `count` factors, by repeated squaring."""
    power = np.zeros(1)
    for bit in f"{count:b}":
        power = log_convolve(power, power)
        if bit == "1":
            power = log_convolve(power, log_x)
    return power


def _by_types(parts: Sequence[tuple[Law, int]], error: float) -> Law:
    """The same without a lattice: a sum over how often each value occurs."""
    total = Law(np.zeros(1), np.zeros(1))
    for law, count in parts:
        size = law.values.size
        types = math.comb(count + size - 1, size - 1)
        if types * total.values.size > 64 * MAX_ATOMS:
            raise TooManyAtomsError(f"they can be drawn in {types:,} different proportions")
        _memory.check(8 * types * (4 * size + 6 * total.values.size))
        counts = _compositions(count, size)
        log_factorials = np.array([math.lgamma(k + 1) for k in range(count + 1)])
        log_probs = log_factorials[count] - log_factorials[counts].sum(1) + counts @ law.log_probs
        values = total.values[:, None] + counts @ law.values
        log_probs = total.log_probs[:, None] + log_probs
        total = _merged(values.ravel(), log_probs.ravel(), error)
        if total.values.size > MAX_ATOMS:
            raise TooManyAtomsError(f"their total takes {total.values.size:,} values")
    return total


def _compositions(total: int, size: int) -> np.ndarray:
    """All vectors of `size` counts >= 0 that sum to `total`, `[T, size]` (stars and bars)."""
    bars = itertools.combinations(range(total + size - 1), size - 1)
    rows = math.comb(total + size - 1, size - 1)
    flat = np.fromiter(itertools.chain.from_iterable(bars), int, count=rows * (size - 1))
    flat = flat.reshape(rows, size - 1)
    return np.diff(flat, axis=1, prepend=-1, append=total + size - 1) - 1


def _merged(values: np.ndarray, log_probs: np.ndarray, error: float) -> Law:
    """The law with values closer than `error` merged."""
    order = np.argsort(values, kind="stable")
    values, log_probs = values[order], log_probs[order]
    first = np.flatnonzero(np.diff(values, prepend=-np.inf) > error)
    return Law(values[first], np.logaddexp.reduceat(log_probs, first))


def _possible(values: np.ndarray, log_probs: np.ndarray) -> Law:
    """The law without the values of probability 0."""
    possible = log_probs > -np.inf
    return Law(values[possible], log_probs[possible])


def of_outcomes(log_probs: np.ndarray, rewards: np.ndarray) -> Law:
    """The law of the reward of one outcome, normalized; equal rewards are merged."""
    possible = log_probs > -np.inf
    law = _merged(rewards[possible], log_probs[possible], 0.0)
    return Law(law.values, law.log_probs - np.logaddexp.reduce(law.log_probs))
