"""Bounds for sequences of m symbols with additive rewards; public as `bounds.<name>`.

Blocks need a number of candidates that is exponential in their length. With D = KL(P*‖P) of one
symbol, the divergence of whole sequences is KL(P*‖P_n) = m (D - R)₊ + o(m) at n = e^{mR}: they need
n ≈ e^{mD}. The O(1/n) bound asks for more, (1 + CV²)^m.

Shared by all functions: `problem` is the law of a symbol, outcomes on the last axis; m, n,
`temperature` and budgets broadcast against its batch axes; results have the broadcast shape and
the problem's float dtype. `log_n` (nats) may be given instead of `n`. Bad values raise `ValueError`
when they are concrete and give NaN when traced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _special
from softbon_jax.bounds import _moments
from softbon_jax.problem import Problem

Array = jax.Array


def threshold_exponent(problem: Problem, temperature: Any) -> Array:
    """D = KL(P*‖P) of one symbol: blocks of m symbols need about e^{mD} candidates.

    Args:
      problem: `[..., K]` law of a symbol.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` nats a symbol. At temperature 0, -log P(best reward); at inf, 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: relative error as `bounds`, however small D is.
    Source: derived here from Chatterjee and Diaconis, arXiv:1511.01437: importance sampling of P* from
      P needs about e^{KL(P*‖P)} samples, and KL is additive.
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
      problem: `[..., K]` law of a symbol.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` nats a symbol; never below `threshold_exponent`.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Source: arXiv:2505.03156 (the O(1/n) bound) for the product law, whose 1 + CV² is a product. It
      exceeds D by Jensen's inequality: log E_{P*}[W] >= E_{P*}[log W].
    """
    return _moments.of(_log_second_moment, problem, temperature)


def _log_second_moment(tilt: _moments.Tilt, log_n: Array) -> Array:
    return _moments.log_mean_tilted(tilt)


def block_kl_lower(
    problem: Problem, m: Any, n: Any, temperature: Any, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) >= m D - log n over sequences of m symbols selected whole.

    Args:
      problem: `[..., K]` law of a symbol.
      m: `[...]` number of symbols, >= 1, traced.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats, of the whole sequence, >= 0. It holds for any rule that returns one of n draws.

    Raises:
      ValueError: m or n below 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here: P_n <= n P.
    """
    exponent = threshold_exponent(problem, temperature)
    return _on(_kl_lower, exponent, m=_length(m), n=_log_n(exponent, n, log_n))


def _kl_lower(exponent: Array, m: Array, log_n: Array) -> Array:
    return _positive(m * exponent - log_n)


def block_kl_upper(
    problem: Problem, m: Any, n: Any, temperature: Any, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) <= log(1 + ((1 + CV²)^m - 1)/n) over sequences of m symbols selected whole.

    Args:
      problem: `[..., K]` law of a symbol.
      m: `[...]` number of symbols, >= 1, traced.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats, of the whole sequence.

    Raises:
      ValueError: m or n below 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: `bounds.kl_upper` for the product law (arXiv:2505.03156).
    """
    exponent = threshold_exponent_upper(problem, temperature)
    return _on(_kl_upper, exponent, m=_length(m), n=_log_n(exponent, n, log_n))


def _kl_upper(exponent: Array, m: Array, log_n: Array) -> Array:
    return jax.nn.softplus(_moments.log_abs_expm1(m * exponent) - log_n)


def log_n_for_block_kl_lower(problem: Problem, m: Any, kl: Any, temperature: Any) -> Array:
    """Log of the n below which KL(P*‖P_n) > `kl` over whole sequences: m D - kl, at least 0.

    Args:
      problem: `[..., K]` law of a symbol.
      m: `[...]` number of symbols, >= 1, traced.
      kl: `[...]` the budget for the whole sequence in nats, >= 0, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` log n, nats.

    Raises:
      ValueError: m below 1, a negative budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Source: derived here: `block_kl_lower` solved for n.
    """
    exponent = threshold_exponent(problem, temperature)
    return _on(_kl_lower, exponent, m=_length(m), kl=_budget("kl", kl))


def log_n_for_block_kl_upper(problem: Problem, m: Any, kl: Any, temperature: Any) -> Array:
    """Log of an n that suffices for KL(P*‖P_n) <= `kl`: ((1 + CV²)^m - 1)/(e^kl - 1), at least 1.

    Args:
      problem: `[..., K]` law of a symbol.
      m: `[...]` number of symbols, >= 1, traced.
      kl: `[...]` the budget for the whole sequence in nats, >= 0, traced; 0 and inf are legal.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` log n >= 0, nats.

    Raises:
      ValueError: m below 1, a negative budget, a bad temperature or problem, or shapes that do not
        broadcast.

    Source: derived here: `block_kl_upper` solved for n.
    """
    exponent = threshold_exponent_upper(problem, temperature)
    return _on(_log_n_for_kl, exponent, m=_length(m), kl=_budget("kl", kl))


def _log_n_for_kl(exponent: Array, m: Array, kl: Array) -> Array:
    log_excess = _moments.log_abs_expm1(m * exponent)
    log_n = jnp.where(log_excess == -jnp.inf, 0.0, log_excess - _moments.log_abs_expm1(kl))
    return _positive(log_n)


def block_gain_upper(problem: Problem, m: Any, n: Any, *, log_n: Any = None) -> Array:
    """The most that any selection among n sequences adds to the reward per symbol: Δ √(log n/2m).

    Args:
      problem: `[..., K]` law of a symbol, Δ the range of r where P is positive.
      m: `[...]` number of symbols, >= 1, traced.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` reward units per symbol, above E_P[r]. It may exceed what the rewards allow.

    Raises:
      ValueError: m or n below 1, a bad problem, or shapes that do not broadcast.

    Source: derived here: the selected law has KL <= log n from P^{⊗m}, and the mean reward is
      Δ²/4m-sub-Gaussian (Hoeffding), so that a gain ε costs 2mε²/Δ² nats (Donsker and Varadhan).
    """
    spread = _moments.of(_range, problem, 1.0)
    return _on(_gain_upper, spread, m=_length(m), n=_log_n(spread, n, log_n))


def _range(tilt: _moments.Tilt, log_n: Array) -> Array:
    return tilt.scaled_range


def _gain_upper(spread: Array, m: Array, log_n: Array) -> Array:
    positive = log_n > 0
    root = jnp.sqrt(jnp.where(positive, log_n, 1.0) / (2 * m))
    return spread * jnp.where(positive, root, jnp.where(log_n == 0, 0.0, jnp.nan))


def log_n_for_block_gain(problem: Problem, m: Any, gain: Any) -> Array:
    """Log of the n that a gain of `gain` per symbol asks for at least: 2 m (gain/Δ)².

    Args:
      problem: `[..., K]` law of a symbol, Δ the range of r where P is positive.
      m: `[...]` number of symbols, >= 1, traced.
      gain: `[...]` of mean reward per symbol above E_P[r], >= 0, in reward units, traced.

    Returns:
      `[...]` log n, nats; inf if rewards are constant and the gain is not 0.

    Raises:
      ValueError: m below 1, a negative gain, a bad problem, or shapes that do not broadcast.

    Source: derived here: `block_gain_upper` solved for n.
    """
    return _on(
        _log_n_for_gain, _moments.of(_range, problem, 1.0), m=_length(m), gain=_budget("gain", gain)
    )


def _log_n_for_gain(spread: Array, m: Array, gain: Array) -> Array:
    constant = spread == 0
    share = gain / jnp.where(constant, 1.0, spread)
    return jnp.where(constant & (gain > 0), jnp.inf, 2 * m * share**2)


# What they share ---------------------------------------------------------------------------------


def _on(formula: Callable[..., Array], first: Array, **others: Any) -> Array:
    """The formula of arrays that broadcast, in the dtype of the first."""
    arrays = {name: _checks.as_float(name, x, first.dtype) for name, x in others.items()}
    shape = _checks.batch_shape(
        problem=first.shape, **{name: x.shape for name, x in arrays.items()}
    )
    return _compiled(formula, *(jnp.broadcast_to(x, shape) for x in (first, *arrays.values())))


@functools.partial(jax.jit, static_argnums=0)
def _compiled(formula: Callable[..., Array], *arrays: Array) -> Array:
    return formula(*arrays)


def _positive(x: Array) -> Array:
    """The positive part of x; NaN stays."""
    return jnp.where(x < 0, 0.0, x)


def _length(m: Any) -> Array:
    value = _checks.concrete(m)
    if value is not None:
        _checks.offending("m", value, ~((value >= 1) & np.isfinite(value)), "finite and at least 1")
    m = _checks.as_float("m", m)
    return jnp.where(m >= 1, m, jnp.nan)


def _budget(name: str, x: Any) -> Array:
    value = _checks.concrete(x)
    if value is not None:
        _checks.offending(name, value, ~(value >= 0), "at least 0")
    x = _checks.as_float(name, x)
    return jnp.where(x >= 0, x, jnp.nan)


def _log_n(like: Array, n: Any, log_n: Any) -> Array:
    return _checks.log_candidates(n, log_n, like.dtype)
