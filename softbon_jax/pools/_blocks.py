"""Many pools in blocks, which run at the same time on the cores of a CPU.

A compiled loop over pools keeps one core busy. So the pools are cut into blocks of one size, which
compile once for any number of pools, and every core takes one after the other. The numbers of a pool do
not depend on the block that it is in.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from softbon_jax import _memory

BLOCK = 128
"""How many pools are in a block; the first one compiles, alone."""

FEWEST = 512
"""Fewer pools are not cut."""


def can_be_cut(rows: Any) -> bool:
    """Whether rows are many, known, and on the one device of this process, which is a CPU."""
    arrays = jax.tree.leaves(rows)
    return (
        len(arrays[0]) >= FEWEST
        and all(map(_is_plain, arrays))
        and jax.default_backend() == "cpu"
        and jax.local_device_count() == 1
    )


def _is_plain(x: Any) -> bool:
    if isinstance(x, jax.core.Tracer):
        return False
    return not isinstance(x, jax.Array) or isinstance(x.sharding, SingleDeviceSharding)


def in_blocks(worker: Any, rows: Any, *shared: Any, **static: Any) -> Any:
    """`worker(rows, *shared, **static)` in NumPy, for rows that can be cut.

    Args:
      worker: compiled; its outputs have the rows on their first axis.
      rows: pytree of arrays with the rows on the first axis.
      shared: what all rows need.
      static: static arguments.

    Returns:
      The outputs.
    """
    known = jax.tree.map(np.asarray, rows)
    count = len(jax.tree.leaves(known)[0])
    starts = [*range(0, count - BLOCK, BLOCK), count - BLOCK]  # the last overlaps the one before
    wide = bool(jax.dtypes.canonicalize_dtype(float) == np.float64)  # perhaps in this thread alone

    def work(start: int) -> Any:
        with jax.enable_x64(wide), _memory.parts(cores()):
            block = jax.tree.map(lambda x: x[start : start + BLOCK], known)
            return jax.tree.map(np.asarray, worker(block, *shared, **static))

    with _memory.parts(cores()):
        block = jax.tree.map(lambda x: x[:BLOCK], known)
        out = worker.eval_shape(block, *shared, **static)
    _memory.check(_memory.size_of(out) * 2 * count // BLOCK)
    first = work(starts[0])  # compiles
    with ThreadPoolExecutor(cores()) as pool:
        done = [first, *pool.map(work, starts[1:])]
    fresh = [*np.diff(starts), BLOCK]
    return jax.tree.map(
        lambda *parts: np.concatenate([x[:size] for x, size in zip(parts, fresh, strict=True)]),
        *done,
    )


def anyhow(worker: Any, rows: Any, *shared: Any, **static: Any) -> Any:
    """`worker(rows, *shared, **static)`, in blocks if the rows can be cut."""
    if not can_be_cut(rows):
        return worker(rows, *shared, **static)
    return jax.tree.map(jnp.asarray, in_blocks(worker, rows, *shared, **static))


def cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
