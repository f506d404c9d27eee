"""How much memory a call may take, and the refusal of what cannot fit, before any of it is computed.

Functions that work in chunks take chunks that fit. What a call needs at the least follows from shapes,
which are known when it is traced: there `check` refuses it. A call that has been traced before has been
checked before, so that the check costs it nothing. The limit is part of what JAX's cache goes by.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

VARIABLE = "SOFTBON_MEMORY"
"""The environment variable that holds the limit of a process, in bytes."""

UNKNOWN = 2**32
"""The limit where the size of the memory cannot be read: 4 GiB."""

LARGEST = 2**63 - 1
"""The most bytes that can be counted."""

_limit = jax.make_user_context(default_value=None)


def memory_limit(most_bytes: int) -> AbstractContextManager[None]:
    """How much memory a call in a `with` block may take, for its results and while it works.

    What works in chunks takes smaller ones, with the same results up to rounding. What cannot be
    that small raises `MemoryError` before it starts, with the bytes that it needs.

    Args:
      most_bytes: bytes on each device beyond the arguments, an integer of at least 1, static. Without
        it: the environment variable `SOFTBON_MEMORY`; where that is not set, half of the machine's
        memory, of what a container may use of it, or of that of a GPU or TPU; 4 GiB if it is unknown.

    Returns:
      A context manager, of this thread alone. The innermost counts, also around a call of a function
      compiled by `jit`, which is traced again for another limit.

    Raises:
      ValueError: `most_bytes` is not an integer of at least 1.

    Numerics: what a call needs is an estimate from shapes, a few times what it turns out to be at most.
      Not counted: what a `vmap` or a derivative around the call multiplies it by, and XLA itself.
    Source: none.

    Example:
      >>> problem = sb.uniform_quantiles(1_000_000, dtype=np.float32)
      >>> with sb.memory_limit(10**8):
      ...     try:
      ...         sb.metrics(problem, 16, np.linspace(0.1, 1, 100))
      ...     except MemoryError as error:
      ...         print(error)
      metrics needs about 4.5 GiB, more than the limit of 95 MiB; see softbon_jax.memory_limit
    """
    return _limit((_positive("most_bytes", most_bytes), 1))


def limit() -> int:
    """The most bytes that a call may take."""
    return _given()[0]


def parts(count: int) -> AbstractContextManager[None]:
    """For one of so many threads that share the limit."""
    return _limit((limit(), count))


def _given() -> tuple[int, int]:
    """The limit, and how many threads share it."""
    return _limit.value or (_default(), 1)


def check(needed: int) -> None:
    """`MemoryError` if a call needs more bytes than it may take."""
    needed *= _given()[1]
    if needed > limit():
        raise MemoryError(
            f"{_public_name()} needs about {shown(needed)}, more than the limit of {shown(limit())};"
            " see softbon_jax.memory_limit"
        )


def at_once(most: int, each: int) -> int:
    """How many parts of `each` bytes are worked on together: they may take half of the limit."""
    most_bytes, threads = _given()
    return max(1, min(most, most_bytes // (2 * threads) // max(each, 1)))


def size_of(tree: Any) -> int:
    """The bytes of the arrays of a pytree, traced or not, on each device as far as that is known."""
    return sum(_size_of(x) for x in jax.tree.leaves(tree))


def _size_of(x: Any) -> int:
    shape = x.shape
    if isinstance(x, jax.core.Tracer):
        sharding = jax.typeof(x).sharding
        shape = sharding.shard_shape(shape) if any(sharding.spec) else shape
    elif isinstance(x, jax.Array):
        shape = x.sharding.shard_shape(shape)
    return math.prod(shape) * x.dtype.itemsize


def shown(size: int) -> str:
    """Bytes in the unit that a reader would take."""
    amount, unit = float(size), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024 or unit == "PiB":
            break
        amount /= 1024
    return f"{amount:.1f} {unit}" if amount < 10 and unit != "bytes" else f"{amount:.0f} {unit}"


def _positive(name: str, value: Any) -> int:
    legal = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))
    if not legal or not 1 <= value <= LARGEST:
        raise ValueError(f"{name} must be a number of bytes from 1 to 2^63 - 1, got {_text(value)}")
    return int(value)


def _text(value: Any) -> str:
    try:
        return repr(value)[:60]
    except Exception:  # such as that of an integer of more than 4300 digits
        return f"a value of type {type(value).__name__}"


@functools.cache
def _default() -> int:
    """The limit of the process."""
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        known = text.isascii() and text.isdigit() and len(text) < 20
        return _positive(VARIABLE, int(text) if known else text)
    return _of_devices() // 2 or UNKNOWN


def _of_devices() -> int:
    """The bytes of the least device, or of the machine where that is the device; 0 if unknown."""
    if jax.default_backend() != "cpu":
        known = [(x.memory_stats() or {}).get("bytes_limit", 0) for x in jax.local_devices()]
        return int(min(known))
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on every system
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return max(0, min(found, default=0))


def _public_name() -> str:
    """The name of the outermost public function of this package that is being called."""
    name = "the call"
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        rooms = module.split(".")
        public = rooms[0] == "softbon_jax" and not any(
            x.startswith("_") for x in [*rooms, function]
        )
        if public and rooms[1:2] != ["command"] and not function.startswith("<"):
            name = function
        frame = frame.f_back
    return name
