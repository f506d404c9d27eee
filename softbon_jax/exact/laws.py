"""Exact laws as log-probabilities: tilted, soft and hard best-of-n, race, Poisson and rejection."""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, _special
from softbon_jax.continuous import Continuous
from softbon_jax.exact import _continuous, _plan, _rules, _soft, _steep
from softbon_jax.exact._measures import tilted_or_limit
from softbon_jax.exact.numbers import OnePlusPoisson
from softbon_jax.exact.stopping import log_random_n
from softbon_jax.problem import Problem

Array = jax.Array
Fallback = Literal["any", "best"]


def log_tilted(problem: Problem, temperature: Any) -> Array:
    """The tilted law, the target that soft best-of-n approaches as n grows.

    P*(x) ∝ P(x) e^{r(x)/λ}, the maximizer of E_Q[r] - λ KL(Q‖P); λ is `temperature`.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      temperature: `[...]` in reward units, traced. 0 gives P given the best reward, inf gives P.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      TypeError: an argument is not real.
      ValueError: the temperature is negative or NaN, a reward is not finite, or the problem is not
        a law. Values are checked when concrete; traced bad values give NaN.

    Numerics: relative error of the probabilities about eps · (1 + range/temperature). Gradients with
    respect to log-probabilities are along the simplex. At temperature 0 and inf the gradient with
    respect to the temperature is 0.
    Source: arXiv:2505.03156, the target of soft best-of-n.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(np.exp(np.float64(sb.log_tilted(problem, 0.3))), 3).tolist()
      [0.103, 0.168, 0.152, 0.577]
    """
    problem = _arguments.checked_problem(problem)
    temperature = _arguments.checked_temperature(temperature, problem.rewards.dtype)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape)
    return _log_tilted(problem, temperature)


@jax.jit
def _log_tilted(problem: Problem, temperature: Array) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array) -> Array:
        interior = _soft.interior_temperature(temperature, rewards)
        terms = _soft.tilted_terms(Problem(log_probs, rewards), interior)
        return tilted_or_limit(terms, temperature).log_probs

    size = problem.num_outcomes
    return _batching.over_batch(one, problem, (temperature,), elements=size, least=0)


def log_soft_bon(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Array:
    """The exact law of the candidate that soft best-of-n returns.

    n candidates are drawn from P, and candidate i is returned with probability ∝ e^{r(X_i)/λ}:

      P_n(x) = n P(x) w(x) ∫₀^∞ e^{-t w(x)} φ(t)^{n-1} dt,   w = e^{(r - max r)/λ}, φ(t) = E_P[e^{-tw}].

    Args:
      problem: `[..., K]` reference law and rewards, traced. Of a `Continuous` law, its nodes.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` the paper's λ, in reward units, traced; 0 gives hard best-of-n, inf gives P.
      log_n: `[...]` log n in nats instead of n, traced, for n that overflows.
      nodes: static number of quadrature nodes. Default: enough for the arguments if all are
        concrete (from a few sizes), else `DEFAULT_NODES` = 2048, which resolves
        range/temperature + log n up to about 100 in float64 and 240 in float32, and four times that
        where n is known and an integer, or at least 6.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0. NaN where `nodes` is
      too small.

    Raises:
      TypeError: an argument is missing or not real.
      ValueError: n < 1, a negative temperature, NaN or infinite rewards, a problem that is not a
        law, or shapes that do not broadcast. Values are checked when concrete; traced bad values
        give NaN.

    Numerics: relative error of the probabilities about 1e-13 in float64 and 1e-5 in float32, growing
    like eps · range/temperature. Where n e^{-gap/λ}, gap the smallest between two rewards, is below
    rounding, the law is that of hard best-of-n; where it is not and λ is below range · 2^-40 (2^-18 in
    float32), it is NaN. Cost O(K · nodes), whatever n is. Differentiable in everything but
    `nodes`; the gradient with respect to the temperature is 0 at the limits 0 and inf.
    Source: the sampler is arXiv:2505.03156; the law is derived here: 1/Σw = ∫ e^{-tΣw} dt makes the
    n - 1 other draws factorize.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(np.exp(np.float64(sb.log_soft_bon(problem, 16, 0.3))), 3).tolist()
      [0.132, 0.208, 0.173, 0.488]
    """
    if isinstance(problem, Continuous):
        problem, temperature = _continuous.as_selected(problem, n, temperature, log_n)
    return _soft_pair(problem, n, temperature, log_n, nodes)[0]


def log_ratio_soft_bon(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Array:
    """Log P_n/P* of the exact soft best-of-n law to its tilted target, outcome by outcome.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` real number of candidates >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` in reward units, traced. At 0 both laws are their hard limits and the ratio
        is inf for outcomes below the best; at inf it is 0.
      log_n: `[...]` log n in nats instead of n, traced.
      nodes: static; as in `log_soft_bon`.

    Returns:
      `[..., K]` nats. 0 for outcomes of probability 0, where both laws agree. NaN where `nodes` is
      too small.

    Raises:
      TypeError, ValueError: as `log_soft_bon`.

    Numerics: accurate relative to itself however large n is: at n = 1e12 the ratio is 1 + O(1e-12)
    and its logarithm still has about 12 digits in float64.
    Source: derived here: differences of the ratio between outcomes are integrals of one sign.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(1e6 * np.float64(sb.log_ratio_soft_bon(problem, 1e6, 0.3)), 2).tolist()
      [3.47, 3.12, 2.16, -2.09]
    """
    return _soft_pair(problem, n, temperature, log_n, nodes)[1]


def _soft_pair(
    problem: Problem, n: Any, temperature: Any, log_n: Any, nodes: int | None
) -> tuple[Array, Array]:
    """(log P_n, log P_n/P*) of arguments that are still to be checked."""
    problem, temperature, log_n = _arguments.broadcasting_arguments(problem, n, temperature, log_n)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return compiled_law(problem, temperature, log_n, plan)


@jax.jit
def compiled_law(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> tuple[Array, Array]:
    """(log P_n, log P_n/P*) of arguments that have been checked, for a given plan."""

    def one(
        log_probs: Array, rewards: Array, temperature: Array, log_n: Array
    ) -> tuple[Array, Array]:
        interior = _soft.interior_temperature(temperature, rewards)
        terms = _soft.tilted_terms(Problem(log_probs, rewards), interior)
        soft = jax.tree.map(lambda x: x[0], _steep.soft_terms(terms, interior, log_n[None], plan))
        hard = _rules.hard_terms(terms.log_probs, terms.rewards, log_n)
        is_hard, is_base = temperature == 0, jnp.isposinf(temperature)
        best = terms.rewards == jnp.max(terms.rewards)
        hard_ratio = jnp.where(best, hard.log_base_ratio + hard.log_top, jnp.inf)
        ratio = jnp.where(is_hard, hard_ratio, jnp.where(is_base, 0.0, soft.log_ratio))
        base_ratio = jnp.where(is_hard, hard.log_base_ratio, soft.log_base_ratio)
        law = terms.log_probs + jnp.where(is_base, 0.0, base_ratio)
        return law, jnp.where(terms.log_probs > -jnp.inf, ratio, 0.0)

    elements = problem.num_outcomes * plan.nodes
    least = _soft.elements_at_once(problem.num_outcomes, plan.nodes)
    return _batching.over_batch(one, problem, (temperature, log_n), elements=elements, least=least)


def log_best_of_n(problem: Problem, n: Any = None, *, log_n: Any = None) -> Array:
    """The exact law of hard best-of-n, ties broken uniformly over the tied draws.

    P_n(x) = [F(x)^n - F(x-)^n] P(x)/P(r = r(x)), with F the distribution function of the reward.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      log_n: `[...]` log n in nats instead of n, traced.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      TypeError, ValueError: as `log_soft_bon`.

    Numerics: relative error about 1e-14 · K in float64. Equal rewards are tied exactly, without a
    tolerance; the gradient with respect to rewards is 0 (the law depends on their order alone).
    Source: the distribution of a maximum; see arXiv:2401.01879 for its divergence from P.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(np.exp(np.float64(sb.log_best_of_n(problem, 4))), 4).tolist()
      [0.0625, 0.3471, 0.2465, 0.3439]
    """
    problem, _, log_n = _arguments.broadcasting_arguments(problem, n, 0.0, log_n)
    return _log_hard(problem, log_n)


@jax.jit
def _log_hard(problem: Problem, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, log_n: Array) -> Array:
        log_probs = _soft.normalized(log_probs)
        rewards, _ = _soft.on_support(log_probs, rewards)
        return log_probs + _rules.hard_terms(log_probs, rewards, log_n).log_base_ratio

    return _batching.over_batch(one, problem, (log_n,), elements=problem.num_outcomes)


# The uniform race ---------------------------------------------------------------------------------


def log_uniform_race(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """The exact law of the uniform race: of n draws, the one with the largest w(X_i)/U_i.

    The score w/U exceeds v with probability min(1, w/v), so the scores of draws from P have the
    distribution function F(v) = A_j - B_j/v for w_j <= v < w_{j+1}, with A and B the sums of P and
    P w over the outcomes up to the j-th in order of w. The winner is x with probability

      P_n(x) = P(x) w(x) Σ_{j: w_j >= w(x)} [F(w_{j+1})^n - F(w_j)^n]/B_j,   w_{K+1} = inf, F(inf) = 1.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` λ in w = e^{r/λ}, reward units, traced; 0 gives hard best-of-n, inf gives P.
      log_n: `[...]` log n in nats instead of n, traced.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      TypeError, ValueError: as `log_soft_bon`.

    Numerics: sums of non-negative terms throughout: relative error of the probabilities about
    1e-14 + eps · range/temperature in float64, also where powers of F cancel and where w is tiny. Cost
    O(K log K). Differentiable in everything, also at ties (of the worst outcomes, for n > 1); the
    gradient with respect to the temperature is 0 at its limits. Probabilities below the range of the
    float type count as 0.
    Source: the race is arXiv:2609.21899; the closed form is derived here: the integral of
    n P(x) w(x) v^-2 F(v)^{n-1} over v > w(x), piece by piece.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(np.exp(np.float64(sb.log_uniform_race(problem, 4, 0.3))), 3).tolist()
      [0.195, 0.302, 0.195, 0.308]
    """
    problem, temperature, log_n = _arguments.broadcasting_arguments(problem, n, temperature, log_n)
    return _log_race(problem, temperature, log_n)


@jax.jit
def _log_race(problem: Problem, temperature: Array, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        interior = _soft.interior_temperature(temperature, rewards)
        terms = _soft.tilted_terms(Problem(log_probs, rewards), interior)
        race = _steep.hard_where_settled(terms, interior, log_n, _rules.race_terms(terms, log_n))
        hard = _rules.hard_terms(terms.log_probs, terms.rewards, log_n).log_base_ratio
        ratio = jnp.where(temperature == 0, hard, race.log_base_ratio)
        return terms.log_probs + jnp.where(jnp.isposinf(temperature), 0.0, ratio)

    size = problem.num_outcomes
    return _batching.over_batch(one, problem, (temperature, log_n), elements=size, least=3 * size)


# Best-of-Poisson ----------------------------------------------------------------------------------


def log_best_of_poisson(
    problem: Problem, mean_extra: Any, temperature: Any, *, nodes: int | None = None
) -> Array:
    """The exact law of soft best-of-N with a random N = 1 + Poisson(ν) of candidates.

    With φ(t) = E_P[e^{-tw}] and w = e^{(r - max r)/λ} the average of P_n over N is

      P(x) w(x) ∫₀^∞ e^{-t w(x)} (1 + ν φ(t)) e^{-ν(1 - φ(t))} dt,

    and at λ = 0 that of hard best-of-n, G(F(x)) - G(F(x-)) with G(u) = u e^{ν(u-1)}, split in
    proportion to P among ties.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      mean_extra: `[...]` ν, finite and at least 0, traced: the mean number of candidates is 1 + ν.
      temperature: `[...]` λ, reward units, traced; 0 is the hard rule, inf gives P.
      nodes: static number of quadrature nodes, as in `log_soft_bon`.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0. NaN where `nodes` is
      too small.

    Raises:
      TypeError: an argument is not real.
      ValueError: ν is negative or not finite, a negative temperature, NaN or infinite rewards, a
        problem that is not a law, or shapes that do not broadcast. Values are checked when
        concrete; traced bad values give NaN.

    Numerics: relative error of the probabilities about 1e-13 in float64, growing like
    eps · range/temperature; `law_metrics` resolves its divergences from the tilted law to about
    1e-14. Differentiable in all but `nodes`.
    Source: arXiv:2506.19248 (best-of-Poisson); the soft law is derived here: E[N φ^{N-1}] takes the
    place of n φ^{n-1}.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(np.exp(np.float64(sb.log_best_of_poisson(problem, 3.0, 0.3))), 3).tolist()
      [0.26, 0.3, 0.169, 0.271]
    """
    dtype = _arguments.checked_problem(problem).rewards.dtype
    mean_extra = _checks.finite_not_negative("mean_extra", mean_extra, dtype)
    return log_random_n(problem, OnePlusPoisson(mean_extra), temperature, nodes=nodes)


# Rejection from the envelope ----------------------------------------------------------------------


def log_rejection(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    *,
    log_n: Any = None,
    fallback: Fallback = "any",
) -> Array:
    """The exact law of rejection sampling with n draws and a fallback.

    Draw i is accepted with probability w(X_i) = e^{(r(X_i) - max r)/λ}, and the first accepted one is
    returned; it has the tilted law P*. None is accepted with probability (1 - μ)^n, μ = E_P[w]; then
    the fallback picks one of n draws from R = P (1 - w)/(1 - μ):

      P_n = (1 - (1 - μ)^n) P* + (1 - μ)^n Q,   Q = R ("any") or hard best-of-n under R ("best").

    Args:
      problem: `[..., K]` reference law and rewards, traced; the envelope is the best reward of its
        support.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` λ, reward units, traced; inf gives P. 0 accepts the best reward alone.
      log_n: `[...]` log n in nats instead of n, traced.
      fallback: static; "any" of the rejected draws, or the "best" of them (ties uniform).

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      TypeError: as `log_soft_bon`.
      ValueError: as `log_soft_bon`, or an unknown fallback.

    Numerics: a sum of two non-negative terms, each relatively accurate to 1e-13 in float64.
    TV(P_n, P*) = (1 - μ)^n TV(Q, P*), so `law_metrics` resolves it to about 1e-14 only.
    Source: derived here (a mixture over whether a draw is accepted); von Neumann's rejection.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> law = sb.log_rejection(problem, 4, 0.3, fallback="best")
      >>> np.round(np.exp(np.float64(law)), 3).tolist()
      [0.109, 0.357, 0.227, 0.308]
    """
    _checks.one_of("fallback", fallback, ("any", "best"))
    problem, temperature, log_n = _arguments.broadcasting_arguments(problem, n, temperature, log_n)
    return _log_rejection(problem, temperature, log_n, fallback)


@functools.partial(jax.jit, static_argnames="fallback")
def _log_rejection(problem: Problem, temperature: Array, log_n: Array, fallback: Fallback) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        interior = _soft.interior_temperature(temperature, rewards)
        terms = _soft.tilted_terms(Problem(log_probs, rewards), interior)
        target = tilted_or_limit(terms, temperature)
        best = terms.rewards == jnp.max(terms.rewards)
        # The envelope is 0 in these units, but its slope counts: w is not normalized.
        possible = jnp.where(terms.log_probs > -jnp.inf, terms.exponents, -jnp.inf)
        envelope = terms.exponents[jnp.argmax(possible)]
        lost = jnp.where(  # 1 - w
            temperature == 0, jnp.where(best, 0.0, 1.0), -jnp.expm1(terms.exponents - envelope)
        )
        between = (temperature > 0) & (temperature < jnp.inf)
        accept = jnp.exp(target.log_mean - jnp.where(between, envelope, 0.0))
        # Nothing is ever rejected: every outcome is best, or the temperature is inf.
        sure = (accept >= 1) | ~jnp.any((terms.log_probs > -jnp.inf) & (lost > 0))
        log_rest = terms.log_probs + _special.safe_log(lost)
        log_reject = jax.nn.logsumexp(jnp.where(sure, terms.log_probs, log_rest))
        seldom = sure | (accept < 0.5)  # log(1 - μ) from the smaller of μ and 1 - μ
        once = jnp.where(seldom, jnp.log1p(-jnp.where(sure | ~seldom, 0.5, accept)), log_reject)
        log_miss = _rules.finite_n(log_n) * once
        log_hit = _special.log1mexp(-log_miss)
        rejected = log_rest - log_reject
        if fallback == "best":
            safe = jnp.where(sure, terms.log_probs, rejected)
            worst, _ = _soft.on_support(safe, terms.rewards)
            ratio = _rules.hard_terms(safe, worst, log_n).log_base_ratio
            rejected = jnp.where(safe > -jnp.inf, safe + ratio, -jnp.inf)
        # Two terms of -inf have no slope: a number in their place, and neither has one.
        either = (target.log_probs > -jnp.inf) | (rejected > -jnp.inf)
        accepted = jnp.where(either, log_hit + target.log_probs, 0.0)
        mixed = jnp.logaddexp(accepted, jnp.where(either, log_miss + rejected, 0.0))
        mixed = jnp.where(either, mixed, -jnp.inf)
        return jnp.where(sure, terms.log_probs + 0.0 * log_n, mixed)

    return _batching.over_batch(one, problem, (temperature, log_n), elements=problem.num_outcomes)
