"""The reward at which to stop drawing, when every draw has a price.

Between two rewards the threshold makes no difference to the law: the best of all sets of outcomes to
stop at is found by going through them. Inside its interval the threshold itself is the reward at which
a further outcome would be worth as much as a stop as among those that are drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, _special, exact
from softbon_jax.problem import Problem
from softbon_jax.tuning._solver import crossing

Array = jax.Array


class Threshold(NamedTuple):
    """The best threshold, arrays of one batch shape.

    Attributes:
      value: reward units; inf where it is best never to stop before n.
      reward: E[r] of the outcome that is selected, reward units.
      mean_n: E[N], the mean number of draws.
      net: reward - price · mean_n, reward units.
      interior: bool, whether `value` solves the equation of `best_threshold`. If not it is the least
        reward at which the drawing ends, or inf.
    """

    value: Array
    reward: Array
    mean_n: Array
    net: Array
    interior: Array


def best_threshold(
    problem: Problem, price: Any, n: Any, temperature: Any, *, nodes: int | None = None
) -> Threshold:
    """The threshold that earns the most reward net of a price a draw.

    Draws end at the first reward >= z, n at most, and one of all drawn is selected as in `log_stopped`.
    Which z is the largest E[r] - c E[N] is found by going through all sets {r >= z}; between the best
    set's least reward and the next one below, z is where moving a vanishing probability of reward z
    from one side to the other changes nothing: with B = a S'' + n(n-1) s^{n-2},

      c S'(1 - q) = ∫₀^∞ e^{-t w(z)} {E_P[(r - z) w e^{-tw}; r >= z] S'(s)
                                      + E_P[(z - r) w e^{-tw}; r < z] (S'(s) - B)} dt.

    At λ = 0 that is Weitzman's E_P[(r - z)+] = c, whatever n is.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      price: `[...]` c of a draw, reward units, positive and finite, traced.
      n: `[...]` the most draws, real >= 1, traced; at n = 1 every threshold is as good.
      temperature: `[...]` λ, reward units, traced; 0 and inf are legal.
      nodes: static number of quadrature nodes, as in `log_soft_bon`.

    Returns:
      `Threshold` of the broadcast batch shape; NaN where `nodes` is too small.

    Raises:
      TypeError: an argument is not real.
      ValueError: a price that is not positive and finite, n < 1, a negative temperature, NaN or infinite
        rewards, a problem that is not a law, or shapes that do not broadcast. Values are checked when
        concrete; traced bad values give NaN.

    Numerics: the best set is found exactly, unless two differ by less than rounding; the root to about
    1e-12 of the range in float64. Cost O(K · nodes) in time and memory. λ below 1e-9 of the range
    (1e-4 in float32) but not 0 gives NaN. Where interior, `value` is differentiable by the implicit
    function theorem in everything but `nodes`; `reward`, `mean_n` and `net` are at a fixed set. The
    equation jumps at a reward, and may do so across 0: then there is no root, and `interior` is False.
    Source: Weitzman, Econometrica 47 (1979), for λ = 0; derived here for soft selection: the derivative
    of E[r] - c E[N] in the probability that is moved.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> best = sb.best_threshold(problem, 0.05, 16, 0.1)
      >>> round(float(best.value), 3), round(float(best.reward), 3), round(float(best.mean_n), 2)
      (0.544, 0.775, 4.86)
    """
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, None)
    price = _checks.finite_positive("price", price, problem.rewards.dtype)
    _checks.batch_shape(
        problem=problem.batch_shape,
        price=price.shape,
        n=log_n.shape,
        temperature=temperature.shape,
    )
    plan = exact.quadrature_plan(problem, temperature, log_n, nodes)
    return _best_threshold(problem, price, temperature, log_n, plan)


class _Sorted(NamedTuple):
    """One problem in order of its rewards, at the nodes, and what is asked; all are arrays."""

    p: Array  # [K]
    rewards: Array  # [K]
    at: exact.AtNodes
    log_t: Array  # [Q]
    interior: Array  # the temperature, inf where nothing is selected
    hard: Array  # 1 at temperature 0, else 0
    price: Array
    log_n: Array
    cut: Array  # the number of outcomes below the threshold, a float


@jax.jit
def _best_threshold(
    problem: Problem, price: Array, temperature: Array, log_n: Array, plan: exact.Plan
) -> Threshold:
    def one(
        log_probs: Array, rewards: Array, price: Array, temperature: Array, log_n: Array
    ) -> Threshold:
        chex.assert_equal_shape([log_probs, rewards])
        problem = Problem(log_probs, rewards)
        never = exact.law_of(problem, temperature, exact.Stopped(_inf(price), log_n), plan)
        order = jnp.argsort(never.terms.rewards)
        terms = never.terms._replace(
            log_probs=never.terms.log_probs[order],
            rewards=never.terms.rewards[order],
            exponents=never.terms.exponents[order],
        )
        at = exact.at_nodes(terms, never.rule.log_most(), plan)
        given = _Sorted(
            jnp.exp(terms.log_probs),
            terms.rewards,
            at,
            at.log_tw[:, -1] - terms.exponents[-1],
            jnp.where(temperature == 0, 1.0, never.interior),
            jnp.where(temperature == 0, jnp.ones_like(price), 0.0),
            price,
            log_n,
            jnp.zeros_like(price),
        )
        return _best(given, problem, temperature, plan)

    elements = problem.num_outcomes * plan.nodes
    return _batching.over_batch(
        one, problem, (price, temperature, log_n), elements=16 * elements, least=2 * elements
    )


def _inf(like: Array) -> Array:
    return jnp.full_like(like, jnp.inf)


def _best(given: _Sorted, problem: Problem, temperature: Array, plan: exact.Plan) -> Threshold:
    """The best set, and the root in its interval."""
    p, r, price, is_hard = given.p, given.rewards, given.price, given.hard > 0
    net = jax.lax.stop_gradient(_nets(given))
    distinct = jnp.concatenate([jnp.ones(1, bool), r[1:] > r[:-1], jnp.ones(1, bool)])
    cut = jnp.argmax(jnp.where(distinct, net, -jnp.inf)).astype(jnp.int32)
    mean = p @ r
    under = jnp.minimum(r[0], mean - 2 * price)
    low = jnp.where(is_hard | (cut == 0), under, r[jnp.maximum(cut - 1, 0)])
    most = jnp.append(r, jnp.inf)[cut]
    high = jnp.where(is_hard | jnp.isinf(most), r[-1], most)
    arguments = given._replace(
        cut=cut.astype(p.dtype), at=given.at._replace(resolved=jnp.ones_like(price))
    )
    root = crossing(_worth, low, high, arguments).at
    interior = ~jnp.isnan(root) & (is_hard | (cut < r.shape[0]))
    value = jnp.where(interior, root, most)
    stop = jax.lax.stop_gradient(jnp.where(is_hard, value, most))
    rule = exact.Stopped(stop, given.log_n)
    law = exact.law_of(problem, temperature, rule, plan)
    reward, mean_n = jnp.exp(law.log_probs()) @ law.terms.rewards, rule.mean(law.terms)
    sound = given.at.resolved & ~jnp.isnan(net).any() | is_hard
    best = Threshold(value, reward, mean_n, reward - price * mean_n, interior)
    return _batching.nan_in_nan_out(jnp.where(sound, 0.0, jnp.nan), best)


def _sums(x: Array) -> tuple[Array, Array]:
    """For `[..., K]` x the sums `[..., K + 1]` below each place and from it on."""
    zero = jnp.zeros((*x.shape[:-1], 1), x.dtype)
    below = jnp.concatenate([zero, jnp.cumsum(x, axis=-1)], axis=-1)
    above = jnp.concatenate([jnp.cumsum(x[..., ::-1], axis=-1)[..., ::-1], zero], axis=-1)
    return below, above


def _nets(given: _Sorted) -> Array:
    """E[r] - c E[N] `[K + 1]`, up to a constant, of stopping at the k-th outcome in order and above."""
    p, at = given.p[None], given.at
    centered = (given.rewards - given.p @ given.rewards)[None]
    s, a = _sums(p * at.decay)
    lost, _ = _sums(p * at.lost)
    earned_below, earned_above = _sums(p * at.z * at.decay * centered)
    below, above = _sums(given.p)
    stop = exact.stop_at(s, above[None] + lost, given.log_n)
    factor_below = a * stop.slope * jnp.exp(-2 * stop.log_rest) + jnp.exp(stop.log_own)
    at_each = earned_above * jnp.exp(stop.log_sum) + earned_below * factor_below
    some = above > 0
    draws = exact.stop_at(below, jnp.where(some, above, 0.5), given.log_n).log_sum
    mean_n = jnp.exp(jnp.where(some, draws, given.log_n))
    return jnp.exp(at.log_weight) @ at_each - given.price * mean_n


def _worth(z: Array, given: _Sorted) -> Array:
    """What an outcome of reward z is worth more among those drawn than as a stop, less the price."""
    p, r, at = given.p, given.rewards, given.at
    hard = p @ jnp.maximum(r - z, 0.0)
    reached = jnp.arange(p.shape[0], dtype=p.dtype) >= given.cut
    p_below, p_reached = jnp.where(reached, 0.0, p), jnp.where(reached, p, 0.0)
    q = jnp.sum(p_reached)
    rest = q + at.lost @ p_below
    stop = exact.stop_at(at.decay @ p_below, rest, given.log_n)
    first = exact.stop_at(jnp.sum(p_below), jnp.where(q > 0, q, 0.5), given.log_n)
    log_slope = -2 * stop.log_rest + 2 * first.log_rest
    slope = stop.slope * jnp.exp(log_slope)  # S'(s)/S'(1-q), once divided
    fewer = -jnp.expm1(-given.log_n)
    curve = fewer * jnp.exp(stop.log_curve + 2 * first.log_rest - stop.log_rest) * (at.lost @ p)
    bent = 2 * (at.decay @ p_reached) / rest * slope + curve
    density = at.z * at.decay
    above = density @ (p_reached * (r - z))
    below = density @ (p_below * (z - r))
    log_tw = given.log_t + _special.over(z, r[-1], given.interior)
    decay = jnp.exp(at.log_weight - jnp.exp(jnp.minimum(log_tw, 30.0)))
    soft = decay @ (above * slope + below * (slope - bent)) / first.slope
    return jnp.where(given.hard > 0, hard, soft) - given.price
