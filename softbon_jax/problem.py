"""A problem: a reference law on K outcomes and a reward for each, with builders of synthetic ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks

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


def from_probs(probs: Any, rewards: Any) -> Problem:
    """The problem with reference probabilities `probs` and rewards `rewards`.

    Args:
      probs: `[..., K]` non-negative, summing to 1 along the last axis to within 1e-8 (float64) or
        1e-5 (float32); the rounding left over is divided out. Zeros are legal.
      rewards: `[..., K]` finite, same K; leading axes broadcast against those of `probs`. Ties and
        negative values are legal.

    Returns:
      A `Problem` in the common float dtype of the two arguments.

    Raises:
      ValueError: K is 0, the shapes do not match, a probability is negative or not finite, a law does
        not sum to 1, or a reward is not finite. Values are checked when they are concrete; under `jit`
        a law that does not sum to 1 becomes NaN, and so does one with a negative probability.

    Numerics: the gradient with respect to a probability of exactly 0 is 0.
    """
    probs, rewards = _pair("probs", probs, rewards)
    value = _checks.concrete(probs)
    tolerance = probability_tolerance(probs.dtype)
    if value is not None:
        _checks.offending(
            "probs", value, ~(np.isfinite(value) & (value >= 0)), "finite and not negative"
        )
        total = value.sum(-1, dtype=np.float64)
        _checks.offending("the sum of probs", total, np.abs(total - 1) > tolerance, "1")
    _checks.finite("rewards", rewards)
    positive = probs > 0
    log_probs = jnp.where(positive, jnp.log(jnp.where(positive, probs, 1)), -jnp.inf)
    log_probs = jnp.where(probs >= 0, log_probs, jnp.nan)
    total = jnp.sum(probs, axis=-1, keepdims=True)
    log_total = jnp.where(jnp.abs(total - 1) <= tolerance, jnp.log(total), jnp.nan)
    return Problem(log_probs - log_total, rewards)


def from_logits(logits: Any, rewards: Any) -> Problem:
    """The problem with reference law softmax(`logits`) and rewards `rewards`.

    Args:
      logits: `[..., K]` unnormalized log-probabilities in nats; `-inf` excludes an outcome.
      rewards: `[..., K]` finite, same K; leading axes broadcast against those of `logits`.

    Returns:
      A `Problem` in the common float dtype of the two arguments.

    Raises:
      ValueError: K is 0, the shapes do not match, a logit is NaN or `+inf`, a law has no outcome left,
        or a reward is not finite. Values are checked when they are concrete, and give NaN otherwise.
    """
    logits, rewards = _pair("logits", logits, rewards)
    value = _checks.concrete(logits)
    if value is not None:
        _checks.offending("logits", value, np.isnan(value) | np.isposinf(value), "finite or -inf")
        top = value.max(-1)
        _checks.offending("the largest of logits", top, np.isneginf(top), "finite")
    _checks.finite("rewards", rewards)
    return Problem(jax.nn.log_softmax(logits, axis=-1), rewards)


def _pair(name: str, weights: Any, rewards: Any) -> tuple[Array, Array]:
    """Both arguments as arrays of one float dtype and one shape `[..., K]`."""
    weights, rewards = _checks.as_float(name, weights), _checks.as_float("rewards", rewards)
    for label, x in ((name, weights), ("rewards", rewards)):
        if x.ndim == 0 or x.shape[-1] == 0:
            raise ValueError(
                f"{label} must have at least one outcome on its last axis, got shape {x.shape}"
            )
    if weights.shape[-1] != rewards.shape[-1]:
        raise ValueError(
            f"{name} and rewards must have the same last axis,"
            f" got shapes {weights.shape} and {rewards.shape}"
        )
    shape = _checks.batch_shape(**{name: weights.shape, "rewards": rewards.shape})
    dtype = jnp.promote_types(weights.dtype, rewards.dtype)
    return (
        jnp.broadcast_to(weights.astype(dtype), shape),
        jnp.broadcast_to(rewards.astype(dtype), shape),
    )


# Synthetic problems ------------------------------------------------------------------------------


def _size(name: str, value: int, least: int = 1) -> int:
    if not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def _in_open_unit(name: str, x: Any) -> Array:
    x = _checks.as_float(name, x)
    value = _checks.concrete(x)
    if value is not None:
        _checks.offending(name, value, ~((value > 0) & (value < 1)), "strictly between 0 and 1")
    return x


def bernoulli(p: Any) -> Problem:
    """Two outcomes with rewards (0, 1), the second of probability `p`.

    Args:
      p: `[...]` strictly between 0 and 1, traced.

    Returns:
      A `Problem` with K = 2 and the batch shape of `p`.
    """
    p = _in_open_unit("p", p)
    rewards = jnp.broadcast_to(jnp.asarray([0, 1], p.dtype), (*p.shape, 2))
    return Problem(jnp.stack([jnp.log1p(-p), jnp.log(p)], -1), rewards)


def dirichlet(key: Array, num_outcomes: int, concentration: Any = 1.0) -> Problem:
    """A random law from the symmetric Dirichlet, with standard normal rewards.

    Args:
      key: a typed PRNG key (`jax.random.key`); consumed.
      num_outcomes: K, static.
      concentration: scalar > 0, traced; small values give laws with few heavy outcomes.

    Returns:
      A `Problem` of shape `[K]` in the default float dtype.
    """
    num_outcomes = _size("num_outcomes", num_outcomes)
    concentration = _checks.as_float("concentration", concentration)
    value = _checks.concrete(concentration)
    if value is not None:
        _checks.offending(
            "concentration", value, ~((value > 0) & np.isfinite(value)), "positive and finite"
        )
    probs_key, rewards_key = jax.random.split(key)
    # Normalizing in logs keeps outcomes whose gamma variate would underflow.
    log_gamma = jax.random.loggamma(probs_key, concentration, (num_outcomes,))
    rewards = jax.random.normal(rewards_key, (num_outcomes,), log_gamma.dtype)
    return Problem(jax.nn.log_softmax(log_gamma), rewards)


def zipf(num_outcomes: int, exponent: Any = 1.0) -> Problem:
    """P(k) proportional to k^-exponent, k = 1..K, with rewards rising evenly from 0 to 1.

    The rarest outcome is the best: the reward and the reference law pull in opposite directions.

    Args:
      num_outcomes: K, static.
      exponent: scalar, finite, traced.

    Returns:
      A `Problem` of shape `[K]` in the dtype of `exponent`.
    """
    num_outcomes = _size("num_outcomes", num_outcomes)
    exponent = _checks.as_float("exponent", exponent)
    _checks.finite("exponent", exponent)
    ranks = jnp.arange(1, num_outcomes + 1, dtype=exponent.dtype)
    log_probs = jax.nn.log_softmax(-exponent * jnp.log(ranks))
    return Problem(log_probs, jnp.linspace(0, 1, num_outcomes, dtype=exponent.dtype))


def uniform_quantiles(num_outcomes: int, dtype: Any = float) -> Problem:
    """K equally likely outcomes with rewards (k - 1/2)/K: a discretized uniform reward.

    Any continuous reward is uniform after its own distribution function; this is the law on which the
    classical best-of-n formulas (log n - (n-1)/n, win rate n/(n+1)) are approached as K grows.

    Args:
      num_outcomes: K, static.
      dtype: float dtype of the arrays.

    Returns:
      A `Problem` of shape `[K]`.
    """
    num_outcomes = _size("num_outcomes", num_outcomes)
    rewards = (jnp.arange(num_outcomes, dtype=dtype) + 0.5) / num_outcomes
    return Problem(jnp.full_like(rewards, -np.log(num_outcomes)), rewards)


def jackpot(num_outcomes: int, p: Any = 1e-6, prize: Any = 2.0) -> Problem:
    """A rare prize: one outcome of probability `p` and reward `prize`, the rest even in [0, 1].

    Args:
      num_outcomes: K >= 2, static.
      p: scalar strictly between 0 and 1, traced: the probability of the jackpot.
      prize: scalar, finite, traced: its reward, in the units of the others' range of 1.

    Returns:
      A `Problem` of shape `[K]` in the dtype of `p`; the jackpot is the last outcome.
    """
    num_outcomes = _size("num_outcomes", num_outcomes, least=2)
    p = _in_open_unit("p", p)
    prize = _checks.as_float("prize", prize, p.dtype)
    _checks.finite("prize", prize)
    rest = num_outcomes - 1
    log_probs = jnp.append(jnp.full((rest,), jnp.log1p(-p) - np.log(rest)), jnp.log(p))
    return Problem(log_probs, jnp.append(jnp.linspace(0, 1, rest, dtype=p.dtype), prize))


def worst_case(range_over_temperature: Any) -> Problem:
    """The two-outcome problem on which CV² = sinh²(Δ/2λ) holds with equality.

    P(high) = 1/(1 + e^{Δ/λ}) with rewards (0, Δ/λ), to be used at temperature 1. Derived here: among
    laws on [0, Δ] the variance of W is largest at two atoms, and then at this weight.

    Args:
      range_over_temperature: `[...]` Δ/λ > 0, traced.

    Returns:
      A `Problem` with K = 2 and the batch shape of the argument.
    """
    span = _checks.as_float("range_over_temperature", range_over_temperature)
    value = _checks.concrete(span)
    if value is not None:
        _checks.offending(
            "range_over_temperature",
            value,
            ~((value > 0) & np.isfinite(value)),
            "positive and finite",
        )
    log_probs = jnp.stack([jax.nn.log_sigmoid(span), jax.nn.log_sigmoid(-span)], -1)
    return Problem(log_probs, jnp.stack([jnp.zeros_like(span), span], -1))


def empirical(rewards: Any, where: Any = None) -> Problem:
    """The empirical law of a pool of scored candidates: each of the candidates equally likely.

    Args:
      rewards: `[..., N]` scores, finite wherever `where` holds.
      where: `[..., N]` bool; False leaves a candidate out (ragged pools). Default: all are in.

    Returns:
      A `Problem` of shape `[..., N]`; candidates left out have probability 0 and reward 0.

    Raises:
      ValueError: no candidate in a pool, N is 0, the shapes differ, or a score that is in is not
        finite. Values are checked when they are concrete; an empty pool gives NaN when traced.
    """
    rewards = _checks.as_float("rewards", rewards)
    if rewards.ndim == 0 or rewards.shape[-1] == 0:
        raise ValueError(
            f"rewards must have at least one candidate on its last axis, got shape {rewards.shape}"
        )
    where = jnp.ones(rewards.shape, bool) if where is None else jnp.asarray(where)
    if where.dtype != bool or where.shape != rewards.shape:
        raise ValueError(
            f"where must be bool of the shape of rewards {rewards.shape},"
            f" got {where.dtype} {where.shape}"
        )
    kept, value = _checks.concrete(where), _checks.concrete(rewards)
    if kept is not None:
        count = kept.sum(-1)
        _checks.offending("the number of candidates in a pool", count, count < 1, "at least 1")
    if kept is not None and value is not None:
        _checks.offending("rewards", value, kept & ~np.isfinite(value), "finite where they count")
    size = jnp.sum(where, axis=-1, keepdims=True).astype(rewards.dtype)
    log_probs = jnp.where(where, -jnp.log(jnp.where(size > 0, size, jnp.nan)), -jnp.inf)
    return Problem(log_probs, jnp.where(where, rewards, 0))
