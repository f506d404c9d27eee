"""Every metric from its definition, by plain sums in mpmath.

No stable rearrangement: whatever digits cancel are paid for with more working digits, and
`exact_metrics` computes each number at two resolutions that must agree.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mpmath import mp, mpf

from .precise import (
    RELATIVE_DIGITS,
    Numbers,
    Problem,
    law_of,
    problem_of,
    scatter,
    tilted_of,
    working_digits,
)

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


def _kl(a: list[mpf], b: list[mpf]) -> mpf:
    """KL(a || b) in nats as it is defined; inf where a has mass and b has none."""
    if any(x > 0 and y == 0 for x, y in zip(a, b, strict=True)):
        return mp.inf
    return mp.fsum(x * mp.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)


def win_table(values: Sequence) -> list[list[mpf]]:
    """1 where the row's value beats the column's, 1/2 where they tie."""
    return [[mpf(int(a > b)) + mpf(int(a == b)) / 2 for b in values] for a in values]


def definitions(
    problem: Problem, law: list[mpf], tilted: list[mpf], wins: list[list[mpf]] | None = None
) -> dict[str, mpf]:
    """Every metric from its definition. `law`, `tilted` on the kept outcomes."""
    p, r = problem.p, problem.r
    wins = win_table(r) if wins is None else wins
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
        problem = problem_of(log_probs, rewards)
        total = mp.fsum(mpf(x) for x in law)
        kept = [mpf(law[i]) / total for i in problem.kept]
        return definitions(problem, kept, tilted_of(problem, mpf(temperature)))


def _digits_needed(problem: Problem, law: list[mpf], tilted: list[mpf]) -> int:
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

    def attempt(digits: int, shift: float) -> tuple[dict[str, mpf], list[mpf], list[mpf], Problem]:
        with mp.workdps(digits + 20):
            rough = problem_of(log_probs, rewards)
        with mp.workdps(working_digits(rough, mpf(n), mpf(temperature), digits)):
            problem = problem_of(log_probs, rewards)
            law = law_of(problem, mpf(n), mpf(temperature), digits, shift)
            tilted = tilted_of(problem, mpf(temperature))
            return definitions(problem, law, tilted), law, tilted, problem

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
            scatter(problem, law, size, mpf(0)),
            scatter(problem, log_law, size, -mp.inf),
            scatter(problem, log_ratio, size, mp.nan),
            needed,
            digits,
            agreement,
        )
