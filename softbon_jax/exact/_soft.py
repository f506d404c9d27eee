"""The tilted, soft and hard law of one problem, in the terms that the metrics are built from.

Everything here takes one problem of shape `[K]` and is traced inside a compiled worker, which
`_batching.over_batch` maps over leading axes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax.exact import _quadrature
from softbon_jax.exact._plan import Plan
from softbon_jax.problem import Problem, probability_tolerance

Array = jax.Array


class TiltedTerms(NamedTuple):
    """What every law of one problem at one temperature shares; arrays over the K outcomes.

    Attributes:
      log_probs: log P, normalized, -inf off the support.
      rewards: r, with outcomes off the support moved to the largest reward on it.
      exponents: (r - max r)/λ <= 0.
      log_mean: scalar log μ = log E_P[w], w = e^exponents.
      log_tilted: log P*.
      excess: W - 1 = w/μ - 1 to relative accuracy where |log W| < NEAR; 0 elsewhere.
    """

    log_probs: Array
    rewards: Array
    exponents: Array
    log_mean: Array
    log_tilted: Array
    excess: Array


class SoftTerms(NamedTuple):
    """The soft best-of-n law of one problem at one temperature; arrays over the K outcomes.

    Attributes:
      probs: P_n.
      log_ratio: log P_n/P*, relatively accurate near 0.
      delta: P_n/P* - 1 to relative accuracy where |log_ratio| < NEAR; 0 elsewhere.
      log_base_ratio: log P_n/P, relatively accurate near 0.
      eta: P_n/P - 1 to relative accuracy where |log_base_ratio| < NEAR; 0 elsewhere.
    """

    probs: Array
    log_ratio: Array
    delta: Array
    log_base_ratio: Array
    eta: Array


def normalized(log_probs: Array) -> Array:
    """Log P less its log-sum; NaN where that sum is not 0 to within the tolerance of a law.

    Subtracting makes every gradient the one along the simplex: adding a constant to the
    log-probabilities changes nothing.
    """
    log_sum = jax.nn.logsumexp(log_probs, axis=-1, keepdims=True)
    is_law = jnp.abs(log_sum) <= 2 * probability_tolerance(log_probs.dtype)
    return log_probs - jnp.where(is_law, log_sum, jnp.nan)


def on_support(log_probs: Array, rewards: Array) -> tuple[Array, Array]:
    """Rewards with outcomes of probability 0 moved to the top of the support, and that top."""
    support = log_probs > -jnp.inf
    top = jax.lax.stop_gradient(jnp.max(rewards, axis=-1, where=support, initial=-jnp.inf))
    return jnp.where(support, rewards, top[..., None]), top


def proper_temperature(temperature: Array, rewards: Array) -> Array:
    """The temperature; a harmless stand-in at 0 and inf, which have laws of their own; NaN below 0."""
    span = jax.lax.stop_gradient(jnp.max(rewards) - jnp.min(rewards))
    limit = (temperature == 0) | jnp.isposinf(temperature)
    stand_in = jnp.where(limit, jnp.where(span > 0, span, 1.0), temperature)
    return jnp.where(temperature >= 0, stand_in, jnp.nan)


def tilted_terms(problem: Problem, temperature: Array) -> TiltedTerms:
    """The shared terms for a `[K]` problem and a scalar temperature in (0, inf)."""
    log_probs = normalized(problem.log_probs)
    rewards, top = on_support(log_probs, problem.rewards)
    exponents = (rewards - top) / temperature
    log_mean = jax.nn.logsumexp(log_probs + exponents)
    # W - 1 relative to the likeliest outcome of P, so that its digits survive a flat or a sure law.
    p, log_w = jnp.exp(log_probs), exponents - log_mean
    ref = jnp.argmax(p)
    step = (rewards - rewards[ref]) / temperature
    rising = step > 0
    larger = jnp.exp(jnp.where(rising, log_w, log_w[ref]))
    shift = jnp.where(rising, -larger, larger) * jnp.expm1(jnp.where(rising, -step, step))
    excess = jnp.where(jnp.abs(log_w) < _special.NEAR, shift - shift @ p, 0.0)
    return TiltedTerms(log_probs, rewards, exponents, log_mean, log_probs + log_w, excess)


def soft_terms(terms: TiltedTerms, temperature: Array, log_n: Array, plan: Plan) -> SoftTerms:
    """The exact law of soft best-of-n for a `[K]` problem, a scalar temperature and `[N]` log n.

    With φ(t) = E_P[e^{-tw}] and D(x) = e^{-t w(x)} - e^{-t w(y)}, integrals over t give everything
    (derived here):

      ρ(x)        = n μ ∫ e^{-t w(x)} φ^{n-1} dt,                             ρ = P_n/P*,
      ρ(x) - ρ(y) = n μ ∫ D(x) φ^{n-1} dt.

    D does not change sign in t, so both are relatively accurate; with y the likeliest outcome under
    P*, subtracting the mean (E_{P*}[ρ] = 1) gives δ = ρ - 1 without ever forming a difference from 1.
    Then η = P_n/P - 1 is (W - 1) + W δ, but for n below 2, where that cancels, and next to outcomes so
    rare that the η of the others is below rounding. There, by parts from P_n/P = n w ∫ e^{-tw} φ^{n-1}
    dt, and with E_P[η] = 0,

      η(x) - η(y) = -n(n-1) ∫ D(x) E_P[w e^{-tw}] φ^{n-2} dt.

    One set of nodes serves every n, and the sum over nodes is a matrix product. Where something may
    leave the range of the float type, `plan.wide` forms the integrands in logs.

    Returns:
      `SoftTerms` of `[N, K]` arrays, NaN where `plan.nodes` points are too few.
    """
    dtype = terms.log_probs.dtype
    u, log_h, resolved = _quadrature.lattice(
        _quadrature.rule_for(dtype, plan.fine),
        -terms.exponents,
        jnp.max(log_n, initial=0.0, where=log_n >= 0),
        terms.log_mean,
        plan.nodes,
    )
    integrals = _wide_integrals if plan.wide else _narrow_integrals
    probs, log_ratio, delta, eta = integrals(terms, temperature, log_n, u, log_h, plan.own_eta)
    log_ratio, delta = _special.refined(log_ratio, delta)
    log_w, excess = (terms.exponents - terms.log_mean)[None], terms.excess[None]
    if eta is not None:
        log_base_ratio, eta = _special.refined(log_ratio + log_w, eta)
    else:
        near = jnp.abs(log_w) < _special.NEAR
        log_base_ratio = log_ratio + jnp.where(near, jnp.log1p(excess), log_w)
        near = near & (jnp.abs(log_ratio) < _special.NEAR)
        p = jnp.exp(terms.log_probs)[None]
        plain = probs / jnp.where(p > 0, p, 1.0) - 1
        eta = jnp.where(near, excess + (1 + excess) * delta, plain)
        eta = jnp.where(jnp.abs(log_base_ratio) < _special.NEAR, eta, 0.0)
        # At n = 1 the law is P: what rounding has left goes, its derivatives stay.
        log_base_ratio, eta = (
            jnp.where(log_n[:, None] == 0, x - jax.lax.stop_gradient(x), x)
            for x in (log_base_ratio, eta)
        )
    poison = jnp.where(resolved, 0.0, jnp.nan).astype(dtype)
    soft = SoftTerms(probs, log_ratio, delta, log_base_ratio, eta)
    return jax.tree.map(lambda x: x + poison, soft)


def _narrow_integrals(
    terms: TiltedTerms, temperature: Array, log_n: Array, u: Array, log_h: Array, with_eta: bool
) -> tuple[Array, Array, Array, Array | None]:
    """(P_n, log ρ, δ, η), `[N, K]` each, where w, t and n stay well inside the range of the floats."""
    p, pstar, w = (jnp.exp(x) for x in (terms.log_probs, terms.log_tilted, terms.exponents))
    t, n = jnp.exp(u), jnp.exp(log_n)[:, None]
    z = t[:, None] * w[None]
    decay = jnp.exp(-z)

    # -log φ, from 1 - φ = Σ P (1 - e^-z) while that is small.
    small = z < _special.SMALL
    lost = jnp.where(small, _special.one_minus_exp(jnp.where(small, z, 0.0)), 1 - decay) @ p
    mostly = lost < 0.5
    rate = jnp.where(mostly, -jnp.log1p(-jnp.where(mostly, lost, 0.0)), -jnp.log(decay @ p))

    # D against the likeliest outcome, with |w(x) - w(y)| from the difference of their rewards.
    ref = jnp.argmax(pstar)
    lead = (terms.rewards - terms.rewards[ref]) / temperature
    above = lead >= 0
    apart = -jnp.expm1(-jnp.where(above, lead, -lead)) * jnp.where(above, w, w[ref])
    x = t[:, None] * apart[None]
    small = x < _special.SMALL
    near = _special.one_minus_exp(jnp.where(small, x, 0.0))
    decay_ref = decay[:, ref][:, None]
    near = near * jnp.where(above[None], -decay_ref, decay)
    contrast = jnp.where(small, near, decay - decay_ref)

    fewer = -jnp.expm1(-log_n)[:, None]  # (n-1)/n
    rows = n * jnp.exp(log_h + u)[None] * jnp.exp(-(fewer * n) * rate[None])
    ratio, change = (jnp.exp(terms.log_mean) * (rows @ x) for x in (decay, contrast))
    law = pstar[None] * ratio, jnp.log(ratio), change - (change @ pstar)[:, None]
    if not with_eta:
        return *law, None
    density = decay @ (p * w)
    fall = (fewer * n * rows * (density * jnp.exp(rate))[None]) @ contrast
    return *law, (fall @ p)[:, None] - fall


def _wide_integrals(
    terms: TiltedTerms, temperature: Array, log_n: Array, u: Array, log_h: Array, with_eta: bool
) -> tuple[Array, Array, Array, Array | None]:
    """The same for any w, t and n, at the cost of an exponential per node, outcome and n.

    At each node the outcomes are scaled by the largest of their integrands, so that the sums over
    nodes neither overflow nor lose a node that matters; ρ itself is summed in logs.
    """
    log_p, log_pstar = terms.log_probs, terms.log_tilted
    p, pstar = jnp.exp(log_p), jnp.exp(log_pstar)
    limits = jnp.finfo(log_p.dtype)
    log_n_most = math.log(limits.max) / 1.3

    # z = tw on nodes × outcomes; at e^30 nothing is left of e^-z, whatever multiplies it.
    log_tw = u[:, None] + terms.exponents[None]
    log_z = jnp.minimum(log_tw, 30.0)
    z = jnp.exp(log_z)
    decay, lost_by = jnp.exp(-z), -jnp.expm1(-z)

    # log(-log φ): from 1 - φ = Σ P (1 - e^-z) while that is small, else from φ itself. The summand is
    # P min(z, 1) times a factor between 1 - 1/e and 1.
    below = log_tw < 0
    bulk, log_most = _scaled_exp(log_p[None] + jnp.where(below, log_tw, 0.0))
    inner = z > limits.eps
    ratio = jnp.where(inner, lost_by / jnp.where(inner, z, 1.0), 1.0)
    factor = jnp.where(below, ratio, lost_by)
    log_lost = log_most + jnp.log(jnp.sum(bulk * factor, axis=1))
    small = log_lost < -math.log(2)
    lost = jnp.maximum(jnp.exp(jnp.where(small, log_lost, -1.0)), limits.eps)
    phi = jnp.maximum(jnp.where(small, 0.25, decay @ p), limits.tiny)
    log_rate = jnp.where(
        small, log_lost + jnp.log(-jnp.log1p(-lost) / lost), jnp.log(-jnp.log(phi))
    )

    # P w t e^{-tw}, every node scaled by its largest outcome.
    kernel, log_scale = _scaled_exp(log_p[None] + log_z - z)

    # D is ∓ e^{-t min w} (1 - e^{-t|w(x) - w(ref)|}).
    ref = jnp.argmax(log_pstar)
    lead = (terms.rewards - terms.rewards[ref]) / temperature
    above = lead >= 0
    apart = -jnp.expm1(-jnp.where(above, lead, -lead))
    split = -jnp.expm1(-jnp.where(above[None], z, z[:, ref][:, None]) * apart[None])
    odds = jnp.exp(jnp.where(above, log_pstar - log_pstar[ref], 0.0))
    contrast = split * jnp.where(above[None], -kernel[:, ref][:, None] * odds[None], kernel)
    step = split * jnp.where(above[None], decay[:, ref][:, None], -decay)
    log_density = log_h + log_scale + jnp.log(jnp.sum(kernel, axis=1)) + jnp.exp(log_rate)

    def at(log_n: Array) -> tuple[Array, Array, Array, Array | None]:
        fewer = -jnp.expm1(-log_n)  # (n-1)/n, so that n log φ is formed in logs and n never is
        fall = fewer * jnp.exp(jnp.minimum(log_rate + log_n, 30.0))  # -(n-1) log φ
        change = jnp.exp(log_n + log_h + log_scale - fall) @ contrast  # P* (ρ - ρ(ref))
        log_rows = log_n + terms.log_mean + log_h + u - fall
        log_ratio = jax.nn.logsumexp(log_rows[:, None] - z, axis=0)
        usable = (jnp.abs(log_ratio) < _special.NEAR) & (pstar > limits.tiny)
        delta = change * jnp.exp(jnp.where(usable, -log_pstar, 0.0)) - jnp.sum(change)
        # Where P* underflows its terms vanish, and its ratio serves as it is.
        delta = jnp.where(usable, delta, jnp.expm1(jnp.minimum(log_ratio, _special.NEAR)))
        law = jnp.exp(log_pstar + log_ratio), log_ratio, delta
        if not with_eta:
            return *law, None
        # For larger n the law is nowhere near P, and the product would overflow.
        log_n_squared = 2 * jnp.minimum(log_n, log_n_most)
        rise = fewer * (jnp.exp(log_n_squared + log_density - fall) @ step)
        return *law, rise - rise @ p

    return jax.vmap(at)(log_n)


def _scaled_exp(log_x: Array) -> tuple[Array, Array]:
    """(e^{log_x - c}, c) with c the largest entry of each row, a constant to differentiation."""
    log_scale = jax.lax.stop_gradient(jnp.max(log_x, axis=1))
    return jnp.exp(log_x - log_scale[:, None]), log_scale
