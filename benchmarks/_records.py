"""Runs on disk: one file for each, and for each device one that later runs are compared with."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import softbon_jax
from benchmarks._timing import Report

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
BASELINES = FOLDER / "baselines"
SCHEMA = 1

_NUMBERS = re.compile(r"\[\s+([^\[\]{}\"]+?)\s+\]")


class RecordError(Exception):
    """There is no such run, or it cannot serve; the message says what to do."""


# What a run was made with -------------------------------------------------------------------------


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> str:
    """The accelerator, or the model and number of the processors."""
    first = jax.devices()[0]
    if first.platform != "cpu":
        return first.device_kind
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        model = found[1] if found else model
    return f"{model}, {processors()} processors"


def commit() -> str:
    """The git commit, with a plus where files differ from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(FOLDER), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """Device, versions, commit and date."""
    settings: Any = jax.config
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": device(),
        "processors": processors(),
        "platform": platform.platform(),
        "versions": {
            "softbon_jax": softbon_jax.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jaxlib", "numpy")},
        },
        "compilation_cache": bool(settings.jax_compilation_cache_dir),
    }


def part_record(report: Report, wall: float) -> dict[str, Any]:
    """Wall time, timings and values of one part, to five digits."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, Mapping):
            return {name: short(x) for name, x in value.items()}
        return [short(x) for x in value] if isinstance(value, list) else value

    return short(
        {
            "wall": wall,
            "seconds": {
                title: {name: timing._asdict() for name, timing in times.items()}
                for title, times in report.tables.items()
            },
            "values": {name: value._asdict() for name, value in report.values.items()},
        }
    )


# Files --------------------------------------------------------------------------------------------


def slug(name: str) -> str:
    """A name of a device as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def baseline_of(record: Mapping[str, Any]) -> Path:
    """The file of the baseline that belongs to a run: that of its device."""
    return BASELINES / f"{slug(record['device'])}.json"


def write(record: Mapping[str, Any], path: Path) -> None:
    """The record as JSON, a list of numbers to a line."""
    text = json.dumps(record, indent=1)
    text = _NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def save(record: Mapping[str, Any], folder: Path) -> Path:
    """Write a run to the folder, by date and device."""
    date = record["date"].replace(":", "").removesuffix("+0000")
    path = folder / f"{date}-{slug(record['device'])}.json"
    write(record, path)
    return path


def read(path: Path | None) -> dict[str, Any]:
    """A run; without a path the newest one.

    Raises:
      RecordError: there is none, or it was written in another format.
    """
    if path is None:
        runs = sorted(RESULTS.glob("*.json"))
        if not runs:
            raise RecordError(f"no run in {RESULTS}: `python -m benchmarks` makes one")
        path = runs[-1]
    if not path.exists():
        raise RecordError(f"there is no {path}")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("schema") != SCHEMA:
        raise RecordError(f"{path} is not a run of these benchmarks")
    return record


def store(record: Mapping[str, Any], parts: tuple[str, ...]) -> Path:
    """Make a run the baseline of its device.

    Raises:
      RecordError: it was a quick one, or without some of the parts.
    """
    missing = [part for part in parts if part not in record["parts"]]
    if missing or record["quick"]:
        what = f"leaves out {', '.join(missing)}" if missing else "is a quick one"
        raise RecordError(f"the run of {record['date']} {what}: a baseline is a whole run")
    path = baseline_of(record)
    write(record, path)
    return path
