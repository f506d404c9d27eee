"""Analytic bounds and large-n asymptotes of soft best-of-n, one function a result.

With w = e^{r/λ} and W = w/E_P[w], the target is P* = P·W and everything here is a moment of W:
CV² = Var_P(W) = χ²(P*‖P), Var_{P*}(W), Cov_{P*}(r, W). Bounds hold for every n; asymptotes are the
leading term as n grows for a fixed problem and bound nothing. Those of `sequence_bounds`, for
sequences with additive rewards, are public here too.

Shared by all functions: outcomes on the last axis; `n` and `temperature` broadcast against the
problem's batch axes; results have the broadcast batch shape and the problem's float dtype; `log_n`
(nats) may be given instead of `n`, for n that overflows. Bad values raise `ValueError` when they
are concrete and give NaN when traced. Gradients with respect to log-probabilities are along the
simplex. At temperature 0 the gradient with respect to temperature and rewards is 0 where the result
is finite; where a result is infinite its gradient means nothing.

Numerics: moments are sums of non-negative terms in log space, formed from W/E[W] - 1 without
cancellation, so they keep their digits where W is nearly constant or nearly sure, and overflow to
inf, or underflow to 0, only where the result itself does. Relative error in float64 about
1e-15·(10 + range/temperature + |log result|).
"""

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
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` CV² >= 0. At temperature 0, 1/P(best reward) - 1; at inf, 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Source: definition.
    """
    return _moments.of(_moments.by_power(_moments.log_cv_squared, 0), problem, temperature)


def effective_sample_size(
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None
) -> Array:
    """n/(1 + CV²), the effective number of candidates when n draws of P are weighted towards P*.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` in (0, n]. At temperature 0, n·P(best reward); at inf, n.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: definition (Kish's effective sample size).
    """
    return _moments.at(_effective_sample_size, problem, n, temperature, log_n)


def _effective_sample_size(tilt: _moments.Tilt, log_n: Array) -> Array:
    return jnp.exp(log_n - _moments.log_mean_tilted(tilt))


# Upper bounds of the divergence to the target ----------------------------------------------------


def kl_upper(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """KL(P*‖P_n) <= log(1 + CV²/n).

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats, finite at every temperature, also where CV² overflows. At inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: arXiv:2505.03156 (the O(1/n) bound); derived here: P_n/P* = E[n/(W + Σ_{i<n} W_i)] >=
      n/(W + n - 1) and E_{P*}[W] = 1 + CV², Jensen's inequality twice.
    """
    return _moments.at(_kl_upper, problem, n, temperature, log_n)


def _kl_upper(tilt: _moments.Tilt, log_n: Array) -> Array:
    return jax.nn.softplus(_moments.log_cv_squared(tilt) - log_n)


def kl_upper_linear(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """KL(P*‖P_n) <= CV²/n.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats. At temperature inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: arXiv:2505.03156 (the O(1/n) bound); log(1 + x) <= x in `kl_upper`.
    """
    return _moments.at(
        _moments.by_power(_moments.log_cv_squared, 1), problem, n, temperature, log_n
    )


def kl_upper_sinh(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """KL(P*‖P_n) <= sinh²(Δ/2λ)/n, Δ the range of r where P is positive.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats. At temperature 0, inf, or 0 if the rewards are constant; at inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: arXiv:2505.03156 (the O(1/n) bound). Derived here in this form: the variance of a
      variable in [e^{-Δ/λ}, 1] is at most sinh²(Δ/2λ) times its squared mean, with equality for
      `problem.worst_case`.
    """
    return _moments.at(_moments.by_power(_log_sinh_squared, 1), problem, n, temperature, log_n)


def _log_sinh_squared(tilt: _moments.Tilt) -> Array:
    return tilt.scaled_range + 2 * _moments.log(-jnp.expm1(-tilt.scaled_range)) - math.log(4)


def kl_upper_quadratic(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """KL(P*‖P_n) <= 2 (1 + M/n) (E_{P*}[(W-1)²] + CV⁴/b²) / (n - 1 + b)², a bound of order 1/n².

    Here b = min W and M = max W - 1. It falls as fast as the divergence, from far above it.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats. At temperature 0, inf, or 0 if the rewards are constant; at inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here. With ρ = P_n/P* >= n/(n + M), KL is at most χ²(P*‖P_n) and that at most
      (1 + M/n) E_{P*}[(ρ-1)²]; and ρ - 1 is (1 - W)/(n - 1 + W) plus a Jensen gap of at most
      CV²/(b(n - 1 + b)).
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
      problem: `[..., K]` reference law and rewards.
      kl: `[...]` the budget in nats, >= 0, traced; 0 and inf are legal.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` real n >= 1; round it up. inf where it overflows or where kl is 0 and CV² is not;
      `log_n_for_kl_upper` does not overflow.

    Raises:
      ValueError: a negative or NaN budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Source: derived here: `kl_upper` solved for n. Sufficient, far from necessary.
    """
    return jnp.exp(log_n_for_kl_upper(problem, kl, temperature))


def log_n_for_kl_upper(problem: Problem, kl: Any, temperature: Any) -> Array:
    """The logarithm of `n_for_kl_upper`.

    Args:
      problem: `[..., K]` reference law and rewards.
      kl: `[...]` the budget in nats, >= 0, traced; 0 and inf are legal.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` log n >= 0, nats.

    Raises:
      ValueError: a negative or NaN budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Source: derived here: `kl_upper` solved for n.
    """
    value = _checks.concrete(kl)
    if value is not None:
        _checks.offending("kl", value, ~(value >= 0), "at least 0")
    problem, temperature, _ = _arguments.checked_arguments(problem, None, temperature, 0.0)
    kl = _checks.as_float("kl", kl).astype(temperature.dtype)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, kl=kl.shape)
    return _moments.run(_log_n_for_kl_upper, problem, temperature, kl)


def _log_n_for_kl_upper(tilt: _moments.Tilt, kl: Array) -> Array:
    log_cv_squared = _moments.log_cv_squared(tilt)
    log_n = log_cv_squared - _moments.log_abs_expm1(kl)
    enough = (log_cv_squared == -jnp.inf) | (log_n < 0)
    return jnp.where(kl >= 0, jnp.where(enough, 0.0, log_n), jnp.nan)


# Upper bounds of the reward gap and of the divergence from the reference law ---------------------


def relative_gap_upper(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """(E_{P*}r - E_{P_n}r)/E_{P*}r <= M'/(n + M'), M' = E_{P*}[rW]/E_{P*}[r] - 1, for r >= 0.

    Args:
      problem: `[..., K]` reference law and rewards, rewards >= 0 where P is positive.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` in [0, 1), without unit. At temperature inf, and if the rewards are constant, 0.

    Raises:
      ValueError: a negative reward where P is positive, n < 1, a bad temperature or problem, or
        shapes that do not broadcast.

    Numerics: M' is formed as CV² + Cov_{P*}(r, W)/E_{P*}[r], whose terms are non-negative.
    Source: arXiv:2505.03156 (the O(1/n) claim for the reward); derived here in this form, by
      Jensen's inequality under the law proportional to P*·r.
    """
    _no_negative_reward(problem)
    return _moments.at(_relative_gap_upper, problem, n, temperature, log_n)


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
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None
) -> Array:
    """(E_{P*}r - E_{P_n}r)/E_{P*}r <= M/(n + M), M = max W - 1, for r >= 0.

    Args:
      problem: `[..., K]` reference law and rewards, rewards >= 0 where P is positive.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` in [0, 1), without unit; never below `relative_gap_upper`.

    Raises:
      ValueError: a negative reward where P is positive, n < 1, a bad temperature or problem, or
        shapes that do not broadcast.

    Source: arXiv:2505.03156 (the O(1/n) claim for the reward); derived here in this form: M' <= M.
    """
    _no_negative_reward(problem)
    return _moments.at(_relative_gap_upper_crude, problem, n, temperature, log_n)


def _relative_gap_upper_crude(tilt: _moments.Tilt, log_n: Array) -> Array:
    return _fraction(tilt, _moments.log_largest_excess(tilt), log_n)


def _fraction(tilt: _moments.Tilt, log_excess: Array, log_n: Array) -> Array:
    """M/(n + M), NaN if a reward is negative."""
    legal = jnp.min(tilt.rewards, axis=-1) >= 0
    return jnp.where(legal, jnp.exp(jax.nn.log_sigmoid(log_excess - log_n)), jnp.nan)


def _no_negative_reward(problem: Problem) -> None:
    log_probs, rewards = (_checks.concrete(x) for x in _arguments.checked_problem(problem))
    if log_probs is not None and rewards is not None:
        log_probs, rewards = np.broadcast_arrays(log_probs, rewards)
        negative = (rewards < 0) & (log_probs > -np.inf)
        _checks.offending("problem.rewards", rewards, negative, "at least 0 where P is positive")


def kl_base_upper(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """KL(P_n‖P) <= log(n/(1 + (n-1) e^{-Δ/λ})), Δ the range of r where P is positive.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats, in [0, log n]. At temperature 0, log n, or 0 if the rewards are constant; at
      inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: Aminian et al., arXiv:2507.05913, Lemma 4.1.
    """
    return _moments.at(_kl_base_upper, problem, n, temperature, log_n)


def _kl_base_upper(tilt: _moments.Tilt, log_n: Array) -> Array:
    # -log(1 - uv), u = 1 - 1/n and v = 1 - e^{-Δ/λ}; where uv is near 1, 1 - uv = 1/n + u e^{-Δ/λ}.
    u, v = -jnp.expm1(-log_n), -jnp.expm1(-tilt.scaled_range)
    small = u * v < 0.5
    log_u = jnp.log(jnp.where(small, 1.0, u))
    terms = jnp.stack(jnp.broadcast_arrays(-log_n, log_u - tilt.scaled_range), axis=-1)
    return jnp.where(small, -jnp.log1p(-jnp.where(small, u * v, 0.0)), -_moments.log_sum(terms))
