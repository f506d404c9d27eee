"""What a kernel is compiled for: how many quadrature points, and which form of the integrals."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.exact import _quadrature
from softbon_jax.problem import Problem

Array = jax.Array

DEFAULT_NODES = 2048
"""Quadrature points used where the arguments are traced and none are asked for."""


class Plan(NamedTuple):
    """What a kernel is compiled for; static.

    Attributes:
      nodes: number of quadrature points.
      wide: whether integrands are formed in logs, because they may leave the range of the floats.
      fine: whether the points are four times as dense, for n that are small and not integers, or
        differentiated.
      own_eta: whether P_n/P - 1 needs an integral of its own.
      limits: whether a temperature may be 0 or inf, which have laws of their own.
    """

    nodes: int
    wide: bool
    fine: bool
    own_eta: bool
    limits: bool


def quadrature_plan(
    problem: Problem, temperature: Array, log_n: Array, nodes: int | None, *, grid: bool = False
) -> Plan:
    """What to compile for, from the arguments where they are concrete.

    The points are as many as asked for; else enough for the arguments, from a few sizes, if all are
    concrete; else `DEFAULT_NODES`. `temperature` broadcasts against the problem's batch, or with
    `grid` is an axis `[T]` after it; `log_n` is taken as a whole, its largest value deciding.
    """
    if nodes is not None and (not isinstance(nodes, (int, np.integer)) or nodes < 1):
        raise ValueError(f"nodes must be a positive integer, got {nodes!r}")
    values = [_checks.concrete(x) for x in (*problem, temperature, log_n)]
    if any(v is None for v in values):
        return Plan(int(nodes or DEFAULT_NODES), True, True, True, True)
    log_probs, rewards, t, log_n_value = (np.asarray(v, np.float64) for v in values)
    if grid:
        log_probs, rewards = log_probs[..., None, :], rewards[..., None, :]
    t = t[..., None]
    support = log_probs > -np.inf
    top = np.max(rewards, axis=-1, where=support, initial=-np.inf, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        proper = np.where((t > 0) & np.isfinite(t), t, np.inf)
        offsets = np.where(support, (top - rewards) / proper, 0.0)
        largest = np.max(np.where(support, log_probs - offsets, -np.inf), -1, keepdims=True)
        log_mean = largest[..., 0] + np.log(np.sum(np.exp(log_probs - offsets - largest), -1))
    dtype = problem.rewards.dtype
    log_n_most = log_n_value.max(initial=0.0)
    rarest = -np.min(np.where(support, log_probs, 0.0), initial=0.0)
    reach = offsets.max(initial=0.0) + max(log_n_most, -log_mean.min(initial=0.0), rarest)
    wide = bool(reach > 0.8 * math.log(jnp.finfo(dtype).max))
    limits = bool(np.any((t == 0) | np.isposinf(t)))
    few = np.exp(log_n_value[log_n_value < math.log(6)])
    # The derivative with respect to n has the branch points of log φ even where n is an integer.
    varied = isinstance(log_n, jax.core.Tracer)
    fine = bool(np.any(np.abs(few - np.rint(few)) > 1e-6) or (varied and few.size))
    rare = rarest > -math.log(10 * jnp.finfo(dtype).eps)
    own_eta = bool(rare or np.any((few > 1) & (few < 2 - 1e-6)))
    if nodes is None:
        rule = _quadrature.rule_for(dtype, fine)
        most = np.full(log_mean.shape, log_n_most)
        nodes = _quadrature.node_bucket(_quadrature.nodes_needed(rule, offsets, most, log_mean))
    return Plan(int(nodes), wide, fine, own_eta, limits)
