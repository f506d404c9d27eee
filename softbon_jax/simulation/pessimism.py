"""The law of inference-time pessimism, simulated: it has no closed form."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _checks, exact
from softbon_jax.problem import Problem
from softbon_jax.sampling import uniform
from softbon_jax.sampling.rules import pessimism_of_counts

Array = jax.Array


class PessimismLaw(NamedTuple):
    """A simulated law and its standard error, `[..., K]` both."""

    probs: Array
    standard_error: Array


def pessimism_law(
    key: Array, problem: Problem, n: int, regularization: Any, trials: int
) -> PessimismLaw:
    """The law of `select_pessimist` among n draws from P, by simulation.

    The average over sets of draws of the selection probabilities given the draws: unbiased, and less
    noisy than counting selections.

    Args:
      key: a typed PRNG key; consumed.
      problem: `[..., K]` reference law and rewards.
      n: number of candidates, an integer >= 1; static.
      regularization: β, scalar or `[...]`, in reward units, at least 0, traced.
      trials: sets of draws, at least 2; static.

    Returns:
      `PessimismLaw` of the broadcast batch shape, in the problem's dtype; its probabilities sum to 1.

    Raises:
      TypeError, ValueError: `key` is not one typed key, or bad values of the others.

    Numerics: time proportional to n · trials for each problem of the batch, memory to n · 1024.
    Source: arXiv:2503.21878 for the rule; there is no closed form of its law for finite n.
    """
    _checks.key(key)
    problem = _arguments.checked_problem(problem)
    for name, value, least in (("n", n, 1), ("trials", trials, 2)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    _checks.temperature(regularization, "regularization")
    regularization = _checks.as_float("regularization", regularization)
    regularization = regularization.astype(problem.rewards.dtype)
    shape = _checks.batch_shape(problem=problem.batch_shape, regularization=regularization.shape)
    keys = jax.random.split(key, shape)
    flat = Problem(
        *(jnp.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1]) for x in problem)
    )
    beta = jnp.broadcast_to(regularization, shape).reshape(-1)
    out = _pessimism_law(keys.reshape(-1), flat, beta, n=int(n), trials=int(trials))
    return jax.tree.map(lambda x: x.reshape(*shape, x.shape[-1]), out)


@partial(jax.jit, static_argnames=("n", "trials"))
def _pessimism_law(
    keys: Array, problem: Problem, regularization: Array, *, n: int, trials: int
) -> PessimismLaw:
    outcomes, dtype = problem.num_outcomes, problem.rewards.dtype
    lanes = min(trials, 1024)

    def one(arguments: tuple[Array, Problem, Array]) -> PessimismLaw:
        key, (log_probs, rewards), beta = arguments
        cumulative = jnp.cumsum(jnp.exp(exact.normalized(log_probs)))

        def trial(key: Array) -> Array:
            level = uniform(key, (n,), dtype, one_word=True) * cumulative[-1]
            drawn = jnp.searchsorted(cumulative, level, side="right")
            counts = jnp.zeros((outcomes,), dtype).at[drawn].add(1)
            return pessimism_of_counts(rewards, counts, beta[None])

        laws = jax.lax.map(trial, jax.random.split(key, trials), batch_size=lanes)
        spread = jnp.std(laws, axis=0, ddof=1) / jnp.sqrt(jnp.asarray(trials, dtype))
        return PessimismLaw(jnp.mean(laws, axis=0), spread)

    return jax.lax.map(one, (keys, problem, regularization))
