"""Exact laws of the rules that soft best-of-n competes with: race, best-of-Poisson, rejection.

Hard best-of-n is `law.log_best_of_n`. Each law goes to `metrics.law_metrics` for its metrics; those
of the race, which vanish exponentially in n, have `race_metrics`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from softbon_jax import _checks, _divergences, _numerics, _plan, _terms
from softbon_jax.metrics import Metrics, base_metrics, hard_metrics, soft_metrics, tilt_metrics
from softbon_jax.problem import Problem

Array = jax.Array
Fallback = Literal["any", "best"]

# The uniform race ---------------------------------------------------------------------------------


def log_uniform_race(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """The exact law of the uniform race: of n draws, the one with the largest w(X_i)/U_i.

    The score w/U exceeds v with probability min(1, w/v), so the scores of draws from P have the
    distribution function F(v) = A_j - B_j/v for w_j <= v < w_{j+1}, with A and B the sums of P and
    P w over the outcomes up to the j-th in order of w. The winner is x with probability

      P_n(x) = P(x) w(x) Σ_{j: w_j >= w(x)} [F(w_{j+1})^n - F(w_j)^n]/B_j,   w_{K+1} = inf, F(inf) = 1.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, any real number >= 1, traced; None when `log_n` is given.
      temperature: `[...]` λ in w = e^{r/λ}, reward units, traced; 0 gives hard best-of-n, inf gives P.
      log_n: `[...]` log n in nats instead of n.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      ValueError: n < 1, a negative temperature, NaN or infinite rewards, a problem that is not a
        law, or shapes that do not broadcast. Values are checked when concrete; traced bad values
        give NaN.

    Numerics: sums of non-negative terms throughout: relative error of the probabilities about
    1e-14 + eps · range/temperature in float64, also where powers of F cancel and where w is tiny. Cost
    O(K log K). Differentiable in everything, also at ties (of the worst outcomes, for n > 1); the
    gradient with respect to the temperature is 0 at its limits. Probabilities below the range of the
    float type count as 0.
    Source: the race is arXiv:2609.21899; the closed form is derived here: the integral of
    n P(x) w(x) v^-2 F(v)^{n-1} over v > w(x), piece by piece.
    """
    problem, temperature, log_n = _race_arguments(problem, n, temperature, log_n)
    return _log_race(problem, temperature, log_n)


def race_metrics(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Metrics:
    """Every metric of the uniform race, to full relative accuracy however small it is.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, any real number >= 1, traced; None when `log_n` is given.
      temperature: `[...]` of the race and of the tilted law, reward units, traced; 0 and inf as in
        `metrics.metrics`.
      log_n: `[...]` log n in nats instead of n.

    Returns:
      `Metrics` of the broadcast batch shape, the race in the place of P_n.

    Raises:
      ValueError: as `log_uniform_race`.

    Numerics: P_n/P* - 1 is formed without cancellation, so that total variation and divergences keep
    their digits until they underflow (n log(1 - μ) = -700 in float64). kl_soft_base is resolved to
    about 1e-15 times its square root.
    Source: derived here: P_n/P* is smallest at the best outcome, where it is 1 - (1 - μ/w_max)^n.
    """
    problem, temperature, log_n = _race_arguments(problem, n, temperature, log_n)
    return _race_metrics(problem, temperature, log_n)


def _race_arguments(
    problem: Problem, n: Any, temperature: Any, log_n: Any
) -> tuple[Problem, Array, Array]:
    problem, temperature, log_n = _plan.checked_arguments(problem, n, temperature, log_n)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, n=log_n.shape)
    return problem, temperature, log_n


@jax.jit
def _log_race(problem: Problem, temperature: Array, log_n: Array) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        proper = _terms.proper_temperature(temperature, rewards)
        terms = _terms.tilted_terms(Problem(log_probs, rewards), proper)
        race = race_terms(terms, log_n)
        hard = _terms.hard_terms(terms.log_probs, terms.rewards, log_n).log_base_ratio
        ratio = jnp.where(temperature == 0, hard, race.log_base_ratio)
        return terms.log_probs + jnp.where(jnp.isposinf(temperature), 0.0, ratio)

    return _plan.over_batch(one, problem.num_outcomes, problem, (temperature, log_n))


@jax.jit
def _race_metrics(problem: Problem, temperature: Array, log_n: Array) -> Metrics:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Metrics:
        proper = _terms.proper_temperature(temperature, rewards)
        terms = _terms.tilted_terms(Problem(log_probs, rewards), proper)
        wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
        tilt = tilt_metrics(terms)
        by_rule = (
            soft_metrics(terms, tilt, race_terms(terms, log_n), wins, wide=True),
            hard_metrics(terms, log_n, wins),
            base_metrics(terms, wins),
        )
        rule = jnp.where(temperature == 0, 1, jnp.where(jnp.isposinf(temperature), 2, 0))
        poison = jnp.where(log_n >= 0, 0.0, jnp.nan).astype(log_n.dtype)
        return jax.tree.map(lambda *fields: jax.lax.select_n(rule, *fields) + poison, *by_rule)

    return _plan.over_batch(one, problem.num_outcomes, problem, (temperature, log_n))


def race_terms(terms: _terms.TiltedTerms, log_n: Array) -> _terms.SoftTerms:
    """The law of the race for a `[K]` problem and a scalar log n, in the form of soft best-of-n.

    Outcomes in order of w cut the line of scores into pieces; F rises by B_j (1/w_j - 1/w_{j+1}) on
    piece j, and by μ/w_max on the last. From these increments F and 1 - F are running sums, and with
    T_j = [F(w_{j+1})^n - F(w_j)^n]/B_j the ratio P_n/P* is μ Σ_{j >= x} T_j. Its last term belongs to
    every outcome, so that differences of the ratio between outcomes are sums of the others.
    """
    order = jnp.argsort(terms.exponents)
    p, x = jnp.exp(terms.log_probs)[order], terms.exponents[order]
    zero = jnp.zeros((1,), p.dtype)
    tiny = jnp.finfo(p.dtype).tiny
    b, scale = _running_sum(p, x)  # B_j = b e^scale
    gap = jnp.diff(x)
    share = b * jnp.exp(scale - x)  # B_j/w_j
    rise = share * jnp.append(-jnp.expm1(-gap), 1.0)
    below = jnp.concatenate([zero, jnp.cumsum(rise)])  # F at the left ends, and 1
    above = jnp.concatenate([jnp.cumsum(rise[::-1])[::-1], zero])  # 1 - F there
    left, right, missing = below[:-1], below[1:], above[1:]

    # n is used only in products with rates that are at least tiny: it may be cut where it overflows.
    n = jnp.exp(jnp.minimum(log_n, 0.95 * math.log(jnp.finfo(p.dtype).max)))
    seen = (right > tiny) & (b > 0)
    small = missing < 0.5
    rate = jnp.where(  # -log F at the right end
        small,
        -jnp.log1p(-jnp.where(small, missing, 0.0)),
        -jnp.log(jnp.where(seen & ~small, right, 1.0)),
    )
    part = jnp.where(seen, rise / jnp.where(seen, right, 1.0), 0.0)
    lowest = left <= tiny
    minor = part < 0.5
    drop = jnp.where(  # log F at the right end less that at the left
        minor,
        -jnp.log1p(-jnp.where(minor, part, 0.0)),
        -jnp.log(jnp.where(lowest | minor, 1.0, left / jnp.where(seen, right, 1.0))),
    )
    # T_j = step e^{log_height}; all but the last are summed from above, the last stays alone.
    summed = seen & (jnp.arange(p.shape[0]) < p.shape[0] - 1)
    step = jnp.where(lowest, 1.0, -jnp.expm1(-n * drop))
    log_height = -n * rate - scale - jnp.log(jnp.where(b > 0, b, 1.0))
    step, log_height = jnp.where(summed, step, 0.0), jnp.where(summed, log_height, -jnp.inf)
    rest, rest_scale = (y[::-1] for y in _running_sum(step[::-1], log_height[::-1]))
    log_miss = jnp.where(lowest[-1], -jnp.inf, -n * drop[-1])  # log F(w_max)^n
    log_last = jnp.where(lowest[-1], 0.0, _numerics.log1mexp(jnp.where(lowest[-1], 1.0, -log_miss)))
    # The lead of an outcome is its P_n/P* less the smallest one; E_{P*} of it is e^{log_miss}.
    back = jnp.argsort(order)
    positive, reached = rest > 0, jnp.isfinite(rest_scale)
    log_lead = jnp.where(
        positive, jnp.log(jnp.where(positive, rest, 1.0)) + rest_scale + terms.log_mean, -jnp.inf
    )
    minor = log_lead < log_last
    scale = jnp.where(reached & minor, rest_scale, 0.0) + terms.log_mean - log_last
    lead_over_last = jnp.where(minor & reached, rest, 0.0) * jnp.exp(jnp.where(minor, scale, 0.0))
    log_ratio = jnp.where(
        minor, log_last + jnp.log1p(lead_over_last), jnp.logaddexp(log_last, log_lead)
    )
    near = jnp.abs(log_ratio) < _terms.NEAR
    lead = jnp.where(near & reached, rest, 0.0) * jnp.exp(
        jnp.where(near & reached, rest_scale, 0.0) + terms.log_mean
    )
    delta = jnp.where(near, lead - jnp.exp(log_miss), 0.0)
    log_ratio = jnp.where(near, jnp.log1p(delta), log_ratio)[back]
    delta = delta[back]
    log_base_ratio = log_ratio + terms.exponents - terms.log_mean
    eta = jnp.expm1(jnp.where(jnp.abs(log_base_ratio) < _terms.NEAR, log_base_ratio, 0.0))
    probs = jnp.exp(terms.log_tilted + log_ratio)
    return _terms.SoftTerms(probs, log_ratio, delta, log_base_ratio, eta)


def _running_sum(mantissa: Array, log_scale: Array) -> tuple[Array, Array]:
    """Running sums of mantissa · e^log_scale `[K]` in the same form, the scale their largest so far.

    The scale is a constant to differentiation, and the sums are linear in the mantissa: terms that
    are 0 have their gradient, which a sum of logarithms would lose.
    """
    constant = jax.lax.stop_gradient(log_scale)
    kept = jnp.isfinite(constant)
    mantissa = mantissa * jnp.exp(jnp.where(kept, log_scale - jnp.where(kept, constant, 0.0), 0.0))

    def add(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
        top = jnp.maximum(one[1], other[1])
        base = jnp.where(jnp.isfinite(top), top, 0.0)
        return one[0] * jnp.exp(one[1] - base) + other[0] * jnp.exp(other[1] - base), top

    return jax.lax.associative_scan(add, (mantissa, constant))


# Best-of-Poisson ----------------------------------------------------------------------------------


def log_best_of_poisson(
    problem: Problem, mean_extra: Any, temperature: Any, *, nodes: int | None = None
) -> Array:
    """The exact law of soft best-of-N with a random N = 1 + Poisson(ν) of candidates.

    With φ(t) = E_P[e^{-tw}] and w = e^{(r - max r)/λ} the average of P_n over N is

      P(x) w(x) ∫₀^∞ e^{-t w(x)} (1 + ν φ(t)) e^{-ν(1 - φ(t))} dt,

    and at λ = 0 that of hard best-of-n, G(F(x)) - G(F(x-)) with G(u) = u e^{ν(u-1)}, split in
    proportion to P among ties.

    Args:
      problem: `[..., K]` reference law and rewards.
      mean_extra: `[...]` ν, finite and at least 0, traced: the mean number of candidates is 1 + ν.
      temperature: `[...]` λ, reward units, traced; 0 is the hard rule, inf gives P.
      nodes: static number of quadrature points, as in `law.log_soft_bon`.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0. NaN where `nodes`
      points are too few.

    Raises:
      ValueError: ν is negative or not finite, a negative temperature, NaN or infinite rewards, a
        problem that is not a law, or shapes that do not broadcast. Values are checked when
        concrete; traced bad values give NaN.

    Numerics: relative error of the probabilities about 1e-13 in float64, growing like
    eps · range/temperature; divergences of it from the tilted law by `metrics.law_metrics` are
    resolved to about 1e-14. Differentiable in all but `nodes`.
    Source: arXiv:2506.19248 (best-of-Poisson); the soft law is derived here: E[N φ^{N-1}] takes the
    place of n φ^{n-1}.
    """
    problem = _plan.checked_problem(problem)
    dtype = problem.rewards.dtype
    value = _checks.concrete(mean_extra)
    if value is not None:
        bad = ~((value >= 0) & (value < math.inf))
        _checks.offending("mean_extra", value, bad, "finite and at least 0")
    _checks.temperature(temperature)
    temperature = _checks.as_float("temperature", temperature).astype(dtype)
    mean_extra = _checks.as_float("mean_extra", mean_extra).astype(dtype)
    shape = _checks.batch_shape(
        problem=problem.batch_shape, mean_extra=mean_extra.shape, temperature=temperature.shape
    )
    mean_extra = jnp.broadcast_to(mean_extra, shape)
    plan = _plan.quadrature_plan(problem, temperature, jnp.log1p(mean_extra), nodes)
    return _log_poisson(problem, temperature, mean_extra, plan)


@functools.partial(jax.jit, static_argnames="plan")
def _log_poisson(
    problem: Problem, temperature: Array, mean_extra: Array, plan: _plan.Plan
) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array, mean_extra: Array) -> Array:
        mean_extra = jnp.where(mean_extra >= 0, mean_extra, jnp.nan)
        proper = _terms.proper_temperature(temperature, rewards)
        terms = _terms.tilted_terms(Problem(log_probs, rewards), proper)
        soft, hard = (poisson_log_base_ratio(terms, mean_extra, x, plan) for x in (True, False))
        ratio = jnp.where(temperature == 0, hard, soft)
        return terms.log_probs + jnp.where(jnp.isposinf(temperature), 0.0 * mean_extra, ratio)

    elements = problem.num_outcomes * plan.nodes
    return _plan.over_batch(one, elements, problem, (temperature, mean_extra))


def poisson_log_base_ratio(
    terms: _terms.TiltedTerms, mean_extra: Array, soft: bool, plan: _plan.Plan
) -> Array:
    """Log of law/P `[K]` for best-of-Poisson, of a `[K]` problem and a scalar ν."""
    if not soft:  # [G(F) - G(F-)]/(F - F-), a sum of non-negative terms
        below, group, higher = _terms.rank_masses(jnp.exp(terms.log_probs), terms.rewards)
        gain = group - below * jnp.expm1(-mean_extra * group)
        return jnp.log(gain) - jnp.log(group) - mean_extra * higher
    rule = _numerics.rule_for(terms.log_probs.dtype, plan.fine)
    u, log_h, resolved = _numerics.lattice(
        rule, -terms.exponents, jnp.log1p(mean_extra), terms.log_mean, plan.nodes
    )
    p = jnp.exp(terms.log_probs)
    log_tw = u[:, None] + terms.exponents[None]
    z = jnp.exp(jnp.minimum(log_tw, 30.0))  # at e^30 nothing is left of e^-z
    lost = -jnp.expm1(-z) @ p  # 1 - φ
    log_weight = jnp.log1p(mean_extra * (jnp.exp(-z) @ p)) - mean_extra * lost
    log_ratio = jax.nn.logsumexp((log_h + log_weight)[:, None] + log_tw - z, axis=0)
    return log_ratio + jnp.where(resolved, 0.0, jnp.nan).astype(p.dtype)


# Rejection from the envelope ----------------------------------------------------------------------


def log_rejection(
    problem: Problem,
    n: Any,
    temperature: Any,
    *,
    log_n: Any = None,
    fallback: Fallback = "any",
) -> Array:
    """The exact law of rejection sampling with n draws and a fallback.

    Draw i is accepted with probability w(X_i) = e^{(r(X_i) - max r)/λ}, and the first accepted one is
    returned; it has the tilted law P*. None is accepted with probability (1 - μ)^n, μ = E_P[w]; then
    the fallback picks one of n draws from R = P (1 - w)/(1 - μ):

      P_n = (1 - (1 - μ)^n) P* + (1 - μ)^n Q,   Q = R ("any") or hard best-of-n under R ("best").

    Args:
      problem: `[..., K]` reference law and rewards; the envelope is the best reward of its support.
      n: `[...]` number of candidates, any real number >= 1, traced; None when `log_n` is given.
      temperature: `[...]` λ, reward units, traced; inf gives P. 0 accepts the best reward alone.
      log_n: `[...]` log n in nats instead of n.
      fallback: "any" of the rejected draws, or the "best" of them (ties uniform); static.

    Returns:
      `[..., K]` log-probabilities in nats, -inf for outcomes of probability 0.

    Raises:
      ValueError: as `log_uniform_race`, or an unknown fallback.

    Numerics: a sum of two non-negative terms, each relatively accurate to 1e-13 in float64.
    TV(P_n, P*) = (1 - μ)^n TV(Q, P*), so `metrics.law_metrics` resolves it to about 1e-14 only.
    Source: derived here (a mixture over whether a draw is accepted); von Neumann's rejection.
    """
    if fallback not in ("any", "best"):
        raise ValueError(f"fallback must be 'any' or 'best', got {fallback!r}")
    problem, temperature, log_n = _race_arguments(problem, n, temperature, log_n)
    return _log_rejection(problem, temperature, log_n, fallback)


@functools.partial(jax.jit, static_argnames="fallback")
def _log_rejection(problem: Problem, temperature: Array, log_n: Array, fallback: Fallback) -> Array:
    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        proper = _terms.proper_temperature(temperature, rewards)
        terms = _terms.tilted_terms(Problem(log_probs, rewards), proper)
        best = terms.rewards == jnp.max(terms.rewards)
        hard = temperature == 0
        lost = jnp.where(hard, jnp.where(best, 0.0, 1.0), -jnp.expm1(terms.exponents))  # 1 - w
        log_best = jnp.where(best, terms.log_probs, -jnp.inf)
        log_accept = jnp.where(hard, jax.nn.logsumexp(log_best), terms.log_mean)
        log_target = jnp.where(hard, log_best - log_accept, terms.log_tilted)
        accept = jnp.exp(log_accept)
        sure = accept >= 1  # every outcome is best: nothing is ever rejected
        n = jnp.exp(jnp.minimum(log_n, 0.95 * math.log(jnp.finfo(lost.dtype).max)))
        log_miss = n * jnp.log1p(-jnp.where(sure, 0.5, accept))
        log_hit = _numerics.log1mexp(-log_miss)
        log_rest = terms.log_probs + _numerics.safe_log(lost)
        rejected = log_rest - jax.nn.logsumexp(jnp.where(sure, terms.log_probs, log_rest))
        if fallback == "best":
            safe = jnp.where(sure, terms.log_probs, rejected)
            worst = jnp.where(safe > -jnp.inf, terms.rewards, jnp.min(terms.rewards) - 1)
            ratio = _terms.hard_terms(safe, worst, log_n).log_base_ratio
            rejected = jnp.where(safe > -jnp.inf, safe + ratio, -jnp.inf)
        mixed = jnp.logaddexp(log_hit + log_target, log_miss + rejected)
        return jnp.where(jnp.isposinf(temperature) | sure, terms.log_probs + 0.0 * log_n, mixed)

    return _plan.over_batch(one, problem.num_outcomes, problem, (temperature, log_n))
