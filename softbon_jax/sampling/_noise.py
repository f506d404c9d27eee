"""Exponential and Gumbel noise whose winning tail is exact in single precision.

`jax.random.gumbel` in float32 starts from a uniform on a grid of 2^-23: its largest value is 15.9,
and among a million candidates several share it, so that an argmax favors the first. Here the
uniform is read as an integer plus a half, which float32 holds to full relative precision at the end
that matters.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

# Up to this many candidates one 32-bit word each is enough: two winners share a word with
# probability n 2^-32 < 1e-6. Above it two words are drawn, and the grid is finer than float32
# itself.
ONE_WORD_LIMIT = 4096


def _bits(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """`jax.random.bits`, with the words of an rbg key written to memory before they are used.

    XLA on CPU would fuse that generator into what reads it and compute both word by word, which is
    slower. An update in place, even by the same value, keeps them apart.
    """
    bits = jax.random.bits(key, shape, dtype)
    if shape and str(jax.random.key_impl(key)) in ("rbg", "unsafe_rbg"):
        bits = lax.dynamic_update_slice_in_dim(bits, bits[:1], 0, axis=0)
    return bits


def uniform(key: Array, shape: tuple[int, ...], dtype: Any, *, one_word: bool) -> Array:
    """Uniforms in (0, 1), relatively accurate near 0 (down to 2^-33, 2^-65 if not `one_word`).

    Args:
      key: typed key; consumed.
      shape: of the result; static.
      dtype: float32 or float64 (always one 64-bit word).
      one_word: in float32, whether 32 random bits are enough; static.
    """
    below_one = 1 - jnp.finfo(dtype).epsneg
    if jnp.finfo(dtype).bits == 64:
        bits = _bits(key, shape, jnp.uint64)
        return jnp.minimum((bits.astype(dtype) + 0.5) * 2.0**-64, below_one)
    if one_word:
        bits = _bits(key, shape, jnp.uint32)
        return jnp.minimum((bits.astype(dtype) + 0.5) * 2.0**-32, below_one)
    high, low = _bits(key, (2, *shape), jnp.uint32).astype(dtype)
    return jnp.minimum((high + (low + 0.5) * 2.0**-32) * 2.0**-32, below_one)


def exponential(key: Array, shape: tuple[int, ...], dtype: Any, *, one_word: bool) -> Array:
    """Exp(1) noise, accurate in its upper tail: the one that wins a maximum."""
    return -jnp.log(uniform(key, shape, dtype, one_word=one_word))


def gumbel(key: Array, shape: tuple[int, ...], dtype: Any, *, one_word: bool) -> Array:
    """Standard Gumbel noise, accurate in its upper tail: the one that wins a maximum."""
    # log1p and not log(1 - u): a large Gumbel is a small u.
    return -jnp.log(-jnp.log1p(-uniform(key, shape, dtype, one_word=one_word)))
