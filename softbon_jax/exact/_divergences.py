"""Distances between two laws on the same K outcomes, as sums that keep their digits as they vanish."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax.exact import _rules

Array = jax.Array


def _near(log_ratio: Array) -> Array:
    return jnp.abs(log_ratio) < _special.NEAR


def relative_entropy(log_p: Array, log_q: Array) -> Array:
    """KL(p‖q) as Σ p (e^d - 1 - d), d = log q/p: non-negative terms. inf where q = 0 < p."""
    chex.assert_equal_shape([log_p, log_q])
    p = jnp.exp(log_p)
    d = jnp.where(p > 0, log_q - jnp.where(p > 0, log_p, 0.0), 0.0)
    missed = jnp.sum(jnp.where(p > 0, 0.0, jnp.exp(log_q)))
    return jnp.sum(jnp.where(p > 0, p * (jnp.expm1(d) - d), 0.0)) + missed


def both_ways(p: Array, q: Array, delta: Array, log_ratio: Array) -> tuple[Array, Array]:
    """(KL(p‖q), KL(q‖p)) for q = p(1 + delta) as sums of non-negative terms."""
    chex.assert_equal_shape([p, q, delta, log_ratio])
    near = _near(log_ratio)
    delta = jnp.where(near, delta, 0.0)
    forward = jnp.where(p == 0, 0.0, log_ratio)
    backward = jnp.where(q == 0, 0.0, log_ratio)
    of_p, of_q = _special.excesses(delta, log_ratio)
    kl_pq = jnp.where(near, p * of_p, q - p - p * forward)
    kl_qp = jnp.where(near, p * of_q, q * backward - (q - p))
    return jnp.sum(kl_pq), jnp.sum(kl_qp)


def change(p: Array, q: Array, delta: Array, log_ratio: Array) -> Array:
    """Element by element q - p, from the relative change where that is small."""
    near = _near(log_ratio)
    return jnp.where(near, p * jnp.where(near, delta, 0.0), q - p)


def chi2(log_p: Array, change: Array, log_ratio: Array, wide: bool) -> Array:
    """Σ (q - p)²/p; if `wide`, in logs where q > p, since p may underflow. inf if a term overflows."""
    p = jnp.exp(log_p)
    quotient = change / jnp.where(p > 0, p, 1.0)
    if not wide:
        return change @ quotient
    large = log_ratio > _special.NEAR
    far = jnp.where(large, log_ratio, 1.0)
    log_term = log_p + 2 * far
    overflows = large & (log_term > math.log(jnp.finfo(p.dtype).max))
    share = -jnp.expm1(-far)  # 1 - p/q
    term = share * share * jnp.exp(jnp.where(large & ~overflows, log_term, -jnp.inf))
    total = jnp.sum(jnp.where(large, term, change * jnp.where(large, 0.0, quotient)))
    return jnp.where(jnp.any(overflows), jnp.inf, total)


def mean(q: Array, rewards: Array) -> Array:
    """E_q[r], as the likeliest reward plus a mean difference: its derivatives ignore a common offset."""
    likeliest = jax.lax.stop_gradient(rewards[jnp.argmax(q)])
    return likeliest + 2 * (q @ (rewards / 2 - likeliest / 2))  # which does not overflow


def win_chances(p: Array, rewards: Array) -> Array:
    """For each outcome, the probability that it beats a draw from p, a tie counting one half."""
    below, equal, _ = _rules.rank_masses(p, rewards)
    return below + equal / 2
