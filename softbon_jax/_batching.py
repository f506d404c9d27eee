"""A worker for one problem over all leading axes, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

CHUNK_ELEMENTS = 2**23
"""The most array elements that the workers of one chunk need together, where one needs fewer."""


def over_batch(
    worker: Callable[..., Any],
    vectors: tuple[Array, ...],
    scalars: tuple[Array, ...] = (),
    *,
    elements: int,
) -> Any:
    """`worker(*vectors, *scalars)` over the broadcast of all leading axes, a bounded chunk at a time.

    Args:
      worker: takes arrays of shape `[K]`, then scalars.
      vectors: tuple of arrays `[..., K]`; K may differ between them.
      scalars: tuple of arrays `[...]`. All leading axes broadcast; no caller need do it first.
      elements: static; the array elements that one call of the worker needs.

    Returns:
      The worker's output with the batch axes in front, where a NaN in an argument is a NaN in the
      result: see `nan_in_nan_out`.
    """

    def sound(*arguments: Array) -> Any:
        return nan_in_nan_out(arguments, worker(*arguments))

    shape = jnp.broadcast_shapes(*(x.shape[:-1] for x in vectors), *(x.shape for x in scalars))
    flat = tuple(
        jnp.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1]) for x in vectors
    ) + tuple(jnp.broadcast_to(x, shape).reshape(-1) for x in scalars)
    size, chunk = math.prod(shape), max(1, CHUNK_ELEMENTS // elements)
    if size <= chunk:
        out = jax.vmap(sound)(*flat)
    else:
        out = jax.lax.map(lambda x: sound(*x), flat, batch_size=chunk)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), out)


def nan_in_nan_out(arguments: Any, results: Any) -> Any:
    """The results for one problem, NaN and False in their place if there is a NaN in an argument.

    The checks of a public function put NaN where a traced value is illegal. Here it reaches the result,
    which a comparison or a limit on the way could have lost.
    """
    bad = jnp.stack([jnp.isnan(x).any() for x in jax.tree.leaves(arguments)]).any()

    def spoiled(x: Array) -> Array:
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.where(bad, jnp.nan, x)
        return x & ~bad if x.dtype == bool else x

    return jax.tree.map(spoiled, results)
