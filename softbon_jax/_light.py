"""P_n/P of soft best-of-n by the cheapest sums that will do where P_n is not close to the tilted law.

Everything a budget in KL(·‖P) or a mean reward asks for follows from it. `law.soft_terms` resolves
P_n/P* - 1 beside it; here one ratio and the points of one n are all.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _numerics, law
from softbon_jax.problem import Problem

Array = jax.Array


def rules_for(dtype: Any, fine: bool) -> tuple[_numerics.Rule, _numerics.Rule]:
    """Two quadratures: good to about 1e-13 in double precision, and to 1e-5 at a third of the cost.

    Sparser than `_numerics.rule_for`, whose last digits nobody needs who looks for a root. `fine` as
    there, for n that are small and not integers; it does not matter to the rough one.
    """
    rule = _numerics.rule_for(dtype, fine)
    if jnp.finfo(dtype).bits >= 64:
        rule = rule._replace(spacing=0.078125 if fine else 0.3125, left=16.0, right=3.5)
    return rule, rule._replace(spacing=0.75, left=8.0, right=3.0)


def nodes_for(
    rule: _numerics.Rule, problem: Problem, temperature: Array, log_n: Array
) -> int | None:
    """How many points of a rule the arguments need, from a few sizes; None if they are traced."""
    values = [_checks.concrete(x) for x in (*problem, temperature, log_n)]
    if any(v is None for v in values):
        return None
    log_probs, rewards, t, log_n_value = (np.asarray(v, np.float64) for v in values)
    top = np.max(rewards, axis=-1, where=log_probs > -np.inf, initial=-np.inf, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        offsets = np.where(log_probs > -np.inf, (top - rewards) / t[..., None], 0.0)
        log_mean = np.log(np.sum(np.exp(log_probs - offsets), -1))
        log_mean = np.maximum(log_mean, np.max(log_probs - offsets, -1))
    # Sizes from 32 up.
    needed = _numerics.nodes_needed(rule, offsets, log_n_value, log_mean)
    return _numerics.node_bucket(4 * needed) // 4


def base_ratio(terms: law.TiltedTerms, log_n: Array, rule: _numerics.Rule, nodes: int) -> Array:
    """P_n/P `[K]` for a `[K]` problem and a scalar log n: n ∫ t w e^{-tw} φ^{n-1} d(log t).

    Every factor of the integrand but n is at most 1, so that no logarithm is needed. Ratios below the
    range of the float type are 0; NaN where `nodes` points are too few.
    """
    u, log_h, resolved = _numerics.lattice(rule, -terms.exponents, log_n, terms.log_mean, nodes)
    p = jnp.exp(terms.log_probs)
    log_z = jnp.minimum(u[:, None] + terms.exponents[None], 30.0)
    z = jnp.exp(log_z)
    decay = jnp.exp(-z)
    # log φ from 1 - φ = Σ P (1 - e^-z) while that is small, else from φ.
    lost = -jnp.expm1(-z) @ p
    small = lost < 0.5
    log_phi = jnp.where(
        small,
        jnp.log1p(-jnp.where(small, lost, 0.0)),
        jnp.log(jnp.maximum(jnp.where(small, 1.0, decay @ p), jnp.finfo(p.dtype).tiny)),
    )
    n = jnp.exp(log_n)
    weight = jnp.exp(log_h + log_n + (n - 1) * log_phi)
    return weight @ (z * decay) + jnp.where(resolved, 0.0, jnp.nan).astype(p.dtype)


def kl_base(p: Array, ratio: Array) -> Array:
    """KL(P_n‖P) from P_n/P, as a sum of non-negative terms."""
    low = ratio < 0.5
    safe = jnp.where(low & (ratio > 0), ratio, 1.0)
    terms_low = jnp.where(ratio > 0, ratio * jnp.log(safe), 0.0) + 1 - ratio
    terms_high = _numerics.ratio_log_ratio(jnp.where(low, 0.0, ratio - 1))
    return p @ jnp.where(low, terms_low, terms_high)
