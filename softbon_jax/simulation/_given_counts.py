"""What a rule selects given the multinomial counts of n draws: its law, or one selection."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from softbon_jax import _loops
from softbon_jax.exact.laws import log_tilted
from softbon_jax.problem import Problem
from softbon_jax.sampling import scaled
from softbon_jax.simulation import _draws, _jackknife
from softbon_jax.simulation._draws import LANES

Array = jax.Array

# Counts of a block, trials × outcomes, that are turned into laws at once.
TOGETHER = 2**23


def softmax_measure(counts: Array, problem: Problem, temperature: Array) -> Array:
    """R, the law of the selected sample given the counts `[LANES, K]`; hard at λ = 0."""
    logits, can_win = _scaled_where(counts > 0, problem.rewards, temperature)
    weights = jnp.where(can_win, counts * jnp.exp(logits), 0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def controlled_law(problem: Problem, n: Array, temperature: Array) -> Callable[[Array], Array]:
    """What gives, from counts `[B, K]`, unbiased estimates `[B, K]` of P_n: P* + (1 - c s)(R - P*).

    See `sb.simulate`.
    """
    target = jnp.exp(log_tilted(problem, temperature))
    logits, _ = _scaled_where(problem.log_probs > -jnp.inf, problem.rewards, temperature)
    log_weights = logits - jax.nn.logsumexp(logits + problem.log_probs)
    # In logs, because W overflows at small temperatures, and then s is useless and c is 0.
    log_away = jnp.log(jnp.maximum(1 - 2 * target + target @ target, 0))  # |1_x - P*|²
    log_terms = problem.log_probs + log_weights + log_away
    log_ratio = jax.nn.logsumexp(log_terms + log_weights) - jax.nn.logsumexp(log_terms)
    log_control = -jnp.logaddexp(jnp.log(n - 1), log_ratio)  # of c/n
    useful = (temperature > 0) & jnp.isfinite(log_ratio)  # not if P* is on one outcome

    def law(counts: Array) -> Array:
        measure = softmax_measure(counts, problem, temperature)
        shares = counts * jnp.exp(log_weights + log_control)[None]
        control = jnp.where(useful, jnp.sum(shares, axis=-1, keepdims=True), 0)
        return target[None] + (1 - control) * (measure - target[None])

    return law


def averaged(
    value: Callable[[Array], Array], problem: Problem, n: Array
) -> tuple[Callable[[Array], Array], Callable[[Array, Array, Array], Array]]:
    """`simulate` and `add` of `_jackknife.accumulate` for the average of `value(counts [B, K])`.

    With many outcomes the counts of a block are kept, and its trials added a few at a time.
    """
    few = TOGETHER // problem.num_outcomes
    if few >= LANES:
        return lambda key: value(_draws.counts(key, problem.log_probs, n)), _jackknife.add_rows
    few = 1 << max(few, 1).bit_length() - 1

    def add(total: Array, counts: Array, live: Array) -> Array:
        def some(i: Array, total: Array) -> Array:
            rows = value(lax.dynamic_slice_in_dim(counts, i * few, few, axis=1).T)
            live_rows = lax.dynamic_slice_in_dim(live, i * few, few)
            live_rows = live_rows.reshape(few, *(1,) * (rows.ndim - 1))
            rows = jnp.where(live_rows, rows, 0)
            rows = rows + lax.dynamic_slice_in_dim(total, i * few, few)
            return lax.dynamic_update_slice_in_dim(total, rows, i * few, axis=0)

        return _loops.fori_loop(0, LANES // few, some, total)

    return lambda key: _draws.counts_by_outcome(key, problem.log_probs, n), add


def race_winner(key: Array, problem: Problem, n: Array, temperature: Array) -> Array:
    """One-hot rows `[LANES, K]` of the outcome that wins the race, given the counts."""
    counts_key, noise_key = jax.random.split(key)
    counts = _draws.counts(counts_key, problem.log_probs, n)
    logits, can_win = _scaled_where(counts > 0, problem.rewards, temperature)
    # Of the draws of one outcome only the one with the largest noise can win.
    scores = jnp.where(can_win, logits + _draws.largest_exponential(noise_key, counts), -jnp.inf)
    return jax.nn.one_hot(jnp.argmax(scores, axis=-1), counts.shape[-1], dtype=counts.dtype)


def _scaled_where(present: Array, rewards: Array, temperature: Array) -> tuple[Array, Array]:
    """(r - max r)/λ over the outcomes that are present, and which of them can be selected."""
    rewards = jnp.where(present, jnp.broadcast_to(rewards, present.shape), -jnp.inf)
    logits, can_win, _ = scaled(rewards, temperature.reshape((1,) * present.ndim))
    return logits, can_win
