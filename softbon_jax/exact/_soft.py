"""The tilted, soft and hard law of one problem, in the terms that the metrics are built from.

Everything here takes one problem of shape `[K]` and is traced inside a compiled worker, which
`_batching.over_batch` maps over leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _batching, _special
from softbon_jax.exact import _quadrature
from softbon_jax.exact._plan import Plan
from softbon_jax.problem import Problem, probability_tolerance

Array = jax.Array

OUTCOMES_AT_ONCE = 2**18
"""Array elements, one for each node and outcome, that are computed at once."""


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


def interior_temperature(temperature: Array, rewards: Array) -> Array:
    """The temperature; a harmless stand-in at 0 and inf, which have laws of their own; NaN below 0."""
    span = jax.lax.stop_gradient(jnp.max(rewards) - jnp.min(rewards))
    limit = (temperature == 0) | jnp.isposinf(temperature)
    stand_in = jnp.where(limit, jnp.where(span > 0, span, 1.0), temperature)
    return jnp.where(temperature >= 0, stand_in, jnp.nan)


def tilted_terms(problem: Problem, temperature: Array) -> TiltedTerms:
    """The shared terms for a `[K]` problem and a scalar temperature in (0, inf)."""
    log_probs = normalized(problem.log_probs)
    rewards, top = on_support(log_probs, problem.rewards)
    exponents = _special.over(rewards, top, temperature)
    log_mean = jax.nn.logsumexp(log_probs + exponents)
    # W - 1 relative to the likeliest outcome of P, so that its digits survive a flat or a sure law.
    p, log_w = jnp.exp(log_probs), exponents - log_mean
    ref = jnp.argmax(p)
    step = _special.over(rewards, rewards[ref], temperature)
    rising = step > 0
    larger = jnp.exp(jnp.where(rising, log_w, log_w[ref]))
    shift = jnp.where(rising, -larger, larger) * jnp.expm1(jnp.where(rising, -step, step))
    excess = jnp.where(jnp.abs(log_w) < _special.NEAR, shift - shift @ p, 0.0)
    return TiltedTerms(log_probs, rewards, exponents, log_mean, log_probs + log_w, excess)


def soft_terms(terms: TiltedTerms, temperature: Array, log_n: Array, plan: Plan) -> SoftTerms:
    """The exact law of soft best-of-n for a `[K]` problem, a scalar temperature and `[N]` log n.

    With φ(t) = E_P[e^{-tw}] and D_y(x) = e^{-t w(x)} - e^{-t w(y)}, integrals over t give everything
    (derived here):

      ρ(x)        = n μ ∫ e^{-t w(x)} φ^{n-1} dt,                             ρ = P_n/P*,
      ρ(x) - ρ(y) = n μ ∫ D_y(x) φ^{n-1} dt.

    D does not change sign in t, so both are relatively accurate; with y the likeliest outcome under
    P*, subtracting the mean (E_{P*}[ρ] = 1) gives δ = ρ - 1 without ever forming a difference from 1.
    Then η = P_n/P - 1 is (W - 1) + W δ. For n below 2 that cancels, and

      η(x) = ∫ z e^{-z} (n φ^{n-1} - 1) du,   z = t w(x), t = e^u,

    is as small as n - 1 by itself. Next to outcomes so rare that the η of the others is below
    rounding (`plan.wide`) η has differences of its own: by parts, and with y the likeliest outcome
    under P, where η is small whenever it is anywhere likely to be,

      η(x) - η(y) = -n(n-1) ∫ D_y(x) E_P[w e^{-tw}] φ^{n-2} dt,   E_P[η] = 0.

    One set of nodes serves every n, and the sum over nodes is a matrix product. Where something may
    leave the range of the float type, `plan.wide` forms the integrands in logs.

    Returns:
      `SoftTerms` of `[N, K]` arrays, NaN where `plan.nodes` nodes are too few, and where the law that
      comes out does not sum to 1.
    """
    dtype = terms.log_probs.dtype
    nodes = _quadrature.nodes_for(
        _quadrature.rule_for(dtype),
        plan.spacing,
        -terms.exponents,
        jnp.max(log_n, initial=0.0, where=log_n >= 0),
        terms.log_mean,
        plan.nodes,
    )
    integrals = _wide_integrals if plan.wide else _narrow_integrals
    log_ratio, delta, eta = integrals(terms, temperature, log_n, nodes)
    log_ratio, delta = _special.refined(log_ratio, delta)
    log_w, excess = (terms.exponents - terms.log_mean)[None], terms.excess[None]
    if plan.wide:
        log_base_ratio, eta = _special.refined(log_ratio + log_w, eta)
    else:
        near = (jnp.abs(log_w) < _special.NEAR) & (jnp.abs(log_ratio) < _special.NEAR)
        below_two = log_n[:, None] < math.log(2)
        own = below_two & (~near | (jnp.expm1(log_n)[:, None] < jnp.abs(excess)))
        product = jnp.where(near, excess + (1 + excess) * delta, jnp.expm1(log_ratio + log_w))
        log_base_ratio, eta = _special.refined(log_ratio + log_w, jnp.where(own, eta, product))
        # At n = 1 the law is P: what rounding has left goes, its derivatives stay.
        log_base_ratio, eta = (
            jnp.where(log_n[:, None] == 0, x - jax.lax.stop_gradient(x), x)
            for x in (log_base_ratio, eta)
        )
    probs = jnp.exp(terms.log_probs[None] + log_base_ratio)
    soft = SoftTerms(probs, log_ratio, delta, log_base_ratio, eta)
    return sound_or_nan(soft, nodes.resolved, terms.exponents)


def sound_or_nan(soft: SoftTerms, resolved: Array, exponents: Array) -> SoftTerms:
    """The law `[..., K]` where it sums to 1, to within the rounding of the exponents; NaN elsewhere."""
    mass = jax.lax.stop_gradient(jnp.sum(soft.probs, axis=-1, keepdims=True))
    tolerance = jnp.finfo(mass.dtype).eps * (1e4 + 8 * jnp.max(-exponents))
    sound = resolved & (jnp.abs(mass - 1) <= jax.lax.stop_gradient(tolerance))
    poison = jnp.where(sound, 0.0, jnp.nan).astype(mass.dtype)
    return jax.tree.map(lambda x: x + poison, soft)


def _narrow_integrals(
    terms: TiltedTerms, temperature: Array, log_n: Array, nodes: _quadrature.Nodes
) -> tuple[Array, Array, Array]:
    """(log ρ, δ, η), `[N, K]` each, where w, t and n stay well inside the range of the floats.

    η is the integral that serves n < 2, and 0 for other n.
    """
    p, pstar, w = (jnp.exp(x) for x in (terms.log_probs, terms.log_tilted, terms.exponents))
    t, n = jnp.exp(nodes.u), jnp.exp(log_n)[:, None]
    size, block = w.shape[0], outcomes_at_once(t.shape[0])

    def falls(p: Array, w: Array) -> tuple[Array, Array]:  # Σ P (1 - e^-z), Σ P e^-z
        z = t[:, None] * w[None]
        decay = jnp.exp(-z)
        return _one_minus_exp(z, 1 - decay) @ p, decay @ p

    # -log φ, from 1 - φ while that is small.
    parts = _batching.over_outcomes(falls, (p, w), (0.0, 1.0), block=block)
    lost, phi = (jnp.sum(x, axis=0) for x in parts)
    mostly = lost < 0.5
    rate = jnp.where(mostly, -jnp.log1p(-jnp.where(mostly, lost, 0.0)), -jnp.log(phi))
    fall = -jnp.expm1(-log_n)[:, None] * n * rate[None]  # -(n-1) log φ
    log_weight = nodes.log_weight[None]
    rows = jnp.exp(log_n[:, None] + (log_weight + nodes.u[None]) + terms.log_mean - fall)
    below_two = log_n[:, None] < math.log(2)
    rise = jnp.expm1(jnp.where(below_two, log_n[:, None] - fall, 0.0))  # n φ^{n-1} - 1
    eta_rows = rise * jnp.exp(log_weight) * t[None]

    # D against the likeliest outcome, with |w(x) - w(y)| from the difference of their rewards.
    above, apart, ref = leads(terms, temperature, pstar)
    apart = apart * jnp.where(above, w, w[ref])
    if size <= block:
        # Out of the array of `falls`, which XLA then stores and does not compute twice.
        decay_ref = jnp.exp(-(t[:, None] * w[None]))[:, ref][:, None]
    else:
        decay_ref = jnp.exp(-(t * w[ref]))[:, None]

    def integrals(w: Array, apart: Array, above: Array) -> tuple[Array, Array, Array]:
        decay = jnp.exp(-(t[:, None] * w[None]))  # as in `falls`, so that one serves both
        sign = jnp.where(above[None], -decay_ref, decay)
        x = t[:, None] * apart[None]
        small = x < _special.SMALL
        near = _special.one_minus_exp(jnp.where(small, x, 0.0)) * sign
        contrast = jnp.where(small, near, decay - decay_ref)
        return rows @ decay, rows @ contrast, (eta_rows @ decay) * w[None]

    parts = _batching.over_outcomes(integrals, (w, apart, above), (1.0, 0.0, True), block=block)
    ratio, change, eta = (_batching.joined(x, size) for x in parts)
    return jnp.log(ratio), change - (change @ pstar)[:, None], eta


def outcomes_at_once(nodes: int) -> int:
    """So many that an array on nodes × outcomes is small; as many as there are in most problems."""
    return max(OUTCOMES_AT_ONCE // nodes, 256)


def elements_at_once(outcomes: int, nodes: int) -> int:
    """The array elements that are there at a time: on nodes × outcomes, and on all outcomes."""
    return min(outcomes, outcomes_at_once(nodes)) * nodes + 2 * outcomes


def over_points(
    curve: Callable[..., Any],
    vectors: tuple[Array, ...],
    temperature: Array,
    log_n: Array,
    plan: Plan,
) -> Any:
    """`curve(*vectors, temperature, log_n)` at one n each, over the broadcast of all leading axes.

    The curve takes vectors `[K]`, a temperature and `[N]` log n; its results are arrays `[N]`.
    """

    def one(*arguments: Array) -> Any:
        *others, log_n = arguments
        return jax.tree.map(lambda x: x[0], curve(*others, log_n[None]))

    outcomes = vectors[0].shape[-1]
    elements, least = outcomes * plan.nodes, elements_at_once(outcomes, plan.nodes)
    return _batching.over_batch(one, vectors, (temperature, log_n), elements=elements, least=least)


def over_grid(
    curve: Callable[..., Any],
    vectors: tuple[Array, ...],
    temperature: Array,
    log_n: Array,
    plan: Plan,
) -> Any:
    """The curve at all temperatures `[T]` and n `[N]`, results `[..., T, N]`; all n share the nodes."""
    outcomes = vectors[0].shape[-1]
    # Not more n at once than fit a chunk of their own.
    together = max(1, _batching.CHUNK_ELEMENTS // outcomes)

    def one(*arguments: Array) -> Any:
        *others, log_n = arguments
        if log_n.size <= together:
            return curve(*others, log_n)
        groups = jnp.pad(log_n, (0, -log_n.size % together)).reshape(-1, together)
        results = jax.lax.map(lambda x: curve(*others, x), groups)
        return jax.tree.map(lambda x: x.reshape(-1)[: log_n.size], results)

    rows = tuple(x[..., None, :] for x in vectors)
    elements = outcomes * plan.nodes * (log_n.size if plan.wide else 1)
    least = elements_at_once(outcomes, plan.nodes)
    least += min(log_n.size, together) * (2 * outcomes + plan.nodes)
    return _batching.over_batch(
        one, rows, (temperature,), elements=elements, least=least, shared=(log_n,)
    )


def _one_minus_exp(z: Array, otherwise: Array) -> Array:
    """1 - e^-z for z >= 0, relatively accurate; `otherwise` where z is not small."""
    small = z < _special.SMALL
    return jnp.where(small, _special.one_minus_exp(jnp.where(small, z, 0.0)), otherwise)


def leads(terms: TiltedTerms, temperature: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Whether w(x) >= w(y), 1 less the smaller over the larger, and the y of most weight."""
    ref = jnp.argmax(weights)
    lead = _special.over(terms.rewards, terms.rewards[ref], temperature)
    above = lead >= 0
    return above, -jnp.expm1(-jnp.where(above, lead, -lead)), ref


def _wide_integrals(
    terms: TiltedTerms, temperature: Array, log_n: Array, nodes: _quadrature.Nodes
) -> tuple[Array, Array, Array]:
    """The same for any w, t and n, at the cost of an exponential per node, outcome and n.

    At each node the outcomes are scaled by the largest of their integrands, so that the sums over
    nodes neither overflow nor lose a node that matters; ρ itself is summed in logs.
    """
    log_p, log_pstar, u, log_h = terms.log_probs, terms.log_tilted, nodes.u, nodes.log_weight
    p, pstar = jnp.exp(log_p), jnp.exp(log_pstar)
    limits = jnp.finfo(log_p.dtype)
    log_n_most = math.log(limits.max) / 1.3
    size, block = log_p.shape[0], outcomes_at_once(u.shape[0])

    def log_tw(exponents: Array) -> Array:
        return u[:, None] + exponents[None]

    def log_z(exponents: Array) -> Array:
        # z = tw; at e^30 nothing is left of e^-z, whatever multiplies it.
        return jnp.minimum(log_tw(exponents), 30.0)

    def falls(log_p: Array, exponents: Array) -> tuple[Array, ...]:
        below, z = log_tw(exponents) < 0, jnp.exp(log_z(exponents))
        decay, lost_by = jnp.exp(-z), -jnp.expm1(-z)
        # Σ P (1 - e^-z), whose summand is P min(z, 1) times a factor between 1 - 1/e and 1.
        bulk, log_most = scaled_exp(log_p[None] + jnp.where(below, log_tw(exponents), 0.0))
        inner = z > limits.eps
        ratio = jnp.where(inner, lost_by / jnp.where(inner, z, 1.0), 1.0)
        factor = jnp.where(below, ratio, lost_by)
        # P w t e^{-tw}, every node scaled by its largest outcome.
        kernel, log_scale = scaled_exp(log_p[None] + log_z(exponents) - z)
        phi = decay @ jnp.exp(log_p)
        return log_most, jnp.sum(bulk * factor, axis=1), log_scale, jnp.sum(kernel, axis=1), phi

    outcomes = (log_p, terms.exponents)
    log_most, bulk, log_scale, kernel, phi = _batching.over_outcomes(
        falls, outcomes, (-jnp.inf, 0.0), block=block
    )
    log_most, bulk = _sum_of_scaled(log_most, bulk)
    log_scale, kernel_sum = _sum_of_scaled(log_scale, kernel)
    phi = jnp.sum(phi, axis=0)

    # log(-log φ): from 1 - φ while that is small, else from φ itself.
    log_lost = log_most + jnp.log(bulk)
    small = log_lost < -math.log(2)
    lost = jnp.maximum(jnp.exp(jnp.where(small, log_lost, -1.0)), limits.eps)
    phi = jnp.maximum(jnp.where(small, 0.25, phi), limits.tiny)
    log_rate = jnp.where(
        small, log_lost + jnp.log(-jnp.log1p(-lost) / lost), jnp.log(-jnp.log(phi))
    )
    log_density = log_h + log_scale + jnp.log(kernel_sum) + jnp.exp(log_rate)
    fewer = -jnp.expm1(-log_n)[:, None]  # (n-1)/n, so that n log φ is formed in logs and n never is
    fall = fewer * jnp.exp(jnp.minimum(log_rate[None] + log_n[:, None], 30.0))  # -(n-1) log φ
    log_rows = log_n[:, None] + terms.log_mean + log_h[None] + u[None] - fall
    change_rows = jnp.exp(log_n[:, None] + log_h[None] + log_scale[None] - fall)
    # For larger n the law is nowhere near P, and the product would overflow.
    log_n_squared = 2 * jnp.minimum(log_n, log_n_most)[:, None]
    rise_rows = fewer * jnp.exp(log_n_squared + log_density[None] - fall)

    # D is ∓ e^{-t min w} (1 - e^{-t|w(x) - w(y)|}), y the likeliest under P* for ρ, under P for η.
    above, apart, ref = leads(terms, temperature, log_pstar)
    odds = jnp.exp(jnp.where(above, log_pstar - log_pstar[ref], 0.0))
    log_z_ref = log_z(terms.exponents[ref][None])
    z_ref = jnp.exp(log_z_ref)
    kernel_ref = jnp.exp(log_p[ref] + log_z_ref - z_ref - log_scale[:, None])
    above_p, apart_p, ref_p = leads(terms, temperature, log_p)
    z_ref_p = jnp.exp(log_z(terms.exponents[ref_p][None]))

    def integrals(
        log_p: Array,
        exponents: Array,
        above: Array,
        apart: Array,
        odds: Array,
        above_p: Array,
        apart_p: Array,
    ) -> tuple[Array, Array, Array]:
        z = jnp.exp(log_z(exponents))
        kernel = jnp.exp(log_p[None] + log_z(exponents) - z - log_scale[:, None])
        split = -jnp.expm1(-jnp.where(above[None], z, z_ref) * apart[None])
        contrast = split * jnp.where(above[None], -kernel_ref * odds[None], kernel)
        split = -jnp.expm1(-jnp.where(above_p[None], z, z_ref_p) * apart_p[None])
        step = split * jnp.where(above_p[None], jnp.exp(-z_ref_p), -jnp.exp(-z))
        log_ratio = jax.lax.map(lambda row: jax.nn.logsumexp(row[:, None] - z, axis=0), log_rows)
        return log_ratio, change_rows @ contrast, rise_rows @ step

    vectors = (*outcomes, above, apart, odds, above_p, apart_p)
    fills = (-jnp.inf, 0.0, True, 0.0, 0.0, True, 0.0)
    parts = _batching.over_outcomes(integrals, vectors, fills, block=block)
    log_ratio, change, rise = (_batching.joined(x, size) for x in parts)
    usable = (jnp.abs(log_ratio) < _special.NEAR) & (pstar > limits.tiny)[None]
    total = jnp.sum(change, axis=1, keepdims=True)
    delta = change * jnp.exp(jnp.where(usable, -log_pstar[None], 0.0)) - total
    # Where P* underflows its terms vanish, and its ratio serves as it is.
    delta = jnp.where(usable, delta, jnp.expm1(jnp.minimum(log_ratio, _special.NEAR)))
    return log_ratio, delta, rise - (rise @ p)[:, None]


def _sum_of_scaled(log_scale: Array, mantissa: Array) -> tuple[Array, Array]:
    """(c, s) with e^c s the sum over blocks of mantissa · e^log_scale `[B, Q]`; c a constant."""
    largest = jnp.max(log_scale, axis=0)
    return largest, jnp.sum(mantissa * jnp.exp(log_scale - largest[None]), axis=0)


def scaled_exp(log_x: Array) -> tuple[Array, Array]:
    """(e^{log_x - c}, c) with c the largest entry of each row, a constant to differentiation.

    Zeros, and c = -inf, where nothing of a row is possible.
    """
    log_scale = jax.lax.stop_gradient(jnp.max(log_x, axis=1))
    finite = jnp.where(log_scale > -jnp.inf, log_scale, 0.0)
    return jnp.exp(log_x - finite[:, None]), log_scale
