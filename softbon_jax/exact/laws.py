"""Exact laws: the tilted target, soft best-of-n and hard best-of-n, as log-probabilities."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _checks, _plan, _terms
from softbon_jax._plan import DEFAULT_NODES as DEFAULT_NODES
from softbon_jax.problem import Problem

Array = jax.Array


def log_tilted(problem: Problem, temperature: Any) -> Array:
    """The tilted law, the target that soft best-of-n approaches as n grows.

    P*(x) ∝ P(x) e^{r(x)/λ}, the maximiser of E_Q[r] - λ KL(Q‖P); λ is `temperature`.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced. 0 gives P given the best reward, inf gives P.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      ValueError: the temperature is negative or NaN, a reward is not finite, or the problem is not
        a law. Values are checked when concrete; traced bad values give NaN.

    Numerics: relative error of the probabilities about eps · (1 + range/temperature). Gradients with
    respect to log-probabilities are along the simplex. At temperature 0 and inf the gradient with
    respect to the temperature is 0.
    Source: arXiv:2505.03156, the target of soft best-of-n.
    """
    problem = _plan.checked_problem(problem)
    _checks.temperature(temperature)
    temperature = _checks.as_float("temperature", temperature).astype(problem.rewards.dtype)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape)
    return _log_tilted(problem, temperature)


@jax.jit
def _log_tilted(problem: Problem, temperature: Array) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array) -> Array:
        terms = _terms.tilted_terms(
            Problem(log_probs, rewards), _terms.proper_temperature(temperature, rewards)
        )
        best = terms.rewards == jnp.max(terms.rewards)
        log_best = jnp.where(best, terms.log_probs, -jnp.inf)
        limit = jnp.where(temperature == 0, log_best - jax.nn.logsumexp(log_best), terms.log_probs)
        at_limit = (temperature == 0) | jnp.isposinf(temperature)
        return jnp.where(at_limit, limit, terms.log_tilted)

    return _plan.over_batch(one, problem.num_outcomes, problem, (temperature,))


def log_soft_bon(
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None, nodes: int | None = None
) -> Array:
    """The exact law of the candidate that soft best-of-n returns.

    n candidates are drawn from P, and candidate i is returned with probability ∝ e^{r(X_i)/λ}:

      P_n(x) = n P(x) w(x) ∫₀^∞ e^{-t w(x)} φ(t)^{n-1} dt,   w = e^{(r - max r)/λ}, φ(t) = E_P[e^{-tw}].

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, any real number >= 1, traced; None when `log_n` is given.
      temperature: `[...]` the paper's λ, in reward units, traced; 0 gives hard best-of-n, inf gives P.
      log_n: `[...]` log n in nats instead of n, for n that overflows.
      nodes: static number of quadrature points. Default: enough for the arguments if all are
        concrete (from a few sizes), else `DEFAULT_NODES` = 2048, which resolves
        range/temperature + log n up to about 100 in float64 and 240 in float32.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0. NaN where `nodes`
      points are too few.

    Raises:
      ValueError: n < 1, a negative temperature, NaN or infinite rewards, a problem that is not a
        law, or shapes that do not broadcast. Values are checked when concrete; traced bad values
        give NaN.

    Numerics: relative error of the probabilities about 1e-13 in float64 and 1e-5 in float32, growing
    like eps · range/temperature. Cost O(K · nodes), whatever n is. Differentiable in everything but
    `nodes`; the gradient with respect to the temperature is 0 at the limits 0 and inf.
    Source: the sampler is arXiv:2505.03156; the law is derived here: 1/Σw = ∫ e^{-tΣw} dt makes the
    n - 1 other draws factorise.
    """
    problem, temperature, log_n = _law_arguments(problem, n, temperature, log_n)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return _log_soft(problem, temperature, log_n, plan)[0]


def log_ratio_soft_bon(
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None, nodes: int | None = None
) -> Array:
    """Log P_n/P* of the exact soft best-of-n law to its tilted target, outcome by outcome.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` real number of candidates >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced. At 0 both laws are their hard limits and the ratio
        is inf for outcomes below the best; at inf it is 0.
      log_n: `[...]` log n in nats instead of n.
      nodes: as in `log_soft_bon`.

    Returns:
      `[..., K]` nats. 0 for outcomes of probability 0, where both laws agree. NaN where `nodes`
      points are too few.

    Raises:
      ValueError: as `log_soft_bon`.

    Numerics: accurate relative to itself however large n is: at n = 1e12 the ratio is 1 + O(1e-12)
    and its logarithm still has about 12 digits in float64.
    Source: derived here: differences of the ratio between outcomes are integrals of one sign.
    """
    problem, temperature, log_n = _law_arguments(problem, n, temperature, log_n)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return _log_soft(problem, temperature, log_n, plan)[1]


def _law_arguments(
    problem: Problem, n: Any, temperature: Any, log_n: Any
) -> tuple[Problem, Array, Array]:
    problem, temperature, log_n = _plan.checked_arguments(problem, n, temperature, log_n)
    shape = _checks.batch_shape(
        problem=problem.batch_shape, temperature=temperature.shape, n=log_n.shape
    )
    return problem, temperature, jnp.broadcast_to(log_n, shape)


@functools.partial(jax.jit, static_argnames="plan")
def _log_soft(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> tuple[Array, Array]:
    """(log P_n, log P_n/P*)."""

    def one(
        log_probs: Array, rewards: Array, temperature: Array, log_n: Array
    ) -> tuple[Array, Array]:
        proper = _terms.proper_temperature(temperature, rewards)
        terms = _terms.tilted_terms(Problem(log_probs, rewards), proper)
        soft = jax.tree.map(lambda x: x[0], _terms.soft_terms(terms, proper, log_n[None], plan))
        hard = _terms.hard_terms(terms.log_probs, terms.rewards, log_n)
        is_hard, is_base = temperature == 0, jnp.isposinf(temperature)
        best = terms.rewards == jnp.max(terms.rewards)
        hard_ratio = jnp.where(best, hard.log_base_ratio + hard.log_top, jnp.inf)
        ratio = jnp.where(is_hard, hard_ratio, jnp.where(is_base, 0.0, soft.log_ratio))
        base_ratio = jnp.where(is_hard, hard.log_base_ratio, soft.log_base_ratio)
        law = terms.log_probs + jnp.where(is_base, 0.0, base_ratio)
        return law, jnp.where(terms.log_probs > -jnp.inf, ratio, 0.0)

    return _plan.over_batch(one, problem.num_outcomes * plan.nodes, problem, (temperature, log_n))


def log_best_of_n(problem: Problem, n: Any, *, log_n: Any = None) -> Array:
    """The exact law of hard best-of-n, ties broken uniformly over the tied draws.

    P_n(x) = [F(x)^n - F(x-)^n] P(x)/P(r = r(x)), with F the distribution function of the reward.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, any real number >= 1, traced; None when `log_n` is given.
      log_n: `[...]` log n in nats instead of n.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      ValueError: as `log_soft_bon`.

    Numerics: relative error about 1e-14 · K in float64. Equal rewards are tied exactly, without a
    tolerance; the gradient with respect to rewards is 0 (the law depends on their order alone).
    Source: the distribution of a maximum; see arXiv:2401.01879 for its divergence from P.
    """
    problem, _, log_n = _plan.checked_arguments(problem, n, 0.0, log_n)
    _checks.batch_shape(problem=problem.batch_shape, n=log_n.shape)
    return _log_hard(problem, log_n)


@jax.jit
def _log_hard(problem: Problem, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, log_n: Array) -> Array:
        log_probs = _terms.normalised(log_probs)
        rewards, _ = _terms.on_support(log_probs, rewards)
        return log_probs + _terms.hard_terms(log_probs, rewards, log_n).log_base_ratio

    return _plan.over_batch(one, problem.num_outcomes, problem, (log_n,))
