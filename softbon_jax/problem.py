"""A problem: a reference law on K outcomes and a reward for each, with builders of synthetic ones."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _memory

Array = jax.Array


class Problem(NamedTuple):
    """A reference law P and a reward r on the same K outcomes, outcomes on the last axis.

    Attributes:
      log_probs: `[..., K]` float, log P in nats, normalized; `-inf` for an outcome of probability 0.
      rewards: `[..., K]` float, finite, in reward units (the units of the temperature).

    A Problem is a pytree of two arrays and can be passed through `jit`, `vmap` and `grad`. Build one
    with `from_probs` or `from_logits`, which check their input; the bare constructor checks nothing.
    """

    log_probs: Array
    rewards: Array

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes, with the outcomes' axis left out."""
        return jnp.broadcast_shapes(jnp.shape(self.log_probs), jnp.shape(self.rewards))[:-1]

    @property
    def num_outcomes(self) -> int:
        """K, the number of outcomes."""
        return jnp.shape(self.rewards)[-1]


def probability_tolerance(dtype: Any) -> float:
    """How far from 1 the probabilities of one law may sum: 1e-8 in float64, 1e-5 in float32."""
    return 1e-8 if jnp.finfo(dtype).bits >= 64 else 1e-5


def from_probs(probs: Any, rewards: Any, *, dtype: Any = None) -> Problem:
    """The problem with reference probabilities `probs` and rewards `rewards`.

    Args:
      probs: `[..., K]` non-negative, traced, summing to 1 along the last axis to within 1e-8
        (float64) or 1e-5 (float32); the remaining rounding is divided out. Zeros are legal.
      rewards: `[..., K]` finite, traced, same K; leading axes broadcast against those of `probs`.
        Ties and negative values are legal.
      dtype: static; float dtype of the result. Default: the common float dtype of the two arguments,
        with half precision promoted to float32 and integers to the default float.

    Returns:
      A `Problem` of the broadcast shape.

    Raises:
      TypeError: an argument is not real, or `dtype` is not a floating dtype.
      ValueError: K is 0, the shapes do not match, a probability is negative or not finite, a law does
        not sum to 1, or a reward is not finite. Values are checked when they are concrete; under `jit`
        a law that does not sum to 1 becomes NaN, and so does one with a negative probability.

    Numerics: the gradient with respect to a probability of exactly 0 is 0.
    Source: definition.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> problem.num_outcomes, problem.batch_shape
      (4, ())
    """
    probs, rewards = _pair("probs", probs, rewards, dtype)
    value = _checks.concrete(probs)
    if value is not None:
        _checks.offending(
            "probs", value, ~(np.isfinite(value) & (value >= 0)), "finite and not negative"
        )
        total = value.sum(-1, dtype=np.float64)
        bad = np.abs(total - 1) > probability_tolerance(probs.dtype)
        _checks.offending("the sum of probs", total, bad, "1")
    rewards = _checks.finite("rewards", rewards)
    return Problem(_log_of_law(probs), rewards)


@jax.jit
def _log_of_law(probs: Array) -> Array:
    """Log P without the rounding of its sum; NaN for what is not a law."""
    positive = probs > 0
    log_probs = jnp.where(positive, jnp.log(jnp.where(positive, probs, 1)), -jnp.inf)
    log_probs = jnp.where(probs >= 0, log_probs, jnp.nan)
    total = jnp.sum(probs, axis=-1, keepdims=True)
    is_law = jnp.abs(total - 1) <= probability_tolerance(probs.dtype)
    return log_probs - jnp.where(is_law, jnp.log(total), jnp.nan)


def from_logits(logits: Any, rewards: Any, *, dtype: Any = None) -> Problem:
    """The problem with reference law softmax(`logits`) and rewards `rewards`.

    Args:
      logits: `[..., K]` unnormalized log-probabilities in nats, traced; `-inf` excludes an outcome.
      rewards: `[..., K]` finite, traced, same K; leading axes broadcast against those of `logits`.
      dtype: static; as in `from_probs`.

    Returns:
      A `Problem` of the broadcast shape.

    Raises:
      TypeError: an argument is not real, or `dtype` is not a floating dtype.
      ValueError: K is 0, the shapes do not match, a logit is NaN or `+inf`, every outcome of a law is
        excluded, or a reward is not finite. Values are checked when they are concrete, and give NaN
        otherwise.

    Numerics: log-softmax, with the largest logit subtracted first.
    Source: definition.

    Example:
      >>> problem = sb.from_logits([0.0, 0.0, -jnp.inf], [0.0, 1.0, 2.0])
      >>> np.exp(problem.log_probs).tolist()
      [0.5, 0.5, 0.0]
    """
    logits, rewards = _pair("logits", logits, rewards, dtype)
    value = _checks.concrete(logits)
    if value is not None:
        _checks.offending("logits", value, np.isnan(value) | np.isposinf(value), "finite or -inf")
        top = value.max(-1)
        _checks.offending("the largest of logits", top, np.isneginf(top), "finite")
    rewards = _checks.finite("rewards", rewards)
    return Problem(_log_softmax(logits), rewards)


_log_softmax = jax.jit(functools.partial(jax.nn.log_softmax, axis=-1))


def _pair(name: str, weights: Any, rewards: Any, dtype: Any) -> tuple[Array, Array]:
    """Both arguments as arrays of one float dtype and one shape `[..., K]`."""
    dtype = _given(dtype)
    weights = _checks.as_float(name, weights, dtype)
    rewards = _checks.as_float("rewards", rewards, dtype)
    _checks.outcomes(name, weights)
    _checks.outcomes("rewards", rewards)
    if weights.shape[-1] != rewards.shape[-1]:
        raise ValueError(
            f"{name} and rewards must have the same last axis,"
            f" got shapes {weights.shape} and {rewards.shape}"
        )
    shape = _checks.batch_shape(**{name: weights.shape, "rewards": rewards.shape})
    dtype = jnp.promote_types(weights.dtype, rewards.dtype)
    if weights.shape != rewards.shape:
        _memory.check(4 * math.prod(shape) * dtype.itemsize)
    return (
        _broadcast(weights.astype(dtype), shape),
        _broadcast(rewards.astype(dtype), shape),
    )


def _broadcast(x: Array, shape: tuple[int, ...]) -> Array:
    return x if x.shape == shape else jnp.broadcast_to(x, shape)


def _given(dtype: Any) -> Any:
    """The float dtype that was asked for; None, which leaves it to the arguments, if none was."""
    return None if dtype is None else _checks.float_dtype(dtype)


# Synthetic problems ------------------------------------------------------------------------------


def bernoulli(p: Any, *, dtype: Any = None) -> Problem:
    """Two outcomes with rewards (0, 1), the second of probability `p`.

    Args:
      p: `[...]` strictly between 0 and 1, traced.
      dtype: static; float dtype of the result. Default: that of `p`.

    Returns:
      A `Problem` with K = 2 and the batch shape of `p`.

    Raises:
      TypeError: `p` is not real, or `dtype` is not a floating dtype.
      ValueError: `p` is concrete and not in (0, 1) in the dtype of the result.

    Numerics: log(1 - p) by `log1p`.
    Source: definition.

    Example:
      >>> np.round(np.exp(sb.bernoulli(0.25).log_probs), 4).tolist()
      [0.75, 0.25]
    """
    p = _checks.as_float("p", p, _given(dtype))
    p = _checks.inside_unit_interval("p", p)
    return _bernoulli(p)


@jax.jit
def _bernoulli(p: Array) -> Problem:
    rewards = jnp.broadcast_to(jnp.asarray([0, 1], p.dtype), (*p.shape, 2))
    return Problem(jnp.stack([jnp.log1p(-p), jnp.log(p)], -1), rewards)


def dirichlet(
    key: Array, num_outcomes: int, concentration: Any = 1.0, *, dtype: Any = None
) -> Problem:
    """A random law from the symmetric Dirichlet, with standard normal rewards.

    Args:
      key: a typed PRNG key (`jax.random.key`), traced; consumed.
      num_outcomes: K, static.
      concentration: scalar > 0, traced; small values give laws with few heavy outcomes.
      dtype: static; float dtype of the result. Default: the default float.

    Returns:
      A `Problem` of shape `[K]`.

    Raises:
      TypeError: `concentration` is not real, or `dtype` is not a floating dtype.
      ValueError: `num_outcomes` is not a positive integer, or a concrete `concentration` is not
        positive and finite.

    Numerics: gamma variates are drawn and normalized as logarithms, so that probabilities which
      underflow are kept.
    Source: a Dirichlet law is that of independent gamma variates divided by their sum.

    Example:
      >>> problem = sb.dirichlet(jax.random.key(0), 8)
      >>> problem.num_outcomes, round(float(jnp.exp(problem.log_probs).sum()), 4)
      (8, 1.0)
    """
    _checks.key(key)
    num_outcomes = _checks.positive_integer("num_outcomes", num_outcomes)
    concentration = _checks.finite_positive("concentration", concentration)
    return _dirichlet(
        key, concentration, num_outcomes=num_outcomes, dtype=_checks.float_dtype(dtype)
    )


@functools.partial(jax.jit, static_argnames=("num_outcomes", "dtype"))
def _dirichlet(key: Array, concentration: Array, *, num_outcomes: int, dtype: Any) -> Problem:
    _memory.check(4 * num_outcomes * jnp.dtype(dtype).itemsize)
    probs_key, rewards_key = jax.random.split(key)
    # Normalizing in logs keeps outcomes whose gamma variate would underflow.
    log_gamma = jax.random.loggamma(probs_key, concentration, (num_outcomes,), dtype)
    rewards = jax.random.normal(rewards_key, (num_outcomes,), dtype)
    return Problem(jax.nn.log_softmax(log_gamma), rewards)


def zipf(num_outcomes: int, exponent: Any = 1.0, *, dtype: Any = None) -> Problem:
    """P(k) proportional to k^-exponent, k = 1..K, with rewards rising evenly from 0 to 1.

    The rarest outcome is the best: the reward and the reference law pull in opposite directions.

    Args:
      num_outcomes: K, static.
      exponent: scalar, finite, traced.
      dtype: static; float dtype of the result. Default: that of `exponent`.

    Returns:
      A `Problem` of shape `[K]`.

    Raises:
      TypeError: `exponent` is not real, or `dtype` is not a floating dtype.
      ValueError: `num_outcomes` is not a positive integer, or a concrete `exponent` is not finite.

    Numerics: normalized in logs.
    Source: definition.

    Example:
      >>> problem = sb.zipf(3)
      >>> np.round(np.exp(problem.log_probs) * 11, 3).tolist(), problem.rewards.tolist()
      ([6.0, 3.0, 2.0], [0.0, 0.5, 1.0])
    """
    num_outcomes = _checks.positive_integer("num_outcomes", num_outcomes)
    exponent = _checks.finite("exponent", exponent, _given(dtype))
    return _zipf(exponent, num_outcomes=num_outcomes)


@functools.partial(jax.jit, static_argnames="num_outcomes")
def _zipf(exponent: Array, *, num_outcomes: int) -> Problem:
    _memory.check(4 * num_outcomes * exponent.dtype.itemsize)
    ranks = jnp.arange(1, num_outcomes + 1, dtype=exponent.dtype)
    log_probs = jax.nn.log_softmax(-exponent * jnp.log(ranks))
    return Problem(log_probs, jnp.linspace(0, 1, num_outcomes, dtype=exponent.dtype))


@_checks.keyword_only("dtype")
def uniform_quantiles(num_outcomes: int, *, dtype: Any = None) -> Problem:
    """K equally likely outcomes with rewards (k - 1/2)/K: a discretized uniform reward.

    Any continuous reward is uniform after its own distribution function; this is the law on which the
    classical best-of-n formulas (log n - (n-1)/n, win rate n/(n+1)) are approached as K grows.

    Args:
      num_outcomes: K, static.
      dtype: static; float dtype of the result. Default: the default float.

    Returns:
      A `Problem` of shape `[K]`.

    Raises:
      TypeError: `dtype` is not a floating dtype.
      ValueError: `num_outcomes` is not a positive integer.

    Numerics: k - 1/2 is exact up to K = 2^23 in float32.
    Source: definition.

    Example:
      >>> sb.uniform_quantiles(4).rewards.tolist()
      [0.125, 0.375, 0.625, 0.875]
    """
    num_outcomes = _checks.positive_integer("num_outcomes", num_outcomes)
    return _uniform_quantiles(num_outcomes=num_outcomes, dtype=_checks.float_dtype(dtype))


@functools.partial(jax.jit, static_argnames=("num_outcomes", "dtype"))
def _uniform_quantiles(*, num_outcomes: int, dtype: Any) -> Problem:
    _memory.check(4 * num_outcomes * jnp.dtype(dtype).itemsize)
    rewards = (jnp.arange(num_outcomes, dtype=dtype) + 0.5) / num_outcomes
    return Problem(jnp.full_like(rewards, -np.log(num_outcomes)), rewards)


def jackpot(num_outcomes: int, p: Any = 1e-6, prize: Any = 2.0, *, dtype: Any = None) -> Problem:
    """A rare prize: one outcome of probability `p` and reward `prize`, the rest even in [0, 1].

    Args:
      num_outcomes: K >= 2, static.
      p: scalar strictly between 0 and 1, traced: the probability of the jackpot.
      prize: scalar, finite, traced: its reward, in the units of the others' range of 1.
      dtype: static; float dtype of the result. Default: that of `p`.

    Returns:
      A `Problem` of shape `[K]`; the jackpot is the last outcome.

    Raises:
      TypeError: `p` or `prize` is not real, or `dtype` is not a floating dtype.
      ValueError: `num_outcomes` is not an integer of at least 2, or a concrete `p` is not in (0, 1),
        or a concrete `prize` is not finite.

    Numerics: log(1 - p) by `log1p`.
    Source: definition.

    Example:
      >>> sb.jackpot(4, p=0.01).rewards.tolist()
      [0.0, 0.5, 1.0, 2.0]
    """
    num_outcomes = _checks.positive_integer("num_outcomes", num_outcomes, least=2)
    p = _checks.as_float("p", p, _given(dtype))
    p = _checks.inside_unit_interval("p", p)
    prize = _checks.finite("prize", prize, p.dtype)
    return _jackpot(p, prize, rest=num_outcomes - 1)


@functools.partial(jax.jit, static_argnames="rest")
def _jackpot(p: Array, prize: Array, *, rest: int) -> Problem:
    _memory.check(4 * rest * p.dtype.itemsize)
    log_probs = jnp.append(jnp.full((rest,), jnp.log1p(-p) - math.log(rest)), jnp.log(p))
    return Problem(log_probs, jnp.append(jnp.linspace(0, 1, rest, dtype=p.dtype), prize))


def worst_case(range_over_temperature: Any, *, dtype: Any = None) -> Problem:
    """The two-outcome problem on which CV² = sinh²(Δ/2λ) holds with equality.

    P(high) = 1/(1 + e^{Δ/λ}) with rewards (0, Δ/λ), to be used at temperature 1.

    Args:
      range_over_temperature: `[...]` Δ/λ > 0, traced.
      dtype: static; float dtype of the result. Default: that of the argument.

    Returns:
      A `Problem` with K = 2 and the batch shape of the argument.

    Raises:
      TypeError: the argument is not real, or `dtype` is not a floating dtype.
      ValueError: the argument is concrete and not positive and finite.

    Numerics: both log-probabilities by log-sigmoid, without cancellation.
    Source: derived here: among laws on [0, Δ] the variance of W = e^{r/λ}/E[e^{r/λ}] is largest at
      two atoms, and then at this weight.

    Example:
      >>> cv_squared = sb.bounds.cv_squared(sb.worst_case(2.0), 1.0)
      >>> round(float(cv_squared), 4), round(float(np.sinh(1.0)) ** 2, 4)
      (1.3811, 1.3811)
    """
    span = _checks.as_float("range_over_temperature", range_over_temperature, _given(dtype))
    span = _checks.finite_positive("range_over_temperature", span)
    return _worst_case(span)


@jax.jit
def _worst_case(span: Array) -> Problem:
    log_probs = jnp.stack([jax.nn.log_sigmoid(span), jax.nn.log_sigmoid(-span)], -1)
    return Problem(log_probs, jnp.stack([jnp.zeros_like(span), span], -1))


@_checks.keyword_only("where")
def empirical(rewards: Any, *, where: Any = None, dtype: Any = None) -> Problem:
    """The empirical law of a pool of scored candidates: every candidate equally likely.

    Args:
      rewards: `[..., N]` scores, traced, finite wherever `where` holds.
      where: bool, traced, broadcasts against `rewards`; False leaves a candidate out (ragged pools).
        Default: all are in.
      dtype: static; float dtype of the result. Default: that of `rewards`.

    Returns:
      A `Problem` of shape `[..., N]`; candidates left out have probability 0 and reward 0.

    Raises:
      TypeError: `rewards` is not real, or `dtype` is not a floating dtype.
      ValueError: N is 0, a pool has no candidate, `where` is not bool or does not broadcast, or a
        score that counts is not finite. Values are checked when they are concrete; an empty pool
        gives NaN when traced.

    Numerics: the gradient with respect to a score that is left out is 0.
    Source: definition.

    Example:
      >>> pools = sb.empirical([[1.0, 2.0], [5.0, 7.0]], where=np.array([[True, True], [True, False]]))
      >>> np.exp(pools.log_probs).tolist()
      [[0.5, 0.5], [1.0, 0.0]]
    """
    rewards = _checks.as_float("rewards", rewards, _given(dtype))
    _checks.outcomes("rewards", rewards, "candidate")
    where = _checks.mask(where, rewards.shape)
    kept, value = _checks.concrete(where), _checks.concrete(rewards)
    if kept is not None:
        count = kept.sum(-1)
        _checks.offending("the number of candidates in a pool", count, count < 1, "at least 1")
    if kept is not None and value is not None:
        _checks.offending("rewards", value, kept & ~np.isfinite(value), "finite where they count")
    return _equally_likely(rewards, where)


@jax.jit
def _equally_likely(rewards: Array, where: Array) -> Problem:
    size = jnp.sum(where, axis=-1, keepdims=True).astype(rewards.dtype)
    log_probs = jnp.where(where, -jnp.log(jnp.where(size > 0, size, jnp.nan)), -jnp.inf)
    rewards = jnp.where(jnp.isfinite(rewards), rewards, jnp.nan)
    return Problem(log_probs, jnp.where(where, rewards, 0))
