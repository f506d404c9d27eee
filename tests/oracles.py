"""Independent oracles for the exact laws: NumPy and mpmath, slow and obvious.

Nothing here is shared with the package. Three algorithms give the law of the selected sample:

* every one of the `K**n` tuples of candidates (`law_by_tuples`);
* every vector of multinomial counts (`law_by_counts` in float64, `exact_law_by_counts` in mpmath);
* adaptive Gauss-Legendre quadrature of the integral over t, for any real n (`exact_law`).

`exact_metrics` and `exact_gradients` are formed from the last one by plain sums and differences,
with no stable rearrangement: whatever digits cancel are paid for with more working digits, and each
number is computed at two resolutions that must agree. `load_reference` reads the stored results of
`make_reference.py`. Numbers come back as mpmath's, to be used inside `mpmath.workdps`, or as
floats.

Arguments everywhere: `log_probs` [K] (natural logs up to a common constant, `-inf` for an outcome
that cannot happen; normalized here), `rewards` [K], `n` (a real number >= 1 unless said otherwise)
and `temperature` (0 is hard best-of-n, inf the reference law). float64 inputs are taken as exact.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil, factorial, isinf, lgamma
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf

METRICS = (
    "reward",
    "tilted_reward",
    "reward_gap",
    "relative_reward_gap",
    "kl_tilted_soft",
    "kl_soft_tilted",
    "kl_soft_base",
    "kl_tilted_base",
    "tv",
    "chi2",
    "win_rate",
)
PROVEN_DIGITS = 30  # two resolutions of `exact_metrics` agree to so many significant digits
PROVEN_GRADIENT_DIGITS = 22  # the same for two difference steps of `exact_gradients`
RELATIVE_DIGITS = 50  # every P_n(x), however small, is computed to so many digits of its own

Numbers = Sequence[Any] | np.ndarray


# --- float64: brute force ------------------------------------------------------------------------


def _probs(log_probs: Numbers) -> np.ndarray:
    probs = np.exp(np.asarray(log_probs, np.float64))
    return probs / probs.sum()


def _selection_probs(rewards: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of the rewards of one set of candidates; at temperature 0 uniform over the best."""
    if temperature == 0:
        weights = (rewards == rewards.max()).astype(np.float64)
    else:
        weights = np.exp((rewards - rewards.max()) / temperature)
    return weights / weights.sum()


def law_by_tuples(log_probs: Numbers, rewards: Numbers, n: int, temperature: float) -> np.ndarray:
    """[K] law of the selected sample by going through all `K**n` tuples of candidates."""
    probs, rewards = _probs(log_probs), np.asarray(rewards, np.float64)
    law = np.zeros_like(probs)
    for candidates in itertools.product(range(len(probs)), repeat=n):
        drawn = list(candidates)
        selected = _selection_probs(rewards[drawn], temperature)
        np.add.at(law, drawn, np.prod(probs[drawn]) * selected)
    return law


def _counts(n: int, size: int) -> Iterator[tuple[int, ...]]:
    """All vectors of `size` counts >= 0 with sum n (stars and bars)."""
    for bars in itertools.combinations(range(n + size - 1), size - 1):
        edges = (-1, *bars, n + size - 1)
        yield tuple(b - a - 1 for a, b in itertools.pairwise(edges))


def law_by_counts(log_probs: Numbers, rewards: Numbers, n: int, temperature: float) -> np.ndarray:
    """[K] law of the selected sample by a sum over multinomial counts, weights in log space."""
    probs, rewards = _probs(log_probs), np.asarray(rewards, np.float64)
    possible = np.flatnonzero(probs)
    log_p, r = np.log(probs[possible]), rewards[possible]
    law = np.zeros_like(probs)
    for counts in _counts(n, len(possible)):
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
    probs, rewards = _probs(log_probs), np.asarray(rewards, np.float64)
    law = np.zeros_like(probs)
    for value in np.unique(rewards):
        tied = rewards == value
        below, mass = probs[rewards < value].sum(), probs[tied].sum()
        if mass > 0:
            law[tied] = ((below + mass) ** n - below**n) * probs[tied] / mass
    return law


def law_by_trapezoid(probs: Numbers, rewards: Numbers, n: float, temperature: float) -> np.ndarray:
    """[K] law of soft best-of-n for real n: n P w ∫ e^{-tw} E[e^{-tw}]^{n-1} dt, spread of w < e^300."""
    p, r = np.asarray(probs, np.float64), np.asarray(rewards, np.float64)
    w = np.exp((r - r.max()) / temperature)
    log_t = np.linspace(-45, 5 - np.log(w.min()), 4001)
    decay = np.exp(-np.exp(log_t)[:, None] * w)
    integrand = np.exp(log_t)[:, None] * decay * (decay @ p)[:, None] ** (n - 1)
    return n * p * w * integrand.sum(0) * (log_t[1] - log_t[0])


# --- mpmath: problems ----------------------------------------------------------------------------


class _Problem(NamedTuple):
    """Outcomes of positive probability as exact numbers, and groups of equal reward."""

    kept: list[int]  # positions in the arguments
    p: list[mpf]  # normalized
    r: list[mpf]
    group: list[int]  # of each outcome
    group_p: list[mpf]
    group_r: list[mpf]  # increasing


def _problem(logits: Numbers, rewards: Numbers) -> _Problem:
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
    return _Problem(kept, p, r, group, group_p, group_r)


def _tilted(problem: _Problem, temperature: mpf) -> list[mpf]:
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


# --- mpmath: the integral ------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _gauss_legendre(count: int, dps: int) -> list[tuple[mpf, mpf]]:
    """Nodes and weights on [-1, 1], `count` even: NumPy's nodes, polished by Newton's iteration."""
    rule = []
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
        rule += [(x, weight), (-x, weight)]
    return rule


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


def _law(problem: _Problem, n: mpf, temperature: mpf, digits: int, shift: float = 0.0) -> list[mpf]:
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
    tilted = _tilted(problem, temperature)
    return [x * ratio[g] for x, g in zip(tilted, problem.group, strict=True)]


def _working_digits(problem: _Problem, n: mpf, temperature: mpf, digits: int) -> int:
    spread = problem.group_r[-1] - problem.group_r[0]
    wide = spread / temperature if temperature > 0 else mpf(0)
    return int(digits + 30 + mp.log10(1 + wide) + mp.log10(n))


def _scatter(problem: _Problem, values: list[mpf], size: int, elsewhere: mpf) -> list[mpf]:
    out = [elsewhere] * size
    for position, value in zip(problem.kept, values, strict=True):
        out[position] = value
    return out


def exact_tilted(
    log_probs: Numbers, rewards: Numbers, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] the tilted law P*, to `digits` digits of each entry."""
    with mp.workdps(digits + 20):
        problem = _problem(log_probs, rewards)
        return _scatter(problem, _tilted(problem, mpf(temperature)), len(log_probs), mpf(0))


def exact_law(
    log_probs: Numbers, rewards: Numbers, n: float, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] law of the selected sample for real n, to `digits` digits and to 50 of each entry."""
    with mp.workdps(digits + 30):
        problem = _problem(log_probs, rewards)
        law = _law(problem, mpf(n), mpf(temperature), digits)
        return _scatter(problem, law, len(log_probs), mpf(0))


def exact_law_by_counts(
    log_probs: Numbers, rewards: Numbers, n: int, temperature: float, digits: int = 60
) -> list[mpf]:
    """[K] the same law for integer n and 0 < temperature < inf by a sum over multinomial counts."""
    with mp.workdps(digits + 20):
        problem = _problem(log_probs, rewards)
        top, size = problem.group_r[-1], len(problem.p)
        w = [mp.exp((r - top) / mpf(temperature)) for r in problem.r]
        law = [mpf(0)] * size
        for counts in _counts(n, size):
            probability = mpf(factorial(n))
            for count, x in zip(counts, problem.p, strict=True):
                probability *= x**count / factorial(count)
            total = mp.fdot(counts, w)
            law = [a + probability * c * b / total for a, c, b in zip(law, counts, w, strict=True)]
        return _scatter(problem, law, len(log_probs), mpf(0))


# --- mpmath: metrics -----------------------------------------------------------------------------


def _kl(a: list[mpf], b: list[mpf]) -> mpf:
    """KL(a || b) in nats as it is defined; inf where a has mass and b has none."""
    if any(x > 0 and y == 0 for x, y in zip(a, b, strict=True)):
        return mp.inf
    return mp.fsum(x * mp.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)


def _win_table(values: Sequence) -> list[list[mpf]]:
    """1 where the row's value beats the column's, 1/2 where they tie."""
    return [[mpf(int(a > b)) + mpf(int(a == b)) / 2 for b in values] for a in values]


def _metrics(
    problem: _Problem, law: list[mpf], tilted: list[mpf], wins: list[list[mpf]] | None = None
) -> dict[str, mpf]:
    """Every metric from its definition. `law`, `tilted` on the kept outcomes."""
    p, r = problem.p, problem.r
    wins = _win_table(r) if wins is None else wins
    reward, tilted_reward = mp.fdot(law, r), mp.fdot(tilted, r)
    gap = tilted_reward - reward
    pairs = list(zip(law, tilted, strict=True))
    unbounded = any(q > 0 and s == 0 for q, s in pairs)
    chi2 = mp.inf if unbounded else mp.fsum((q - s) ** 2 / s for q, s in pairs if s > 0)
    return {
        "reward": reward,
        "tilted_reward": tilted_reward,
        "reward_gap": gap,
        "relative_reward_gap": gap / tilted_reward if tilted_reward != 0 else mp.nan,
        "kl_tilted_soft": _kl(tilted, law),
        "kl_soft_tilted": _kl(law, tilted),
        "kl_soft_base": _kl(law, p),
        "kl_tilted_base": _kl(tilted, p),
        "tv": mp.fsum(abs(q - s) for q, s in pairs) / 2,
        "chi2": chi2,
        "win_rate": mp.fsum(q * mp.fdot(row, p) for q, row in zip(law, wins, strict=True)),
    }


def metrics_of_law(
    log_probs: Numbers, rewards: Numbers, law: Sequence, temperature: float, digits: int = 60
) -> dict[str, mpf]:
    """Every metric of an arbitrary law [K] (normalized here), from the definitions, by plain sums.

    The laws are formed with `digits` digits; what the differences cancel is lost from them.
    """
    with mp.workdps(digits):
        problem = _problem(log_probs, rewards)
        total = mp.fsum(mpf(x) for x in law)
        kept = [mpf(law[i]) / total for i in problem.kept]
        return _metrics(problem, kept, _tilted(problem, mpf(temperature)))


def _digits_needed(problem: _Problem, law: list[mpf], tilted: list[mpf]) -> int:
    """Digits of P_n that leave more than PROVEN_DIGITS of every divergence after the cancellation.

    Only a size is estimated here. Each divergence is a sum of terms a (x log x - x + 1) >= 0 with
    x = b/a; leaving out the outcome where a is largest gives a lower bound, and that is the outcome
    whose term can need more digits than are there yet.
    """

    def size(b: list[mpf], a: list[mpf]) -> mpf:
        if a == b:
            return mpf(1)
        largest = a.index(max(a))
        terms = []
        for k, (x, y) in enumerate(zip(b, a, strict=True)):
            if k != largest and x > 0 and y > 0 and problem.group[k] != problem.group[largest]:
                ratio = x / y
                terms.append(y * (ratio * mp.log(ratio) - ratio + 1))
        total = mp.fsum(terms)
        return total if total > 0 else mpf(1)

    with mp.workdps(3 * RELATIVE_DIGITS):
        smallest = min(
            size(law, tilted), size(tilted, law), size(law, problem.p), size(tilted, problem.p)
        )
        spread = problem.group_r[-1] - problem.group_r[0]
        offset = max(abs(problem.group_r[0]), abs(problem.group_r[-1])) / spread if spread else 1
        return int(PROVEN_DIGITS + 12 - mp.log10(min(smallest, 1)) + mp.log10(max(offset, 1)))


def agreeing_digits(a: mpf, b: mpf) -> float:
    """Number of leading decimal digits that a and b share; inf when they are equal."""
    if a == b or (mp.isnan(a) and mp.isnan(b)):
        return float("inf")
    if mp.isinf(a) or mp.isinf(b):
        return 0.0
    return float(-mp.log10(abs(a - b) / max(abs(a), abs(b))))


def decimal(x: mpf, digits: int) -> str:
    """Decimal string of x that `float` and `mpf` read; also where x has thousands of digits."""
    if x == 0 or not mp.isfinite(x) or 1e-300 < abs(x) < 1e300:
        return str(mp.nstr(x, digits))
    with mp.workdps(digits + 20):
        power = int(mp.floor(mp.log10(abs(x))))
        mantissa = mp.nstr(x / mpf(10) ** power, digits)
        return f"{mantissa}e{power}"


class Exact(NamedTuple):
    """What `exact_metrics` returns; the lists are over all K outcomes."""

    metrics: dict[str, mpf]
    law: list[mpf]  # P_n
    log_law: list[mpf]  # -inf where P is 0
    log_ratio: list[mpf]  # log P_n/P*, nan where P is 0, inf where only P* is
    needed: int  # digits of the law that the cancellation asks for
    digits: int  # digits it was given; the second resolution has 10 more
    agreement: float  # digits shared by the two resolutions, smallest over the metrics


def exact_metrics(log_probs: Numbers, rewards: Numbers, n: float, temperature: float) -> Exact:
    """Every metric of soft best-of-n to PROVEN_DIGITS digits, from two resolutions that agree.

    Raises:
      ArithmeticError: two resolutions do not agree to PROVEN_DIGITS.
    """

    def attempt(digits: int, shift: float) -> tuple[dict[str, mpf], list[mpf], list[mpf], _Problem]:
        number, heat = mpf(n), mpf(temperature)
        with mp.workdps(digits + 20):
            rough = _problem(log_probs, rewards)
        with mp.workdps(_working_digits(rough, number, heat, digits)):
            problem = _problem(log_probs, rewards)
            law = _law(problem, number, heat, digits, shift)
            tilted = _tilted(problem, heat)
            return _metrics(problem, law, tilted), law, tilted, problem

    digits = RELATIVE_DIGITS
    first, law, tilted, problem = attempt(digits, 0.0)
    needed = _digits_needed(problem, law, tilted)
    if needed > digits:
        digits = needed
        first = attempt(digits, 0.0)[0]
    second, law, tilted, problem = attempt(digits + 10, 0.4)
    agreement = min(agreeing_digits(first[name], second[name]) for name in METRICS)
    if agreement < PROVEN_DIGITS:
        raise ArithmeticError(f"only {agreement:.1f} digits agree at {digits} working digits")
    with mp.workdps(digits + 30):
        size = len(log_probs)
        log_law = [mp.log(x) for x in law]
        log_ratio = [
            mp.log(q / s) if s > 0 else (mp.inf if q > 0 else mp.nan)
            for q, s in zip(law, tilted, strict=True)
        ]
        return Exact(
            second,
            _scatter(problem, law, size, mpf(0)),
            _scatter(problem, log_law, size, -mp.inf),
            _scatter(problem, log_ratio, size, mp.nan),
            needed,
            digits,
            agreement,
        )


# --- mpmath: derivatives -------------------------------------------------------------------------


def exact_gradients(
    log_probs: Numbers, rewards: Numbers, n: float, temperature: float
) -> dict[str, dict[str, Any]]:
    """Derivatives of every metric, by central differences of `exact_metrics`' laws at many digits.

    Returns a dict of "rewards", "logits", "temperature" and "n", each a dict over METRICS, of lists
    [K] for the first two and of numbers for the others. A logit is an entry of `log_probs` before
    the normalization, so its derivatives sum to zero over the outcomes; those of an outcome that
    cannot happen are 0. `win_rate` has a kink where rewards cross: the order and the ties of the
    rewards are held as they are, which gives the mean of the slopes on both sides. `tv` has a kink
    where all rewards are equal: nan. A derivative below 1e-45 of its metric that the differences
    cannot resolve is 0.

    Raises:
      ValueError: temperature is 0 or inf, where the metrics have no derivatives.
      ArithmeticError: two steps do not agree to PROVEN_GRADIENT_DIGITS.
    """
    if temperature == 0 or isinf(temperature):
        raise ValueError(f"temperature must be positive and finite, not {temperature}")
    exact = exact_metrics(log_probs, rewards, n, temperature)
    size = len(log_probs)
    possible = [i for i in range(size) if log_probs[i] != -np.inf]
    tied = len({rewards[i] for i in possible}) == 1
    variables = [("rewards", i) for i in possible] + [("logits", i) for i in possible]
    variables += [("temperature", 0), ("n", 0)]

    def metrics_at(name: str, i: int, change: mpf, digits: int) -> dict[str, mpf]:
        point = {"rewards": list(map(mpf, rewards)), "logits": list(map(mpf, log_probs))}
        point |= {"temperature": [mpf(temperature)], "n": [mpf(n)]}
        point[name][i] += change
        problem = _problem(point["logits"], point["rewards"])
        number, heat = point["n"][0], point["temperature"][0]
        law = _law(problem, number, heat, digits)
        wins = _win_table([rewards[i] for i in problem.kept])
        return _metrics(problem, law, _tilted(problem, heat), wins)

    def derivative(name: str, i: int, digits: int) -> dict[str, mpf] | None:
        """None if the two steps tell that the digits do not suffice."""
        scale = {"rewards": temperature, "logits": 1, "temperature": temperature, "n": n}[name]
        slopes = []
        for step in (mpf(10) ** -25, mpf(10) ** -26):
            h = step * mpf(scale)
            up, down = (metrics_at(name, i, change, digits) for change in (h, -h))
            slopes.append({metric: (up[metric] - down[metric]) / (2 * h) for metric in METRICS})
        result = {}
        for metric, (a, b) in ((m, (slopes[0][m], slopes[1][m])) for m in METRICS):
            # in units of the metric: what is below the error h^2 of the difference itself is zero
            floor = mpf(10) ** -45 * abs(exact.metrics[metric]) / mpf(scale)
            if tied and metric == "tv":
                result[metric] = mp.nan
            elif agreeing_digits(a, b) >= PROVEN_GRADIENT_DIGITS:
                result[metric] = b
            elif max(abs(a), abs(b)) <= floor or (exact.metrics[metric] == 0 and abs(b) < 1e-20):
                result[metric] = mpf(0)
            else:
                return None
        return result

    zeros = dict.fromkeys(METRICS, mpf(0))
    found: dict[tuple[str, int], dict[str, mpf]] = {}
    for name, i in variables:
        for extra in (45, 90, 180, 360):
            digits = exact.needed + extra
            rough = _problem(log_probs, rewards)
            with mp.workdps(_working_digits(rough, mpf(n), mpf(temperature), digits)):
                result = derivative(name, i, digits)
            if result is not None:
                found[name, i] = result
                break
        else:
            raise ArithmeticError(f"derivative in {name}[{i}] not found at {digits} digits")
    vectors = {
        name: {m: [found.get((name, i), zeros)[m] for i in range(size)] for m in METRICS}
        for name in ("rewards", "logits")
    }
    return vectors | {name: found[name, 0] for name in ("temperature", "n")}


# --- stored results ------------------------------------------------------------------------------


class Case(NamedTuple):
    """One stored case, its decimals rounded to float64: inf above its range, 0 below."""

    name: str
    log_probs: np.ndarray  # [K]
    rewards: np.ndarray  # [K]
    n: float
    temperature: float
    metrics: dict[str, float]
    log_law: np.ndarray | None  # [K] log P_n
    log_ratio: np.ndarray | None  # [K] log P_n/P*; nan where P is 0
    gradients: dict[str, dict[str, np.ndarray]] | None  # by variable, then metric: [K] or []


def load_reference(name: str) -> Iterator[Case]:
    """The cases of `reference/{name}.json` ("metrics" or "gradients"), one by one."""
    stored = json.loads((Path(__file__).parent / "reference" / f"{name}.json").read_text())
    for case in stored["cases"]:
        gradients = case.get("gradients")
        if gradients is not None:
            gradients = {
                variable: {m: np.array(values, np.float64) for m, values in by_metric.items()}
                for variable, by_metric in gradients.items()
            }
        yield Case(
            case["name"],
            np.array(case["log_probs"], np.float64),
            np.array(case["rewards"], np.float64),
            float(case["n"]),
            float(case["temperature"]),
            {m: float(value) for m, value in case["metrics"].items()},
            np.array(case["log_law"], np.float64) if "log_law" in case else None,
            np.array(case["log_ratio"], np.float64) if "log_ratio" in case else None,
            gradients,
        )


# --- the other rules that hedging knows ----------------------------------------------------------


def uniform_race_law(probs: Numbers, rewards: Numbers, n: float, temperature: float) -> np.ndarray:
    """[K] law of the uniform race: P w Σ_{j: w_j >= w} [F(w_{j+1})^n - F(w_j)^n]/B_j, outcomes by w."""
    order = np.argsort(rewards, kind="stable")
    p, r = np.asarray(probs, np.float64)[order], np.asarray(rewards, np.float64)[order]
    w = np.exp((r - r[-1]) / temperature)
    weighted = np.cumsum(p * w)  # B
    left = np.cumsum(p) - weighted / w  # F
    right = np.append(left[1:], 1.0)
    pieces = (right**n - left**n) / weighted
    law = np.empty_like(p)
    law[order] = p * w * np.cumsum(pieces[::-1])[::-1]
    return law


def hedging_poisson_law(
    probs: Numbers, rewards: Numbers, mean_extra: float, temperature: float
) -> np.ndarray:
    """[K] law of soft best-of-Poisson: P w ∫ e^{-tw} (1 + νφ) e^{-ν(1-φ)} dt, by trapezoids in log t."""
    p, r = np.asarray(probs, np.float64), np.asarray(rewards, np.float64)
    w = np.exp((r - r.max()) / temperature)
    log_t = np.linspace(-45, 5 - np.log(w.min()), 4001)
    decay = np.exp(-np.exp(log_t)[:, None] * w)
    phi = (decay @ p)[:, None]
    draws = (1 + mean_extra * phi) * np.exp(-mean_extra * (1 - phi))
    integrand = np.exp(log_t)[:, None] * decay * draws
    return p * w * integrand.sum(0) * (log_t[1] - log_t[0])


def hedging_uniform_density(rule: str, u: float, x: float) -> float:
    """The density at u of the selected reward, rewards uniform on [0, 1]; x is n, ν or 1/λ."""
    if rule == "hard":
        return x * u ** (x - 1)
    if rule == "poisson":
        return (1 + x * u) * np.exp(-x * (1 - u))
    if rule == "tilted":
        return x * np.exp(-x * (1 - u)) / -np.expm1(-x)
    raise ValueError(rule)
