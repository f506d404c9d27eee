"""File formats: each gives the names of its columns, and a stream of rows with the columns asked for.

CSV and TSV, JSON lines (all plain or gzipped), Parquet and npz. Nothing is unpickled, and only Parquet
needs more than NumPy (pyarrow, imported when the first such file is read). A file may be damaged or made
to do harm: whatever it holds, it is read in bounded memory or refused with a `ValueError` that names it.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import itertools
import json
import math
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

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

MOST_ROWS = 20_000_000
"""Files with more rows, or as many blank ones, are refused before memory runs out."""

MOST_BYTES = 2**34
"""Files that hold more, when unpacked, are refused."""

MOST_LINE = 2**24
"""The longest line of text, in characters."""

Stream = Iterator[Mapping[str, Any]]
T = TypeVar("T")


class Limits(NamedTuple):
    """How much of a file is read before it is refused."""

    rows: int
    size: int


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
    kind = FORMATS.get(_ending(path))
    if kind is None or (path.suffix.lower() == ".gz" and kind not in ("csv", "jsonl")):
        known = ", ".join(FORMATS)
        raise ValueError(f"{path}: the name must end in one of {known} (text may be gzipped, .gz)")
    return kind


def delimiter_of(path: Path | str) -> str:
    r"""The character between the cells of a file of the format "csv", by its name.

    Args:
      path: the file, which need not exist.

    Returns:
      A tab for .tsv, in capitals or not, with or without .gz; else a comma.

    Raises:
      Nothing.

    Numerics: none.
    Source: derived here: the endings in common use.

    Example:
      >>> sb.scores.delimiter_of("SCORES.TSV"), sb.scores.delimiter_of("scores.csv.gz")
      ('\t', ',')
    """
    return "\t" if _ending(Path(path)) == ".tsv" else ","


def _ending(path: Path) -> str:
    """The ending that tells the format, in lower case: the last, or the one before `.gz`."""
    path = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return path.suffix.lower()


def open_text(path: Path | str) -> IO[str]:
    """A text file opened for reading, unpacked if its name ends in `.gz`.

    Args:
      path: the file, UTF-8 with or without a byte order mark.

    Returns:
      The open file, with line ends as they are, as `csv` asks for; close it or use it in `with`.

    Raises:
      OSError: the file cannot be opened. One that is not gzipped text fails when it is read:
        `gzip.BadGzipFile`, `zlib.error`, `EOFError` or `UnicodeDecodeError`.

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


def rows_of(path: Path, limits: Limits) -> tuple[list[str], Rows]:
    """The names of the columns, and a function from the columns asked for to the rows.

    Its arguments are the columns of scores, and the others, that of the prompt first.
    """
    kind = format_of(path)
    if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would be waited for, a device has no end
        raise ValueError(f"{path} is not a regular file; save the scores to one")
    with path.open("rb"):  # a file that cannot be opened raises its own OSError
        pass
    reader = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet, "npz": _npz}[kind]
    names, rows = reader(path, limits)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: the header has column {min(twice)!r} twice")
    return names, rows


Rows = Callable[[Collection[str], Sequence[str]], Stream]


# Text --------------------------------------------------------------------------------------------

_NOT_TEXT = (UnicodeDecodeError, EOFError, zlib.error, OSError)


def _lines(path: Path, limits: Limits) -> Iterator[str]:
    """The lines of a text file, with their ends."""
    size = 0
    with open_text(path) as file:
        for number in itertools.count(1):
            try:
                line = file.readline(MOST_LINE + 1)
            except _NOT_TEXT as error:
                raise ValueError(
                    f"{path}: not a plain or gzipped text file in UTF-8: line {number}: {error}"
                ) from None
            if not line:
                return
            if "\0" in line:
                raise ValueError(f"{path}: line {number} has a NUL byte: not a text file in UTF-8")
            if len(line) > MOST_LINE:
                raise ValueError(f"{path}: line {number} is longer than {MOST_LINE:,} characters")
            size += len(line)
            if size > limits.size:
                raise ValueError(_too_large(path, limits))
            yield line


def _too_large(path: Path, limits: Limits) -> str:
    return (
        f"{path} holds more than {limits.size:,} bytes when unpacked; analyze a sample of the "
        "prompts, or allow more (most_bytes, --max-bytes)"
    )


def too_long(path: Path, limits: Limits, what: str = "rows") -> str:
    """Why a file of too many rows is refused."""
    return (
        f"{path}: more than {limits.rows:,} {what}; analyze a sample of the prompts, or allow "
        "more rows (most_rows, --max-rows) if they fit into memory"
    )


def _not_blank(
    path: Path, limits: Limits, rows: Iterable[T], blank: Callable[[T], bool]
) -> Iterator[T]:
    """The rows that are not blank; blank ones are counted too, so that they come to an end."""
    skipped = 0
    for row in rows:
        if blank(row):
            skipped += 1
            if skipped > limits.rows:
                raise ValueError(too_long(path, limits, "blank rows"))
        else:
            yield row


_END = "\0"
"""A line behind the last one, which no text has. It is a row of its own unless a quote is open."""


def _csv(path: Path, limits: Limits) -> tuple[list[str], Rows]:
    def records() -> Iterator[list[str]]:
        lines = itertools.chain(_lines(path, limits), [_END])
        reader = csv.reader(lines, delimiter=delimiter_of(path))
        try:
            for row in reader:
                if row and row[-1].endswith(_END):
                    if row != [_END]:
                        raise ValueError(
                            f"{path}: the last row opens a quote and does not close it"
                        )
                    return
                yield row
        except csv.Error as error:
            raise ValueError(f"{path}: not a CSV file: line {reader.line_num}: {error}") from None

    source = _not_blank(path, limits, records(), lambda row: not row)
    header = next(source, None)
    if header is None:
        raise ValueError(f"{path}: not a CSV file with a header: it is empty")

    def rows(scores: Collection[str], others: Sequence[str]) -> Stream:
        for number, row in enumerate(source, 1):
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: row {number} has {len(row)} cells, the header has {len(header)}"
                )
            yield dict(zip(header, row, strict=True))

    return header, rows


def _jsonl(path: Path, limits: Limits) -> tuple[list[str], Rows]:
    def records() -> Stream:
        lines = _not_blank(path, limits, _lines(path, limits), str.isspace)
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}: row {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}: row {number} is not a JSON object")
            yield row

    source = records()
    first = next(source, None)
    names = list(first or ())
    return names, lambda scores, others: itertools.chain([] if first is None else [first], source)


# Binary ------------------------------------------------------------------------------------------


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Any failure is a `ValueError`: readers of damaged files raise errors of many kinds."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {error}") from None


def _parquet(path: Path, limits: Limits) -> tuple[list[str], Rows]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ImportError(
            f"{path}: reading Parquet needs pyarrow: pip install 'softbon-jax[experiments]'"
        ) from None
    with _refusing(f"{path}: not a Parquet file, or cut short"), parquet.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        count = file.metadata.num_rows
        chunks = [
            file.metadata.row_group(i).column(j)
            for i in range(file.metadata.num_row_groups)
            for j in range(file.metadata.num_columns)
        ]
    if count > limits.rows:
        raise ValueError(too_long(path, limits))

    def rows(scores: Collection[str], others: Sequence[str]) -> Stream:
        columns = list(dict.fromkeys([*scores, *others]))
        plain = [name for name in columns if any(x.path_in_schema == name for x in chunks)]
        if limits.size < sum(
            x.total_uncompressed_size for x in chunks if x.path_in_schema in plain
        ):
            raise ValueError(_too_large(path, limits))
        # Strings stay in the dictionaries that the file has: few bytes may stand for many.
        with (
            _refusing(f"{path}: damaged Parquet file"),
            parquet.ParquetFile(
                path, read_dictionary=plain, page_checksum_verification=True
            ) as file,
        ):
            for batch in file.iter_batches(batch_size=4096, columns=columns):
                cells = [_cells(batch.column(name)) for name in columns]
                for row in zip(*cells, strict=True):
                    yield dict(zip(columns, row, strict=True))

    return names, rows


def _cells(column: Any) -> list[Any]:
    """The values of a column of a Parquet file; equal strings are one object."""
    if not hasattr(column, "dictionary"):
        return column.to_pylist()
    values = column.dictionary.to_pylist()
    return [None if i is None else values[i] for i in column.indices.to_pylist()]


def _npz(path: Path, limits: Limits) -> tuple[list[str], Rows]:
    damaged = f"{path}: not an npz file of plain arrays"
    with _refusing(damaged), zipfile.ZipFile(path) as archive:
        sizes = {x.filename: x.file_size for x in archive.infolist()}
    names = [name.removesuffix(".npy") for name in sizes if name.endswith(".npy")]

    def rows(scores: Collection[str], others: Sequence[str]) -> Stream:
        arrays = {}
        with _refusing(damaged), zipfile.ZipFile(path) as archive:
            headers = {
                name: _header(archive, f"{name}.npy")
                for name in dict.fromkeys([*scores, *others])
                if name in names
            }
        for name, (shape, dtype, start) in headers.items():
            kinds, what = ("biuf", "") if name in scores else ("biufUS", " or strings")
            if dtype.kind not in kinds or dtype == np.longdouble:
                raise ValueError(f"{damaged}: array {name!r} holds {dtype}, not numbers{what}")
            size = math.prod(shape)
            if max(size, *shape, 0) > limits.rows:
                raise ValueError(too_long(path, limits))
            if size * dtype.itemsize > limits.size:
                raise ValueError(_too_large(path, limits))
            if start + size * dtype.itemsize != sizes[f"{name}.npy"]:
                raise ValueError(
                    f"{damaged}: array {name!r} is cut short, or is not of the shape {shape}"
                )
        with _refusing(damaged), zipfile.ZipFile(path) as archive:
            for name in headers:
                with archive.open(f"{name}.npy") as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        return _flat(path, arrays, list(scores), others[0])

    return names, rows


def _header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and dtype of an array, and where its data begin; none of them is to be believed."""
    with archive.open(member) as file:
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
        return shape, dtype, file.tell()


def _flat(path: Path, arrays: dict[str, np.ndarray], scores: list[str], prompt: str) -> Stream:
    """The rows of arrays of one shape, `[rows]` or `[prompts, N]`."""
    reward = scores[0]
    shape = arrays[reward].shape
    if len(shape) == 1 and prompt not in arrays:
        raise ValueError(
            f"{path}: no array {prompt!r}, which only [prompts, N] arrays can do without"
        )
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
        keep = ~np.all([np.isnan(flat[name]) for name in scores], axis=0)
    return ({name: array[i].item() for name, array in flat.items()} for i in np.flatnonzero(keep))
