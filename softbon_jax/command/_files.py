"""Files of the command: atomic replacement, and a copy with one more column."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from softbon_jax import scores


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Atomic replacement of a file: a temporary path, moved onto `path` if the block succeeds.

    Args:
      path: the file to write; its folder exists.

    Yields:
      A path in the same folder to write to. If the block raises, it is removed and `path` is untouched.

    Raises:
      OSError: the folder does not exist or cannot be written.

    Numerics: none.
    Source: `os.replace` is atomic within one file system.

    Example:
      >>> import pathlib, tempfile
      >>> from softbon_jax.command import replacing
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers.json"
      >>> with replacing(path) as temporary:
      ...     _ = temporary.write_text("[1, 2]")
      >>> path.read_text(), len(list(path.parent.iterdir()))
      ('[1, 2]', 1)
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def copy_with_column(
    source: Path, target: Path, column: str, values: np.ndarray, *, zipped: bool
) -> None:
    """Copy a file of scores with the integers `values`, one a row, in one more column.

    `target` is of the format of `source`, and gzipped if `zipped`, whatever its name.
    """
    kind = scores.format_of(source)
    if kind == "npz":
        raise ValueError(f"{source}: select does not write npz; convert the file to CSV or Parquet")
    if kind == "parquet":
        parquet: Any = importlib.import_module("pyarrow.parquet")
        table = parquet.read_table(source)
        _refuse_taken(source, column, table.column_names)
        parquet.write_table(table.append_column(column, [values]), target)
        return
    with (
        scores.open_text(source) as read,
        (gzip.open if zipped else open)(target, "wt", encoding="utf-8", newline="") as write,
    ):
        if kind == "jsonl":
            lines = (line for line in read if line.strip())
            for line, value in zip(lines, values, strict=True):
                row = json.loads(line)
                _refuse_taken(source, column, row)
                write.write(json.dumps({**row, column: int(value)}, ensure_ascii=False) + "\n")
            return
        delimiter = "\t" if ".tsv" in [suffix.lower() for suffix in source.suffixes] else ","
        rows = (row for row in csv.reader(read, delimiter=delimiter) if row)
        writer = csv.writer(write, delimiter=delimiter, lineterminator="\n")
        header = next(rows)
        _refuse_taken(source, column, header)
        writer.writerow([*header, column])
        writer.writerows([*row, int(value)] for row, value in zip(rows, values, strict=True))


def _refuse_taken(source: Path, column: str, names: Any) -> None:
    if column in names:
        raise ValueError(f"{source} already has a column {column!r}; name another with --column")
