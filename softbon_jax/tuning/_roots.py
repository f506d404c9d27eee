"""The root behind every calibration: where a quantity of soft best-of-n meets its target.

Found in log λ or log(n - 1): some bisections, then Newton's method inside the bracket, by optimistix,
which also makes it differentiable by the implicit function theorem. Where the answer is concrete and
misses the target, the search is repeated with as many bisections as the float type has digits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _batching, _checks, exact
from softbon_jax.exact.metrics import interior_metrics
from softbon_jax.problem import Problem
from softbon_jax.tuning._search import on_host, search_plan, soft_law

Array = jax.Array

_TOLERANCE = 1e-10
"""Relative tolerance of the quick search; if it is missed, the search is repeated thoroughly."""

_QUICK, _THOROUGH = 5, 60
"""Bisections before Newton's method."""


class Goal(NamedTuple):
    """What is to be met, and by what; static."""

    quantity: str  # a field of Metrics; "reward" is measured as the gain over E_P[r]
    unknown: Literal["temperature", "n"]


class Question(NamedTuple):
    """Problems `[..., K]` and numbers `[...]`: the known, and a bracket of log unknown."""

    problem: Problem
    known: Array  # log n where the temperature is asked for, else the temperature
    target: Array
    low: Array  # log λ, or log(n - 1)
    high: Array


class Root(NamedTuple):
    """Where the target is met, what is met there, and whether the bracket was too short for it."""

    at: Array
    value: Array
    short: Array


def find(goal: Goal, question: Question, nodes: int | None) -> Root:
    """The quick search, and the thorough one where its answer is concrete and misses the target."""
    if goal.unknown == "temperature":
        temperature, log_n = on_host(np.exp, question.low), question.known
    else:
        temperature = question.known
        log_n = on_host(lambda x: np.logaddexp(np.zeros_like(x), x), question.high)
    plan = search_plan(question.problem, temperature, log_n, nodes, any_n=goal.unknown == "n")
    root = _solve(goal, plan, question, bisections=_QUICK)
    if _misses(root, question):
        root = _solve(goal, plan, question, bisections=_THOROUGH)
    return root


def _misses(root: Root, question: Question) -> bool:
    """Whether a concrete root is not where its target is met; False for a traced one."""
    value, short, target = (_checks.concrete(x) for x in (root.value, root.short, question.target))
    if value is None or short is None or target is None:
        return False
    tolerance = max(_TOLERANCE, 100 * float(jnp.finfo(value.dtype).eps))
    return bool((~(np.abs(value - target) <= tolerance * target) & ~short & (target > 0)).any())


@functools.partial(jax.jit, static_argnames=("goal", "bisections"))
def _solve(goal: Goal, plan: exact.Plan, question: Question, *, bisections: int) -> Root:
    import optimistix  # late: it takes longer to import than everything else together

    def excess(at: Array, question: Question) -> Array:
        """Log of measured/target, with the sign that makes it fall across the bracket."""
        value = _measured(goal, plan, at, question)
        rises = goal.unknown == "n" and goal.quantity == "kl_soft_base"
        excess = jnp.log(jnp.maximum(value, jnp.finfo(value.dtype).tiny) / question.target)
        return -excess if rises else excess

    def one(log_probs: Array, rewards: Array, *numbers: Array) -> Root:
        question = Question(Problem(log_probs, rewards), *numbers)
        chex.assert_rank(numbers, 0)
        chex.assert_type(numbers, rewards.dtype)
        question = question._replace(target=jnp.where(question.target > 0, question.target, 1.0))
        fixed = jax.lax.stop_gradient(question)
        short = excess(fixed.low, fixed) < 0
        near = bisected(excess, fixed.low, fixed.high, fixed, bisections)
        # Newton's method squares what is left.
        enough = max(1e-6, 100 * float(jnp.finfo(near.dtype).eps))
        at = optimistix.root_find(
            excess,
            optimistix.Newton(rtol=enough, atol=enough),
            near,
            question,
            {"lower": fixed.low, "upper": fixed.high},
            max_steps=12,
            throw=False,
        ).value
        at = jnp.where(short, jnp.nan, at)
        return Root(at, _measured(goal, plan, at, question), short)

    # In small batches, so that what a batch needs stays in the cache.
    elements = 32 * plan.nodes * question.problem.num_outcomes
    return _batching.over_batch(one, question.problem, question[1:], elements=elements)


def bisected(
    f: Callable[[Array, Any], Array], low: Array, high: Array, arguments: Any, steps: int
) -> Array:
    """The root in [low, high] of the falling function f(·, arguments) after `steps` bisections."""
    import optimistix

    return optimistix.root_find(
        f,
        # Its norm is no argument, whatever the type checker makes of it.
        optimistix.Bisection(rtol=0.0, atol=0.0, flip=True),  # type: ignore[call-arg]
        (low + high) / 2,
        arguments,
        {"lower": low, "upper": high},
        max_steps=steps,
        throw=False,
    ).value


def _measured(goal: Goal, plan: exact.Plan, at: Array, question: Question) -> Array:
    """The quantity of the goal where the logarithm of the unknown is `at`."""
    if goal.unknown == "temperature":
        temperature, log_n = jnp.exp(at), question.known
    else:
        temperature, log_n = question.known, jnp.logaddexp(0.0, at)
    if goal.quantity != "reward":
        return getattr(interior_metrics(question.problem, temperature, log_n, plan), goal.quantity)
    law = soft_law(question.problem, temperature, log_n, plan)
    return law.gain(law.rewards)
