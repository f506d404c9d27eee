"""Select one of n candidates given their rewards: the soft, hard and race rules, masked and batched.

Soft best-of-n returns candidate i with probability softmax(rewards / temperature). Every rule here
adds noise to the scaled rewards and takes the largest, so the same noise serves one index and k.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from softbon_jax import _checks, _loops, _sharding
from softbon_jax.sampling import _noise
from softbon_jax.sampling._candidates import argmax, explain, prepare, rows, scaled

Array = jax.Array


@_checks.keyword_only("where")
def select(key: Array, rewards: Any, temperature: Any, *, where: Any = None) -> Array:
    """The index of one candidate, drawn with probability softmax(rewards / temperature).

    Pr(i) = exp(r_i / λ) / Σ_j exp(r_j / λ), with r = `rewards`, λ = `temperature`, j over the
    candidates that `where` keeps.

    Args:
      key: a typed PRNG key (`jax.random.key`), traced; consumed. One key serves the whole batch, and
        every row gets noise of its own. Under `vmap` over keys each row is what its key gives alone.
      rewards: `[..., n]` real, traced, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced. 0 selects the largest reward, uniformly
        among exact ties; `inf` selects uniformly among the candidates.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate (ragged pools).

    Returns:
      `[...]` int32 indices into the last axis; the batch shape is the broadcast of those of the
      arguments. Under tracing, -1 where no candidate is left, where a candidate's reward is NaN or
      `+inf`, and where the temperature is NaN or negative.

    Raises:
      TypeError: `key` is not a typed key, or an argument is not real.
      ValueError: n is 0, the shapes do not broadcast, `where` is not bool, or, when the values are
        concrete, one of the cases above that give -1 under tracing.

    Numerics: float16 and bfloat16 rewards are promoted to float32. The largest reward is subtracted
    before dividing, so large rewards at a small temperature keep their digits. In float32 a
    candidate whose probability relative to the best is below about 1e-10 (n up to 4096; 1e-19
    above) is selected less often than it should be, never more often. The same key gives the same
    index eagerly and under `jit`.

    Source: arXiv:2505.03156 (the sampler); the largest of r/λ + Gumbel has this law (Gumbel 1954).

    Example:
      >>> rewards = jnp.float32([[0.0, 1.0, 2.0], [5.0, 5.0, 4.0]])
      >>> sb.select(jax.random.key(0), rewards, 0.0, where=jnp.array([True, True, False])).tolist()
      [1, 0]
      >>> keys = jax.random.split(jax.random.key(1), 10_000)
      >>> index = jax.vmap(lambda key: sb.select(key, rewards[0], 1.0))(keys)
      >>> np.round(np.bincount(index) / 10_000, 2).tolist()  # softmax: 0.090, 0.245, 0.665
      [0.09, 0.25, 0.66]
    """
    return _select(key, rewards, temperature, where, rule="soft")


@_checks.keyword_only("where")
def select_best(key: Array, rewards: Any, *, where: Any = None) -> Array:
    """The index of the largest reward, uniform among exact ties: hard best-of-n.

    Args:
      key: a typed PRNG key, traced; consumed (it breaks ties).
      rewards: `[..., n]` real, traced; `-inf` excludes a candidate.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate.

    Returns:
      `[...]` int32 indices; -1 under tracing where `select` gives -1.

    Raises:
      TypeError: as `select`.
      ValueError: as `select`.

    Numerics: the same index as `select` at temperature 0 with the same key.
    Source: derived here: the limit of the soft rule as the temperature goes to 0.

    Example:
      >>> int(sb.select_best(jax.random.key(0), [0.3, 0.9, 0.4]))
      1
    """
    return _select(key, rewards, 0.0, where, rule="soft")


@_checks.keyword_only("where")
def select_race(key: Array, rewards: Any, temperature: Any, *, where: Any = None) -> Array:
    """The index of the largest rewards / temperature + Exp(1): the uniform race.

    This is the largest of exp(r_i/λ)/U_i with U_i uniform on (0, 1). With candidates drawn from the
    reference law it comes closer to the tilted law than the soft rule as n grows.

    Args:
      key: a typed PRNG key, traced; consumed.
      rewards: `[..., n]` real, traced, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced; 0 and `inf` as in `select`.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate.

    Returns:
      `[...]` int32 indices; -1 under tracing where `select` gives -1.

    Raises:
      TypeError: as `select`.
      ValueError: as `select`.

    Numerics: in float32 a candidate more than 22 temperatures below the best (45 for n above 4096,
    and in float64) is never selected; its probability is below n e^-22.
    Source: arXiv:2609.21899 (the race); the exponential form is the logarithm of exp(r/λ)/U.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 1000)
      >>> rewards = jnp.float32([0.0, 1.0])
      >>> index = jax.vmap(lambda key: sb.select_race(key, rewards, 1.0))(keys)
      >>> int(jnp.sum(index == 0))  # about 1000 e^-1 / 2 = 184
      173
    """
    return _select(key, rewards, temperature, where, rule="race")


@_checks.keyword_only("where")
def select_many(key: Array, rewards: Any, temperature: Any, *, where: Any = None, k: int) -> Array:
    """The indices of k different candidates: the soft rule k times without replacement.

    The first is drawn as by `select`, the second by the same rule among the others, and so on (the
    Plackett-Luce law): Pr(i_1..i_k) = Π_j exp(r_{i_j}/λ) / Σ_{i not in i_1..i_{j-1}} exp(r_i/λ). At
    temperature 0 these are the k largest rewards, sorted, ties in random order.

    Args:
      key: a typed PRNG key, traced; consumed. The first index is that of `select` with the same key
        (unless noisy scores tie, with probability below 1e-5), and a larger k only appends.
      rewards: `[..., n]` real, traced, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced; 0 and `inf` as in `select`.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate.
      k: how many, an integer from 1 to n, static.

    Returns:
      `[..., k]` int32 indices in the order drawn, -1 after the last candidate if there are fewer
      than k; all -1 under tracing where `select` gives -1.

    Raises:
      TypeError: as `select`.
      ValueError: k is not an integer from 1 to n, and as `select`.

    Numerics: as `select`. Costs a partial sort of the last axis, and a full one where scores tie.
    Source: the k largest of r/λ + Gumbel have this law (Yellott 1977; arXiv:1903.06059).

    Example:
      >>> sb.select_many(jax.random.key(0), [0.3, 0.9, 0.4, 0.1], 0.0, k=3).tolist()
      [1, 2, 0]
    """
    if k is None:  # which stands for one index in the worker
        raise ValueError("k must be an integer from 1 to n, got None")
    return _select(key, rewards, temperature, where, rule="soft", k=k)


@_checks.keyword_only("where")
def selection_log_probs(rewards: Any, temperature: Any, *, where: Any = None) -> Array:
    """Log-probabilities of `select`: the log-softmax of rewards / temperature over the candidates.

    Args:
      rewards: `[..., n]` real, traced, in the units of `temperature`; `-inf` excludes a candidate.
      temperature: scalar or `[...]`, at least 0, traced. 0 is uniform over the largest rewards,
        `inf` uniform over the candidates.
      where: bool, traced, broadcasts against `rewards`; False excludes a candidate.

    Returns:
      `[..., n]` log-probabilities (nats), `-inf` for an excluded candidate, in the dtype of
      `rewards`; half precision becomes float32. Under tracing, NaN in the rows where `select`
      gives -1.

    Raises:
      TypeError: an argument is not real.
      ValueError: as `select`.

    Numerics: differentiable in rewards and temperature for 0 < λ < inf, also with excluded
    candidates; both gradients are 0 at λ = 0 and λ = inf.
    Source: arXiv:2505.03156 (the sampler).

    Example:
      >>> log_probs = sb.selection_log_probs([0.0, 1.0, 2.0], 1.0, where=[True, True, False])
      >>> np.round(np.exp(np.float64(log_probs)), 4).tolist()
      [0.2689, 0.7311, 0.0]
    """
    rewards, temperature, where = prepare(rewards, temperature, where)
    log_probs = _log_probs(rewards, temperature, where)
    value = _checks.concrete(log_probs)
    if value is not None:
        explain(-value[..., 0], rewards, where)
    return log_probs


# Workers ------------------------------------------------------------------------------------------


def _select(
    key: Array, rewards: Any, temperature: Any, where: Any, *, rule: str, k: int | None = None
) -> Array:
    """Check, draw, and explain a -1 where its cause is known."""
    _checks.key(key)
    rewards, temperature, where = prepare(rewards, temperature, where)
    if k is not None:
        k = _checks.positive_integer("k", k, most=rewards.shape[-1])
    index = _draw(key, rewards, temperature, where, rule=rule, k=k)
    value = _checks.concrete(index)
    if value is not None:
        explain(value if k is None else value[..., 0], rewards, where)
    return index


@partial(jax.jit, static_argnames=("rule", "k"))
def _draw(
    key: Array, rewards: Array, temperature: Array, where: Array | None, *, rule: str, k: int | None
) -> Array:
    rewards, temperature = rows(rewards, temperature, where)
    logits, can_win, valid = scaled(rewards, temperature)
    draw = _noise.gumbel if rule == "soft" else _noise.exponential
    one_word = rewards.shape[-1] <= _noise.ONE_WORD_LIMIT
    noise = draw(key, rewards.shape, rewards.dtype, one_word=one_word)
    scores = jnp.where(can_win, logits + noise, -jnp.inf)
    if k is None:
        return jnp.where(valid[..., 0], argmax(scores), -1)
    # At temperature 0 those that cannot win are sorted by reward, too.
    scores = jnp.where(temperature > 0, scores, rewards)
    candidate = (rewards > -jnp.inf) & valid
    scores = jnp.where(candidate, jnp.maximum(scores, jnp.finfo(scores.dtype).min), -jnp.inf)
    first = partial(_first, k=k)
    return _sharding.over_shards(first, (scores, noise, candidate), (1, 1, 1))


def _first(scores: Array, noise: Array, candidate: Array, k: int) -> Array:
    """The indices of the k largest by (score, noise), -1 for what is not a candidate."""
    index = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    index = jnp.where(candidate, index, -1)

    def by_sort() -> Array:
        return lax.sort((-scores, -noise, index), num_keys=2)[-1][..., :k]

    # A partial sort is thirty times cheaper but takes the first of equal scores, and scores are
    # equal at temperature 0 and where a small temperature swallows the noise: then sort in full.
    # (Without the barrier XLA on CPU fuses the comparison into top_k and sorts after all.)
    # (Inside `shard_map` XLA does not compile it.)
    found = lax.top_k(scores, min(k + 1, scores.shape[-1]))
    top, at = found if _loops.inside() else lax.optimization_barrier(found)
    tied = jnp.any((top[..., 1:] == top[..., :-1]) & (top[..., 1:] > -jnp.inf))
    return _loops.cond(tied, by_sort, lambda: jnp.take_along_axis(index, at[..., :k], axis=-1))


@jax.jit
def _log_probs(rewards: Array, temperature: Array, where: Array | None) -> Array:
    logits, can_win, valid = scaled(*rows(rewards, temperature, where))
    # The largest logit is 0, so nothing overflows.
    total = jnp.sum(jnp.where(can_win, jnp.exp(logits), 0), axis=-1, keepdims=True)
    log_probs = logits - jnp.log(jnp.where(valid, total, 1))
    return jnp.where(valid, jnp.where(can_win, log_probs, -jnp.inf), jnp.nan)
