"""Soft best-of-n decoding of any JAX model: block by block, with n candidates for each block.

Blocks of one token are symbolwise decoding, one block of the whole length is best-of-n over
sequences. Where rewards add up and symbols are independent, `sb.symbolwise_metrics` and
`sb.blockwise_metrics` have the exact laws of both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _checks, _loops, _memory
from softbon_jax.sampling.reservoir import (
    Reservoir,
    reservoir_init,
    reservoir_update,
    signature,
)

Array = jax.Array
Step = Callable[[Array, Any], tuple[Any, Any, Array]]


class Decoded(NamedTuple):
    """A decoded sequence.

    Attributes:
      tokens: pytree of `[length, ...]`, what `step` returned for each position.
      rewards: `[length]` its reward increments.
      log_weights: `[blocks]` log of n times the probability with which each selected candidate was
        selected among its n: 0 if all were equal, at most log n. Its mean over many runs, summed over
        blocks, is at least KL(selected law‖reference law); for independent symbols
        `blockwise_metrics` gives that divergence exactly. NaN if a block was not valid (see `decode`).
      state: the state after the last token.
    """

    tokens: Any
    rewards: Array
    log_weights: Array
    state: Any


class _Stream(NamedTuple):
    """The candidates of a block so far: the selected one, the largest total, Σ e^{(total - it)/λ}."""

    reservoir: Reservoir
    largest: Array
    weight: Array


def decode(
    key: Array,
    init_state: Any,
    step: Step,
    *,
    length: int,
    block_size: int | None = None,
    n: int,
    temperature: Any,
    chunk: int | None = None,
) -> Decoded:
    """Decode `length` tokens by soft best-of-n over blocks of `block_size` tokens.

    From the current state n candidates of `block_size` tokens are drawn; one is selected with
    probability ∝ e^{(sum of its rewards)/λ}, λ = `temperature`; decoding goes on from its state. If
    `block_size` does not divide `length` the last block is shorter. The order of the arguments is
    (init, f), unlike `lax.scan(f, init)`; all of them may be passed by keyword.

    Args:
      key: a typed PRNG key, traced; consumed. For many sequences use `vmap` over keys.
      init_state: any pytree of arrays, traced: a token, a hidden state, a KV cache with its position.
      step: `step(key, state) -> (state, token, reward)`, a pure function that draws one token from
        the reference model, consuming its key, and gives its reward increment, a scalar float; `-inf`
        excludes the candidate. It keeps the shapes and dtypes of the state. Static: a new function
        object compiles again. Arrays that it captures, such as parameters, are shared by the
        candidates; inside `jit` they may be traced.
      length: number of tokens, an integer, static.
      block_size: tokens in a block, from 1 (symbolwise) to length (the default), static.
      n: candidates for each block, an integer, static.
      temperature: scalar, at least 0, in the units of the sum of a block's rewards, traced; 0 and
        inf are legal.
      chunk: candidates drawn at once, from 1 to n, static. Default: n. Memory grows with `chunk`,
        not n. The law does not depend on it; the draws do.

    Returns:
      `Decoded`. Under tracing `log_weights` of a block are NaN where a reward is NaN or `+inf`, all
      candidates are excluded, or the temperature is bad; what comes after is meaningless.

    Raises:
      TypeError: `key` is not a typed key, or the temperature is not real.
      ValueError: a size out of range, a bad temperature, or a `step` that does not keep the shapes
        and dtypes of the state or whose reward is not a scalar float.

    Numerics: rewards are summed and selected in float32, or in float64 if `step` gives float64. Rare
    candidates as in `reservoir_update`.
    Source: arXiv:2505.03156 (symbolwise and blockwise sampling).

    Example:
      >>> def step(key, state):  # a fair coin; heads is worth 1
      ...     token = jax.random.bernoulli(key)
      ...     return state, token, token.astype(jnp.float32)
      >>> run = lambda key: sb.decode(key, (), step, length=3, block_size=1, n=2, temperature=0.0)
      >>> tokens = jax.vmap(run)(jax.random.split(jax.random.key(0), 1000)).tokens
      >>> round(float(tokens.mean()), 2)  # heads unless both candidates are tails: 3/4
      0.76
    """
    _checks.key(key)
    length, n = _checks.positive_integer("length", length), _checks.positive_integer("n", n)
    if block_size is None:
        block_size = length
    block_size = _checks.positive_integer("block_size", block_size, most=length)
    chunk = _checks.positive_integer("chunk", n if chunk is None else chunk, most=n)
    init_state = _checks.leaves("init_state", init_state)
    if not callable(step):
        raise TypeError(f"step must be a function, got {_checks.shown(step)}")
    dtype = _reward_dtype(step, key, init_state)
    temperature = _checks.temperature(temperature, _checks.compute_dtype(dtype))
    if temperature.ndim != 0:
        raise ValueError(f"temperature must be a scalar, got shape {temperature.shape}")
    return _decode(
        key,
        init_state,
        temperature,
        step=step,
        length=length,
        block_size=block_size,
        n=n,
        chunk=chunk,
    )


def _reward_dtype(step: Step, key: Array, state: Any) -> Any:
    """The dtype of the reward of `step`; ValueError where `step` breaks its contract."""
    after, _, reward = jax.eval_shape(step, key, state)
    if signature(after) != signature(state):
        raise ValueError(
            f"step must keep the dtypes and shapes of init_state, {signature(state)}, got"
            f" {signature(after)}"
        )
    if reward.shape != () or not jnp.issubdtype(reward.dtype, jnp.floating):
        raise ValueError(
            f"step must return a scalar float reward, got {reward.dtype} of shape {reward.shape}"
        )
    return reward.dtype


@functools.partial(jax.jit, static_argnames=("step", "length", "block_size", "n", "chunk"))
def _decode(
    key: Array,
    state: Any,
    temperature: Array,
    *,
    step: Step,
    length: int,
    block_size: int,
    n: int,
    chunk: int,
) -> Decoded:
    blocks, rest = divmod(length, block_size)
    block = functools.partial(_block, temperature=temperature, step=step, n=n, chunk=chunk)

    def advance(state: Any, index: Array) -> tuple[Any, tuple]:
        return block(jax.random.fold_in(key, index), state, size=block_size)

    state, (tokens, rewards, log_weights) = _loops.scan(advance, state, jnp.arange(blocks))
    tokens, rewards = jax.tree.map(
        lambda x: x.reshape(blocks * block_size, *x.shape[2:]), (tokens, rewards)
    )
    if rest:
        state, last = block(jax.random.fold_in(key, blocks), state, size=rest)
        tokens, rewards, log_weights = jax.tree.map(
            lambda x, y: jnp.concatenate([x, y]),
            (tokens, rewards, log_weights),
            (*last[:2], last[2][None]),
        )
    return Decoded(tokens, rewards, log_weights, state)


def _block(
    key: Array, state: Any, *, temperature: Array, step: Step, size: int, n: int, chunk: int
) -> tuple[Any, tuple[Any, Array, Array]]:
    """The state after one block, and its tokens, rewards and log weight."""
    draw_key, select_key = jax.random.split(key)

    def candidate(index: Array) -> tuple[Any, Any, Array]:
        own = jax.random.fold_in(draw_key, index)

        def advance(state: Any, position: Array) -> tuple[Any, tuple[Any, Array]]:
            after, token, reward = step(jax.random.fold_in(own, position), state)
            return jax.tree.map(lambda x, y: x.astype(y.dtype), after, state), (token, reward)

        final, (tokens, rewards) = _loops.scan(advance, state, jnp.arange(size))
        return final, tokens, rewards

    def add(stream: _Stream, first: Any, count: int) -> _Stream:
        items = jax.vmap(candidate)(first + jnp.arange(count))
        totals = jnp.sum(items[2].astype(temperature.dtype), axis=1)
        own = jax.random.fold_in(select_key, first)
        reservoir = reservoir_update(own, stream.reservoir, items, totals, temperature)
        largest = jnp.maximum(stream.largest, jnp.max(totals))
        gaps = jnp.append(totals, stream.largest) - jnp.where(largest > -jnp.inf, largest, 0.0)
        shares = _power(gaps, temperature)
        weight = jnp.sum(shares[:-1]) + shares[-1] * stream.weight
        return _Stream(reservoir, largest, weight)

    example = jax.eval_shape(candidate, jnp.arange(n)[0])
    _memory.check(3 * chunk * _memory.size_of(example))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example)
    empty = reservoir_init(zeros, dtype=temperature.dtype)
    stream = _Stream(empty, empty.reward, jnp.zeros_like(temperature))
    batches, rest = divmod(n, chunk)
    if batches == 1:
        stream = add(stream, 0, chunk)
    else:
        stream = _loops.fori_loop(0, batches, lambda i, x: add(x, i * chunk, chunk), stream)
    if rest:
        stream = add(stream, batches * chunk, rest)
    (state, tokens, rewards), total = stream.reservoir.item, stream.reservoir.reward
    share = _power(total - stream.largest, temperature) / stream.weight
    valid = jnp.isfinite(total) & (temperature >= 0)
    log_weight = jnp.log(jnp.where(valid, share * n, jnp.nan))
    return state, (tokens, rewards, log_weight)


def _power(gaps: Array, temperature: Array) -> Array:
    """The value e^{gap/λ} for gaps <= 0, with its limits: at λ = 0, 1 for gap 0 and 0 for others."""
    excluded = gaps == -jnp.inf
    even = (gaps == 0) | jnp.isposinf(temperature)
    exponent = jnp.where(even, 0.0, gaps / jnp.where(even, 1.0, temperature))
    return jnp.where(excluded, 0.0, jnp.exp(exponent))
