"""Processes that compute cells: one experiment a thread, a cell at a time in whichever is free.

There are more threads than processes, so that none waits while an experiment ends with a long cell.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import jax

import softbon_jax.command.compilation_cache as compilation_cache

Task = Callable[..., Any]

HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Of the C library of Linux; others do not read it."""


def default_number() -> int:
    """One a core of this process on a CPU; on an accelerator one, which owns it."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def processes(number: int) -> Iterator[Callable[..., Any]]:
    """A function that calls another one in one of `number` processes, and waits; 1 is this process.

    Arguments and results must be picklable. The processes end with the one that made them. On Linux
    they keep large arrays on huge pages: a backward pass of gigabytes spends less in the kernel.
    """
    if number == 1:
        yield _here
        return
    wide = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    context = multiprocessing.get_context("spawn")
    with _huge_pages(), ProcessPoolExecutor(number, context, _prepare, (wide,)) as pool:
        try:
            yield lambda task, *arguments: pool.submit(task, *arguments).result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _huge_pages() -> Iterator[None]:
    """What a process started in this block asks of the C library, unless the user has asked already."""
    mine = "GLIBC_TUNABLES" not in os.environ
    os.environ.setdefault("GLIBC_TUNABLES", HUGE_PAGES)
    try:
        yield
    finally:
        if mine:
            del os.environ["GLIBC_TUNABLES"]


def _here(task: Task, *arguments: Any) -> Any:
    return task(*arguments)


def _prepare(wide: bool) -> None:
    jax.config.update("jax_enable_x64", wide)
    compilation_cache.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def side_by_side(task: Task, items: Sequence[Any], number: int) -> list[Any]:
    """`[task(x) for x in items]` in threads; after the first error no other is begun.

    Twice as many threads as there are processes, `number`; in this thread alone for one of them.
    """
    if number == 1:
        return [task(x) for x in items]
    with ThreadPoolExecutor(2 * number) as pool:
        futures: list[Future[Any]] = [pool.submit(task, x) for x in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
