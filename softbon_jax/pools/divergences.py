"""Divergences of soft best-of-n and of the tilted law, estimated from pools of scores alone."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _batching, _checks, _memory
from softbon_jax.pools import _arguments, _blocks, _grid, _jackknife, _soft_kl, _sorted, _worker

Array = jax.Array

FEWEST_EFFECTIVE = 10.0
"""Estimates about the tilted law need pools with at least this `pool_effective_size`."""


class TiltedKl(NamedTuple):
    """A divergence of the tilted law P* in nats; `[..]` is `[T]` or empty, and M may be absent.

    Attributes:
      mean: `[.., M]` over all prompts whose pool has at least n candidates, those with too small an
        effective size included: their divergences are the large ones, so that leaving them out would
        be a bias. NaN where the harmonic mean of the effective sizes is below `FEWEST_EFFECTIVE`.
      standard_error: `[.., M]` of that mean, from the spread between prompts.
      per_prompt: `[prompts, .., M]` after the jackknife; NaN where the effective size of the pool is
        below `FEWEST_EFFECTIVE`.
      plug_in: `[prompts, .., M]` before the jackknife, wherever n is not above the pool's size.
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
      kl_tilted_soft: KL(P*‖P_n), `[.., M]`.
      kl_tilted_base: KL(P*‖P), `[..]`: the limit of KL(P_n‖P) for large n.
      effective_size: `[prompts, ..]`, `pool_effective_size`.
    """

    mean: Array
    standard_error: Array
    per_prompt: Array
    plug_in: Array
    prompts: Array
    kl_tilted_soft: TiltedKl
    kl_tilted_base: TiltedKl
    effective_size: Array

    @property
    def tilted_soft(self) -> TiltedKl:
        """The old name of `kl_tilted_soft`."""
        return self.kl_tilted_soft

    @property
    def tilted_base(self) -> TiltedKl:
        """The old name of `kl_tilted_base`."""
        return self.kl_tilted_base


@_checks.keyword_only("where")
def pool_kl(
    rewards: Any, n: Any, temperature: Any, *, where: Any = None, nodes: int | None = None
) -> KlCurve:
    """KL(P_n‖P), KL(P*‖P_n) and KL(P*‖P) of soft best-of-n, estimated from rewards alone.

    The divergences of the empirical law (`plug_in`), and the same less their O(1/N) bias by leaving
    out every candidate in turn: N θ - (N-1) mean θ_{-i} (`per_prompt`).

    Args:
      rewards: `[prompts, N]` in the units of `temperature`, traced.
      n: `[M]` or scalar, integers >= 1, traced.
      temperature: `[T]` or scalar, at least 0, traced.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.

    Returns:
      `KlCurve` in the dtype of rewards, at least float32; NaN where n is above a pool's size.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`.

    Numerics: O(N · nodes) a prompt and λ and, with K points, O(K² · nodes) for every n besides; O(N) at
      λ = 0. Up to 512 slots the points are the candidates. In larger pools they are Chebyshev nodes in
      r/λ wherever candidates are dense, so that K is at most N and about 7 range/λ, whatever N is;
      points whose weights are a factor of 1e17 apart do not meet. Only a λ far below the gaps between
      the scores of a large pool is slow; λ = 0 is its limit. Memory is that of blocks of 256 points.
      Relative error below 1e-11 in float64, 1e-6 + 1e-7 n in float32 (tests/test_pool_kl.py, against
      all N pools of N - 1 candidates by brute force); the jackknife does not multiply it by N. Traced
      rewards in more than 512 slots have at most 4 · nodes points; NaN if these are too few.
    The remaining bias is O(1/N²) and grows with n. At λ = 0 and continuous rewards the plug-in estimate
      of KL(P_n‖P) is as good; ties count as one outcome.
    Of the tilted law: with W = P*/P the plug-in estimate of K = KL(P*‖P) = E[W log W] is off by
      ((K + 1/2) CV² + K - E[W² log W])/N + O(1/N²), CV² = E[W²] - 1. At large n, KL(P*‖P_n) is
      Var_{P*}(W)/2n², a ratio of moments of W up to the third, so that its bias stops growing with n,
      but is larger. Both estimates are too low, and the error of both is governed by the effective
      size N/(1 + CV²). The jackknife leaves an error of order 1/N², at least five times smaller for
      pools of 32 normal rewards at λ = 1.5 (tests/test_pool_kl.py); where few candidates are effective
      it is too low itself, hence `FEWEST_EFFECTIVE`. Where the true effective size is small, that of
      the pool overstates it. A pool cannot reveal an outcome it never sampled; the standard errors
      exclude this bias. At λ = 0, P* is P given the best reward, and the effective size is the number
      of candidates tied for it.
    Source: the law is that of `log_soft_bon`; the jackknife is Quenouille's; the bias by the delta
      method and the points for candidates, derived here.

    Example:
      >>> scores = np.linspace(-2, 2, 24)[None] + np.array([[0.0], [1.0]])
      >>> kl = sb.pool_kl(scores, n=[1, 4, 16], temperature=2.0)
      >>> np.round(np.float64(kl.mean), 3).tolist()
      [0.0, 0.093, 0.15]
      >>> round(float(kl.kl_tilted_base.mean), 3)
      0.17
    """
    pools = _arguments.checked_pools(rewards, None, where)
    request = _arguments.checked(pools, n, temperature, nodes, averaged=False)
    groups, members = _grid.grouped(request.temperature, partial(_soft_kl.work_for, request))
    fewest = np.asarray(FEWEST_EFFECTIVE, pools.dtype)
    rows, shared = (request.pools, request.order), (request.n, request.temperature)
    if not _blocks.can_be_cut(rows):
        return _kl_curve(rows, *shared, members, fewest, groups=groups)
    per_pool = _blocks.in_blocks(_per_pool, rows, *shared, members, groups=groups)
    return _over_pools(per_pool, request.pools, *shared, fewest)


@_checks.keyword_only("where")
def pool_effective_size(rewards: Any, temperature: Any, *, where: Any = None) -> Array:
    """How many of a prompt's N candidates carry the softmax weight: (Σw)²/Σw², w = e^{r/λ}.

    Divided by N it estimates 1/(1 + CV²), where 1 + CV² belongs to the bound
    KL(P*‖P_n) <= log(1 + CV²/n). It does not say from where on KL(P*‖P_n) falls as 1/n²: that asks for
    n ≫ max w/mean w, which can be far larger than 1 + CV².

    Args:
      rewards: `[prompts, N]` in the units of `temperature`, traced.
      temperature: `[T]` or scalar, at least 0, traced; at 0 the number of tied best, at inf N.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.

    Returns:
      `[prompts, T]` or `[prompts]`, between 1 and N, in the dtype of rewards, at least float32; NaN for
      a traced temperature that is negative or NaN.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`.

    Numerics: as an estimate of N/(1 + CV²) it is too large where that is small, because the pool
      lacks the rare outcomes of large weight.
    Source: Kish's effective sample size; 1 + CV² = E[w²]/E[w]². Rate of the bound: arXiv:2505.03156;
      its form and the regime of 1/n²: derived here.

    Example:
      >>> scores = np.array([[0.0, 1.0, 1.0, -1.0]])
      >>> np.round(np.float64(sb.pool_effective_size(scores, [0.0, 0.5, np.inf])), 3).tolist()
      [[2.0, 2.298, 4.0]]
    """
    pools = _arguments.checked_pools(rewards, None, where)
    request = _arguments.checked(pools, 1, temperature, None, averaged=False)
    return _effective_size(request.pools, request.temperature)


# The compiled workers ----------------------------------------------------------------------------

SELECTED = _grid.Kernel(_soft_kl.soft_kl, _jackknife.hard_kl, _jackknife.base_kl, _soft_kl.elements)
TILTED = _grid.Kernel(
    lambda pool, n, temperature, work: _jackknife.soft_tilted_kl(pool, temperature),
    lambda pool, n: _jackknife.hard_tilted_kl(pool),
    lambda pool, n: _jackknife.base_kl(pool, n).tilted_soft,
    lambda slots, count, work: 32 * slots,
)


@partial(jax.jit, static_argnames="groups")
def _per_pool(
    rows: _worker.Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    *,
    groups: tuple[_grid.Group, ...],
) -> tuple[_jackknife.Selected, _jackknife.Divergence]:
    dtype = rows[0].dtype

    def prompt(
        unsorted: _worker.Unsorted, number: Array, one: Array, temperature: Array
    ) -> tuple[Any, Any]:
        pool = _sorted.sorted_pool(*unsorted)
        at = partial(_grid.over_grid, groups=groups, members=members, pool=pool)
        selected = at(SELECTED, n=number, temperature=temperature)
        return selected, at(TILTED, n=one, temperature=temperature)

    elements = _grid.elements(SELECTED, groups, rows[0].rewards.shape[1], n.size)
    shared = (n.astype(dtype), jnp.ones((), dtype), temperature)
    return _batching.each_row(prompt, rows, *shared, elements=elements, dtype=dtype)


@jax.jit
def _over_pools(
    per_pool: tuple[_jackknife.Selected, _jackknife.Divergence],
    pools: _sorted.Pools,
    n: Array,
    temperature: Array,
    fewest: Array,
) -> KlCurve:
    selected, tilted = per_pool
    size = jnp.sum(pools.where, axis=1, dtype=jnp.int32)
    effective = _effective_size(pools, temperature)
    base = selected.soft_base
    curve = _grid.curve_of(base.jackknifed, size, n, temperature)
    one = jnp.ones((), pools.dtype)
    return KlCurve(
        *curve[:3],
        base.plug_in.reshape(curve.per_prompt.shape),
        curve.prompts,
        _about_tilted(selected.tilted_soft, size, n, temperature, effective, fewest),
        _about_tilted(tilted, size, one, temperature, effective, fewest),
        effective,
    )


@partial(jax.jit, static_argnames="groups")
def _kl_curve(
    rows: _worker.Unsorted,
    n: Array,
    temperature: Array,
    members: _grid.Members,
    fewest: Array,
    *,
    groups: tuple[_grid.Group, ...],
) -> KlCurve:
    """Both in one program."""
    per_pool = _per_pool(rows, n, temperature, members, groups=groups)
    return _over_pools(per_pool, rows[0], n, temperature, fewest)


def _about_tilted(
    kl: _jackknife.Divergence,
    size: Array,
    n: Array,
    temperature: Array,
    effective: Array,
    fewest: Array,
) -> TiltedKl:
    """From `[prompts, T, M]`: NaN where the effective sizes `[prompts, ..]` are too small."""
    curve = _grid.curve_of(kl.jackknifed, size, n, temperature)
    # Without selection all is known, however few the candidates.
    inverse = jnp.where(temperature == jnp.inf, 0.0, 1 / effective).reshape(len(effective), -1, 1)
    large_enough = size[:, None, None] >= n.astype(size.dtype).reshape(1, 1, -1)
    kept = jnp.broadcast_to(large_enough, kl.plug_in.shape)
    count = jnp.maximum(jnp.sum(kept, axis=0, dtype=inverse.dtype), 1)
    average = jnp.sum(jnp.where(kept, inverse, 0.0), axis=0) / count
    enough, each = (x * fewest <= 1 for x in (average, inverse))
    shape = curve.per_prompt.shape
    each = jnp.broadcast_to(each, kl.plug_in.shape).reshape(shape)
    mean, error = (
        jnp.where(enough.reshape(x.shape), x, jnp.nan) for x in (curve.mean, curve.standard_error)
    )
    per_prompt = jnp.where(each, curve.per_prompt, jnp.nan)
    return TiltedKl(mean, error, per_prompt, kl.plug_in.reshape(shape))


@jax.jit
def _effective_size(pools: _sorted.Pools, temperature: Array) -> Array:
    """`[prompts, ..]`."""
    rewards = pools.rewards.astype(pools.dtype)
    _memory.check(4 * _memory.size_of(rewards) * temperature.size)
    masked = jnp.where(pools.where, rewards, -jnp.inf)[:, None]
    below = masked - jnp.max(masked, axis=-1, keepdims=True)
    t = temperature.reshape(1, -1, 1)
    between = (t > 0) & (t < jnp.inf)
    scaled = jnp.where(jnp.isfinite(below), below, 0.0) / jnp.where(between, t, 1.0)
    limit = jnp.where(t == 0, (below == 0).astype(below.dtype), 1.0)
    w = jnp.where(jnp.isfinite(below), jnp.where(between, jnp.exp(scaled), limit), 0.0)
    size = jnp.sum(w, -1) ** 2 / jnp.sum(w**2, -1)
    known = (jnp.isfinite(rewards) | ~pools.where).all(-1, keepdims=True) & (t[..., 0] >= 0)
    size = jnp.where(known, size, jnp.nan)
    return size.reshape(len(rewards), *temperature.shape)
