"""What a kernel is compiled for: how many quadrature nodes, and which form of the integrals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _memory
from softbon_jax.exact import _quadrature
from softbon_jax.problem import Problem

Array = jax.Array

DEFAULT_NODES = 2048
"""Quadrature nodes used where the arguments are traced and none are asked for."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plan:
    """What a kernel is compiled for (static), and how dense its nodes are (traced).

    Attributes:
      nodes: number of quadrature nodes; static.
      wide: whether integrands are formed in logs, because they may leave the range of the floats or
        because an outcome is so rare that P_n/P - 1 needs an integral of its own; static.
      steep: whether some temperature may be so low that the law is that of hard best-of-n (`_steep`);
        static.
      spacing: of the nodes in log t; traced, so that another one does not compile again.
    """

    nodes: int = dataclasses.field(metadata={"static": True})
    wide: bool = dataclasses.field(metadata={"static": True})
    spacing: float
    steep: bool = dataclasses.field(default=False, metadata={"static": True})


def may_be_limit(temperature: Any) -> bool:
    """Whether some temperature is 0 or inf, or is traced and may be."""
    value = _checks.concrete(temperature)
    return value is None or bool(np.any((value == 0) | np.isposinf(value)))


def quadrature_plan(
    problem: Problem,
    temperature: Any,
    log_n: Any,
    nodes: int | None,
    *,
    grid: bool = False,
    any_n: bool = False,
    search: bool = False,
) -> Plan:
    """The plan for these arguments, from their values where they are concrete.

    The nodes are as many as asked for; else enough for the arguments, from a few sizes, if all are
    concrete; else `DEFAULT_NODES`. `temperature` broadcasts against the problem's batch, or with
    `grid` is an axis `[T]` after it; `log_n` is taken as a whole, its largest value deciding. `any_n`
    says that n passes through small numbers that are not integers on the way there, `search` that
    higher temperatures and smaller n come up as well.
    """
    if nodes is not None:
        nodes = _checks.positive_integer("nodes", nodes)
    dtype = problem.rewards.dtype
    rule = _quadrature.rule_for(dtype)
    if temperature.size > 1:  # a few arrays in float64, on the host
        batch = problem.batch_shape
        shape = (
            (*batch, temperature.size) if grid else np.broadcast_shapes(batch, temperature.shape)
        )
        _memory.check(6 * 8 * math.prod(shape) * problem.num_outcomes)
    values = [_checks.concrete(x) for x in (*problem, temperature, log_n)]
    few_n = _few_n(log_n, any_n)
    if any(v is None for v in values):
        known_many = few_n is not None and few_n.size == 0
        spacing = rule.spacing if known_many else _quadrature.finest(dtype)
        return Plan(nodes or DEFAULT_NODES, True, spacing, not search)
    log_probs, rewards, t, log_n_value = (np.asarray(v, np.float64) for v in values)
    if grid:
        log_probs, rewards = log_probs[..., None, :], rewards[..., None, :]
    t = t[..., None]
    support = log_probs > -np.inf
    top = np.max(rewards, axis=-1, where=support, initial=-np.inf, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        finite_positive = np.where((t > 0) & np.isfinite(t), t, np.inf)
        quarter = top / 4 - rewards / 4  # which does not overflow
        offsets = np.where(support & (top > rewards), quarter / finite_positive * 4, 0.0)
        # No node tells apart what is farther.
        offsets = np.minimum(offsets, 2 * rule.largest_offset)
        largest = np.max(np.where(support, log_probs - offsets, -np.inf), -1, keepdims=True)
        log_mean = largest[..., 0] + np.log(np.sum(np.exp(log_probs - offsets - largest), -1))
    log_n_most = log_n_value.max(initial=0.0)
    rarest = -np.min(np.where(support, log_probs, 0.0), initial=0.0)
    reach = offsets.max(initial=0.0) + max(log_n_most, -log_mean.min(initial=0.0), rarest)
    limits = jnp.finfo(dtype)
    rare = rarest > -math.log(10 * limits.eps)
    wide = bool(rare or reach > 0.8 * math.log(limits.max))
    assert few_n is not None
    spacing = _quadrature.spacing(dtype, log_probs, offsets, few_n)
    if nodes is None:
        most = np.full(log_mean.shape, log_n_most)
        count = _quadrature.nodes_for_any if search else _quadrature.nodes_needed
        needed = count(rule, spacing, offsets, most, log_mean)
        nodes = _quadrature.node_bucket(needed)
    steep = not search and bool(offsets.max(initial=0.0) > math.sqrt(rule.largest_offset))
    return Plan(nodes, wide, spacing, steep)


def _few_n(log_n: Any, any_n: bool) -> np.ndarray | None:
    """The n for which the branch points of φ^{n-1} count; None where n is traced."""
    value = _checks.concrete(log_n)
    if any_n:
        return np.ones(1)
    if value is None:
        return None
    few = np.exp(value[value < math.log(_quadrature.FEW)], dtype=np.float64)
    # The derivative with respect to n has the branch points of log φ even where n is an integer.
    integer = np.abs(few - np.rint(few)) <= 1e-6
    return few if isinstance(log_n, jax.core.Tracer) else few[~integer]
