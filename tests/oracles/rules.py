"""Laws of the other selection rules: the uniform race, best of a Poisson number, rejection, several."""

import itertools
from typing import Literal

import numpy as np
from mpmath import mp, mpf

from .laws import Numbers, as_probs, hard_law, integrated, softmax, weights


def race_selection(rewards: Numbers, temperature: float) -> np.ndarray:
    """Pr(each candidate has the largest w/U), w = e^{reward/temperature}, U uniform on (0, 1).

    With w = 1 for the best, the smallest U/w is below 1. Candidate i has it at s with density w_i
    times the chance Π (1 - w_j s) that the others are above: a polynomial of s in (0, 1), which
    Gauss-Legendre integrates exactly.
    """
    w = weights(rewards, temperature)
    nodes, of_nodes = np.polynomial.legendre.leggauss(w.size // 2 + 1)
    above = 1 - w[:, None] * (1 + nodes) / 2
    others = [np.prod(np.delete(above, i, axis=0), axis=0) for i in range(w.size)]
    return w * (np.array(others) @ of_nodes) / 2


def uniform_race_law(
    probs: Numbers, rewards: Numbers, n: float, temperature: float, digits: int = 60
) -> np.ndarray:
    """[K] law of the largest w/U over n draws, for real n: n P w ∫ F(s)^{n-1} ds on (0, 1/w).

    F(s) = Σ P (1 - w s)+ is the chance that one draw has U/w above s. It is linear between the cuts
    1/w, so that every piece of the integral is a difference of n-th powers; in mpmath, for their
    cancellation.
    """
    log_probs = [mp.log(mpf(x)) if x else -mp.inf for x in probs]
    if temperature == 0:
        return hard_law(np.array(log_probs, np.float64), rewards, n)
    if temperature == np.inf:
        return as_probs(np.array(log_probs, np.float64))
    with mp.workdps(digits):
        total = mp.fsum(mpf(x) for x in probs)
        p = [mpf(x) / total for x in probs]
        top = max(r for r, x in zip(rewards, p, strict=True) if x > 0)
        w = [mp.exp((mpf(r) - mpf(top)) / mpf(temperature)) for r in rewards]
        cuts = sorted({1 / b for a, b in zip(p, w, strict=True) if a > 0})
        pieces, f_left = [], mpf(1)
        for right in cuts:
            alive = [(a, b) for a, b in zip(p, w, strict=True) if a > 0 and 1 / b >= right]
            f_right = mp.fsum(a * (1 - b * right) for a, b in alive)
            slope = mp.fsum(a * b for a, b in alive)
            pieces.append((right, (f_left ** mpf(n) - f_right ** mpf(n)) / slope))
            f_left = f_right
        law = [
            a * b * mp.fsum(piece for right, piece in pieces if right <= 1 / b) if a > 0 else 0
            for a, b in zip(p, w, strict=True)
        ]
        return np.array(law, np.float64)


def poisson_law(
    probs: Numbers, rewards: Numbers, mean_extra: float, temperature: float
) -> np.ndarray:
    """[K] law of soft best-of-N, N = 1 + Poisson(mean_extra): E[N φ^{N-1}] = (1 + νφ) e^{-ν(1-φ)}."""
    return integrated(
        probs,
        rewards,
        temperature,
        lambda phi: (1 + mean_extra * phi) * np.exp(-mean_extra * (1 - phi)),
    )


def rejection_law_by_tuples(
    probs: Numbers, rewards: Numbers, n: int, temperature: float, fallback: Literal["any", "best"]
) -> np.ndarray:
    """[K] law of the first of n draws accepted with probability e^{(r - max r)/temperature}.

    Else any of the rejected draws, or the best of them, ties equal. Through all `K**n` tuples.
    """
    p, r = np.asarray(probs, np.float64), np.asarray(rewards, np.float64)
    w = weights(r, temperature, p > 0)
    law = np.zeros_like(p)
    for candidates in itertools.product(np.flatnonzero(p), repeat=n):
        drawn = list(candidates)
        chance = np.prod(p[drawn])
        for x in drawn:
            law[x] += chance * w[x]
            chance *= 1 - w[x]
        np.add.at(law, drawn, chance * softmax(r[drawn], 0 if fallback == "best" else np.inf))
    return law


def plackett_luce(rewards: Numbers, temperature: float, k: int) -> dict[tuple[int, ...], float]:
    """The probability of every (i_1, .., i_k) that is selected one after the other from what is left."""
    law = {(): 1.0}
    for _ in range(k):
        longer = {}
        for chosen, probability in law.items():
            left = ~np.isin(np.arange(len(rewards)), chosen)
            for i, p in enumerate(softmax(rewards, temperature, left)):
                if p > 0:
                    longer[(*chosen, i)] = probability * p
        law = longer
    return law


def exact_race_law(
    log_probs: Numbers, rewards: Numbers, n: float, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] law of the race in its closed form, to `digits` digits; rewards rising, all P > 0.

    F(v) = Σ P (1 - w/v)+ at the scores v = w of the outcomes, and at inf.
    """
    with mp.workdps(digits):
        p = [mp.exp(mpf(float(x))) for x in log_probs]
        p = [x / mp.fsum(p) for x in p]
        w = [mp.exp((mpf(float(r)) - mpf(float(rewards[-1]))) / mpf(temperature)) for r in rewards]
        cdf = [mp.fsum(a * (1 - b / v) for a, b in zip(p, w, strict=True) if b < v) for v in w]
        cdf.append(mpf(1))
        running = [mp.fdot(p[: j + 1], w[: j + 1]) for j in range(len(p))]
        pieces = [(cdf[j + 1] ** mpf(n) - cdf[j] ** mpf(n)) / running[j] for j in range(len(p))]
        return [a * b * mp.fsum(pieces[k:]) for k, (a, b) in enumerate(zip(p, w, strict=True))]


def hedging_uniform_density(rule: str, u: float, x: float) -> float:
    """The density at u of the selected reward, rewards uniform on [0, 1]; x is n, ν or 1/λ."""
    if rule == "hard":
        return x * u ** (x - 1)
    if rule == "poisson":
        return (1 + x * u) * np.exp(-x * (1 - u))
    if rule == "tilted":
        return x * np.exp(-x * (1 - u)) / -np.expm1(-x)
    raise ValueError(rule)
