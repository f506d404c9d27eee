"""Files of scored responses, read into padded pools with a mask; what is wrong is named, row and column.

One row a response: which prompt it answers, the reward that selects, perhaps a gold reward and an
identifier; where several columns are named for a reward, their average. CSV and TSV, JSON lines (all
plain or gzipped), Parquet and npz. Files are read as a stream, nothing is unpickled, and only Parquet
needs more than NumPy (pyarrow).
"""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

MOST_ROWS = 20_000_000
"""Files with more rows are refused rather than read until the memory is full."""

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "npz",
}

Missing = Literal["error", "drop"]


class Columns(NamedTuple):
    """Names of the columns; None where there is none, a tuple where several are averaged.

    Attributes:
      prompt: which responses belong together.
      reward: the score that selects.
      gold: the score that is to be earned.
      response: identifies a response among those to its prompt; duplicates are refused.
      leave_one_out: whether all but one of `reward` select, and that one is to be earned.
    """

    prompt: str = "prompt_id"
    reward: str | tuple[str, ...] = "proxy_reward"
    gold: str | tuple[str, ...] | None = None
    response: str | None = None
    leave_one_out: bool = False

    @property
    def selecting(self) -> str:
        """What selects, for a sentence or an axis."""
        return "score of the judges that select" if self.leave_one_out else _short(self.reward)

    @property
    def valuing(self) -> str | None:
        """What is to be earned, likewise."""
        if self.leave_one_out:
            return "score of the judge left out"
        return None if self.gold is None else _short(self.gold)

    @property
    def described(self) -> str:
        """Every column and what it is for."""
        reward = ", ".join(names_of(self.reward))
        if self.leave_one_out:
            return f"reward = mean of all but one of {reward}, gold = the one left out"
        what = "" if isinstance(self.reward, str) else "mean of "
        of_gold = "" if self.gold is None or isinstance(self.gold, str) else "mean of "
        gold = ", ".join(names_of(self.gold))
        return f"reward = {what}{reward}" + (
            f", gold = {of_gold}{gold}" if gold else ", no gold score"
        )


def names_of(columns: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several, or none, as a tuple."""
    return () if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)


def _short(columns: str | tuple[str, ...]) -> str:
    first, *others = names_of(columns)
    if len(others) < 2:
        return " & ".join([first, *others])
    return f"{first} & {len(others)} more"


class Dropped(NamedTuple):
    """Rows that were left out: how many, why, and the number of the first (1 is the first row)."""

    reason: str
    rows: int
    first: int


class Scores(NamedTuple):
    """Pools of scores, `[prompts, N]`.

    Attributes:
      prompts: their identifiers, in order of first appearance.
      rewards: float64, 0 where there is no response.
      gold: float64 likewise, or None.
      where: bool, whether there is a response.
      rows: integers, the row of the file, counted from 0; -1 where there is no response.
      columns: the names of the columns that were read.
      read: number of rows in the file.
      dropped: what was left out.
      judges: `[prompts, N, J]` the columns that `rewards` averages, if one is to be left out; or None.
    """

    prompts: tuple[str, ...]
    rewards: np.ndarray
    gold: np.ndarray | None
    where: np.ndarray
    rows: np.ndarray
    columns: Columns
    read: int
    dropped: tuple[Dropped, ...]
    judges: np.ndarray | None = None


def read(
    path: Path | str,
    *,
    prompt: str = "prompt_id",
    reward: str | Sequence[str] = "proxy_reward",
    gold: str | Sequence[str] | None = "auto",
    response: str | None = "auto",
    missing: Missing = "error",
    least: int = 1,
    most_rows: int = MOST_ROWS,
    leave_one_out: bool = False,
) -> Scores:
    """The pools of a file of scores.

    Args:
      path: .csv, .tsv, .jsonl or .ndjson, also with .gz; .parquet; .npz. An npz file holds either one
        1-D array a column or `[prompts, N]` arrays under the names of the columns, NaN where there is
        no response, and then needs no `prompt`.
      prompt: column that says which responses belong together.
      reward: column of the selecting score; of several, the average selects, in the units they have.
      gold: column of a second score, or several to average; None for none; "auto" takes "gold_reward"
        if the file has it, it does not select and it is not empty.
      response: column that identifies a response among those of its prompt; "auto" takes
        "response_id" if the file has it.
      missing: what to do with a row whose score is empty or not finite: refuse the file or drop the row.
      least: prompts with fewer responses are dropped.
      most_rows: a file with more is refused.
      leave_one_out: keep the columns of `reward` apart in `Scores.judges`, so that each can value what
        the others select; then there is no gold score.

    Returns:
      `Scores`.

    Raises:
      ValueError: the file is not of its format or is cut short, lacks a column, has no rows or too
        many, a score is not a number, or a response occurs twice; naming row (1 is the first below the
        header) and column. A column is named twice, or both selects and values; there are fewer than
        two to leave one out of, or a gold score as well.
      ImportError: Parquet without pyarrow.
      OSError: it cannot be read.
    """
    path = Path(path)
    kind, selecting = format_of(path), names_of(reward)
    if leave_one_out:
        if gold is not None and gold != "auto":
            raise ValueError("the judge that is left out is the gold score, so name no other")
        if len(selecting) < 2:
            raise ValueError(f"to leave one out takes two reward columns, got {len(selecting)}")
        gold = None
    _check_roles(path, selecting, () if gold == "auto" else names_of(gold))
    if kind == "npz":
        names, stream = _npz(path, prompt, selecting)
    else:
        names, stream = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[kind](path)
    if gold == "auto":
        usable = "gold_reward" in names and "gold_reward" not in selecting
        valuing: tuple[str, ...] = ("gold_reward",) if usable else ()
    else:
        valuing = names_of(gold)
    if response == "auto":
        response = "response_id" if "response_id" in names else None
    for name in (prompt, *selecting, *valuing, response):
        if name is not None and name not in names:
            there = ", ".join(names) or "none"
            raise ValueError(f"{path}: no column {name!r}; the columns are {there}")
    columns = Columns(prompt, _one_or_all(selecting), None, response, leave_one_out)
    if valuing:
        columns = columns._replace(gold=_one_or_all(valuing))
    table = _collect(path, stream, columns, most_rows)
    if gold == "auto" and valuing and all(x is None for x in table.scores[valuing[0]]):
        columns = columns._replace(gold=None)
    return _pools(path, table, columns, missing, least)


def _check_roles(path: Path, selecting: tuple[str, ...], valuing: tuple[str, ...]) -> None:
    """That every column has one role, once."""
    if not selecting:
        raise ValueError(f"{path}: no column is named that selects")
    for names, role in ((selecting, "select"), (valuing, "value")):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(
                f"{path}: column {min(twice)!r} is named twice among those that {role}"
            )
    both = set(selecting) & set(valuing)
    if both:
        raise ValueError(
            f"{path}: column {min(both)!r} both selects and values, so that its noise would pass for "
            "gain; value by other columns, or leave one of those that select out in turn"
        )


def _one_or_all(names: tuple[str, ...]) -> str | tuple[str, ...]:
    return names[0] if len(names) == 1 else names


def padded(pools: Mapping[str, np.ndarray], gold: Mapping[str, np.ndarray] | None = None) -> Scores:
    """Pools from one array a prompt, as if they had been read from a file in that order."""
    sizes = np.array([len(scores) for scores in pools.values()])
    where = np.arange(sizes.max()) < sizes[:, None]
    rows = np.full(where.shape, -1)
    rows[where] = np.arange(sizes.sum())

    def fill(parts: Mapping[str, np.ndarray]) -> np.ndarray:
        array = np.zeros(where.shape)
        array[where] = np.concatenate([parts[name] for name in pools])
        return array

    second = None if gold is None else fill(gold)
    names = Columns(gold=None if gold is None else "gold_reward")
    return Scores(tuple(pools), fill(pools), second, where, rows, names, int(sizes.sum()), ())


# Formats: each gives the names of the columns and a stream of rows -----------------------------------

Stream = Iterator[Mapping[str, Any]]


def format_of(path: Path) -> str:
    """csv, jsonl, parquet or npz, from the name of the file; ValueError if it is none of them."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = (
        suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    )
    if last not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(f"{path}: the name must end in one of {known} (text may be gzipped, .gz)")
    return FORMATS[last]


def open_text(path: Path) -> IO[str]:
    """The file as text, unpacked if its name ends in .gz."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


_NOT_TEXT = (UnicodeDecodeError, gzip.BadGzipFile, EOFError)


def _csv(path: Path) -> tuple[list[str], Stream]:
    delimiter = "\t" if ".tsv" in path.suffixes else ","

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
        raise ValueError(f"{path}: the header has column {twice.pop()!r} twice")

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
    with path.open("rb"):  # so that a missing file is an OSError of the usual kind
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
    # In [prompts, N] arrays NaN in all is an empty slot, not a bad score.
    keep = np.ones(flat[reward].shape, bool)
    if len(shape) == 2:
        keep = np.any([np.isfinite(flat[name]) for name in rewards], axis=0)
    return list(flat), (
        {name: array[i].item() for name, array in flat.items()} for i in np.flatnonzero(keep)
    )


# Checks and assembly -----------------------------------------------------------------------------


class _Table(NamedTuple):
    """One list a column; scores are floats, or None where empty."""

    prompt: list[str]
    scores: dict[str, list[float | None]]
    response: list[str]


class _Problems:
    """Bad cells of one kind: the first, and how many more."""

    def __init__(self) -> None:
        self.first: dict[str, tuple[int, Any]] = {}
        self.count: dict[str, int] = {}

    def add(self, column: str, number: int, found: Any) -> None:
        """One more in `column`, in row `number`."""
        self.first.setdefault(column, (number, found))
        self.count[column] = self.count.get(column, 0) + 1

    def explain(self, path: Path, column: str, wanted: str) -> None:
        """Raise `ValueError` about the bad cells of `column`, if there are any."""
        if column in self.first:
            number, found = self.first[column]
            more = self.count[column] - 1
            text = "empty" if found is None or found == "" else repr(found)
            raise ValueError(
                f"{path}: row {number}, column {column!r} must be {wanted}, is {text}"
                + (f" (and {more} rows more)" if more else "")
            )


def _number(cell: Any) -> float | None:
    """The cell as a float, None where it is empty; TypeError or ValueError if it is not a number."""
    if isinstance(cell, str):
        cell = cell.strip()
    if cell is None or cell == "":
        return None
    if not isinstance(cell, (str, bool, int, float)):
        raise TypeError("not a number")
    return float(cell)


def _collect(path: Path, stream: Stream, columns: Columns, most_rows: int) -> _Table:
    selecting, valuing = names_of(columns.reward), names_of(columns.gold)
    table = _Table([], {name: [] for name in (*selecting, *valuing)}, [])
    problems = _Problems()
    for number, row in enumerate(stream, 1):
        if number > most_rows:
            raise ValueError(
                f"{path}: more than {most_rows:,} rows; analyse a sample of the prompts, or allow "
                "more rows if they fit into memory"
            )
        name = row.get(columns.prompt)
        table.prompt.append("" if name is None else str(name).strip())
        if not table.prompt[-1]:
            problems.add(columns.prompt, number, None)
        for column, values in table.scores.items():
            try:
                values.append(_number(row.get(column)))
            except (TypeError, ValueError):
                values.append(None)
                problems.add(column, number, row.get(column))
        if columns.response is not None:
            table.response.append(str(row.get(columns.response)))
    if not table.prompt:
        raise ValueError(f"{path}: no rows below the header")
    problems.explain(path, columns.prompt, "an identifier")
    for name in selecting:
        if all(x is None for x in table.scores[name]) and name not in problems.first:
            raise ValueError(f"{path}: column {name!r} is empty in all {len(table.prompt)} rows")
    for name in table.scores:
        problems.explain(path, name, "a finite number")
    return table


def _pools(path: Path, table: _Table, columns: Columns, missing: Missing, least: int) -> Scores:
    total = len(table.prompt)
    keep = np.ones(total, bool)
    dropped = []
    scores = {}
    selecting, valuing = names_of(columns.reward), names_of(columns.gold)
    for name in (*selecting, *valuing):
        cells = table.scores[name]
        values = np.array([math.nan if x is None else x for x in cells])
        bad = ~np.isfinite(values)
        problems = _Problems()
        for index in np.flatnonzero(bad):
            found = cells[index]
            problems.add(name, int(index) + 1, None if found is None else str(found))
        if missing == "error":
            problems.explain(path, name, "a finite number")
        elif (bad & keep).any():
            first = int(np.argmax(bad & keep)) + 1
            reason = f"no finite {name}"
            dropped.append(Dropped(reason, int((bad & keep).sum()), first))
            keep &= ~bad
        scores[name] = values
    if columns.response is not None:
        seen: dict[tuple[str, str], int] = {}
        for row, pair in enumerate(zip(table.prompt, table.response, strict=True)):
            other = seen.setdefault(pair, row)
            if other != row:
                raise ValueError(
                    f"{path}: rows {other + 1} and {row + 1} have the same prompt {pair[0]!r} and"
                    f" {columns.response} {pair[1]!r}"
                )
    members: dict[str, list[int]] = {}
    for index in np.flatnonzero(keep):
        members.setdefault(table.prompt[index], []).append(int(index))
    short = {name: rows for name, rows in members.items() if len(rows) < least}
    if short:
        count, first = sum(map(len, short.values())), min(rows[0] for rows in short.values()) + 1
        reason = f"prompt with fewer than {least} responses"
        dropped.append(Dropped(reason, count, first))
        members = {name: rows for name, rows in members.items() if name not in short}
    if not members:
        reasons = "; ".join(f"{x.rows} rows: {x.reason}" for x in dropped)
        raise ValueError(f"{path}: nothing is left of {total} rows ({reasons})")
    average = {
        names: np.sum([scores[name] for name in names], axis=0) / len(names)
        for names in (selecting, valuing)
        if names
    }

    def by_prompt(values: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[rows] for name, rows in members.items()}

    pools = padded(by_prompt(average[selecting]), by_prompt(average[valuing]) if valuing else None)
    rows = pools.rows.copy()
    rows[pools.where] = np.concatenate([np.array(part) for part in members.values()])
    judges = None
    if columns.leave_one_out:
        each = np.stack([scores[name] for name in selecting], axis=-1)
        judges = np.where(pools.where[..., None], each[rows], 0.0)
    return pools._replace(
        rows=rows, columns=columns, read=total, dropped=tuple(dropped), judges=judges
    )
