"""Special functions that keep their digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

NEAR = 0.4
"""Ratios whose |log| is below this are carried as ratio - 1, the others as logarithms."""

SMALL = 0.0625
"""Below this `one_minus_exp` is a polynomial."""


def over(rewards: Array, origin: Array, temperature: Array) -> Array:
    """(rewards - origin)/temperature, λ > 0, also where the difference or 1/λ leaves the range.

    XLA multiplies by 1/λ, which is 0 where it would be subnormal. From half the exponents of the float
    type on, both are in units of a power of 2 of that size, which is exact.
    """
    huge = 2.0 ** (jnp.finfo(temperature.dtype).maxexp // 2)
    unit = jnp.where(temperature > huge, 1 / huge, 1.0).astype(temperature.dtype)
    return (rewards * unit - origin * unit) / (temperature * unit)


def refined(log_ratio: Array, excess: Array) -> tuple[Array, Array]:
    """(log ratio, ratio - 1), the first from the second where it is near 0, the second 0 elsewhere."""
    near = jnp.abs(log_ratio) < NEAR
    excess = jnp.where(near, excess, 0.0)
    return jnp.where(near, jnp.log1p(excess), log_ratio), excess


def _horner(x: Array, coefficients: Sequence[float]) -> Array:
    """The polynomial with these coefficients, that of x⁰ first."""
    total = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = c + x * total
    return total


def _terms(x: Array, double: int, single: int) -> int:
    """How many terms of a series the dtype of x asks for."""
    return double if jnp.finfo(x.dtype).bits >= 64 else single


def excesses(delta: Array, log_ratio: Array) -> tuple[Array, Array]:
    """δ - log(1+δ) and (1+δ) log(1+δ) - δ, relatively accurate for every δ > -1.

    The summands of KL(p‖q) and of KL(q‖p) over p for q = p (1+δ); `log_ratio` is log(1+δ). Near 0 the
    first is δs - 2s³ (1/3 + s²/5 + ...) with s = δ/(2+δ), since log(1+δ) = 2 artanh s and
    δ - 2s = δs, and the second is δ² less 1+δ times the first.
    """
    small = jnp.abs(delta) < 0.05
    near = jnp.where(small, delta, 0.0)
    s = near / (2 + near)
    square = s * s
    series = [1 / (2 * k + 3) for k in range(_terms(s, 5, 2))]
    first = near * s - 2 * s * square * _horner(square, series)
    second = near * near - (1 + near) * first
    far = jnp.where(small, 0.0, delta)
    return (
        jnp.where(small, first, far - log_ratio),
        jnp.where(small, second, (1 + far) * log_ratio - far),
    )


def ratio_minus_log(delta: Array, log_ratio: Array | None = None) -> Array:
    """The first of `excesses`, δ - log(1+δ); `log_ratio` is log(1+δ) where it is known already."""
    return excesses(delta, jnp.log1p(delta) if log_ratio is None else log_ratio)[0]


def ratio_log_ratio(delta: Array, log_ratio: Array | None = None) -> Array:
    """The second, (1+δ) log(1+δ) - δ."""
    return excesses(delta, jnp.log1p(delta) if log_ratio is None else log_ratio)[1]


def excess(delta: Array) -> Array:
    """The first of `excesses` without a call of `log1p`, for very many δ; δ itself where δ <= -1.

    With 1 + δ = 2^k (1 + f), f from √½ - 1 to √2 - 1, log(1+f) = 2 artanh s = f - f²/2 + s (f²/2 + R)
    at s = f/(2+f), R = 2s²/3 + 2s⁴/5 + ...; where k is 0, f is δ, and nothing cancels.
    """
    dtype, bits = delta.dtype, jnp.finfo(delta.dtype)
    integer = np.dtype(f"int{bits.bits}")
    inside = delta > -1
    y = jnp.where(inside, 1 + delta, 1.0)
    start = np.asarray(math.sqrt(0.5), dtype).view(integer)
    k = jnp.right_shift(jax.lax.bitcast_convert_type(y, integer) - start, bits.nmant)
    scale = jnp.left_shift(bits.maxexp - 1 - k, bits.nmant)
    same = k == 0
    scaled = y * jax.lax.bitcast_convert_type(scale, dtype) - 1
    f = jnp.where(same, jnp.where(inside, delta, 0.0), scaled)
    s, half = f / (2 + f), f * f / 2
    square = s * s
    series = [2 / (2 * j + 3) for j in range(_terms(s, 11, 5))]
    left = half - s * (half + square * _horner(square, series))
    far = delta - (k.astype(dtype) * math.log(2) + (f - left))
    return jnp.where(same & inside, left, far)


def log1p_over(x: Array) -> Array:
    """log(1 + x)/x for x > -1, with its derivatives at 0: by 2 artanh s, s = x/(2+x), near it."""
    small = jnp.abs(x) < 0.05
    near = jnp.where(small, x, 0.0)
    s = near / (near + 2)
    series = [1 / (2 * k + 1) for k in range(_terms(x, 6, 3))]
    far = jnp.where(small, 1.0, x)
    return jnp.where(small, 2 / (2 + near) * _horner(s * s, series), jnp.log1p(far) / far)


def exp_excess(x: Array) -> Array:
    """(e^x - 1 - x)/x² for |x| <= 1, by its series."""
    return _horner(x, [1 / math.factorial(k + 2) for k in range(_terms(x, 17, 9))])


def one_minus_exp(x: Array) -> Array:
    """1 - e^-x for 0 <= x < SMALL by its series, cheaper than `expm1` where it fuses."""
    series = [(-1.0) ** k / math.factorial(k + 1) for k in range(_terms(x, 9, 4))]
    return x * _horner(x, series)


def log1mexp(y: Array) -> Array:
    """log(1 - e^-y) for y > 0, by whichever of the two forms keeps the digits."""
    small = y < math.log(2)
    by_expm1 = jnp.log(-jnp.expm1(-jnp.where(small, y, 1.0)))
    return jnp.where(small, by_expm1, jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, y))))


def safe_log(x: Array) -> Array:
    """Log x with value -inf and gradient 0 at x = 0."""
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), -jnp.inf)


class Mix(NamedTuple):
    """Σ values · e^logs over the first of two axes `[M, Q]`: non-negative, smooth where a value is 0."""

    values: Array
    logs: Array

    def at(self, log_scale: Array) -> Array:
        """`[Q]` the sum times e^log_scale."""
        return jnp.sum(self.values * jnp.exp(self.logs + log_scale[None]), axis=0)

    def times(self, log_scale: Array) -> Mix:
        """The sum times e^log_scale, as a sum of that kind."""
        return Mix(self.values, self.logs + log_scale[None])

    def log(self) -> Array:
        """`[Q]` the logarithm of the sum, -inf where it underflows."""
        top = jax.lax.stop_gradient(jnp.max(self.logs, axis=0))
        return top + safe_log(self.at(-top))


def mix(*parts: tuple[Array, Array]) -> Mix:
    """The `Mix` of pairs (value, log), each `[Q]` or a scalar."""
    shape = jnp.broadcast_shapes(*(jnp.shape(x) for part in parts for x in part))
    columns = ([jnp.broadcast_to(x, shape) for x in column] for column in zip(*parts, strict=True))
    return Mix(*(jnp.stack(column) for column in columns))
