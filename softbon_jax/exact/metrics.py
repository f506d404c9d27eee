"""Divergences, rewards and win rate of a selection law, and the sweep over n and temperature."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _checks, _divergences, _numerics, _plan, _terms
from softbon_jax.problem import Problem

Array = jax.Array


class Metrics(NamedTuple):
    """What a selection law gains and costs; arrays of one batch shape.

    P is the reference law, P* the tilted law at the same temperature and P_n the law of the selected
    outcome. Divergences are in nats, rewards in the problem's reward units.

    Attributes:
      reward: E_{P_n}[r].
      tilted_reward: E_{P*}[r].
      reward_gap: E_{P*}[r] - E_{P_n}[r].
      relative_reward_gap: reward_gap / tilted_reward; meant for rewards >= 0.
      kl_tilted_soft: KL(P*‖P_n), the paper's divergence.
      kl_soft_tilted: KL(P_n‖P*).
      kl_soft_base: KL(P_n‖P), what the selection costs.
      kl_tilted_base: KL(P*‖P).
      tv: total variation between P_n and P*, in [0, 1].
      chi2: χ²(P_n‖P*) = Σ P_n²/P* - 1.
      win_rate: Pr(the selected outcome has a higher reward than a fresh draw from P), a tie counting
        one half; in [0, 1].
    """

    reward: Array
    tilted_reward: Array
    reward_gap: Array
    relative_reward_gap: Array
    kl_tilted_soft: Array
    kl_soft_tilted: Array
    kl_soft_base: Array
    kl_tilted_base: Array
    tv: Array
    chi2: Array
    win_rate: Array


def metrics(
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None, nodes: int | None = None
) -> Metrics:
    """Every metric of the exact soft best-of-n law.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, any real number >= 1, traced; None when `log_n` is given.
      temperature: `[...]` the paper's λ, in reward units, traced; 0 gives hard best-of-n against P
        given the best reward, inf gives P against itself.
      log_n: `[...]` log n in nats instead of n, for n that overflows.
      nodes: static number of quadrature points; see `law.log_soft_bon`.

    Returns:
      `Metrics` of the broadcast batch shape, in the problem's dtype. At temperature 0, kl_soft_tilted
      and chi2 are inf unless every outcome is best. NaN where `nodes` points are too few.

    Raises:
      ValueError: n < 1, a negative temperature, NaN or infinite rewards, a problem that is not a
        law, or shapes that do not broadcast. Values are checked when concrete; traced bad values
        give NaN.

    Numerics: every divergence and gap is a sum of non-negative terms or of products centred on
    both sides, so it keeps its digits as it vanishes. Rewards are accurate relative to the largest
    |r| on the support. Values that underflow (below 1e-308 in float64) are 0. Differentiable in
    rewards, log-probabilities (along the simplex), temperature and n.
    Source: definitions; arXiv:2505.03156 for the sampler. The forms are derived here.
    """
    problem, temperature, log_n = _plan.checked_arguments(problem, n, temperature, log_n)
    shape = _checks.batch_shape(
        problem=problem.batch_shape, temperature=temperature.shape, n=log_n.shape
    )
    log_n = jnp.broadcast_to(log_n, shape)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return compiled_metrics(problem, temperature, log_n, plan)


def sweep(
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None, nodes: int | None = None
) -> Metrics:
    """Every metric on the grid of all temperatures and all n.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[N]` numbers of candidates; None when `log_n` is given.
      temperature: `[T]` in reward units; 0 and inf are legal.
      log_n: `[N]` log n in nats instead of n.
      nodes: as in `metrics`.

    Returns:
      `Metrics` of shape `[..., T, N]`.

    Raises:
      ValueError: as `metrics`, or n or temperature is not a vector.

    Numerics: as `metrics`. The quadrature points are shared by all n, so that a further n costs a
    row of a matrix product.
    """
    problem, temperature, log_n = _plan.checked_arguments(problem, n, temperature, log_n)
    for name, x in (("temperature", temperature), ("n", log_n)):
        if x.ndim != 1 or x.size == 0:
            raise ValueError(
                f"{name} must be a vector with at least one entry, got shape {x.shape}"
            )
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes, grid=True)
    return _sweep(problem, temperature, log_n, plan)


def law_metrics(problem: Problem, log_law: Any, temperature: Any) -> Metrics:
    """Every metric of a given law, for rules that have no closed form or none here.

    Args:
      problem: `[..., K]` reference law and rewards.
      log_law: `[..., K]` log-probabilities of the selected outcome, nats; -inf is legal. It takes the
        place of P_n, and is used as it stands, without being normalised.
      temperature: `[...]` of the tilted law that it is compared with, in reward units.

    Returns:
      `Metrics` of the broadcast batch shape.

    Raises:
      ValueError: shapes do not match or a concrete value is bad.

    Numerics: differences of probabilities are formed, so a divergence below about 1e-14 in float64
    is not resolved; `metrics` does that for soft best-of-n.
    """
    problem = _plan.checked_problem(problem)
    dtype = problem.rewards.dtype
    _checks.temperature(temperature)
    temperature = _checks.as_float("temperature", temperature).astype(dtype)
    log_law = _checks.as_float("log_law", log_law).astype(dtype)
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


@functools.partial(jax.jit, static_argnames="plan")
def compiled_metrics(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> Metrics:
    """`metrics` of arguments that have been checked."""

    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Metrics:
        curve = _curve(Problem(log_probs, rewards), temperature, log_n[None], plan)
        return jax.tree.map(lambda x: x[0], curve)

    return _plan.over_batch(one, problem.num_outcomes * plan.nodes, problem, (temperature, log_n))


@functools.partial(jax.jit, static_argnames="plan")
def _sweep(problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan) -> Metrics:
    problem = Problem(*(x[..., None, :] for x in problem))

    def one(log_probs: Array, rewards: Array, temperature: Array) -> Metrics:
        return _curve(Problem(log_probs, rewards), temperature, log_n, plan)

    elements = problem.num_outcomes * plan.nodes * (log_n.size if plan.wide else 1)
    return _plan.over_batch(one, elements, problem, (temperature,))


@jax.jit
def _law_metrics(problem: Problem, log_law: Array, temperature: Array) -> Metrics:
    def one(log_probs: Array, rewards: Array, log_law: Array, temperature: Array) -> Metrics:
        proper = _terms.proper_temperature(temperature, rewards)
        terms = _terms.tilted_terms(Problem(log_probs, rewards), proper)
        log_best = jnp.where(terms.rewards == jnp.max(terms.rewards), terms.log_probs, -jnp.inf)
        limit = jnp.where(temperature == 0, log_best - jax.nn.logsumexp(log_best), terms.log_probs)
        at_limit = (temperature == 0) | jnp.isposinf(temperature)
        log_target = jnp.where(at_limit, limit, terms.log_tilted)
        p, q, target = jnp.exp(terms.log_probs), jnp.exp(log_law), jnp.exp(log_target)
        centre = target @ terms.rewards
        gap = (target - q) @ (terms.rewards - centre)
        return Metrics(
            reward=q @ terms.rewards,
            tilted_reward=centre,
            reward_gap=gap,
            relative_reward_gap=gap / centre,
            kl_tilted_soft=_divergences.relative_entropy(log_target, log_law),
            kl_soft_tilted=_divergences.relative_entropy(log_law, log_target),
            kl_soft_base=_divergences.relative_entropy(log_law, terms.log_probs),
            kl_tilted_base=_divergences.relative_entropy(log_target, terms.log_probs),
            tv=jnp.sum(jnp.abs(q - target)) / 2,
            chi2=jnp.sum(jnp.where(q > 0, (q - target) * jnp.expm1(log_law - log_target), target)),
            win_rate=q @ _divergences.win_chances(p, terms.rewards),
        )

    return _plan.over_batch(one, problem.num_outcomes, (*problem, log_law), (temperature,))


def _curve(problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan) -> Metrics:
    """Metrics `[N]` of one `[K]` problem at one temperature."""
    proper = _terms.proper_temperature(temperature, problem.rewards)
    terms = _terms.tilted_terms(problem, proper)
    soft = _terms.soft_terms(terms, proper, log_n, plan)
    wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
    tilt = tilt_metrics(terms)

    def at(soft: _terms.SoftTerms, log_n: Array) -> Metrics:
        result = soft_metrics(terms, tilt, soft, wins, plan.wide)
        if plan.limits:
            by_rule = (result, hard_metrics(terms, log_n, wins), base_metrics(terms, wins))
            rule = jnp.where(temperature == 0, 1, jnp.where(jnp.isposinf(temperature), 2, 0))
            result = jax.tree.map(lambda *fields: jax.lax.select_n(rule, *fields), *by_rule)
        poison = jnp.where(log_n >= 0, 0.0, jnp.nan).astype(log_n.dtype)
        return jax.tree.map(lambda x: x + poison, result)

    return jax.vmap(at)(soft, log_n)


class Tilt(NamedTuple):
    """Of the tilted law: E r, r centred on it, P*, and KL(P*‖P)."""

    reward: Array
    centred: Array
    probs: Array
    kl_base: Array


def tilt_metrics(terms: _terms.TiltedTerms) -> Tilt:
    """What the metrics of every law compared with one tilted law share."""
    p, pstar = jnp.exp(terms.log_probs), jnp.exp(terms.log_tilted)
    from_ref = terms.rewards - terms.rewards[jnp.argmax(pstar)]
    # Not by P > 0: an outcome whose P underflows may have all of P*.
    log_w = jnp.where(terms.log_probs > -jnp.inf, terms.exponents - terms.log_mean, 0.0)
    _, kl_base = _divergences.both_ways(p, pstar, terms.excess, log_w)
    return Tilt(
        _divergences.mean(pstar, terms.rewards), from_ref - from_ref @ pstar, pstar, kl_base
    )


def soft_metrics(
    terms: _terms.TiltedTerms, tilt: Tilt, soft: _terms.SoftTerms, wins: Array, wide: bool
) -> Metrics:
    """Of a law given by its ratios to the tilted law and to P; `wide` as in `_plan.Plan`."""
    pstar, p = tilt.probs, jnp.exp(terms.log_probs)
    off = terms.log_probs == -jnp.inf
    log_ratio = jnp.where(off, 0.0, soft.log_ratio)
    q = soft.probs
    change = _divergences.change(pstar, q, soft.delta, log_ratio)
    kl_tilted_soft, kl_soft_tilted = _divergences.both_ways(pstar, q, soft.delta, log_ratio)
    _, kl_soft_base = _divergences.both_ways(
        p, q, soft.eta, jnp.where(off, 0.0, soft.log_base_ratio)
    )
    gap = -(change @ tilt.centred)
    return Metrics(
        reward=_divergences.mean(q, terms.rewards),
        tilted_reward=tilt.reward,
        reward_gap=gap,
        relative_reward_gap=gap / tilt.reward,
        kl_tilted_soft=kl_tilted_soft,
        kl_soft_tilted=kl_soft_tilted,
        kl_soft_base=kl_soft_base,
        kl_tilted_base=tilt.kl_base,
        tv=jnp.sum(jnp.abs(change)) / 2,
        chi2=_divergences.chi2(terms.log_tilted, change, log_ratio, wide),
        win_rate=q @ wins,
    )


def hard_metrics(terms: _terms.TiltedTerms, log_n: Array, wins: Array) -> Metrics:
    """Hard best-of-n against P given the best reward, in closed form."""
    hard = _terms.hard_terms(terms.log_probs, terms.rewards, log_n)
    p = jnp.exp(terms.log_probs)
    q = p * jnp.exp(hard.log_base_ratio)
    best = jnp.max(terms.rewards)
    gap = q @ (best - terms.rewards)
    missed = hard.log_miss > -jnp.inf
    unbounded = jnp.where(missed, jnp.inf, 0.0).astype(q.dtype)
    log_hit = _numerics.log1mexp(jnp.where(missed, -hard.log_miss, 1.0))
    _, kl_base = _divergences.both_ways(p, q, hard.eta, hard.log_base_ratio)
    return Metrics(
        reward=_divergences.mean(q, terms.rewards),
        tilted_reward=best,
        reward_gap=gap,
        relative_reward_gap=gap / best,
        kl_tilted_soft=jnp.where(missed, -log_hit, 0.0),
        kl_soft_tilted=unbounded,
        kl_soft_base=kl_base,
        kl_tilted_base=-hard.log_top,
        tv=jnp.exp(hard.log_miss),
        chi2=unbounded,
        win_rate=q @ wins,
    )


def base_metrics(terms: _terms.TiltedTerms, wins: Array) -> Metrics:
    """P against itself."""
    p = jnp.exp(terms.log_probs)
    reward, zero = _divergences.mean(p, terms.rewards), jnp.zeros((), p.dtype)
    return Metrics(
        reward=reward,
        tilted_reward=reward,
        reward_gap=zero,
        relative_reward_gap=zero,
        kl_tilted_soft=zero,
        kl_soft_tilted=zero,
        kl_soft_base=zero,
        kl_tilted_base=zero,
        tv=zero,
        chi2=zero,
        win_rate=p @ wins,
    )
