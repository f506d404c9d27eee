"""Other selection rules: rejection, best-of-Poisson and inference-time pessimism.

Hard best-of-n and the race are in `select`. The laws of the first two are exact (`sb.log_rejection`,
`sb.log_best_of_poisson`); that of pessimism has no closed form (`sb.simulate_pessimism`).
"""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from softbon_jax import _checks, _memory
from softbon_jax.exact.laws import Fallback
from softbon_jax.sampling import _noise
from softbon_jax.sampling._candidates import argmax, explain, prepare, rows, scaled

Array = jax.Array

# Rejection ----------------------------------------------------------------------------------------


@_checks.keyword_only("where")
def select_rejection(
    key: Array,
    rewards: Any,
    temperature: Any,
    envelope: Any,
    *,
    where: Any = None,
    fallback: Fallback = "any",
) -> Array:
    """The index of the first accepted candidate, or of a fallback if none is accepted.

    Candidate i is accepted with probability e^{(r_i - envelope)/λ}, in the order of the last axis:
    where r_i/λ + Exp(1) reaches envelope/λ, which is the noise of the race.

    Args:
      key: a typed PRNG key, traced; consumed.
      rewards: `[..., n]` real, traced, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced. 0 accepts only rewards equal to the
        envelope, `inf` the first candidate.
      envelope: scalar or `[...]`, finite, traced: the largest reward there can be. A larger reward
        is always accepted, and then the law is no longer that of `log_rejection`.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate.
      fallback: "any" of the candidates, uniformly, or the "best" (ties uniform); static.

    Returns:
      `[...]` int32 indices; -1 under tracing where `select` gives -1 or the envelope is not finite.

    Raises:
      TypeError: as `select`.
      ValueError: an unknown fallback, an envelope that is concrete and not finite, and as `select`.

    Numerics: as `select_race`: in float32 a candidate more than 22 temperatures below the envelope
    (45 for n above 4096) is never accepted.
    Source: von Neumann's rejection; `log_rejection` is its law over draws from P.

    Example:
      >>> rewards = jnp.float32([0.2, 1.0, 1.0])
      >>> int(sb.select_rejection(jax.random.key(0), rewards, 0.0, 1.0))  # the first that reaches 1
      1
    """
    _checks.one_of("fallback", fallback, ("any", "best"))
    _checks.key(key)
    rewards, temperature, where = prepare(rewards, temperature, where)
    envelope = _checks.finite("envelope", envelope, rewards.dtype)
    batch = jnp.broadcast_shapes(rewards.shape[:-1], temperature.shape)
    batch = batch if where is None else where.shape[:-1]
    if _checks.batch_shape(rewards=batch, envelope=envelope.shape) != batch:
        raise ValueError(f"envelope must broadcast against {batch}, got shape {envelope.shape}")
    index = _reject(key, rewards, temperature, envelope, where, fallback=fallback)
    explain(index, rewards, where)
    return index


@partial(jax.jit, static_argnames="fallback")
def _reject(
    key: Array,
    rewards: Array,
    temperature: Array,
    envelope: Array,
    where: Array | None,
    *,
    fallback: Fallback,
) -> Array:
    accept_key, fallback_key = jax.random.split(key)
    rewards, temperature = rows(rewards, temperature, where)
    envelope = jnp.broadcast_to(envelope[..., None], temperature.shape)
    _, _, valid = scaled(rewards, temperature)
    candidate = rewards > -jnp.inf
    one_word = rewards.shape[-1] <= _noise.ONE_WORD_LIMIT
    noise = _noise.exponential(accept_key, rewards.shape, rewards.dtype, one_word=one_word)
    missing = jnp.where(candidate, envelope - rewards, 0)
    finite_positive = (temperature > 0) & (temperature < jnp.inf)
    steps = missing / jnp.where(finite_positive, temperature, 1)
    accepted = candidate & jnp.where(
        temperature == 0, missing <= 0, jnp.isposinf(temperature) | (noise >= steps)
    )
    ties = _noise.uniform(fallback_key, rewards.shape, rewards.dtype, one_word=one_word)
    eligible = candidate
    if fallback == "best":
        eligible &= rewards == jnp.max(
            rewards, axis=-1, where=candidate, initial=-jnp.inf, keepdims=True
        )
    # The first accepted candidate, else the largest uniform.
    some = jnp.any(accepted, axis=-1, keepdims=True)
    scores = jnp.where(some, accepted.astype(ties.dtype), jnp.where(eligible, ties, -1))
    valid &= jnp.isfinite(envelope)
    return jnp.where(valid[..., 0], argmax(scores), -1)


# Best-of-Poisson ----------------------------------------------------------------------------------


def poisson_mask(key: Array, shape: tuple[int, ...], mean_extra: Any) -> Array:
    """Which candidates take part in best-of-Poisson: the first N = 1 + Poisson(ν) of each row.

    `select(key, rewards, temperature, where=poisson_mask(...))` is soft best-of-Poisson and
    `select_best` the hard one.

    Args:
      key: a typed PRNG key, traced; consumed.
      shape: `(..., n)`, static: n candidates are available in each row.
      mean_extra: scalar or `[...]` ν, finite and at least 0, traced.

    Returns:
      bool of `shape`, True for at least one candidate in each row; for none where a traced ν is bad.

    Raises:
      TypeError: `key` is not a typed key, or `mean_extra` is not real.
      ValueError: n is 0, ν is concrete and bad, or the shapes do not broadcast.

    Numerics: N is capped at n, which changes the law by at most Pr(1 + Poisson(ν) > n) in total
    variation: take n well above 1 + ν. Half precision is promoted to float32.
    Source: arXiv:2506.19248.

    Example:
      >>> where = sb.poisson_mask(jax.random.key(0), (1000, 20), jnp.float32(2.5))
      >>> round(float(where.sum(-1).mean()), 1)  # 1 + ν on average
      3.5
    """
    _checks.key(key)
    try:
        sizes = tuple(operator.index(size) for size in shape)
        if not isinstance(shape, (tuple, list, np.ndarray)):
            raise TypeError
    except TypeError:
        raise TypeError(f"shape must be a tuple of integers, got {_checks.shown(shape)}") from None
    if len(sizes) == 0 or min(sizes) < 0 or sizes[-1] == 0 or max(sizes) > _checks.LARGEST_SIZE:
        raise ValueError(
            "shape must have at least one candidate on its last axis, and no size below 0, got"
            f" {_checks.shown(shape)}"
        )
    mean_extra = _checks.finite_not_negative("mean_extra", mean_extra)
    _checks.batch_shape(shape=sizes[:-1], mean_extra=mean_extra.shape)
    return _poisson_mask(key, sizes, mean_extra)


@partial(jax.jit, static_argnames="shape")
def _poisson_mask(key: Array, shape: tuple[int, ...], mean_extra: Array) -> Array:
    # Arrivals of a Poisson process: the j-th extra candidate takes part if it arrives before ν.
    _memory.check(4 * math.prod(shape) * mean_extra.dtype.itemsize)
    gaps = _noise.exponential(key, shape, mean_extra.dtype, one_word=False)
    arrival = jnp.cumsum(gaps, axis=-1) - gaps  # the first candidate arrives at time 0
    return arrival <= jnp.broadcast_to(mean_extra[..., None], (*shape[:-1], 1))


# Inference-time pessimism -------------------------------------------------------------------------


@_checks.keyword_only("where")
def pessimism_log_probs(rewards: Any, regularization: Any, *, where: Any = None) -> Array:
    """Log-probabilities of `select_pessimist`: relu((r_i - τ)/β)/n, with τ such that they sum to 1.

    The maximizer over laws q on the n candidates of Σ q_i r_i - (β/2) χ²(q‖uniform): only candidates
    above the threshold τ can be selected, and their odds are linear in the reward.

    Args:
      rewards: `[..., n]` real, traced, in the units of `regularization`; `-inf` excludes a candidate.
      regularization: β, scalar or `[...]`, at least 0, traced. 0 selects the largest reward, ties
        uniform; `inf` selects uniformly among the candidates.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate.

    Returns:
      `[..., n]` log-probabilities (nats), `-inf` for what cannot be selected, in the dtype of
      `rewards`; half precision becomes float32. Under tracing, NaN in the rows where
      `select_pessimist` gives -1.

    Raises:
      TypeError: an argument is not real.
      ValueError: as `select`, for β as for its temperature.

    Numerics: O(n log n). Differentiable where no candidate is at the threshold.
    Source: arXiv:2503.21878, the weights of InferenceTimePessimism. Derived here: divided by n they
    are the projection of r/(nβ) onto the simplex (arXiv:1602.02068), hence τ from one sort.

    Example:
      >>> log_probs = sb.pessimism_log_probs([0.0, 0.5, 1.0], 0.3)
      >>> np.round(np.exp(np.float64(log_probs)), 4).tolist()
      [0.0, 0.2222, 0.7778]
    """
    rewards, regularization, where = prepare(rewards, regularization, where, "regularization")
    log_probs = _pessimism_log_probs(rewards, regularization, where)
    value = _checks.concrete(log_probs)
    if value is not None:
        explain(-value[..., 0], rewards, where)
    return log_probs


@_checks.keyword_only("where")
def select_pessimist(key: Array, rewards: Any, regularization: Any, *, where: Any = None) -> Array:
    """The index of one candidate, drawn with probability relu((r_i - τ)/β)/n: inference-time pessimism.

    Args:
      key: a typed PRNG key, traced; consumed.
      rewards: `[..., n]` real, traced, in the units of `regularization`; `-inf` excludes a candidate.
      regularization: β, scalar or `[...]`, at least 0, traced; as in `pessimism_log_probs`.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate.

    Returns:
      `[...]` int32 indices; -1 under tracing where `select` gives -1.

    Raises:
      TypeError: as `select`.
      ValueError: as `pessimism_log_probs`.

    Numerics: rare candidates as in `select`.
    Source: arXiv:2503.21878. Deviation: the paper draws from these weights by rejection sampling,
    which may end without a sample; here a candidate is drawn from them directly.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 1000)
      >>> rewards = jnp.float32([0.0, 0.5, 1.0])
      >>> index = jax.vmap(lambda key: sb.select_pessimist(key, rewards, 0.3))(keys)
      >>> np.bincount(index).tolist()  # the first candidate is below the threshold
      [0, 253, 747]
    """
    _checks.key(key)
    rewards, regularization, where = prepare(rewards, regularization, where, "regularization")
    index = _draw_pessimist(key, rewards, regularization, where)
    explain(index, rewards, where)
    return index


@jax.jit
def _draw_pessimist(
    key: Array, rewards: Array, regularization: Array, where: Array | None
) -> Array:
    log_probs = _pessimism_log_probs(rewards, regularization, where)
    one_word = rewards.shape[-1] <= _noise.ONE_WORD_LIMIT
    noise = _noise.gumbel(key, log_probs.shape, log_probs.dtype, one_word=one_word)
    return jnp.where(jnp.isnan(log_probs[..., 0]), -1, argmax(log_probs + noise))


@jax.jit
def _pessimism_log_probs(rewards: Array, regularization: Array, where: Array | None) -> Array:
    """Log-probabilities `[..., n]`, NaN in rows that are not valid."""
    rewards, regularization = rows(rewards, regularization, where)
    _, _, valid = scaled(rewards, regularization)
    counts = (rewards > -jnp.inf).astype(rewards.dtype)
    probs = jnp.where(valid, pessimism_of_counts(rewards, counts, regularization), jnp.nan)
    positive = probs > 0
    log_probs = jnp.where(positive, jnp.log(jnp.where(positive, probs, 1)), -jnp.inf)
    return jnp.where(jnp.isnan(probs), jnp.nan, log_probs)


def pessimism_of_counts(rewards: Array, counts: Array, regularization: Array) -> Array:
    """The probability of each reward `[..., K]` where it occurs `counts` times among n candidates.

    Scaled so that the mean weight is 1: Σ N_k relu(r_k - τ) = nβ. With the rewards sorted from the
    top, the threshold is that of the largest set of them that lies above its own threshold.
    """
    present = counts > 0
    top = lax.stop_gradient(
        jnp.max(rewards, axis=-1, where=present, initial=-jnp.inf, keepdims=True)
    )
    depth = jnp.where(present, jnp.where(jnp.isfinite(top), top, 0) - rewards, jnp.inf)
    total = jnp.sum(counts, axis=-1, keepdims=True)
    finite = regularization < jnp.inf
    budget = total * jnp.where(finite, regularization, 1)
    order = jnp.argsort(depth, axis=-1)
    # Absent rewards come last, at infinite depth, with weight 0.
    sorted_depth = jnp.take_along_axis(depth, order, axis=-1)
    number = jnp.take_along_axis(counts, order, axis=-1)
    weighed = jnp.where(number > 0, number * jnp.where(number > 0, sorted_depth, 0), 0)
    mass, sum_depth = jnp.cumsum(number, axis=-1), jnp.cumsum(weighed, axis=-1)
    level = (budget + sum_depth) / jnp.maximum(
        mass, 1
    )  # top - τ if exactly the first ones are above τ
    last = jnp.sum(((sorted_depth <= level) & (number > 0)).astype(jnp.int32), -1, keepdims=True)
    tau = jnp.take_along_axis(level, jnp.maximum(last - 1, 0), axis=-1)
    height = jnp.where(present & (depth < tau), tau - jnp.where(present, depth, 0), 0)
    best = jnp.where(present & (depth <= 0), 1.0, 0.0).astype(height.dtype)
    share = counts * jnp.where(regularization > 0, jnp.where(finite, height, 1.0), best)
    return share / jnp.sum(share, axis=-1, keepdims=True)
