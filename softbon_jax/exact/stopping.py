"""Soft selection among a random number of draws: laws, metrics and the mean number of draws.

The number N may have any law of its own (`numbers`), or the draws decide: they end at the first reward
that reaches a threshold.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks
from softbon_jax.exact import _factors, _plan, _soft
from softbon_jax.exact._measures import Metrics
from softbon_jax.exact.numbers import Number, RandomN, Weights, checked_number
from softbon_jax.problem import Problem

Array = jax.Array


# A law of N ---------------------------------------------------------------------------------------


def log_random_n(
    problem: Problem, pmf: Any, temperature: Any, *, nodes: int | None = None
) -> Array:
    """The exact law of soft best-of-N, N a random number of candidates that ignores their rewards.

    With G(s) = E[s^N], φ(t) = E_P[e^{-tw}] and w = e^{(r - max r)/λ} the average of P_n over N is

      P(x) w(x) ∫₀^∞ e^{-t w(x)} G'(φ(t)) dt,

    and at λ = 0 that of hard best-of-n, G(F(x)) - G(F(x-)), split in proportion to P among ties.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      pmf: the law of N >= 1, traced: weights `[..., M]` that sum to 1, of which pmf[k] = Pr(N = k + 1);
        or `OnePlusPoisson`, `PositiveBinomial`, `Geometric` or `Generating`.
      temperature: `[...]` λ, reward units, traced; 0 is the hard rule, inf gives P.
      nodes: static number of quadrature nodes, as in `log_soft_bon`.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0. NaN where `nodes` is
      too small.

    Raises:
      TypeError: an argument is not real, or is no law of N.
      ValueError: weights that are negative or do not sum to 1 (to 1e-8 in float64, 1e-5 in float32), an
        illegal parameter of a law of N, a negative temperature, NaN or infinite rewards, a problem that
        is not a law, or shapes that do not broadcast. Values are checked when concrete; traced bad
        values give NaN.

    Numerics: relative error of the probabilities about 1e-13 in float64 and 1e-5 in float32, growing
    like eps · range/temperature. Cost O((K + M) · nodes), at λ = 0 O(K · M). Of `Generating` the law at
    λ = 0 is a plain difference, with an error of about eps over the probability. Differentiable in all
    but `nodes`; in weights along the simplex.
    Source: arXiv:2506.19248 for N = 1 + Poisson(ν). Derived here: n φ^{n-1} becomes its mean
    E[N φ^{N-1}] = G'(φ).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> law = sb.log_random_n(problem, [0.5, 0.0, 0.0, 0.5], 0.3)
      >>> np.round(np.exp(np.float64(law)), 3).tolist()
      [0.367, 0.301, 0.139, 0.193]
      >>> law = sb.log_random_n(problem, sb.Geometric(0.25), 0.3)
      >>> np.round(np.exp(np.float64(law)), 3).tolist()
      [0.309, 0.295, 0.152, 0.244]
    """
    return _log_random_n(*_of_number(problem, pmf, temperature, nodes))


def random_n_metrics(
    problem: Problem, pmf: Any, temperature: Any, *, nodes: int | None = None
) -> Metrics:
    """Every metric of soft best-of-N with a random number N of candidates.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      pmf: the law of N as in `log_random_n`, traced.
      temperature: `[...]` of the selection and of the tilted law, reward units, traced; 0 and inf as in
        `metrics`.
      nodes: static number of quadrature nodes, as in `log_soft_bon`.

    Returns:
      `Metrics` of the broadcast batch shape, with the law of `log_random_n` as P_n.

    Raises:
      TypeError, ValueError: as `log_random_n`.

    Numerics: as `metrics`, to about 1e-11 relative in float64. At temperature 0 kl_soft_base is resolved
    to about 1e-15 times its square root.
    Source: derived here: the contrasts of `metrics` with G' and G'' in place of n φ^{n-1} and its
    derivative.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.random_n_metrics(problem, sb.Geometric(0.25), 0.3).reward), 3)
      0.423
    """
    return _random_n_metrics(*_of_number(problem, pmf, temperature, nodes))


def mean_random_n(pmf: Any) -> Array:
    """The mean number of candidates E[N] of a law of N.

    Args:
      pmf: the law of N as in `log_random_n`, traced.

    Returns:
      `[...]` candidates.

    Raises:
      TypeError, ValueError: as `log_random_n`.

    Numerics: relative error about 1e-15 · M in float64 for M weights, and 1e-15 for a law of a name.
    Source: definition; G'(1).

    Example:
      >>> round(float(sb.mean_random_n(sb.PositiveBinomial(8, 0.5))), 3)
      4.016
    """
    return _mean_number(checked_number(pmf, None))


def _of_number(
    problem: Problem, pmf: Any, temperature: Any, nodes: int | None
) -> tuple[Problem, Array, Number, _plan.Plan]:
    """Arguments that have been checked, and their plan."""
    problem = _arguments.checked_problem(problem)
    dtype = problem.rewards.dtype
    temperature = _arguments.checked_temperature(temperature, dtype)
    number = checked_number(pmf, dtype)
    shapes = {
        f"pmf {i}" if i else "pmf": jnp.shape(x)[: -1 if isinstance(number, Weights) else None]
        for i, x in enumerate(jax.tree.leaves(number))
    }
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, **shapes)
    plan = _plan.quadrature_plan(problem, temperature, _log_most(number), nodes)
    return problem, temperature, number, plan


@jax.jit
def _log_most(number: Number) -> Array:
    return number.log_most()


@jax.jit
def _mean_number(number: Number) -> Array:
    return jnp.where(_is_nan(number), jnp.nan, number.mean())


def _is_nan(number: Number) -> Array:
    """Whether something about N is NaN, `[...]`."""
    if isinstance(number, Weights):
        return jnp.isnan(number.pmf).any(-1)
    return jnp.isnan(sum(jax.tree.leaves(number)))


@jax.jit
def _log_random_n(problem: Problem, temperature: Array, number: Number, plan: _plan.Plan) -> Array:
    return _over_numbers(_factors.Law.log_probs, problem, temperature, number, plan)


@jax.jit
def _random_n_metrics(
    problem: Problem, temperature: Array, number: Number, plan: _plan.Plan
) -> Metrics:
    return _over_numbers(_factors.Law.metrics, problem, temperature, number, plan)


def _over_numbers(
    of_law: Any, problem: Problem, temperature: Array, number: Number, plan: _plan.Plan
) -> Any:
    """What `of_law` makes of the law of every problem of a batch."""
    parameters, structure = jax.tree.flatten(number)
    vectors: tuple[Array, ...] = tuple(problem)
    scalars: tuple[Array, ...] = (temperature,)
    weights = problem.num_outcomes
    if isinstance(number, Weights):
        vectors, weights = (*vectors, *parameters), weights + number.pmf.shape[-1]
    else:
        scalars = (*parameters, *scalars)

    def one(log_probs: Array, rewards: Array, *rest: Array) -> Any:
        *parameters, temperature = rest
        rule = RandomN(jax.tree.unflatten(structure, parameters))
        return of_law(_factors.law_of(Problem(log_probs, rewards), temperature, rule, plan))

    elements = weights * plan.nodes + problem.num_outcomes * (weights - problem.num_outcomes)
    return _batching.over_batch(one, vectors, scalars, elements=elements)


# A threshold --------------------------------------------------------------------------------------


def log_stopped(
    problem: Problem, threshold: Any, n: Any, temperature: Any, *, nodes: int | None = None
) -> Array:
    """The exact law of soft selection among draws that end at the first reward >= a threshold.

    Draws end at the first with r >= z, and after n at the latest; then one of all that were drawn is
    returned, candidate i with probability ∝ e^{r(X_i)/λ}. With φ = a + s, a(t) the part of
    E_P[e^{-tw}] from z on and s(t) that below it, and S(s) = (1 - s^n)/(1 - s) = Σ_{k<n} s^k:

      P(x) w(x) ∫₀^∞ e^{-t w(x)} S dt                    where r(x) >= z,
      P(x) w(x) ∫₀^∞ e^{-t w(x)} (a S' + n s^{n-1}) dt   where r(x) < z.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      threshold: `[...]` z, reward units, traced. From -inf up to the least reward the first draw is
        returned; above the largest, inf included, the law is that of `log_soft_bon`.
      n: `[...]` the most draws, traced: an integer of at least 1, or any real number >= 1, at which the
        formula is a law still.
      temperature: `[...]` λ, reward units, traced; 0 returns the last draw where the threshold is
        reached and else the best, inf returns any of the draws, which is not P.
      nodes: static number of quadrature nodes, as in `log_soft_bon`.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0. NaN where `nodes` is
      too small, and where n is above 1e246 in float64 or 1e30 in float32.

    Raises:
      TypeError: an argument is not real.
      ValueError: a threshold that is NaN, n < 1, a negative temperature, NaN or infinite rewards, a
        problem that is not a law, or shapes that do not broadcast. Values are checked when concrete;
        traced bad values give NaN.

    Numerics: relative error of the probabilities about 1e-13 in float64 and 1e-5 in float32, growing
    like eps · range/temperature. Cost O(K · nodes). Differentiable in rewards, log-probabilities, n and
    temperature; the law is constant in the threshold between two rewards, and jumps where it passes one.
    Source: derived here: the sum over the stopping time of the law given that time, whose factors are
    geometric sums of s(t). The hard case is Weitzman's (Econometrica 47, 1979).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(np.exp(np.float64(sb.log_stopped(problem, 0.5, 8, 0.3))), 3).tolist()
      [0.136, 0.196, 0.299, 0.37]
    """
    return _log_stopped(*_of_threshold(problem, threshold, n, temperature, nodes))


def stopped_metrics(
    problem: Problem, threshold: Any, n: Any, temperature: Any, *, nodes: int | None = None
) -> Metrics:
    """Every metric of soft selection among draws that end at a threshold.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      threshold: `[...]` reward units, as in `log_stopped`, traced.
      n: `[...]` the most draws, as in `log_stopped`, traced.
      temperature: `[...]` of the selection and of the tilted law, reward units, traced; 0 and inf as in
        `log_stopped`.
      nodes: static number of quadrature nodes, as in `log_soft_bon`.

    Returns:
      `Metrics` of the broadcast batch shape, with the law of `log_stopped` as P_n.

    Raises:
      TypeError, ValueError: as `log_stopped`.

    Numerics: to about 1e-11 relative in float64, also where the law comes close to P (the threshold is
    hardly ever missed) or to P* (it is hardly ever reached).
    Source: derived here: the contrasts of `metrics`, and between outcomes on both sides of the threshold
    the difference of their factors, (1 - φ) S', which is not negative.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.stopped_metrics(problem, 0.5, 8, 0.3).reward), 3)
      0.608
    """
    return _stopped_metrics(*_of_threshold(problem, threshold, n, temperature, nodes))


def mean_stopped_n(problem: Problem, threshold: Any, n: Any) -> Array:
    """The mean number of draws up to the first reward >= a threshold, n at most.

    E[N] = [1 - (1 - q)^n]/q with q = P(r >= threshold), and n where q = 0.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      threshold: `[...]` reward units, traced; -inf and inf are legal.
      n: `[...]` the most draws, as in `log_stopped`, traced.

    Returns:
      `[...]` draws.

    Raises:
      TypeError, ValueError: as `log_stopped`.

    Numerics: relative error about 1e-15 in float64.
    Source: definition; the sum of Pr(N > k).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.mean_stopped_n(problem, 0.5, 8)), 3)
      4.161
    """
    problem, _, threshold, log_n = _checked_threshold(problem, threshold, n, 1.0)
    return _mean_stopped_n(problem, threshold, log_n)


def _checked_threshold(
    problem: Problem, threshold: Any, n: Any, temperature: Any
) -> tuple[Problem, Array, Array, Array]:
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, None)
    threshold = _checks.not_nan("threshold", threshold, problem.rewards.dtype)
    _checks.batch_shape(
        problem=problem.batch_shape,
        threshold=threshold.shape,
        n=log_n.shape,
        temperature=temperature.shape,
    )
    return problem, temperature, threshold, log_n


def _of_threshold(
    problem: Problem, threshold: Any, n: Any, temperature: Any, nodes: int | None
) -> tuple[Problem, Array, Array, Array, _plan.Plan]:
    """Arguments that have been checked, and their plan."""
    problem, temperature, threshold, log_n = _checked_threshold(problem, threshold, n, temperature)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return problem, temperature, threshold, log_n, plan


@jax.jit
def _log_stopped(
    problem: Problem, temperature: Array, threshold: Array, log_n: Array, plan: _plan.Plan
) -> Array:
    return _over_thresholds(_factors.Law.log_probs, problem, temperature, threshold, log_n, plan)


@jax.jit
def _stopped_metrics(
    problem: Problem, temperature: Array, threshold: Array, log_n: Array, plan: _plan.Plan
) -> Metrics:
    return _over_thresholds(_factors.Law.metrics, problem, temperature, threshold, log_n, plan)


def _over_thresholds(
    of_law: Any,
    problem: Problem,
    temperature: Array,
    threshold: Array,
    log_n: Array,
    plan: _plan.Plan,
) -> Any:
    """What `of_law` makes of the law of every problem of a batch."""

    def one(
        log_probs: Array, rewards: Array, temperature: Array, threshold: Array, log_n: Array
    ) -> Any:
        rule = _factors.Stopped(threshold, log_n)
        return of_law(_factors.law_of(Problem(log_probs, rewards), temperature, rule, plan))

    elements = problem.num_outcomes * plan.nodes
    scalars = (temperature, threshold, log_n)
    return _batching.over_batch(one, problem, scalars, elements=elements)


@jax.jit
def _mean_stopped_n(problem: Problem, threshold: Array, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, threshold: Array, log_n: Array) -> Array:
        terms = _soft.tilted_terms(Problem(log_probs, rewards), jnp.ones_like(log_n))
        return _factors.Stopped(threshold, log_n).mean(terms)

    return _batching.over_batch(one, problem, (threshold, log_n), elements=problem.num_outcomes)
