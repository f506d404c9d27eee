"""Rows of candidates: the checks of their arguments, scaled rewards, and the largest score.

A candidate with reward `-inf` is excluded. A mask is applied first, by setting rewards to `-inf`, so
that the arithmetic below knows one way to exclude a candidate and not two.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from softbon_jax import _checks, _memory, _special

Array = jax.Array


def prepare(
    rewards: Any, temperature: Any, where: Any, name: str = "temperature"
) -> tuple[Array, Array, Array | None]:
    """The checked arguments, not yet broadcast: `[..., n]`, `[...]` and `[..., n]` or None.

    Args:
      rewards: real numbers; the dtype of the temperature follows theirs.
      temperature: what divides the rewards.
      where: bool or None.
      name: what messages call the temperature.
    """
    rewards = _checks.as_float("rewards", rewards)
    _checks.outcomes("rewards", rewards, "candidate")
    temperature = _checks.temperature(temperature, rewards.dtype, name)
    shapes = {"rewards": rewards.shape[:-1], name: temperature.shape}
    if where is None:
        _checks.batch_shape(**shapes)
        return rewards, temperature, None
    where = _checks.bools("where", where)
    shape = _checks.batch_shape(**shapes, where=where.shape[:-1])
    return rewards, temperature, _checks.mask(where, (*shape, rewards.shape[-1]))


def rows(rewards: Array, temperature: Array, where: Array | None) -> tuple[Array, Array]:
    """Rewards `[..., n]`, `-inf` where excluded, and temperature `[..., 1]`, of one batch shape."""
    batch = jnp.broadcast_shapes(rewards.shape[:-1], temperature.shape)
    if where is not None:
        batch = where.shape[:-1]  # which `prepare` has broadcast against both
    rewards = jnp.broadcast_to(rewards, (*batch, rewards.shape[-1]))
    _memory.check(9 * _memory.size_of(rewards))
    temperature = jnp.broadcast_to(temperature[..., None], (*batch, 1))
    return masked(rewards, where), temperature


def masked(rewards: Array, where: Array | None) -> Array:
    """The rewards, `-inf` where `where` is False."""
    return rewards if where is None else jnp.where(where, rewards, -jnp.inf)


def scaled(rewards: Array, temperature: Array) -> tuple[Array, Array, Array]:
    """(r - max r)/λ with its limits, which candidates can win, and which rows are valid.

    Args:
      rewards: `[..., n]`; `-inf` excludes a candidate.
      temperature: `[..., 1]` of the same rank and dtype; 0 and inf are legal.

    Returns:
      `[..., n]` logits, finite and meaningless where a candidate cannot win; `[..., n]` bool, at λ = 0
      True for the largest rewards only; `[..., 1]` bool, False where a reward is NaN or `+inf`, no
      candidate is left, or the temperature is NaN or negative.
    """
    chex.assert_equal_rank([rewards, temperature])
    chex.assert_axis_dimension(temperature, -1, 1)
    chex.assert_type(temperature, rewards.dtype)
    # NaN and +inf show in the largest reward, and so does a row without candidates.
    largest = lax.stop_gradient(jnp.max(rewards, axis=-1, keepdims=True))
    valid = jnp.isfinite(largest) & (temperature >= 0)
    can_win = (rewards > -jnp.inf) & ((temperature > 0) | (rewards == largest))
    # Every value is made safe before it is used: a NaN behind a `where` spoils gradients.
    finite_positive = (temperature > 0) & (temperature < jnp.inf)
    safe = jnp.where(can_win & finite_positive, rewards, 0)
    origin = jnp.where(valid & finite_positive, largest, 0)
    logits = _special.over(safe, origin, jnp.where(finite_positive, temperature, 1))
    return jnp.where(can_win, logits, 0), can_win, valid


def argmax(scores: Array) -> Array:
    """The int32 index of the largest score on the last axis, the first among equals.

    Two plain reductions instead of one over (value, index) pairs: XLA vectorizes these on CPU,
    keeps the noise that feeds them in vector code, and is twice as fast as `jnp.argmax` there.
    """
    largest = jnp.max(scores, axis=-1, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    return jnp.min(jnp.where(scores == largest, index, scores.shape[-1] - 1), axis=-1)


def explain(answer: Any, rewards: Array, where: Array | None) -> None:
    """Raise `ValueError` saying why a row has no selection, where that is known.

    A worker finds invalid rows by itself, and answers with a negative index or NaN: reading that costs
    one small copy instead of a second pass over the rewards.
    """
    value = _checks.concrete(answer)
    if value is None or (value >= 0).all():
        return
    scores = _checks.concrete(masked(rewards, where))
    if scores is None:  # failed is known and the rewards are not: no transformation does this today
        raise ValueError("rewards must be finite or -inf with a candidate left in every row")
    explain_rewards(rewards, where)
    left = (scores > -jnp.inf).sum(-1)
    _checks.offending("the number of candidates", left, left < 1, "at least 1")


def explain_rewards(rewards: Array, where: Array | None) -> None:
    """Raise `ValueError` for a concrete reward of a candidate that is NaN or `+inf`."""
    value = _checks.concrete(masked(rewards, where))
    if value is not None:
        _checks.offending("rewards", value, ~(value < jnp.inf), "finite or -inf where they count")
