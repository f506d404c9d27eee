"""The only writer: computes an experiment cell by cell, saves it with a manifest, and resumes.

A result is a folder `<out>/<name>/` with `data.nc` and `manifest.json`. Cells are saved under
`<out>/.cells/` as they finish, under a key that hashes everything the result depends on: the config, the
files it reads, the source of the library and of what the experiment imports, and the compiler. A rerun
therefore computes only what is missing and never mixes results of two versions. A result that is out of
date is computed again, with the reason given, and the old one is kept under `<out>/.replaced/`. Files
are replaced atomically; the manifest is written last and marks the result as complete. Of two runs of
one experiment in one folder the second waits for the first.

Every file is checked before it is used: the name of a cell has the checksum of its bytes, the manifest
has that of `data.nc` and its own. What is damaged is moved to `<out>/.replaced/` and computed again.

`data.nc` depends only on config, inputs and code: the same ones give the same bytes on one machine. What
differs between runs (wall time, date, device) is in the manifest, which names no path of the machine.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import xarray as xr

import softbon_jax
from experiments import module
from experiments.progress import Progress
from softbon_jax.command import replacing

REPOSITORY = Path(__file__).resolve().parent.parent
OUTSIDE = (
    "__main__.py",
    "command/_analyze.py",
    "command/_plan.py",
    "command/_select.py",
    "command/main.py",
    "command/_files.py",
    "command/_terminal.py",
    "command/compilation_cache.py",
)
"""Files of the library that no result depends on."""
PACKAGES = ("softbon-jax", "jax", "jaxlib", "numpy", "xarray", "h5netcdf", "h5py")


_PARSING = threading.Lock()
"""Python 3.11 fails where two threads parse at once (gh-106905)."""


class ResultError(Exception):
    """A saved result that cannot be used or must not be overwritten; it says what to do."""


# Reading -----------------------------------------------------------------------------------------


def default_results(size: str) -> Path:
    """The folder of results of the config `size`, unless another one is given."""
    return Path("results") / size


def load(name: str, out: Path) -> xr.Dataset:
    """The saved result of the experiment `name` in the folder `out`, checked against its manifest.

    Raises:
      ResultError: there is no result, or the data are not those that the manifest describes.
    """
    manifest = read_manifest(name, out)
    if manifest is None:
        raise ResultError(f"no result of {name} in {out}: run `python -m experiments run {name}`")
    path = out / name / "data.nc"
    data = path.read_bytes() if path.is_file() else b""
    if _sha256(data) != manifest["data_sha256"]:
        raise ResultError(
            f"{path} is not what its manifest describes: run `python -m experiments run {name}`, which "
            "computes it again"
        )
    return _read(data)


def read_manifest(name: str, out: Path) -> dict[str, Any] | None:
    """The manifest of a finished result, or None.

    Raises:
      ResultError: it is damaged, or another version of this program saved it.
    """
    path = out / name / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_bytes())
        digest = manifest.pop("manifest_sha256", None)
        intact = digest == _digest(manifest)
    except (ValueError, RecursionError, AttributeError, TypeError):
        digest, intact = "", False
    if not intact:
        reason = "is damaged" if digest is not None else "was saved by another version"
        raise ResultError(
            f"{path} {reason}: run `python -m experiments run {name}`, which computes it again"
        )
    return manifest


# Computing and writing ---------------------------------------------------------------------------


def execute(
    name: str,
    config: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    call: Callable[..., Any] | None = None,
) -> xr.Dataset:
    """The result of experiment `name` at `config`, from disk if it is up to date, else computed.

    A saved result of another config, other inputs or other code is moved to `out/.replaced/` when the
    new one is complete.

    Args:
      name: of the experiment.
      config: an instance of its `Config`.
      out: folder of results.
      force: compute it even if it is up to date.
      progress: counts one step for each cell; by default a new one is made.
      call: calls a function with arguments, in another process perhaps, and returns its result.
    """
    experiment = module(name)
    cells = experiment.cells(config)
    if progress is None:
        with Progress(len(cells)) as own:
            return execute(name, config, out, force=force, progress=own, call=call)
    with _alone(name, out, progress):
        return _execute(name, config, out, force, progress, call or (lambda f, *x: f(*x)))


def compute_some(
    name: str,
    config: Any,
    out: Path,
    some: Sequence[int],
    progress: Progress,
    call: Callable[..., Any],
) -> None:
    """Compute some of the cells of an experiment, unless they are there, for `execute` to find.

    Any number of processes and machines that see the folder may do so at a time.
    """
    cells, basis = module(name).cells(config), _basis(name, config)
    with contextlib.suppress(ResultError):
        manifest = read_manifest(name, out)
        if manifest is not None and not _changes(manifest["basis"], basis):
            progress.skip(len(some))
            return
    folder = _folder_of_cells(name, basis, out)
    for i in some:
        if _saved_cell(folder, i, out, progress) is None:
            _compute_cell(name, config, cells[i], i, folder, call)
        progress.step(f"{name}: {cells[i]}")


def _folder_of_cells(name: str, basis: dict[str, Any], out: Path) -> Path:
    folder = out / ".cells" / f"{name}-{_digest(basis)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compute_cell(
    name: str, config: Any, cell: str, index: int, folder: Path, call: Callable[..., Any]
) -> bytes:
    data: bytes = call(computed, name, config, cell)
    _write(folder / f"{index:04d}.{_sha256(data)}.nc", data)
    return data


def computed(name: str, config: Any, cell: str) -> bytes:
    """One cell of an experiment, as it is saved."""
    return _as_bytes(module(name).compute(config, cell))


def _execute(
    name: str,
    config: Any,
    out: Path,
    force: bool,
    progress: Progress,
    call: Callable[..., Any],
) -> xr.Dataset:
    experiment = module(name)
    cells = experiment.cells(config)
    basis = _basis(name, config)
    key = _digest(basis)
    folder = out / name
    manifest, changes = None, ""
    try:
        manifest = read_manifest(name, out)
        if manifest is not None and not force:
            changes = _changes(manifest["basis"], basis)
            if not changes:
                dataset = load(name, out)
                progress.skip(len(cells))
                progress.say(f"{name}: up to date")
                return dataset
    except ResultError as error:
        manifest, changes = None, str(error).split(": ")[0]
        changes += f", which is now in {_set_aside(folder, out, 'damaged')}"
    if changes:
        progress.say(f"{name}: computing it again, because {changes}")

    cells_dir = _folder_of_cells(name, basis, out)
    if force:
        shutil.rmtree(cells_dir)
        cells_dir.mkdir()
    began = time.perf_counter()
    resumed = 0
    parts = []
    for i, cell in enumerate(cells):
        part = _saved_cell(cells_dir, i, out, progress)
        if part is None:
            part = _read(_compute_cell(name, config, cell, i, cells_dir, call))
        else:
            resumed += 1
        parts.append(part)
        progress.step(f"{name}: {cell}")
    data = _as_bytes(experiment.assemble_cells(config, parts))
    digest, dataset = _sha256(data), _read(data)
    if manifest is not None and manifest["data_sha256"] != digest:
        place = _set_aside(folder, out, manifest["data_sha256"][:8])
        progress.say(f"{name}: the old result is kept in {place}")
    manifest = {
        "experiment": name,
        "basis": basis,
        "key": key,
        "data_sha256": digest,
        "rows": int(max(v.size for v in dataset.data_vars.values())),
        "sizes": {str(dim): int(size) for dim, size in dataset.sizes.items()},
        "wall_seconds": round(time.perf_counter() - began, 3),
        "cells_resumed": resumed,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
        **_commit(),
    }
    manifest["manifest_sha256"] = _digest(manifest)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    # Written where nothing of a stopped run is left behind, and moved.
    for file, content in (("data.nc", data), ("manifest.json", text.encode())):
        _write(cells_dir / file, content)
        os.replace(cells_dir / file, folder / file)
    shutil.rmtree(cells_dir)
    return dataset


@contextmanager
def _alone(name: str, out: Path, progress: Progress) -> Iterator[None]:
    """No other run of the experiment in this folder; the system frees the lock of one that dies."""
    path = out / ".locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            process = lock.read().strip()
            progress.say(f"{name}: waiting for process {process}, which computes it in {out}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _saved_cell(cells_dir: Path, index: int, out: Path, progress: Progress) -> xr.Dataset | None:
    """A cell that an earlier run has saved; what is damaged is set aside."""
    for path in sorted(cells_dir.glob(f"{index:04d}.*.nc")):
        data = path.read_bytes()
        if path.name == f"{index:04d}.{_sha256(data)}.nc":
            return _read(data)
        place = _set_aside(path, out, "damaged")
        progress.say(f"{path} is damaged, and is now in {place}; it is computed again")
    return None


def _set_aside(path: Path, out: Path, suffix: str) -> Path:
    """Move a file or a folder to `out/.replaced/`; the place that it is in now."""
    place = out / ".replaced" / f"{path.name}-{suffix}"
    if place.is_dir():  # of the same data, or damaged earlier
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, place)
    return place


# What a result depends on ------------------------------------------------------------------------


def _basis(name: str, config: Any) -> dict[str, Any]:
    """Everything that determines the data of a result, as JSON."""
    experiment = module(name)
    inputs = experiment.inputs(config) if hasattr(experiment, "inputs") else []
    basis = {
        "config": dataclasses.asdict(config),
        "inputs": {path.name: _sha256_of_file(path) for path in inputs},
        "source": sources(name),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "precision": _precision(),
    }
    return json.loads(json.dumps(basis, default=lambda path: path.name))


def sources(name: str) -> dict[str, str]:
    """SHA-256 of every source file of the library, and of all modules the experiment imports here.

    The files in `OUTSIDE` are left out.
    """
    library, own = Path(softbon_jax.__file__).parent, Path(__file__).parent
    found = {x for x in library.rglob("*.py") if x.relative_to(library).as_posix() not in OUTSIDE}
    waiting = [own / f"{name}.py"]
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting += [x for x in _imported(path, own) if x not in found]
    roots = (library.parent, own.parent)
    return {
        path.relative_to(root).as_posix(): _sha256_of_file(path)
        for path in sorted(found)
        for root in roots
        if path.is_relative_to(root)
    }


def _imported(path: Path, own: Path) -> list[Path]:
    """The modules in the folder `own` that the module at `path` imports by name."""
    names: list[str] = []
    with _PARSING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(own.name):
            names += [node.module or "", *(f"{node.module}.{x.name}" for x in node.names)]
        elif isinstance(node, ast.Import):
            names += [x.name for x in node.names]
    inside = [name.split(".")[1:] for name in names if name.startswith(f"{own.name}.")]
    paths = [own.joinpath(*parts).with_suffix(".py") for parts in inside]
    return [x for x in paths if x.exists()]


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The differences between two bases, in words; empty if they are equal."""
    parts = []
    for group, what in (("config", "setting"), ("inputs", "input file"), ("source", "source file")):
        names = [x for x in {**old[group], **new[group]} if old[group].get(x) != new[group].get(x)]
        if not names:
            continue
        if group == "config":
            shown = [f"{x} was {old[group].get(x)} and is {new[group].get(x)}" for x in names[:3]]
        else:
            shown = [f"{x} has changed" for x in names[:3]]
        if len(names) > 3:
            shown.append(f"{len(names) - 3} more {what}s differ")
        parts += shown
    for field in ("jaxlib", "precision"):
        if old[field] != new[field]:
            parts.append(f"{field} was {old[field]} and is {new[field]}")
    return "; ".join(parts)


def _precision() -> str:
    return "float64" if jax.config.jax_enable_x64 else "float32"  # type: ignore[attr-defined]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_of_file(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(record: dict[str, Any]) -> str:
    return _sha256(json.dumps(record, sort_keys=True).encode())


def _commit() -> dict[str, Any]:
    """The git commit of the checkout, and whether it had uncommitted changes; None outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


# Files -------------------------------------------------------------------------------------------


# The file library never sees a disk: on a full one it ends in a segmentation fault.


def _read(data: bytes) -> xr.Dataset:
    return xr.load_dataset(io.BytesIO(data), engine="h5netcdf")


def _as_bytes(dataset: xr.Dataset) -> bytes:
    file = io.BytesIO()
    dataset.to_netcdf(file, engine="h5netcdf")
    return file.getvalue()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)
