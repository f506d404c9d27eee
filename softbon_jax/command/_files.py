"""Files of the command: atomic replacement, and a copy with one more column."""

from __future__ import annotations

import csv
import errno
import gzip
import importlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from softbon_jax import scores


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Atomic replacement of a file: a temporary path, moved onto `path` if the block succeeds.

    Args:
      path: the file to write; its folder exists. A symbolic link stays one: the file that it leads to is
        replaced. To a device, a pipe or the file that is standard output the bytes are copied instead.

    Yields:
      A path to write to, in the folder of the file that is replaced. If the block raises, it is removed
      and `path` is untouched.

    Raises:
      OSError: `path` is a folder, its folder does not exist or cannot be written, the disk is full, or
        nothing reads from the pipe.

    Numerics: none. A file that is replaced keeps its permissions.
    Source: `os.replace` is atomic within one file system; the bytes are on the disk before it.

    Example:
      >>> import pathlib, tempfile
      >>> from softbon_jax.command import replacing
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers.json"
      >>> with replacing(path) as temporary:
      ...     _ = temporary.write_text("[1, 2]")
      >>> path.read_text(), len(list(path.parent.iterdir()))
      ('[1, 2]', 1)
    """
    found = _status(path)
    if found is not None and (_standard(found) or not stat.S_ISREG(found.st_mode)):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            temporary.touch()
            yield temporary
            with temporary.open("rb") as source, _stream(path, found) as stream:
                shutil.copyfileobj(source, stream)
        return
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    access = 0o666 if found is None else 0o600  # nobody else reads it before it has its permissions
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, access)
        mode = stat.S_IMODE((os.fstat(handle) if found is None else found).st_mode)
        os.close(handle)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if found is not None:
            # Only an administrator may give a file away, and not on every system.
            with suppress(OSError, AttributeError):
                os.chown(temporary, found.st_uid, found.st_gid)
        temporary.chmod(mode)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path) -> None:
    """That a file can be written, as far as can be told without writing it.

    Args:
      path: the file to write.

    Returns:
      Nothing.

    Raises:
      OSError: it is a folder or a socket, or its folder does not exist or cannot be written.

    Numerics: none.
    Source: derived here.

    Example:
      >>> import pathlib, tempfile
      >>> from softbon_jax.command import check_output
      >>> check_output(pathlib.Path(tempfile.mkdtemp()) / "numbers.json")
    """
    found = _status(path)
    if found is not None and (stat.S_ISDIR(found.st_mode) or stat.S_ISSOCK(found.st_mode)):
        raise OSError(errno.EISDIR, "it is a folder or a socket", str(path))
    if found is None or (stat.S_ISREG(found.st_mode) and not _standard(found)):
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise OSError(errno.ENOENT, "its folder does not exist", str(path))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "its folder cannot be written", str(path))
    elif not os.access(path, os.W_OK):
        raise OSError(errno.EACCES, "it cannot be written", str(path))


@contextmanager
def naming(option: str, path: Path) -> Iterator[None]:
    """Errors of the system, in the block, name the option and its file.

    Args:
      option: as it is on the command line.
      path: its value.

    Yields:
      Nothing.

    Raises:
      OSError: the block raised one.

    Numerics: none.
    Source: derived here.

    Example:
      >>> import pathlib, tempfile
      >>> from softbon_jax.command import naming
      >>> path = pathlib.Path(tempfile.mkdtemp())
      >>> try:
      ...     with naming("--json", path):
      ...         _ = path.write_text("[]")
      ... except OSError as error:
      ...     print(str(error).replace(str(path), "FOLDER"))
      --json FOLDER is not written: Is a directory
    """
    try:
        yield
    except OSError as error:
        raise OSError(f"{option} {path} is not written: {error.strerror or error}") from None


def _status(path: Path) -> os.stat_result | None:
    """Of what `path` leads to; None if there is nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _standard(found: os.stat_result) -> int | None:
    """The standard output or error that `found` is."""
    for handle in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(found, os.fstat(handle)):
                return handle
    return None


def _stream(path: Path, found: os.stat_result) -> IO[bytes]:
    """A device or a pipe, opened for writing."""
    handle = _standard(found)
    if handle is not None:
        return os.fdopen(os.dup(handle), "wb")
    try:
        # Not blocking, since a pipe that nothing reads from would be waited for without end.
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nothing reads from this pipe", str(path)) from None
        raise
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")


def parquet() -> Any:
    """The module that copies Parquet files; `ImportError` if it is not installed."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ImportError(
            "a copy of a Parquet file needs pyarrow: pip install 'softbon-jax[command]'"
        ) from None


def copy_with_column(
    source: Path, target: Path, column: str, values: Sequence[Any], *, name: Path
) -> None:
    """Copy a file of scores with `values`, one a row or a list of them, in one more column.

    `target` is of the format of `source`; `name`, which it will have later, tells whether it is gzipped
    and what stands between its cells.
    """
    kind = scores.format_of(source)
    if kind == "parquet":
        files = parquet()
        try:
            table = files.read_table(source)
        except Exception as error:  # pyarrow raises many kinds for damaged files
            raise ValueError(f"{source}: not a Parquet file, or cut short: {error}") from None
        _refuse_taken(source, column, table.column_names)
        files.write_table(table.append_column(column, [values]), target)
        return
    delimiter, encoding = scores.dialect_of(source)
    opened = gzip.open if name.suffix.lower() == ".gz" else open
    with (
        scores.open_text(source, encoding) as read,
        opened(target, "wt", encoding="utf-8", newline="") as write,
    ):
        if kind == "jsonl":
            lines = (line.strip() for line in read if not line.isspace())
            for line, value in zip(lines, values, strict=True):
                row = json.loads(line)
                _refuse_taken(source, column, row)
                # What is there stays as it is, digit for digit.
                more = f"{', ' if row else ''}{json.dumps(column)}: {json.dumps(value)}}}\n"
                write.write(line[:-1].rstrip() + more)
            return
        limit = csv.field_size_limit(scores.MOST_LINE)
        try:
            rows = (row for row in csv.reader(read, delimiter=delimiter) if row)
            mark = delimiter if kind == "csv" and _marks(name) == _marks(source) else _marks(name)
            writer = csv.writer(write, delimiter=mark, lineterminator="\n")
            header = next(rows)
            _refuse_taken(source, column, header)
            writer.writerow([*header, column])
            writer.writerows([*row, value] for row, value in zip(rows, values, strict=True))
        finally:
            csv.field_size_limit(limit)


def _marks(path: Path) -> str:
    return scores.delimiter_of(path)


def watch(path: Path) -> Callable[[], None]:
    """A function that refuses, with a `ValueError`, a file that is no longer what it is now."""

    def state() -> tuple[int, int, int]:
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    before = state()

    def check() -> None:
        if state() != before:
            raise ValueError(f"{path} has changed while it was read; run the command again")

    return check


def _refuse_taken(source: Path, column: str, names: Any) -> None:
    if column in names:
        raise ValueError(f"{source} already has a column {column!r}; name another with --column")
