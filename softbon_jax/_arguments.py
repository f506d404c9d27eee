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
    _checks.temperature(temperature)
    return _checks.as_float("temperature", temperature, dtype)


def checked_problem(problem: Problem) -> Problem:
    """The problem's two arrays in one float dtype; ValueError where their last axes differ."""
    log_probs = _checks.as_float("problem.log_probs", problem.log_probs)
    rewards = _checks.as_float("problem.rewards", problem.rewards)
    shapes = (log_probs.shape, rewards.shape)
    if min(map(len, shapes)) == 0 or shapes[0][-1] != shapes[1][-1] or shapes[0][-1] == 0:
        raise ValueError(f"problem must have K >= 1 outcomes on its last axis, got shapes {shapes}")
    _checks.finite("problem.rewards", rewards)
    value = _checks.concrete(log_probs)
    if value is not None:
        with np.errstate(over="ignore"):
            total = np.exp(value.astype(np.float64)).sum(-1)
        tolerance = probability_tolerance(log_probs.dtype)
        _checks.offending(
            "the sum of exp(problem.log_probs)", total, ~(np.abs(total - 1) <= tolerance), "1"
        )
    if log_probs.dtype != rewards.dtype:
        dtype = jnp.promote_types(log_probs.dtype, rewards.dtype)
        log_probs, rewards = log_probs.astype(dtype), rewards.astype(dtype)
    return Problem(log_probs, rewards)
