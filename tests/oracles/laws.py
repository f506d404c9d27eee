"""Soft and hard best-of-n in float64, by brute force and by a rule of quadrature."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from math import lgamma
from typing import Any

import numpy as np

Numbers = Sequence[Any] | np.ndarray
Selection = Callable[[np.ndarray, float], np.ndarray]


def weights(rewards: Numbers, temperature: float, where: Numbers | None = None) -> np.ndarray:
    """e^{(reward - best)/temperature} of the candidates that `where` keeps, 0 of the others.

    At temperature 0 it is 1 for the best, at inf for all; a reward of -inf excludes a candidate.
    """
    rewards = np.asarray(rewards, np.float64)
    if where is not None:
        rewards = np.where(where, rewards, -np.inf)
    if temperature == 0:
        return (rewards == rewards.max()).astype(np.float64)
    if temperature == np.inf:
        return np.isfinite(rewards).astype(np.float64)
    return np.exp((rewards - rewards.max()) / temperature)


def softmax(rewards: Numbers, temperature: float, where: Numbers | None = None) -> np.ndarray:
    """The probability that each of the candidates is selected: their `weights`, normalized."""
    w = weights(rewards, temperature, where)
    return w / w.sum()


def as_probs(log_probs: Numbers) -> np.ndarray:
    """[K] the probabilities, normalized."""
    probs = np.exp(np.asarray(log_probs, np.float64))
    return probs / probs.sum()


def tilted_law(log_probs: Numbers, rewards: Numbers, temperature: float) -> np.ndarray:
    """[K] P(x) e^{r(x)/temperature}, normalized; an outcome that cannot happen is not the best."""
    probs, rewards = as_probs(log_probs), np.asarray(rewards, np.float64)
    law = probs * weights(rewards, temperature, probs > 0)
    return law / law.sum()


def law_by_tuples(
    log_probs: Numbers,
    rewards: Numbers,
    n: int,
    temperature: float,
    selection: Selection = softmax,
) -> np.ndarray:
    """[K] law of the selected sample by going through all `K**n` tuples of candidates."""
    probs, rewards = as_probs(log_probs), np.asarray(rewards, np.float64)
    law = np.zeros_like(probs)
    for candidates in itertools.product(range(len(probs)), repeat=n):
        drawn = list(candidates)
        np.add.at(law, drawn, np.prod(probs[drawn]) * selection(rewards[drawn], temperature))
    return law


def counts_of(n: int, size: int) -> Iterator[tuple[int, ...]]:
    """All vectors of `size` counts >= 0 with sum n (stars and bars)."""
    for bars in itertools.combinations(range(n + size - 1), size - 1):
        edges = (-1, *bars, n + size - 1)
        yield tuple(b - a - 1 for a, b in itertools.pairwise(edges))


def law_by_counts(log_probs: Numbers, rewards: Numbers, n: int, temperature: float) -> np.ndarray:
    """[K] law of the selected sample by a sum over multinomial counts, weights in log space."""
    probs, rewards = as_probs(log_probs), np.asarray(rewards, np.float64)
    possible = np.flatnonzero(probs)
    log_p, r = np.log(probs[possible]), rewards[possible]
    law = np.zeros_like(probs)
    for counts in counts_of(n, len(possible)):
        c = np.asarray(counts, np.float64)
        log_weight = lgamma(n + 1) - sum(lgamma(k + 1) for k in counts) + float(c @ log_p)
        drawn = c > 0
        if temperature == 0:
            tilt = np.where(drawn & (r == r[drawn].max()), c, 0.0)
        else:
            tilt = c * np.exp(np.minimum(r - r[drawn].max(), 0.0) / temperature)
        law[possible] += np.exp(log_weight) * tilt / tilt.sum()
    return law


def hard_law(log_probs: Numbers, rewards: Numbers, n: float) -> np.ndarray:
    """[K] law of best-of-n: F(x)^n - F(x-)^n for each value of the reward, split as P splits it."""
    probs, rewards = as_probs(log_probs), np.asarray(rewards, np.float64)
    law = np.zeros_like(probs)
    for value in np.unique(rewards):
        tied = rewards == value
        below, mass = probs[rewards < value].sum(), probs[tied].sum()
        if mass > 0:
            law[tied] = ((below + mass) ** n - below**n) * probs[tied] / mass
    return law


def law_by_trapezoid(
    probs: Numbers, rewards: Numbers, n: float | Numbers, temperature: float
) -> np.ndarray:
    """[..., K] law of soft best-of-n for real n `[...]`: n P w ∫ e^{-tw} E[e^{-tw}]^{n-1} dt.

    The spread of w is below e^300.
    """
    n = np.asarray(n, np.float64)[..., None]
    return integrated(probs, rewards, temperature, lambda phi: n * phi ** (n - 1))


def integrated(
    probs: Numbers, rewards: Numbers, temperature: float, others: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """[..., K] P w ∫ e^{-tw} others(φ(t)) dt, φ(t) = E[e^{-tw}], by the trapezoid rule in log t.

    `others` maps φ `[T]` at all nodes to `[..., T]`.
    """
    p, r = np.asarray(probs, np.float64), np.asarray(rewards, np.float64)
    w = np.exp((r - r.max()) / temperature)
    log_t = np.linspace(-45, 5 - np.log(w.min()), 4001)
    decay = np.exp(-np.exp(log_t)[:, None] * w)
    rows = np.exp(log_t) * others(decay @ p)
    return p * w * (rows @ decay) * (log_t[1] - log_t[0])
