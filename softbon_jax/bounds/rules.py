"""Closed forms and bounds of the rules that soft best-of-n competes with, one function a result.

Reached as `bounds.<name>`, and with the conventions of that module: results have the broadcast shape
and the float dtype of the arguments; bad values raise `ValueError` when they are concrete and give
NaN when traced. What is said of "a uniform reward" holds of every reward of continuous law, after its
own distribution function.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _batching, _checks, _special, exact
from softbon_jax.problem import Problem

Array = jax.Array

_SMALL_NODES, _SMALL_WEIGHTS = np.polynomial.legendre.leggauss(20)
_LARGE_NODES, _LARGE_WEIGHTS = np.polynomial.legendre.leggauss(64)
_REACH = 40.0  # e^-40 is below the rounding of what it is added to

# Hard best-of-n -----------------------------------------------------------------------------------


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
    near = _special.ratio_minus_log(jnp.where(small, -u, 0.0))
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


def best_of_n_kl_estimate(n: Any, selected: Any, *, log_n: Any = None) -> Array:
    """Beirami's estimate of KL(hard best-of-n‖P) from the probability ε of the selected outcome.

    (1-ε)^n [log n + (n-1) log(1-ε) - (n-1)/n] + (1 - (1-ε)^n) log((1 - (1-ε)^n)/ε).

    Args:
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      selected: `[...]` ε in (0, 1], traced: P of the outcome that best-of-n returned, or of all
        outcomes tied with it.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats, in the dtype of `selected`; at most `best_of_n_kl`, its limit as ε → 0. NaN for a
      traced ε outside (0, 1].

    Raises:
      ValueError: n < 1, ε outside (0, 1], or shapes that do not broadcast.

    Source: Beirami et al., arXiv:2401.01879, their estimator. For ties: derived here, the law of the
    reward is all that matters.
    """
    selected = _checks.as_float("selected", selected)
    value = _checks.concrete(selected)
    if value is not None:
        _checks.offending("selected", value, ~((value > 0) & (value <= 1)), "in (0, 1]")
    log_n = _checks.log_candidates(n, log_n, selected.dtype)
    _checks.batch_shape(n=log_n.shape, selected=selected.shape)
    selected, log_n = jnp.broadcast_arrays(selected, log_n)
    return _estimate(log_n, jnp.where((selected > 0) & (selected <= 1), selected, jnp.nan))


@jax.jit
def _estimate(log_n: Array, selected: Array) -> Array:
    sure = selected >= 1
    rate = -jnp.log1p(-jnp.where(sure, 0.5, selected))  # -log(1-ε)
    less = -jnp.expm1(-log_n)  # (n-1)/n
    n = exact.finite_n(log_n)
    stays = jnp.exp(-n * rate)
    rises = -jnp.expm1(-n * rate)
    first = stays * (log_n - (n - 1) * rate - less)
    second = rises * (_special.safe_log(rises) - jnp.log(selected))
    return jnp.where(sure, 0.0 * log_n, first + second)


def expected_best_of_n_kl_estimate(problem: Problem, n: Any, *, log_n: Any = None) -> Array:
    """The mean of Beirami's estimate over the outcome that hard best-of-n returns.

    Args:
      problem: `[..., K]` reference law and rewards; tied outcomes count as one.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats, to be compared with the exact `kl_soft_base` at temperature 0.

    Raises:
      ValueError: n < 1, a bad problem, or shapes that do not broadcast.

    Source: arXiv:2401.01879 for the estimator; the mean by the exact law of `law.log_best_of_n`.
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
        return q @ _estimate(jnp.broadcast_to(log_n, group.shape), jnp.minimum(group, 1.0))

    return _batching.over_batch(one, problem.num_outcomes, problem, (log_n,))


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
      ValueError: ν is negative or not finite.

    Numerics: by Gauss-Legendre quadrature of what stands in the place of Ei, which overflows; relative
    error below 1e-13 in float64, also as ν → 0, where the result is of order ν².
    Source: arXiv:2506.19248.
    """
    return _poisson_kl(_checked_mean(mean_extra))


@jax.jit
def _poisson_kl(nu: Array) -> Array:
    small = nu < 1
    # g log g - g + 1 as it is for small ν: a sum of non-negative terms.
    u, weight = _on(0.0, 1.0, _SMALL_NODES, _SMALL_WEIGHTS, nu.dtype)
    slight = jnp.where(small, nu, 0.0)[..., None]
    shape = (*nu.shape, u.shape[0])
    u, weight = jnp.broadcast_to(u, shape), jnp.broadcast_to(weight, shape)
    decay = jnp.exp(-slight * (1 - u))
    excess = jnp.expm1(-slight * (1 - u)) + slight * u * decay
    near = jnp.sum(weight * _special.ratio_log_ratio(excess), axis=-1)
    # e^{-(1+ν)} [Ei(1+ν) - Ei(1)] = ∫₀^ν e^{-y}/(1+ν-y) dy.
    nu = jnp.where(small, 1.0, nu)
    reach = jnp.minimum(nu, _REACH)[..., None]
    y, weight = _on(0.0, 1.0, _LARGE_NODES, _LARGE_WEIGHTS, nu.dtype)
    shape = (*nu.shape, y.shape[0])
    y, weight = reach * jnp.broadcast_to(y, shape), reach * jnp.broadcast_to(weight, shape)
    tail = jnp.sum(weight * jnp.exp(-y) / (1 + nu[..., None] - y), axis=-1)
    return jnp.where(small, near, jnp.log1p(nu) - 1 + tail / nu)


def best_of_poisson_win_rate(mean_extra: Any) -> Array:
    """Pr(hard best-of-Poisson beats a fresh draw from P) for a uniform reward: its mean reward too.

    1 - (ν - 1 + e^{-ν})/ν².

    Args:
      mean_extra: `[...]` ν, finite and at least 0, traced.

    Returns:
      `[...]` in [1/2, 1), in the float dtype of the argument.

    Raises:
      ValueError: ν is negative or not finite.

    Source: derived here, the mean of the density in `best_of_poisson_kl`; arXiv:2506.19248 for the
    rule.
    """
    return _poisson_win_rate(_checked_mean(mean_extra))


@jax.jit
def _poisson_win_rate(nu: Array) -> Array:
    small = nu < 1
    u, weight = _on(0.0, 1.0, _SMALL_NODES, _SMALL_WEIGHTS, nu.dtype)
    shape = (*nu.shape, u.shape[0])
    u, weight = jnp.broadcast_to(u, shape), jnp.broadcast_to(weight, shape)
    slight = jnp.where(small, nu, 0.0)[..., None]
    near = jnp.sum(weight * u * jnp.exp(-slight * (1 - u)), axis=-1)
    nu = jnp.where(small, 1.0, nu)
    return 1 - jnp.where(small, near, (nu + jnp.expm1(-nu)) / nu**2)


def _checked_mean(mean_extra: Any) -> Array:
    value = _checks.concrete(mean_extra)
    if value is not None:
        bad = ~((value >= 0) & np.isfinite(value))
        _checks.offending("mean_extra", value, bad, "finite and at least 0")
    mean_extra = _checks.as_float("mean_extra", mean_extra)
    return jnp.where((mean_extra >= 0) & (mean_extra < jnp.inf), mean_extra, jnp.nan)


def _on(
    low: float, high: float, nodes: np.ndarray, weights: np.ndarray, dtype: Any
) -> tuple[Array, Array]:
    """A Gauss-Legendre rule moved to [low, high]."""
    half = (high - low) / 2
    return jnp.asarray(low + half * (nodes + 1), dtype), jnp.asarray(half * weights, dtype)


# The tilted law of a uniform reward ---------------------------------------------------------------


def least_kl_for_win_rate(win_rate: Any) -> Array:
    """The least KL(Q‖P) of any law Q whose mean uniform reward (its win rate) is `win_rate`.

    It is that of the tilted law with density β e^{βu}/(e^β - 1): β m - log((e^β - 1)/β), with β such
    that 1/(1 - e^{-β}) - 1/β = m. What a rule costs above it is its gap to the tilt.

    Args:
      win_rate: `[...]` m, strictly between 0 and 1, traced.

    Returns:
      `[...]` nats, in the float dtype of the argument; 0 at m = 1/2.

    Raises:
      ValueError: m is not strictly between 0 and 1.

    Numerics: β by Newton's method from a rational first guess (six steps; at the second-last the error
    is below rounding); absolute error about 1e-15 in float64, relative 1e-12 for |m - 1/2| > 1e-3.
    Source: derived here: the convex dual of log E[e^{βu}]; guess: Cohen 1991 for the inverse of the
    Langevin function.
    """
    value = _checks.concrete(win_rate)
    if value is not None:
        bad = ~((value > 0) & (value < 1))
        _checks.offending("win_rate", value, bad, "strictly between 0 and 1")
    win_rate = _checks.as_float("win_rate", win_rate)
    return _least_kl(jnp.where((win_rate > 0) & (win_rate < 1), win_rate, jnp.nan))


@jax.jit
def _least_kl(mean: Array) -> Array:
    # y = 2m - 1 = L(x), the Langevin function coth x - 1/x, at x = β/2; the cost is x L(x) - log
    # (sinh x/x), and even in x.
    y = jnp.abs(2 * mean - 1)
    fixed = jax.lax.stop_gradient(y)
    x = fixed * (3 - fixed**2) / (1 - fixed**2)
    for _ in range(6):
        x = x - (_langevin(x) - fixed) / _langevin_slope(x)
    small = x < 0.5
    safe = jnp.where(small, 1.0, x)
    log_sinh = safe + jnp.log1p(-jnp.exp(-2 * safe)) - math.log(2) - jnp.log(safe)
    square = jnp.where(small, x, 0.0) ** 2
    series = [1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250]
    series += [2 / 127702575, -3617 / 2605132530000, 43867 / 350813659321125]
    near = square * jnp.polyval(jnp.asarray(series[::-1], y.dtype), square)
    # By duality the derivative with respect to y is x itself, and x may be held fixed.
    return x * y - jnp.where(small, near, log_sinh)


def _langevin(x: Array) -> Array:
    """Coth x - 1/x for x >= 0."""
    small = x < 0.5
    safe = jnp.where(small, 1.0, x)
    square = jnp.where(small, x, 0.0) ** 2
    series = [1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875, 4 / 18243225]
    series += [-3617 / 162820783125, 87734 / 38979295480125]
    near = jnp.where(small, x, 0.0) * jnp.polyval(jnp.asarray(series[::-1], x.dtype), square)
    return jnp.where(small, near, 1 / jnp.tanh(safe) - 1 / safe)


def _langevin_slope(x: Array) -> Array:
    """1/x² - 1/sinh² x for x >= 0."""
    small = x < 0.1
    safe = jnp.where(small, 1.0, x)
    near = 1 / 3 - jnp.where(small, x, 0.0) ** 2 / 15
    return jnp.where(small, near, 1 / safe**2 - 1 / jnp.sinh(jnp.minimum(safe, 300.0)) ** 2)


# The race and rejection ---------------------------------------------------------------------------


def race_tv_upper(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """TV(P_n, P*) <= (1 - μ/w_max)^n for the uniform race, and for rejection with any fallback.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` λ in w = e^{r/λ}, reward units, traced. At 0, 1 - μ/w_max is the probability
        that a draw is not of the best.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` in [0, 1): exponentially small in n, where soft best-of-n has 1/n.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: arXiv:2609.21899 for the race. Derived here: P_n/P* >= 1 - (1 - μ/w_max)^n everywhere.
    """
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, n=log_n.shape)
    return _race_tv(problem, temperature, log_n)


@jax.jit
def _race_tv(problem: Problem, temperature: Array, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        proper = exact.proper_temperature(temperature, rewards)
        terms = exact.tilted_terms(Problem(log_probs, rewards), proper)
        p, best = jnp.exp(terms.log_probs), terms.rewards == jnp.max(terms.rewards)
        hard = temperature == 0
        # 1 - μ, and the logarithm of it by whichever of the two keeps the digits.
        loss = jnp.where(hard, jnp.where(best, 0.0, 1.0), -jnp.expm1(terms.exponents)) @ p
        mean = jnp.where(hard, jnp.where(best, p, 0.0).sum(), jnp.exp(terms.log_mean))
        rare = mean < 0.5
        log_loss = jnp.where(rare, jnp.log1p(-jnp.where(rare, mean, 0.0)), _special.safe_log(loss))
        n = exact.finite_n(log_n)
        bound = jnp.where(loss > 0, jnp.exp(n * jnp.where(loss > 0, log_loss, 0.0)), 0.0)
        return jnp.where(jnp.isposinf(temperature), 0.0 * log_n, bound)

    return _batching.over_batch(one, problem.num_outcomes, problem, (temperature, log_n))
