"""docs/speed.md: what the stored baselines measured, device by device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import _compare, _records
from benchmarks._timing import Spread, Timing, seconds

PAGE = _records.FOLDER.parent / "docs" / "speed.md"
HEAD = """# Speed

Written by `python -m benchmarks baseline` from the runs in `benchmarks/baselines/`, one for each device;
`make bench` makes a run ([how](benchmarks.md)). Medians over the rounds of one run, with the smallest
and the largest; ratios are taken round by round between contestants that take turns. Where there is a
target, it says whether it was met.
"""


def text() -> str:
    """The page, from all baselines."""
    lines = [HEAD]
    for path in sorted(_records.BASELINES.glob("*.json")):
        lines += _device(_records.read(path))
    return "\n".join(lines)


def _device(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {record['device']}\n"
    yield f"{_compare.origin(record)}.\n"
    for part, found in record["parts"].items():
        yield f"### `{part}`\n"
        if found["values"]:
            yield "| | median | range | target |\n| --- | --- | --- | --- |"
            for name, value in found["values"].items():
                yield _row(name, Spread(**value))
            yield ""
        for title, times in found["seconds"].items():
            yield f"| {_cell(title)} | first call, ms | then, ms | range |\n| --- | --- | --- | --- |"
            for name, timing in times.items():
                first, steady = 1e3 * timing["first"], seconds(Timing(**timing), 1e3)
                yield f"| {_cell(name)} | {first:.3g} | {steady.median:.3g} | {_range(steady)} |"
            yield ""


def _row(name: str, value: Spread) -> str:
    target = ""
    if value.at_most is not None:
        verdict = "met" if value.median <= value.at_most else "missed"
        target = f"≤ {value.at_most:g}: {verdict}"
    return f"| {_cell(name)} | {value.median:.4g} | {_range(value)} | {target} |"


def _range(value: Spread) -> str:
    return f"{value.low:.3g} to {value.high:.3g}"


def _cell(name: str) -> str:
    return name.replace("|", "\\|")
