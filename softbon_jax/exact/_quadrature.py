"""The quadrature in log t behind every exact law.

Every law here is ∫₀^∞ f(t) dt = ∫ f(e^u) e^u du with f built from exp(-t w_k). The integrand is
analytic for |Im u| < π/2, so the trapezoid rule with spacing h is off by about exp(-π²/h) only. As a
function of u it changes only where t w_k ~ 1 for some outcome, that is near u = -log w_k. Three
things keep the number of nodes small:

- To the left of everything the integrand is a multiple of e^u, which falls slowly: nodes at
  u = s - e^{s₀ - s}, s = h j, reach its end within a few units of s (Takahasi and Mori 1974).
- Between two windows that are far apart it is a multiple of e^u too, and there the nodes that are
  left out sum to a geometric series, which the first node after the gap carries as its weight. So the
  number of nodes is bounded by the number of distinct outcomes however small the temperature is.
- φ^{n-1} is analytic where n is an integer. For other n it has a branch point at every complex zero of
  φ, which an unlikely worst outcome brings near the real axis; |φ|^{n-1} makes that harmless unless n
  is small. The spacing follows from what n and P ask for (`spacing`), and is traced.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

FEW = 6.0
"""Below this n the branch points of φ^{n-1} count."""

FEWEST = 64
"""So many nodes there are at least."""


class Rule(NamedTuple):
    """Constants of the trapezoid rule for one float dtype."""

    spacing: float  # h where n is an integer, exactly representable
    digits: float  # -log of the error allowed
    first: float  # s₀ - s of the first node of all
    left: float  # after a gap the integrand is a constant times e^u to e^-left below a window
    right: float  # the integrand has vanished above: exp(-e^right)
    straight: float  # beyond s₀ + this, u is s to rounding
    largest_offset: float  # beyond it the nodes themselves are no longer resolved


@functools.cache
def rule_for(dtype: Any) -> Rule:
    """The rule that reaches the precision of `dtype`."""
    if jnp.finfo(dtype).bits >= 64:
        return Rule(0.28125, 32.0, 3.5625, 17.5, 3.75, 36.0, 2.0**40)
    return Rule(0.5, 17.0, 2.75, 9.0, 3.0, 16.0, 2.0**18)


class Nodes(NamedTuple):
    """`u` = log t and log weights `[Q]` (-inf where a node is unused), and whether Q was enough."""

    u: Array
    log_weight: Array
    resolved: Array


def finest(dtype: Any) -> float:
    """The spacing that serves every n and every P."""
    return rule_for(dtype).spacing / 4


def spacing(dtype: Any, log_probs: np.ndarray, offsets: np.ndarray, few: np.ndarray) -> float:
    """Host-side: the spacing that the n < `FEW` in `few` ask for which are not integers.

    Where the outcomes up to some reward, of mass B, take over from those above it, φ has a zero at
    an angle of about atan(π/log((1 - B)/B)) in u, where |φ| <= 2B; the rule is then off by
    e^{-2π angle/h} B^{n-1}.

    Args:
      dtype: float dtype of the computation.
      log_probs: `[..., K]` log P.
      offsets: `[..., K]` -log w, broadcasts against `log_probs`.
      few: `[M]` the n in question.
    """
    rule = rule_for(dtype)
    if few.size == 0:
        return rule.spacing
    log_probs, offsets = np.broadcast_arrays(log_probs, offsets)
    order = np.argsort(-offsets, axis=-1, kind="stable")  # the worst first
    below = np.cumsum(np.exp(np.take_along_axis(log_probs, order, axis=-1)), axis=-1)[..., :-1]
    below = below[(below > 0) & (below < 0.5)]
    if below.size == 0:
        return rule.spacing
    angle = np.arctan(math.pi / np.log((1 - below) / below))
    wanted = rule.digits + (few.min() - 1) * np.log(2 * below)
    needed = float(np.min(2 * math.pi * angle / np.maximum(wanted, 1.0)))
    return min(max(needed, finest(dtype)), rule.spacing)


def _windows(
    xp: Any, rule: Rule, h: Any, offsets: Any, log_n: Any, log_mean: Any
) -> tuple[Any, Any, Any, Any]:
    """First index, gap before it and number of nodes of each window, `[..., K]` each; and s₀ `[...]`.

    `offsets` are the -log w of the outcomes, `log_n` the largest log n and `log_mean` = log E[w]. The
    factor φ(t)^{n-1} begins to fall at t ~ 1/(nμ), and at a lower outcome's own step no sooner than a
    factor n before it, which is what the left ends allow for.
    """
    offsets = xp.sort(offsets, axis=-1)
    falls = -xp.logaddexp(xp.zeros_like(log_n), log_n + log_mean)
    changes = xp.maximum(offsets - log_n[..., None], falls[..., None])
    origin = changes[..., 0]
    start = xp.floor((changes - rule.left) / h)
    end = xp.ceil((offsets + rule.right) / h)
    first = xp.floor((changes[..., :1] - rule.first) / h)
    after_previous = xp.concatenate([first, end[..., :-1] + 1], axis=-1)
    start = xp.where(h * start > origin[..., None] + rule.straight, start, after_previous)
    gap = xp.maximum(start - after_previous, 0.0)
    start = after_previous + gap
    return start, gap, xp.maximum(end - start + 1, 0.0), origin


def nodes_needed(
    rule: Rule, h: float, offsets: np.ndarray, log_n: np.ndarray, log_mean: np.ndarray
) -> int:
    """Host-side count of the nodes that `nodes_for` would use, the largest over a batch.

    Or a bound of it, where there would be few enough without any gap.
    """
    most = np.logaddexp(0.0, (log_n + log_mean).max()) + offsets.max()
    without_gaps = (most + rule.first + rule.right) / h + 3
    if without_gaps < FEWEST:
        return int(without_gaps)
    with np.errstate(over="ignore"):
        counts = _windows(np, rule, h, offsets, log_n, log_mean)[2]
    return int(counts.sum(-1).max())


def nodes_for_any(
    rule: Rule, h: float, offsets: np.ndarray, log_n: np.ndarray, log_mean: np.ndarray
) -> int:
    """Host-side bound of the nodes for these arguments, any higher temperature and any smaller n.

    The count itself may rise with the temperature, where windows come too close for a gap. Nodes are
    rounded where a run of windows without gaps begins and ends, and there is no gap where outcomes are
    closer than the two ends of a window.
    """
    offsets = np.sort(offsets, axis=-1)
    falls = np.logaddexp(np.zeros_like(log_n), log_n + log_mean)
    close = (rule.straight + rule.left + log_n)[..., None]
    apart = np.diff(offsets, axis=-1, prepend=0.0)
    window = np.minimum(apart, log_n[..., None] + rule.left + rule.right)
    length = np.minimum(offsets[..., -1], close[..., 0]) + np.where(offsets > close, window, 0).sum(
        -1
    )
    runs = 1 + (apart > rule.left + rule.right).sum(-1)
    return int(np.ceil((length + falls + rule.first + rule.right) / h + 3 * runs).max())


def nodes_for(
    rule: Rule, h: float | Array, offsets: Array, log_n: Array, log_mean: Array, size: int
) -> Nodes:
    """The `size` nodes for one problem; constants to differentiation.

    Args:
      rule: static constants.
      h: scalar, the spacing.
      offsets: `[K]` -log w >= 0, the smallest of them 0.
      log_n: scalar, the largest log n that shares the nodes.
      log_mean: scalar, log E[w] <= 0.
      size: static Q.

    Returns:
      `Nodes` of size Q.
    """
    h = jnp.asarray(h, offsets.dtype)
    offsets, log_n, log_mean = jax.lax.stop_gradient((offsets, log_n, log_mean))
    start, gap, count, origin = _windows(jnp, rule, h, offsets, log_n, log_mean)
    stop = jnp.cumsum(count)
    position = jnp.arange(size, dtype=offsets.dtype)
    # Comparing all is one fused loop, and compiles in a fraction of the time of a binary search.
    method = "compare_all" if offsets.shape[0] <= 512 else "scan"
    window = jnp.searchsorted(stop, position, side="right", method=method)
    window = jnp.minimum(window, offsets.shape[0] - 1)
    inside = position - (stop - count)[window]
    s = h * (start[window] + inside)
    # The first node after a gap stands for the gap.
    skipped = jnp.where(inside == 0, gap[window], 0.0)
    geometric = jnp.expm1(-h * (skipped + 1)) / jnp.expm1(-h)
    bend = jnp.exp(origin - s)  # u = s - e^{s₀ - s}, du/ds = 1 + e^{s₀ - s}
    used = position < stop[-1]
    resolved = (stop[-1] <= size) & (jnp.max(offsets) < rule.largest_offset)
    log_weight = jnp.log(h * geometric) + jnp.log1p(bend)
    return Nodes(jnp.where(used, s - bend, 0.0), jnp.where(used, log_weight, -jnp.inf), resolved)


@functools.cache
def node_bucket(needed: int) -> int:
    """`needed` rounded up to 64, 96, 128, 192, 256, ...: few sizes, so few compilations."""
    octave = FEWEST
    while 2 * octave < needed:
        octave *= 2
    return next(size for size in (octave, octave * 3 // 2, octave * 2) if size >= needed)
