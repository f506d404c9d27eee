"""The quadrature in log t behind every exact law."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# Every law here is ∫₀^∞ f(t) dt = ∫ f(e^u) e^u du with f built from exp(-t w_k). The integrand is
# analytic for |Im u| < π/2, so the trapezoid rule on the lattice u = h·j is off by about exp(-π²/h)
# only. As a function of u it changes only where t w_k ~ 1 for some outcome, that is near
# u = -log w_k; between two such windows it is a constant times e^u, and the lattice points there sum
# to a geometric series that the first point after the gap carries as its weight. So the number of
# points is bounded by the number of distinct outcomes however small the temperature is.


class Rule(NamedTuple):
    """Constants of the trapezoid rule for one float dtype."""

    spacing: float  # h, exactly representable
    left: float  # the integrand is a constant times e^u to e^-left below a window
    right: float  # the integrand has vanished above: exp(-e^right)
    largest_offset: float  # beyond it the lattice itself is no longer resolved


def rule_for(dtype: Any, fine: bool) -> Rule:
    """The rule that reaches the precision of `dtype`; `fine` quarters the spacing.

    φ^{n-1} is analytic where n is an integer. For other n it has a branch point at every complex
    zero of φ, which an unlikely worst outcome brings near the real axis; |φ|^{n-1} makes that harmless
    unless n is small, and then a quarter of the spacing is enough.
    """
    if jnp.finfo(dtype).bits >= 64:
        spacing, left, right, largest_offset = 0.28125, 17.5, 3.75, 2.0**40
    else:
        spacing, left, right, largest_offset = 0.5, 9.0, 3.0, 2.0**18
    return Rule(spacing / 4 if fine else spacing, left, right, largest_offset)


class Lattice(NamedTuple):
    """Quadrature points: `u` and log weights `[Q]` (-inf where unused), and whether Q was enough."""

    u: Array
    log_weight: Array
    resolved: Array


def _windows(xp: Any, rule: Rule, offsets: Any, log_n: Any, log_mean: Any) -> tuple[Any, Any, Any]:
    """First lattice index, gap before it and number of points of each window, `[..., K]` each.

    `offsets` are the -log w of the outcomes, `log_n` the largest log n and `log_mean` = log E[w]. The
    factor φ(t)^{n-1} begins to fall at t ~ 1/(nμ), and at a lower outcome's own step no sooner than a
    factor n before it, which is what the left ends allow for.
    """
    offsets = xp.sort(offsets, axis=-1)
    first = -xp.logaddexp(xp.zeros_like(log_n), log_n + log_mean)[..., None]
    start = xp.maximum(offsets - log_n[..., None], first) - rule.left
    start = xp.floor(start / rule.spacing)
    end = xp.ceil((offsets + rule.right) / rule.spacing)
    after_previous = xp.concatenate([start[..., :1], end[..., :-1] + 1], axis=-1)
    gap = xp.maximum(start - after_previous, 0.0)
    start = after_previous + gap
    return start, gap, xp.maximum(end - start + 1, 0.0)


def nodes_needed(rule: Rule, offsets: np.ndarray, log_n: np.ndarray, log_mean: np.ndarray) -> int:
    """Host-side count of the lattice points that `lattice` would use, the largest over a batch."""
    with np.errstate(over="ignore"):
        counts = _windows(np, rule, offsets, log_n, log_mean)[2]
    return int(counts.sum(-1).max())


def lattice(rule: Rule, offsets: Array, log_n: Array, log_mean: Array, nodes: int) -> Lattice:
    """The `nodes` quadrature points for one problem; a constant to differentiation.

    Args:
      rule: static constants.
      offsets: `[K]` -log w >= 0, the smallest of them 0.
      log_n: scalar, the largest log n that shares the points.
      log_mean: scalar, log E[w] <= 0.
      nodes: static Q.

    Returns:
      A `Lattice` of Q points.
    """
    offsets, log_n, log_mean = jax.lax.stop_gradient((offsets, log_n, log_mean))
    h = rule.spacing
    start, gap, count = _windows(jnp, rule, offsets, log_n, log_mean)
    stop = jnp.cumsum(count)
    position = jnp.arange(nodes, dtype=offsets.dtype)
    window = jnp.minimum(jnp.searchsorted(stop, position, side="right"), offsets.shape[0] - 1)
    inside = position - (stop - count)[window]
    u = h * (start[window] + inside)
    # The first point of all stands for everything to its left, the first after a gap for the gap.
    skipped = jnp.where(window == 0, jnp.inf, gap[window])
    geometric = jnp.expm1(-h * (skipped + 1)) / math.expm1(-h)
    weight = h * jnp.where(inside == 0, geometric, 1.0)
    used = position < stop[-1]
    resolved = (stop[-1] <= nodes) & (jnp.max(offsets) < rule.largest_offset)
    u = jnp.where(used, u, 0.0)
    return Lattice(u, jnp.where(used, jnp.log(weight), -jnp.inf), resolved)


@functools.cache
def node_bucket(needed: int) -> int:
    """`needed` rounded up to 128, 160, 192, 256, 320, ...: few sizes, so few compilations."""
    octave = 128
    while 2 * octave < needed:
        octave *= 2
    sizes = (octave, octave * 5 // 4, octave * 3 // 2, octave * 2)
    return next(size for size in sizes if size >= needed)
