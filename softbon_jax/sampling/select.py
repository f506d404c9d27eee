"""Pick one of n candidates given their rewards: soft, hard and race rules, masked and batched.

Soft best-of-n returns candidate i with probability softmax(rewards / temperature). All rules here
add noise to the scaled rewards and take the largest, so the same noise serves one pick and k picks.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from softbon_jax import _checks
from softbon_jax.sampling import _noise

Array = jax.Array


def select(key: Array, rewards: Any, temperature: Any, where: Any = None) -> Array:
    """The index of one candidate, drawn with probability softmax(rewards / temperature).

    Pr(i) = exp(r_i / λ) / Σ_j exp(r_j / λ), with r = `rewards`, λ = `temperature`, j over the
    candidates that `where` keeps.

    Args:
      key: a typed PRNG key (`jax.random.key`); consumed. One key serves the whole batch, every row
        with noise of its own; under `vmap` over keys each row is what its own key gives alone.
      rewards: `[..., n]` float, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced. 0 picks the largest reward, uniformly
        among exact ties; `inf` picks uniformly among the candidates.
      where: bool, broadcast against `rewards`; False excludes a candidate (ragged pools).

    Returns:
      `[...]` int32 indices into the last axis, the batch shape being the broadcast of those of the
      arguments. Under tracing, -1 where no candidate is left, where a candidate's reward is NaN or
      `+inf`, and where the temperature is NaN or negative.

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: n is 0, the shapes do not match, or, when the values are concrete, one of the
        cases above that give -1 under tracing.

    Numerics: float16 and bfloat16 rewards are selected in float32. The largest reward is subtracted
    before dividing, so large rewards at a small temperature keep their digits. In float32 a
    candidate whose probability relative to the best is below about 1e-10 (n up to 4096; 1e-19
    above) is picked less often than it should be, never more often. Equal for equal keys eagerly
    and under `jit`.

    Source: arXiv:2505.03156 (the sampler); the largest of r/λ + Gumbel has this law (Gumbel 1954).
    """
    return _pick(key, rewards, temperature, where, rule="soft")


def select_best(key: Array, rewards: Any, where: Any = None) -> Array:
    """The index of the largest reward, uniform among exact ties: hard best-of-n.

    Args:
      key: a typed PRNG key; consumed (it breaks ties).
      rewards: `[..., n]` float; `-inf` excludes a candidate.
      where: bool, broadcast against `rewards`; False excludes a candidate.

    Returns:
      `[...]` int32 indices; -1 under tracing where `select` gives -1.

    Raises:
      TypeError, ValueError: as `select`.

    Numerics: the same index as `select` at temperature 0 with the same key.
    Source: derived here: the limit of the soft rule as the temperature goes to 0.
    """
    return _pick(key, rewards, 0.0, where, rule="soft")


def select_race(key: Array, rewards: Any, temperature: Any, where: Any = None) -> Array:
    """The index of the largest rewards / temperature + Exp(1): the uniform race.

    The same as the largest of exp(r_i/λ)/U_i with U_i uniform on (0, 1). With candidates drawn from
    the reference law, this comes closer to the tilted law than the soft rule as n grows.

    Args:
      key: a typed PRNG key; consumed.
      rewards: `[..., n]` float, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced; 0 and `inf` as in `select`.
      where: bool, broadcast against `rewards`; False excludes a candidate.

    Returns:
      `[...]` int32 indices; -1 under tracing where `select` gives -1.

    Raises:
      TypeError, ValueError: as `select`.

    Numerics: a candidate more than 22 temperatures below the best (45 for n above 4096 and in
    float64) is never picked in float32, its probability being below e^-22 times n.
    Source: arXiv:2609.21899 (the race); the exponential form is the logarithm of exp(r/λ)/U.
    """
    return _pick(key, rewards, temperature, where, rule="race")


def select_many(key: Array, rewards: Any, temperature: Any, where: Any = None, *, k: int) -> Array:
    """The indices of k different candidates: the soft rule k times without replacement.

    The first is drawn as by `select`, the second by the same rule among the others, and so on (the
    Plackett-Luce law): Pr(i_1..i_k) = Π_j exp(r_{i_j}/λ) / Σ_{i not in i_1..i_{j-1}} exp(r_i/λ). At
    temperature 0 that is the k largest rewards in order, ties in random order.

    Args:
      key: a typed PRNG key; consumed. The first index is that of `select` with the same key (but
        for ties of the noisy scores, of probability below 1e-5), and a larger k only appends.
      rewards: `[..., n]` float, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced; 0 and `inf` are legal.
      where: bool, broadcast against `rewards`; False excludes a candidate.
      k: how many, from 1 to n; static.

    Returns:
      `[..., k]` int32 indices in the order drawn, -1 after the last candidate if there are fewer
      than k; all -1 under tracing where `select` gives -1.

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: k is not between 1 and n, and as `select`.

    Numerics: as `select`. Costs a partial sort of the last axis, and a full one where scores tie.
    Source: the k largest of r/λ + Gumbel have this law (Yellott 1977; arXiv:1903.06059).
    """
    return _pick(key, rewards, temperature, where, rule="soft", k=k)


def selection_log_probs(rewards: Any, temperature: Any, where: Any = None) -> Array:
    """Log-probabilities of `select`: the log-softmax of rewards / temperature over the candidates.

    Args:
      rewards: `[..., n]` float, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced. 0 is uniform over the largest rewards,
        `inf` uniform over the candidates.
      where: bool, broadcast against `rewards`; False excludes a candidate.

    Returns:
      `[..., n]` log-probabilities (nats) in the dtype of `rewards`, `-inf` for what is excluded.
      Under tracing, NaN in the rows where `select` gives -1.

    Raises:
      ValueError: as `select`.

    Numerics: float16 and bfloat16 are computed in float32 and rounded once. Differentiable in
    rewards and temperature for 0 < λ < inf, also with excluded candidates; both gradients are 0 at
    λ = 0 and λ = inf.
    Source: arXiv:2505.03156 (the sampler).
    """
    dtype = _checks.as_float("rewards", rewards).dtype
    rewards, temperature, where = prepare(rewards, temperature, where)
    log_probs = _log_probs(rewards, temperature, where)
    value = _checks.concrete(log_probs)
    if value is not None:
        explain(jnp.isnan(log_probs[..., 0]), rewards, where)
    return log_probs.astype(dtype)


# What the public functions share ------------------------------------------------------------------


def _pick(
    key: Array, rewards: Any, temperature: Any, where: Any, *, rule: str, k: int | None = None
) -> Array:
    """Check, draw, and explain a -1 if the values are there to explain it."""
    _checks.key(key)
    rewards, temperature, where = prepare(rewards, temperature, where)
    if k is not None and not 1 <= k <= rewards.shape[-1]:
        raise ValueError(f"k must be between 1 and n = {rewards.shape[-1]}, got {k}")
    index = _draw(key, rewards, temperature, where, rule=rule, k=k)
    # The kernel has found what is wrong with a row: looking at its answer costs one small copy
    # instead of a second pass over the rewards.
    explain((index if k is None else index[..., 0]) < 0, rewards, where)
    return index


def prepare(rewards: Any, temperature: Any, where: Any) -> tuple[Array, Array, Array | None]:
    """`rewards` `[..., n]`, `temperature` `[..., 1]` and `where` `[..., n]` of one batch shape."""
    rewards = _checks.as_float("rewards", rewards)
    if rewards.ndim == 0 or rewards.shape[-1] == 0:
        raise ValueError(
            f"rewards must have at least one candidate on its last axis, got shape {rewards.shape}"
        )
    dtype = _checks.compute_dtype(rewards.dtype)
    _checks.temperature(temperature)
    temperature = _checks.as_float("temperature", temperature, dtype)[..., None]
    shapes = {"rewards": rewards.shape, "temperature": temperature.shape}
    if where is not None:
        where = jnp.asarray(where)
        if where.dtype != bool:
            raise ValueError(f"where must be bool, got dtype {where.dtype}")
        shapes["where"] = where.shape
    shape = _checks.batch_shape(**shapes)
    if shape[-1] != rewards.shape[-1]:
        raise ValueError(f"where has shape {shapes['where']}, rewards has shape {rewards.shape}")
    return (
        jnp.broadcast_to(rewards.astype(dtype), shape),
        jnp.broadcast_to(temperature, (*shape[:-1], 1)),
        None if where is None else jnp.broadcast_to(where, shape),
    )


def explain(failed: Array, rewards: Array, where: Array | None) -> None:
    """Raise `ValueError` saying why a row has no selection, if one has none and it is known."""
    value = _checks.concrete(failed)
    if value is None or not value.any():
        return
    scores = _checks.concrete(rewards if where is None else jnp.where(where, rewards, -jnp.inf))
    if scores is None:  # the failure is known and its cause is not: no such transformation is known
        raise ValueError("rewards must be finite or -inf with a candidate left in every row")
    _checks.offending("rewards", scores, ~(scores < jnp.inf), "finite or -inf where they count")
    left = (scores > -jnp.inf).sum(-1)
    _checks.offending("the number of candidates", left, left < 1, "at least 1")


def scaled(rewards: Array, temperature: Array, where: Array | None) -> tuple[Array, Array, Array]:
    """(r - max r)/λ with its limits, the candidates that can win, and whether the row is in order.

    All of `[..., n]` but the last, `[..., 1]`. Where a candidate cannot win its scaled reward is
    finite and meaningless; at λ = 0 only the largest rewards can win.
    """
    masked = rewards if where is None else jnp.where(where, rewards, -jnp.inf)
    # NaN and +inf show in the largest reward, and so does a row without candidates.
    largest = lax.stop_gradient(jnp.max(masked, axis=-1, keepdims=True))
    in_order = jnp.isfinite(largest) & (temperature >= 0)
    can_win = (masked > -jnp.inf) & ((temperature > 0) | (masked == largest))
    # Every value is made safe before it is used: a NaN behind a `where` spoils gradients.
    usual = (temperature > 0) & (temperature < jnp.inf)
    below = jnp.where(can_win & usual, masked - jnp.where(in_order, largest, 0), 0)
    return below / jnp.where(usual, temperature, 1), can_win, in_order


def argmax(scores: Array) -> Array:
    """The int32 index of the largest score on the last axis, the first of equals.

    Two plain reductions instead of one over (value, index) pairs: XLA vectorizes these on CPU,
    keeps the noise that feeds them in vector code, and is twice as fast as `jnp.argmax` there.
    """
    largest = jnp.max(scores, axis=-1, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    return jnp.min(jnp.where(scores == largest, index, scores.shape[-1] - 1), axis=-1)


@partial(jax.jit, static_argnames=("rule", "k"))
def _draw(
    key: Array, rewards: Array, temperature: Array, where: Array | None, *, rule: str, k: int | None
) -> Array:
    logits, can_win, in_order = scaled(rewards, temperature, where)
    draw = _noise.gumbel if rule == "soft" else _noise.exponential
    one_word = rewards.shape[-1] <= _noise.ONE_WORD_LIMIT
    noise = draw(key, rewards.shape, rewards.dtype, one_word=one_word)
    scores = jnp.where(can_win, logits + noise, -jnp.inf)
    if k is None:
        return jnp.where(in_order[..., 0], argmax(scores), -1)
    # At temperature 0 the losers too are in order of reward.
    scores = jnp.where(temperature > 0, scores, rewards)
    candidate = (rewards > -jnp.inf if where is None else where & (rewards > -jnp.inf)) & in_order
    scores = jnp.where(candidate, jnp.maximum(scores, jnp.finfo(scores.dtype).min), -jnp.inf)
    return _first(scores, noise, candidate, k)


def _first(scores: Array, noise: Array, candidate: Array, k: int) -> Array:
    """The indices of the k largest by (score, noise), -1 for what is not a candidate."""
    index = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    index = jnp.where(candidate, index, -1)

    def by_sort() -> Array:
        return lax.sort((-scores, -noise, index), num_keys=2)[-1][..., :k]

    # A partial sort is thirty times cheaper but takes the first of equal scores, and scores are
    # equal at temperature 0 and where a small temperature swallows the noise: fall back if any are.
    # (Without the barrier XLA on CPU fuses the comparison into top_k and sorts after all.)
    top, at = lax.optimization_barrier(lax.top_k(scores, min(k + 1, scores.shape[-1])))
    tied = jnp.any((top[..., 1:] == top[..., :-1]) & (top[..., 1:] > -jnp.inf))
    return lax.cond(tied, by_sort, lambda: jnp.take_along_axis(index, at[..., :k], axis=-1))


@jax.jit
def _log_probs(rewards: Array, temperature: Array, where: Array | None) -> Array:
    logits, can_win, in_order = scaled(rewards, temperature, where)
    # The largest logit is 0, so nothing overflows.
    total = jnp.sum(jnp.where(can_win, jnp.exp(logits), 0), axis=-1, keepdims=True)
    log_probs = logits - jnp.log(jnp.where(in_order, total, 1))
    return jnp.where(in_order, jnp.where(can_win, log_probs, -jnp.inf), jnp.nan)
