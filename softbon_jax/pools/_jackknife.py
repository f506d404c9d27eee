"""The divergences of the empirical law of one pool, and these less their bias by the jackknife.

With ρ = P_n/P and W = P*/P on the candidates, all three divergences are means over the candidates:
KL(P_n‖P) of ρ log ρ, KL(P*‖P) of W log W, KL(P*‖P_n) of W log(W/ρ). The jackknife sums what changes in
them over all pairs of a candidate left out, a row, and another one, a column. For soft best-of-n
see `_soft_kl`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _special
from softbon_jax.pools import _sorted
from softbon_jax.pools._sorted import Pool

Array = jax.Array


class Divergence(NamedTuple):
    """A divergence of the empirical law, and the same less its bias by the jackknife; one shape."""

    plug_in: Array
    jackknifed: Array


class Selected(NamedTuple):
    """KL(P_n‖P) and KL(P*‖P_n)."""

    soft_base: Divergence
    tilted_soft: Divergence


class Sums(NamedTuple):
    """Of the terms of a divergence over columns, and of what rows change in them over pairs."""

    whole: Array
    changes: Array


# The terms ---------------------------------------------------------------------------------------


def divergence(sums: Sums, size: Array) -> Divergence:
    """Quenouille's N θ - (N-1) mean θ_{-i}, which is θ less the sum of changes divided by N."""
    whole = sums.whole / size
    return Divergence(whole, whole - sums.changes / size)


class Tilts(NamedTuple):
    """W of the whole pool `[C]` and W' of its parts `[R, C]`; the log of 0 is 0."""

    whole: Array
    log_whole: Array
    parts: Array
    log_parts: Array


def of_terms(
    ratio: Array, change: Array, tilts: Tilts, loss: Array, weight: Array, count: Array
) -> tuple[Sums, Sums]:
    """Sums `[M]` for KL(P_n‖P) and KL(P*‖P_n), from ρ `[M, C]` and d `[M, R, C]`.

    Columns are weighted by `count` `[C]` and pairs by `weight` `[R, C]`. Without a row, ρ is ρ (1 + d)
    and W is W' with W = W' (1 + e). With k(d) = (1+d) log(1+d) - d, what this adds to ρ log ρ - ρ + 1 is
    ρ d log ρ + ρ k(d), and to W log(W/ρ) - W + ρ

      (ρ - W) d + W (d - log(1+d)) - W' k(e) - W' e log(W'/ρ (1+d)).

    Computed so, the jackknife does not multiply rounding errors by N.
    """
    known = ratio > 0
    log_ratio = jnp.log(jnp.where(known, ratio, 1.0))
    of_loss = _special.ratio_log_ratio(loss, jnp.log1p(jnp.where(loss > -1, loss, 0.0)))
    excess = _special.excess(change)  # d - log(1+d); k(d) is d² less 1+d times it
    to_base = ratio[:, None] * (change * (log_ratio[:, None] + change) - (1 + change) * excess)
    whole, lost = tilts.whole[None], jnp.where(known[:, None], (tilts.parts * loss)[None], 0.0)
    log_excess = tilts.log_parts[None] - log_ratio[:, None] - change
    from_tilted = (whole[:, None] - lost) * excess + (ratio - whole)[:, None] * change
    from_tilted = from_tilted - lost * log_excess
    of_no_n = jnp.sum(jnp.where(weight != 0, weight * (tilts.parts * of_loss), 0.0))

    def sums(terms: Array, changes: Array, less: Any) -> Sums:
        changes = jnp.where(weight[None] != 0, weight[None] * changes, 0.0)
        over_columns = changes.reshape(-1, count.size) @ jnp.ones_like(count)  # faster than a sum
        changes = jnp.sum(over_columns.reshape(len(terms), -1), axis=1) - less
        return Sums(jnp.sum(jnp.where(count[None] != 0, count[None] * terms, 0.0), axis=1), changes)

    return (
        sums(_to_base(ratio, log_ratio), to_base, 0.0),
        sums(_from_tilted(ratio, log_ratio, whole, tilts.log_whole[None]), from_tilted, of_no_n),
    )


# As `exact.both_ways`, but with uniform P.


def _to_base(ratio: Array, log_ratio: Array) -> Array:
    """ρ log ρ - ρ + 1, at least 0."""
    near = jnp.abs(ratio - 1) < 0.5
    delta = jnp.where(near, ratio - 1, 0.0)
    close = _special.ratio_log_ratio(delta, log_ratio)
    far = jnp.where(ratio > 0, ratio * log_ratio, 0.0) - ratio + 1
    return jnp.where(near, close, far)


def _from_tilted(ratio: Array, log_ratio: Array, tilt: Array, log_tilt: Array) -> Array:
    """W log(W/ρ) - W + ρ, at least 0."""
    known = (ratio > 0) & (tilt > 0)
    log_excess = jnp.where(known, log_ratio - log_tilt, 0.0)
    # ρ/W near 1: by ρ/W - 1, which keeps the digits; else by logarithms, which do not overflow.
    near = known & (jnp.abs(log_excess) < _special.NEAR)
    delta = jnp.where(near, ratio, 1.0) / jnp.where(near, tilt, 1.0) - 1
    close = tilt * _special.ratio_minus_log(delta, log_excess)
    far = ratio - tilt - jnp.where(known, tilt * log_excess, 0.0)
    return jnp.where(near, close, far)


# The tilted law ----------------------------------------------------------------------------------


def soft_tilted_kl(pool: Pool, temperature: Array) -> Divergence:
    """KL(P*‖P), scalars, for a temperature in (0, inf).

    Without candidate i, W is W g with g = (N-1)/(N - W_i), and a term is k(Wg) = g k(W) + W k(g) plus
    (1-g)(1-W), whose mean is 0; k(x) = x log x - x + 1.
    """
    size, present = pool.float_size, pool.present
    tilt, log_tilt = _tilt(pool.rewards, present, size, temperature)
    whole = jnp.sum(jnp.where(present, _to_base(tilt, log_tilt), 0.0)) / size
    # Without the best candidate, which may have all the weight, anew.
    others, fewer = present.at[0].set(False), jnp.maximum(size - 1, 1)
    tilt_of_others, log_tilt_of_others = _tilt(pool.rewards, others, fewer, temperature)
    terms = _to_base(tilt_of_others, log_tilt_of_others)
    without_best = jnp.sum(jnp.where(others, terms - whole, 0.0))
    rest = jnp.where(others, size - tilt, size)
    excess = jnp.where(others, (tilt - 1) / rest, 0.0)
    log_factor = jnp.log1p(excess)
    of_factor = _special.ratio_log_ratio(excess, log_factor)
    own = _to_base(tilt * (1 + excess), log_tilt + log_factor)
    without = size * (excess * whole + of_factor) - own + whole
    bias = (without_best + jnp.sum(jnp.where(others, without, 0.0))) / size
    return Divergence(whole, whole - bias)


def _tilt(rewards: Array, members: Array, size: Array, temperature: Array) -> tuple[Array, Array]:
    """W and log W for the members of sorted rewards, 1 and 0 for the others."""
    below = (rewards - rewards[jnp.argmax(members)]) / temperature
    total = jnp.sum(jnp.where(members, jnp.exp(jnp.where(members, below, 0.0)), 0.0))
    log_tilt = jnp.where(members, below - jnp.log(jnp.where(total > 0, total / size, 1.0)), 0.0)
    return jnp.exp(log_tilt), log_tilt


def hard_tilted_kl(pool: Pool) -> Divergence:
    """KL(P*‖P), scalars, at temperature 0: P* is P given the best reward."""
    size, (first, second) = pool.float_size, _best_two(pool)
    whole = jnp.log(size / first)
    left = jnp.where(first > 1, first - 1, second)
    changes = size * jnp.log1p(-1 / jnp.maximum(size, 2)) + first * jnp.log(first / left)
    bias = jnp.where(size > 1, (size - 1) * changes / size, 0.0)
    return Divergence(whole, whole - bias)


def _best_two(pool: Pool) -> tuple[Array, Array]:
    """How many candidates are tied for the best, and how many for the best of the others, at least 1."""
    _, tied = _sorted.ranks(pool)
    first = tied[0]
    second = tied[jnp.minimum(first.astype(jnp.int32), tied.size - 1)]
    return first, jnp.maximum(second, 1.0)


# Hard best-of-n ----------------------------------------------------------------------------------


def hard_kl(pool: Pool, n: Array) -> Selected:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, for hard best-of-n; P* is P given the best reward.

    Tied candidates are one outcome. To a candidate it only matters whether the one left out is worse,
    tied with it, better, or the only best.
    """
    size, dtype = pool.float_size, pool.rewards.dtype
    fewer, present = jnp.maximum(size - 1, 1), pool.present.astype(dtype)
    below, tied = _sorted.ranks(pool)
    first, second = _best_two(pool)
    upto, none = below + tied, jnp.zeros_like(below)
    best = (pool.rewards == pool.rewards[0]).astype(dtype)
    next_best = ((upto == size - 1) & (first == 1)).astype(dtype)
    lone = jnp.where(first == 1, 1 - best, none)
    weight = jnp.stack([below, tied - 1, size - upto - lone, lone]) * present[None]
    # Logs of what leaving one out does to the ratios that ρ is made of; 0 where the weight is 0.
    shrunk = jnp.log1p(-1 / jnp.maximum(size, 2))
    rank = jnp.where(upto > 1, jnp.log1p(-1 / jnp.maximum(upto, 2)), 0.0)
    gap = tied / (jnp.maximum(below, 1) * jnp.maximum(upto - 1, 1))
    gap = jnp.where(gap < 1, jnp.log1p(-jnp.where(gap < 1, gap, 0.0)), -jnp.inf)
    of_rank = jnp.stack([rank, rank, none, none]) - shrunk
    of_gap = jnp.stack([gap, -rank, none, none])
    of_share = jnp.where(tied > 1, jnp.log1p(-1 / jnp.maximum(tied, 2)), 0.0)
    of_share = shrunk - jnp.stack([none, of_share, none, none])
    fewer_best = fewer / jnp.maximum(first - 1, 1)
    tilt = jnp.stack([best * fewer / first, best * fewer_best, none, next_best * fewer / second])
    whole_tilt = best * size / first
    logs = (jnp.log(jnp.where(x > 0, x, 1.0)) for x in (whole_tilt, tilt))
    tilts = Tilts(whole_tilt, next(logs), tilt, next(logs))
    loss = jnp.where(tilt > 0, whole_tilt[None] / jnp.where(tilt > 0, tilt, 1.0) - 1, 0.0)

    def at_n(n: Array) -> tuple[Sums, Sums]:
        # ρ = ((b+m)/N)ⁿ (1 - (b/(b+m))ⁿ) N/m for m tied candidates and b worse ones.
        log_others = n * jnp.log1p(-tied / upto)
        share = -jnp.expm1(log_others)
        ratio = jnp.exp(n * jnp.log(upto / size)) * share * size / tied
        others, power = jnp.exp(log_others)[None], n * of_gap
        # What is gained by the worse ones; the second form of it may overflow at large powers.
        gain = jnp.where(
            power > 1,
            jnp.exp(log_others[None] + power) - others,
            others * jnp.expm1(jnp.minimum(power, 1.0)),
        )
        change = jnp.expm1(n * of_rank + jnp.log1p(-gain / share[None]) + of_share)
        sums = of_terms(ratio[None], change[None], tilts, loss, weight, present)
        return jax.tree.map(lambda x: x[0], sums)

    return Selected(*(divergence(x, size) for x in jax.lax.map(at_n, n)))


def base_kl(pool: Pool, n: Array) -> Selected:
    """KL(P_n‖P) and KL(P*‖P_n), each `[M]`, without selection."""
    nothing = Divergence(jnp.zeros_like(n), jnp.zeros_like(n))
    return Selected(nothing, nothing)
