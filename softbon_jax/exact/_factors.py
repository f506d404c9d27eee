"""Laws of the form P(x) w(x) ∫₀^∞ e^{-t w(x)} h(t) dt, h falling, the same for many outcomes.

For soft best-of-n h = n φ^{n-1}. A random number N of candidates has h = G'(φ), with G(s) = E[s^N]
(`numbers`). Stopping at a threshold has two such h, one for the outcomes below it and one for the
others (`Stopped`). Given h and -h' at the nodes, the law and its relative changes against P* and P
follow as for soft best-of-n (`_soft`), without cancellation.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax._special import Mix, mix
from softbon_jax.exact import _divergences, _quadrature, _rules, _soft, _steep
from softbon_jax.exact._measures import Metrics, hard_metrics, soft_metrics, tilt_metrics
from softbon_jax.exact._plan import Plan
from softbon_jax.problem import Problem

Array = jax.Array


class AtNodes(NamedTuple):
    """What is known at the Q nodes of a `[K]` problem; z = t w.

    Attributes:
      log_weight: `[Q]` log of the weight of a node in u = log t.
      log_tw: `[Q, K]` log z.
      z: `[Q, K]` z up to e^30, where nothing is left of e^-z.
      decay: `[Q, K]` e^-z.
      lost: `[Q, K]` 1 - e^-z.
      resolved: whether the nodes were enough.
    """

    log_weight: Array
    log_tw: Array
    z: Array
    decay: Array
    lost: Array
    resolved: Array


class Factors(NamedTuple):
    """The h of each group of outcomes at the nodes: of one group, or of those below and from z on.

    Attributes:
      h: as the integral has it.
      fall: -t h'(t).
      jump: h of the second group less that of the first, not negative; None for one group.
    """

    h: tuple[Mix, ...]
    fall: tuple[Mix, ...]
    jump: Mix | None = None


class Rule(Protocol):
    """A rule of selection whose law is of this form."""

    def factors(self, at: AtNodes, terms: _soft.TiltedTerms) -> Factors:
        """The factors at the nodes."""

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """The law at temperature 0."""

    def log_most(self) -> Array:
        """Log of the largest number of candidates that counts: h begins to fall at its inverse."""

    def second(self, terms: _soft.TiltedTerms) -> Array | None:
        """`[K]` whether an outcome is in the second group; None if there is one group."""


def at_nodes(terms: _soft.TiltedTerms, log_most: Array, plan: Plan) -> AtNodes:
    """The nodes for one problem, and what every law needs at them."""
    u, log_weight, resolved = _quadrature.nodes_for(
        _quadrature.rule_for(terms.log_probs.dtype),
        plan.spacing,
        -terms.exponents,
        log_most,
        terms.log_mean,
        plan.nodes,
    )
    log_tw = u[:, None] + terms.exponents[None]
    z = jnp.exp(jnp.minimum(log_tw, 30.0))
    return AtNodes(log_weight, log_tw, z, jnp.exp(-z), -jnp.expm1(-z), resolved)


# From factors to laws -----------------------------------------------------------------------------


def log_base_ratio(terms: _soft.TiltedTerms, rule: Rule, plan: Plan) -> Array:
    """Log law/P `[K]` at a temperature between 0 and inf, NaN where the nodes are too few."""
    at = at_nodes(terms, rule.log_most(), plan)
    ratio = _log_integral(at, rule.factors(at, terms), rule.second(terms))
    return ratio + jnp.where(at.resolved, 0.0, jnp.nan).astype(ratio.dtype)


def _log_integral(at: AtNodes, factors: Factors, second: Array | None) -> Array:
    """Log of w ∫ e^{-tw} h dt, `[K]`."""
    log_rows = [at.log_weight + h.log() for h in factors.h]
    rows = log_rows[0][:, None]
    if second is not None:
        rows = jnp.where(second[None], log_rows[1][:, None], rows)
    return jax.nn.logsumexp(rows + at.log_tw - at.z, axis=0)


def soft_terms(
    terms: _soft.TiltedTerms, temperature: Array, rule: Rule, plan: Plan
) -> _soft.SoftTerms:
    """The law of a rule at a temperature above 0, with its relative changes.

    With D_y(x) = e^{-t w(x)} - e^{-t w(y)} and x and y in one group (derived here, the second by parts):

      ρ(x) - ρ(y) = μ ∫ D_y(x) h dt,   η(x) - η(y) = -∫ D_y(x) (-h') dt,

    and for x in the second group and y in the first, with the h of the first, one more term:

      μ ∫ e^{-t w(x)} jump dt,   w(x) ∫ e^{-t w(x)} jump dt.

    y is the likeliest of its group. E_{P*}[ρ] = 1 and E_P[η] = 0 give the rest. The difference between
    the groups counts in each of them with the mass of the other one, so that where nearly all of P* or
    of P is in one group, its ρ - 1 and η keep their digits.
    """
    at = at_nodes(terms, rule.log_most(), plan)
    factors, second = rule.factors(at, terms), rule.second(terms)
    log_p, log_pstar = terms.log_probs, terms.log_tilted
    p, pstar = jnp.exp(log_p), jnp.exp(log_pstar)
    log_w = terms.exponents - terms.log_mean
    log_ratio = _log_integral(at, factors, second) - log_w
    # P w t e^{-tw}, every node scaled by its largest outcome.
    kernel, log_scale = _soft.scaled_exp(log_p[None] + jnp.log(at.z) - at.z)
    log_scale = log_scale + at.log_weight

    above, apart, ref = _leads(terms, temperature, log_pstar, second)
    split = -jnp.expm1(-jnp.where(above[None], at.z, at.z[:, ref]) * apart[None])
    above &= log_pstar[ref] > -jnp.inf
    odds = jnp.exp(jnp.where(above, log_pstar - jnp.where(above, log_pstar[ref], 0.0), 0.0))
    contrast = split * jnp.where(above[None], -kernel[:, ref] * odds[None], kernel)
    change = _by_group(factors.h, second, contrast, log_scale)  # P* (ρ - ρ(y))
    delta_rest = -jnp.sum(change)

    above, apart, ref = _leads(terms, temperature, log_p, second)
    split = -jnp.expm1(-jnp.where(above[None], at.z, at.z[:, ref]) * apart[None])
    step = split * jnp.where(above[None], at.decay[:, ref], -at.decay)
    rise = _by_group(factors.fall, second, step, at.log_weight)  # η - η(y)
    eta = rise - rise @ p
    if second is not None and factors.jump is not None:
        between = _Between(terms, temperature, at, second)
        scaled = between.lead(log_pstar, factors.h[0].at(log_scale), -kernel)
        delta_rest = delta_rest + between.shares(
            log_pstar, scaled, factors.jump.at(log_scale), kernel
        )
        gained = between.lead(log_p, factors.fall[0].at(at.log_weight), at.decay)
        gained += between.over(log_p, factors.jump.at(at.log_weight), at.z * at.decay)
        lower, higher = (jnp.sum(jnp.where(x, p, 0.0)) for x in (~second, second))
        eta = eta + gained * jnp.where(second, lower, -higher)

    usable = (jnp.abs(log_ratio) < _special.NEAR) & (pstar > jnp.finfo(p.dtype).tiny)
    delta = change * jnp.exp(jnp.where(usable, -log_pstar, 0.0)) + delta_rest
    delta = jnp.where(usable, delta, jnp.expm1(jnp.minimum(log_ratio, _special.NEAR)))
    log_ratio, delta = _special.refined(log_ratio, delta)
    ratio, eta = _special.refined(log_ratio + log_w, eta)
    soft = _soft.SoftTerms(jnp.exp(log_p + ratio), log_ratio, delta, ratio, eta)
    return _soft.sound_or_nan(soft, at.resolved, terms.exponents)


def _by_group(
    mixes: tuple[Mix, ...], second: Array | None, contrast: Array, log_scale: Array
) -> Array:
    """`[K]` sums over the nodes of a `[Q, K]` contrast with the rows of the group of each outcome."""
    first = mixes[0].at(log_scale) @ contrast
    if second is None:
        return first
    return jnp.where(second, mixes[1].at(log_scale) @ contrast, first)


def _likeliest(log_law: Array, where: Array) -> Array:
    return jnp.argmax(jnp.where(where, log_law, -jnp.inf))


def _leads(
    terms: _soft.TiltedTerms, temperature: Array, log_law: Array, second: Array | None
) -> tuple[Array, Array, Array]:
    """As `_soft.leads`, `[K]` each, against the likeliest outcome of the group of each."""
    if second is None:
        above, apart, likeliest = _soft.leads(terms, temperature, log_law)
        return above, apart, jnp.full_like(above, likeliest, likeliest.dtype)
    ref = jnp.where(second, _likeliest(log_law, second), _likeliest(log_law, ~second))
    lead = _special.over(terms.rewards, terms.rewards[ref], temperature)
    above = lead >= 0
    return above, -jnp.expm1(-jnp.where(above, lead, -lead)), ref


class _Between(NamedTuple):
    """The likeliest outcome of the second group against that of the first, whose rewards are lower."""

    terms: _soft.TiltedTerms
    temperature: Array
    at: AtNodes
    second: Array

    def lead(self, log_law: Array, rows: Array, at_lower: Array) -> Array:
        """Rows times `at_lower` at the lower outcome y times 1 - e^{-t (w(x) - w(y))}."""
        x, y = _likeliest(log_law, self.second), _likeliest(log_law, ~self.second)
        step = _special.over(self.terms.rewards[x], self.terms.rewards[y], self.temperature)
        apart = -jnp.expm1(-jnp.maximum(step, 0.0))
        return rows @ (at_lower[:, y] * -jnp.expm1(-self.at.z[:, x] * apart))

    def over(self, log_law: Array, rows: Array, at_higher: Array) -> Array:
        """Rows times `at_higher` at the higher outcome x."""
        return rows @ at_higher[:, _likeliest(log_law, self.second)]

    def shares(self, log_law: Array, lead: Array, rows: Array, kernel: Array) -> Array:
        """What the difference of ρ(x) - ρ(y) adds to ρ - 1 `[K]`: times the mass of the other group.

        `lead` is in units of P*(y), and what the jump gives is in units of P*(x): neither P* nor ρ
        need be in the range of the floats.
        """
        x, y = _likeliest(log_law, self.second), _likeliest(log_law, ~self.second)
        largest = 0.9 * math.log(jnp.finfo(log_law.dtype).max)
        both = jnp.isfinite(log_law[x]) & jnp.isfinite(log_law[y])
        both &= self.second[x] & ~self.second[y]

        def times(log_mass: Array, one: Array, value: Array) -> Array:
            log_odds = jnp.where(both, log_mass - jnp.where(both, log_law[one], 0.0), 0.0)
            return jnp.where(both, value * jnp.exp(jnp.minimum(log_odds, largest)), 0.0)

        def mass(where: Array) -> Array:
            return jax.nn.logsumexp(jnp.where(where | ~both, log_law, -jnp.inf))

        jump = self.over(log_law, rows, kernel)
        lower, higher = mass(~self.second), mass(self.second)
        to_second = times(lower, y, lead) + times(lower, x, jump)
        to_first = times(higher, y, lead) + times(higher, x, jump)
        return jnp.where(self.second, to_second, -to_first)


# Stopping at a threshold --------------------------------------------------------------------------


class Stop(NamedTuple):
    """What stopping at the first draw of reward >= z, and at the n-th, needs at some t.

    The outcomes below z have the part s of φ, those from z on the rest; ε = 1 - s >= q = P(r >= z).
    With S(s) = (1 - s^n)/(1 - s), the sum of s^k over k < n, x is selected with the factor h = S from z
    on and h = (φ - s) S' + n s^{n-1} below; S - h there is (1 - φ) S' (derived here: (1 - s) S' = S -
    n s^{n-1}).

    Attributes:
      rate: -log s.
      log_rest: log ε.
      log_sum: log S.
      slope: the value of S' in e^{-2 log ε}: 1 - s^{n-1} (1 + (n-1) ε), relatively accurate.
      log_own: log n s^{n-1}.
      log_curve: log n² s^{n-2}.
    """

    rate: Array
    log_rest: Array
    log_sum: Array
    slope: Array
    log_own: Array
    log_curve: Array


def stop_at(s: Array, rest: Array, log_n: Array) -> Stop:
    """The `Stop` at s and 1 - s, relatively accurate both."""
    near = rest < 0.5
    small = jnp.where(near, rest, 0.0)
    tiny = jnp.finfo(s.dtype).tiny
    rate = jnp.where(near, -jnp.log1p(-small), -jnp.log(jnp.maximum(s, tiny)))
    more = jnp.expm1(log_n)  # n - 1
    excess = jnp.where(near, _special.ratio_minus_log(-small), rate - rest)
    # -log of s^{n-1} (1 + (n-1) ε) from two terms that are not negative.
    slope = -jnp.expm1(-(more * excess + _special.ratio_minus_log(more * rest)))
    log_rest = jnp.log(rest)
    return Stop(
        rate,
        log_rest,
        jnp.log(-jnp.expm1(-(more + 1) * rate)) - log_rest,
        slope,
        log_n - more * rate,
        2 * log_n - (more - 1) * rate,
    )


class Stopped(NamedTuple):
    """Draws up to the first of reward >= threshold, n at most; then one of all drawn is selected."""

    threshold: Array
    log_n: Array

    def factors(self, at: AtNodes, terms: _soft.TiltedTerms) -> Factors:
        """Those of the outcomes below the threshold, and of the others.

        By parts, -h' = S' |s'| from the threshold on, and below it, with |φ'| = |s'| + |a'|,
        |a'| S' + |s'| [2 (φ - s)/ε S' + n(n-1) s^{n-2} (1 - φ)/ε]: all terms are positive.
        """
        p = jnp.exp(terms.log_probs)
        p_below, p_reached = self._parts(terms)
        rest = jnp.sum(p_reached) + at.lost @ p_below
        stop = stop_at(at.decay @ p_below, rest, self.log_n)
        phi_reached, log_lost = at.decay @ p_reached, jnp.log(at.lost @ p)
        drift, drift_reached = (
            _special.safe_log((at.z * at.decay) @ x) for x in (p_below, p_reached)
        )
        log_slope = -2 * stop.log_rest
        fewer = -jnp.expm1(-self.log_n)  # (n-1)/n
        log_both = log_lost - stop.log_rest
        return Factors(
            h=(
                mix((phi_reached * stop.slope, log_slope), (jnp.ones_like(rest), stop.log_own)),
                mix((jnp.ones_like(rest), stop.log_sum)),
            ),
            fall=(
                mix(
                    (stop.slope, log_slope + drift_reached),
                    (2 * phi_reached * stop.slope, log_slope - stop.log_rest + drift),
                    (fewer, stop.log_curve + log_both + drift),
                ),
                mix((stop.slope, log_slope + drift)),
            ),
            jump=mix((stop.slope, log_slope + log_lost)),
        )

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """The last draw where the threshold is reached, else the best of n."""
        hard = _rules.hard_terms(terms.log_probs, terms.rewards, self.log_n)
        reached, (p_below, p_reached) = self.second(terms), self._parts(terms)
        q, s = jnp.sum(p_reached), jnp.sum(p_below)
        log_draws = jnp.log(self.mean(terms))
        more = jnp.expm1(self.log_n)
        some, any_below = q > 0, s > 0
        log_s = jnp.where(
            q < 0.5, jnp.log1p(-jnp.where(q < 0.5, q, 0.0)), jnp.log(jnp.where(any_below, s, 1.0))
        )
        # E[N] - 1 = s + ... + s^{n-1}, and the best is missed by another stop, or without a stop.
        excess = jnp.where(
            some & any_below, -jnp.expm1(more * log_s) * s / jnp.where(some, q, 1.0), 0.0
        )
        log_ratio, eta = _special.refined(
            jnp.where(reached, log_draws, hard.log_base_ratio),
            jnp.where(reached, excess, hard.eta),
        )
        best = terms.rewards == jnp.max(terms.rewards)
        others = jnp.sum(jnp.where(best, 0.0, p_reached)) * self.mean(terms)
        none = jnp.where(any_below, jnp.exp((more + 1) * log_s), 0.0)
        log_miss = jnp.where(some, _special.safe_log(others + none), hard.log_miss)
        return _rules.HardTerms(log_ratio, eta, hard.log_top, log_miss)

    def log_most(self) -> Array:
        """That of n; NaN where it leaves the range in which 1/n² can be told from 0."""
        largest = 0.8 * math.log(jnp.finfo(self.log_n.dtype).max)
        return jnp.where(self.log_n < largest, self.log_n, jnp.nan)

    def second(self, terms: _soft.TiltedTerms) -> Array:
        """The outcomes at which the drawing ends."""
        return terms.rewards >= self.threshold

    def mean(self, terms: _soft.TiltedTerms) -> Array:
        """E[N] = [1 - (1-q)^n]/q."""
        p_below, p_reached = self._parts(terms)
        q = jnp.sum(p_reached)
        some = q > 0
        stop = stop_at(jnp.sum(p_below), jnp.where(some, q, 0.5), self.log_n)
        return jnp.exp(jnp.where(some, stop.log_sum, self.log_n))

    def _parts(self, terms: _soft.TiltedTerms) -> tuple[Array, Array]:
        """P `[K]` below the threshold, and from it on."""
        p, reached = jnp.exp(terms.log_probs), self.second(terms)
        return jnp.where(reached, 0.0, p), jnp.where(reached, p, 0.0)


# Every temperature --------------------------------------------------------------------------------


class Law(NamedTuple):
    """The law of a rule for one problem at a temperature in [0, inf].

    Attributes:
      terms: of the problem, with w = 1 at temperature inf.
      temperature: as given.
      interior: the temperature of the terms, inf where the law is settled.
      settled: whether the temperature is so low that the law is `hard` in every digit.
      hard: the law at temperature 0.
      rule: whose law it is.
      plan: of the quadrature.
    """

    terms: _soft.TiltedTerms
    temperature: Array
    interior: Array
    settled: Array
    hard: _rules.HardTerms
    rule: Rule
    plan: Plan

    def log_probs(self) -> Array:
        """`[K]` the logarithm of the law."""
        terms = _without_selection(self.terms, self.settled)
        is_hard = self.settled | (self.temperature == 0)
        soft = log_base_ratio(terms, self.rule, self.plan)
        if self.rule.second(terms) is None:  # which selects nothing at inf, to the last digit
            soft = jnp.where(jnp.isposinf(self.temperature), 0.0 * soft, soft)
        return self.terms.log_probs + jnp.where(is_hard, self.hard.log_base_ratio, soft)

    def metrics(self) -> Metrics:
        """Its metrics."""
        terms = self.terms
        wins = _divergences.win_chances(jnp.exp(terms.log_probs), terms.rewards)
        soft = soft_terms(
            _without_selection(terms, self.settled), self.interior, self.rule, self.plan
        )
        beside = _steep.beside_tilted(terms, self.hard)
        soft = jax.tree.map(lambda x, y: jnp.where(self.settled, x, y), beside, soft)
        result = soft_metrics(terms, tilt_metrics(terms), soft, wins, wide=True)
        limit = hard_metrics(terms, self.hard, wins)
        return jax.tree.map(lambda x, y: jnp.where(self.temperature == 0, x, y), limit, result)


def law_of(problem: Problem, temperature: Array, rule: Rule, plan: Plan) -> Law:
    """The `Law` of a `[K]` problem at a scalar temperature."""
    interior = _soft.interior_temperature(temperature, problem.rewards)
    terms = _soft.tilted_terms(problem, interior)
    unselective = jnp.isposinf(temperature)
    hard = rule.hard(terms)
    settled = jnp.zeros((), bool)
    if plan.steep:
        settled = _steep.settled(terms, interior, rule.log_most(), hard) & ~unselective
    interior = jnp.where(unselective | settled, jnp.inf, interior)
    terms = _without_selection(terms, unselective)
    return Law(terms, temperature, interior, settled, hard, rule, plan)


def _without_selection(terms: _soft.TiltedTerms, where: Array) -> _soft.TiltedTerms:
    """The terms with w = 1 for every outcome, those of temperature inf, where that is asked for."""
    return terms._replace(
        exponents=jnp.where(where, 0.0, terms.exponents),
        log_mean=jnp.where(where, 0.0, terms.log_mean),
        log_tilted=jnp.where(where, terms.log_probs, terms.log_tilted),
        excess=jnp.where(where, 0.0, terms.excess),
    )
