"""Exact binomial draws in vector form, also for large counts in float32.

`jax.random.binomial` has the same law, but takes a logarithm per success for small means, always
runs its rejection loop, and computes the acceptance ratio as a difference of terms of size n, which
in float32 leaves no digits at n = 1e7.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _loops, _special
from softbon_jax.sampling import uniform

Array = jax.Array

# Below this mean draw by inversion, one success at a time: the largest draw sets the number of steps.
SMALL_MEAN = 10.0
STEPS_AT_ONCE = 8
# log k! - k log k + k for k = 0..9; beyond, Stirling's series.
_FIRST_TERMS = np.array(
    [0.0] + [float(np.log(np.arange(1, k + 1)).sum() - k * np.log(k) + k) for k in range(1, 10)]
)


def binomial(key: Array, count: Array, prob: Array) -> Array:
    """Binomial draws, one for each entry of `count`.

    Args:
      key: typed key; consumed.
      count: `[...]` float32 or float64, integers from 0 to 2^24 (float32) or 2^53.
      prob: `[...]` of the same shape and dtype, in [0, 1].

    Returns:
      `[...]` integers in the same dtype; 0 where `prob` is 0, `count` where it is 1.

    Numerics: the law is exact up to rounding, about 1e-6 in total variation in float32; rare
    outcomes keep this accuracy relative to their probability.
    Source: for small means inversion by the recursion of the probabilities; otherwise BTRS (Hörmann
    1993) with Loader's (2000) form of the probabilities, whose terms are all small near the mode.
    """
    chex.assert_equal_shape([count, prob])
    chex.assert_type(prob, count.dtype)
    small_key, large_key = jax.random.split(key)
    rare = jnp.minimum(prob, 1 - prob)
    large = count * rare >= SMALL_MEAN
    drawn = jnp.where(
        large,
        _by_rejection(large_key, count, rare, large),
        _by_inversion(small_key, jnp.where(large, 0, count), rare),
    )
    return jnp.where(prob > 0.5, count - drawn, drawn)


def _by_inversion(key: Array, count: Array, prob: Array) -> Array:
    """Inversion of a uniform that is accurate near 0, the end where draws are large."""
    return invert(uniform(key, count.shape, count.dtype, one_word=True), count, prob)


def invert(uniform: Array, count: Array, prob: Array) -> Array:
    """The smallest k with Pr(more than k successes) <= `uniform`, for means below 10.

    All of one shape and dtype. Starting from the upper tail, a rare success keeps its digits. Counts
    less likely than the rounding of that tail are not resolved, and never drawn.
    """
    log_none = count * jnp.log1p(-prob)
    odds = prob / (1 - prob)
    some = -jnp.expm1(log_none)
    rounding = jnp.finfo(count.dtype).eps * some

    def more(mass: Array, tail: Array) -> Array:
        return (uniform < tail) & (mass > rounding)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        k, mass, tail = state  # k, Pr(k), Pr(more than k)
        going = more(mass, tail)
        mass = jnp.where(going, mass * odds * (count - k) / (k + 1), mass)
        return jnp.where(going, k + 1, k), mass, jnp.where(going, tail - mass, tail)

    def steps(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        # Several at a time, so that arithmetic and not memory bounds the loop.
        for _ in range(STEPS_AT_ONCE):
            state = step(state)
        return state

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return jnp.any(more(*state[1:]))

    start = (jnp.zeros_like(count), jnp.exp(log_none), some)
    return _loops.while_loop(unfinished, steps, start)[0]


def _by_rejection(key: Array, count: Array, prob: Array, wanted: Array) -> Array:
    """Transformed rejection for means >= 10, where `wanted`; 0 elsewhere."""
    # Harmless numbers elsewhere.
    count, prob = jnp.where(wanted, count, 100), jnp.where(wanted, prob, 0.5)
    spread = jnp.sqrt(count * prob * (1 - prob))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * prob
    c = count * prob + 0.5
    height = (2.83 + 5.1 / b) * spread
    inside = 0.92 - 4.2 / b
    at_mode = _log_prob(jnp.floor((count + 1) * prob), count, prob)

    def round_(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, drawn, open_ = state
        u, v = uniform(jax.random.fold_in(key, i), (2, *count.shape), count.dtype, one_word=True)
        u = u - 0.5
        edge = jnp.maximum(0.5 - jnp.abs(u), jnp.finfo(count.dtype).tiny)
        k = jnp.floor((2 * a / edge + b) * u + c)
        valid = (k >= 0) & (k <= count)
        ratio = _log_prob(jnp.where(valid, k, 0), count, prob) - at_mode
        under = jnp.log(v * height / (a / (edge * edge) + b)) <= ratio
        accepted = ((edge >= 0.07) & (v <= inside)) | (valid & under)
        return i + 1, jnp.where(open_ & accepted, k, drawn), open_ & ~accepted

    start = (jnp.int32(0), jnp.zeros_like(count), wanted)
    return _loops.while_loop(lambda state: jnp.any(state[2]), round_, start)[1]


def _log_prob(k: Array, count: Array, prob: Array) -> Array:
    """Log of the binomial probability of k, up to a constant in k."""

    def deviance(x: Array, mean: Array) -> Array:
        return mean * _special.ratio_log_ratio((x - mean) / mean)

    return -(
        _remainder(k)
        + _remainder(count - k)
        + deviance(k, count * prob)
        + deviance(count - k, count * (1 - prob))
    )


def _remainder(k: Array) -> Array:
    """Log k! - k log k + k."""
    x = 1 / jnp.maximum(k, 10)
    x2 = x * x
    series = x * (1 / 12 - x2 * (1 / 360 - x2 * (1 / 1260 - x2 / 1680)))
    first = jnp.asarray(_FIRST_TERMS, k.dtype)[jnp.clip(k, 0, 9).astype(jnp.int32)]
    return jnp.where(k < 10, first, series - jnp.log(x / (2 * jnp.pi)) / 2)
