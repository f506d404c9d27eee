"""Derivatives of every metric, by differences at many digits in mpmath."""

from math import isinf
from typing import Any

import numpy as np
from mpmath import mp, mpf

from .metrics import METRICS, agreeing_digits, definitions, exact_metrics, win_table
from .precise import Numbers, law_of, problem_of, tilted_of, working_digits

PROVEN_GRADIENT_DIGITS = 22  # two difference steps agree to so many significant digits


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
        problem = problem_of(point["logits"], point["rewards"])
        law = law_of(problem, point["n"][0], point["temperature"][0], digits)
        wins = win_table([rewards[i] for i in problem.kept])
        return definitions(problem, law, tilted_of(problem, point["temperature"][0]), wins)

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
            rough = problem_of(log_probs, rewards)
            with mp.workdps(working_digits(rough, mpf(n), mpf(temperature), digits)):
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
