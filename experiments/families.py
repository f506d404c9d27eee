"""Families of problems on which exact value over bound tends to its supremum, one for each bound.

A family runs through ε = 10^-1, ..., 10^-6 unless it says otherwise. Why its ratio has the limit that it
has is in docs/theory.md, "Where the bounds are attained".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb
from softbon_jax import bounds

STEPS = 6
SMALL = 10.0 ** -np.arange(1.0, STEPS + 1)
"""ε."""
FEW, ONE = np.full(STEPS, 3.0), np.ones(STEPS)
"""Numbers of candidates where a family does not vary them."""
NODES = 1024
"""Quadrature nodes, the same for all families, so that one compiled kernel serves them."""
SYMBOLS = 3
"""Length of the sequences."""
WIDTH = 2.0
"""Δ/λ at which the bound of order 1/n² is also compared with its limit for large n."""


class Family(NamedTuple):
    """How a bound is approached.

    Attributes:
      ratio: gives `[STEPS]` exact value over bound (bound over exact value for a lower bound).
      where: the family, in words.
      factor: the limit of the ratio.
      within: how near to it the last step is, relative.
    """

    ratio: Callable[[], Any]
    where: str
    factor: float = 1.0
    within: float = 1e-4


def two(probability: Any, width: Any = 1.0) -> sb.Problem:
    """Laws on two outcomes with these probabilities of the better one, whose reward is the width."""
    high, width = np.broadcast_arrays(np.asarray(probability, float), np.asarray(width, float))
    return sb.from_logits(
        np.stack([np.log1p(-high), np.log(high)], -1), np.stack([0 * width, width], -1)
    )


def worst(width: Any) -> sb.Problem:
    """The law on two outcomes of largest CV² for Δ/λ = `width`, at λ = 1."""
    return two(1 / (1 + np.exp(width)), width)


RARE, COMMON, MILD = two(SMALL), two(1 - SMALL), worst(SMALL)
SYMBOL = two(1e-4)


def _exact(problem: sb.Problem, log_n: Any, temperature: Any) -> sb.Metrics:
    missing = ((0, 0), (0, SYMBOLS + 1 - problem.num_outcomes))
    padded = sb.Problem(
        jnp.pad(problem.log_probs, missing, constant_values=-jnp.inf),
        jnp.pad(problem.rewards, missing),
    )
    temperature = np.broadcast_to(temperature, STEPS)
    return sb.metrics(padded, None, temperature, log_n=np.broadcast_to(log_n, STEPS), nodes=NODES)


def _kl(problem: sb.Problem, n: Any, temperature: float) -> jax.Array:
    return _exact(problem, np.log(n), temperature).kl_tilted_soft


def _whole(log_n: Any) -> jax.Array:
    """KL(P*‖P_n) of whole sequences at λ = 0."""
    totals = sb.block_problem(SYMBOL, SYMBOLS)
    repeated = sb.Problem(*(jnp.broadcast_to(x, (STEPS, *x.shape)) for x in totals))
    return _exact(repeated, log_n, 0.0).kl_tilted_soft


def _to_upper(name: str, problem: sb.Problem, n: Any, temperature: float) -> Callable[[], Any]:
    return lambda: _kl(problem, n, temperature) / getattr(bounds, name)(problem, n, temperature)


def _to_gap(name: str) -> Callable[[], Any]:
    return lambda: (
        _exact(RARE, np.log(FEW), 0.3).relative_reward_gap / getattr(bounds, name)(RARE, FEW, 0.3)
    )


def _enough() -> Any:
    budget = -np.log(SMALL) / 2
    return _kl(RARE, bounds.n_for_kl_upper(RARE, budget, 0.0), 0.0) / budget


def _from_reference() -> Any:
    # Of rewards 0 and 1 the mean is the probability of the better outcome.
    excess = jnp.log(_exact(RARE, np.log(FEW), 0.3).reward) - np.log(SMALL)
    return excess / bounds.kl_base_upper(RARE, FEW, 0.3)


def _mild_from_reference() -> Any:
    even = two(np.full(STEPS, 0.5), SMALL)
    return _exact(even, -2 * np.log(SMALL), 1.0).kl_soft_base / (SMALL**2 / 8)


def _loss_to_hard() -> Any:
    log_n = 10.0 ** (0.4 * np.arange(1, STEPS + 1))
    drawn = 2 * np.log(log_n)  # mean number of draws of the best outcome
    log_high, width = np.log(drawn) - log_n, log_n - np.log(drawn * log_n)
    problem = sb.Problem(
        jnp.stack([jnp.log1p(-jnp.exp(log_high)), log_high], -1),
        jnp.stack([jnp.zeros(STEPS), width], -1),
    )
    soft, hard = (_exact(problem, log_n, x).reward for x in (1.0, 0.0))
    return (hard - soft) / log_n


def _whole_lower() -> Any:
    log_n = np.log(SMALL / 1e-4**SYMBOLS)
    return bounds.block_kl_lower(SYMBOL, SYMBOLS, None, 0.0, log_n=log_n) / _whole(log_n)


def _whole_upper() -> Any:
    log_n = np.log(SMALL / 1e-4**SYMBOLS)
    return _whole(log_n) / bounds.block_kl_upper(SYMBOL, SYMBOLS, None, 0.0, log_n=log_n)


def _whole_least() -> Any:
    budget = -np.log(SMALL)
    return budget / _whole(bounds.log_n_for_block_kl_lower(SYMBOL, SYMBOLS, budget, 0.0))


def _whole_enough() -> Any:
    budget = -np.log(SMALL)
    return _whole(bounds.log_n_for_block_kl_upper(SYMBOL, SYMBOLS, budget, 0.0)) / budget


def _gain() -> Any:
    coin = two(np.full(STEPS, 0.5))
    tilted = _exact(coin, 0.0, 1 / SMALL)
    upper = bounds.block_gain_upper(coin, 1, log_n=tilted.kl_tilted_base)
    return tilted.reward_gap / upper  # at n = 1, where the law is P


_LEAST = (1 + np.exp(-WIDTH)) / 2  # min W of worst(WIDTH)

FAMILIES = {
    "KL(P*‖P_n) ≤ log(1 + CV²/n)": Family(
        _to_upper("kl_upper", RARE, FEW, 0.0), "λ = 0, n = 3, P(best) → 0"
    ),
    "KL(P*‖P_n) ≤ CV²/n": Family(
        _to_upper("kl_upper_linear", COMMON, 1.0, 0.0), "λ = 0, n = 1, P(best) → 1"
    ),
    "KL(P*‖P_n) ≤ sinh²(Δ/2λ)/n": Family(
        _to_upper("kl_upper_sinh", MILD, 1.0, 1.0), "worst case, n = 1, Δ/λ → 0", 1 / 2
    ),
    "KL(P*‖P_n) ≤ the O(1/n²) bound": Family(
        _to_upper("kl_upper_quadratic", MILD, 1.0, 1.0), "worst case, n = 1, Δ/λ → 0", 1 / 4
    ),
    "the O(1/n²) bound, its Jensen term": Family(
        _to_upper("kl_upper_quadratic", worst(np.full(STEPS, WIDTH)), 1 / SMALL, 1.0),
        f"worst case, Δ/λ = {WIDTH:g}, n → ∞",
        float(1 / (4 * (1 + np.tanh(WIDTH / 2) ** 2 * (1 + _LEAST**-2)))),
    ),
    "n = CV²/(e^ε - 1) suffices for KL(P*‖P_n) ≤ ε": Family(
        _enough, "λ = 0, P(best) = e^{-2ε} → 0", within=1e-3
    ),
    "log P_n/P ≤ log(n/(1 + (n-1) e^{-Δ/λ})), which bounds KL(P_n‖P)": Family(
        _from_reference, "two outcomes, Δ/λ = 3.33, n = 3, P(best) → 0"
    ),
    "KL(P_n‖P) ≤ (Δ/λ)²/8": Family(_mild_from_reference, "a fair coin, Δ/λ → 0, n = (λ/Δ)²"),
    "soft best-of-n earns less than hard by at most λ log n": Family(
        _loss_to_hard, "two outcomes, Δ/λ near log n → ∞", within=0.05
    ),
    "relative reward gap ≤ M'/(n + M')": Family(
        _to_gap("relative_gap_upper"), "rewards 0 and 1, n = 3, P(best) → 0"
    ),
    "relative reward gap ≤ M/(n + M)": Family(
        _to_gap("relative_gap_upper_crude"), "rewards 0 and 1, n = 3, P(best) → 0"
    ),
    "hard best-of-n: KL ≤ the mean of Beirami's estimator": Family(
        lambda: (
            _exact(COMMON, np.log(FEW), 0.0).kl_soft_base
            / bounds.expected_best_of_n_kl_estimate(COMMON, FEW)
        ),
        "n = 3, P(best) → 1",
    ),
    "whole sequences: KL(P*‖P_n) ≥ m D - log n": Family(
        _whole_lower, "λ = 0, n P(best sequence) → 0"
    ),
    "whole sequences: KL(P*‖P_n) ≤ log(1 + ((1 + CV²)^m - 1)/n)": Family(
        _whole_upper, "λ = 0, n P(best sequence) → 0"
    ),
    "whole sequences: log n ≥ m D - ε": Family(_whole_least, "λ = 0, ε → ∞, below m D"),
    "whole sequences: log n ≤ log(((1 + CV²)^m - 1)/(e^ε - 1))": Family(
        _whole_enough, "λ = 0, ε → ∞, below m D"
    ),
    "gain ≤ Δ√(log n/2m)": Family(_gain, "the tilted law of KL = log n/m, a fair coin, λ → ∞"),
}
"""By the bound, as the claims call it."""
