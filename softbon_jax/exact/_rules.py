"""The closed forms of one problem: hard best-of-n and the uniform race."""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax.exact import _soft

Array = jax.Array


def finite_n(log_n: Array) -> Array:
    """The n = e^log_n, kept below the largest float: it multiplies rates, and rates of 0 must stay 0."""
    return jnp.exp(jnp.minimum(log_n, 0.95 * math.log(jnp.finfo(log_n.dtype).max)))


# Hard best-of-n -----------------------------------------------------------------------------------


class HardTerms(NamedTuple):
    """The hard best-of-n law of one problem for one n; arrays over the K outcomes.

    Attributes:
      log_base_ratio: log P_n/P, the same for tied outcomes.
      eta: P_n/P - 1 to relative accuracy where |log_base_ratio| < NEAR; 0 elsewhere.
      log_top: scalar, log P(best reward).
      log_miss: scalar, log Pr(the selected outcome does not have the best reward); -inf if all tie.
    """

    log_base_ratio: Array
    eta: Array
    log_top: Array
    log_miss: Array


RANKED_BY_PAIRS = 256
"""So many outcomes are ranked by comparing all pairs: faster, and compiled in a fraction of the time."""


def rank_masses(probs: Array, rewards: Array) -> tuple[Array, Array, Array]:
    """For each of K outcomes the probability of a lower, of an equal and of a higher reward."""
    if probs.shape[0] <= RANKED_BY_PAIRS:
        lower = (rewards[None] < rewards[:, None]).astype(probs.dtype)
        higher = (rewards[None] > rewards[:, None]).astype(probs.dtype)
        return lower @ probs, (1 - lower - higher) @ probs, higher @ probs
    order = jnp.argsort(rewards)
    ranked, p = rewards[order], probs[order]
    zero = jnp.zeros((1,), p.dtype)
    from_below = jnp.concatenate([zero, jnp.cumsum(p)])
    from_above = jnp.concatenate([jnp.cumsum(p[::-1])[::-1], zero])
    first = jnp.searchsorted(ranked, rewards, side="left")
    stop = jnp.searchsorted(ranked, rewards, side="right")
    group = jax.ops.segment_sum(p, jnp.searchsorted(ranked, ranked, side="left"), p.shape[0])
    return from_below[first], group[first], from_above[stop]


def hard_terms(log_probs: Array, rewards: Array, log_n: Array) -> HardTerms:
    """The exact law of hard best-of-n for a `[K]` problem and a scalar log n.

    F(x)^n - F(x-)^n for the group of outcomes tied with x, split in proportion to P inside it.
    """
    chex.assert_rank([log_probs, rewards, log_n], [1, 1, 0])
    chex.assert_equal_shape([log_probs, rewards])
    below, group, higher = rank_masses(jnp.exp(log_probs), rewards)
    up_to = below + group  # F
    lowest = below <= 0
    # -log F from the mass above where that is the smaller, and -log F(x-) - (-log F) likewise.
    rate = jnp.where(
        higher < 0.5, -jnp.log1p(-jnp.where(higher < 0.5, higher, 0.0)), -jnp.log(up_to)
    )
    share = jnp.where(lowest, 0.25, group / up_to)
    drop = jnp.where(
        share < 0.5, -jnp.log1p(-share), jnp.log(up_to) - jnp.log(jnp.where(lowest, 1.0, below))
    )
    positive = rate > 0
    log_rate = jnp.where(positive, jnp.log(jnp.where(positive, rate, 1.0)), -jnp.inf)
    log_reach = jnp.where(positive, -jnp.exp(jnp.where(positive, log_rate, 0.0) + log_n), 0.0)
    log_miss = -jnp.exp(jnp.log(drop) + log_n)  # log (F(x-)/F(x))^n
    log_step = jnp.where(lowest, 0.0, _special.log1mexp(jnp.where(lowest, 1.0, -log_miss)))
    log_base_ratio = log_reach + log_step - jnp.log(group)

    # Near 1: P_n/P - 1 = [F (F^{n-1} - 1) - F- (F-^{n-1} - 1)] / (F - F-).
    more = jnp.expm1(jnp.minimum(log_n, math.log(2)))  # n - 1, used only where it is small
    grown = up_to * jnp.expm1(-more * rate)
    grown_below = jnp.where(lowest, 0.0, below * jnp.expm1(-more * (rate + drop)))
    excess = jnp.where(
        log_n < math.log(2), (grown - grown_below) / group, jnp.expm1(log_base_ratio)
    )
    log_base_ratio, eta = _special.refined(log_base_ratio, excess)

    top = jnp.argmax(rewards)
    log_miss_top = jnp.where(lowest[top], -jnp.inf, log_miss[top])
    return HardTerms(log_base_ratio, eta, jnp.log(group[top]), log_miss_top)


# The uniform race ---------------------------------------------------------------------------------


def race_terms(terms: _soft.TiltedTerms, log_n: Array) -> _soft.SoftTerms:
    """The law of the race for a `[K]` problem and a scalar log n, in the form of soft best-of-n.

    Outcomes in order of w cut the axis of scores into pieces; F rises by B_j (1/w_j - 1/w_{j+1}) on
    piece j, and by μ/w_max on the last. From these increments F and 1 - F are running sums, and with
    T_j = [F(w_{j+1})^n - F(w_j)^n]/B_j the ratio P_n/P* is μ Σ_{j >= x} T_j. Its last term is
    common to all outcomes, so that differences of the ratio between outcomes are sums of the others.
    """
    order = jnp.argsort(terms.exponents)
    p, x = jnp.exp(terms.log_probs)[order], terms.exponents[order]
    zero = jnp.zeros((1,), p.dtype)
    tiny = jnp.finfo(p.dtype).tiny
    b, scale = _running_sum(p, x)  # B_j = b e^scale
    gap = jnp.diff(x)
    share = b * jnp.exp(scale - x)  # B_j/w_j
    rise = share * jnp.append(-jnp.expm1(-gap), 1.0)
    below = jnp.concatenate([zero, jnp.cumsum(rise)])  # F at the left ends, and 1
    above = jnp.concatenate([jnp.cumsum(rise[::-1])[::-1], zero])  # 1 - F there
    left, right, missing = below[:-1], below[1:], above[1:]

    n = finite_n(log_n)
    seen = (right > tiny) & (b > 0)
    small = missing < 0.5
    rate = jnp.where(  # -log F at the right end
        small,
        -jnp.log1p(-jnp.where(small, missing, 0.0)),
        -jnp.log(jnp.where(seen & ~small, right, 1.0)),
    )
    part = jnp.where(seen, rise / jnp.where(seen, right, 1.0), 0.0)
    lowest = left <= tiny
    minor = part < 0.5
    drop = jnp.where(  # log F at the right end less that at the left
        minor,
        -jnp.log1p(-jnp.where(minor, part, 0.0)),
        -jnp.log(jnp.where(lowest | minor, 1.0, left / jnp.where(seen, right, 1.0))),
    )
    # T_j = step e^{log_height}; all but the last are summed from above, the last stays alone.
    summed = seen & (jnp.arange(p.shape[0]) < p.shape[0] - 1)
    step = jnp.where(lowest, 1.0, -jnp.expm1(-n * drop))
    log_height = -n * rate - scale - jnp.log(jnp.where(b > 0, b, 1.0))
    step, log_height = jnp.where(summed, step, 0.0), jnp.where(summed, log_height, -jnp.inf)
    rest, rest_scale = (y[::-1] for y in _running_sum(step[::-1], log_height[::-1]))
    log_miss = jnp.where(lowest[-1], -jnp.inf, -n * drop[-1])  # log F(w_max)^n
    log_last = jnp.where(lowest[-1], 0.0, _special.log1mexp(jnp.where(lowest[-1], 1.0, -log_miss)))
    # The lead of an outcome is its P_n/P* less the smallest one; E_{P*} of it is e^{log_miss}.
    back = jnp.argsort(order)
    positive, reached = rest > 0, jnp.isfinite(rest_scale)
    log_lead = jnp.where(
        positive, jnp.log(jnp.where(positive, rest, 1.0)) + rest_scale + terms.log_mean, -jnp.inf
    )
    minor = log_lead < log_last
    scale = jnp.where(reached & minor, rest_scale, 0.0) + terms.log_mean - log_last
    lead_over_last = jnp.where(minor & reached, rest, 0.0) * jnp.exp(jnp.where(minor, scale, 0.0))
    log_ratio = jnp.where(
        minor, log_last + jnp.log1p(lead_over_last), jnp.logaddexp(log_last, log_lead)
    )
    near = jnp.abs(log_ratio) < _special.NEAR
    lead = jnp.where(near & reached, rest, 0.0) * jnp.exp(
        jnp.where(near & reached, rest_scale, 0.0) + terms.log_mean
    )
    delta = jnp.where(near, lead - jnp.exp(log_miss), 0.0)
    log_ratio = jnp.where(near, jnp.log1p(delta), log_ratio)[back]
    delta = delta[back]
    log_base_ratio = log_ratio + terms.exponents - terms.log_mean
    eta = jnp.expm1(jnp.where(jnp.abs(log_base_ratio) < _special.NEAR, log_base_ratio, 0.0))
    probs = jnp.exp(terms.log_tilted + log_ratio)
    return _soft.SoftTerms(probs, log_ratio, delta, log_base_ratio, eta)


def _running_sum(mantissa: Array, log_scale: Array) -> tuple[Array, Array]:
    """Running sums of mantissa · e^log_scale `[K]` in the same form, the scale their largest so far.

    The scale is held constant under differentiation, and the sums are linear in the mantissa: terms
    that are 0 keep their gradient, which a sum of logarithms would lose.
    """
    constant = jax.lax.stop_gradient(log_scale)
    kept = jnp.isfinite(constant)
    mantissa = mantissa * jnp.exp(jnp.where(kept, log_scale - jnp.where(kept, constant, 0.0), 0.0))

    def add(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
        top = jnp.maximum(one[1], other[1])
        base = jnp.where(jnp.isfinite(top), top, 0.0)
        return one[0] * jnp.exp(one[1] - base) + other[0] * jnp.exp(other[1] - base), top

    return jax.lax.associative_scan(add, (mantissa, constant))
