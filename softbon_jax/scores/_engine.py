"""The engine that reads tables: DuckDB, locked down to the files that are named.

It opens nothing else, loads no extension, writes nothing but its own temporary files, and keeps to a
limit of memory. Names and paths are quoted; only `where` is SQL by design, and must be one expression.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MEMORY = 2**31
"""The most memory that the engine takes, in bytes; what is more goes to temporary files."""


def quoted(name: str) -> str:
    """An identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A string, or a list of strings, of SQL."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    return "'" + str(value).replace("'", "''") + "'"


@contextmanager
def engine(files: Sequence[Path], most_bytes: int) -> Iterator[Any]:
    """A connection that may read `files`, and a folder of its own for what does not fit into memory."""
    try:
        duckdb: Any = importlib.import_module("duckdb")
    except ImportError:
        raise ImportError(
            f"{files[0]}: reading tables needs DuckDB: pip install 'softbon-jax[command]'"
        ) from None
    with tempfile.TemporaryDirectory(prefix="softbon-") as folder:
        settings = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "memory_limit": f"{max(min(MEMORY, most_bytes), 2**27)}B",
            "temp_directory": str(Path(folder) / "spilled"),
            "max_temp_directory_size": f"{most_bytes}B",
        }
        connection = duckdb.connect(":memory:", config=settings)
        try:
            copies = Path(folder) / "copies"
            copies.mkdir()
            real = [os.path.realpath(x) for x in files]
            named = [x for x in real if x.isprintable() or x.encode(errors="ignore").decode() == x]
            connection.execute(f"SET allowed_paths = {literal(named)}")
            connection.execute(f"SET allowed_directories = {literal([f'{copies}/'])}")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield Engine(connection, copies)
        finally:
            connection.close()


class Engine:
    """A connection and a folder for copies of files that have to be rewritten before they are read."""

    def __init__(self, connection: Any, copies: Path) -> None:
        self.connection = connection
        self.copies = copies

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return list(self.connection.execute(sql).fetchall())

    def first(self, sql: str) -> Any:
        """The one row of a query."""
        return self.connection.execute(sql).fetchone()


_CAUSES = (
    (r"CSV Error on Line: (\d+)[\s\S]*?Expected Number of Columns: (\d+) Found: (\d+)",
     "line {0} has {2} cells, the header has {1}"),
    (r"CSV Error on Line: (\d+)[\s\S]*?unterminated quote", "line {0} has a quote that is not closed"),
    (r"CSV Error on Line: (\d+)[\s\S]*?unicode", "line {0} is not text in UTF-8 (say its --encoding)"),
    (r"CSV Error on Line: (\d+)[\s\S]*?(Maximum line size of \d+ bytes)", "line {0}: {1} exceeded"),
    (r"in (?:record/value|line) (\d+): Expected OBJECT", "row {0} is not a JSON object"),
    (r"(?:at byte (\d+) )?in (?:record/value|line) (\d+): (.*)", "row {1} is not JSON: {2}"),
    (r"\"maximum_object_size\" of (\d+) bytes", "a row is longer than {0} bytes"),
    (r"(?i)out of memory|max_temp_directory_size|temp_directory",
     "it holds too much; allow more (most_bytes, --max-bytes)"),
)  # fmt: skip


def cause(error: BaseException) -> str:
    """What the engine says, in one line that names line or row where it knows them."""
    text = re.sub(r"(File|file|of file) ['\"][^'\"]*/copies/[^'\"]*['\"]", "the file", str(error))
    for pattern, words in _CAUSES:
        found = re.search(pattern, text)
        if found:
            parts = list(found.groups())
            if (
                "Malformed JSON" in text and parts[1:]
            ):  # it counts from 0 where it reads, and then adds 2
                parts[1] = str(max(int(parts[1]) - 1, 1))
            return words.format(*parts)[:300]
    return re.sub(r"^(\w+ )+Error: ", "", text.split("\n")[0])[:300]


def condition(engine: Engine, where: str) -> list[str]:
    """The columns that an expression of SQL names; ValueError unless it is one, and no query."""
    sql = f"SELECT 1 FROM file WHERE (\n{where}\n)"
    tree = json.loads(engine.first(f"SELECT json_serialize_sql({literal(sql)})")[0])
    bad = f"where must be one expression of SQL, such as filter = 'strict', got {where!r}"
    if tree["error"]:
        raise ValueError(f"{bad}: {tree['error_message'].splitlines()[0]}")
    node = tree["statements"][0]["node"]
    plain = {
        "node_type": node["type"],
        "more": node.get("modifiers"),
        "with": node["cte_map"]["map"],
    }
    if len(tree["statements"]) > 1 or plain != {"node_type": "SELECT_NODE", "more": [], "with": []}:
        raise ValueError(bad)
    if node["group_expressions"] or node["having"] or node["qualify"] or node["sample"]:
        raise ValueError(bad)
    names: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if part.get("class") in ("SUBQUERY", "WINDOW", "PARAMETER", "STAR"):
                raise ValueError(bad)
            if part.get("class") == "COLUMN_REF":
                names.append(part["column_names"][0])
            part = list(part.values())
        if isinstance(part, list):
            for x in part:
                walk(x)

    walk(node["where_clause"])
    return list(dict.fromkeys(names))
