"""Quantiles, tail means and tail probabilities of the reward under a law."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks
from softbon_jax.exact import _divergences, _soft
from softbon_jax.problem import Problem

Array = jax.Array


def quantile(problem: Problem, level: Any) -> Array:
    """The quantile of the reward under a law: the least reward v with Pr(r <= v) >= level.

    Of the selected outcome by `sb.Problem(log_law, rewards)`, with the law of any rule of this package
    and with the rewards that selected or with others, as a gold reward.

    Args:
      problem: `[..., K]` a law and rewards, traced.
      level: `[...]` in [0, 1], traced; 0 gives the least and 1 the largest reward of positive
        probability.

    Returns:
      `[...]` reward units, one of the rewards.

    Raises:
      TypeError: an argument is not real.
      ValueError: a level outside [0, 1], NaN or infinite rewards, or a problem that is not a law. Values
        are checked when concrete; traced bad values give NaN.

    Numerics: a level within K eps of a jump of the distribution function counts as reached there.
    Differentiable in the rewards; the gradient with respect to the law and the level is 0.
    Source: definition.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> selected = sb.Problem(sb.log_soft_bon(problem, 16, 0.3), problem.rewards)
      >>> round(float(sb.quantile(problem, 0.5)), 3), round(float(sb.quantile(selected, 0.5)), 3)
      (0.0, 0.6)
    """
    return _quantile(*_checked(problem, "level", _checks.in_unit_interval, level))


def cvar(problem: Problem, level: Any) -> Array:
    """The conditional value at risk of the reward: its mean over the worst `level` of the probability.

    Args:
      problem: `[..., K]` a law and rewards, traced; of the selected outcome as in `quantile`.
      level: `[...]` in [0, 1], traced; 0 gives the least reward of positive probability, 1 the mean.

    Returns:
      `[...]` reward units.

    Raises:
      TypeError, ValueError: as `quantile`.

    Numerics: relative to the largest |r| on the support about K eps/level. Differentiable in rewards and
    law, and in the level but at 0 and at jumps.
    Source: Rockafellar and Uryasev (2000), for the lower tail, since low rewards are the bad ones.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> selected = sb.Problem(sb.log_soft_bon(problem, 16, 0.3), problem.rewards)
      >>> round(float(sb.cvar(problem, 0.25)), 3), round(float(sb.cvar(selected, 0.25)), 3)
      (0.0, 0.142)
    """
    return _cvar(*_checked(problem, "level", _checks.in_unit_interval, level))


def tail_probability(problem: Problem, threshold: Any) -> Array:
    """The probability that the reward is at most a threshold.

    Args:
      problem: `[..., K]` a law and rewards, traced; of the selected outcome as in `quantile`.
      threshold: `[...]` reward units, traced; -inf and inf are legal.

    Returns:
      `[...]` in [0, 1].

    Raises:
      TypeError, ValueError: as `quantile`, with a threshold that is NaN.

    Numerics: a sum of non-negative terms: relative error about K eps, however small it is. The chance to
    exceed the threshold by negated rewards keeps its digits as well. Differentiable in the law.
    Source: definition.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> selected = sb.Problem(sb.log_soft_bon(problem, 16, 0.3), problem.rewards)
      >>> round(float(sb.tail_probability(selected, 0.3)), 3)
      0.339
    """
    return _tail_probability(*_checked(problem, "threshold", _checks.not_nan, threshold))


def _checked(problem: Problem, name: str, check: Any, x: Any) -> tuple[Problem, Array]:
    problem = _arguments.checked_problem(problem)
    x = check(name, x, problem.rewards.dtype)
    _checks.batch_shape(**{"problem": problem.batch_shape, name: x.shape})
    return problem, x


@jax.jit
def _quantile(problem: Problem, level: Array) -> Array:
    def one(log_probs: Array, rewards: Array, level: Array) -> Array:
        p, rewards = _ascending(log_probs, rewards)
        margin = p.shape[0] * jnp.finfo(p.dtype).eps
        reached = (jnp.cumsum(p) >= level - margin) & (p > 0)
        last = p.shape[0] - 1 - jnp.argmax((p > 0)[::-1])
        return rewards[jnp.where(reached.any(), jnp.argmax(reached), last)]

    return _batching.over_batch(one, problem, (level,), elements=problem.num_outcomes)


@jax.jit
def _cvar(problem: Problem, level: Array) -> Array:
    def one(log_probs: Array, rewards: Array, level: Array) -> Array:
        p, rewards = _ascending(log_probs, rewards)
        below = jnp.cumsum(p) - p
        least = level == 0
        shares = jnp.clip(level - below, 0.0, p) / jnp.where(least, 1.0, level)
        mean = _divergences.mean(shares / jnp.where(least, 1.0, jnp.sum(shares)), rewards)
        return jnp.where(least, rewards[jnp.argmax(p > 0)], mean)

    return _batching.over_batch(one, problem, (level,), elements=problem.num_outcomes)


@jax.jit
def _tail_probability(problem: Problem, threshold: Array) -> Array:
    def one(log_probs: Array, rewards: Array, threshold: Array) -> Array:
        p = jnp.exp(_soft.normalized(log_probs))
        return jnp.minimum(jnp.sum(jnp.where(rewards <= threshold, p, 0.0)), 1.0)

    return _batching.over_batch(one, problem, (threshold,), elements=problem.num_outcomes)


def _ascending(log_probs: Array, rewards: Array) -> tuple[Array, Array]:
    """Probabilities and rewards in the order of the rewards."""
    order = jnp.argsort(rewards)
    return jnp.exp(_soft.normalized(log_probs))[order], rewards[order]
