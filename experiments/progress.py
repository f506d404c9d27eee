"""Progress of a command: one bar for all of its steps on a terminal, one line per step elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import rich.console
import rich.progress


class Progress:
    """Counts `total` steps; as a context manager it shows them.

    Attributes:
      console: where it is shown.
    """

    def __init__(self, total: int, console: rich.console.Console | None = None) -> None:
        self.console = console or rich.console.Console(stderr=True)
        self._total, self._done, self._began = total, 0, time.perf_counter()
        self._lock = threading.Lock()  # steps are counted from several threads
        columns = (
            *rich.progress.Progress.get_default_columns(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
        )
        self._bar = rich.progress.Progress(
            *columns, console=self.console, disable=not self.console.is_terminal
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, what: str) -> None:
        """Count one finished step and show what it was."""
        with self._lock:
            self._done += 1
            self._bar.update(self._task, completed=self._done, description=what)
            if not self.console.is_terminal:
                seconds = time.perf_counter() - self._began
                self.say(f"[{self._done}/{self._total}, {seconds:.1f} s] {what}")

    def skip(self, steps: int) -> None:
        """Count steps that need not be taken."""
        with self._lock:
            self._done += steps
            self._bar.update(self._task, completed=self._done)

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(message, highlight=False, markup=False, soft_wrap=True)
