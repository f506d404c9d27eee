"""The root behind every calibration: where a quantity of soft best-of-n meets its target.

Found in log λ or log(n - 1): bracketed on a coarse quadrature, polished by secants on the exact law, and
differentiable by the implicit function theorem. Where the answer is concrete and not good enough, the
search is run again on the exact law alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _light, law
from softbon_jax.metrics import _metrics
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
    plan = law.quadrature_plan(problem, temperature, log_n, nodes)._replace(limits=True)
    if goal.unknown == "n":  # n passes through small numbers that are no integers
        plan = plan._replace(fine=True, own_eta=True)
    few = 0
    if goal.quantity in ("kl_tilted_soft", "kl_soft_tilted"):
        if goal.unknown == "n" and nodes is None and _checks.concrete(log_n) is not None:
            plan = plan._replace(nodes=4 * plan.nodes)
    else:
        rule, rough = _light.rules_for(problem.rewards.dtype, plan.fine)
        many = nodes or _light.nodes_for(rule, problem, temperature, log_n)
        plan = plan._replace(nodes=many or law.DEFAULT_NODES, wide=True)
        few = _light.nodes_for(rough, problem, temperature, log_n) or plan.nodes // 2
    root = _solve(goal, plan, few, question, thorough=False)
    value, short = _checks.concrete(root.value), _checks.concrete(root.short)
    if value is not None and short is not None:
        target = np.asarray(jax.lax.stop_gradient(question.target))
        tolerance = max(_TOLERANCE, 100 * float(jnp.finfo(problem.rewards.dtype).eps))
        missed = ~(np.abs(value - target) <= tolerance * target) & ~short & (target > 0)
        if missed.any():
            root = _solve(goal, plan, few, question, thorough=True)
    return root


@functools.partial(jax.jit, static_argnames=("goal", "plan", "few", "thorough"))
def _solve(goal: Goal, plan: law.Plan, few: int, question: Question, *, thorough: bool) -> Root:
    def excess(at: Array, question: Question, few: int) -> Array:
        """Log of measured/target, with the sign that makes it fall across the bracket."""
        value = _measured(goal, plan, few, at, question)
        rises = goal.unknown == "n" and goal.quantity == "kl_soft_base"
        excess = jnp.log(jnp.maximum(value, jnp.finfo(value.dtype).tiny) / question.target)
        return -excess if rises else excess

    def one(*arguments: Array) -> Root:
        question = Question(*arguments)
        question = question._replace(target=jnp.where(question.target > 0, question.target, 1.0))
        fixed = jax.lax.stop_gradient(question)
        # Whether there is a root in the bracket is a matter for the exact law.
        short = excess(fixed.low, fixed, 0) < 0

        def solve(f: Callable[[Array], Array], low: Array) -> Array:
            def near(at: Array) -> Array:
                return f(at) if thorough else excess(at, fixed, few)

            at = bracketed(near, low, fixed.high, 60 if thorough else 12)
            apart = 1e-4 * jnp.ones_like(at)
            here, there = jax.lax.map(near, jnp.stack([at, at + apart]))

            def secant(_: Array, state: tuple) -> tuple:
                at, step, before, slope = state
                left = f(at)
                moved = (step != 0) & (left != before) & jnp.isfinite(before)
                slope = jnp.where(moved, (left - before) / jnp.where(moved, step, 1.0), slope)
                next_at = jnp.clip(at - left / slope, low, fixed.high)
                return next_at, next_at - at, left, slope

            # The first with the slope of the rough law.
            start = (at, jnp.zeros_like(at), jnp.full_like(at, jnp.nan), (there - here) / apart)
            return jax.lax.fori_loop(0, 3, secant, start)[0]

        def tangent_solve(tangent: Callable[[Array], Array], y: Array) -> Array:
            return y / tangent(jnp.ones_like(y))

        at = jax.lax.custom_root(
            lambda at: excess(at, question, 0), fixed.low, solve, tangent_solve
        )
        at = jnp.where(short, jnp.nan, at)
        return Root(at, _measured(goal, plan, 0, at, question), short)

    # In small batches, so that what a batch needs stays in the cache.
    return law.over_batch(
        one, 32 * plan.nodes * question.rewards.shape[-1], question[:2], question[2:]
    )


def _measured(goal: Goal, plan: law.Plan, few: int, at: Array, question: Question) -> Array:
    """The quantity of the goal where the logarithm of the unknown is `at`; roughly if few > 0."""
    if goal.unknown == "temperature":
        temperature, log_n = jnp.exp(at), question.known
    else:
        temperature, log_n = question.known, jnp.logaddexp(0.0, at)
    problem = Problem(question.log_probs, question.rewards)
    if goal.quantity in ("kl_tilted_soft", "kl_soft_tilted"):
        return getattr(_metrics(problem, temperature, log_n, plan), goal.quantity)
    terms = law.tilted_terms(problem, temperature)
    p = jnp.exp(terms.log_probs)
    exact, rough = _light.rules_for(p.dtype, plan.fine)
    ratio = _light.base_ratio(terms, log_n, rough if few else exact, few or plan.nodes)
    if goal.quantity == "reward":
        return p @ ((ratio - 1) * (terms.rewards - p @ terms.rewards))
    return _light.kl_base(p, ratio)


def bracketed(f: Callable[[Array], Array], low: Array, high: Array, steps: int) -> Array:
    """A point near the root of a falling function in [low, high].

    Regula falsi, the Illinois way, with a bisection every third step.
    """
    eps = jnp.finfo(low.dtype).eps
    f_low, f_high = jax.lax.map(f, jnp.stack([low, high]))
    f_low, f_high = jnp.maximum(f_low, eps), jnp.minimum(f_high, -eps)

    def step(i: Array, state: tuple) -> tuple:
        low, f_low, high, f_high, _ = state
        secant = low + (high - low) * f_low / jnp.where(f_low > f_high, f_low - f_high, 1.0)
        bisect = (i % 3 == 2) | ~((secant > low) & (secant < high))
        at = jnp.where(bisect, (low + high) / 2, secant)
        value = f(at)
        above = value > 0
        # The end that stays counts for half, so that it is left behind at last.
        return (
            jnp.where(above, at, low),
            jnp.where(above, value, f_low / 2),
            jnp.where(above, high, at),
            jnp.where(above, f_high / 2, value),
            at,
        )

    start = (low, f_low, high, f_high, (low + high) / 2)
    return jax.lax.fori_loop(0, steps, step, start)[-1]
