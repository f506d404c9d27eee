"""A run beside a baseline: every time in units of the reference kernel that was timed beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks._timing import Spread, Timing, shown

SMALLEST = 1.1
"""Two processes differ by less than this factor in how their memory happens to lie."""


class Change(NamedTuple):
    """Time of a kernel over that in the baseline, each over its reference kernel, and the range of it.

    The range is from the fastest round over the slowest of the baseline to the slowest over the
    fastest.
    """

    name: str
    quotient: Spread

    @property
    def slower(self) -> bool:
        """Slower than the noise of both explains."""
        return self.quotient.low > 1 and self.quotient.median > SMALLEST

    @property
    def faster(self) -> bool:
        """Faster than the noise of both explains."""
        return self.quotient.high < 1 and self.quotient.median < 1 / SMALLEST


def kernels(record: Mapping[str, Any]) -> dict[str, Spread]:
    """Every kernel of a run by part, table and name, in units of its reference kernel.

    Without those of one round, of whose noise nothing is known.
    """
    return {
        f"{part}: {title}: {name}": Timing(**timing).relative
        for part, parts in record["parts"].items()
        for title, times in parts["seconds"].items()
        for name, timing in times.items()
        if len(timing["steady"]) > 1
    }


def values(record: Mapping[str, Any]) -> dict[str, Spread]:
    """Every value of a run, by part and name."""
    return {
        f"{part}: {name}": Spread(**value)
        for part, parts in record["parts"].items()
        for name, value in parts["values"].items()
    }


def changes(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Change]:
    """All kernels that both have, the most slowed down first."""
    new, old = kernels(run), kernels(baseline)
    found = [
        Change(
            name,
            Spread(
                new[name].median / old[name].median,
                new[name].low / old[name].high,
                new[name].high / old[name].low,
            ),
        )
        for name in new
        if name in old
    ]
    return sorted(found, key=lambda change: -change.quotient.median)


def origin(record: Mapping[str, Any]) -> str:
    """When, where and with what a run was made."""
    versions = ", ".join(f"{name} {text}" for name, text in record["versions"].items())
    how = ", quick" if record["quick"] else ""
    return f"{record['date']}{how}, {record['device']}, {versions}, commit {record['commit'][:12]}"


def lines(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> Iterator[str]:
    """What `compare` prints."""
    yield f"run       {origin(run)}"
    yield f"baseline  {origin(baseline)}"
    if run["device"] != baseline["device"]:
        yield "they were made on different devices: the quotients say little"
    all_changes = changes(run, baseline)
    slower = [change for change in all_changes if change.slower]
    faster = [change for change in reversed(all_changes) if change.faster]
    for label, group in (("slower", slower), ("faster", faster)):
        if group:
            yield f"\n{label} beyond the noise: time over that of the baseline"
        for change in group:
            yield f"{shown(change.quotient)}  {change.name}"
    new, old = values(run), values(baseline)
    moved = [
        name
        for name in new
        if name in old and (new[name].low > old[name].high or new[name].high < old[name].low)
    ]
    if moved:
        yield "\nvalues that changed beyond the noise: now, and in the baseline"
    for name in moved:
        before, now = (x[name]._replace(at_most=None) for x in (old, new))
        yield f"{shown(now)} {shown(before)}  {name}"
    missing = sorted(set(kernels(baseline)) - set(kernels(run)))
    same_parts = [x for x in missing if x.split(":")[0] in run["parts"]]
    if same_parts:
        yield "\nin the baseline only"
        yield from same_parts
    rest = len(all_changes) - len(slower) - len(faster)
    yield f"\n{len(slower)} slower, {len(faster)} faster, {rest} of {len(all_changes)} within the noise"
