"""Pools of scored candidates: means over all subsets, divergences of the empirical law."""

import itertools
from fractions import Fraction

import numpy as np
from scipy.special import rel_entr

from .laws import Numbers, hard_law, law_by_counts, softmax, tilted_law


def mean_over_subsets(rewards: Numbers, values: Numbers, n: int, temperature: float) -> float:
    """The mean, over all subsets of n candidates one by one, of what is selected from it."""
    rewards, values = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    subsets = [list(x) for x in itertools.combinations(range(rewards.size), n)]
    return np.mean([softmax(rewards[x], temperature) @ values[x] for x in subsets])


def empirical_divergences(rewards: Numbers, n: int, temperature: float) -> dict[str, float]:
    """Divergences of the law P that the pool is, tied candidates being one outcome."""
    outcomes, counts = np.unique(rewards, return_counts=True)
    probs = counts / counts.sum()
    if temperature == 0:
        law = hard_law(np.log(probs), outcomes, n)
    else:
        law = law_by_counts(np.log(probs), outcomes, n, temperature)
    tilted = tilted_law(np.log(probs), outcomes, temperature)
    return {
        "kl_soft_base": rel_entr(law, probs).sum(),
        "kl_tilted_soft": rel_entr(tilted, law).sum(),
        "kl_tilted_base": rel_entr(tilted, probs).sum(),
    }


def jackknifed_divergences(rewards: Numbers, n: int, temperature: float) -> dict[str, float]:
    """The same, N times that of all candidates less N - 1 times the mean of those without one."""
    rewards = np.asarray(rewards, np.float64)
    size, whole = rewards.size, empirical_divergences(rewards, n, temperature)
    less = [empirical_divergences(np.delete(rewards, i), n, temperature) for i in range(size)]
    return {k: size * x - (size - 1) * np.mean([y[k] for y in less]) for k, x in whole.items()}


def all_jackknifed_divergences(
    rewards: Numbers, n: int, temperature: float
) -> dict[str, tuple[float, float]]:
    """The plug-in and the jackknife with no outcome left out or merged, for hundreds of candidates.

    Each of the N laws without a candidate is the trapezoid sum over log t for λ > 0.
    """
    a = np.sort(np.asarray(rewards, np.float64))[::-1] / temperature
    a -= a[0]
    size, step = a.size, 0.25
    t = np.exp(np.arange(-42.0, 4.0 - a[-1], step))[:, None]
    z = t * np.exp(a)
    decay = np.exp(-z)
    total, density = decay.sum(1), step * z * decay

    def sums(law: np.ndarray, tilted: np.ndarray) -> np.ndarray:
        terms = [rel_entr(law, 1), rel_entr(tilted, law) - tilted + law, rel_entr(tilted, 1)]
        return np.array([x.mean() for x in terms])

    def without(i: int) -> np.ndarray:
        rest = np.delete(a, i)
        tilted = np.exp(rest - rest[0]) / np.exp(rest - rest[0]).mean()
        phi = np.delete(decay, i, 1).sum(1) / (size - 1)
        return sums(n * phi ** (n - 1) @ np.delete(density, i, 1), tilted)

    whole = sums(n * (total / size) ** (n - 1) @ density, np.exp(a) / np.exp(a).mean())
    less = sum(without(i) - whole for i in range(size)) / size
    jackknifed = whole - (size - 1) * less
    names = ("kl_soft_base", "kl_tilted_soft", "kl_tilted_base")
    return dict(zip(names, zip(whole, jackknifed, strict=True), strict=True))


def credits_over_subsets(
    rewards: Numbers, values: Numbers, n: int, temperature: float, baseline: bool
) -> np.ndarray:
    """The mean of T(S) 1{i in S}, less n/N times the mean of T over n - 1 of the others."""
    rewards, values = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    size, out = rewards.size, []
    subsets = [list(x) for x in itertools.combinations(range(size), n)]
    selected = [softmax(rewards[x], temperature) @ values[x] for x in subsets]
    for i in range(size):
        credit = sum(t for x, t in zip(subsets, selected, strict=True) if i in x) / len(subsets)
        if baseline and n > 1:
            rest = (np.delete(x, i) for x in (rewards, values))
            credit -= n / size * mean_over_subsets(*rest, n - 1, temperature)
        out.append(credit)
    return np.array(out)


def policy_gradient(
    probs: Numbers, rewards: Numbers, values: Numbers, n: int, temperature: float
) -> np.ndarray:
    """The derivative of the mean value of soft best-of-n by the logits of a policy, over all tuples."""
    probs, rewards, values = (np.asarray(x, np.float64) for x in (probs, rewards, values))
    total = np.zeros(probs.size)
    for drawn in itertools.product(range(probs.size), repeat=n):
        drawn = list(drawn)
        score = np.bincount(drawn, minlength=probs.size) - n * probs
        selected = softmax(rewards[drawn], temperature) @ values[drawn]
        total += np.prod(probs[drawn]) * selected * score
    return total


def win_rate_over_subsets(
    rewards: Numbers, n: int, temperature: float, opponents: int = 1
) -> float:
    """The chance to be above all of m others, over disjoint subsets of n and m.

    What ties with k of the m is above them with chance 1/(k + 1).
    """
    rewards = np.asarray(rewards, np.float64)
    found = []
    for chosen in itertools.combinations(range(rewards.size), n):
        law = softmax(rewards[list(chosen)], temperature)
        rest = [j for j in range(rewards.size) if j not in chosen]
        for others in itertools.combinations(rest, opponents):
            best = rewards[list(others)].max()
            ties = (rewards[list(others)] == best).sum()
            own = rewards[list(chosen)]
            found.append(law @ np.where(own > best, 1.0, np.where(own == best, 1 / (1 + ties), 0)))
    return np.mean(found)


def votes_over_subsets(answers: Numbers, n: int, num_classes: int) -> np.ndarray:
    """How often each answer has the most votes in a subset of n, ties sharing equally."""
    found = []
    for subset in itertools.combinations(answers, n):
        counts = np.bincount(subset, minlength=num_classes)
        most = counts == counts.max()
        found.append(most / most.sum())
    return np.mean(found, axis=0)


def weighted_votes_over_subsets(
    answers: Numbers, weights: Numbers, n: int, num_classes: int, combine: str = "sum"
) -> np.ndarray:
    """How often each answer in a subset of n has most of integer weights, shared if tied.

    Most by the sum over its candidates in the subset, or by their mean.
    """
    found = []
    for chosen in itertools.combinations(range(len(answers)), n):
        given: list[list[int]] = [[] for _ in range(num_classes)]
        for i in chosen:
            given[answers[i]].append(int(weights[i]))
        count = len if combine == "mean" else lambda own: 1
        totals = [Fraction(sum(own), count(own)) if own else Fraction(-1) for own in given]
        most = np.array([x == max(totals) for x in totals])
        found.append(most / most.sum())
    return np.mean(found, axis=0)
