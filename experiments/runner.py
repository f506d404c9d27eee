"""The only writer: computes an experiment cell by cell, saves it with a manifest, and resumes.

A result is a folder `<out>/<name>/` with `data.nc` and `manifest.json`. Cells are saved under
`<out>/.cells/` as they finish, under a key that hashes everything the result depends on: the config, the
files it reads, the source of the library and of what the experiment imports, and the compiler. A rerun
therefore computes only what is missing and never mixes results of two versions. A result that is out of
date is computed again, with the reason given, and the old one is kept under `<out>/.replaced/`. Files
are replaced atomically; the manifest is written last and marks the result as complete.

`data.nc` depends only on config, inputs and code: the same ones give the same bytes on one machine. What
differs between runs (wall time, date, device) is in the manifest, which names no path of the machine.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import xarray as xr

import softbon_jax
from experiments import module
from experiments.progress import Progress
from softbon_jax.command import replacing

REPOSITORY = Path(__file__).resolve().parent.parent
OUTSIDE = ("__main__.py", "command/main.py", "command/_files.py", "command/compilation_cache.py")
"""Files of the library that no result depends on."""
PACKAGES = ("softbon-jax", "jax", "jaxlib", "numpy", "xarray", "h5netcdf", "h5py")


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
    data = out / name / "data.nc"
    if not data.exists() or _sha256(data) != manifest["data_sha256"]:
        raise ResultError(
            f"{data} is not what its manifest describes: run {name} again with --force"
        )
    return _read(data)


def read_manifest(name: str, out: Path) -> dict[str, Any] | None:
    """The manifest of a finished result, or None."""
    path = out / name / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else None


# Computing and writing ---------------------------------------------------------------------------


def execute(
    name: str, config: Any, out: Path, *, force: bool = False, progress: Progress | None = None
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
    """
    experiment = module(name)
    cells = experiment.cells(config)
    if progress is None:
        with Progress(len(cells)) as own:
            return execute(name, config, out, force=force, progress=own)
    basis = _basis(name, config)
    key = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()
    manifest = read_manifest(name, out)
    if manifest is not None and not force:
        changes = _changes(manifest.get("basis"), basis)
        if not changes:
            try:
                dataset = load(name, out)
            except ResultError:
                changes = "the saved data are damaged"
            else:
                progress.skip(len(cells))
                progress.say(f"{name}: up to date")
                return dataset
        progress.say(f"{name}: computing it again, because {changes}")

    cells_dir = out / ".cells" / f"{name}-{key[:16]}"
    if force:
        shutil.rmtree(cells_dir, ignore_errors=True)
    paths = [cells_dir / f"{i:04d}.nc" for i in range(len(cells))]
    began = time.perf_counter()
    resumed = 0
    for cell, path in zip(cells, paths, strict=True):
        if path.exists():
            resumed += 1
        else:
            _write_dataset(experiment.compute(config, cell), path)
        progress.step(f"{name}: {cell}")
    dataset = experiment.assemble_cells(config, [_read(path) for path in paths])

    folder, fresh = out / name, cells_dir / "data.nc"
    _write_dataset(dataset, fresh)
    digest = _sha256(fresh)
    if manifest is not None and manifest["data_sha256"] != digest:
        progress.say(f"{name}: the old result is kept in {_set_aside(folder, manifest, out)}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    os.replace(fresh, folder / "data.nc")
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
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    with replacing(folder / "manifest.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    shutil.rmtree(cells_dir)
    return _read(folder / "data.nc")


def _set_aside(folder: Path, manifest: dict[str, Any], out: Path) -> Path:
    """Move a finished result to `out/.replaced/`; the folder that it is in now."""
    place = out / ".replaced" / f"{folder.name}-{manifest['data_sha256'][:8]}"
    shutil.rmtree(place, ignore_errors=True)  # the same data
    place.parent.mkdir(parents=True, exist_ok=True)
    os.rename(folder, place)
    return place


# What a result depends on ------------------------------------------------------------------------


def _basis(name: str, config: Any) -> dict[str, Any]:
    """Everything that determines the data of a result, as JSON."""
    experiment = module(name)
    inputs = experiment.inputs(config) if hasattr(experiment, "inputs") else []
    basis = {
        "config": dataclasses.asdict(config),
        "inputs": {path.name: _sha256(path) for path in inputs},
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
        path.relative_to(root).as_posix(): _sha256(path)
        for path in sorted(found)
        for root in roots
        if path.is_relative_to(root)
    }


def _imported(path: Path, own: Path) -> list[Path]:
    """The modules in the folder `own` that the module at `path` imports by name."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(own.name):
            names += [node.module or "", *(f"{node.module}.{x.name}" for x in node.names)]
        elif isinstance(node, ast.Import):
            names += [x.name for x in node.names]
    inside = [name.split(".")[1:] for name in names if name.startswith(f"{own.name}.")]
    paths = [own.joinpath(*parts).with_suffix(".py") for parts in inside]
    return [x for x in paths if x.exists()]


def _changes(old: dict[str, Any] | None, new: dict[str, Any]) -> str:
    """The differences between two bases, in words; empty if they are equal."""
    if old is None:
        return "an older version of this program saved it"
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


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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


def _read(path: Path) -> xr.Dataset:
    return xr.load_dataset(path, engine="h5netcdf")


def _write_dataset(dataset: xr.Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf")
