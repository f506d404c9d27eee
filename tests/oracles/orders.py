"""Rényi and f-divergences, quantiles and tail means of laws, from their definitions in mpmath."""

from fractions import Fraction

from mpmath import mp, mpf


def renyi(q, p, order):
    """D_α(q‖p) of two laws."""
    pairs = [(mpf(a), mpf(b)) for a, b in zip(q, p, strict=True)]
    if any(a > 0 and b == 0 for a, b in pairs) and order >= 1:
        return mp.inf
    common = [(a, b) for a, b in pairs if a > 0 and b > 0]
    if order == 0:
        return -mp.log(mp.fsum(b for _, b in common))
    if order == 1:
        return mp.fsum(a * mp.log(a / b) for a, b in common)
    if order == mp.inf:
        return max(mp.log(a / b) for a, b in common)
    order = mpf(order)
    return mp.log(mp.fsum(a**order * b ** (1 - order) for a, b in common)) / (order - 1)


def f_divergence(q, p, f):
    """Σ p f(q/p) of two laws with one support."""
    return mp.fsum(mpf(b) * f(mpf(a) / mpf(b)) for a, b in zip(q, p, strict=True) if mpf(b) > 0)


def ascending(law, rewards):
    """(probability, reward) of what is possible, as exact fractions, by reward."""
    pairs = [(Fraction(p), Fraction(r)) for p, r in zip(law, rewards, strict=True) if p > 0]
    return sorted(pairs, key=lambda pair: pair[1])


def quantile(law, rewards, level):
    """The least reward at which the distribution function reaches the level."""
    total = Fraction(0)
    for p, r in ascending(law, rewards):
        total += p
        if total >= Fraction(level):
            return r
    return r


def cvar(law, rewards, level):
    """The mean of the worst part of the probability, of size `level`."""
    left, total = Fraction(level), Fraction(0)
    pairs = ascending(law, rewards)
    if not left:
        return pairs[0][1]
    for p, r in pairs:
        total += min(left, p) * r
        left -= min(left, p)
    return total / Fraction(level)
