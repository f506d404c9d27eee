"""A worker for one problem over all leading axes, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

_CHUNK_ELEMENTS = 2**23


def over_batch(
    worker: Callable[..., Any],
    elements: int,
    vectors: tuple[Array, ...],
    scalars: tuple[Array, ...] = (),
) -> Any:
    """`worker(*vectors, *scalars)` over the broadcast of all leading axes, a bounded chunk at a time.

    Args:
      worker: takes arrays of shape `[K]`, then scalars.
      elements: static; array elements that one call of the worker needs.
      vectors: arrays `[..., K]`.
      scalars: arrays `[...]`; all leading axes broadcast.

    Returns:
      The worker's output with the batch axes in front.
    """
    shape = jnp.broadcast_shapes(*(x.shape[:-1] for x in vectors), *(x.shape for x in scalars))
    flat = tuple(
        jnp.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1]) for x in vectors
    ) + tuple(jnp.broadcast_to(x, shape).reshape(-1) for x in scalars)
    size, chunk = math.prod(shape), max(1, _CHUNK_ELEMENTS // elements)
    if size <= chunk:
        out = jax.vmap(worker)(*flat)
    else:
        out = jax.lax.map(lambda x: worker(*x), flat, batch_size=chunk)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), out)
