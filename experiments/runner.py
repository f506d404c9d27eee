"""The only writer: computes an experiment cell by cell, saves it with a manifest, and resumes.

A result is a folder `<out>/<name>/` with `data.nc` and `manifest.json`. Cells are saved under
`<out>/.cells/` as they finish, under a key made of the config, the files it reads, and the source
of the library and of the experiments, so that a rerun computes only what is missing and never mixes
results of two versions. Every file is written beside its place and moved there, so that none is
ever half there; the manifest comes last and says that the result is complete.

`data.nc` depends on config, inputs and code alone: equal ones give equal bytes on one machine. What
differs from one run to the next (wall time, date, device) is in the manifest.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import rich.console
import rich.progress
import xarray as xr

import softbon_jax
from experiments import module

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("softbon-jax", "jax", "jaxlib", "numpy", "xarray", "h5netcdf", "h5py")


class ResultError(Exception):
    """A saved result that cannot be used or must not be overwritten; it says what to do."""


# Reading -----------------------------------------------------------------------------------------


def load(name: str, out: Path) -> xr.Dataset:
    """The saved result of the experiment `name` in the folder `out`, checked by its manifest.

    Raises:
      ResultError: there is none, or the data are not those that the manifest describes.
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
    name: str,
    config: Any,
    out: Path,
    *,
    force: bool = False,
    console: rich.console.Console | None = None,
) -> xr.Dataset:
    """The result of experiment `name` at `config`, from disk where it is there, else computed.

    Args:
      name: of the experiment.
      config: an instance of its `Config`.
      out: folder of results.
      force: overwrite a finished result, whatever it is.
      console: where progress is shown.

    Raises:
      ResultError: a result of another config is there and `force` is False.
    """
    console = console or rich.console.Console(stderr=True)
    experiment = module(name)
    identity = _identity(experiment, config)
    key = _digest({"name": name, "source": source_digest(), "x64": _precision(), **identity})
    manifest = read_manifest(name, out)
    if manifest is not None and not force:
        known = {field: manifest[field] for field in identity}
        if known != identity:
            raise ResultError(
                f"{out / name} holds a result of another config ({_difference(known, identity)}): "
                "give --force to overwrite it or --out for another folder"
            )
        if manifest["key"] == key:
            try:
                dataset = load(name, out)
            except ResultError:
                console.print(f"{name}: the saved data are damaged, computing them again")
            else:
                console.print(f"{name}: up to date")
                return dataset
        else:
            console.print(f"{name}: the code has changed since this result, computing it again")

    cells_dir = out / ".cells" / f"{name}-{key[:16]}"
    if force:
        shutil.rmtree(cells_dir, ignore_errors=True)
    cells = experiment.cells(config)
    paths = [cells_dir / f"{i:04d}.nc" for i in range(len(cells))]
    began = time.perf_counter()
    resumed = 0
    with _progress(name, len(cells), console) as advance:
        for cell, path in zip(cells, paths, strict=True):
            if path.exists():
                resumed += 1
            else:
                _write_dataset(experiment.compute(config, cell), path)
            advance(cell)
    dataset = experiment.assemble_cells(config, [_read(path) for path in paths])

    folder = out / name
    (folder / "manifest.json").unlink(missing_ok=True)
    _write_dataset(dataset, folder / "data.nc")
    manifest = {
        "experiment": name,
        **identity,
        "key": key,
        "seed": identity["config"].get("seed"),
        "data_sha256": _sha256(folder / "data.nc"),
        "rows": int(max(v.size for v in dataset.data_vars.values())),
        "sizes": {str(dim): int(size) for dim, size in dataset.sizes.items()},
        "wall_seconds": round(time.perf_counter() - began, 3),
        "cells_resumed": resumed,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}",
        "precision": _precision(),
        "python": platform.python_version(),
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
        **_commit(),
    }
    _write(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    shutil.rmtree(cells_dir)
    return _read(folder / "data.nc")


def source_digest() -> str:
    """SHA-256 over the source that results depend on, and the version of the compiler."""
    library = Path(softbon_jax.__file__).parent
    own = Path(__file__).parent
    outside = {"__main__.py", "runner.py", "verify.py"}  # they read and write results, no more
    paths = [*library.rglob("*.py"), *(p for p in own.glob("*.py") if p.name not in outside)]
    digest = hashlib.sha256(importlib.metadata.version("jaxlib").encode())
    for path in sorted(paths):
        digest.update(f"{path.parent.name}/{path.name}".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _identity(experiment: ModuleType, config: Any) -> dict[str, Any]:
    """What a result is a result of, as JSON: the config and the files it reads."""
    inputs = experiment.inputs(config) if hasattr(experiment, "inputs") else []
    identity = {
        "config": dataclasses.asdict(config),
        "inputs": {path.name: _sha256(path) for path in inputs},
    }
    return json.loads(json.dumps(identity, default=lambda path: path.name))


def _difference(known: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first few fields in which two identities differ."""
    old, new = ({**x["config"], **x["inputs"]} for x in (known, wanted))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    shown = [f"{name}: {old.get(name)} there, {new.get(name)} now" for name in names[:3]]
    return "; ".join(shown + ["..."] * (len(names) > 3))


def _precision() -> str:
    return "float64" if jax.config.jax_enable_x64 else "float32"  # type: ignore[attr-defined]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _commit() -> dict[str, Any]:
    """The git commit of the checkout and whether it had uncommitted changes; None outside one."""

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
    with _beside(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf")


def _write(path: Path, text: str) -> None:
    with _beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, moved onto it if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _progress(
    name: str, total: int, console: rich.console.Console
) -> Iterator[Callable[[str], None]]:
    """Shows the cells as they finish: one bar on a terminal, a line each elsewhere."""
    began = time.perf_counter()
    if console.is_terminal:
        columns = (*rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn())
        with rich.progress.Progress(*columns, console=console) as bar:
            task = bar.add_task(name, total=total)
            yield lambda cell: bar.update(task, advance=1, description=f"{name}: {cell}")
        return
    done = 0

    def line(cell: str) -> None:
        nonlocal done
        done += 1
        seconds = time.perf_counter() - began
        console.print(f"{name}: {cell} ({done}/{total}, {seconds:.1f} s)", highlight=False)

    yield line
