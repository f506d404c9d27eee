"""Selection rules of the rivals: rejection, best-of-Poisson and inference-time pessimism.

Hard best-of-n and the race are in `selection`. The laws of the first two are exact, in `rivals`; that
of pessimism is simulated here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.exact.laws import Fallback
from softbon_jax.sampling import _noise
from softbon_jax.sampling.select import argmax, explain, prepare, scaled

Array = jax.Array

# Rejection ----------------------------------------------------------------------------------------


def select_rejection(
    key: Array,
    rewards: Any,
    temperature: Any,
    envelope: Any,
    where: Any = None,
    *,
    fallback: Fallback = "any",
) -> Array:
    """The index of the first accepted candidate, or of a fallback if none is accepted.

    Candidate i is accepted with probability e^{(r_i - envelope)/λ}, in the order of the last axis. The
    same noise as in the race: accepted where r_i/λ + Exp(1) reaches envelope/λ.

    Args:
      key: a typed PRNG key; consumed.
      rewards: `[..., n]` float, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced. 0 accepts only rewards equal to the
        envelope, `inf` the first candidate.
      envelope: scalar or `[...]`, traced: the largest reward there can be. A larger reward than it is
        accepted for sure, and then the law is no longer that of `rivals.log_rejection`.
      where: bool, broadcast against `rewards`; False excludes a candidate.
      fallback: "any" of the candidates, uniformly, or the "best" (ties uniform); static.

    Returns:
      `[...]` int32 indices; -1 under tracing where `selection.select` gives -1 or the envelope is
      NaN.

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: an unknown fallback, an envelope that is concrete and not finite, and as
        `selection.select`.

    Source: von Neumann's rejection; `rivals.log_rejection` is its law over draws from P.
    """
    if fallback not in ("any", "best"):
        raise ValueError(f"fallback must be 'any' or 'best', got {fallback!r}")
    _checks.key(key)
    rewards, temperature, where = prepare(rewards, temperature, where)
    _checks.finite("envelope", envelope)
    envelope = _checks.as_float("envelope", envelope, rewards.dtype)[..., None]
    shape = (*rewards.shape[:-1], 1)
    _checks.batch_shape(rewards=shape, envelope=envelope.shape)
    envelope = jnp.broadcast_to(envelope, shape)
    index = _reject(key, rewards, temperature, envelope, where, fallback)
    explain(index < 0, rewards, where)
    return index


@partial(jax.jit, static_argnames="fallback")
def _reject(
    key: Array,
    rewards: Array,
    temperature: Array,
    envelope: Array,
    where: Array | None,
    fallback: Fallback,
) -> Array:
    accept_key, fallback_key = jax.random.split(key)
    _, _, in_order = scaled(rewards, temperature, where)
    candidate = rewards > -jnp.inf if where is None else where & (rewards > -jnp.inf)
    one_word = rewards.shape[-1] <= _noise.ONE_WORD_LIMIT
    noise = _noise.exponential(accept_key, rewards.shape, rewards.dtype, one_word=one_word)
    missing = jnp.where(candidate, envelope - rewards, 0)
    usual = (temperature > 0) & (temperature < jnp.inf)
    steps = missing / jnp.where(usual, temperature, 1)
    accepted = candidate & jnp.where(
        temperature == 0, missing <= 0, jnp.isposinf(temperature) | (noise >= steps)
    )
    ties = _noise.uniform(fallback_key, rewards.shape, rewards.dtype, one_word=one_word)
    good = candidate
    if fallback == "best":
        good &= rewards == jnp.max(
            rewards, axis=-1, where=candidate, initial=-jnp.inf, keepdims=True
        )
    # The first of the accepted, else the largest of the uniforms.
    some = jnp.any(accepted, axis=-1, keepdims=True)
    scores = jnp.where(some, accepted.astype(ties.dtype), jnp.where(good, ties, -1))
    in_order &= jnp.isfinite(envelope)
    return jnp.where(in_order[..., 0], argmax(scores), -1)


# Best-of-Poisson ----------------------------------------------------------------------------------


def poisson_mask(key: Array, shape: tuple[int, ...], mean_extra: Any) -> Array:
    """Which of the candidates take part in best-of-Poisson: the first N = 1 + Poisson(ν) of each row.

    `select(key, rewards, temperature, where=poisson_mask(...))` is soft best-of-Poisson and
    `select_best` the hard one.

    Args:
      key: a typed PRNG key; consumed.
      shape: `(..., n)`, static: n candidates are at hand in each row.
      mean_extra: scalar or `[...]` ν, finite and at least 0, traced.

    Returns:
      bool of `shape`, True for at least one candidate in each row; none where a traced ν is bad.

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: n is 0, ν is concrete and bad, or the shapes do not broadcast.

    Numerics: N is cut at n, which changes the law by no more than Pr(1 + Poisson(ν) > n) in total
    variation: take n well above 1 + ν.
    Source: arXiv:2506.19248.
    """
    _checks.key(key)
    if len(shape) == 0 or shape[-1] == 0:
        raise ValueError(f"shape must have at least one candidate on its last axis, got {shape}")
    value = _checks.concrete(mean_extra)
    if value is not None:
        bad = ~((value >= 0) & np.isfinite(value))
        _checks.offending("mean_extra", value, bad, "finite and at least 0")
    mean_extra = _checks.as_float("mean_extra", mean_extra)
    mean_extra = mean_extra.astype(_checks.compute_dtype(mean_extra.dtype))
    _checks.batch_shape(shape=shape[:-1], mean_extra=mean_extra.shape)
    return _poisson_mask(key, tuple(shape), mean_extra)


@partial(jax.jit, static_argnames="shape")
def _poisson_mask(key: Array, shape: tuple[int, ...], mean_extra: Array) -> Array:
    # Arrivals of a Poisson process: the j-th extra candidate takes part if it arrives before ν.
    gaps = _noise.exponential(key, shape, mean_extra.dtype, one_word=False)
    arrival = jnp.cumsum(gaps, axis=-1) - gaps  # the first candidate is there at time 0
    return arrival <= jnp.broadcast_to(mean_extra[..., None], (*shape[:-1], 1))


# Inference-time pessimism -------------------------------------------------------------------------


def pessimism_log_probs(rewards: Any, regularization: Any, where: Any = None) -> Array:
    """Log-probabilities of `select_pessimist`: relu((r_i - τ)/β), with τ such that their mean is 1.

    The maximizer over laws q on the n candidates of Σ q_i r_i - (β/2) χ²(q‖uniform): only candidates
    above the threshold τ can be picked, and their odds are linear in the reward.

    Args:
      rewards: `[..., n]` float, in the units of `regularization`; `-inf` excludes a candidate.
      regularization: β, scalar or `[...]`, at least 0, traced. 0 picks the largest reward, ties
        uniform; `inf` picks uniformly among the candidates.
      where: bool, broadcast against `rewards`; False excludes a candidate.

    Returns:
      `[..., n]` log-probabilities (nats) in the dtype of `rewards`, `-inf` for what cannot be picked.
      Under tracing, NaN in the rows where `select_pessimist` gives -1.

    Raises:
      ValueError: as `selection.select`, for β as for its temperature.

    Numerics: float16 and bfloat16 are computed in float32. O(n log n). Differentiable where no
    candidate is at the threshold.
    Source: arXiv:2503.21878, the weights of InferenceTimePessimism. Derived here: divided by n they
    are the projection of r/(nβ) onto the simplex (arXiv:1602.02068), hence τ from one sort.
    """
    dtype = _checks.as_float("rewards", rewards).dtype
    rewards, regularization, where = prepare(rewards, regularization, where)
    probs = _pessimism(rewards, regularization, where)
    value = _checks.concrete(probs)
    if value is not None:
        explain(jnp.isnan(probs[..., 0]), rewards, where)
    positive = probs > 0
    log_probs = jnp.where(positive, jnp.log(jnp.where(positive, probs, 1)), -jnp.inf)
    return jnp.where(jnp.isnan(probs), jnp.nan, log_probs).astype(dtype)


def select_pessimist(key: Array, rewards: Any, regularization: Any, where: Any = None) -> Array:
    """The index of one candidate, drawn with probability ∝ relu((r_i - τ)/β): inference-time pessimism.

    Args:
      key: a typed PRNG key; consumed.
      rewards: `[..., n]` float, in the units of `regularization`; `-inf` excludes a candidate.
      regularization: β, as in `pessimism_log_probs`.
      where: bool, broadcast against `rewards`; False excludes a candidate.

    Returns:
      `[...]` int32 indices; -1 under tracing where `selection.select` gives -1.

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: as `pessimism_log_probs`.

    Source: arXiv:2503.21878. Deviation: the paper draws from these weights by rejection sampling,
    which may end without a sample; here a candidate is drawn from them outright.
    """
    _checks.key(key)
    rewards, regularization, where = prepare(rewards, regularization, where)
    index = _draw_pessimist(key, rewards, regularization, where)
    explain(index < 0, rewards, where)
    return index


@jax.jit
def _draw_pessimist(
    key: Array, rewards: Array, regularization: Array, where: Array | None
) -> Array:
    probs = _pessimism(rewards, regularization, where)
    one_word = rewards.shape[-1] <= _noise.ONE_WORD_LIMIT
    noise = _noise.gumbel(key, rewards.shape, rewards.dtype, one_word=one_word)
    scores = jnp.where(probs > 0, jnp.log(jnp.where(probs > 0, probs, 1)) + noise, -jnp.inf)
    return jnp.where(jnp.isnan(probs[..., 0]), -1, argmax(scores))


@jax.jit
def _pessimism(rewards: Array, regularization: Array, where: Array | None) -> Array:
    """Selection probabilities `[..., n]`, NaN in rows that are not in order."""
    candidate = rewards > -jnp.inf if where is None else where & (rewards > -jnp.inf)
    counts = candidate.astype(rewards.dtype)
    _, _, in_order = scaled(rewards, regularization, where)
    probs = pessimism_of_counts(rewards, counts, regularization)
    return jnp.where(in_order, probs, jnp.nan)


def pessimism_of_counts(rewards: Array, counts: Array, regularization: Array) -> Array:
    """The probability of each of the rewards `[..., K]` where it occurs `counts` times among n.

    In units in which the mean weight is 1: Σ N_k relu(r_k - τ) = nβ. With the rewards sorted from the
    top, the threshold is that of the largest set of them that lies above its own threshold.
    """
    present = counts > 0
    top = jax.lax.stop_gradient(
        jnp.max(rewards, axis=-1, where=present, initial=-jnp.inf, keepdims=True)
    )
    depth = jnp.where(present, jnp.where(jnp.isfinite(top), top, 0) - rewards, jnp.inf)
    total = jnp.sum(counts, axis=-1, keepdims=True)
    usual = regularization < jnp.inf
    budget = total * jnp.where(usual, regularization, 1)
    order = jnp.argsort(depth, axis=-1)
    # Absent rewards are last, at infinite depth, and weigh nothing.
    sorted_depth = jnp.take_along_axis(depth, order, axis=-1)
    number = jnp.take_along_axis(counts, order, axis=-1)
    weighed = jnp.where(number > 0, number * jnp.where(number > 0, sorted_depth, 0), 0)
    mass, sum_depth = jnp.cumsum(number, axis=-1), jnp.cumsum(weighed, axis=-1)
    level = (budget + sum_depth) / jnp.maximum(mass, 1)  # top - τ if the first so many are in
    last = jnp.sum(((sorted_depth <= level) & (number > 0)).astype(jnp.int32), -1, keepdims=True)
    tau = jnp.take_along_axis(level, jnp.maximum(last - 1, 0), axis=-1)
    height = jnp.where(present & (depth < tau), tau - jnp.where(present, depth, 0), 0)
    best = jnp.where(present & (depth <= 0), 1.0, 0.0).astype(height.dtype)
    share = counts * jnp.where(regularization > 0, jnp.where(usual, height, 1.0), best)
    return share / jnp.sum(share, axis=-1, keepdims=True)
