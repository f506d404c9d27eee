"""The synthetic problems that the experiments share, all with rewards scaled to [0, 1].

With a common range a temperature means the same for all of them, and the bounds on the relative reward
gap need rewards that are not negative.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

import softbon_jax as sb

WORST_CASE_TEMPERATURE = 0.2
"""The temperature at which the problem `worst_case` attains CV² = sinh²(1/2λ)."""

OUTCOMES = 64
"""K of every problem: smaller ones are padded, so that one compiled kernel serves them all."""


def padded(problem: sb.Problem) -> sb.Problem:
    """The same problem with outcomes of probability 0 appended, `OUTCOMES` in all."""
    missing = OUTCOMES - problem.num_outcomes
    return sb.Problem(
        jnp.pad(problem.log_probs, (0, missing), constant_values=-jnp.inf),
        jnp.pad(problem.rewards, (0, missing)),
    )


def unit_range(problem: sb.Problem) -> sb.Problem:
    """The same problem with its rewards shifted and scaled to [0, 1]."""
    low = jnp.min(problem.rewards, axis=-1, keepdims=True)
    high = jnp.max(problem.rewards, axis=-1, keepdims=True)
    return sb.Problem(problem.log_probs, (problem.rewards - low) / (high - low))


_BUILDERS: dict[str, Callable[[jax.Array], sb.Problem]] = {
    "four": lambda key: sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0]),
    "bernoulli": lambda key: sb.bernoulli(0.1),
    "dirichlet": lambda key: sb.dirichlet(key, 64),
    "zipf": lambda key: sb.zipf(32, 1.0),
    "uniform": lambda key: sb.uniform_quantiles(64),
    "jackpot": lambda key: sb.jackpot(16, 1e-6, 2.0),
    "worst_case": lambda key: sb.worst_case(1 / WORST_CASE_TEMPERATURE),
}

NAMES = tuple(_BUILDERS)
"""four, bernoulli, dirichlet, zipf, uniform, jackpot, worst_case."""


def build(name: str, seed: int) -> sb.Problem:
    """The problem called `name`; `seed` affects only the random ones."""
    if name not in _BUILDERS:
        raise ValueError(f"no problem is called {name!r}; there are {', '.join(NAMES)}")
    return padded(unit_range(_BUILDERS[name](cell_key(seed, name))))


def cell_key(seed: int, problem: str, *indices: int) -> jax.Array:
    """A key for a problem and indices, which does not change when other cells are added."""
    key = jax.random.fold_in(jax.random.key(seed), NAMES.index(problem))
    for index in indices:
        key = jax.random.fold_in(key, index)
    return key
