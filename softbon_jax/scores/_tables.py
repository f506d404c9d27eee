"""Files as tables of the engine: their names, and their columns."""

from __future__ import annotations

import csv
import importlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from softbon_jax.scores._engine import Engine, literal, quoted
from softbon_jax.scores._files import MOST_LINE, Text, delimiter_in, head_of, linked


class Table(NamedTuple):
    """A file as the engine sees it.

    Attributes:
      names: of its columns; None for JSON, where any row may have more.
      source: for columns, what stands after FROM: it gives each under its name.
      types: of the columns, where the file says.
      note: how it was read, in words, where that was not clear; or None.
    """

    names: list[str] | None
    source: Any
    types: dict[str, str]
    note: str | None = None


def csv_table(path: Path, text: Text, delimiter: str | None) -> tuple[Table, str]:
    """A table of text with a header, and the character between its cells."""
    head = head_of(path, text.encoding)
    blank = len(head) - len(head.lstrip("\r\n"))
    first = head[blank:].splitlines(keepends=True) or [""]
    if delimiter is None:
        delimiter = delimiter_in(path, head)
    try:
        header = next(csv.reader(first, delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise ValueError(f"{path}: the header: {error}") from None
    if not header or head[blank:].isspace():
        raise ValueError(f"{path}: not a CSV file with a header: it is empty")
    skip = len(head[:blank].splitlines())
    options = {
        "delim": literal(delimiter), "quote": "'\"'", "escape": "'\"'", "header": "true",
        "auto_detect": "false", "strict_mode": "true", "skip": skip, "max_line_size": MOST_LINE,
        "compression": literal(text.packed),
        "columns": "{" + ", ".join(f"c{i}: 'VARCHAR'" for i in range(len(header))) + "}",
    }  # fmt: skip
    call = f"read_csv({literal(text.path)}, {', '.join(f'{k} = {v}' for k, v in options.items())})"

    def source(names: Sequence[str]) -> str:
        named = ", ".join(f"c{header.index(x)} AS {quoted(x)}" for x in names)
        return f"(SELECT {named or 'c0'} FROM {call})"

    return Table(header, source, dict.fromkeys(header, "VARCHAR")), delimiter


def json_table(text: Text) -> Table:
    """A table of JSON: an object a line, objects one after another, or an array of them."""
    options = (
        f"{literal(text.path)}, format = 'auto', compression = {literal(text.packed)}, "
        f"maximum_object_size = {MOST_LINE}"
    )

    def source(names: Sequence[str]) -> str:
        columns = ", ".join(f"{quoted(x)}: 'JSON'" for x in names or ["none"])
        return f"read_json({options}, columns = {{{columns}}})"

    return Table(None, source, {}, f"read_json_objects({options})")


def parquet_table(engine: Engine, path: Path) -> Table:
    """A Parquet file; the engine makes names that differ in case only different, so count them."""
    call = f"read_parquet({literal(linked(engine, path))})"
    found = engine.rows(f"DESCRIBE SELECT * FROM {call}")
    schema = engine.rows(
        f"SELECT name, num_children FROM parquet_schema({literal(linked(engine, path))})"
    )
    names, skip = [], 0
    for name, children in schema[1:]:
        names += [name] if skip == 0 else []
        skip = max(skip - 1, 0) + (children or 0)
    return described(names, found, call)


def arrow_table(engine: Engine, path: Path) -> Table:
    """A file or stream of Arrow, mapped into memory by pyarrow."""
    try:
        ipc: Any = importlib.import_module("pyarrow.ipc")
        data: Any = importlib.import_module("pyarrow.dataset")
        arrow: Any = importlib.import_module("pyarrow")
    except ImportError:
        raise ImportError(
            f"{path}: reading Arrow needs pyarrow: pip install 'softbon-jax[command]'"
        ) from None
    with path.open("rb") as file:
        whole = file.read(6) == b"ARROW1"
    if whole:
        pieces = data.dataset(str(path), format="ipc")
    else:
        pieces = ipc.open_stream(arrow.memory_map(str(path))).read_all()
    name = f"arrow_{len(list(engine.copies.iterdir()))}"
    (engine.copies / name).touch()
    engine.connection.register(name, pieces)
    found = engine.rows(f"DESCRIBE SELECT * FROM {name}")
    return described(list(pieces.schema.names), found, name)


def described(names: list[str], found: list[tuple[Any, ...]], call: str) -> Table:
    """A table whose columns the engine names as in `found`."""
    inner = dict(zip(names, (row[0] for row in found), strict=True))

    def source(asked: Sequence[str]) -> str:
        named = ", ".join(f"{quoted(inner[x])} AS {quoted(x)}" for x in asked)
        return f"(SELECT {named or '1'} FROM {call})"

    return Table(names, source, dict(zip(names, (str(row[1]) for row in found), strict=True)))


def keys_of(engine: Engine, table: Table) -> list[str]:
    """The names of the columns, of JSON those of all rows, in the order in which they appear."""
    if table.names is not None:
        return table.names
    rows = engine.rows(
        "SELECT k FROM (SELECT json_keys(json) AS k, row_number() OVER () AS row "
        f"FROM {table.note}) GROUP BY k ORDER BY min(row) LIMIT 100000"
    )
    return list(dict.fromkeys(key for row in rows for key in row[0] or ()))


def refuse_twice(path: Path, names: Sequence[str]) -> None:
    """ValueError if a column occurs twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: the header has column {min(twice)!r} twice")
