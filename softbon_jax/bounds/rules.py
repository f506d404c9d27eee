"""Closed forms and bounds of the selection rules beside soft best-of-n; conventions: `sb.bounds`.

What is said of "a uniform reward" holds for every reward with a continuous law, after mapping it by
its own distribution function. What each rule is called in the package:

    selection rule       law                      selector                       here
    soft best-of-n       sb.log_soft_bon          sb.select                      sb.bounds.kl_upper, ...
    hard best-of-n       sb.log_best_of_n         sb.select_best                 best_of_n_*
    best-of-Poisson      sb.log_best_of_poisson   sb.poisson_mask, then select   best_of_poisson_*
    uniform race         sb.log_uniform_race      sb.select_race                 race_tv_upper
    rejection            sb.log_rejection         sb.select_rejection            race_tv_upper
    pessimism            simulated only           sb.select_pessimist            none
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, _special, exact
from softbon_jax.bounds import _uniform
from softbon_jax.problem import Problem

Array = jax.Array


# Hard best-of-n -----------------------------------------------------------------------------------


def best_of_n_kl(n: Any = None, *, log_n: Any = None) -> Array:
    """KL(hard best-of-n‖P) <= log n - (n-1)/n, with equality for a reward of continuous law.

    Args:
      n: `[...]` number of candidates, real >= 1, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, in the float dtype of the argument.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1.

    Numerics: a few roundings, also near n = 1, where the result is of order (n-1)².
    Source: Beirami et al., arXiv:2401.01879.

    Example:
      >>> round(float(sb.bounds.best_of_n_kl(16)), 4)
      1.8351
    """
    return _best_of_n_kl(_checks.log_candidates(n, log_n))


@jax.jit
def _best_of_n_kl(log_n: Array) -> Array:
    # With u = (n-1)/n this is -log(1-u) - u, summed as a series where u is small.
    u = -jnp.expm1(-log_n)
    small = u < 0.05
    near = _special.ratio_minus_log(jnp.where(small, -u, 0.0))
    return jnp.where(small, near, log_n - u)


def best_of_n_win_rate(n: Any = None, *, log_n: Any = None) -> Array:
    """Pr(hard best-of-n beats a fresh draw from P) <= n/(n+1), ties counting one half.

    Equality holds for a reward of continuous law.

    Args:
      n: `[...]` number of candidates, real >= 1, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` in [1/2, 1], in the float dtype of the argument.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1.

    Numerics: a few roundings.
    Source: arXiv:2401.01879 for a continuous reward. Derived here for any: with F its distribution
      function, the win rate is the trapezoidal sum of F over F^n, and F is concave in F^n.

    Example:
      >>> round(float(sb.bounds.best_of_n_win_rate(4)), 4)
      0.8
    """
    return _best_of_n_win_rate(_checks.log_candidates(n, log_n))


@jax.jit
def _best_of_n_win_rate(log_n: Array) -> Array:
    return jax.nn.sigmoid(log_n)


def best_of_n_kl_estimate(n: Any = None, selected: Any = None, *, log_n: Any = None) -> Array:
    """Beirami's estimate of KL(hard best-of-n‖P) from the probability ε of the selected outcome.

    (1-ε)^n [log n + (n-1) log(1-ε) - (n-1)/n] + (1 - (1-ε)^n) log((1 - (1-ε)^n)/ε).

    Args:
      n: `[...]` number of candidates, real >= 1, traced.
      selected: `[...]` ε in (0, 1], traced: P of the outcome that best-of-n returned, or of all
        outcomes tied with it.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, in the dtype of `selected`; at most `best_of_n_kl`, its limit as ε → 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, ε outside (0, 1], or shapes that do not broadcast.

    Numerics: some 1e-15 of `best_of_n_kl` in float64.
    Source: Beirami et al., arXiv:2401.01879, their estimator. For ties: derived here, since only the law
      of the reward matters.

    Example:
      >>> round(float(sb.bounds.best_of_n_kl_estimate(16, 0.1)), 4)
      1.7561
    """
    selected = _checks.positive_probability("selected", selected)
    log_n = _checks.log_candidates(n, log_n, selected.dtype)
    _checks.batch_shape(n=log_n.shape, selected=selected.shape)
    return _estimate(log_n, selected)


@jax.jit
def _estimate(log_n: Array, selected: Array) -> Array:
    legal = jnp.where((selected > 0) & (selected <= 1), selected, jnp.nan)
    return _estimate_terms(*jnp.broadcast_arrays(log_n, legal))


def _estimate_terms(log_n: Array, selected: Array) -> Array:
    certain = selected >= 1
    rate = -jnp.log1p(-jnp.where(certain, 0.5, selected))  # -log(1-ε)
    less = -jnp.expm1(-log_n)  # (n-1)/n
    n = exact.finite_n(log_n)
    stays = jnp.exp(-n * rate)
    rises = -jnp.expm1(-n * rate)
    first = stays * (log_n - (n - 1) * rate - less)
    second = rises * (_special.safe_log(rises) - jnp.log(selected))
    return jnp.where(certain, 0.0 * log_n, first + second)


def expected_best_of_n_kl_estimate(problem: Problem, n: Any = None, *, log_n: Any = None) -> Array:
    """The mean of Beirami's estimate over the outcome that hard best-of-n returns.

    Args:
      problem: `[..., K]` reference law and rewards, traced; tied outcomes count as one.
      n: `[...]` number of candidates, real >= 1, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, to be compared with the exact `kl_soft_base` at temperature 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad problem, or shapes that do not broadcast.

    Numerics: some 1e-15 of `best_of_n_kl` in float64; the mean is over the exact law, not over samples.
    Source: arXiv:2401.01879 for the estimator; derived here: its mean under `sb.log_best_of_n`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> exact = sb.metrics(problem, 4, 0.0).kl_soft_base
      >>> mean = sb.bounds.expected_best_of_n_kl_estimate(problem, 4)
      >>> round(float(exact), 4), round(float(mean), 4)
      (0.5678, 0.615)
    """
    problem, _, log_n = _arguments.checked_arguments(problem, n, 0.0, log_n)
    _checks.batch_shape(problem=problem.batch_shape, n=log_n.shape)
    return _expected_estimate(problem, log_n)


@jax.jit
def _expected_estimate(problem: Problem, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, log_n: Array) -> Array:
        log_probs = exact.normalized(log_probs)
        rewards, _ = exact.on_support(log_probs, rewards)
        _, group, _ = exact.rank_masses(jnp.exp(log_probs), rewards)
        hard = exact.hard_terms(log_probs, rewards, log_n)
        q = jnp.exp(log_probs + hard.log_base_ratio)
        return q @ _estimate_terms(jnp.broadcast_to(log_n, group.shape), jnp.minimum(group, 1.0))

    return _batching.over_batch(one, problem, (log_n,), elements=problem.num_outcomes)


# Best-of-Poisson ----------------------------------------------------------------------------------


def best_of_poisson_kl(mean_extra: Any) -> Array:
    """KL(hard best-of-Poisson‖P) for a uniform reward; N = 1 + Poisson(ν) candidates.

    log(1+ν) - 1 + e^{-(1+ν)} [Ei(1+ν) - Ei(1)]/ν, the integral of g log g for the density
    g(u) = (1 + ν u) e^{-ν(1-u)} of the selected reward.

    Args:
      mean_extra: `[...]` ν, finite and at least 0, traced.

    Returns:
      `[...]` nats, in the float dtype of the argument.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: ν is negative or not finite.

    Numerics: Gauss-Legendre quadrature of a scaled integral in place of Ei, which overflows; relative
      error below 1e-13 in float64, also as ν → 0, where the result is of order ν².
    Source: arXiv:2506.19248.

    Example:
      >>> round(float(sb.bounds.best_of_poisson_kl(3.0)), 4)
      0.4946
    """
    return _uniform.poisson_kl(_checks.finite_not_negative("mean_extra", mean_extra))


def best_of_poisson_win_rate(mean_extra: Any) -> Array:
    """Pr(hard best-of-Poisson beats a fresh draw from P) for a uniform reward, and its mean reward.

    1 - (ν - 1 + e^{-ν})/ν².

    Args:
      mean_extra: `[...]` ν, finite and at least 0, traced.

    Returns:
      `[...]` in [1/2, 1), in the float dtype of the argument.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: ν is negative or not finite.

    Numerics: a few roundings, also as ν → 0.
    Source: arXiv:2506.19248 for the rule; derived here: the mean of the density in
      `best_of_poisson_kl`.

    Example:
      >>> round(float(sb.bounds.best_of_poisson_win_rate(3.0)), 4)
      0.7722
    """
    return _uniform.poisson_win_rate(_checks.finite_not_negative("mean_extra", mean_extra))


# The tilted law of a uniform reward ---------------------------------------------------------------


def least_kl_for_win_rate(win_rate: Any) -> Array:
    """The least KL(Q‖P) of any law Q whose mean uniform reward (its win rate) is `win_rate`.

    The tilted law with density β e^{βu}/(e^β - 1) attains it: β m - log((e^β - 1)/β), with β such that
    1/(1 - e^{-β}) - 1/β = m. The excess of a rule's divergence over it is that rule's gap to the tilt.

    Args:
      win_rate: `[...]` m, strictly between 0 and 1, traced.

    Returns:
      `[...]` nats, in the float dtype of the argument; 0 at m = 1/2.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: m is not strictly between 0 and 1.

    Numerics: β by Newton's method from a rational first guess; relative error below 2e-14 in
      float64, at m near 0, 1/2 and 1 alike; twice differentiable.
    Source: derived here: the convex dual of log E[e^{βu}]; first guess: Cohen 1991 for the inverse of
      the Langevin function.

    Example:
      >>> round(float(sb.bounds.best_of_n_kl(4)), 4)
      0.6363
      >>> round(float(sb.bounds.least_kl_for_win_rate(sb.bounds.best_of_n_win_rate(4))), 4)
      0.6169
    """
    return _uniform.least_kl(_checks.inside_unit_interval("win_rate", win_rate))


# The race and rejection ---------------------------------------------------------------------------


def race_tv_upper(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """TV(P_n, P*) <= (1 - μ/w_max)^n for the uniform race, and for rejection with any fallback.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` λ in w = e^{r/λ}, in reward units, traced. At 0, μ/w_max is P(best reward).
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` in [0, 1), exponentially small in n; that of soft best-of-n is of order 1/n.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: relative error about 1e-15·(1 + |log result|)·(10 + range/temperature) in float64;
      underflows to 0.
    Source: arXiv:2609.21899 for the race; derived here: P_n/P* >= 1 - (1 - μ/w_max)^n everywhere.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.race_tv_upper(problem, 4, 0.3)), 4)
      0.4671
    """
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, n=log_n.shape)
    return _race_tv(problem, temperature, log_n)


@jax.jit
def _race_tv(problem: Problem, temperature: Array, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        positive = exact.interior_temperature(temperature, rewards)
        terms = exact.tilted_terms(Problem(log_probs, rewards), positive)
        p, best = jnp.exp(terms.log_probs), terms.rewards == jnp.max(terms.rewards)
        hard = temperature == 0
        # 1 - μ, and its logarithm from whichever of μ and 1 - μ keeps the digits.
        loss = jnp.where(hard, jnp.where(best, 0.0, 1.0), -jnp.expm1(terms.exponents)) @ p
        mean = jnp.where(hard, jnp.where(best, p, 0.0).sum(), jnp.exp(terms.log_mean))
        rare = mean < 0.5
        log_loss = jnp.where(rare, jnp.log1p(-jnp.where(rare, mean, 0.0)), _special.safe_log(loss))
        n = exact.finite_n(log_n)
        bound = jnp.where(loss > 0, jnp.exp(n * jnp.where(loss > 0, log_loss, 0.0)), 0.0)
        return jnp.where(jnp.isposinf(temperature), 0.0 * log_n, bound)

    return _batching.over_batch(one, problem, (temperature, log_n), elements=problem.num_outcomes)
