"""The root behind every calibration: where a quantity of soft best-of-n meets its target.

Found in log λ or log(n - 1) by `_solver`. A divergence to the tilted law may meet it at several
temperatures: a scan first finds the highest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _batching, _loops, exact
from softbon_jax.exact.metrics import interior_metrics
from softbon_jax.problem import Problem
from softbon_jax.tuning._search import on_host, search_plan, soft_law
from softbon_jax.tuning._solver import crossing

Array = jax.Array

SCANNED = 64
"""Temperatures of a scan, half of them uniform in 1/λ and half in log λ; and of each refinement."""

_ROUNDS = 3
"""The scan, and what refines its maximum."""


class Goal(NamedTuple):
    """What is to be met, and by what; static."""

    quantity: str  # a field of Metrics; "reward" is measured as the gain over E_P[r]
    unknown: Literal["temperature", "n"]

    @property
    def scanned(self) -> bool:
        """Whether the quantity may rise and fall along the unknown."""
        return self.unknown == "temperature" and self.quantity not in ("kl_soft_base", "reward")


class Question(NamedTuple):
    """Problems `[..., K]` and numbers `[...]`: the known, and a bracket of log unknown."""

    problem: Problem
    known: Array  # log n where the temperature is asked for, else the temperature
    target: Array
    low: Array  # log λ, or log(n - 1)
    high: Array


class Root(NamedTuple):
    """Where the target is met; arrays `[...]`.

    Attributes:
      at: log λ or log(n - 1); NaN where the bracket has no root.
      value: what is met there.
      under: bool, whether the root, if any, is under the bracket.
      most: the largest value that a scan has seen; -inf without a scan.
    """

    at: Array
    value: Array
    under: Array
    most: Array


def nowhere(shape: tuple[int, ...], dtype: Any) -> Root:
    """The `Root` of no search."""
    nan = np.full(shape, np.nan, dtype)
    unseen, no = np.full(shape, -np.inf, dtype), np.zeros(shape, bool)
    return Root(*(jnp.asarray(x) for x in (nan, nan, no, unseen)))


def find(goal: Goal, question: Question, nodes: int | None) -> tuple[Root, exact.Plan]:
    """The root, and the plan that it was found with."""
    if goal.unknown == "temperature":
        temperature, log_n = on_host(np.exp, question.low), question.known
    else:
        temperature = question.known
        log_n = on_host(lambda x: np.logaddexp(np.zeros_like(x), x), question.high)
    plan = search_plan(question.problem, temperature, log_n, nodes, any_n=goal.unknown == "n")
    return _solve(goal, plan, question), plan


@functools.partial(jax.jit, static_argnames="goal")
def _solve(goal: Goal, plan: exact.Plan, question: Question) -> Root:
    rises = goal.unknown == "n" and goal.quantity == "kl_soft_base"

    def excess(at: Array, arguments: tuple[exact.Plan, Question]) -> Array:
        """Log of measured/target, with the sign that makes it fall across the bracket."""
        plan, question = arguments
        value = _measured(goal, plan, at, question)
        log_ratio = jnp.log(jnp.maximum(value, jnp.finfo(value.dtype).tiny) / question.target)
        return -log_ratio if rises else log_ratio

    def one(log_probs: Array, rewards: Array, *numbers: Array) -> Root:
        question = Question(Problem(log_probs, rewards), *numbers)
        chex.assert_rank(numbers, 0)
        chex.assert_type(numbers, rewards.dtype)
        question = question._replace(target=jnp.where(question.target > 0, question.target, 1.0))
        low, high = jax.lax.stop_gradient((question.low, question.high))
        most = jnp.full_like(low, -jnp.inf)
        if goal.scanned:
            fixed = jax.lax.stop_gradient((plan, question))
            low, high, most = _last_fall(lambda x: excess(x, fixed), low, high)
            most = fixed[1].target * jnp.exp(most)
        found = crossing(excess, low, high, (plan, question))
        # What is met is the target, and so are its derivatives.
        missed = jnp.exp(-found.residual if rises else found.residual)
        value = jnp.where(jnp.isnan(found.at), jnp.nan, question.target * missed)
        return Root(found.at, value, found.under, most)

    # In small batches, so that what a batch needs stays in the cache.
    outcomes = question.problem.num_outcomes
    return _batching.over_batch(
        one,
        question.problem,
        question[1:],
        elements=32 * plan.nodes * outcomes,
        least=exact.elements_at_once(outcomes, plan.nodes),
    )


def _last_fall(f: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array, Array]:
    """A bracket of the last fall of f(log λ) to 0, and the maximum of f, which is refined.

    A rise above 0 between points of the scan is found if the maximum is there. Where f is below 0
    throughout, so are both ends of the bracket.
    """
    half = SCANNED // 2
    y = jnp.linspace(1 / SCANNED, 1, half, dtype=low.dtype)  # (lowest λ)/λ
    upper = jnp.linspace(low + math.log(SCANNED), high, half)
    scan = jnp.sort(jnp.clip(jnp.concatenate([low - jnp.log(y), upper]), low, high))

    def refine(grid: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        values = jax.lax.map(f, grid)
        top = jnp.clip(jnp.argmax(values), 1, SCANNED - 2)
        return jnp.linspace(grid[top - 1], grid[top + 1], SCANNED), (grid, values)

    _, (grids, values) = _loops.scan(refine, scan, length=_ROUNDS)
    crest = grids.ravel()[jnp.argmax(values)]
    last = jnp.max(jnp.where(values[0] >= 0, scan, -jnp.inf))
    begin = jnp.where(last > -jnp.inf, last, crest)
    return begin, jnp.min(jnp.where(scan > begin, scan, high)), jnp.max(values)


def _measured(goal: Goal, plan: exact.Plan, at: Array, question: Question) -> Array:
    """The quantity of the goal where the logarithm of the unknown is `at`."""
    if goal.unknown == "temperature":
        temperature, log_n = jnp.exp(at), question.known
    else:
        temperature, log_n = question.known, jnp.logaddexp(0.0, at)
    if goal.quantity not in ("reward", "kl_soft_base"):
        return getattr(interior_metrics(question.problem, temperature, log_n, plan), goal.quantity)
    law = soft_law(question.problem, temperature, log_n, plan)
    return law.gain(law.rewards) if goal.quantity == "reward" else law.kl_base
