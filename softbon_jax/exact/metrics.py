"""Divergences, rewards and win rate of a selection law, and the sweep over n and temperature."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, _sharding
from softbon_jax.continuous import Continuous
from softbon_jax.exact import _continuous, _divergences, _plan, _rules, _soft, _steep
from softbon_jax.exact._measures import (
    Metrics as Metrics,
    base_metrics,
    by_regime,
    hard_metrics,
    nan_below_one,
    soft_metrics,
    tilt_metrics,
    tilted_or_limit,
)
from softbon_jax.problem import Problem

Array = jax.Array


def metrics(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Metrics:
    """Every metric of the exact soft best-of-n law.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` the paper's λ, in reward units, traced; 0 gives hard best-of-n against P
        given the best reward, inf gives P against itself.
      log_n: `[...]` log n in nats instead of n, traced, for n that overflows.
      nodes: static number of quadrature nodes; see `log_soft_bon`.

    Returns:
      `Metrics` of the broadcast batch shape, in the problem's dtype. At temperature 0, kl_soft_tilted
      and chi2 are inf unless every outcome is best. NaN where `nodes` is too small.

    Raises:
      TypeError: an argument is missing or not real.
      ValueError: n < 1, a negative temperature, NaN or infinite rewards, a problem that is not a
        law, or shapes that do not broadcast. Values are checked when concrete; traced bad values
        give NaN.

    Numerics: every divergence and gap is a sum of non-negative terms or of products centered on
    both sides, so it keeps its digits as it vanishes. Rewards are accurate relative to the largest
    |r| on the support. Values that underflow (below 1e-308 in float64) are 0. Differentiable in
    rewards, log-probabilities (along the simplex), temperature and n.
    Source: arXiv:2505.03156 for the sampler and its target. The metrics are definitions; their
    cancellation-free forms are derived here.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.metrics(problem, 16, 0.3).kl_tilted_soft), 4)
      0.0164
    """
    if isinstance(problem, Continuous):
        return _continuous.metrics(problem, n, temperature, log_n, nodes, grid=False)
    problem, temperature, log_n = _arguments.broadcasting_arguments(problem, n, temperature, log_n)
    return checked_metrics(problem, temperature, log_n, nodes)


def sweep(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Metrics:
    """Every metric on the grid of all temperatures and all n.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[N]` numbers of candidates, traced; left out when `log_n` is given.
      temperature: `[T]` in reward units, traced; 0 and inf are legal.
      log_n: `[N]` log n in nats instead of n, traced.
      nodes: static; as in `metrics`.

    Returns:
      `Metrics` of shape `[..., T, N]`: temperatures before n.

    Raises:
      TypeError: as `metrics`.
      ValueError: as `metrics`, or n or temperature is not a vector.

    Numerics: as `metrics`. All n share the quadrature nodes, so that a further n costs a row of a
    matrix product.
    Source: as `metrics`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> gaps = sb.sweep(problem, [1.0, 4.0, 16.0], [0.3, 1.0]).reward_gap
      >>> np.round(np.float64(gaps), 3).tolist()
      [[0.469, 0.236, 0.065], [0.12, 0.04, 0.011]]
    """
    if isinstance(problem, Continuous):
        return _continuous.metrics(problem, n, temperature, log_n, nodes, grid=True)
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    _checks.vector("temperature", temperature)
    _checks.vector("n", log_n)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes, grid=True)
    result = _sweep(problem, temperature, log_n, plan)
    if not _plan.may_be_limit(temperature):
        return result
    return _at_limits(result, problem, temperature, log_n, grid=True)


def race_metrics(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Metrics:
    """Every metric of the uniform race, to full relative accuracy however small it is.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` of the race and of the tilted law, reward units, traced; 0 and inf as in
        `metrics`.
      log_n: `[...]` log n in nats instead of n, traced.

    Returns:
      `Metrics` of the broadcast batch shape, with the law of the race as P_n.

    Raises:
      TypeError, ValueError: as `log_uniform_race`.

    Numerics: P_n/P* - 1 is formed without cancellation, so that total variation and divergences keep
    their digits until they underflow (n log(1 - μ) = -700 in float64). kl_soft_base is resolved to
    about 1e-15 times its square root.
    Source: derived here: P_n/P* is smallest at the best outcome, where it is 1 - (1 - μ/w_max)^n.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.race_metrics(problem, 16, 0.3).tv), 4)
      0.0275
    """
    problem, temperature, log_n = _arguments.broadcasting_arguments(problem, n, temperature, log_n)
    return _race_metrics(problem, temperature, log_n)


def law_metrics(problem: Problem, log_law: Any, temperature: Any) -> Metrics:
    """Every metric of a given law, for a selection rule without a function of its own here.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      log_law: `[..., K]` log-probabilities of the selected outcome, nats, traced; -inf is legal. It
        is used as P_n as it stands, without being normalized.
      temperature: `[...]` of the tilted law that it is compared with, in reward units, traced; 0 and
        inf are legal.

    Returns:
      `Metrics` of the broadcast batch shape.

    Raises:
      TypeError: an argument is not real.
      ValueError: a negative temperature, NaN or infinite rewards, a problem that is not a law, a
        `log_law` that is NaN or inf or has another number of outcomes, or shapes that do not
        broadcast. Values are checked when concrete; traced bad values give NaN.

    Numerics: differences of probabilities are formed, so a divergence below about 1e-14 in float64
    is not resolved; `metrics` does that for soft best-of-n.
    Source: definitions.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> exact = sb.law_metrics(problem, sb.log_tilted(problem, 0.3), 0.3)
      >>> round(float(exact.kl_soft_base), 4), round(abs(float(exact.tv)), 4)
      (0.8152, 0.0)
    """
    problem = _arguments.checked_problem(problem)
    dtype = problem.rewards.dtype
    temperature = _arguments.checked_temperature(temperature, dtype)
    log_law = _checks.below_inf("log_law", log_law, dtype)
    if log_law.shape[-1:] != problem.rewards.shape[-1:]:
        raise ValueError(
            f"log_law must have the problem's K = {problem.num_outcomes} outcomes on its last axis,"
            f" got shape {log_law.shape}"
        )
    _checks.batch_shape(
        problem=problem.batch_shape, log_law=log_law.shape[:-1], temperature=temperature.shape
    )
    return _law_metrics(problem, log_law, temperature)


# The compiled workers ----------------------------------------------------------------------------


def checked_metrics(
    problem: Problem, temperature: Array, log_n: Array, nodes: int | None
) -> Metrics:
    """`metrics` of arguments that have been checked."""
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return metrics_with_limits(problem, temperature, log_n, plan)


def metrics_with_limits(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> Metrics:
    """`metrics` of arguments that have been checked, for a given plan."""
    result = interior_metrics(problem, temperature, log_n, plan)
    if not _plan.may_be_limit(temperature):
        return result
    return _at_limits(result, problem, temperature, log_n)


@jax.jit
def interior_metrics(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> Metrics:
    """`metrics` of arguments that have been checked, for a given plan and 0 < temperature < inf."""

    def curve(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Metrics:
        problem = Problem(log_probs, rewards)
        return _curve(problem, _wins(*problem), temperature, log_n, plan)

    return _soft.over_points(curve, problem, temperature, log_n, plan)


@jax.jit
def _sweep(problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan) -> Metrics:
    # All temperatures share the win chances.
    compared = problem.num_outcomes if problem.num_outcomes <= _rules.RANKED_BY_PAIRS else 1
    wins = _batching.over_batch(_wins, problem, elements=problem.num_outcomes * compared)

    def curve(
        log_probs: Array, rewards: Array, wins: Array, temperature: Array, log_n: Array
    ) -> Metrics:
        return _curve(Problem(log_probs, rewards), wins, temperature, log_n, plan)

    return _soft.over_grid(curve, (*problem, wins), temperature, log_n, plan)


def _wins(log_probs: Array, rewards: Array) -> Array:
    """`_divergences.win_chances` of a `[K]` problem."""
    log_probs = _soft.normalized(log_probs)
    return _divergences.win_chances(jnp.exp(log_probs), _soft.on_support(log_probs, rewards)[0])


def _curve(
    problem: Problem, wins: Array, temperature: Array, log_n: Array, plan: _plan.Plan
) -> Metrics:
    """Metrics `[N]` of one `[K]` problem at one temperature in (0, inf)."""
    chex.assert_rank([problem.rewards, temperature, log_n], [1, 0, 1])
    interior = _soft.interior_temperature(temperature, problem.rewards)
    terms = _soft.tilted_terms(problem, interior)
    soft = _steep.soft_terms(terms, interior, log_n, plan)
    tilt = tilt_metrics(terms)

    def at(soft: _soft.SoftTerms, log_n: Array) -> Metrics:
        return nan_below_one(log_n, soft_metrics(terms, tilt, soft, wins, plan.wide))

    return jax.vmap(at)(soft, log_n)


@functools.partial(jax.jit, static_argnames="grid")
def _at_limits(
    soft: Metrics, problem: Problem, temperature: Array, log_n: Array, *, grid: bool = False
) -> Metrics:
    """`soft` with the limits where the temperature is 0 or inf; they do not depend on it.

    A program of its own, so that the one for 0 < temperature < inf is the same whether or not a
    limit is among the temperatures.
    """
    if grid:
        problem = Problem(*(x[..., None, None, :] for x in problem))
        temperature = temperature[:, None]
    return _sharding.over_shards(_with_limits, (soft, problem, temperature, log_n), (0, 1, 0, 0))


def _with_limits(soft: Metrics, problem: Problem, temperature: Array, log_n: Array) -> Metrics:

    def one(log_probs: Array, rewards: Array, log_n: Array) -> tuple[Metrics, Metrics]:
        terms = _soft.tilted_terms(Problem(log_probs, rewards), jnp.ones_like(log_n))
        wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
        limit = _rules.hard_terms(terms.log_probs, terms.rewards, log_n)
        limits = hard_metrics(terms, limit, wins), base_metrics(terms, wins)
        return nan_below_one(log_n, limits)

    hard, base = _batching.over_batch(one, problem, (log_n,), elements=problem.num_outcomes)
    temperature = jnp.broadcast_to(temperature, soft.reward.shape)

    def chosen(soft: Array, hard: Array, base: Array) -> Array:
        hard, base = (jnp.broadcast_to(x, soft.shape) for x in (hard, base))
        return jnp.where(temperature == 0, hard, jnp.where(jnp.isposinf(temperature), base, soft))

    return jax.tree.map(chosen, soft, hard, base)


@jax.jit
def _race_metrics(problem: Problem, temperature: Array, log_n: Array) -> Metrics:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Metrics:
        interior = _soft.interior_temperature(temperature, rewards)
        terms = _soft.tilted_terms(Problem(log_probs, rewards), interior)
        wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
        race = _steep.hard_where_settled(terms, interior, log_n, _rules.race_terms(terms, log_n))
        result = soft_metrics(terms, tilt_metrics(terms), race, wins, wide=True)
        limit = _rules.hard_terms(terms.log_probs, terms.rewards, log_n)
        hard, base = hard_metrics(terms, limit, wins), base_metrics(terms, wins)
        return by_regime(temperature, log_n, result, hard, base)

    size = problem.num_outcomes
    return _batching.over_batch(one, problem, (temperature, log_n), elements=size, least=3 * size)


@jax.jit
def _law_metrics(problem: Problem, log_law: Array, temperature: Array) -> Metrics:
    def one(log_probs: Array, rewards: Array, log_law: Array, temperature: Array) -> Metrics:
        measure = against_tilted(Problem(log_probs, rewards), temperature)
        return measure(jnp.exp(log_law), log_law)

    return _batching.over_batch(
        one, (*problem, log_law), (temperature,), elements=problem.num_outcomes
    )


def against_tilted(problem: Problem, temperature: Array) -> Callable[[Array, Array], Metrics]:
    """What gives the metrics of any law of one `[K]` problem, from the law and its logarithm.

    Where an estimated law is negative, its logarithm -inf, all but the divergences are those of the
    signed law.
    """
    interior = _soft.interior_temperature(temperature, problem.rewards)
    terms = _soft.tilted_terms(problem, interior)
    log_target = tilted_or_limit(terms, temperature).log_probs
    target = jnp.exp(log_target)
    center = target @ terms.rewards
    wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
    kl_tilted_base = _divergences.relative_entropy(log_target, terms.log_probs)

    def measure(q: Array, log_law: Array) -> Metrics:
        chex.assert_equal_shape([q, log_law, log_target])
        gap = (target - q) @ (terms.rewards - center)
        return Metrics(
            reward=q @ terms.rewards,
            tilted_reward=center,
            reward_gap=gap,
            relative_reward_gap=gap / center,
            kl_tilted_soft=_divergences.relative_entropy(log_target, log_law),
            kl_soft_tilted=_divergences.relative_entropy(log_law, log_target),
            kl_soft_base=_divergences.relative_entropy(log_law, terms.log_probs),
            kl_tilted_base=kl_tilted_base,
            tv=jnp.sum(jnp.abs(q - target)) / 2,
            chi2=jnp.sum(jnp.where(q > 0, (q - target) * jnp.expm1(log_law - log_target), target)),
            win_rate=q @ wins,
        )

    return measure
