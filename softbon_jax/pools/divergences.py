"""Divergences of soft best-of-n and of the tilted law, estimated from pools of scores alone."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax.pools import _common, _plug_in, _unbiased

Array = jax.Array

FEWEST_EFFECTIVE = 10.0
"""Estimates about the tilted law need pools with at least this `pool_effective_size`."""


class TiltedKl(NamedTuple):
    """A divergence of the tilted law P* in nats; `[..]` is `[T]` or empty, and M may be absent.

    Attributes:
      mean: `[.., M]` over all prompts whose pool has at least n candidates, those too small to tell
        included: they are the ones of large divergence, so to leave them out would be a bias. NaN
        where the harmonic mean of their effective sizes is below `FEWEST_EFFECTIVE`.
      standard_error: `[.., M]` of that mean, from the spread between prompts.
      per_prompt: `[prompts, .., M]` after the jackknife; NaN where the effective size of the pool is
        below `FEWEST_EFFECTIVE`.
      plug_in: `[prompts, .., M]` before, wherever n is not above the size of the pool.
    """

    mean: Array
    standard_error: Array
    per_prompt: Array
    plug_in: Array


class KlCurve(NamedTuple):
    """KL(P_n‖P) in nats against n, and the divergences of the tilted law; fields as in `Curve`.

    Attributes:
      mean: `[.., M]` of `per_prompt`.
      standard_error: `[.., M]`.
      per_prompt: `[prompts, .., M]` after the jackknife; may be slightly negative where KL is near 0.
      plug_in: `[prompts, .., M]` before: the KL of the empirical law, biased by O(1/N).
      prompts: `[M]`.
      tilted_soft: KL(P*‖P_n), `[.., M]`.
      tilted_base: KL(P*‖P), `[..]`: what KL(P_n‖P) tends to.
      effective_size: `[prompts, ..]`, `pool_effective_size`.
    """

    mean: Array
    standard_error: Array
    per_prompt: Array
    plug_in: Array
    prompts: Array
    tilted_soft: TiltedKl
    tilted_base: TiltedKl
    effective_size: Array


def pool_kl(
    rewards: Any, n: Any, temperature: Any, where: Any = None, *, nodes: int | None = None
) -> KlCurve:
    """KL(P_n‖P), KL(P*‖P_n) and KL(P*‖P) of soft best-of-n, estimated from rewards alone.

    The divergences of the empirical law (`plug_in`), and the same less their O(1/N) bias by leaving
    out every candidate in turn: N θ - (N-1) mean θ_{-i} (`per_prompt`).

    Args:
      rewards: `[prompts, N]` in the units of `temperature`.
      n: `[M]` or scalar, integers >= 1.
      temperature: `[T]` or scalar, at least 0, traced.
      where: `[prompts, N]` bool; False leaves a candidate out.
      nodes: as in `pool_curve`.

    Returns:
      `KlCurve` in the dtype of rewards, NaN where n is above a pool's size.

    Raises:
      ValueError: as `pool_curve`.

    Numerics: O(N² · nodes) a prompt, n and λ. What is left of the bias is O(1/N²) and grows with n. At
      λ = 0 and continuous rewards the plug-in of KL(P_n‖P) is no worse than that; ties count as one
      outcome.
    Of the tilted law: with W = P*/P the plug-in of K = KL(P*‖P) = E[W log W] is off by
      ((K + 1/2) CV² + K - E[W² log W])/N + O(1/N²), CV² = E[W²] - 1. At large n, KL(P*‖P_n) is
      Var_{P*}(W)/2n², a ratio of moments of W up to the third, so that its bias does not grow with n
      for ever, but is larger. Both are too low, and both are governed by the effective size
      N/(1 + CV²). The jackknife leaves an error of order 1/N², at least five times smaller for pools of
      32 normal rewards at λ = 1.5 (tests/test_pool.py); where few candidates are effective it is too
      low itself, hence `FEWEST_EFFECTIVE`. The size that a pool shows is too large where the true one
      is small, and no pool can tell of an outcome so rare and so good that it has not come up. The
      standard errors know nothing of the bias. At λ = 0 P* is P given the best reward,
      and the effective size the number of tied best.
    Source: the law is that of `log_soft_bon`; the jackknife is Quenouille's; the bias by the delta
      method, derived here.
    """
    pools, n, temperature = _common.arguments(rewards, n, temperature, None, where)
    log_n = np.log(n.max()) if isinstance(n, np.ndarray) else jnp.log(jnp.max(n))
    parts = [
        _kl(pools, n.reshape(-1), t, _common.rule_of(t), _common.kl_nodes(pools, log_n, t, nodes))
        for t in temperature.reshape(-1)
    ]
    base, tilted_soft = jax.tree.map(lambda *x: jnp.stack(x, 1), *parts)
    of_target = [_tilted_kl(pools, t, _common.rule_of(t)) for t in temperature.reshape(-1)]
    target = jax.tree.map(lambda *x: jnp.stack(x, 1), *of_target)
    effective = _effective_size(pools, temperature)
    curve = _common.curve_of(base.reduced, pools, n, temperature)
    plug_in = _common.curve_of(base.plain, pools, n, temperature).per_prompt
    return KlCurve(
        *curve[:3],
        plug_in,
        curve.prompts,
        _about_tilted(tilted_soft, effective, pools, n, temperature),
        _about_tilted(target, effective, pools, np.array(1), temperature),
        effective,
    )


def pool_effective_size(rewards: Any, temperature: Any, where: Any = None) -> Array:
    """How many of a prompt's N candidates carry the softmax weight: (Σw)²/Σw², w = e^{r/λ}.

    Divided by N it is the plug-in estimate of 1/(1 + CV²), and n times that the effective sample size
    of soft best-of-n: above it the KL from the tilted law falls as 1/n², below it not yet.

    Args:
      rewards: `[prompts, N]` in the units of `temperature`.
      temperature: `[T]` or scalar, at least 0, traced; at 0 the number of tied best, at inf N.
      where: `[prompts, N]` bool.

    Returns:
      `[prompts, T]` or `[prompts]`, between 1 and N.

    Raises:
      ValueError: as `pool_curve`.

    Source: Kish's effective sample size; 1 + CV² = E[w²]/E[w]².
    """
    pools, _, temperature = _common.arguments(rewards, 1, temperature, None, where)
    return _effective_size(pools, temperature)


# The compiled workers ----------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("rule", "nodes"))
def _kl(
    pools: _common.Pools, n: Any, temperature: Array, rule: str, nodes: int
) -> tuple[_plug_in.Reduced, _plug_in.Reduced]:
    """KL(P_n‖P) and KL(P*‖P_n), `[prompts, M]` at one temperature."""

    def one(pool: _unbiased.Pool, proper: Array, center: Array, n: Array) -> Any:
        nothing = (_plug_in.Reduced(jnp.zeros_like(n), jnp.zeros_like(n)),) * 2
        if rule == "base":
            return nothing
        hard = _plug_in.hard_kl(pool, n) if rule != "soft" else nothing
        if rule == "hard":
            return hard
        return _by_temperature(temperature, _plug_in.soft_kl(pool, n, proper, nodes), hard)

    return _common.over_prompts(one, pools, n, temperature, rule)


@partial(jax.jit, static_argnames=("rule",))
def _tilted_kl(pools: _common.Pools, temperature: Array, rule: str) -> _plug_in.Reduced:
    """KL(P*‖P), `[prompts, 1]` at one temperature."""

    def one(pool: _unbiased.Pool, proper: Array, center: Array, n: Array) -> Any:
        nothing = _plug_in.Reduced(jnp.zeros_like(center), jnp.zeros_like(center))
        if rule == "base":
            return nothing
        hard = _plug_in.tilted_kl(pool, None) if rule != "soft" else nothing
        if rule == "hard":
            return hard
        return _by_temperature(temperature, _plug_in.tilted_kl(pool, proper), hard)

    return _common.over_prompts(one, pools, jnp.ones(1), temperature, rule)


def _by_temperature(temperature: Array, soft: Any, hard: Any) -> Any:
    """`soft`; at temperature 0 `hard`, at inf 0."""
    usual = (temperature > 0) & (temperature < jnp.inf)
    return jax.tree.map(
        lambda s, h: jnp.where(usual, s, jnp.where(temperature == 0, h, 0.0)), soft, hard
    )


def _effective_size(pools: _common.Pools, temperature: Array) -> Array:
    masked = jnp.where(pools.where, pools.rewards, -jnp.inf)[:, None]
    below = masked - jnp.max(masked, axis=-1, keepdims=True)
    t = temperature.reshape(1, -1, 1)
    usual = (t > 0) & (t < jnp.inf)
    scaled = jnp.where(jnp.isfinite(below), below, 0.0) / jnp.where(usual, t, 1.0)
    limit = jnp.where(t == 0, (below == 0).astype(below.dtype), 1.0)
    w = jnp.where(jnp.isfinite(below), jnp.where(usual, jnp.exp(scaled), limit), 0.0)
    size = jnp.sum(w, -1) ** 2 / jnp.sum(w**2, -1)
    return size.reshape(len(pools.size), *temperature.shape)


def _about_tilted(
    parts: _plug_in.Reduced, effective: Array, pools: _common.Pools, n: Any, temperature: Array
) -> TiltedKl:
    """From `[prompts, T, M]`: NaN where the effective sizes `[prompts, ..]` are too small."""
    curve = _common.curve_of(parts.reduced, pools, n, temperature)
    plug_in = _common.curve_of(parts.plain, pools, n, temperature).per_prompt
    # Without selection all is known, however few the candidates.
    inverse = jnp.where(temperature == jnp.inf, 0.0, 1 / effective).reshape(len(effective), -1, 1)
    there = pools.size[:, None, None] >= jnp.asarray(n).astype(pools.size.dtype).reshape(1, 1, -1)
    kept = jnp.broadcast_to(there, parts.plain.shape)
    count = jnp.maximum(jnp.sum(kept, axis=0, dtype=inverse.dtype), 1)
    average = jnp.sum(jnp.where(kept, inverse, 0.0), axis=0) / count
    enough, each = (x * FEWEST_EFFECTIVE <= 1 for x in (average, inverse))
    each = jnp.broadcast_to(each, parts.plain.shape).reshape(curve.per_prompt.shape)
    mean, error = (
        jnp.where(enough.reshape(x.shape), x, jnp.nan) for x in (curve.mean, curve.standard_error)
    )
    return TiltedKl(mean, error, jnp.where(each, curve.per_prompt, jnp.nan), plug_in)
