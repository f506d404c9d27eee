"""Rényi and f-divergences of two laws on the same K outcomes, from the logarithm of their ratio."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _special

Array = jax.Array


def renyi(log_p: Array, log_q: Array, log_ratio: Array, order: Array) -> Array:
    """D_α(q‖p) of two laws `[K]` on one support, α a scalar in [0, inf]; `log_ratio` is log q/p.

    Below order 1/2 as α/(1-α) D_{1-α}(p‖q), since the sum of `_above_half` cancels there.
    """
    chex.assert_equal_shape([log_p, log_q, log_ratio])
    chex.assert_rank([log_p, order], [1, 0])
    swap = order < 0.5
    least = jnp.where(swap, order, 0.0)
    from_p = _above_half(
        jnp.where(swap, log_q, log_p),
        jnp.where(swap, log_p, log_q),
        jnp.where(swap, -log_ratio, log_ratio),
        jnp.where(swap, 1 - order, order),
    )
    return jnp.where(swap, least / (1 - least), 1.0) * from_p


def _above_half(log_p: Array, log_q: Array, log_ratio: Array, order: Array) -> Array:
    """D_α(q‖p) for 1/2 <= α <= inf.

    With β = α - 1, ℓ = log q/p and Σ p (e^ℓ - 1) = 0,

      D_α = log(1 + βH)/β,   H = Σ p h,   h = e^ℓ (e^{βℓ} - 1)/β - (e^ℓ - 1) >= 0.

    h vanishes like αℓ²/2, and H is KL(q‖p) at β = 0. Where 1 + βH is far from 1 its logarithm is that
    of Σ q e^{βℓ}.
    """
    support = (log_p > -jnp.inf) & (log_q > -jnp.inf)
    supremum = jnp.max(jnp.where(support, log_ratio, -jnp.inf))
    beta = jnp.where(jnp.isposinf(order), 1.0, order - 1)
    log_p, log_q = (jnp.where(support, x, -1.0) for x in (log_p, log_q))
    ell = jnp.where(support, log_ratio, 0.0)

    top = jnp.where(beta > 0, supremum, jnp.min(ell))
    x = beta * (ell - jax.lax.stop_gradient(top))
    log_sum = jax.nn.logsumexp(jnp.where(support, log_q + x, -jnp.inf))
    log_sum = log_sum + beta * jax.lax.stop_gradient(top)
    far = jnp.abs(log_sum) > math.log(2)
    by_log = jnp.where(far, log_sum, 0.0) / jnp.where(far, beta, 1.0)

    p, q = jnp.exp(log_p), jnp.exp(log_q)
    beta = jnp.where(far, 0.0, beta)
    x = beta * ell
    small = jnp.abs(x) < 1
    near = jnp.abs(ell) < _special.NEAR
    close = jnp.where(near, ell, 0.0)
    delta = jnp.expm1(close)
    grown = _special.exp_excess(jnp.where(small, x, 0.0))  # (e^x - 1 - x)/x²
    of_near = _special.ratio_log_ratio(delta, close) + (1 + delta) * beta * close**2 * grown
    change = jnp.where(near, p * delta, q - p)
    steep = jnp.where(small, 0.0, jnp.exp(jnp.minimum(jnp.where(small, 0.0, log_q + x), 1.0)) - q)
    slope = jnp.where(small, q * ell * (1 + x * grown), steep / jnp.where(beta == 0, 1.0, beta))
    h = jnp.where(near & small, p * of_near, slope - change)
    total = jnp.sum(jnp.where(support, h, 0.0))
    finite = jnp.where(far, by_log, total * _special.log1p_over(beta * total))
    return jnp.where(jnp.isposinf(order), supremum, finite)
