"""Sequences of independent symbols, all of them one by one."""

import itertools
from math import fsum, prod

import numpy as np

from .laws import Numbers


def law_of_totals(*symbols: tuple[Numbers, Numbers]) -> tuple[np.ndarray, np.ndarray]:
    """(log-probabilities, distinct totals, increasing) of the sum of symbols (probs, rewards).

    Totals that agree to 14 decimals are one.
    """
    probs, totals = [], []
    for sequence in itertools.product(*(range(len(p)) for p, _ in symbols)):
        drawn = [(p[i], r[i]) for (p, r), i in zip(symbols, sequence, strict=True)]
        probs.append(prod(p for p, _ in drawn))
        totals.append(round(fsum(r for _, r in drawn), 14))
    values, group = np.unique(totals, return_inverse=True)
    return np.log(np.bincount(group, probs)), values
