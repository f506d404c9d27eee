"""File formats: each gives the names of its columns and a stream of rows.

CSV and TSV, JSON lines (all plain or gzipped), Parquet and npz. Nothing is unpickled, and only Parquet
needs more than NumPy (pyarrow, imported when the first such file is read).
"""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "npz",
}
"""The format of a file by the end of its name."""

Stream = Iterator[Mapping[str, Any]]


def format_of(path: Path | str) -> str:
    """The format of a file of scores, by its name.

    Args:
      path: the file, which need not exist; `.gz` after the ending of a text format is allowed.

    Returns:
      "csv", "jsonl", "parquet" or "npz"; TSV is "csv".

    Raises:
      ValueError: the name ends in none of `FORMATS`.

    Numerics: none.
    Source: derived here: the endings in common use.

    Example:
      >>> sb.scores.format_of("scores.tsv.gz"), sb.scores.format_of("scores.ndjson")
      ('csv', 'jsonl')
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = (
        suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    )
    if last not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(f"{path}: the name must end in one of {known} (text may be gzipped, .gz)")
    return FORMATS[last]


def open_text(path: Path | str) -> IO[str]:
    """A text file opened for reading, unpacked if its name ends in `.gz`.

    Args:
      path: the file, UTF-8 with or without a byte order mark.

    Returns:
      The open file, with line ends as they are, as `csv` asks for; close it or use it in `with`.

    Raises:
      OSError: the file cannot be opened. One that is not gzipped text fails when it is read:
        `gzip.BadGzipFile`, `EOFError` or `UnicodeDecodeError`.

    Numerics: none.
    Source: gzip is RFC 1952.

    Example:
      >>> import gzip, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "scores.csv.gz"
      >>> _ = path.write_bytes(gzip.compress(b"prompt_id,proxy_reward"))
      >>> with sb.scores.open_text(path) as file:
      ...     print(file.read())
      prompt_id,proxy_reward
    """
    path = Path(path)
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def rows_of(path: Path, prompt: str, rewards: tuple[str, ...]) -> tuple[list[str], Stream]:
    """The names of the columns and the rows; `prompt` and `rewards` say which are which in npz."""
    kind = format_of(path)
    if kind == "npz":
        return _npz(path, prompt, rewards)
    return {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[kind](path)


_NOT_TEXT = (UnicodeDecodeError, gzip.BadGzipFile, EOFError)


def _csv(path: Path) -> tuple[list[str], Stream]:
    delimiter = "\t" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else ","

    def records() -> Iterator[list[str]]:
        try:
            with open_text(path) as file:
                yield from (row for row in csv.reader(file, delimiter=delimiter) if row)
        except csv.Error as error:
            raise ValueError(f"{path}: not a CSV file: {error}") from None
        except _NOT_TEXT as error:
            raise ValueError(f"{path}: not a plain or gzipped text file: {error}") from None

    source = records()
    header = next(source, None)
    if header is None:
        raise ValueError(f"{path}: not a CSV file with a header: it is empty")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise ValueError(f"{path}: the header has column {min(twice)!r} twice")

    def rows() -> Stream:
        for number, row in enumerate(source, 1):
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: row {number} has {len(row)} cells, the header has {len(header)}"
                )
            yield dict(zip(header, row, strict=True))

    return header, rows()


def _jsonl(path: Path) -> tuple[list[str], Stream]:
    def records() -> Iterator[tuple[int, str]]:
        try:
            with open_text(path) as file:
                lines = (line for line in file if line.strip())
                yield from enumerate(lines, 1)
        except _NOT_TEXT as error:
            raise ValueError(f"{path}: not a plain or gzipped text file: {error}") from None

    def parsed() -> Stream:
        for number, line in records():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}: row {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}: row {number} is not a JSON object")
            yield row

    first = next(parsed(), {})
    return list(first), parsed()


def _parquet(path: Path) -> tuple[list[str], Stream]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        arrow: Any = importlib.import_module("pyarrow")
    except ImportError:
        raise ImportError(
            f"{path}: reading Parquet needs pyarrow: pip install 'softbon-jax[experiments]'"
        ) from None
    with path.open("rb"):  # so that a missing file raises the OSError of a missing file
        pass
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file, or cut short: {error}") from None

    def rows() -> Stream:
        try:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
        except (arrow.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: damaged Parquet file: {error}") from None

    return list(file.schema_arrow.names), rows()


def _npz(path: Path, prompt: str, rewards: tuple[str, ...]) -> tuple[list[str], Stream]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an npz file of plain arrays: {error}") from None
    for reward in rewards:
        if reward not in arrays:
            raise ValueError(
                f"{path}: no array {reward!r}; the arrays are {', '.join(arrays) or 'none'}"
            )
    reward = rewards[0]
    shape = arrays[reward].shape
    if len(shape) not in (1, 2):
        raise ValueError(f"{path}: array {reward!r} must be 1-D or [prompts, N], is {shape}")
    if len(shape) == 2:
        names = arrays.get(prompt, np.arange(shape[0]))
        if names.shape == shape[:1]:
            arrays[prompt] = np.repeat(names, shape[1]).reshape(shape)
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(
                f"{path}: array {name!r} has shape {array.shape}, {reward!r} has shape {shape}"
            )
    flat = {name: array.ravel() for name, array in arrays.items()}
    # A slot of a [prompts, N] array that is NaN under every reward is empty, not a bad score.
    keep = np.ones(flat[reward].shape, bool)
    if len(shape) == 2:
        keep = np.any([np.isfinite(flat[name]) for name in rewards], axis=0)
    return list(flat), (
        {name: array[i].item() for name, array in flat.items()} for i in np.flatnonzero(keep)
    )
