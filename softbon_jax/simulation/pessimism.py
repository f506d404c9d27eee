"""The law of inference-time pessimism, simulated: it has no closed form."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, _memory, _sharding, exact
from softbon_jax.problem import Problem
from softbon_jax.sampling import uniform
from softbon_jax.sampling.rules import pessimism_of_counts

Array = jax.Array


class PessimismLaw(NamedTuple):
    """A simulated law and its standard error; `[...]` is the batch shape.

    Attributes:
      probs: `[..., K]` unbiased estimate of the law; sums to 1.
      standard_error: `[..., K]` its standard error.
    """

    probs: Array
    standard_error: Array


def simulate_pessimism(
    key: Array, problem: Problem, n: int, regularization: Any, *, trials: int
) -> PessimismLaw:
    """The law of `select_pessimist` among n draws from P, by simulation.

    The average over sets of draws of the selection probabilities given the draws: unbiased, and less
    noisy than counting selections.

    Args:
      key: a typed PRNG key, traced; consumed.
      problem: `[..., K]` reference law and rewards, traced.
      n: number of candidates, an integer >= 1, static.
      regularization: β, scalar or `[...]`, in reward units, at least 0, traced.
      trials: sets of draws, an integer >= 2, static.

    Returns:
      `PessimismLaw` of the broadcast batch shape, in the problem's dtype.

    Raises:
      TypeError: `key` is not a typed key, or an argument is not real.
      ValueError: n or trials is not an integer in its range, a bad problem or regularization, or
        shapes that do not broadcast.

    Numerics: time proportional to n · trials for each problem of the batch, memory to n · 1024.
    Source: arXiv:2503.21878 for the rule; there is no closed form of its law for finite n.

    Example:
      >>> problem = sb.from_probs(np.float32([0.5, 0.3, 0.2]), np.float32([0.0, 0.3, 1.0]))
      >>> law = sb.simulate_pessimism(jax.random.key(0), problem, 8, 0.3, trials=2000)
      >>> np.round(np.float64(law.probs), 2).tolist()
      [0.13, 0.29, 0.58]
    """
    _checks.key(key)
    problem = _arguments.checked_problem(problem)
    n, trials = _checks.positive_integer("n", n), _checks.positive_integer("trials", trials, 2)
    beta = _checks.temperature(regularization, problem.rewards.dtype, "regularization")
    _checks.batch_shape(problem=problem.batch_shape, regularization=beta.shape)
    return _simulate_pessimism(key, problem, beta, n=n, trials=trials)


def pessimism_law(
    key: Array, problem: Problem, n: int, regularization: Any, trials: int
) -> PessimismLaw:
    """The old name of `simulate_pessimism`, for one release.

    Args:
      key: as for `simulate_pessimism`.
      problem: as for `simulate_pessimism`.
      n: as for `simulate_pessimism`, static.
      regularization: as for `simulate_pessimism`.
      trials: as for `simulate_pessimism`, static.

    Returns:
      As `simulate_pessimism`.

    Raises:
      TypeError: as `simulate_pessimism`.
      ValueError: as `simulate_pessimism`.

    Numerics: warns with a `DeprecationWarning`.
    Source: as `simulate_pessimism`.

    Example:
      >>> import warnings
      >>> problem = sb.from_probs(np.float32([0.5, 0.3, 0.2]), np.float32([0.0, 0.3, 1.0]))
      >>> with warnings.catch_warnings(record=True) as caught:
      ...     warnings.simplefilter("always")
      ...     _ = sb.pessimism_law(jax.random.key(0), problem, 2, 0.3, 10)
      >>> caught[0].category.__name__
      'DeprecationWarning'
    """
    warnings.warn(
        "pessimism_law is now simulate_pessimism, with trials= by keyword; the old name will be gone"
        " in the next release",
        DeprecationWarning,
        stacklevel=2,
    )
    return simulate_pessimism(key, problem, n, regularization, trials=trials)


@partial(jax.jit, static_argnames=("n", "trials"))
def _simulate_pessimism(
    key: Array, problem: Problem, regularization: Array, *, n: int, trials: int
) -> PessimismLaw:
    shape = jnp.broadcast_shapes(problem.batch_shape, regularization.shape)
    keys = jax.random.split(key, shape)
    outcomes, dtype = problem.num_outcomes, problem.rewards.dtype
    numbers, of_laws = 6 * outcomes + 3 * n, 3 * trials * outcomes + 2 * len(shape)
    lanes = _memory.at_once(min(trials, 1024), numbers * dtype.itemsize)
    results = 2 * math.prod(shape) * outcomes
    _memory.check((lanes * numbers + of_laws + results) * dtype.itemsize)

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
        law = PessimismLaw(jnp.mean(laws, axis=0), spread)
        return _batching.nan_in_nan_out(arguments[1:], law)

    def local(keys: Array, problem: Problem, regularization: Array) -> PessimismLaw:
        flat = Problem(
            *(jnp.broadcast_to(x, (*keys.shape, outcomes)).reshape(-1, outcomes) for x in problem)
        )
        regularization = jnp.broadcast_to(regularization, keys.shape).reshape(-1)
        out = jax.lax.map(one, (keys.reshape(-1), flat, regularization))
        return jax.tree.map(lambda x: x.reshape(*keys.shape, x.shape[-1]), out)

    return _sharding.over_shards(local, (keys, problem, regularization), (0, 1, 0))
