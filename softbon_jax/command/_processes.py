"""Work divided among the processes of `jax.distributed`; where there is one, it does all of it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from softbon_jax.command import _terminal

_agreed: bool | None = None
"""Whether the processes were given the same; None until they have told each other."""

FAILED = np.zeros(32, np.uint8)
"""What a process tells that cannot go on."""


def join() -> None:
    """Meet the other processes, which JAX finds by what it was that started them.

    Raises:
      ValueError: nothing tells of others, or they cannot be reached.
    """
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        what = _terminal.printable(error).splitlines()[0]
        raise ValueError(
            f"--distributed: no other processes are found; start them by srun or mpirun ({what})"
        ) from None
    with _to_standard_error():  # whoever connects them tells of it
        multihost_utils.process_allgather(np.zeros(1))


@contextmanager
def _to_standard_error() -> Iterator[None]:
    """What any library prints goes there."""
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(out, 1)
        os.close(out)


def leave() -> None:
    """After an error, so that no other process waits for this one until its heartbeats are missed."""
    if not jax.distributed.is_initialized() or _agreed is False:
        return
    sys.stderr.flush()
    if _agreed:
        os._exit(2)  # an orderly end would wait for the others
    _agree(FAILED)


def _agree(told: np.ndarray) -> bool:
    """Whether all processes tell the same, and none that it has failed."""
    global _agreed
    all_told = multihost_utils.process_allgather(told)
    _agreed = bool((all_told == all_told[:1]).all()) and bool(all_told[0].any())
    return _agreed


def first() -> bool:
    """Whether this process is the one that writes."""
    # Alone it need not start JAX's devices, which fixes the flags of XLA.
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def each(
    parts: Sequence[np.ndarray], work: Callable[[int, np.ndarray], np.ndarray], *given: np.ndarray
) -> np.ndarray:
    """`work(number, part)` of all parts, one after another; of P processes each does every P-th.

    Args:
      parts: what there is to do; of fewer than there are processes each does all.
      work: gives as many rows as a part has entries.
      given: what has to be the same in all processes.

    Returns:
      The rows, in full in every process.

    Raises:
      ValueError: what had to be the same was not, or another process cannot go on.
    """
    count, own = jax.process_count(), jax.process_index()
    if count > 1 and not _agree(_digest(given)):
        raise ValueError(
            "the processes have read different scores or were given different options, or one has failed"
        )
    if len(parts) < count or count == 1:
        return np.concatenate([work(i, part) for i, part in enumerate(parts)])
    done = np.concatenate([work(i, part) for i, part in enumerate(parts) if i % count == own])
    sizes = [sum(len(part) for part in parts[i::count]) for i in range(count)]
    padded = np.zeros((max(sizes), *done.shape[1:]), done.dtype)
    padded[: len(done)] = done
    found = multihost_utils.process_allgather(padded)
    begins = [0] * count
    rows = []
    for i, part in enumerate(parts):
        begin = begins[i % count]
        rows.append(found[i % count, begin : begin + len(part)])
        begins[i % count] += len(part)
    return np.concatenate(rows)


def _digest(given: Sequence[np.ndarray]) -> np.ndarray:
    digest = hashlib.sha256()
    for x in given:
        digest.update(f"{x.shape} {x.dtype}".encode() + np.ascontiguousarray(x).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
