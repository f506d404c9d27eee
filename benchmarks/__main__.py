"""Times everything beside an alternative, keeps the timings, and compares them with a baseline.

python -m benchmarks [PART ...]                 time some parts, or all of them, and save the run
python -m benchmarks compare [RUN] [BASELINE]   what got slower or faster than in the baseline
python -m benchmarks baseline [RUN]             make a run the baseline of its device; docs/speed.md

RUN is the newest one by default, BASELINE that of the device of the run.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks import _compare, _page, _records, _timing
from softbon_jax.command import compilation_cache

PARTS = (
    "sweep", "growth", "cold", "selection", "simulation", "variants", "sequences", "pools",
    "groups", "calibration",
)  # fmt: skip
QUICK_ROUNDS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """One of the three commands; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands = {"compare": compare, "baseline": baseline}
    command = commands.get(arguments[0]) if arguments else None
    try:
        return command(arguments[1:]) if command else run(arguments)
    except _records.RecordError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def run(arguments: Sequence[str]) -> int:
    """Run the parts that are named, in order, each in its own precision, and save the timings.

    The first call of a contestant is cold only with `SOFTBON_CACHE=off`; otherwise it may find its
    program in the compilation cache. Steady calls are the same either way.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="times each contestant is timed")
    parser.add_argument("--quick", action="store_true", help="few rounds, and no large sizes")
    parser.add_argument(
        "--json", type=Path, default=_records.RESULTS, help="folder for the timings, a file a run"
    )
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    compilation_cache.enable()
    record = _records.machine() | {"quick": options.quick, "parts": {}}
    print(_compare.origin(record))
    for part in options.parts or PARTS:
        module = importlib.import_module(f"benchmarks.bench_{part}")
        print(f"\n=== {part}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        rounds = options.rounds or (QUICK_ROUNDS if options.quick else module.ROUNDS)
        start = time.perf_counter()
        with jax.enable_x64(module.DOUBLE):
            report = module.run(rounds, options.quick)
        _timing.print_report(report)
        record["parts"][part] = _records.part_record(report, time.perf_counter() - start)
    print(f"\nsaved in {_records.save(record, options.json)}")
    return 0


def compare(arguments: Sequence[str]) -> int:
    """Print what changed; 1 if something got slower and `--strict` is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare")
    parser.add_argument("run", nargs="?", type=Path, help="the newest by default")
    parser.add_argument("baseline", nargs="?", type=Path, help="that of the device by default")
    parser.add_argument("--strict", action="store_true", help="exit 1 if something got slower")
    options = parser.parse_args(arguments)
    record = _records.read(options.run)
    reference = _records.read(options.baseline or _records.baseline_of(record))
    print("\n".join(_compare.lines(record, reference)))
    return int(options.strict and any(x.slower for x in _compare.changes(record, reference)))


def baseline(arguments: Sequence[str]) -> int:
    """Store a run as the baseline of its device, and write the page that shows all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks baseline")
    parser.add_argument("run", nargs="?", type=Path, help="the newest by default")
    options = parser.parse_args(arguments)
    print(f"stored in {_records.store(_records.read(options.run), PARTS)}")
    _page.PAGE.write_text(_page.text(), encoding="utf-8")
    print(f"written {_page.PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
