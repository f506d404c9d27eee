"""JAX's persistent compilation cache, for the programs of this project.

The library itself changes no setting of JAX. A program that calls `enable` finds what an earlier run
has compiled in a folder of the user's cache, so that it starts in a fraction of the time.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import jax

VARIABLE = "SOFTBON_CACHE"
"""Environment variable: a folder to use instead, or `off`."""

MOST_BYTES = 2**29
"""Above this size of the folder the oldest entries are removed when a program starts."""


def enable() -> Path | None:
    """Turn the cache on, unless it is on already or the user has turned it off.

    Returns:
      The folder in use. None where `SOFTBON_CACHE` is `off`, JAX's own settings turn the cache off, or
      no folder can be written: then everything works as without a cache.

    Numerics: entries are keyed by the program, the versions, the flags of XLA and the features of the
    processor, so that a hit is the program that would have been compiled. Processes may share the
    folder: an entry that is damaged or half written is compiled again.
    Source: `jax_compilation_cache_dir` in JAX's documentation. A folder that is set there is left as
    it is.

    Example:
      >>> from softbon_jax.command import compilation_cache
      >>> folder = compilation_cache.enable()
    """
    settings: Any = jax.config
    if settings.jax_compilation_cache_dir:
        return Path(settings.jax_compilation_cache_dir)
    asked = os.environ.get(VARIABLE, "")
    if asked.lower() in ("off", "0", "no", "none") or not settings.jax_enable_compilation_cache:
        return None
    folder = Path(asked) if asked else _user_cache() / "softbon_jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder)
    except OSError:
        return None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Most kernels here compile in less than the second that JAX asks of an entry by default.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # Damage and a full disk cost a compilation, which is no news to whoever runs the program.
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache"
    )
    return folder


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _prune(folder: Path) -> None:
    """Remove the oldest entries until half of `MOST_BYTES` is left, if there is more than that."""
    entries = [(entry.stat(), entry.path) for entry in os.scandir(folder) if entry.is_file()]
    size = sum(stat.st_size for stat, _ in entries)
    if size <= MOST_BYTES:
        return
    for stat, path in sorted(entries, key=lambda x: x[0].st_mtime):
        Path(path).unlink(missing_ok=True)
        size -= stat.st_size
        if size <= MOST_BYTES / 2:
            break
