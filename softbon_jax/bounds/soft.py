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

from softbon_jax import _checks, _numerics, _plan
from softbon_jax._moments import (
    _at,
    _at_largest,
    _by_power,
    _log,
    _log_abs_expm1,
    _log_covariance,
    _log_cv_squared,
    _log_fluctuation,
    _log_half_deviation,
    _log_half_variance,
    _log_largest_excess,
    _log_mean_tilted,
    _log_sum,
    _of,
    _run,
    _Tilt,
)
from softbon_jax.problem import Problem
from softbon_jax.rival_bounds import best_of_n_kl_estimate as best_of_n_kl_estimate
from softbon_jax.rival_bounds import best_of_poisson_kl as best_of_poisson_kl
from softbon_jax.rival_bounds import best_of_poisson_win_rate as best_of_poisson_win_rate
from softbon_jax.rival_bounds import (
    expected_best_of_n_kl_estimate as expected_best_of_n_kl_estimate,
)
from softbon_jax.rival_bounds import least_kl_for_win_rate as least_kl_for_win_rate
from softbon_jax.rival_bounds import race_tv_upper as race_tv_upper
from softbon_jax.sequence_bounds import (
    block_gain_upper as block_gain_upper,
)
from softbon_jax.sequence_bounds import (
    block_kl_lower as block_kl_lower,
)
from softbon_jax.sequence_bounds import (
    block_kl_upper as block_kl_upper,
)
from softbon_jax.sequence_bounds import (
    log_n_for_block_gain as log_n_for_block_gain,
)
from softbon_jax.sequence_bounds import (
    log_n_for_block_kl_lower as log_n_for_block_kl_lower,
)
from softbon_jax.sequence_bounds import (
    log_n_for_block_kl_upper as log_n_for_block_kl_upper,
)
from softbon_jax.sequence_bounds import (
    threshold_exponent as threshold_exponent,
)
from softbon_jax.sequence_bounds import (
    threshold_exponent_upper as threshold_exponent_upper,
)

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
    return _of(_by_power(_log_cv_squared, 0), problem, temperature)


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
    return _at(_effective_sample_size, problem, n, temperature, log_n)


def _effective_sample_size(tilt: _Tilt, log_n: Array) -> Array:
    return jnp.exp(log_n - _log_mean_tilted(tilt))


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
    return _at(_kl_upper, problem, n, temperature, log_n)


def _kl_upper(tilt: _Tilt, log_n: Array) -> Array:
    return jax.nn.softplus(_log_cv_squared(tilt) - log_n)


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
    return _at(_by_power(_log_cv_squared, 1), problem, n, temperature, log_n)


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
    return _at(_by_power(_log_sinh_squared, 1), problem, n, temperature, log_n)


def _log_sinh_squared(tilt: _Tilt) -> Array:
    return tilt.scaled_range + 2 * _log(-jnp.expm1(-tilt.scaled_range)) - math.log(4)


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
    return _at(_kl_upper_quadratic, problem, n, temperature, log_n)


def _kl_upper_quadratic(tilt: _Tilt, log_n: Array) -> Array:
    log_b = _at_largest(tilt.log_weights, tilt.rewards, tilt.log_probs, -1)
    # n - 1 + b as n times a sum of two non-negative terms.
    log_shifted = log_n + _log(-jnp.expm1(-log_n) + jnp.exp(log_b - log_n))
    log_square = _log_sum(tilt.log_tilted + 2 * _log_abs_expm1(tilt.log_weights))
    log_cv_squared = _log_cv_squared(tilt)
    log_moments = _log_sum(jnp.stack([log_square, 2 * (log_cv_squared - log_b)], axis=-1))
    log_factor = jax.nn.softplus(_log_largest_excess(tilt) - log_n)
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
    problem, temperature, _ = _plan.checked_arguments(problem, None, temperature, 0.0)
    kl = _checks.as_float("kl", kl).astype(temperature.dtype)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, kl=kl.shape)
    return _run(_log_n_for_kl_upper, problem, temperature, kl)


def _log_n_for_kl_upper(tilt: _Tilt, kl: Array) -> Array:
    log_cv_squared = _log_cv_squared(tilt)
    log_n = log_cv_squared - _log_abs_expm1(kl)
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
    return _at(_relative_gap_upper, problem, n, temperature, log_n)


def _relative_gap_upper(tilt: _Tilt, log_n: Array) -> Array:
    mean = jnp.sum(jnp.exp(tilt.log_tilted) * tilt.rewards, axis=-1)
    log_covariance = _log_covariance(tilt)
    constant = log_covariance == -jnp.inf
    log_ratio = jnp.where(constant, -jnp.inf, log_covariance - _log(jnp.where(constant, 1.0, mean)))
    log_excess = _log_sum(jnp.stack([_log_cv_squared(tilt), log_ratio], axis=-1))
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
    return _at(_relative_gap_upper_crude, problem, n, temperature, log_n)


def _relative_gap_upper_crude(tilt: _Tilt, log_n: Array) -> Array:
    return _fraction(tilt, _log_largest_excess(tilt), log_n)


def _fraction(tilt: _Tilt, log_excess: Array, log_n: Array) -> Array:
    """M/(n + M), NaN if a reward is negative."""
    legal = jnp.min(tilt.rewards, axis=-1) >= 0
    return jnp.where(legal, jnp.exp(jax.nn.log_sigmoid(log_excess - log_n)), jnp.nan)


def _no_negative_reward(problem: Problem) -> None:
    log_probs, rewards = (_checks.concrete(x) for x in _plan.checked_problem(problem))
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
    return _at(_kl_base_upper, problem, n, temperature, log_n)


def _kl_base_upper(tilt: _Tilt, log_n: Array) -> Array:
    # -log(1 - uv), u = 1 - 1/n and v = 1 - e^{-Δ/λ}; where uv is near 1, 1 - uv = 1/n + u e^{-Δ/λ}.
    u, v = -jnp.expm1(-log_n), -jnp.expm1(-tilt.scaled_range)
    small = u * v < 0.5
    log_u = jnp.log(jnp.where(small, 1.0, u))
    terms = jnp.stack(jnp.broadcast_arrays(-log_n, log_u - tilt.scaled_range), axis=-1)
    return jnp.where(small, -jnp.log1p(-jnp.where(small, u * v, 0.0)), -_log_sum(terms))


# Leading terms as n grows ------------------------------------------------------------------------


def kl_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """Var_{P*}(W)/2, the limit of n² KL(P*‖P_n), and of n² KL(P_n‖P*), as n grows.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` nats. At temperature 0, where the divergence falls exponentially, and at inf: 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here from P_n/P* - 1 = (1 + CV² - W)/n + O(1/n²). The divergence of a fixed
      problem is of order 1/n²; the O(1/n) of arXiv:2505.03156 is an upper bound.
    """
    return _of(_by_power(_log_half_variance, 0), problem, temperature)


def kl_asymptote(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """KL(P*‖P_n) ~ Var_{P*}(W)/(2 n²) as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats; the relative error is O(1/n), and it may exceed the divergence many times over
      while n is below CV². At temperature 0 and inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `kl_asymptote_coefficient`.
    """
    return _at(_by_power(_log_half_variance, 2), problem, n, temperature, log_n)


def tv_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """E_{P*}|1 + CV² - W|/2, the limit of n TV(P_n, P*) as n grows.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` without unit. At temperature 0 and inf, 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: not differentiable where W of an outcome equals its mean under P*; the gradient there
      is a subgradient, and 0 if the rewards are constant.
    Source: derived here from P_n/P* - 1 = (1 + CV² - W)/n + O(1/n²).
    """
    return _of(_by_power(_log_half_deviation, 0), problem, temperature)


def tv_asymptote(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """TV(P_n, P*) ~ E_{P*}|1 + CV² - W|/(2n) as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` without unit; it may exceed 1 at small n. At temperature 0 and inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `tv_asymptote_coefficient`.
    """
    return _at(_by_power(_log_half_deviation, 1), problem, n, temperature, log_n)


def fluctuation_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """The limit of √n E[TV(R, P*)] as n grows, R being the softmax measure over the n draws.

    Σ_x (E_P[W² (1_x - P*(x))²])^½ / √(2π); see `conditional_fluctuation` for R.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` without unit. At temperature 0, where R and P* are on the best outcomes, and at inf,
      where they are the empirical and the reference law, the formula holds as it stands.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the gradient is 0 at an outcome whose moment is 0.
    Source: derived here: R - P* is the mean over the draws of W(X)(1_x - P*), but for terms of order
      1/n, and the mean size of a centred normal of variance v is (2v/π)^½.
    """
    return _of(_by_power(_log_fluctuation, 0), problem, temperature)


def fluctuation_asymptote(
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None
) -> Array:
    """E[TV(R, P*)] ~ its coefficient / √n as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` without unit; it may exceed 1 at small n.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `fluctuation_asymptote_coefficient`.
    """
    return _at(_by_power(_log_fluctuation, 0.5), problem, n, temperature, log_n)


def reward_gap_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """Cov_{P*}(r, W), the limit of n (E_{P*}r - E_{P_n}r) as n grows; rewards of any sign.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` in reward units, >= 0. At temperature 0 and inf, 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here from P_n/P* - 1 = (1 + CV² - W)/n + O(1/n²).
    """
    return _of(_by_power(_log_covariance, 0), problem, temperature)


def reward_gap_asymptote(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """E_{P*}r - E_{P_n}r ~ Cov_{P*}(r, W)/n as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` in reward units. At temperature 0 and inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `reward_gap_asymptote_coefficient`.
    """
    return _at(_by_power(_log_covariance, 1), problem, n, temperature, log_n)


# Hard best-of-n ----------------------------------------------------------------------------------


def best_of_n_kl(n: Any, *, log_n: Any = None) -> Array:
    """KL(hard best-of-n‖P) <= log n - (n-1)/n, with equality for a reward of continuous law.

    Args:
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats, in the float dtype of the argument.

    Raises:
      ValueError: n < 1.

    Source: Beirami et al., arXiv:2401.01879.
    """
    return _best_of_n_kl(_log_n(n, log_n))


@jax.jit
def _best_of_n_kl(log_n: Array) -> Array:
    # With u = (n-1)/n this is -log(1-u) - u, which needs its series while u is small.
    u = -jnp.expm1(-log_n)
    small = u < 0.05
    near = _numerics.ratio_minus_log(jnp.where(small, -u, 0.0))
    return jnp.where(small, near, log_n - u)


def best_of_n_win_rate(n: Any, *, log_n: Any = None) -> Array:
    """Pr(hard best-of-n beats a fresh draw from P) <= n/(n+1), ties counting one half.

    Equality holds for a reward of continuous law.

    Args:
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` in [1/2, 1], in the float dtype of the argument.

    Raises:
      ValueError: n < 1.

    Source: arXiv:2401.01879 for a continuous reward. Derived here for any: with F its distribution
      function, the win rate is the trapezoid sum of F over F^n, and F is concave in F^n.
    """
    return _best_of_n_win_rate(_log_n(n, log_n))


@jax.jit
def _best_of_n_win_rate(log_n: Array) -> Array:
    return jax.nn.sigmoid(log_n)


def _log_n(n: Any, log_n: Any) -> Array:
    given = log_n if n is None else n
    dtype = jnp.float32 if given is None else _checks.as_float("n", given).dtype
    return _checks.log_candidates(n, log_n, dtype)
