"""Upper bounds on the divergence, reward gap and cost of soft best-of-n; conventions: `sb.bounds`."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _checks
from softbon_jax.bounds import _moments
from softbon_jax.problem import Problem

Array = jax.Array


# χ² and the effective sample size ----------------------------------------------------------------


def cv_squared(problem: Problem, temperature: Any) -> Array:
    """CV² = Var_P(W) = χ²(P*‖P), the squared coefficient of variation of the weights.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` CV² >= 0. At temperature 0, 1/P(best reward) - 1; at inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy; inf where it overflows. `kl_upper` and `log_n_for_kl_upper` do not.
    Source: definition.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.cv_squared(problem, 0.3)), 3)
      2.677
    """
    return _moments.of(_moments.by_power(_moments.log_cv_squared, 0), problem, temperature)


def effective_sample_size(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """n/(1 + CV²), the effective number of candidates when n draws of P are weighted towards P*.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` in (0, n]. At temperature 0, n·P(best reward); at inf, n.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, also where n and 1 + CV² both overflow.
    Source: definition (Kish's effective sample size).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.effective_sample_size(problem, 16, 0.3)), 3)
      4.352
    """
    return _moments.at(_effective_sample_size, problem, n, temperature, log_n)


def _effective_sample_size(tilt: _moments.Tilt, log_n: Array) -> Array:
    return jnp.exp(log_n - _moments.log_mean_tilted(tilt))


# Upper bounds on the divergence to the target ----------------------------------------------------


def kl_upper(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) <= log(1 + CV²/n).

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, finite at every temperature, also where CV² overflows. At inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy; CV²/n stays a logarithm.
    Source: rate: arXiv:2505.03156; form: derived here. E_P[e^{-tW}] >= e^{-t} by Jensen's inequality,
      so that P_n/P* = n ∫ e^{-tW} E_P[e^{-tW}]^{n-1} dt >= n/(W + n - 1). By the inequality again,
      E_{P*} of -log of that is at most log(1 + CV²/n), as E_{P*}[W] = 1 + CV².

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> exact = sb.metrics(problem, 16, 0.3).kl_tilted_soft
      >>> bound = sb.bounds.kl_upper(problem, 16, 0.3)
      >>> round(float(exact), 4), round(float(bound), 4)
      (0.0164, 0.1547)
    """
    return _moments.at(_kl_upper, problem, n, temperature, log_n)


def _kl_upper(tilt: _moments.Tilt, log_n: Array) -> Array:
    return jax.nn.softplus(_moments.log_cv_squared(tilt) - log_n)


def kl_upper_linear(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) <= CV²/n.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, never below `kl_upper`. At temperature inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy; inf only where CV²/n overflows.
    Source: rate: arXiv:2505.03156; form: derived here, log(1 + x) <= x in `kl_upper`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.kl_upper_linear(problem, 16, 0.3)), 4)
      0.1673
    """
    return _moments.at(
        _moments.by_power(_moments.log_cv_squared, 1), problem, n, temperature, log_n
    )


def kl_upper_sinh(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) <= sinh²(Δ/2λ)/n, Δ being the range of r where P is positive.

    Args:
      problem: `[..., K]` reference law and rewards, traced; only the range of the rewards matters.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, never below `kl_upper_linear`. At temperature 0, inf, or 0 if the rewards are
      constant; at inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy; inf only where the result overflows.
    Source: rate: arXiv:2505.03156; form: derived here. The variance of a variable in [e^{-Δ/λ}, 1] is at
      most sinh²(Δ/2λ) times its squared mean, with equality for `sb.worst_case`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.kl_upper_sinh(problem, 16, 0.3)), 4)
      0.4073
    """
    return _moments.at(_moments.by_power(_log_sinh_squared, 1), problem, n, temperature, log_n)


def _log_sinh_squared(tilt: _moments.Tilt) -> Array:
    return tilt.scaled_range + 2 * _moments.log(-jnp.expm1(-tilt.scaled_range)) - math.log(4)


def kl_upper_quadratic(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) <= 2 (1 + M/n) (E_{P*}[(W-1)²] + CV⁴/b²) / (n - 1 + b)², a bound of order 1/n².

    Here b = min W and M = max W - 1. It has the order of the divergence, with a far larger constant.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats. At temperature 0, inf, or 0 if the rewards are constant; at inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy in float64; in float32 some 1e-4, as b^-4 has four times its error.
    Source: derived here. With ρ = P_n/P* >= n/(n + M), KL is at most χ²(P*‖P_n) and that at most
      (1 + M/n) E_{P*}[(ρ-1)²]; and ρ - 1 is (1 - W)/(n - 1 + W) plus a Jensen gap of at most
      CV²/(b(n - 1 + b)).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.kl_upper_quadratic(problem, 1000, 0.3)), 6)
      0.000367
    """
    return _moments.at(_kl_upper_quadratic, problem, n, temperature, log_n)


def _kl_upper_quadratic(tilt: _moments.Tilt, log_n: Array) -> Array:
    log_b = _moments.at_largest(tilt.log_weights, tilt.rewards, tilt.log_probs, -1)
    # n - 1 + b as n times a sum of two non-negative terms.
    log_shifted = log_n + _moments.log(-jnp.expm1(-log_n) + jnp.exp(log_b - log_n))
    log_square = _moments.log_sum(tilt.log_tilted + 2 * _moments.log_abs_expm1(tilt.log_weights))
    log_cv_squared = _moments.log_cv_squared(tilt)
    log_moments = _moments.log_sum(jnp.stack([log_square, 2 * (log_cv_squared - log_b)], axis=-1))
    log_factor = jax.nn.softplus(_moments.log_largest_excess(tilt) - log_n)
    bound = jnp.exp(math.log(2) + log_factor + log_moments - 2 * log_shifted)
    return jnp.where(log_cv_squared == -jnp.inf, 0.0, bound)


def n_for_kl_upper(problem: Problem, kl: Any, temperature: Any) -> Array:
    """A number of candidates that suffices for KL(P*‖P_n) <= `kl`: CV²/(e^kl - 1), at least 1.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      kl: `[...]` budget in nats, >= 0, traced; 0 and inf are legal.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` real n >= 1; round it up. inf where it overflows, or where kl is 0 and CV² is not.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a negative or NaN budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Numerics: the usual accuracy; `log_n_for_kl_upper` does not overflow.
    Source: derived here: `kl_upper` solved for n. Sufficient, far from necessary.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.n_for_kl_upper(problem, 0.01, 0.3)), 1)
      266.3
    """
    return _within_budget(_n_for_kl_upper, problem, kl, temperature)


def log_n_for_kl_upper(problem: Problem, kl: Any, temperature: Any) -> Array:
    """The logarithm of `n_for_kl_upper`.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      kl: `[...]` budget in nats, >= 0, traced; 0 and inf are legal.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` log n >= 0, nats; inf where kl is 0 and CV² is not.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a negative or NaN budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Numerics: the usual accuracy.
    Source: derived here: `kl_upper` solved for n.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.log_n_for_kl_upper(problem, 0.01, 1e-3)), 2)
      6.8
    """
    return _within_budget(_log_n_for_kl_upper, problem, kl, temperature)


def _within_budget(formula: _moments.Formula, problem: Problem, kl: Any, temperature: Any) -> Array:
    problem, temperature, _ = _arguments.checked_arguments(problem, None, temperature, 0.0)
    kl = _checks.not_negative("kl", kl, temperature.dtype)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, kl=kl.shape)
    return _moments.run(formula, problem, temperature, kl)


def _n_for_kl_upper(tilt: _moments.Tilt, kl: Array) -> Array:
    return jnp.exp(_log_n_for_kl_upper(tilt, kl))


def _log_n_for_kl_upper(tilt: _moments.Tilt, kl: Array) -> Array:
    log_cv_squared = _moments.log_cv_squared(tilt)
    log_n = log_cv_squared - _moments.log_abs_expm1(kl)
    enough = (log_cv_squared == -jnp.inf) | (log_n < 0)
    return jnp.where(kl >= 0, jnp.where(enough, 0.0, log_n), jnp.nan)


# Upper bounds on the reward gap and on the divergence from the reference law ---------------------


def relative_gap_upper(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """(E_{P*}r - E_{P_n}r)/E_{P*}r <= M'/(n + M'), M' = E_{P*}[rW]/E_{P*}[r] - 1, for r >= 0.

    Args:
      problem: `[..., K]` reference law and rewards, traced; rewards >= 0 where P is positive.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` in [0, 1), dimensionless. At temperature inf, and if the rewards are constant, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a negative reward where P is positive, n < 1, a bad temperature or problem, or
        shapes that do not broadcast.

    Numerics: the usual accuracy; M' is CV² + Cov_{P*}(r, W)/E_{P*}[r], whose terms are non-negative.
    Source: rate: arXiv:2505.03156; form: derived here. E_{P_n}r = E_{P*}[r P_n/P*] with P_n/P* as in
      `kl_upper`, and Jensen's inequality under the law proportional to P*·r.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> exact = sb.metrics(problem, 16, 0.3).relative_reward_gap
      >>> bound = sb.bounds.relative_gap_upper(problem, 16, 0.3)
      >>> round(float(exact), 4), round(float(bound), 4)
      (0.0901, 0.1946)
    """
    return _gap(_relative_gap_upper, problem, n, temperature, log_n)


def _relative_gap_upper(tilt: _moments.Tilt, log_n: Array) -> Array:
    mean = jnp.sum(jnp.exp(tilt.log_tilted) * tilt.rewards, axis=-1)
    log_covariance = _moments.log_covariance(tilt)
    constant = log_covariance == -jnp.inf
    log_ratio = jnp.where(
        constant, -jnp.inf, log_covariance - _moments.log(jnp.where(constant, 1.0, mean))
    )
    log_excess = _moments.log_sum(jnp.stack([_moments.log_cv_squared(tilt), log_ratio], axis=-1))
    return _fraction(tilt, log_excess, log_n)


def relative_gap_upper_crude(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """(E_{P*}r - E_{P_n}r)/E_{P*}r <= M/(n + M), M = max W - 1, for r >= 0.

    Args:
      problem: `[..., K]` reference law and rewards, traced; rewards >= 0 where P is positive.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` in [0, 1), dimensionless; never below `relative_gap_upper`.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a negative reward where P is positive, n < 1, a bad temperature or problem, or
        shapes that do not broadcast.

    Numerics: the usual accuracy.
    Source: rate: arXiv:2505.03156; form: derived here, M' <= M in `relative_gap_upper`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.relative_gap_upper_crude(problem, 16, 0.3)), 4)
      0.2297
    """
    return _gap(_relative_gap_upper_crude, problem, n, temperature, log_n)


def _relative_gap_upper_crude(tilt: _moments.Tilt, log_n: Array) -> Array:
    return _fraction(tilt, _moments.log_largest_excess(tilt), log_n)


def _gap(
    formula: _moments.Formula, problem: Problem, n: Any, temperature: Any, log_n: Any
) -> Array:
    problem, temperature, log_n = _moments.checked(problem, n, temperature, log_n)
    log_probs, rewards = (_checks.concrete(x) for x in problem)
    if log_probs is not None and rewards is not None:
        log_probs, rewards = np.broadcast_arrays(log_probs, rewards)
        negative = (rewards < 0) & (log_probs > -np.inf)
        _checks.offending("problem.rewards", rewards, negative, "at least 0 where P is positive")
    return _moments.run(formula, problem, temperature, log_n)


def _fraction(tilt: _moments.Tilt, log_excess: Array, log_n: Array) -> Array:
    """M/(n + M), NaN if a reward is negative."""
    legal = jnp.min(tilt.rewards, axis=-1) >= 0
    return jnp.where(legal, jnp.exp(jax.nn.log_sigmoid(log_excess - log_n)), jnp.nan)


def kl_base_upper(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P_n‖P) <= log(n/(1 + (n-1) e^{-Δ/λ})), Δ being the range of r where P is positive.

    Args:
      problem: `[..., K]` reference law and rewards, traced; only the range of the rewards matters.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, in [0, log n]. At temperature 0, log n, or 0 if the rewards are constant; at
      inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, also where n is near 1 or the range small, and the result near 0.
    Source: Aminian et al., arXiv:2507.05913, Lemma 4.1.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> exact = sb.metrics(problem, 16, 0.3).kl_soft_base
      >>> bound = sb.bounds.kl_base_upper(problem, 16, 0.3)
      >>> round(float(exact), 3), round(float(bound), 3)
      (0.616, 2.344)
    """
    return _moments.at(_kl_base_upper, problem, n, temperature, log_n)


def _kl_base_upper(tilt: _moments.Tilt, log_n: Array) -> Array:
    # -log(1 - uv), u = 1 - 1/n and v = 1 - e^{-Δ/λ}; where uv is near 1, 1 - uv = 1/n + u e^{-Δ/λ}.
    u, v = -jnp.expm1(-log_n), -jnp.expm1(-tilt.scaled_range)
    small = u * v < 0.5
    log_u = jnp.log(jnp.where(small, 1.0, u))
    terms = jnp.stack(jnp.broadcast_arrays(-log_n, log_u - tilt.scaled_range), axis=-1)
    return jnp.where(small, -jnp.log1p(-jnp.where(small, u * v, 0.0)), -_moments.log_sum(terms))
