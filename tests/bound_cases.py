"""Problems on which bounds are tested, and calls of the package's bounds by name."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import bounds
from softbon_jax.problem import Problem, from_logits, from_probs, jackpot, worst_case
from tests import oracles

FOUR = from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
# A tie at the top, one below, and an outcome of probability 0 with the highest reward.
TIED = from_probs([0.25, 0.0, 0.3, 0.2, 0.15, 0.1], [0.5, 9.0, 0.0, 0.5, 2.0, 2.0])
NEGATIVE = from_probs([0.2, 0.5, 0.3], [-3.0, -1.0, 0.5])
JACKPOT = jackpot(6, 1e-6)
# One outcome is nearly certain: W - 1 there is pure rounding error if it is formed as a difference.
CERTAIN = from_probs([1e-12, 1 - 4e-12, 3e-12], [0.0, 0.7, 1.0])
CERTAIN_TIED = from_probs([0.5, 0.5 - 1e-13, 1e-13], [0.25, 0.25, 1.0])
CLOSE = from_probs([0.5, 0.5, 1e-25], [0.25, 0.25 + 2.0**-40, 1.0])
# Probabilities that underflow, as those of long sequences do.
TINY = from_logits([0.0, -400.0, -900.0], [0.0, 0.4, 1.0])
CONSTANT = from_probs([0.25, 0.75, 0.0], [0.3, 0.3, 1.0])
PROBLEMS = {
    "four": FOUR,
    "tied": TIED,
    "negative": NEGATIVE,
    "jackpot": JACKPOT,
    "certain": CERTAIN,
    "certain tied": CERTAIN_TIED,
    "close": CLOSE,
    "tiny": TINY,
    "constant": CONSTANT,
    "worst case": worst_case(2.5),
}

# One function of each formula; the others differ in the power of n.
ESSENTIAL = [x for x in oracles.BOUNDS if not x.endswith("_coefficient") and x != "n_for_kl_upper"]
NEEDS_NO_NEGATIVE_REWARD = ("relative_gap_upper", "relative_gap_upper_crude")


def width(problem: Problem) -> float:
    """The range of the rewards of positive probability; 1 if they are constant."""
    rewards = np.asarray(problem.rewards)[np.asarray(problem.log_probs) > -np.inf]
    return float(np.ptp(rewards)) or 1.0


def batched(*problems: Problem) -> Problem:
    """The problems as one, outcomes of probability 0 added to give all of them K = 6."""

    def padded(x: jax.Array, filling: float) -> jax.Array:
        return jnp.pad(x, (0, 6 - x.shape[-1]), constant_values=filling)

    return Problem(
        jnp.stack([padded(x.log_probs, -jnp.inf) for x in problems]),
        jnp.stack([padded(x.rewards, 7.0) for x in problems]),
    )


def call(name: str, problem: Problem, log_n: Any, temperature: Any) -> jax.Array:
    """The package's function of that name, in terms of log n."""
    function = getattr(bounds, name)
    parameters = inspect.signature(function).parameters
    if "n" in parameters:
        return function(problem, temperature=temperature, log_n=log_n)
    if "kl" in parameters:
        return function(problem, oracles.KL_BUDGET, temperature)
    return function(problem, temperature)
