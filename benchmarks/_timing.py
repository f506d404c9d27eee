"""Fair timings: contestants take turns in one process, and each has a fixed kernel timed beside it.

That kernel does not depend on the package, so that times over it are comparable between runs, however
fast the machine was.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LEAST = 0.02
"""A timing is the mean over as many calls as take this many seconds: a kernel runs from warm caches."""

MOST_CALLS = 100


class Timing(NamedTuple):
    """Seconds: the first call, which compiles or loads the program, and one entry for each round.

    `steady` is the contestant, `reference` the mean of the reference kernel before and after it.
    """

    first: float
    steady: list[float]
    reference: list[float]

    @property
    def relative(self) -> Spread:
        """The time in units of the reference kernel."""
        return spread(a / b for a, b in zip(self.steady, self.reference, strict=True))


class Spread(NamedTuple):
    """Something measured round by round: median, smallest and largest; and what is aimed for."""

    median: float
    low: float
    high: float
    at_most: float | None = None


class Report(NamedTuple):
    """What a part has to show: tables of timings by title, values by name, and lines of text."""

    tables: Mapping[str, Mapping[str, Timing]]
    values: Mapping[str, Spread]
    remarks: Sequence[str] = ()


# Measuring ----------------------------------------------------------------------------------------


@jax.jit
def _exponentials_and_product(x: jax.Array) -> jax.Array:
    return jnp.exp(-x) @ x


@functools.cache
def _matrix() -> jax.Array:
    return jnp.full((512, 512), 0.5, jnp.float32)


def reference_kernel() -> jax.Array:
    """The exponentials of a matrix and a product, in float32: milliseconds on a processor."""
    return _exponentials_and_product(_matrix())


def _timed(call: Callable[[], Any], calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(call())
    return (time.perf_counter() - start) / calls


def race(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    reference: Callable[[], Any] = reference_kernel,
    warm: bool = True,
) -> dict[str, Timing]:
    """Call every contestant once to compile and once to warm up, then `rounds` times in turn.

    The order is rotated by one place each round, so that no contestant always follows the same one.
    Results may be any pytree; the JAX arrays in them are waited for. Contestants that are processes
    need no warming up.
    """
    first = {name: _timed(call) for name, call in contestants.items()}
    _timed(reference)
    calls = dict.fromkeys([*contestants, ""], 1)
    if warm:
        for name, call in [*contestants.items(), ("", reference)]:
            calls[name] = min(MOST_CALLS, math.ceil(LEAST / _timed(call)))
    times = {name: Timing(first[name], [], []) for name in contestants}
    names = list(contestants)
    before = _timed(reference, calls[""])
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].steady.append(_timed(contestants[name], calls[name]))
            after = _timed(reference, calls[""])
            times[name].reference.append((before + after) / 2)
            before = after
    return times


# What follows from the timings --------------------------------------------------------------------


def spread(values: Any, at_most: float | None = None) -> Spread:
    """Median and range of values, one a round."""
    values = [float(x) for x in values]
    return Spread(statistics.median(values), min(values), max(values), at_most)


def seconds(timing: Timing, scale: float = 1.0, at_most: float | None = None) -> Spread:
    """`scale` times the time of a call."""
    return spread((scale * x for x in timing.steady), at_most)


def per_second(timing: Timing, work: float) -> Spread:
    """`work` over the time of a call."""
    return spread(work / x for x in timing.steady)


def _totals(times: Mapping[str, Timing], names: Sequence[str]) -> np.ndarray:
    """Round by round, the time of all of `names`."""
    return np.sum([times[name].steady for name in names], axis=0)


def ratio(
    times: Mapping[str, Timing],
    above: Sequence[str],
    below: Sequence[str],
    scale: float = 1.0,
    at_most: float | None = None,
) -> Spread:
    """`scale` times the total time of `above` over that of `below`, taken round by round."""
    return spread(scale * _totals(times, above) / _totals(times, below), at_most)


def upper(sizes: Sequence[Any]) -> Sequence[Any]:
    """The larger half of the sizes, at least three of them."""
    return sizes[-max(3, math.ceil(len(sizes) / 2)) :]


def exponent(times: Sequence[Timing], sizes: Sequence[float]) -> Spread:
    """The slope of log time against log size over the upper sizes.

    Times are those over the reference kernel. A line is fitted by least squares in each round.
    """
    log_time = np.log([np.divide(timing.steady, timing.reference) for timing in upper(times)])
    return spread(np.polyfit(np.log(upper(sizes)), log_time, 1)[0])


# Printing -----------------------------------------------------------------------------------------


def print_report(report: Report) -> None:
    """Tables of milliseconds, then values with their range over the rounds, then the remarks."""
    for title, times in report.tables.items():
        width = max(map(len, times))
        print(f"\n{title}")
        columns = ("first", "median", "min", "max")
        print(" " * width + "".join(f"{x:>12}" for x in columns) + "  [ms]   x reference")
        for name, timing in times.items():
            numbers = (timing.first, *seconds(timing)[:3])
            line = "".join(f"{1e3 * x:12.3f}" for x in numbers)
            print(f"{name:{width}}{line}{timing.relative.median:21.4g}")
    if report.values:
        width = max(map(len, report.values))
        print("\nvalues, median and range over the rounds")
        for name, value in report.values.items():
            print(f"{name:{width}}  {shown(value)}")
    for line in report.remarks:
        print(line)


def shown(value: Spread) -> str:
    """The median, the range, and whether it is as small as it should be."""
    text = f"{value.median:10.3g}  [{value.low:.3g}, {value.high:.3g}]"
    if value.at_most is None:
        return text
    return (
        f"{text}  target {value.at_most:g}: {'met' if value.median <= value.at_most else 'missed'}"
    )
