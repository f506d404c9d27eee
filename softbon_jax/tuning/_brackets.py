"""What a calibration can reach, and the bracket in which the answer must lie."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _batching, _special, exact
from softbon_jax.bounds import log_n_for_kl_upper
from softbon_jax.problem import Problem

Array = jax.Array

SPANS = (16.0, 64.0)
"""Range/temperature of the lowest temperatures that are tried, one after the other."""

LAST_LOG_N = 36.0
"""Above e^36 w_max/μ candidates nothing changes in double precision."""


class Reach(NamedTuple):
    """What can be reached and what is asked for; arrays `[...]`.

    Attributes:
      low: at one end of the range, infinite temperature or n = 1.
      high: at the other end.
      target: what is asked for.
      goal: the target as `_roots` measures it: for the reward, the gain over E_P[r].
      inside: bool, whether the goal is strictly between the two ends.
      limit: log λ below which the law is the hard one, where the quantity is known in closed form
        there and meets its target; else NaN.
    """

    low: Array
    high: Array
    target: Array
    goal: Array
    inside: Array
    limit: Array


@functools.partial(jax.jit, static_argnames="quantity")
def temperature_bracket(
    problem: Problem, log_n: Array, target: Array, quantity: str
) -> tuple[Reach, tuple[Array, ...], Array]:
    """The reach at given n, and log λ between one of several low ends and a high end.

    Few answers lie at low temperatures, and low temperatures cost more; so the low ends are tried in
    turn. Below the last one nothing changes.
    """

    def one(
        log_probs: Array, rewards: Array, log_n: Array, target: Array
    ) -> tuple[Reach, tuple[Array, ...], Array]:
        log_probs = exact.normalized(log_probs)
        rewards, top = exact.on_support(log_probs, rewards)
        span = top - jnp.min(rewards)
        span = jax.lax.stop_gradient(jnp.where(span > 0, span, 1.0))
        log_n = jnp.where((log_n >= 0) & (log_n < jnp.inf), log_n, jnp.nan)
        reach = _reach_of_temperature(log_probs, rewards, log_n, target, quantity)
        safe = jnp.where((reach.goal > 0) & (reach.goal < jnp.inf), reach.goal, 1.0)
        safe = jax.lax.stop_gradient(safe)
        # KL <= (Δ/λ)²/8, and the gain is at most Δ √(KL/2).
        above = span**2 / (4 * safe) if quantity == "reward" else span / jnp.sqrt(8 * safe)
        high = jnp.log(above) + 1e-3
        if quantity in ("kl_tilted_soft", "kl_soft_tilted"):  # their maximum is wanted as well
            high = jnp.maximum(high, jnp.log(4 * span))
        gaps = jnp.diff(jnp.sort(jax.lax.stop_gradient(rewards)))
        gap = jnp.min(jnp.where(gaps > 0, gaps, span), initial=span)
        lowest = jnp.log(jnp.maximum(gap / 40, span * 2.0**-38))
        lows = [*(jnp.log(span / x) for x in SPANS), lowest]
        reach = reach._replace(limit=jnp.where(reach.limit <= lowest, reach.limit, jnp.nan))
        return reach, tuple(jnp.minimum(low, high - 2) for low in lows), high

    return _batching.over_batch(one, problem, (log_n, target), elements=problem.num_outcomes)


def _reach_of_temperature(
    log_probs: Array, rewards: Array, log_n: Array, target: Array, quantity: str
) -> Reach:
    """From λ = inf, which is P itself, to hard best-of-n."""
    p, hard = jnp.exp(log_probs), exact.hard_terms(log_probs, rewards, log_n)
    ratio = jnp.exp(hard.log_base_ratio)
    missed = hard.log_miss > -jnp.inf
    reward, kl = p @ rewards, exact.both_ways(p, p * ratio, hard.eta, hard.log_base_ratio)[1]
    low, goal, limit = jnp.zeros_like(target), target, jnp.full_like(target, jnp.nan)
    if quantity == "reward":
        low, goal = reward, p @ (rewards - target) * -1
        high = low + p @ ((ratio - 1) * (rewards - low))
    elif quantity == "kl_soft_base":
        high = kl
    elif quantity == "kl_tilted_soft":
        hit = _special.log1mexp(jnp.where(missed, -hard.log_miss, 1.0))
        high = jnp.where(missed, -hit, 0.0)
    else:
        high = jnp.where(missed, jnp.inf, 0.0).astype(p.dtype)
        # log μ is log P(best reward) at low temperatures, and what is left is linear in 1/λ.
        lag = (p * ratio) @ (jnp.max(rewards) - rewards)
        limit = jnp.log(lag) - jnp.log(jnp.maximum(target - (kl + hard.log_top), 0.0))
    high = high + 0.0 * (reward + log_n)  # NaN where the problem or n is none
    return Reach(low, high, target, goal, (goal > 0) & (target < high), limit)


@functools.partial(jax.jit, static_argnames="quantity")
def n_bracket(
    problem: Problem, temperature: Array, kl: Array, quantity: str
) -> tuple[Reach, Array, Array]:
    """The reach at a given temperature, and log(n - 1) between a low and a high end."""
    certified = jnp.zeros_like(kl)
    if quantity == "kl_tilted_soft":
        certified = log_n_for_kl_upper(problem, jnp.where(kl > 0, kl, 1.0), temperature)

    def one(
        log_probs: Array, rewards: Array, temperature: Array, kl: Array, certified: Array
    ) -> tuple[Reach, Array, Array]:
        temperature = jnp.where((temperature > 0) & (temperature < jnp.inf), temperature, jnp.nan)
        terms = exact.tilted_terms(Problem(log_probs, rewards), temperature)
        p, log_w = jnp.exp(terms.log_probs), terms.exponents - terms.log_mean
        both = exact.both_ways(p, jnp.exp(terms.log_tilted), terms.excess, log_w)
        most = both[0 if quantity == "kl_soft_tilted" else 1]
        inside, none = (kl > 0) & (kl < most), jnp.full_like(kl, jnp.nan)
        reach = Reach(jnp.zeros_like(kl), most, kl, kl, inside, none)
        safe = jax.lax.stop_gradient(jnp.where(reach.inside, kl, 1.0))
        high = LAST_LOG_N - jax.lax.stop_gradient(terms.log_mean)
        low = -LAST_LOG_N * jnp.ones_like(high)
        if quantity == "kl_soft_base":  # KL(P_n‖P) <= log n
            low = jnp.log(jnp.expm1(jnp.minimum(safe, high / 2))) - 1e-3
        elif quantity == "kl_tilted_soft":
            high = jnp.log(jnp.expm1(jnp.clip(certified, 1e-6, high))) + 1e-3
        return reach, low, high

    return _batching.over_batch(
        one, problem, (temperature, kl, certified), elements=problem.num_outcomes
    )
