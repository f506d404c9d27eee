"""A random number N of candidates: laws of N, and selection with them as a rule of `_factors`.

N >= 1 does not depend on the draws. With G(s) = E[s^N] the law of soft best-of-N is
P w ∫ e^{-tw} G'(φ) dt, for n φ^{n-1} is the derivative of φ^n, and that of the hard rule is
G(F(x)) - G(F(x-)).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _checks, _special
from softbon_jax._special import Mix, mix
from softbon_jax.exact import _factors, _plan, _rules, _soft
from softbon_jax.problem import probability_tolerance

Array = jax.Array


# Laws of N ----------------------------------------------------------------------------------------


class Number(Protocol):
    """A law of N, by its generating function G."""

    def mean(self) -> Array:
        """E[N]."""

    def log_most(self) -> Array:
        """Log of the largest N that counts."""

    def derivatives(self, phi: Array, lost: Array) -> tuple[Mix, Mix]:
        """G'(φ) and G''(φ) at `[Q]` φ in [0, 1]; `lost` is 1 - φ, relatively accurate."""

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """The law of the best of N."""


class Weights(NamedTuple):
    """N = k + 1 with probability pmf[k]."""

    pmf: Array

    def mean(self) -> Array:
        """Σ (k + 1) pmf[k]."""
        return self.pmf @ self._sizes()

    def log_most(self) -> Array:
        """That of the length of the array."""
        return jnp.asarray(math.log(self.pmf.shape[-1]), self.pmf.dtype)

    def derivatives(self, phi: Array, lost: Array) -> tuple[Mix, Mix]:
        """Polynomials with coefficients that are not negative."""
        n = self._sizes()
        near = lost < 0.5
        tiny = jnp.finfo(phi.dtype).tiny
        log_phi = jnp.where(
            near, jnp.log1p(-jnp.where(near, lost, 0.0)), jnp.log(jnp.maximum(phi, tiny))
        )
        powers = jnp.exp(log_phi[:, None] * (n - 1)[None])
        # φ^{N-2} as φ^{N-1} is used where N >= 2 alone.
        lower = jnp.exp(log_phi[:, None] * jnp.maximum(n - 2, 0)[None])
        zero = jnp.zeros_like(phi)
        first, second = powers @ (self.pmf * n), lower @ (self.pmf * n * (n - 1))
        return mix((first, zero)), mix((second, zero))

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """The mean over N of the law of best-of-n."""

        def best_of(log_n: Array) -> _rules.HardTerms:
            return _rules.hard_terms(terms.log_probs, terms.rewards, log_n)

        each = jax.vmap(best_of)(jnp.log(self._sizes()))
        log_ratio = jax.nn.logsumexp(each.log_base_ratio, b=self.pmf[:, None], axis=0)
        near = jnp.abs(each.log_base_ratio) < _special.NEAR
        largest = 0.9 * math.log(jnp.finfo(self.pmf.dtype).max)
        far = jnp.expm1(jnp.minimum(each.log_base_ratio, largest))
        excess = self.pmf @ jnp.where(near, each.eta, far)
        missed = each.log_miss[0] > -jnp.inf
        log_miss = jax.nn.logsumexp(jnp.where(missed, each.log_miss, 0.0), b=self.pmf)
        return _rules.HardTerms(
            *_special.refined(log_ratio, excess),
            each.log_top[0],
            jnp.where(missed, log_miss, -jnp.inf),
        )

    def _sizes(self) -> Array:
        return jnp.arange(1, self.pmf.shape[-1] + 1, dtype=self.pmf.dtype)


class OnePlusPoisson(NamedTuple):
    """N = 1 + Poisson(ν): best-of-Poisson.

    Attributes:
      mean_extra: `[...]` ν, finite and at least 0, traced: E[N] = 1 + ν.
    """

    mean_extra: Any

    def mean(self) -> Array:
        """1 + ν."""
        return 1 + self.mean_extra

    def log_most(self) -> Array:
        """That of the mean."""
        return jnp.log1p(self.mean_extra)

    def derivatives(self, phi: Array, lost: Array) -> tuple[Mix, Mix]:
        """(1 + νφ) e^{-ν(1-φ)} and ν (2 + νφ) e^{-ν(1-φ)}."""
        extra, one = self.mean_extra, jnp.ones_like(phi)
        value = (extra / (1 + extra)) * ((2 + extra * phi) / (1 + extra))
        log_scale = 2 * jnp.log1p(extra) - extra * lost
        return mix((one, jnp.log1p(extra * phi) - extra * lost)), mix((value, log_scale))

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """G(F) - G(F-) = e^{-ν(1-F)} [F - F- + F- (1 - e^{-ν(F - F-)})], all terms >= 0."""
        below, group, higher = _masses(terms)
        more = -below * jnp.expm1(-self.mean_extra * group)
        log_ratio = jnp.log(group + more) - jnp.log(group) - self.mean_extra * higher
        fewer = -self.mean_extra * higher
        excess = jnp.expm1(fewer) + jnp.exp(fewer) * more / group
        log_below = _special.safe_log(below) - self.mean_extra * (group + higher)
        return _of_masses(terms, log_ratio, excess, log_below)


class PositiveBinomial(NamedTuple):
    """N of so many independent calls that answer, given that one does: calls that may time out.

    Attributes:
      trials: `[...]` calls, an integer of at least 1, traced.
      p: `[...]` probability in (0, 1] that a call answers, traced.
    """

    trials: Any
    p: Any

    def mean(self) -> Array:
        """M p over the probability that a call answers."""
        return jnp.exp(self._log_scale())

    def log_most(self) -> Array:
        """That of the number of calls."""
        return jnp.log(self.trials)

    def derivatives(self, phi: Array, lost: Array) -> tuple[Mix, Mix]:
        """Those of (1 - p + pφ)^M over the probability that a call answers."""
        missing = self.p * lost
        near = missing < 0.5
        kept = jnp.maximum((1 - self.p) + self.p * phi, jnp.finfo(phi.dtype).tiny)
        log_kept = jnp.where(near, jnp.log1p(-jnp.where(near, missing, 0.0)), jnp.log(kept))
        first = self._log_scale() + (self.trials - 1) * log_kept
        log_scale = self._log_scale() + jnp.log(self.trials * self.p)
        second = log_scale + jnp.maximum(self.trials - 2, 0) * log_kept
        return mix((jnp.ones_like(phi), first)), mix((1 - 1 / self.trials, second))

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """(1 - p(1 - F))^M less the same at F-, over the probability that a call answers."""
        below, group, higher = _masses(terms)
        log_ratio = self._log_rise(group, below + group, higher) - jnp.log(group)
        excess = jnp.expm1(jnp.minimum(log_ratio, 1.0))
        return _of_masses(terms, log_ratio, excess, self._log_rise(below, below, group + higher))

    def _log_rise(self, mass: Array, up_to: Array, above: Array) -> Array:
        """Log of G(F) - G(F - mass), where F is `up_to` and 1 - F is `above`."""
        some = mass > 0
        kept = jnp.where(some, (1 - self.p) + self.p * up_to, 1.0)
        absent = self.p * above
        near = absent < 0.5
        log_kept = jnp.where(near, jnp.log1p(-jnp.where(near, absent, 0.0)), jnp.log(kept))
        share = jnp.where(some, self.p * mass / kept, 0.5)
        whole = share >= 1  # p = 1, and nothing below
        step = _special.log1mexp(-self.trials * jnp.log1p(-jnp.where(whole, 0.5, share)))
        log_rise = self._log_scale() - jnp.log(self.trials * self.p) + self.trials * log_kept
        return jnp.where(some, log_rise + jnp.where(whole, 0.0, step), -jnp.inf)

    def _log_scale(self) -> Array:
        """Log of E[N] = M p/(1 - (1 - p)^M)."""
        seldom = self.p < 0.5
        few = -jnp.expm1(self.trials * jnp.log1p(-jnp.where(seldom, self.p, 0.25)))
        answered = jnp.where(seldom, few, 1 - jnp.power(1 - self.p, self.trials))
        return jnp.log(self.trials * self.p) - jnp.log(answered)


class Geometric(NamedTuple):
    """N = n with probability p (1 - p)^{n-1}: after each draw the drawing ends with probability p.

    Attributes:
      p: `[...]` in (0, 1], traced: E[N] = 1/p.
    """

    p: Any

    def mean(self) -> Array:
        """1/p."""
        return 1 / self.p

    def log_most(self) -> Array:
        """That of the mean."""
        return -jnp.log(self.p)

    def derivatives(self, phi: Array, lost: Array) -> tuple[Mix, Mix]:
        """p/(1 - (1-p)φ)² and 2p(1-p)/(1 - (1-p)φ)³."""
        log_rest = jnp.log(self.p + (1 - self.p) * lost)
        first = jnp.log(self.p) - 2 * log_rest
        second = math.log(2) + jnp.log(self.p) - 3 * log_rest
        return mix((jnp.ones_like(phi), first)), mix((1 - self.p, second))

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """G(F) - G(F-) = p (F - F-)/[(1 - (1-p)F)(1 - (1-p)F-)]."""
        below, group, higher = _masses(terms)
        log_p = self._log_rest(jnp.ones_like(below), jnp.zeros_like(below))
        log_below = self._log_rest(below, higher + group)
        log_ratio = log_p - self._log_rest(below + group, higher) - log_below
        log_cdf = jnp.log(self.p) + _special.safe_log(below) - log_below
        return _of_masses(terms, log_ratio, jnp.expm1(jnp.minimum(log_ratio, 1.0)), log_cdf)

    def _log_rest(self, up_to: Array, above: Array) -> Array:
        """Log(1 - (1-p)F), from F = `up_to` or 1 - F = `above`."""
        few = self.p > 0.5
        return jnp.where(
            few,
            jnp.log1p(-(1 - jnp.where(few, self.p, 1.0)) * up_to),
            jnp.log(self.p + (1 - self.p) * above),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Generating:
    """N of a given generating function G(s) = E[s^N] on [0, 1], G(0) = 0 and G(1) = 1.

    Attributes:
      function: G, element by element, of JAX operations; static. NaN comes of one whose G(0) is not 0
        or whose G(1) is not 1.
      most: `[...]` finite and at least 1, traced: the largest N that counts, or for a law without a
        largest one the mean; the quadrature looks for the fall of G' around its inverse.
      derivative: G' likewise, static. Default: by automatic differentiation.
    """

    function: Callable[[Array], Array] = dataclasses.field(metadata={"static": True})
    most: Any
    derivative: Callable[[Array], Array] | None = dataclasses.field(
        default=None, metadata={"static": True}
    )

    def mean(self) -> Array:
        """G'(1)."""
        return self._slope(jnp.ones_like(self.most)) + self._poison()

    def log_most(self) -> Array:
        """As given."""
        return jnp.log(self.most)

    def derivatives(self, phi: Array, lost: Array) -> tuple[Mix, Mix]:
        """As given, and by automatic differentiation."""
        first, second = jax.jvp(self._slope, (phi,), (jnp.ones_like(phi),))
        poison = self._poison()
        return mix((first, poison)), mix((second, poison))

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """The plain difference G(F) - G(F-)."""
        below, group, _ = _masses(terms)
        ratio = (self.function(below + group) - self.function(below)) / group + self._poison()
        log_below = _special.safe_log(self.function(below))
        return _of_masses(terms, jnp.log(ratio), ratio - 1, log_below)

    def _slope(self, s: Array) -> Array:
        if self.derivative is not None:
            return self.derivative(s)
        return jax.jvp(self.function, (s,), (jnp.ones_like(s),))[1]

    def _poison(self) -> Array:
        """0, or NaN where G is not the generating function of a law on 1, 2, ..."""
        ends = self.function(jnp.asarray([0.0, 1.0], self.most.dtype))
        off = jnp.abs(ends - jnp.asarray([0.0, 1.0], ends.dtype))
        is_law = jnp.max(off) <= 2 * probability_tolerance(ends.dtype)
        return jnp.where(is_law, 0.0, jnp.nan).astype(ends.dtype)


def _masses(terms: _soft.TiltedTerms) -> tuple[Array, Array, Array]:
    return _rules.rank_masses(jnp.exp(terms.log_probs), terms.rewards)


def _of_masses(
    terms: _soft.TiltedTerms, log_ratio: Array, excess: Array, log_below: Array
) -> _rules.HardTerms:
    """`HardTerms` from log law/P, law/P - 1 and log G(F-), `[K]` each."""
    _, group, _ = _masses(terms)
    top = jnp.argmax(terms.rewards)
    return _rules.HardTerms(
        *_special.refined(log_ratio, excess), jnp.log(group[top]), log_below[top]
    )


# From an argument ---------------------------------------------------------------------------------


def checked_number(pmf: Any, dtype: Any) -> Number:
    """The law of N that `pmf` says, weights or one of the laws above, with arrays of `dtype`."""
    if isinstance(pmf, OnePlusPoisson):
        return OnePlusPoisson(_checks.finite_not_negative("pmf.mean_extra", pmf.mean_extra, dtype))
    if isinstance(pmf, Geometric):
        return Geometric(_checks.positive_probability("pmf.p", pmf.p, dtype))
    if isinstance(pmf, PositiveBinomial):
        trials = _checks.whole("pmf.trials", pmf.trials, dtype)
        p = _checks.positive_probability("pmf.p", pmf.p, dtype)
        _checks.batch_shape(trials=trials.shape, p=p.shape)
        return PositiveBinomial(trials, p)
    if isinstance(pmf, Generating):
        for name in ("function", "derivative"):
            given = getattr(pmf, name)
            if not callable(given) and (name, given) != ("derivative", None):
                raise TypeError(f"pmf.{name} must be a function, got {_checks.shown(given)}")
        most = _checks.finite_at_least("pmf.most", pmf.most, 1, dtype)
        return dataclasses.replace(pmf, most=most)
    return Weights(_arguments.checked_weights("pmf", pmf, dtype))


# The rule -----------------------------------------------------------------------------------------


class RandomN(NamedTuple):
    """Selection among a random number of candidates, in the form of `_factors.Rule`."""

    number: Number

    def factors(self, at: _factors.AtNodes, terms: _soft.TiltedTerms) -> _factors.Factors:
        """G'(φ), and G''(φ) t |φ'(t)|."""
        p = jnp.exp(terms.log_probs)
        first, second = self.number.derivatives(at.decay @ p, at.lost @ p)
        drift = _special.safe_log((at.z * at.decay) @ p)
        return _factors.Factors((first,), (second.times(drift),))

    def hard(self, terms: _soft.TiltedTerms) -> _rules.HardTerms:
        """The best of N."""
        return self.number.hard(terms)

    def log_most(self) -> Array:
        """That of N."""
        return self.number.log_most()

    def second(self, terms: _soft.TiltedTerms) -> None:
        """All outcomes are of one group."""


def random_log_base_ratio(
    terms: _soft.TiltedTerms, number: Number, soft: bool, plan: _plan.Plan
) -> Array:
    """Log of law/P `[K]` of a `[K]` problem, at a temperature between 0 and inf if `soft`, else at 0."""
    if not soft:
        return number.hard(terms).log_base_ratio
    return _factors.log_base_ratio(terms, RandomN(number), plan)
