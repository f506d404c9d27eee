"""From a public function's arguments to arrays of one dtype."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.problem import Problem, probability_tolerance

Array = jax.Array


def checked_arguments(
    problem: Problem, n: Any, temperature: Any, log_n: Any
) -> tuple[Problem, Array, Array]:
    """(problem, temperature, log n) as arrays in the problem's dtype; ValueError for bad values.

    Their batch shapes are as given and need not broadcast; `broadcasting_arguments` requires that.
    """
    problem = checked_problem(problem)
    return problem, *checked_parameters(n, temperature, log_n, problem.rewards.dtype)


def broadcasting_arguments(
    problem: Problem, n: Any, temperature: Any, log_n: Any
) -> tuple[Problem, Array, Array]:
    """As `checked_arguments`; also ValueError where the batch shapes do not broadcast."""
    problem, temperature, log_n = checked_arguments(problem, n, temperature, log_n)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, n=log_n.shape)
    return problem, temperature, log_n


def checked_parameters(n: Any, temperature: Any, log_n: Any, dtype: Any) -> tuple[Array, Array]:
    """(temperature, log n) as arrays of `dtype`; ValueError for bad values."""
    return checked_temperature(temperature, dtype), _checks.log_candidates(n, log_n, dtype)


def checked_temperature(temperature: Any, dtype: Any) -> Array:
    """The temperature as an array of `dtype`; ValueError where it is negative or NaN."""
    return _checks.temperature(temperature, dtype)


def checked_problem(problem: Problem, name: str = "problem") -> Problem:
    """The problem's two arrays in one float dtype; ValueError where their last axes differ."""
    _checks.instance(name, problem, Problem)
    log_probs = _checks.as_float(f"{name}.log_probs", problem.log_probs)
    rewards = _checks.finite(f"{name}.rewards", problem.rewards)
    shapes = (log_probs.shape, rewards.shape)
    if min(map(len, shapes)) == 0 or shapes[0][-1] != shapes[1][-1] or shapes[0][-1] == 0:
        raise ValueError(f"{name} must have K >= 1 outcomes on its last axis, got shapes {shapes}")
    if shapes[0] != shapes[1]:
        _checks.batch_shape(log_probs=shapes[0][:-1], rewards=shapes[1][:-1])
    value = _checks.concrete(log_probs)
    if value is not None:
        with np.errstate(over="ignore"):
            total = np.exp(value.astype(np.float64)).sum(-1)
        tolerance = probability_tolerance(log_probs.dtype)
        _checks.offending(
            f"the sum of exp({name}.log_probs)", total, ~(np.abs(total - 1) <= tolerance), "1"
        )
    else:
        log_probs = _nan_unless_law(log_probs)
    if log_probs.dtype != rewards.dtype:
        dtype = jnp.promote_types(log_probs.dtype, rewards.dtype)
        log_probs, rewards = log_probs.astype(dtype), rewards.astype(dtype)
    return Problem(log_probs, rewards)


@jax.jit
def _nan_unless_law(log_probs: Array) -> Array:
    """The log-probabilities, NaN where they are not those of a law."""
    log_sum = jax.nn.logsumexp(log_probs, axis=-1, keepdims=True)
    tolerance = 2 * probability_tolerance(log_probs.dtype)
    return jnp.where(jnp.abs(log_sum) <= tolerance, log_probs, jnp.nan)


def checked_weights(name: str, weights: Any, dtype: Any) -> Array:
    """Weights `[..., J]` that sum to 1 as an array of `dtype`; ValueError where they do not."""
    weights = _checks.as_float(name, weights, dtype)
    _checks.outcomes(name, weights, "weight")
    value = _checks.concrete(weights)
    if value is not None:
        _checks.offending(
            name, value, ~(np.isfinite(value) & (value >= 0)), "finite and not negative"
        )
        total = value.sum(-1, dtype=np.float64)
        tolerance = probability_tolerance(weights.dtype)
        _checks.offending(f"the sum of {name}", total, np.abs(total - 1) > tolerance, "1")
    return _law_or_nan(weights)


@jax.jit
def _law_or_nan(weights: Array) -> Array:
    """Weights that sum to 1 without rounding; NaN for what is not a law."""
    total = jnp.sum(weights, axis=-1, keepdims=True)
    is_law = jnp.abs(total - 1) <= probability_tolerance(weights.dtype)
    is_law &= jnp.all(weights >= 0, axis=-1, keepdims=True)
    return jnp.where(is_law, weights / total, jnp.nan)
