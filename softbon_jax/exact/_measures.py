"""The metrics of one law of one problem, from its ratios to the tilted law and to P."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax.exact import _divergences, _rules, _soft

Array = jax.Array


class Metrics(NamedTuple):
    """What a selection law gains and costs; arrays of one batch shape.

    P is the reference law, P* the tilted law at the same temperature and P_n the law of the selected
    outcome, whatever the selection rule: in the names `soft` reads "selected", so that `kl_soft_base`
    is KL(P_n‖P) for hard best-of-n and for the race as well. Divergences are in nats, rewards in the
    problem's reward units.

    Attributes:
      reward: E_{P_n}[r].
      tilted_reward: E_{P*}[r].
      reward_gap: E_{P*}[r] - E_{P_n}[r].
      relative_reward_gap: reward_gap / tilted_reward; meant for rewards >= 0.
      kl_tilted_soft: KL(P*‖P_n), the paper's divergence.
      kl_soft_tilted: KL(P_n‖P*).
      kl_soft_base: KL(P_n‖P), what the selection costs.
      kl_tilted_base: KL(P*‖P).
      tv: total variation between P_n and P*, in [0, 1].
      chi2: χ²(P_n‖P*) = Σ P_n²/P* - 1.
      win_rate: Pr(the selected outcome has a higher reward than a fresh draw from P), a tie counting
        one half; in [0, 1].
    """

    reward: Array
    tilted_reward: Array
    reward_gap: Array
    relative_reward_gap: Array
    kl_tilted_soft: Array
    kl_soft_tilted: Array
    kl_soft_base: Array
    kl_tilted_base: Array
    tv: Array
    chi2: Array
    win_rate: Array


class Tilt(NamedTuple):
    """What the metrics of every law compared with one tilted law share.

    Attributes:
      reward: E_{P*}[r].
      centered: `[K]` (r - E_{P*}[r])/2, since a difference of two rewards may overflow.
      probs: `[K]` P*.
      kl_base: KL(P*‖P).
    """

    reward: Array
    centered: Array
    probs: Array
    kl_base: Array


def tilt_metrics(terms: _soft.TiltedTerms) -> Tilt:
    """The `Tilt` of a `[K]` problem at one temperature."""
    p, pstar = jnp.exp(terms.log_probs), jnp.exp(terms.log_tilted)
    from_ref = terms.rewards / 2 - terms.rewards[jnp.argmax(pstar)] / 2
    # Not by P > 0: an outcome whose P underflows may have all of P*.
    log_w = jnp.where(terms.log_probs > -jnp.inf, terms.exponents - terms.log_mean, 0.0)
    _, kl_base = _divergences.both_ways(p, pstar, terms.excess, log_w)
    return Tilt(
        _divergences.mean(pstar, terms.rewards), from_ref - from_ref @ pstar, pstar, kl_base
    )


def soft_metrics(
    terms: _soft.TiltedTerms, tilt: Tilt, soft: _soft.SoftTerms, wins: Array, wide: bool
) -> Metrics:
    """Metrics of a law given by its ratios to P* and to P; `wide` as in `Plan`."""
    chex.assert_rank([soft.probs, tilt.probs, wins], 1)
    chex.assert_equal_shape([soft.probs, tilt.probs, terms.log_probs, wins])
    pstar, p = tilt.probs, jnp.exp(terms.log_probs)
    off = terms.log_probs == -jnp.inf
    log_ratio = jnp.where(off, 0.0, soft.log_ratio)
    q = soft.probs
    change = _divergences.change(pstar, q, soft.delta, log_ratio)
    kl_tilted_soft, kl_soft_tilted = _divergences.both_ways(pstar, q, soft.delta, log_ratio)
    _, kl_soft_base = _divergences.both_ways(
        p, q, soft.eta, jnp.where(off, 0.0, soft.log_base_ratio)
    )
    gap = -2 * (change @ tilt.centered)
    return Metrics(
        reward=_divergences.mean(q, terms.rewards),
        tilted_reward=tilt.reward,
        reward_gap=gap,
        relative_reward_gap=gap / tilt.reward,
        kl_tilted_soft=kl_tilted_soft,
        kl_soft_tilted=kl_soft_tilted,
        kl_soft_base=kl_soft_base,
        kl_tilted_base=tilt.kl_base,
        tv=jnp.sum(jnp.abs(change)) / 2,
        chi2=_divergences.chi2(terms.log_tilted, change, log_ratio, wide),
        win_rate=q @ wins,
    )


def hard_metrics(terms: _soft.TiltedTerms, hard: _rules.HardTerms, wins: Array) -> Metrics:
    """Metrics of a law at temperature 0 against P given the best reward, in closed form."""
    p = jnp.exp(terms.log_probs)
    q = p * jnp.exp(hard.log_base_ratio)
    # The mean under P given the best reward: a maximum would have slopes at impossible outcomes too.
    top = jax.lax.stop_gradient(jnp.max(terms.rewards))
    target = jnp.where(terms.rewards == top, p, 0.0)
    target = jax.lax.stop_gradient(target / jnp.sum(target))
    best = top + target @ jnp.where(target > 0, terms.rewards - top, 0.0)
    gap = 2 * (q @ (best / 2 - terms.rewards / 2))
    missed = hard.log_miss > -jnp.inf
    unbounded = jnp.where(missed, jnp.inf, 0.0).astype(q.dtype)
    _, kl_base = _divergences.both_ways(p, q, hard.eta, hard.log_base_ratio)
    return Metrics(
        reward=_divergences.mean(q, terms.rewards),
        tilted_reward=best,
        reward_gap=gap,
        relative_reward_gap=gap / best,
        kl_tilted_soft=-log_best(hard, terms.rewards),
        kl_soft_tilted=unbounded,
        kl_soft_base=kl_base,
        kl_tilted_base=-hard.log_top,
        tv=jnp.exp(hard.log_miss),
        chi2=unbounded,
        win_rate=q @ wins,
    )


def log_best(hard: _rules.HardTerms, rewards: Array) -> Array:
    """Log Pr(the hard rule selects the best reward), from itself or from 1 - Pr, the smaller one."""
    missed = hard.log_miss > -jnp.inf
    seldom = hard.log_miss > -math.log(2)
    log_hit = jnp.where(
        seldom,
        hard.log_base_ratio[jnp.argmax(rewards)] + hard.log_top,
        _special.log1mexp(jnp.where(missed & ~seldom, -hard.log_miss, 1.0)),
    )
    return jnp.where(missed, log_hit, 0.0)


def base_metrics(terms: _soft.TiltedTerms, wins: Array) -> Metrics:
    """Metrics of P against itself."""
    p = jnp.exp(terms.log_probs)
    reward, zero = _divergences.mean(p, terms.rewards), jnp.zeros((), p.dtype)
    return Metrics(
        reward=reward,
        tilted_reward=reward,
        reward_gap=zero,
        relative_reward_gap=zero,
        kl_tilted_soft=zero,
        kl_soft_tilted=zero,
        kl_soft_base=zero,
        kl_tilted_base=zero,
        tv=zero,
        chi2=zero,
        win_rate=p @ wins,
    )


# Temperatures 0 and inf --------------------------------------------------------------------------


class Target(NamedTuple):
    """The tilted law with its limits: P given the best reward at temperature 0, P at inf.

    Attributes:
      log_probs: `[K]` log P*.
      log_mean: log E_P[w]; log P(best reward) at temperature 0, and 0 at inf.
    """

    log_probs: Array
    log_mean: Array


def tilted_or_limit(terms: _soft.TiltedTerms, temperature: Array) -> Target:
    """The `Target` at a scalar temperature, of `terms` that hold in (0, inf) alone."""
    chex.assert_rank(temperature, 0)
    hard, base = temperature == 0, jnp.isposinf(temperature)
    best = terms.rewards == jnp.max(terms.rewards)
    log_best = jnp.where(best, terms.log_probs, -jnp.inf)
    log_top = jax.nn.logsumexp(log_best)
    limit = jnp.where(hard, log_best - log_top, terms.log_probs)
    log_mean = jnp.where(hard, log_top, jnp.where(base, 0.0, terms.log_mean))
    return Target(jnp.where(hard | base, limit, terms.log_tilted), log_mean)


def by_regime(temperature: Array, log_n: Array, soft: Any, hard: Any, base: Any) -> Any:
    """`hard` at temperature 0, `base` at inf, `soft` between; pytrees alike. NaN where n < 1."""
    chex.assert_rank([temperature, log_n], 0)
    regime = jnp.where(temperature == 0, 1, jnp.where(jnp.isposinf(temperature), 2, 0))
    chosen = jax.tree.map(lambda *x: jax.lax.select_n(regime, *x), soft, hard, base)
    return nan_below_one(log_n, chosen)


def nan_below_one(log_n: Array, results: Any) -> Any:
    """A pytree of results for n candidates, with NaN in its place where n < 1."""
    poison = jnp.where(log_n >= 0, 0.0, jnp.nan).astype(log_n.dtype)
    return jax.tree.map(lambda x: x + poison, results)
