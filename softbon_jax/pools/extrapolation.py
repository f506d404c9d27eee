"""Beyond the pool: a model of the tail of each pool, and curves at more draws than were made."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _memory
from softbon_jax.pools import _arguments, _sorted, _threshold

Array = jax.Array

WIDEST = 0.25
"""A tail index is resolved if half its interval is at most this."""

TWO_SIDED = 1.96
"""Standard errors in half of an interval that decides on it."""

FEWEST_PROMPTS = 10
"""Fewer have no bootstrap to speak of."""

MOST_TIED = 0.05
"""The largest share of tied draws above the thresholds of a continuous tail."""

MISFIT = 2.58
"""Standard errors by which the third L-moment may miss that of the fitted tail: 1 in 100 does."""

DEGREE = 4
"""Of the polynomial in ξ that stands for the curve within a few standard errors of ξ."""


class Extrapolated(NamedTuple):
    """A model's curve; `[..]` is `[T]` or empty, and M may be absent. NaN where it is not resolved.

    Attributes:
      mean: `[.., M]` over prompts.
      low: `[.., M]` the end of its bootstrap interval below.
      high: `[.., M]` the end above.
      per_prompt: `[prompts, .., M]`.
      tail_index: scalar, ξ: below 0 the tail is bounded, at 0 exponential, above 0 a power.
      tail_index_error: scalar, its standard error.
      exceedances: `[prompts]` integers, how many draws the tail of each pool is fitted to.
      resolved: whether the model can be used.
      reason: why it cannot; empty where it can.
    """

    mean: Array
    low: Array
    high: Array
    per_prompt: Array
    tail_index: Array
    tail_index_error: Array
    exceedances: Array
    resolved: bool
    reason: str


def extrapolate_curve(
    key: Array,
    rewards: Any,
    n: Any,
    temperature: Any,
    *,
    where: Any = None,
    exceedances: int | None = None,
    shared: bool = True,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Extrapolated:
    """The expected reward of soft best-of-n at any n, also above the size of the pools: a model.

    Up to n = N use `pool_curve`, which assumes nothing. Here the k largest of each pool's N
    draws are replaced by a generalized-Pareto law of the excess over the next one, which gives half of
    its mass to it. The reward of what is selected is exact for that law; what it is worth beyond N
    depends on whether the tail goes on as it begins.

    Args:
      key: one typed PRNG key, static; of the bootstrap.
      rewards: `[prompts, N]` scores that select and are averaged, static.
      n: `[M]` or scalar, real numbers >= 1, static.
      temperature: `[T]` or scalar, at least 0, in reward units, static; 0 and inf as in `pool_curve`.
      where: bool, broadcasts against rewards, static; False leaves a candidate out.
      exceedances: static k >= 3, the same for all pools. Default: the square root of the size of the
        pool, at least 4. Larger is less noisy, and more biased where the tail is not one yet.
      shared: static. One index ξ for all prompts, each with a scale of its own; or one for each, which
        takes pools of many thousands.
      confidence: static, strictly between 0 and 1; of the intervals.
      resamples: static, of the bootstrap.

    Returns:
      `Extrapolated` in the default float dtype, without the axis of a scalar n or temperature.
      `resolved` is False, with a `reason`, and all of the curve NaN where half the 95% interval of ξ is
      above 0.25; where it reaches 1/2, so that excesses may have no variance; where the third L-moment
      is not that of a generalized-Pareto law; for draws that tie in the tail; for under 10 prompts.

    Raises:
      TypeError: an argument is traced or not real, or `key` is not a typed key.
      ValueError: shapes do not match, rewards that are not finite where they count, a pool with k
        candidates or fewer, n below 1, a negative temperature or one above 0 that is too low for
        16,384 nodes over the range of rewards, options out of range.

    Numerics: all of it runs on the host, the curve at 5 values of ξ; its quadrature is good to about
      1e-5 of the gain. The bootstrap resamples prompts with their pools, which carries the chance of
      the responses with it, and fits ξ anew. How often its intervals hold the truth at n = 4N is
      measured by the experiment `beyond`, for generalized-Pareto tails and for others.
    Source: peaks over a threshold (Pickands, Ann. Statist. 3, 1975); the estimates of ξ and σ are
      those of Hosking and Wallis, Technometrics 29 (1987), from sums over the pools, so that small
      pools do not bias them; the rest derived here.

    Example:
      >>> scores = np.random.default_rng(0).exponential(size=(200, 16))
      >>> model = sb.extrapolate_curve(jax.random.key(0), scores, [16, 64], 0.0)
      >>> model.resolved, abs(float(model.tail_index)) < 0.2
      (True, True)
      >>> bool(model.low[1] < np.sum(1 / np.arange(1, 65)) < model.high[1])
      True
    """
    _checks.key(key)
    if not isinstance(shared, bool):
        raise TypeError(f"shared must be True or False, got {_checks.shown(shared)}")
    given = {"key": key, "rewards": rewards, "n": n, "temperature": temperature, "where": where}
    for name, x in given.items():
        if isinstance(x, jax.core.Tracer):
            raise TypeError(f"{name} must be concrete, got a traced one")
    pools = _arguments.checked_pools(rewards, None, where)
    if 0 in pools.rewards.shape:
        raise ValueError(f"rewards must not be empty, got shape {pools.rewards.shape}")
    kept, scores = np.asarray(pools.where), np.asarray(pools.rewards, np.float64)
    _checks.offending("rewards", scores, kept & ~np.isfinite(scores), "finite where they count")
    size = kept.sum(1)
    if exceedances is None:
        count = _threshold.default_count(size)
    else:
        count = np.full(len(size), _checks.positive_integer("exceedances", exceedances, least=3))
    _checks.offending(
        "the number of candidates in a pool", size, size <= count, "above exceedances"
    )
    numbers = _checks.finite_at_least("n", n, 1.0, np.float64 if _wide() else None)
    lambdas = _checks.temperature(temperature, numbers.dtype)
    _checks.scalar_or_vector("n", numbers)
    _checks.scalar_or_vector("temperature", lambdas)
    level = float(_checks.inside_unit_interval("confidence", confidence))
    resamples = _checks.positive_integer("resamples", resamples)
    _, scores = _sorted.sorted_rewards(np, np.where(kept, scores, 0.0), kept)
    fit = _threshold.excesses(scores, count)
    index, error, reason = _resolved(fit) if shared else _resolved_apart(fit)
    shape = (*lambdas.shape, *numbers.shape)
    each_n, each_lambda = (np.asarray(x, np.float64).reshape(-1) for x in (numbers, lambdas))
    cells = each_n.size * each_lambda.size * (DEGREE + 1)
    _memory.check(8 * cells * (3 * size.size + 2 * resamples))
    if reason:
        per_prompt = np.full((len(size), *shape), np.nan)
        ends = np.full((2, *shape), np.nan)
    else:
        around = index + 4 * error * np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
        at = [np.full(len(size), x) for x in around]
        if not shared:
            around, at = np.zeros(1), [_threshold.index_of(*fit.moments[:2])]
        curves = np.stack([_curve(scores, size, fit, x, each_n, each_lambda) for x in at])
        per_prompt = curves[DEGREE // 2 if shared else 0].reshape(len(size), *shape)
        drawn = _bootstrap(key, fit, curves, around, resamples)
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0).reshape(2, *shape)
    arrays = (per_prompt.mean(0), *ends, per_prompt, np.asarray(index), np.asarray(error))
    mean, low, high, each, of_tail, of_error = (jnp.asarray(x, numbers.dtype) for x in arrays)
    found = (mean, low, high, each, of_tail, of_error, jnp.asarray(count))
    return Extrapolated(*found, not reason, reason)


def _wide() -> bool:
    return jax.dtypes.canonicalize_dtype(float) == np.float64


def _resolved(fit: _threshold.Excesses) -> tuple[float, float, str]:
    """The index, its standard error by leaving out prompts, and why it cannot be used."""
    prompts, (first, second, third) = fit.number.size, fit.moments
    if prompts < FEWEST_PROMPTS:
        return np.nan, np.nan, f"fewer than {FEWEST_PROMPTS} prompts"
    if fit.tied > MOST_TIED or second.sum() <= 0:
        return np.nan, np.nan, "draws tie in the tail, which is not continuous"
    sums = [x.sum() - np.append(x, 0.0) for x in (first, second, third)]  # the last leaves out none
    with np.errstate(all="ignore"):
        indices = _threshold.index_of(sums[0], sums[1])
        misfits = _threshold.misfit_of(indices, sums[1], sums[2])
    index, misfit = float(indices[-1]), float(misfits[-1])
    error, of_misfit = (float(np.sqrt((prompts - 1) * np.var(x[:-1]))) for x in (indices, misfits))
    reason = _too_wide(index, error)
    if not reason and not abs(misfit) <= MISFIT * of_misfit:
        reason = "the tail is not generalized-Pareto from these thresholds on"
    return index, error, reason


def _resolved_apart(fit: _threshold.Excesses) -> tuple[float, float, str]:
    """The same where every pool has an index of its own: the means over pools."""
    first, second, _ = fit.moments
    if fit.tied > MOST_TIED or (second <= 0).any():
        return np.nan, np.nan, "draws tie in the tail, which is not continuous"
    each = _threshold.index_of(first, second)
    x = np.minimum(each, 0.45)
    variance = (
        (1 - x) * (2 - x) ** 2 * (1 - x + 2 * x**2) / ((1 - 2 * x) * (3 - 2 * x)) / fit.number
    )
    index, error = float(each.mean()), float(np.sqrt(variance.mean()))
    few = f"fewer than {FEWEST_PROMPTS} prompts" if each.size < FEWEST_PROMPTS else ""
    return index, error, few or _too_wide(float(each.max()) - TWO_SIDED * error, error)


def _too_wide(index: float, error: float) -> str:
    half = TWO_SIDED * error
    if not half <= WIDEST:
        return f"the tail index is known to ±{half:.2f} only"
    if not index + half < 0.5:
        return f"the tail index may be {index + half:.2f}: too heavy for an error"
    return ""


def _curve(
    scores: np.ndarray,
    size: np.ndarray,
    fit: _threshold.Excesses,
    index: np.ndarray,
    n: np.ndarray,
    temperature: np.ndarray,
) -> np.ndarray:
    """`[prompts, T, M]`."""

    def at(t: float) -> np.ndarray:
        if 0 < t < np.inf:
            return _threshold.soft_value(scores, size, fit, index, n, t)
        return _threshold.hard_value(scores, size, fit, index, n if t == 0 else np.ones_like(n))

    return np.stack([at(t) for t in temperature.tolist()], axis=1)


def _basis(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`[X, nodes]`: the Lagrange polynomials of the nodes."""
    out = np.ones((x.size, nodes.size))
    for i, node in enumerate(nodes):
        others = np.delete(nodes, i)
        out[:, i] = np.prod((x[:, None] - others) / (node - others), axis=1)
    return out


def _bootstrap(
    key: Array, fit: _threshold.Excesses, curves: np.ndarray, nodes: np.ndarray, resamples: int
) -> np.ndarray:
    """`[resamples, T, M]`: means over prompts drawn with their pools, at the index of these pools."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    prompts = fit.number.size
    of_curves = np.moveaxis(curves, 1, 0).reshape(prompts, -1)
    columns = np.concatenate([fit.moments[:2].T, of_curves], axis=1)
    out, step = [], max(1, 2**22 // prompts)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        share = random.multinomial(prompts, np.full(prompts, 1 / prompts), size=rows) / prompts
        means = share @ columns
        index = _threshold.index_of(means[:, 0], means[:, 1])
        basis = _basis(nodes, np.clip(index, nodes.min(), nodes.max()))
        out.append(np.einsum("bx,bxc->bc", basis, means[:, 2:].reshape(rows, nodes.size, -1)))
    return np.concatenate(out).reshape(-1, *curves.shape[2:])
