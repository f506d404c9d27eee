"""Bounds for sequences of m symbols with additive rewards; conventions: `sb.bounds`.

Here `problem` is the law of one symbol, and m and budgets broadcast as n and the temperature do.

Blocks need a number of candidates that is exponential in their length. With D = KL(P*‖P) of one
symbol, the divergence of whole sequences is KL(P*‖P_n) = m (D - R)₊ + o(m) at n = e^{mR}: they need
n ≈ e^{mD}. The O(1/n) bound asks for more, (1 + CV²)^m.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _checks, _special
from softbon_jax.bounds import _moments
from softbon_jax.problem import Problem

Array = jax.Array


def threshold_exponent(problem: Problem, temperature: Any) -> Array:
    """D = KL(P*‖P) of one symbol: blocks of m symbols need about e^{mD} candidates.

    Args:
      problem: `[..., K]` law of a symbol, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` nats per symbol. At temperature 0, -log P(best reward); at inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, however small D is.
    Source: derived here from Chatterjee and Diaconis, arXiv:1511.01437: importance sampling of P* from
      P needs about e^{KL(P*‖P)} samples, and KL is additive.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.threshold_exponent(problem, 0.3)), 4)
      0.8152
    """
    return _moments.of(_kl_tilted_base, problem, temperature)


def _kl_tilted_base(tilt: _moments.Tilt, log_n: Array) -> Array:
    """Σ P (W log W - W + 1): every term is non-negative."""
    possible = tilt.log_tilted != -jnp.inf
    log_w = jnp.where(possible, tilt.log_weights, 0.0)
    near = jnp.abs(log_w) < _special.NEAR
    p, pstar = jnp.exp(tilt.log_probs), jnp.exp(tilt.log_tilted)
    close = p * _special.ratio_log_ratio(jnp.expm1(jnp.where(near, log_w, 0.0)))
    terms = jnp.where(near, close, pstar * log_w - (pstar - p))
    return jnp.sum(jnp.where(possible, terms, p), axis=-1)


def threshold_exponent_upper(problem: Problem, temperature: Any) -> Array:
    """The logarithm of 1 + CV²: n = (1 + CV²)^m candidates suffice for blocks of m symbols.

    Args:
      problem: `[..., K]` law of a symbol, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` nats per symbol; never below `threshold_exponent`.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy; finite also where CV² overflows.
    Source: rate: arXiv:2505.03156; form: derived here, `kl_upper` for the product law, whose 1 + CV² is
      a product. It exceeds D by Jensen's inequality: log E_{P*}[W] >= E_{P*}[log W].

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.threshold_exponent_upper(problem, 0.3)), 4)
      1.302
    """
    return _moments.of(_log_second_moment, problem, temperature)


def _log_second_moment(tilt: _moments.Tilt, log_n: Array) -> Array:
    return _moments.log_mean_tilted(tilt)


def block_kl_lower(
    problem: Problem, m: Any, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) >= m D - log n over sequences of m symbols selected whole.

    Args:
      problem: `[..., K]` law of a symbol, traced.
      m: `[...]` number of symbols, real >= 1, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats for the whole sequence, >= 0. It holds for every rule that returns one of n draws.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: m or n below 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the absolute error is that of m D and of log n; no more where the two are close.
    Source: derived here: P_n <= n P.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.block_kl_lower(problem, 20, 16, 0.3)), 3)
      13.53
    """
    exponent = threshold_exponent(problem, temperature)
    log_n = _checks.log_candidates(n, log_n, exponent.dtype)
    return _of_block(_kl_lower, exponent, m, n=log_n)


def _kl_lower(exponent: Array, m: Array, log_n: Array) -> Array:
    return _positive(m * exponent - log_n)


def block_kl_upper(
    problem: Problem, m: Any, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) <= log(1 + ((1 + CV²)^m - 1)/n) over sequences of m symbols selected whole.

    Args:
      problem: `[..., K]` law of a symbol, traced.
      m: `[...]` number of symbols, real >= 1, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats for the whole sequence.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: m or n below 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy; (1 + CV²)^m stays a logarithm.
    Source: rate: arXiv:2505.03156; form: derived here, `kl_upper` for the product law.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.block_kl_upper(problem, 20, 16, 0.3)), 3)
      23.267
    """
    exponent = threshold_exponent_upper(problem, temperature)
    log_n = _checks.log_candidates(n, log_n, exponent.dtype)
    return _of_block(_kl_upper, exponent, m, n=log_n)


def _kl_upper(exponent: Array, m: Array, log_n: Array) -> Array:
    return jax.nn.softplus(_moments.log_abs_expm1(m * exponent) - log_n)


def log_n_for_block_kl_lower(problem: Problem, m: Any, kl: Any, temperature: Any) -> Array:
    """Log of the n below which KL(P*‖P_n) > `kl` for whole sequences: m D - kl, at least 0.

    Args:
      problem: `[..., K]` law of a symbol, traced.
      m: `[...]` number of symbols, real >= 1, traced.
      kl: `[...]` the budget for the whole sequence in nats, >= 0, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` log n >= 0, nats.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: m below 1, a negative budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Numerics: the absolute error is that of m D.
    Source: derived here: `block_kl_lower` solved for n.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.log_n_for_block_kl_lower(problem, 20, 1.0, 0.3)), 3)
      15.303
    """
    kl = _checks.not_negative("kl", kl)
    return _of_block(_kl_lower, threshold_exponent(problem, temperature), m, kl=kl)


def log_n_for_block_kl_upper(problem: Problem, m: Any, kl: Any, temperature: Any) -> Array:
    """Log of an n that suffices for KL(P*‖P_n) <= `kl`: ((1 + CV²)^m - 1)/(e^kl - 1), at least 1.

    Args:
      problem: `[..., K]` law of a symbol, traced.
      m: `[...]` number of symbols, real >= 1, traced.
      kl: `[...]` the budget for the whole sequence in nats, >= 0, traced; 0 and inf are legal.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` log n >= 0, nats.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: m below 1, a negative budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Numerics: the usual accuracy; (1 + CV²)^m stays a logarithm.
    Source: derived here: `block_kl_upper` solved for n.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.log_n_for_block_kl_upper(problem, 20, 1.0, 0.3)), 3)
      25.499
    """
    kl = _checks.not_negative("kl", kl)
    return _of_block(_log_n_for_kl, threshold_exponent_upper(problem, temperature), m, kl=kl)


def _log_n_for_kl(exponent: Array, m: Array, kl: Array) -> Array:
    log_excess = _moments.log_abs_expm1(m * exponent)
    log_n = jnp.where(log_excess == -jnp.inf, 0.0, log_excess - _moments.log_abs_expm1(kl))
    return _positive(log_n)


def block_gain_upper(problem: Problem, m: Any, n: Any = None, *, log_n: Any = None) -> Array:
    """The most that selection among n sequences can add to the mean reward per symbol: Δ √(log n/2m).

    Args:
      problem: `[..., K]` law of a symbol, traced; Δ is the range of r where P is positive.
      m: `[...]` number of symbols, real >= 1, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` reward units per symbol, above E_P[r]. It may exceed max r - E_P[r].

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: m or n below 1, a bad problem, or shapes that do not broadcast.

    Numerics: a few roundings.
    Source: derived here: the selected law has KL <= log n from P^{⊗m}, and the mean reward is
      Δ²/4m-sub-Gaussian (Hoeffding), so that a gain ε costs 2mε²/Δ² nats (Donsker and Varadhan).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.block_gain_upper(problem, 20, 16)), 4)
      0.2633
    """
    width = _moments.of(_range, problem, 1.0)
    log_n = _checks.log_candidates(n, log_n, width.dtype)
    return _of_block(_gain_upper, width, m, n=log_n)


def _range(tilt: _moments.Tilt, log_n: Array) -> Array:
    return tilt.scaled_range


def _gain_upper(width: Array, m: Array, log_n: Array) -> Array:
    positive = log_n > 0
    root = jnp.sqrt(jnp.where(positive, log_n, 1.0) / (2 * m))
    return width * jnp.where(positive, root, jnp.where(log_n == 0, 0.0, jnp.nan))


def log_n_for_block_gain(problem: Problem, m: Any, gain: Any) -> Array:
    """Log of a lower bound on the n that a mean gain of `gain` per symbol requires: 2 m (gain/Δ)².

    Args:
      problem: `[..., K]` law of a symbol, traced; Δ is the range of r where P is positive.
      m: `[...]` number of symbols, real >= 1, traced.
      gain: `[...]` increase of the mean reward per symbol over E_P[r], >= 0, in reward units, traced.

    Returns:
      `[...]` log n, nats; inf if the rewards are constant and the gain is not 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: m below 1, a negative gain, a bad problem, or shapes that do not broadcast.

    Numerics: a few roundings.
    Source: derived here: `block_gain_upper` solved for n.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.log_n_for_block_gain(problem, 20, 0.2)), 4)
      1.6
    """
    gain = _checks.not_negative("gain", gain)
    return _of_block(_log_n_for_gain, _moments.of(_range, problem, 1.0), m, gain=gain)


def _log_n_for_gain(width: Array, m: Array, gain: Array) -> Array:
    constant = width == 0
    share = gain / jnp.where(constant, 1.0, width)
    return jnp.where(constant & (gain > 0), jnp.inf, 2 * m * share**2)


# What they share ---------------------------------------------------------------------------------


def _of_block(formula: Callable[..., Array], of_symbol: Array, m: Any, **other: Any) -> Array:
    """`formula(of_symbol, m, other)` in the dtype of `of_symbol`.

    `other` is log n, named `n` in messages, or a budget, and its values are checked.
    """
    m = _checks.finite_at_least("m", m, 1)
    arrays = {"problem": of_symbol}
    for name, x in {"m": m, **other}.items():
        arrays[name] = _checks.as_float(name, x, of_symbol.dtype)
    shape = _checks.batch_shape(**{name: x.shape for name, x in arrays.items()})
    # Not in the worker: a result must not depend on which of its arguments were scalars, but XLA rounds
    # a product with a scalar differently.
    return _compiled(formula, *(jnp.broadcast_to(x, shape) for x in arrays.values()))


@functools.partial(jax.jit, static_argnums=0)
def _compiled(formula: Callable[..., Array], of_symbol: Array, m: Array, other: Array) -> Array:
    chex.assert_equal_shape([of_symbol, m, other])
    chex.assert_type([of_symbol, m, other], of_symbol.dtype)
    return formula(of_symbol, jnp.where(m >= 1, m, jnp.nan), jnp.where(other >= 0, other, jnp.nan))


def _positive(x: Array) -> Array:
    """The positive part of x; NaN stays NaN."""
    return jnp.where(x < 0, 0.0, x)
