"""The root behind every calibration: where a quantity of soft best-of-n meets its target.

Found in log λ or log(n - 1): some bisections, then Newton's method inside the bracket, by optimistix,
which also makes it differentiable by the implicit function theorem. Where the answer is concrete and not
good enough, the search is run again with as many bisections as the float type has digits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from softbon_jax import _batching, _checks, exact
from softbon_jax.exact.metrics import compiled_metrics
from softbon_jax.problem import Problem

Array = jax.Array

_TOLERANCE = 1e-10
"""Relative; what the quick search must have met, else the thorough one is run."""


class Goal(NamedTuple):
    """What is to be met, and by what; static."""

    quantity: str  # a field of Metrics; "reward" is measured as the gain over E_P[r]
    unknown: Literal["temperature", "n"]


class Question(NamedTuple):
    """One problem `[K]` and scalars: what is known, and the bracket of the unknown's logarithm."""

    log_probs: Array
    rewards: Array
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
    """The quick search, and the thorough one where its answer is concrete and not good enough."""
    problem = Problem(question.log_probs, question.rewards)
    if goal.unknown == "temperature":
        temperature, log_n = jnp.exp(question.low), question.known
    else:
        temperature, log_n = question.known, jnp.logaddexp(0.0, question.high)
    plan = exact.quadrature_plan(problem, temperature, log_n, nodes)._replace(limits=False)
    if goal.unknown == "n":
        plan = for_any_n(plan, nodes)
    root = _solve(goal, plan, question, bisections=5)
    value, short = _checks.concrete(root.value), _checks.concrete(root.short)
    if value is not None and short is not None:
        target = np.asarray(jax.lax.stop_gradient(question.target))
        tolerance = max(_TOLERANCE, 100 * float(jnp.finfo(problem.rewards.dtype).eps))
        missed = ~(np.abs(value - target) <= tolerance * target) & ~short & (target > 0)
        if missed.any():
            root = _solve(goal, plan, question, bisections=60)
    return root


def for_any_n(plan: exact.Plan, nodes: int | None) -> exact.Plan:
    """The plan for an n that passes through small numbers that are no integers."""
    many = plan.nodes if plan.fine or nodes else 4 * plan.nodes
    return plan._replace(nodes=many, fine=True, own_eta=True)


@functools.partial(jax.jit, static_argnames=("goal", "plan", "bisections"))
def _solve(goal: Goal, plan: exact.Plan, question: Question, *, bisections: int) -> Root:
    def excess(at: Array, question: Question) -> Array:
        """Log of measured/target, with the sign that makes it fall across the bracket."""
        value = _measured(goal, plan, at, question)
        rises = goal.unknown == "n" and goal.quantity == "kl_soft_base"
        excess = jnp.log(jnp.maximum(value, jnp.finfo(value.dtype).tiny) / question.target)
        return -excess if rises else excess

    def one(*arguments: Array) -> Root:
        question = Question(*arguments)
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
    return _batching.over_batch(
        one, 32 * plan.nodes * question.rewards.shape[-1], question[:2], question[2:]
    )


def bisected(
    f: Callable[[Array, Any], Array], low: Array, high: Array, arguments: Any, steps: int
) -> Array:
    """The root in [low, high] of the falling function f(·, arguments) after `steps` bisections."""
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
    problem = Problem(question.log_probs, question.rewards)
    if goal.quantity != "reward":
        return getattr(compiled_metrics(problem, temperature, log_n, plan), goal.quantity)
    terms = exact.tilted_terms(problem, temperature)
    soft = jax.tree.map(lambda x: x[0], exact.soft_terms(terms, temperature, log_n[None], plan))
    p = jnp.exp(terms.log_probs)
    change = exact.change(p, soft.probs, soft.eta, soft.log_base_ratio)
    return change @ (terms.rewards - p @ terms.rewards)
