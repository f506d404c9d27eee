"""What the command says on a terminal, and the options that it takes there."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


def printable(text: object) -> str:
    r"""Text that a terminal shows as it is: control characters and what is not text are escaped.

    Args:
      text: names of files and of columns may be in it, which may hold anything.

    Returns:
      One line, with the line ends escaped as well.

    Raises:
      Nothing.

    Numerics: none.
    Source: Python's `str.isprintable`.

    Example:
      >>> from softbon_jax.command import printable
      >>> print(printable("score\x1b[2J\n"))
      score\x1b[2J\n
    """
    return "".join(x if x.isprintable() else ascii(x)[1:-1] for x in str(text))


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function that tells, on standard error, what is being done; only on a terminal.

    One line, which overwrites itself and is wiped at the end.
    """
    on = sys.stderr.isatty()

    def tell(step: str) -> None:
        if on:
            print(f"\r\x1b[K{printable(step):.70} …", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print to standard output now, so that a full disk or a closed pipe is noticed."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise OSError(f"standard output: {error.strerror}") from None


def complain(error: object) -> None:
    """One line on standard error."""
    print(f"error: {printable(error):.2000}", file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """A parser that takes every number that Python reads, and says what is wrong in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Without this -1e308 and -inf pass for the names of options.
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        complain(f"{message:.1000} (see {self.prog} --help)")
        sys.exit(2)
