"""Special functions that keep their digits."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

Array = jax.Array

NEAR = 0.4
"""Ratios whose |log| is below this are carried as ratio - 1, the others as logarithms."""


def refined(log_ratio: Array, excess: Array) -> tuple[Array, Array]:
    """(log ratio, ratio - 1), the first from the second where it is near 0, the second 0 elsewhere."""
    near = jnp.abs(log_ratio) < NEAR
    excess = jnp.where(near, excess, 0.0)
    return jnp.where(near, jnp.log1p(excess), log_ratio), excess


_SERIES_BELOW = 0.05
_SERIES_TERMS = 14  # 0.05**13 < 1e-16


def _alternating_series(delta: Array, coefficients: list[float]) -> Array:
    """delta² · Σ_k c_k (-delta)^k by Horner's rule."""
    total = jnp.zeros_like(delta)
    for c in reversed(coefficients):
        total = c - delta * total
    return delta * delta * total


def ratio_minus_log(delta: Array, log_ratio: Array | None = None) -> Array:
    """δ - log(1+δ), relatively accurate for every δ > -1: the summand of KL(p‖p(1+δ)) over p.

    `log_ratio` is log(1+δ) where it is known already.
    """
    small = jnp.abs(delta) < _SERIES_BELOW
    far = jnp.where(small, 1.0, delta)
    log_ratio = jnp.log1p(far) if log_ratio is None else log_ratio
    series = [1.0 / k for k in range(2, _SERIES_TERMS + 2)]
    near = _alternating_series(jnp.where(small, delta, 0.0), series)
    return jnp.where(small, near, far - log_ratio)


def ratio_log_ratio(delta: Array, log_ratio: Array | None = None) -> Array:
    """(1+δ) log(1+δ) - δ, relatively accurate for every δ > -1: the summand of KL(p(1+δ)‖p) over p.

    `log_ratio` is log(1+δ) where it is known already.
    """
    small = jnp.abs(delta) < _SERIES_BELOW
    far = jnp.where(small, 1.0, delta)
    log_ratio = jnp.log1p(far) if log_ratio is None else log_ratio
    series = [1.0 / (k * (k - 1)) for k in range(2, _SERIES_TERMS + 2)]
    near = _alternating_series(jnp.where(small, delta, 0.0), series)
    return jnp.where(small, near, (1 + far) * log_ratio - far)


SMALL = 0.125
_EXP_TERMS = 10  # 0.125**10/11! < 1e-16


def one_minus_exp(x: Array) -> Array:
    """1 - e^-x for 0 <= x < SMALL by its series, cheaper than `expm1` where it fuses."""
    total = jnp.zeros_like(x)
    for k in range(_EXP_TERMS, 0, -1):
        total = 1.0 - total * x / (k + 1)
    return x * total


def log1mexp(y: Array) -> Array:
    """log(1 - e^-y) for y > 0, by whichever of the two forms keeps the digits."""
    small = y < math.log(2)
    by_expm1 = jnp.log(-jnp.expm1(-jnp.where(small, y, 1.0)))
    return jnp.where(small, by_expm1, jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, y))))


def safe_log(x: Array) -> Array:
    """Log x with value -inf and gradient 0 at x = 0."""
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), -jnp.inf)
