"""Moments of W = e^{r/λ}/E_P[e^{r/λ}], of which the bounds are made, as logarithms.

Each is a sum of non-negative terms, formed from W/E[W] - 1 without cancellation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _checks, _memory, _sharding, _special, exact
from softbon_jax.problem import Problem

Array = jax.Array


class Tilt(NamedTuple):
    """A problem at a temperature.

    Attributes:
      log_probs: `[..., K]` log P.
      rewards: `[..., K]`, that of an outcome of probability 0 replaced by the largest of the others.
      temperature: `[...]`
      log_weights: `[..., K]` log W.
      log_tilted: `[..., K]` log P*.
      scaled_range: `[...]` Δ/λ over the outcomes of positive probability.
    """

    log_probs: Array
    rewards: Array
    temperature: Array
    log_weights: Array
    log_tilted: Array
    scaled_range: Array


# Of the tilt and of a parameter that broadcasts against its temperature: log n, or a budget.
Formula = Callable[[Tilt, Array], Array]


@functools.cache  # one object for each pair: it is a static argument of the compiled worker
def by_power(log_moment: Callable[[Tilt], Array], power: float) -> Formula:
    """The formula e^log_moment / n^power."""
    return lambda tilt, log_n: jnp.exp(log_moment(tilt) - power * log_n)


def checked(problem: Problem, n: Any, temperature: Any, log_n: Any) -> tuple[Problem, Array, Array]:
    """(problem, temperature, log n) as arrays of one dtype that broadcast, as `run` takes them."""
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, n=log_n.shape)
    return problem, temperature, log_n


def at(formula: Formula, problem: Problem, n: Any, temperature: Any, log_n: Any) -> Array:
    """Check the arguments and run the compiled formula."""
    return run(formula, *checked(problem, n, temperature, log_n))


def of(formula: Formula, problem: Problem, temperature: Any) -> Array:
    """The same for a formula without a parameter: its value at n = 1."""
    return at(formula, problem, None, temperature, 0.0)


@functools.partial(jax.jit, static_argnames="formula")
def run(formula: Formula, problem: Problem, temperature: Array, parameter: Array) -> Array:
    """The formula over the broadcast of all batch axes; a traced temperature below 0 gives NaN."""
    chex.assert_type([*problem, temperature, parameter], problem.rewards.dtype)
    local = functools.partial(_run, formula)
    return _sharding.over_shards(local, (problem, temperature, parameter), (1, 0, 0))


def _run(formula: Formula, problem: Problem, temperature: Array, parameter: Array) -> Array:
    shape = jnp.broadcast_shapes(problem.batch_shape, temperature.shape, parameter.shape)
    tilted = jnp.broadcast_shapes(problem.batch_shape, temperature.shape)
    numbers = 8 * math.prod(tilted) * problem.num_outcomes + 2 * math.prod(shape)
    _memory.check(numbers * temperature.dtype.itemsize)

    def aligned(x: Array, rank: int) -> Array:
        return x.reshape((1,) * (rank - x.ndim) + x.shape)

    problem = Problem(*(aligned(x, len(shape) + 1) for x in problem))
    temperature = aligned(jnp.where(temperature >= 0, temperature, jnp.nan), len(shape))
    parameter = aligned(parameter, len(shape))
    result = formula(tilt(problem, temperature), parameter)
    # A NaN in an argument is a NaN in the result, whatever a limit makes of it.
    bad = functools.reduce(jnp.logical_or, (jnp.isnan(x).any(-1) for x in problem))
    bad = bad | jnp.isnan(temperature) | jnp.isnan(parameter)
    return jnp.where(bad, jnp.nan, jnp.broadcast_to(result, shape))


def tilt(problem: Problem, temperature: Array) -> Tilt:
    """The tilt of a problem `[..., K]` at a temperature of as many batch axes."""
    chex.assert_equal_rank([*problem, temperature[..., None]])
    log_probs = exact.normalized(problem.log_probs)
    rewards, _ = exact.on_support(*jnp.broadcast_arrays(log_probs, problem.rewards))
    rewards = jnp.where(jnp.isfinite(rewards), rewards, jnp.nan)
    log_w = log_weights(log_probs, rewards, temperature)
    best, worst = (at_largest(rewards, rewards, log_probs, sign) for sign in (1, -1))
    scaled_range = over(best, worst, temperature)
    return Tilt(log_probs, rewards, temperature, log_w, log_probs + log_w, scaled_range)


def at_largest(x: Array, rewards: Array, log_probs: Array, sign: int = 1) -> Array:
    """The x of an outcome of positive probability with the largest (smallest for sign = -1) reward.

    It is taken by its index. The gradient of `max` compares floats for equality, which fails silently
    where a compiler evaluates an expression twice with different rounding. Here and below, no
    gradient passes through `max`, `min`, `maximum` or `minimum`.
    """
    score = jnp.where(log_probs == -jnp.inf, -jnp.inf, sign * rewards)
    return take(x, jnp.argmax(score, axis=-1, keepdims=True))[..., 0]


def take(x: Array, index: Array) -> Array:
    """Entries `index` `[..., 1]` of the last axis of x."""
    shape = jnp.broadcast_shapes(x.shape[:-1], index.shape[:-1])
    x = jnp.broadcast_to(x, (*shape, x.shape[-1]))
    return jnp.take_along_axis(x, jnp.broadcast_to(index, (*shape, 1)), axis=-1)


def over(rewards: Array, origin: Array, temperature: Array) -> Array:
    """(rewards - origin)/temperature, at temperature 0 its limit: ±inf, or 0 where they are equal."""
    zero = temperature == 0
    limit = jnp.where(rewards == origin, 0.0, jnp.sign(rewards - origin) * jnp.inf)
    safe = _special.over(rewards, origin, jnp.where(zero, 1.0, temperature))
    return jnp.where(zero, jax.lax.stop_gradient(limit), safe)


def log_weights(log_q: Array, rewards: Array, temperature: Array) -> Array:
    """Log of e^{r/λ}/E_q[e^{r/λ}], with a small relative error also where it is near 0.

    It is near 0 where λ is large, and at an outcome that q makes nearly certain.
    """
    temperature = temperature[..., None]
    live = log_q != -jnp.inf
    top = jnp.max(jnp.where(live, rewards, -jnp.inf), axis=-1, keepdims=True)
    # The result does not depend on the origin of r, so no gradient need pass through it.
    top = jax.lax.stop_gradient(top)
    from_top = over(jnp.where(live, rewards, top), top, temperature)
    far = from_top - log_sum(log_q + from_top)[..., None]
    # Relative to the most likely outcome, y = E_q[e^{(r - r_ref)/λ}] - 1 is formed without
    # cancellation, and used where it is small. Terms above e are clipped: then y is not small.
    at_ref = jax.lax.stop_gradient(take(rewards, jnp.argmax(log_q, axis=-1, keepdims=True)))
    from_ref = over(jnp.where(live, rewards, at_ref), at_ref, temperature)
    up = from_ref > 1
    log_gain = log_q + from_ref
    gain = jnp.exp(jnp.where(log_gain < 1, log_gain, 1.0)) * -jnp.expm1(
        -jnp.where(up, from_ref, 1.0)
    )
    loss = jnp.exp(log_q) * jnp.expm1(jnp.where(up, 0.0, from_ref))
    y = jnp.sum(jnp.where(up, gain, loss), axis=-1, keepdims=True)
    near = jnp.abs(y) < 0.5
    return jnp.where(near, from_ref - jnp.log1p(jnp.where(near, y, 0.0)), far)


def log_sum(terms: Array) -> Array:
    """Log of Σ e^terms over the last axis; -inf with gradient 0 where every term is -inf."""
    top = jax.lax.stop_gradient(jnp.max(terms, axis=-1, keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    return log(jnp.sum(jnp.exp(terms - top), axis=-1)) + top[..., 0]


def log(x: Array) -> Array:
    """Log of x >= 0; -inf with gradient 0 where 1/x could overflow; NaN stays NaN."""
    zero = jnp.abs(x) < jnp.finfo(x.dtype).tiny * 4
    return jnp.where(zero, -jnp.inf, jnp.log(jnp.where(zero, 1.0, x)))


def log_abs_expm1(x: Array) -> Array:
    """Log of |e^x - 1| for every x, infinities included; -inf with gradient 0 at x = 0."""
    return jnp.where(x > 0, x, 0.0) + log(-jnp.expm1(-jnp.abs(x)))


# Moments of W, as logarithms ---------------------------------------------------------------------


def log_cv_squared(tilt: Tilt) -> Array:
    """Log of CV² = E_P[(W - 1)²]."""
    return log_sum(tilt.log_probs + 2 * log_abs_expm1(tilt.log_weights))


def log_mean_tilted(tilt: Tilt) -> Array:
    """Log of E_{P*}[W] = 1 + CV²."""
    return jax.nn.softplus(log_cv_squared(tilt))


def tilted_log_weights(tilt: Tilt) -> Array:
    """Log of W/E_{P*}[W], from which W - E_{P*}[W] is formed."""
    return log_weights(tilt.log_tilted, tilt.rewards, tilt.temperature)


def log_half_variance(tilt: Tilt) -> Array:
    """Log of Var_{P*}(W)/2."""
    squares = tilt.log_tilted + 2 * log_abs_expm1(tilted_log_weights(tilt))
    return 2 * log_mean_tilted(tilt) + log_sum(squares) - math.log(2)


def log_half_deviation(tilt: Tilt) -> Array:
    """Log of E_{P*}|W - E_{P*}W|/2.

    That is the part above the mean, or the part below it: the two are equal. The larger is taken: the
    deviation of a nearly certain outcome may underflow, and the smaller is the one that lacks it.
    """
    log_w = tilted_log_weights(tilt)
    terms = tilt.log_tilted + log_abs_expm1(log_w)
    above, below = (
        log_sum(jnp.where(outside, -jnp.inf, terms)) for outside in (log_w < 0, log_w > 0)
    )
    return log_mean_tilted(tilt) + jnp.where(above > below, above, below)


def log_covariance(tilt: Tilt) -> Array:
    """Log of Cov_{P*}(r, W).

    That is E_{P*}[(r - c)(W - E_{P*}W)] for any c. If c is the reward at which W equals its mean,
    r - c = λ log(W/E_{P*}W) and every term is non-negative.
    """
    log_w = tilted_log_weights(tilt)
    lead = log(jnp.abs(jnp.where(tilt.log_tilted == -jnp.inf, 0.0, log_w)))
    limit = (tilt.temperature == 0) | jnp.isposinf(tilt.temperature)  # every term is 0 there
    log_temperature = jnp.log(jnp.where(limit, 1.0, tilt.temperature))
    terms = tilt.log_tilted + log_abs_expm1(log_w) + lead
    return log_mean_tilted(tilt) + log_temperature + log_sum(terms)


def log_largest_excess(tilt: Tilt) -> Array:
    """Log of M = max W - 1."""
    return log_abs_expm1(at_largest(tilt.log_weights, tilt.rewards, tilt.log_probs))


def log_fluctuation(tilt: Tilt) -> Array:
    """Log of Σ_x (E_P[W² (1_x - P*(x))²])^½ / √(2π).

    The moment is P*(x) W(x) (1 - P*(x))² + P*(x)² Σ_{y≠x} P*(y) W(y).
    """
    own = tilt.log_tilted + tilt.log_weights
    moment = [
        own + 2 * log_sum_of_others(tilt.log_tilted),
        2 * tilt.log_tilted + log_sum_of_others(own),
    ]
    return log_sum(log_sum(jnp.stack(moment, axis=-1)) / 2) - math.log(2 * math.pi) / 2


def log_sum_of_others(terms: Array) -> Array:
    """Log of Σ_{y≠x} e^terms(y) for each x, from the running sums on either side of x."""
    at_top = jax.lax.broadcasted_iota(jnp.int32, terms.shape, terms.ndim - 1) == jnp.argmax(
        terms, axis=-1, keepdims=True
    ).astype(jnp.int32)
    top = jax.lax.stop_gradient(jnp.max(terms, axis=-1, keepdims=True))
    summands = jnp.exp(terms - top)
    none = jnp.zeros_like(summands[..., :1])
    padded = jnp.concatenate([none, summands, none], axis=-1)
    before = jnp.cumsum(padded, axis=-1)[..., :-2]
    after = jax.lax.cumsum(padded, axis=padded.ndim - 1, reverse=True)[..., 2:]
    # The sum without the largest term may be too small to be represented relative to that term.
    without_top = log_sum(jnp.where(at_top, -jnp.inf, terms))[..., None]
    return jnp.where(at_top, without_top, log(before + after) + top)
