"""Kernels of the closed forms for a uniform reward: best-of-Poisson, and the tilted law."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _special

Array = jax.Array


# Best-of-Poisson ----------------------------------------------------------------------------------

_FEW, _MANY = 20, 64  # nodes of Gauss-Legendre quadrature for ν < 1 and for ν >= 1
_REACH = 40.0  # e^-40 is below the rounding error of the sum that it enters


@jax.jit
def poisson_kl(mean_extra: Array) -> Array:
    """`best_of_poisson_kl`; NaN for a ν that is negative or not finite."""
    nu = _legal_mean(mean_extra)
    small = nu < 1
    # For small ν, g log g - g + 1 is integrated as it stands: it is not negative.
    slight = jnp.where(small, nu, 0.0)[..., None]
    u, weight = _quadrature(_FEW, nu)
    decay = jnp.exp(-slight * (1 - u))
    excess = jnp.expm1(-slight * (1 - u)) + slight * u * decay
    near = jnp.sum(weight * _special.ratio_log_ratio(excess), axis=-1)
    # e^{-(1+ν)} [Ei(1+ν) - Ei(1)] = ∫₀^ν e^{-y}/(1+ν-y) dy.
    nu = jnp.where(small, 1.0, nu)
    reach = jnp.minimum(nu, _REACH)[..., None]
    y, weight = (reach * x for x in _quadrature(_MANY, nu))
    tail = jnp.sum(weight * jnp.exp(-y) / (1 + nu[..., None] - y), axis=-1)
    return jnp.where(small, near, jnp.log1p(nu) - 1 + tail / nu)


@jax.jit
def poisson_win_rate(mean_extra: Array) -> Array:
    """`best_of_poisson_win_rate`; NaN for a ν that is negative or not finite."""
    nu = _legal_mean(mean_extra)
    small = nu < 1
    u, weight = _quadrature(_FEW, nu)
    slight = jnp.where(small, nu, 0.0)[..., None]
    near = jnp.sum(weight * u * jnp.exp(-slight * (1 - u)), axis=-1)
    nu = jnp.where(small, 1.0, nu)
    return 1 - jnp.where(small, near, (nu + jnp.expm1(-nu)) / nu**2)


def _legal_mean(mean_extra: Array) -> Array:
    return jnp.where((mean_extra >= 0) & (mean_extra < jnp.inf), mean_extra, jnp.nan)


def _quadrature(count: int, like: Array) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1], `[..., count]` for `like` `[...]`, by the rule of Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    shape = (*like.shape, count)
    return (
        jnp.broadcast_to(jnp.asarray(0.5 * (nodes + 1), like.dtype), shape),
        jnp.broadcast_to(jnp.asarray(0.5 * weights, like.dtype), shape),
    )


# The tilted law -----------------------------------------------------------------------------------

_SERIES_BELOW = 0.5
_LOG_SINH_SERIES = (  # of log(sinh x/x) in x², from the first power on
    1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250,
    2 / 127702575, -3617 / 2605132530000, 43867 / 350813659321125,
)  # fmt: skip
_LANGEVIN_SERIES = (  # of coth x - 1/x over x, in x²
    1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875, 4 / 18243225,
    -3617 / 162820783125, 87734 / 38979295480125,
)  # fmt: skip


@jax.jit
def least_kl(mean: Array) -> Array:
    """`least_kl_for_win_rate`; NaN for a win rate outside (0, 1).

    At x = |β|/2 the Langevin function L(x) = coth x - 1/x is y = |2m - 1|, and the divergence is
    x y - log(sinh x/x). Near m = 0 and 1 it is formed from s = min(m, 1 - m) = (1 - y)/2 instead of y,
    which has lost the digits of s.
    """
    mean = jnp.where((mean > 0) & (mean < 1), mean, jnp.nan)
    high = mean > 0.5
    s, y = jnp.where(high, 1 - mean, mean), jnp.where(high, 2 * mean - 1, 1 - 2 * mean)
    fixed = jax.lax.stop_gradient((s, y))
    x = fixed[1] * (3 - fixed[1] ** 2) / (2 * fixed[0] * (1 + fixed[1]))
    for _ in range(6):
        x = x - _newton_step(x, *fixed)
    x = x - _newton_step(x, s, y)  # which changes nothing but the derivatives
    small = x < _SERIES_BELOW
    square = jnp.where(small, x, 0.0) ** 2
    near = x * y - square * _polynomial(_LOG_SINH_SERIES, square)
    x = jnp.where(small, 1.0, x)
    far = jnp.log(2 * x) - 2 * s * x - jnp.log1p(-jnp.exp(-2 * x))
    return jnp.where(small, near, far)


def _newton_step(x: Array, s: Array, y: Array) -> Array:
    """(L(x) - y)/L'(x) with y = 1 - 2s, and x constant to differentiation."""
    small = x < _SERIES_BELOW
    slight, large = jnp.where(small, x, 0.0), jnp.where(small, 1.0, x)
    decay = jnp.exp(-2 * large)
    near = slight * _polynomial(_LANGEVIN_SERIES, slight**2) - y
    far = 2 * s - (1 / large - 2 * decay / (1 - decay))
    # L'(x) = (1 - (x/sinh x)²)/x²; a quotient of large numbers is avoided.
    cut = jnp.clip(x, 0.1, 40.0)
    slope = 1 - (cut / jnp.sinh(cut)) ** 2
    near_slope = jnp.where(x < 0.1, 1 / 3 - slight**2 / 15, slope / cut**2)
    return jnp.where(small, near / near_slope, far * large / slope * large)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    return jnp.polyval(jnp.asarray(coefficients[::-1], x.dtype), x)
