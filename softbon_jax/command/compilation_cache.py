"""How the programs of this project compile: with JAX's persistent cache, and quickly.

The library itself changes no setting of JAX or XLA. A program that calls `enable` reuses what earlier
runs have compiled, from a folder in the user's cache, and starts in a fraction of the time. One that
calls `quick` compiles in less time what may run a little longer.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib

VARIABLE = "SOFTBON_CACHE"
"""Environment variable: a folder to use instead of the default, or `off`."""

MOST_BYTES = 2**29
"""If a folder holds more, the oldest entries are removed when a program starts."""

_FLAG, _LEAST_WITHOUT = "xla_cpu_use_fusion_emitters", (0, 12)

_ENTRY = re.compile(r".+-[0-9a-f]{64}-cache")


def enable() -> Path | None:
    """Turn the cache on, unless it is already on or the user has turned it off.

    The folder is that of the environment variable `SOFTBON_CACHE`, else `softbon_jax` in the user's
    cache (`~/.cache` on Linux). If `jax_compilation_cache_dir` is set, it and the other settings of the
    cache are left as they are.

    Returns:
      The folder in use. None if `SOFTBON_CACHE` is `off`, if JAX's own settings turn the cache off, or
      if no folder can be written; everything then works as without a cache.

    Raises:
      Nothing: no failure of the cache stops a program.

    Numerics: a cached program is the one that would be compiled: entries are keyed by the program, the
      versions of JAX and XLA, the flags of XLA and the kind of device. Processes may share a folder: a
      damaged or half-written entry is ignored, without a warning, and the program is compiled.
    Source: `jax_compilation_cache_dir` in JAX's documentation.

    Example:
      >>> from softbon_jax.command import compilation_cache
      >>> folder = compilation_cache.enable()
      >>> folder is None or folder.is_dir()
      True
    """
    settings: Any = jax.config
    if settings.jax_compilation_cache_dir:
        return Path(settings.jax_compilation_cache_dir)
    asked = os.environ.get(VARIABLE, "")
    if asked.lower() in ("off", "0", "no", "none") or not settings.jax_enable_compilation_cache:
        return None
    try:
        folder = Path(asked).expanduser().absolute() if asked else _user_cache() / "softbon_jax"
        # Entries are executable code, so nobody else may write here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return None
    _prune(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Most kernels here compile in less than the second that JAX demands of an entry by default.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A damaged entry or a full disk costs a compilation; nobody who runs the program need act.
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache"
    )
    return folder


def quick() -> bool:
    """Let XLA compile for CPUs without its fusion emitters, in about two thirds of the time.

    `python -m benchmarks cold` measures it, by the first `metrics` of a process.

    Adds a flag to `XLA_FLAGS`, for this process and those that it starts. It must be called before JAX
    computes anything, and is too late afterwards, without a word.

    Returns:
      Whether the flag is there. False for a jaxlib from 0.12 on, which does not know it; there is no
      other way to compile there.

    Raises:
      Nothing.

    Numerics: results differ in the last digits. Most programs run as fast; some loops of many small
      steps, such as that of `pool_curve`, take longer.
    Source: `xla_cpu_use_fusion_emitters` of XLA, whose emitters make a pass manager of MLIR for every
      fusion.

    Example:
      >>> from softbon_jax.command import compilation_cache
      >>> compilation_cache.quick() in (True, False)
      True
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _FLAG not in flags and jaxlib.version.__version_info__[:2] < _LEAST_WITHOUT:
        flags = f"{flags} --{_FLAG}=false".strip()
        os.environ["XLA_FLAGS"] = flags  # an unknown flag ends the process
    return f"--{_FLAG}=false" in flags


def _prune(folder: Path) -> None:
    """Remove the oldest entries until half of `MOST_BYTES` is left, if there is more than that.

    Only files with the name of an entry are counted and removed. Those that another process removes
    first, or that cannot be removed, are passed over.
    """
    entries = sorted(_entries(folder))
    size = sum(bytes_ for _, bytes_, _ in entries)
    if size <= MOST_BYTES:
        return
    for _, bytes_, path in entries:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            continue
        size -= bytes_
        if size <= MOST_BYTES / 2:
            break


def _entries(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of writing, size in bytes and path of every entry."""
    for path in folder.iterdir():
        if not _ENTRY.fullmatch(path.name):
            continue
        try:
            stat = path.stat()
        except OSError:  # removed by another process
            continue
        yield stat.st_mtime, stat.st_size, path


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
