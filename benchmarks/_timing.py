"""Fair timings: contestants take turns in one process, so that a slow minute slows all of them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np


class Timing(NamedTuple):
    """The first call, which compiles or loads the program, and later steady calls, in seconds."""

    first: float
    steady: list[float]

    @property
    def median(self) -> float:
        """Median of the steady calls."""
        return statistics.median(self.steady)


class Ratio(NamedTuple):
    """A quotient of times taken round by round: median, smallest and largest."""

    median: float
    low: float
    high: float


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def race(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """Call every contestant once to compile and once to warm up, then `rounds` times in turn.

    The order is rotated by one place each round, so that no contestant always follows the same one.
    Results may be any pytree; the JAX arrays in them are waited for.
    """
    first = {name: _timed(call) for name, call in contestants.items()}
    for call in contestants.values():
        _timed(call)
    steady: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            steady[name].append(_timed(contestants[name]))
    return {name: Timing(first[name], steady[name]) for name in names}


def ratio(
    times: Mapping[str, Timing], above: Sequence[str], below: Sequence[str], scale: float = 1.0
) -> Ratio:
    """`scale` times the total time of `above` over that of `below`, taken round by round."""
    rounds = zip(
        zip(*(times[name].steady for name in above), strict=True),
        zip(*(times[name].steady for name in below), strict=True),
        strict=True,
    )
    quotients = [scale * sum(a) / sum(b) for a, b in rounds]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients))


def print_times(
    title: str, times: Mapping[str, Timing], work: Mapping[str, float] | None = None, unit: str = ""
) -> None:
    """One line per contestant: first call, median, min and max, and `work` per second if given."""
    width = max(map(len, times))
    rate = f"{unit + '/s':>12}" if work else ""
    print(f"\n{title}")
    print(f"{'':{width}}{'first':>12}{'median':>12}{'min':>12}{'max':>12}{rate}  [ms]")
    for name, timing in times.items():
        values = (timing.first, timing.median, min(timing.steady), max(timing.steady))
        line = "".join(f"{1e3 * value:12.3f}" for value in values)
        per_second = f"{work[name] / timing.median:12.0f}" if work else ""
        print(f"{name:{width}}{line}{per_second}")


def print_ratios(title: str, ratios: Mapping[str, Ratio]) -> None:
    """One line per ratio: median and range over the rounds."""
    width = max(map(len, ratios))
    print(f"\n{title}")
    for name, value in ratios.items():
        print(f"{name:{width}}  {value.median:10.3g}  [{value.low:.3g}, {value.high:.3g}]")


def write_json(
    path: Path | None, times: Mapping[str, Mapping[str, Timing]], ratios: Mapping[str, Ratio]
) -> None:
    """Write all timings, the ratios and the machine to `path` with suffix .json."""
    if path is None:
        return
    settings: Any = jax.config
    machine = {
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "device": str(jax.devices()[0]),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "compilation_cache": bool(settings.jax_compilation_cache_dir),
    }
    record = {
        "machine": machine,
        "seconds": {
            group: {name: timing._asdict() for name, timing in members.items()}
            for group, members in times.items()
        },
        "ratios": {name: value._asdict() for name, value in ratios.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
