"""Divergences, rewards and win rate of a selection law, and the sweep over n and temperature."""

from __future__ import annotations


from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks
from softbon_jax.exact import _divergences, _plan, _rules, _soft
from softbon_jax.exact._measures import Metrics as Metrics
from softbon_jax.exact._measures import base_metrics, hard_metrics, soft_metrics, tilt_metrics
from softbon_jax.problem import Problem

Array = jax.Array


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

    Numerics: every divergence and gap is a sum of non-negative terms or of products centered on
    both sides, so it keeps its digits as it vanishes. Rewards are accurate relative to the largest
    |r| on the support. Values that underflow (below 1e-308 in float64) are 0. Differentiable in
    rewards, log-probabilities (along the simplex), temperature and n.
    Source: definitions; arXiv:2505.03156 for the sampler. The forms are derived here.
    """
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
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
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    for name, x in (("temperature", temperature), ("n", log_n)):
        if x.ndim != 1 or x.size == 0:
            raise ValueError(
                f"{name} must be a vector with at least one entry, got shape {x.shape}"
            )
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes, grid=True)
    return _sweep(problem, temperature, log_n, plan)


def race_metrics(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Metrics:
    """Every metric of the uniform race, to full relative accuracy however small it is.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, any real number >= 1, traced; None when `log_n` is given.
      temperature: `[...]` of the race and of the tilted law, reward units, traced; 0 and inf as in
        `metrics.metrics`.
      log_n: `[...]` log n in nats instead of n.

    Returns:
      `Metrics` of the broadcast batch shape, the race in the place of P_n.

    Raises:
      ValueError: as `log_uniform_race`.

    Numerics: P_n/P* - 1 is formed without cancellation, so that total variation and divergences keep
    their digits until they underflow (n log(1 - μ) = -700 in float64). kl_soft_base is resolved to
    about 1e-15 times its square root.
    Source: derived here: P_n/P* is smallest at the best outcome, where it is 1 - (1 - μ/w_max)^n.
    """
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    return _race_metrics(problem, temperature, log_n)


def law_metrics(problem: Problem, log_law: Any, temperature: Any) -> Metrics:
    """Every metric of a given law, for rules that have no closed form or none here.

    Args:
      problem: `[..., K]` reference law and rewards.
      log_law: `[..., K]` log-probabilities of the selected outcome, nats; -inf is legal. It takes the
        place of P_n, and is used as it stands, without being normalized.
      temperature: `[...]` of the tilted law that it is compared with, in reward units.

    Returns:
      `Metrics` of the broadcast batch shape.

    Raises:
      ValueError: shapes do not match or a concrete value is bad.

    Numerics: differences of probabilities are formed, so a divergence below about 1e-14 in float64
    is not resolved; `metrics` does that for soft best-of-n.
    """
    problem = _arguments.checked_problem(problem)
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


@jax.jit
def compiled_metrics(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> Metrics:
    """`metrics` of arguments that have been checked."""

    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Metrics:
        curve = _curve(Problem(log_probs, rewards), temperature, log_n[None], plan)
        return jax.tree.map(lambda x: x[0], curve)

    return _batching.over_batch(
        one, problem.num_outcomes * plan.nodes, problem, (temperature, log_n)
    )


@jax.jit
def _sweep(problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan) -> Metrics:
    problem = Problem(*(x[..., None, :] for x in problem))

    def one(log_probs: Array, rewards: Array, temperature: Array) -> Metrics:
        return _curve(Problem(log_probs, rewards), temperature, log_n, plan)

    elements = problem.num_outcomes * plan.nodes * (log_n.size if plan.wide else 1)
    return _batching.over_batch(one, elements, problem, (temperature,))


@jax.jit
def _law_metrics(problem: Problem, log_law: Array, temperature: Array) -> Metrics:
    def one(log_probs: Array, rewards: Array, log_law: Array, temperature: Array) -> Metrics:
        proper = _soft.proper_temperature(temperature, rewards)
        terms = _soft.tilted_terms(Problem(log_probs, rewards), proper)
        log_best = jnp.where(terms.rewards == jnp.max(terms.rewards), terms.log_probs, -jnp.inf)
        limit = jnp.where(temperature == 0, log_best - jax.nn.logsumexp(log_best), terms.log_probs)
        at_limit = (temperature == 0) | jnp.isposinf(temperature)
        log_target = jnp.where(at_limit, limit, terms.log_tilted)
        p, q, target = jnp.exp(terms.log_probs), jnp.exp(log_law), jnp.exp(log_target)
        center = target @ terms.rewards
        gap = (target - q) @ (terms.rewards - center)
        return Metrics(
            reward=q @ terms.rewards,
            tilted_reward=center,
            reward_gap=gap,
            relative_reward_gap=gap / center,
            kl_tilted_soft=_divergences.relative_entropy(log_target, log_law),
            kl_soft_tilted=_divergences.relative_entropy(log_law, log_target),
            kl_soft_base=_divergences.relative_entropy(log_law, terms.log_probs),
            kl_tilted_base=_divergences.relative_entropy(log_target, terms.log_probs),
            tv=jnp.sum(jnp.abs(q - target)) / 2,
            chi2=jnp.sum(jnp.where(q > 0, (q - target) * jnp.expm1(log_law - log_target), target)),
            win_rate=q @ _divergences.win_chances(p, terms.rewards),
        )

    return _batching.over_batch(one, problem.num_outcomes, (*problem, log_law), (temperature,))


def _curve(problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan) -> Metrics:
    """Metrics `[N]` of one `[K]` problem at one temperature."""
    proper = _soft.proper_temperature(temperature, problem.rewards)
    terms = _soft.tilted_terms(problem, proper)
    soft = _soft.soft_terms(terms, proper, log_n, plan)
    wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
    tilt = tilt_metrics(terms)

    def at(soft: _soft.SoftTerms, log_n: Array) -> Metrics:
        result = soft_metrics(terms, tilt, soft, wins, plan.wide)
        by_rule = (result, hard_metrics(terms, log_n, wins), base_metrics(terms, wins))
        rule = jnp.where(temperature == 0, 1, jnp.where(jnp.isposinf(temperature), 2, 0))
        result = jax.tree.map(lambda *fields: jax.lax.select_n(rule, *fields), *by_rule)
        poison = jnp.where(log_n >= 0, 0.0, jnp.nan).astype(log_n.dtype)
        return jax.tree.map(lambda x: x + poison, result)

    return jax.vmap(at)(soft, log_n)


@jax.jit
def _race_metrics(problem: Problem, temperature: Array, log_n: Array) -> Metrics:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Metrics:
        proper = _soft.proper_temperature(temperature, rewards)
        terms = _soft.tilted_terms(Problem(log_probs, rewards), proper)
        wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
        tilt = tilt_metrics(terms)
        by_rule = (
            soft_metrics(terms, tilt, _rules.race_terms(terms, log_n), wins, wide=True),
            hard_metrics(terms, log_n, wins),
            base_metrics(terms, wins),
        )
        rule = jnp.where(temperature == 0, 1, jnp.where(jnp.isposinf(temperature), 2, 0))
        poison = jnp.where(log_n >= 0, 0.0, jnp.nan).astype(log_n.dtype)
        return jax.tree.map(lambda *fields: jax.lax.select_n(rule, *fields) + poison, *by_rule)

    return _batching.over_batch(one, problem.num_outcomes, problem, (temperature, log_n))
