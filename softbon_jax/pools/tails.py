"""The distribution of what soft best-of-n selects, from pools: quantiles and means of the worst."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from softbon_jax import _checks, _memory, _sharding
from softbon_jax.pools import _arguments, _sorted, _unbiased, _worker
from softbon_jax.pools.credits import WEIGHTS

Array = jax.Array


class Tail(NamedTuple):
    """The worst of what is selected; `[..]` is `[T]`, `[M]`, both or empty, then `[L]` levels.

    Attributes:
      quantile: `[.., L]` the smallest value that is not exceeded with at least that chance.
      low: `[.., L]` the end of its interval below; -inf where the prompts are too few to say.
      high: `[.., L]` the end above; inf likewise.
      mean_below: `[.., L]` the mean value of the worst share of this level (CVaR).
      standard_error: `[.., L]` of `mean_below`, from the spread between prompts; NaN for one prompt.
      prompts: `[M]` integers, how many prompts have at least n candidates.
    """

    quantile: Array
    low: Array
    high: Array
    mean_below: Array
    standard_error: Array
    prompts: Array


def pool_tail(
    rewards: Any,
    level: Any,
    n: Any,
    temperature: Any,
    *,
    values: Any = None,
    where: Any = None,
    confidence: Any = 0.95,
    nodes: int | None = None,
) -> Tail:
    """Quantiles of the value that soft best-of-n selects, and the mean of what is worse.

    A response to a prompt at random, selected by soft best-of-n, has a value of at most v with a chance
    F(v), which `pool_weights` estimates without bias at every v. The quantile is the smallest v with
    F(v) >= `level`, and the mean below is that of the worst share, E[V | the worst `level`]. Both are
    plug-in: they take the estimate of F for F. The chance to be below one bar v is
    `pool_curve` with values 1 where a value is at most v and 0 elsewhere, which is unbiased.

    Args:
      rewards: `[prompts, N]` scores that select, in the units of `temperature`, traced.
      level: `[L]` or scalar, strictly between 0 and 1, traced.
      n: `[M]` or scalar, integers >= 1, traced.
      temperature: `[T]` or scalar, at least 0, traced; 0 and inf as in `pool_curve`.
      values: `[prompts, N]` whose distribution is asked for, such as a gold score, traced; the
        rewards if None.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      confidence: scalar, strictly between 0 and 1, traced; of the interval of the quantile.
      nodes: static, as in `pool_curve`.

    Returns:
      `Tail` in the dtype of `pool_curve`, without the axis of a scalar.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`; a level or the confidence is not strictly between 0 and 1.

    Numerics: the weights are those of `pool_weights`. The interval inverts F ± z times its standard
      error over prompts; where `level` times the number of prompts is below about 10, neither it nor the
      standard error is to be trusted. Memory is O(T · M · prompts · N).
    Source: Woodruff, JASA 47 (1952), for the interval; the standard error is that of the mean of
      q + min(V - q, 0)/level at the quantile q, whose derivative by q is 0.

    Example:
      >>> scores = np.linspace(0, 1, 8)[None] + np.linspace(0, 2, 40)[:, None]
      >>> tail = sb.pool_tail(scores, [0.1, 0.5], 4, 0.1)
      >>> np.round(np.float64(tail.quantile), 2).tolist()
      [1.05, 1.87]
    """
    pools = _arguments.checked_pools(rewards, values, where)
    request = _arguments.checked(pools, n, temperature, nodes)
    level = _checks.inside_unit_interval("level", level, pools.dtype)
    _checks.scalar_or_vector("level", level)
    confidence = _checks.inside_unit_interval("confidence", confidence, pools.dtype)
    if confidence.ndim:
        raise ValueError(f"confidence must be a scalar, got shape {confidence.shape}")
    weights = _worker.for_each_candidate(request, WEIGHTS, _unbiased.work_for)
    shape = (*request.temperature.shape, *request.n.shape, *level.shape)
    return _tail(pools, weights, level, request.n, confidence, shape=shape)


@partial(jax.jit, static_argnames="shape")
def _tail(
    pools: _sorted.Pools,
    weights: Array,
    level: Array,
    n: Array,
    confidence: Array,
    *,
    shape: tuple[int, ...],
) -> Tail:
    pools, weights = _sharding.whole((pools, weights))  # quantiles are of all prompts together
    prompts, slots = pools.rewards.shape
    _memory.check(3 * _memory.size_of(weights) + 16 * _memory.size_of(pools.values))
    numbers = n.reshape(-1)
    size = jnp.sum(pools.where, axis=1, dtype=jnp.int32)
    enough = size[:, None] >= numbers.astype(size.dtype)[None]
    weights = weights.reshape(prompts, -1, numbers.size, slots)
    values = jnp.where(pools.where, pools.values.astype(pools.dtype), 0.0)
    order = jnp.argsort(values.reshape(-1))
    ranked = values.reshape(-1)[order]
    z = ndtri((1 + confidence) / 2)

    def at(one: tuple[Array, Array], level: Array) -> tuple[Array, ...]:
        """The tail for weights `[prompts, N]` of prompts that have enough candidates."""
        weights, kept = one
        count = jnp.sum(kept, dtype=weights.dtype)
        usable = jnp.where(kept[:, None], weights, 0.0)
        share = usable.reshape(-1)[order] / count
        chance = jnp.cumsum(share)
        place = jnp.searchsorted(chance, level * (1 - 4 * jnp.finfo(chance.dtype).eps))
        quantile = ranked[jnp.minimum(place, ranked.size - 1)]
        below = jnp.where(kept, jnp.sum(jnp.where(values <= quantile, usable, 0.0), axis=1), 0.0)
        wide = z * _error(below, kept, count)
        low, high = (jnp.searchsorted(chance, level + s * wide) for s in (-1.0, 1.0))
        top = ranked.size - 1
        low = jnp.where(level - wide <= 0, -jnp.inf, ranked[jnp.minimum(low, top)])
        high = jnp.where(level + wide >= 1, jnp.inf, ranked[jnp.minimum(high, top)])
        short = jnp.sum(usable * jnp.minimum(values - quantile, 0.0), axis=1) / level
        mean = quantile + jnp.sum(short) / count
        bad = jnp.isnan(share).any() | (count < 1) | jnp.isnan(level)
        poison = jnp.where(bad, jnp.nan, 0.0)
        low, high = (jnp.where(jnp.isnan(z), jnp.nan, x) for x in (low, high))
        error = jnp.where(count > 1, _error(short, kept, count), jnp.nan)
        return tuple(x + poison for x in (quantile, low, high, mean, error))

    def of_levels(one: tuple[Array, Array]) -> tuple[Array, ...]:
        return jax.lax.map(partial(at, one), level.reshape(-1))

    cells = jnp.moveaxis(weights, 0, 2).reshape(-1, prompts, slots)
    kept = jnp.tile(enough.T, (len(cells) // numbers.size, 1))
    found = jax.lax.map(of_levels, (cells, kept))
    count = jnp.sum(enough, axis=0)
    quantile, low, high, mean, error = (x.reshape(shape) for x in found)
    return Tail(quantile, low, high, mean, error, count.reshape(n.shape))


def _error(each: Array, kept: Array, count: Array) -> Array:
    """The standard error of the mean over the prompts that are kept."""
    mean = jnp.sum(jnp.where(kept, each, 0.0)) / count
    off = jnp.where(kept, each - mean, 0.0)
    return jnp.sqrt(jnp.sum(off**2) / jnp.maximum(count - 1, 1) / count)
