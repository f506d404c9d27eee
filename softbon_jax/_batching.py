"""A worker for one problem over all leading axes, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax import _memory, _sharding

Array = jax.Array

CHUNK_ELEMENTS = 2**23
"""The most array elements that the workers of one chunk need together, where one needs fewer."""

ARRAYS, VECTORS = 8, 4
"""How many arrays of its `elements`, and of the size of its vectors, a worker has at a time."""


def over_batch(
    worker: Callable[..., Any],
    vectors: tuple[Array, ...],
    scalars: tuple[Array, ...] = (),
    *,
    elements: int,
    least: int | None = None,
    shared: tuple[Array, ...] = (),
) -> Any:
    """`worker(*vectors, *scalars, *shared)` over the broadcast of leading axes, a chunk at a time.

    Args:
      worker: takes arrays of shape `[K]`, then scalars.
      vectors: tuple of arrays `[..., K]`; K may differ between them.
      scalars: tuple of arrays `[...]`. All leading axes broadcast; no caller need do it first.
      elements: static; the array elements that one call of the worker needs.
      least: static; those that it needs at a time, where it works on parts of them. Default: all.
      shared: tuple of arrays that all calls have in full. A worker that closes over them instead gets
        them with the mesh of the caller in their types, with which a loop over them does not compile.

    Returns:
      The worker's output with the batch axes in front, where a NaN in an argument is a NaN in the
      result: see `nan_in_nan_out`.
    """

    def local(*arrays: Array) -> Any:
        own = len(vectors) + len(scalars)
        rows, numbers, whole = arrays[: len(vectors)], arrays[len(vectors) : own], arrays[own:]

        def sound(*arguments: Array) -> Any:
            return nan_in_nan_out(arguments, worker(*arguments, *whole))

        shape = jnp.broadcast_shapes(*(x.shape[:-1] for x in rows), *(x.shape for x in numbers))
        flat = tuple(
            jnp.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1]) for x in rows
        ) + tuple(jnp.broadcast_to(x, shape).reshape(-1) for x in numbers)
        widths = sum(x.shape[-1] for x in rows)
        width = max(x.dtype.itemsize for x in arrays)
        each = width * (ARRAYS * (elements if least is None else least) + VECTORS * widths)
        size, chunk = math.prod(shape), max(1, CHUNK_ELEMENTS // elements)
        chunk = _memory.at_once(chunk, each)
        if size <= chunk:
            out = jax.vmap(sound)(*flat)
        else:
            # Of equal size, the last row repeated: a rest would be compiled as a program of its own.
            count = -(-size // chunk)
            chunk = -(-size // count)
            missing = count * chunk - size
            if missing:
                flat = tuple(jnp.concatenate([x, x[-1:].repeat(missing, axis=0)]) for x in flat)
            out = jax.lax.map(lambda x: sound(*x), flat, batch_size=chunk)
            out = jax.tree.map(lambda x: x[:size], out)
        _memory.check(min(size, chunk) * each + _memory.size_of((flat, out)))
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), out)

    ranks = (1,) * len(vectors) + (0,) * len(scalars) + tuple(x.ndim for x in shared)
    return _sharding.over_shards(local, (*vectors, *scalars, *shared), ranks)


def each_row(row: Callable[..., Any], rows: Any, *shared: Array, elements: int, dtype: Any) -> Any:
    """`row(one, *shared)` for one row after another, on each device for its own rows.

    Args:
      row: as for `jax.lax.map`.
      rows: pytree of arrays with the rows on the first axis.
      shared: arrays. Such as `row` closes over keep the mesh of the caller in their types.
      elements: static; the array elements that one row needs at a time.
      dtype: of these.
    """
    arrays, tree = jax.tree.flatten(rows)

    def local(*parts: Array) -> Any:
        own, whole = parts[: len(arrays)], parts[len(arrays) :]
        out = jax.lax.map(lambda x: row(x, *whole), jax.tree.unflatten(tree, own))
        _memory.check(elements * jnp.dtype(dtype).itemsize + _memory.size_of((parts, out)))
        return out

    return _sharding.over_shards(
        local, (*arrays, *shared), [*(x.ndim - 1 for x in arrays), *(x.ndim for x in shared)]
    )


def over_outcomes(
    worker: Callable[..., Any], vectors: tuple[Array, ...], fills: tuple[Any, ...], *, block: int
) -> Any:
    """`worker(*vectors)` on blocks of `block` outcomes in turn, for vectors `[K]`; outputs `[B, ...]`.

    The last block is filled up with `fills`. A block is computed again where a derivative needs it, so
    that memory stays bounded there as well. If all K fit in one block, that is what the worker gets.
    """
    size = vectors[0].shape[0]
    if size <= block:
        return jax.tree.map(lambda x: x[None], worker(*vectors))
    rows = -(-size // block)
    padded = (
        jnp.pad(x, (0, rows * block - size), constant_values=fill).reshape(rows, block)
        for x, fill in zip(vectors, fills, strict=True)
    )
    again = jax.checkpoint(worker, prevent_cse=False)
    return jax.lax.map(lambda x: again(*x), tuple(padded))


def joined(blocks: Array, size: int) -> Array:
    """Outputs `[B, ..., block]` of `over_outcomes` as one array `[..., size]`."""
    whole = jnp.moveaxis(blocks, 0, -2)
    return whole.reshape(*whole.shape[:-2], -1)[..., :size]


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
