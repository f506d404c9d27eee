"""The law of soft best-of-n for real n to any number of digits, in mpmath.

Adaptive Gauss-Legendre quadrature of the integral over t (`exact_law`), and every vector of
multinomial counts (`exact_law_by_counts`).
"""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, factorial
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf

from .laws import counts_of

RELATIVE_DIGITS = 50  # every P_n(x), however small, is computed to so many digits of its own

Numbers = Sequence[Any] | np.ndarray


# Problems ----------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """Outcomes of positive probability as exact numbers, and groups of equal reward."""

    kept: list[int]  # positions in the arguments
    p: list[mpf]  # normalized
    r: list[mpf]
    group: list[int]  # of each outcome
    group_p: list[mpf]
    group_r: list[mpf]  # increasing


def problem_of(logits: Numbers, rewards: Numbers) -> Problem:
    kept = [i for i, logit in enumerate(logits) if mpf(logit) != -mp.inf]
    top = max(mpf(logits[i]) for i in kept)
    p = [mp.exp(mpf(logits[i]) - top) for i in kept]
    total = mp.fsum(p)
    p = [x / total for x in p]
    r = [mpf(rewards[i]) for i in kept]
    group_r = sorted(set(r))
    group = [group_r.index(x) for x in r]
    group_p = [mpf(0)] * len(group_r)
    for x, k in zip(p, group, strict=True):
        group_p[k] += x
    return Problem(kept, p, r, group, group_p, group_r)


def tilted_of(problem: Problem, temperature: mpf) -> list[mpf]:
    """P* on the kept outcomes; at temperature 0, P conditioned on the highest reward."""
    top, pairs = problem.group_r[-1], list(zip(problem.p, problem.r, strict=True))
    if temperature == mp.inf or len(problem.group_r) == 1:
        return problem.p
    if temperature == 0:
        weights = [x if r == top else mpf(0) for x, r in pairs]
    else:
        weights = [x * mp.exp((r - top) / temperature) for x, r in pairs]
    total = mp.fsum(weights)
    return [x / total for x in weights]


# The integral ------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _gauss_legendre(count: int, dps: int) -> list[tuple[mpf, mpf]]:
    """Nodes and weights on [-1, 1], `count` even: NumPy's nodes, polished by Newton's iteration."""
    nodes = []
    for start in np.polynomial.legendre.leggauss(count)[0][count // 2 :]:
        x, right = mpf(float(start)), 12  # digits of x so far
        while True:
            with mp.workdps(min(2 * right, dps) + 10):
                before, value = mpf(1), x
                for k in range(2, count + 1):
                    before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
                slope = count * (before - x * value) / (1 - x * x)
                if right > dps:
                    weight = 2 / ((1 - x * x) * slope**2)
                    break
                x -= value / slope
                right = 2 * right - 2 if 2 * right < dps + 5 else dps + 1
        nodes += [(x, weight), (-x, weight)]
    return nodes


def _node_count(digits: float) -> int:
    """Enough nodes for so many digits on a unit interval of u, rounded up to 2^k or 3 * 2^k."""
    wanted = 0.7 * digits + 6
    return min(c for k in range(2, 15) for c in (2 * 2**k, 3 * 2**k) if c >= wanted)


def _soft_ratio(
    p: list[mpf], log_w: list[mpf], n: mpf, digits: int, shift: float = 0.0
) -> list[mpf]:
    """P_n / P* of each reward group: n mu integral of exp(-t w) phi(t)^(n-1) over t > 0.

    P_n(x) comes out with an error below `10**-digits` and below `10**-RELATIVE_DIGITS` of itself.
    The axis is cut into [0, t0] and intervals of length 1 in u = log t; those that cannot matter
    are left out (the log of the integrand has a slope in u of at most 1, so its value at the left
    end bounds it); on the others Gauss-Legendre on the whole is compared with the two halves, and
    halved until they agree. `shift` moves every cut to the left.
    """
    log_p = np.array([float(mp.log(x)) for x in p])
    s = np.array([float(x) for x in log_w])
    last = float(n - 1)
    u0 = -np.log1p(last * np.exp(log_p + s).sum()) - shift
    end = -s.min() + np.log(3.0 * (digits + RELATIVE_DIGITS) + 100.0)
    edges = u0 + np.arange(max(ceil(end - u0), 1))

    # log of the integrand (in u) at the left edges, in float64: [edges, groups]
    tw = np.exp(np.minimum(edges[:, None] + s, 700.0))
    exponent = log_p - tw
    peak = exponent.max(axis=1, keepdims=True)
    log_phi = peak[:, 0] + np.log(np.exp(exponent - peak).sum(axis=1))
    small = tw.max(axis=1) < 1
    log_phi[small] = np.log1p((np.exp(log_p) * np.expm1(-tw[small])).sum(axis=1))
    height = edges[:, None] - tw + last * log_phi[:, None]
    peak = height.max(axis=0)

    log10_law = (log_p + s + float(mp.log(n)) + peak) / np.log(10)  # of P_n, roughly
    wanted = np.maximum(digits + log10_law, RELATIVE_DIGITS) + 3
    spare = (wanted + (height + 1 - peak) / np.log(10)).max(axis=1) + np.log10(len(edges))
    dps = 20 * ceil((wanted.max() + np.log10(float(n) * (1 - s.min())) + 10) / 20)

    with mp.workdps(dps):
        w = [mp.exp(x) for x in log_w]
        lowest = min(w)
        negligible, tiny = mpf(2.4 * dps - log_p.min()), mpf(10) ** -dps
        allowed = [mp.exp(mpf(h)) / mpf(10) ** int(d) for h, d in zip(peak, wanted, strict=True)]

        def piece(left: mpf, right: mpf, count: int, in_log: bool) -> list[mpf]:
            middle, half = (left + right) / 2, (right - left) / 2
            sums = [mpf(0)] * len(w)
            for node, weight in _gauss_legendre(count, dps):
                t = middle + half * node
                scale = half * weight
                if in_log:
                    t = mp.exp(t)
                    scale *= t
                e = []
                for x in w:
                    tx = t * x
                    if tx < tiny:
                        e.append(1 - tx)
                    else:
                        e.append(mp.exp(-tx) if tx - t * lowest < negligible else mpf(0))
                scale *= mp.exp((n - 1) * mp.log(mp.fdot(p, e)))
                sums = [a + scale * b for a, b in zip(sums, e, strict=True)]
            return sums

        def integral(
            left: mpf, right: mpf, count: int, in_log: bool, whole: list[mpf]
        ) -> list[mpf]:
            middle = (left + right) / 2
            first = piece(left, middle, count, in_log)
            second = piece(middle, right, count, in_log)
            halves = [a + b for a, b in zip(first, second, strict=True)]
            if all(abs(a - b) <= c for a, b, c in zip(whole, halves, allowed, strict=True)):
                return halves
            first = integral(left, middle, count, in_log, first)
            second = integral(middle, right, count, in_log, second)
            return [a + b for a, b in zip(first, second, strict=True)]

        parts = [(mpf(0), mp.exp(mpf(u0)), wanted.max(), False)]
        for k, needed in enumerate(spare):
            if needed > 0:
                parts.append((mpf(u0) + k, mpf(u0) + k + 1, needed, True))
        total = [mpf(0)] * len(w)
        for left, right, needed, in_log in parts:
            count = _node_count(needed)
            result = integral(left, right, count, in_log, piece(left, right, count, in_log))
            total = [a + b for a, b in zip(total, result, strict=True)]
        mu = mp.fdot(p, w)
        ratio = [n * mu * x for x in total]
        mass = mp.fsum(a * b * c / mu for a, b, c in zip(p, w, ratio, strict=True))
        error = mpf(10) ** -min(digits, int(wanted.max()) - 2)
        if abs(mass - 1) > error:
            raise ArithmeticError(f"the law sums to 1 + {mp.nstr(mass - 1, 5)}, not to 1")
        return ratio


def law_of(
    problem: Problem, n: mpf, temperature: mpf, digits: int, shift: float = 0.0
) -> list[mpf]:
    """P_n on the kept outcomes."""
    if n == 1 or temperature == mp.inf or len(problem.group_r) == 1:
        return problem.p
    if temperature == 0:
        cdf = [mp.fsum(problem.group_p[: k + 1]) for k in range(len(problem.group_p))]
        cdf = [mpf(0), *cdf[:-1], mpf(1)]
        ratio = [
            (b**n - a**n) / mass
            for a, b, mass in zip(cdf[:-1], cdf[1:], problem.group_p, strict=True)
        ]
        return [x * ratio[g] for x, g in zip(problem.p, problem.group, strict=True)]
    top = problem.group_r[-1]
    log_w = [(r - top) / temperature for r in problem.group_r]
    ratio = _soft_ratio(problem.group_p, log_w, n, digits, shift)
    tilted = tilted_of(problem, temperature)
    return [x * ratio[g] for x, g in zip(tilted, problem.group, strict=True)]


def working_digits(problem: Problem, n: mpf, temperature: mpf, digits: int) -> int:
    spread = problem.group_r[-1] - problem.group_r[0]
    wide = spread / temperature if temperature > 0 else mpf(0)
    return int(digits + 30 + mp.log10(1 + wide) + mp.log10(n))


def scatter(problem: Problem, values: list[mpf], size: int, elsewhere: mpf) -> list[mpf]:
    out = [elsewhere] * size
    for position, value in zip(problem.kept, values, strict=True):
        out[position] = value
    return out


def exact_tilted(
    log_probs: Numbers, rewards: Numbers, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] the tilted law P*, to `digits` digits of each entry."""
    with mp.workdps(digits + 20):
        problem = problem_of(log_probs, rewards)
        return scatter(problem, tilted_of(problem, mpf(temperature)), len(log_probs), mpf(0))


def exact_law(
    log_probs: Numbers, rewards: Numbers, n: float, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] law of the selected sample for real n, to `digits` digits and to 50 of each entry."""
    with mp.workdps(digits + 30):
        problem = problem_of(log_probs, rewards)
        law = law_of(problem, mpf(n), mpf(temperature), digits)
        return scatter(problem, law, len(log_probs), mpf(0))


def exact_law_by_counts(
    log_probs: Numbers, rewards: Numbers, n: int, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] the same law for integer n and 0 < temperature < inf by a sum over multinomial counts."""
    with mp.workdps(digits + 20):
        problem = problem_of(log_probs, rewards)
        top, size = problem.group_r[-1], len(problem.p)
        w = [mp.exp((r - top) / mpf(temperature)) for r in problem.r]
        law = [mpf(0)] * size
        for counts in counts_of(n, size):
            probability = mpf(factorial(n))
            for count, x in zip(counts, problem.p, strict=True):
                probability *= x**count / factorial(count)
            total = mp.fdot(counts, w)
            law = [a + probability * c * b / total for a, c, b in zip(law, counts, w, strict=True)]
        return scatter(problem, law, len(log_probs), mpf(0))
