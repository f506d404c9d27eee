"""Soft selection among a random number of draws, and among those up to a threshold, in mpmath.

Through every vector of counts of what was drawn (`random_n_law`, `stopped_law`), and for a number
without a largest value by the integral over t, a trapezoid rule at two spacings that must agree
(`law_by_integral`).
"""

from collections.abc import Callable
from math import factorial, prod

from mpmath import mp, mpf

from .laws import Numbers, counts_of
from .precise import Problem, problem_of, scatter


def _selected(problem: Problem, counts: list[int], temperature: float) -> list[mpf]:
    """The chance of each kept outcome to be selected, when so many of each were drawn."""
    top = max(r for r, c in zip(problem.r, counts, strict=True) if c)
    if temperature == 0:
        weights = [mpf(c * (r == top)) for r, c in zip(problem.r, counts, strict=True)]
    else:
        shift = [(r - top) / mpf(temperature) for r in problem.r]
        weights = [c * mp.exp(x) for x, c in zip(shift, counts, strict=True)]
    total = mp.fsum(weights)
    return [x / total for x in weights]


def _chance(p: list[mpf], counts: list[int]) -> mpf:
    """The multinomial probability of counts, for p that need not sum to 1."""
    ways = factorial(sum(counts)) // prod(factorial(c) for c in counts)
    return ways * mp.fprod(x**c for x, c in zip(p, counts, strict=True))


def random_n_law(
    log_probs: Numbers, rewards: Numbers, pmf: Numbers, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] law of soft best-of-N, N = k + 1 with probability pmf[k], a short list."""
    with mp.workdps(digits):
        problem = problem_of(log_probs, rewards)
        law, total = [mpf(0)] * len(problem.p), mp.fsum(mpf(x) for x in pmf)
        for k, weight in enumerate(pmf):
            if weight:
                for counts in counts_of(k + 1, len(law)):
                    chance = mpf(weight) / total * _chance(problem.p, list(counts))
                    chosen = _selected(problem, list(counts), temperature)
                    law = [x + chance * y for x, y in zip(law, chosen, strict=True)]
        return scatter(problem, law, len(log_probs), mpf(0))


def stopped_law(
    log_probs: Numbers,
    rewards: Numbers,
    threshold: float,
    n: int,
    temperature: float,
    digits: int = 60,
) -> list[mpf]:
    """[K] law of soft selection among draws up to the first of reward >= threshold, n at most."""
    with mp.workdps(digits):
        problem = problem_of(log_probs, rewards)
        size = len(problem.p)
        low = [i for i in range(size) if problem.r[i] < threshold]
        law = [mpf(0)] * size

        def add(chance: mpf, counts: list[int]) -> None:
            for i, x in enumerate(_selected(problem, counts, temperature)):
                law[i] += chance * x

        for before in range(n + 1 if low else 1):
            for some in counts_of(before, len(low)) if low else [()]:
                counts = [0] * size
                for i, c in zip(low, some, strict=True):
                    counts[i] = c
                chance = _chance(problem.p, counts)
                if before == n:
                    add(chance, counts)
                    continue
                for i in set(range(size)) - set(low):
                    counts[i] = 1
                    add(chance * problem.p[i], counts)
                    counts[i] = 0
        return scatter(problem, law, len(log_probs), mpf(0))


def mean_stopped_n(log_probs: Numbers, rewards: Numbers, threshold: float, n: int) -> mpf:
    """The mean number of draws: the sum of the chances that more than k are needed."""
    problem = problem_of(log_probs, rewards)
    q = mp.fsum(x for x, r in zip(problem.p, problem.r, strict=True) if r >= threshold)
    return mp.fsum((1 - q) ** k for k in range(n))


def law_by_integral(
    log_probs: Numbers,
    rewards: Numbers,
    h: Callable[[mpf, mpf], tuple[mpf, mpf]],
    temperature: float,
    threshold: float = float("inf"),
    reach: float = 1.0,
    digits: int = 40,
) -> list[mpf]:
    """[K] law P w ∫ e^{-tw} h dt for 0 < temperature, h = (below, from z on) of the parts (s, a) of φ.

    `reach` is the largest number of draws that counts: t is taken from 10^-digits/reach on.
    """
    with mp.workdps(2 * digits):
        problem = problem_of(log_probs, rewards)
        top = problem.group_r[-1]
        w = [mp.exp((r - top) / mpf(temperature)) for r in problem.r]
        reached = [r >= threshold for r in problem.r]
        left = -(digits + 3) * mp.log(10) - mp.log(reach)
        right = mp.log(3 * digits) - mp.log(min(w))

        def rule(step: mpf) -> list[mpf]:
            sums = [mpf(0)] * len(w)
            for j in range(int((right - left) / step) + 1):
                t = mp.exp(left + j * step)
                decay = [mp.exp(-t * x) for x in w]
                terms = [p * d for p, d in zip(problem.p, decay, strict=True)]
                s = mp.fsum(x for x, is_high in zip(terms, reached, strict=True) if not is_high)
                a = mp.fsum(x for x, is_high in zip(terms, reached, strict=True) if is_high)
                factors = h(s, a)
                for i, x in enumerate(decay):
                    sums[i] += step * t * x * factors[reached[i]]
            return [p * x * y for p, x, y in zip(problem.p, w, sums, strict=True)]

        coarse, fine = rule(mpf(1) / 7), rule(mpf(1) / 10)
        for x, y in zip(coarse, fine, strict=True):
            assert abs(x - y) <= mpf(10) ** -22 * y, (x, y)
        return scatter(problem, fine, len(log_probs), mpf(0))


def stopped_factors(n: float) -> Callable[[mpf, mpf], tuple[mpf, mpf]]:
    """The h of stopping at a threshold for any real n, from S(s) = (1 - s^n)/(1 - s)."""
    m = mpf(n)

    def h(s: mpf, a: mpf) -> tuple[mpf, mpf]:
        total = (1 - s**m) / (1 - s)
        slope = (total - m * s ** (m - 1)) / (1 - s)
        return a * slope + m * s ** (m - 1), total

    return h
