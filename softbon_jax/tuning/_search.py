"""What every search in this room evaluates: the exact law at one temperature and n, and its plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, exact
from softbon_jax.problem import Problem

Array = jax.Array

CLOSED_FORM = exact.Plan(nodes=1, wide=True, spacing=1.0)
"""The plan of a rule whose law is a closed form: no argument asks for another kernel."""


def search_plan(
    problem: Problem, temperature: Any, log_n: Any, nodes: int | None, *, any_n: bool
) -> exact.Plan:
    """The plan of a search between positive, finite temperatures.

    Args:
      problem: `[..., K]`.
      temperature: `[...]` the lowest that can come up.
      log_n: `[...]` the largest that can come up.
      nodes: static number of quadrature nodes, or None for enough of them.
      any_n: whether n passes through small numbers that are not integers.

    Returns:
      The `Plan` for all of them.
    """
    return exact.quadrature_plan(problem, temperature, log_n, nodes, any_n=any_n, search=True)


def on_host(function: Callable[[np.ndarray], Any], x: Array) -> Any:
    """`function(x)` in NumPy, which compiles nothing; `x` itself if it is traced.

    For the plan alone, which reads no value where anything is traced.
    """
    value = _checks.concrete(x)
    return x if value is None else function(value)


class SoftLaw(NamedTuple):
    """The law P_n of soft best-of-n beside P, `[K]` each, and KL(P_n‖P) in nats."""

    base: Array  # P
    rewards: Array  # those of probability 0 moved to the largest of the others
    change: Array  # P_n - P, which keeps its digits where it is small
    kl_base: Array

    def gain(self, values: Array) -> Array:
        """E_{P_n}[values] - E_P[values]."""
        return self.change @ (values - self.base @ values)


def soft_law(problem: Problem, temperature: Array, log_n: Array, plan: exact.Plan) -> SoftLaw:
    """P_n of a `[K]` problem at a scalar temperature and log n."""
    chex.assert_rank([*problem, temperature, log_n], [1, 1, 0, 0])
    terms = exact.tilted_terms(problem, temperature)
    soft = jax.tree.map(lambda x: x[0], exact.soft_terms(terms, temperature, log_n[None], plan))
    p = jnp.exp(terms.log_probs)
    ratios = (p, soft.probs, soft.eta, soft.log_base_ratio)
    return SoftLaw(p, terms.rewards, exact.change(*ratios), exact.both_ways(*ratios)[1])
