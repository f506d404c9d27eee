"""Soft best-of-n and the race where the temperature is so low that its law is that of hard best-of-n.

The quadrature loses digits in proportion to range/λ, and has none left at 2^40. But a worse reward is
selected instead of a better one with probability n e^{-gap/λ} at most, where gap is the smallest between
two rewards. Where that is below rounding for every outcome, P_n is the hard law. P* and the divergences
from it are those of λ still: KL(P_n‖P*) grows like 1/λ.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax.exact import _rules, _soft
from softbon_jax.exact._plan import Plan

Array = jax.Array


def soft_terms(
    terms: _soft.TiltedTerms, temperature: Array, log_n: Array, plan: Plan
) -> _soft.SoftTerms:
    """As `_soft.soft_terms`, from the hard law where that is the same in every digit."""
    if not plan.steep:
        return _soft.soft_terms(terms, temperature, log_n, plan)

    def at(log_n: Array) -> tuple[_soft.SoftTerms, Array]:
        hard = _rules.hard_terms(terms.log_probs, terms.rewards, log_n)
        return beside_tilted(terms, hard), settled(terms, temperature, log_n, hard)

    hard, is_hard = jax.vmap(at)(log_n)
    # The other law is not wanted anywhere: at λ = inf it has slopes that are not NaN.
    unwanted = is_hard.all()
    safe = jnp.where(unwanted, jnp.inf, temperature)
    terms = terms._replace(
        exponents=jnp.where(unwanted, 0.0, terms.exponents),
        log_mean=jnp.where(unwanted, 0.0, terms.log_mean),
        log_tilted=jnp.where(unwanted, terms.log_probs, terms.log_tilted),
        excess=jnp.where(unwanted, 0.0, terms.excess),
    )
    soft = _soft.soft_terms(terms, safe, log_n, plan)
    return jax.tree.map(lambda x, y: jnp.where(is_hard[:, None], x, y), hard, soft)


def hard_where_settled(
    terms: _soft.TiltedTerms, temperature: Array, log_n: Array, other: _soft.SoftTerms
) -> _soft.SoftTerms:
    """The law of another rule with the same limit for one n, and the hard law where it is that."""
    hard = _rules.hard_terms(terms.log_probs, terms.rewards, log_n)
    is_hard = settled(terms, temperature, log_n, hard)
    return jax.tree.map(lambda x, y: jnp.where(is_hard, x, y), beside_tilted(terms, hard), other)


def settled(
    terms: _soft.TiltedTerms, temperature: Array, log_n: Array, hard: _rules.HardTerms
) -> Array:
    """Whether n e^{-gap/λ} is below rounding next to the P_n/P of every outcome under the hard rule."""
    rewards = jax.lax.stop_gradient(jnp.sort(terms.rewards))
    steps = _special.over(rewards[1:], rewards[:-1], temperature)
    gap = jnp.min(jnp.where(steps > 0, steps, jnp.inf), initial=jnp.inf)
    least = jnp.min(jnp.where(terms.log_probs > -jnp.inf, hard.log_base_ratio, 0.0))
    digits = 4 - math.log(jnp.finfo(rewards.dtype).eps)
    return (gap < jnp.inf) & (gap > log_n - least + digits)


def beside_tilted(terms: _soft.TiltedTerms, hard: _rules.HardTerms) -> _soft.SoftTerms:
    """The hard law beside P*, at a temperature at which P* is P given the best reward to rounding."""
    best = terms.exponents == 0
    log_ratio, delta = _special.refined(
        hard.log_base_ratio - (terms.exponents - terms.log_mean),
        jnp.where(best, -jnp.exp(hard.log_miss), 0.0),
    )
    probs = jnp.exp(terms.log_probs + hard.log_base_ratio)
    return _soft.SoftTerms(probs, log_ratio, delta, hard.log_base_ratio, hard.eta)
