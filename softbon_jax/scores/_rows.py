"""From files to rows, one a response: columns found, cells checked, prompts numbered."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from softbon_jax.scores import _cells, _columns, _engine, _files, _tables
from softbon_jax.scores._npz import read_npz
from softbon_jax.scores._records import names_of

Missing = Literal["error", "drop", "lose"]
"""What to do with a row whose score is missing."""


class Rows(NamedTuple):
    """One entry a response, whatever the format.

    Attributes:
      prompts: identifiers in order of first appearance.
      code: `[rows]` indices into `prompts`.
      scores: for each column, `[rows]`; NaN where missing.
      row: `[rows]` the row of the file, counted from 1.
      place: `[rows]` the place in the list that the row holds.
      file: `[rows]` which file.
      shown: (column, index) to the text of a cell that is no finite number.
      read: the number of rows of all files.
      notes: how they were read, in words.
      columns: those that were read.
      answer: `[rows]` numbers of answers, -1 where it is missing; None where none are asked for.
    """

    prompts: list[str]
    code: np.ndarray
    scores: dict[str, np.ndarray]
    row: np.ndarray
    place: np.ndarray
    file: np.ndarray
    shown: Any
    read: tuple[int, ...]
    notes: tuple[str, ...]
    columns: _columns.Found
    answer: np.ndarray | None = None


class Wanted(NamedTuple):
    """The options of `read` that readers need; "auto" as it was given."""

    prompt: tuple[str, ...]
    reward: tuple[str, ...]
    gold: tuple[str, ...] | None
    response: str | None
    where: str | None
    steps: str | None
    success: tuple[str, ...]
    missing: Missing
    most_rows: int | None
    most_bytes: int
    delimiter: str | None
    decimal: str | None
    encoding: str | None
    answer: str | None = None

    def find(self, path: Path, names: Sequence[str]) -> _columns.Found:
        """The columns among `names`."""
        found = _columns.find(path, names, self.prompt, self.reward, self.gold, self.response)
        check_roles(path, found.reward, found.gold)
        return found._replace(answer=self.answer)


def check_roles(path: Path, selecting: tuple[str, ...], valuing: tuple[str, ...]) -> None:
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


# Rows --------------------------------------------------------------------------------------------

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60


def _refuse(
    path: Path, row: int, place: int, column: str, wanted: str, found: Any, more: int
) -> NoReturn:
    entry = f", entry {place + 1}" if place else ""
    text = "empty" if found is None or str(found).strip() == "" else _SHORT.repr(found)
    raise ValueError(
        f"{path}: row {row}{entry}, column {column!r} must be {wanted}, is {text}"
        + (f" (and {more} more)" if more else "")
        + (
            "; scores of steps become one by --steps last, min, mean, sum or prod"
            * (str(found)[:1] == "[")
        )
    )


def _too_many(path: Path, most: int) -> ValueError:
    return ValueError(
        f"{path}: more than {most:,} rows; analyze a sample of the prompts, or allow more rows "
        "(most_rows, --max-rows)"
    )


def from_tables(files: list[Path], kinds: list[str], wanted: Wanted) -> Rows:
    """The rows of files that the engine reads."""
    with _engine.engine(files, wanted.most_bytes) as engine:
        tables, notes = [], []
        for file, kind in zip(files, kinds, strict=True):
            with _naming(file, kind):
                tables.append(_open(engine, file, kind, wanted, False))
        names: dict[str, None] = {}
        for k, file in enumerate(files):
            with _naming(file, kinds[k]):
                try:
                    keys = _tables.keys_of(engine, tables[k][0])
                except Exception as error:
                    if "surrogate" not in str(error):
                        raise
                    tables[k] = _open(engine, file, kinds[k], wanted, True)
                    keys = _tables.keys_of(engine, tables[k][0])
                _tables.refuse_twice(file, keys)
                names.update(dict.fromkeys(keys))
        found = wanted.find(files[0], list(names))
        scores = (*found.reward, *found.gold)
        asked = _cells.Asked(
            found.prompt, scores, found.response, wanted.where, wanted.steps, wanted.success,
            wanted.decimal, found.text, found.answer,
        )  # fmt: skip
        if "filter" in names and wanted.where is None:
            _refuse_filters(engine, files[0], tables[0][0])
        counts = []
        for k, file in enumerate(files):
            with _naming(file, kinds[k]):
                table, delimiter = tables[k]
                try:
                    types = _cells.raw(engine, file, table, asked, names)
                except Exception as error:
                    if "unicode" not in str(error) or kinds[k] != "csv" or wanted.encoding:
                        raise
                    again = wanted._replace(encoding="latin-1")
                    table, delimiter = _open(engine, file, kinds[k], again, False)
                    notes.append(f"{file.name} is not in UTF-8, and was read as Latin-1")
                    types = _cells.raw(engine, file, table, asked, names)
                source = "raw" if wanted.where is None else f"{table.source(())} AS source"
                counts.append(engine.first(f"SELECT count(*) FROM {source}")[0])
                _cells.unfold(engine, file, asked, types, delimiter not in (",", None), k)
        return _grouped(engine, files, asked, found, wanted, tuple(counts), notes)


def kinds_of(file: Path, wanted: Wanted) -> dict[str, str]:
    """The columns of a file, and what is in each: a type of the engine, or those that JSON has there."""
    kind = _files.check_file(file)
    if kind == "npz":
        return dict.fromkeys(read_npz(file, None, wanted.most_bytes)[0], "array")
    with _engine.engine([file], wanted.most_bytes) as engine, _naming(file, kind):
        table, _ = _open(engine, file, kind, wanted, False)
        names = _tables.keys_of(engine, table)
        if table.names is not None:
            return {name: table.types[name] for name in names}
        types = ", ".join(
            f"string_agg(DISTINCT json_type({_engine.quoted(x)}), ' or ') AS {_engine.quoted(x)}"
            for x in names
        )
        found = engine.first(f"SELECT {types} FROM {table.source(names)}") if names else ()
        return {name: str(one or "NULL").lower() for name, one in zip(names, found, strict=True)}


def _open(
    engine: _engine.Engine, file: Path, kind: str, wanted: Wanted, rewrite: bool
) -> tuple[_tables.Table, str | None]:
    """A file as a table, and what is between its cells."""
    if kind == "parquet":
        return _tables.parquet_table(engine, file), None
    if kind == "arrow":
        return _tables.arrow_table(engine, file), None
    text = _files.text_of(engine, file, wanted.most_bytes, wanted.encoding, rewrite)
    if kind == "csv":
        return _tables.csv_table(file, text, wanted.delimiter)
    return _tables.json_table(text), None


class _naming:  # noqa: N801
    """Errors of the engine, in the block, are a `ValueError` that names the file."""

    def __init__(self, file: Path, kind: str) -> None:
        shown = kind.capitalize() if kind in ("parquet", "arrow") else kind.upper()
        self.what = f"{file}: not a {shown} file, or cut short"
        self.file = file

    def __enter__(self) -> None:
        """Nothing is opened."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None or isinstance(
            error, (ValueError, ImportError, MemoryError, KeyboardInterrupt)
        ):
            return
        if isinstance(error, OSError) and error.filename is not None:
            return
        said = _engine.cause(error)
        raise ValueError(
            f"{self.file}: {said}" if said.startswith(("line", "row", "it holds", "a row"))
            else f"{self.what}: {said}"
        ) from None  # fmt: skip


def _grouped(
    engine: _engine.Engine,
    files: list[Path],
    asked: _cells.Asked,
    found: _columns.Found,
    wanted: Wanted,
    counts: tuple[int, ...],
    notes: list[str],
) -> Rows:
    """The rows that the table `cells` holds, checked."""
    path, scores = files[0], asked.scores
    total = engine.first("SELECT count(*) FROM cells")[0]
    if not total:
        raise ValueError(
            f"{path}: no rows below the header"
            + (", or none that where picks" if wanted.where else "")
        )
    if wanted.most_rows is not None and total > wanted.most_rows:
        raise _too_many(path, wanted.most_rows)

    def check(test: str, column: str, wants: str, text: str) -> None:
        first, count = engine.first(f"SELECT min(rowid), count(*) FROM cells WHERE {test}")
        if count:
            file, row, place, shown = engine.first(
                f"SELECT file, row, place, {text} FROM cells WHERE rowid = {first}"
            )
            _refuse(files[file], row, place, column, wants, shown, count - 1)

    engine.connection.execute(
        "CREATE TEMP TABLE prompts AS SELECT key, row_number() OVER (ORDER BY first) - 1 AS code, first "
        "FROM (SELECT key, min(rowid) AS first FROM cells GROUP BY key)"
    )
    blank = engine.rows(
        "SELECT first FROM prompts WHERE key IS NULL OR trim(key, e' \\t\\r\\n') = ''"
    )
    if blank:
        check(f"rowid IN {_cells.listing(blank)}", " + ".join(found.prompt), "an identifier", "key")
    if asked.response and not asked.text:
        check(
            "response IS NULL OR left(response, 1) IN ('[', '{')",
            asked.response,
            "an identifier",
            "response",
        )
    if asked.answer and wanted.missing == "error":
        check(_NO_ANSWER, asked.answer, "an answer", "coalesce(answer, '')")
    lost: list[str] = []
    for k, name in enumerate(scores):
        valid, bad = engine.first(
            f"SELECT count(*) FILTER (isfinite(s{k})), count(*) FILTER (s{k} IS NULL) FROM cells"
        )
        empty = not valid and not bad
        if empty and k >= len(found.reward) and wanted.gold == ("auto",):
            lost.append(name)
        elif empty and engine.first(f"SELECT count(*) = 0 FROM cells WHERE trim(t{k}) <> ''")[0]:
            raise ValueError(f"{path}: column {name!r} is empty in all {total} rows")
    for k, name in enumerate(scores):
        if name not in lost:
            check(f"s{k} IS NULL", name, "a finite number", f"t{k}")
    for k, name in enumerate(scores):
        if name not in lost and wanted.missing != "drop":
            test = f"NOT isfinite(s{k})" if wanted.missing == "error" else f"s{k} = 'inf'::DOUBLE"
            check(test, name, "a finite number", f"coalesce(t{k}, '')")
    if asked.response:
        pairs = np.sort(
            np.asarray(engine.connection.execute("SELECT pair FROM cells").fetchnumpy()["pair"])
        )
        if (pairs[1:] == pairs[:-1]).any():
            notes += _repeats(engine, path, asked)
    names = [row[0] for row in engine.rows("SELECT key FROM prompts ORDER BY code")]
    kept = [k for k, name in enumerate(scores) if name not in lost]
    others = [*(f"s{k}" for k in kept), "row", "place", "file"]
    if asked.answer:
        number = "dense_rank() OVER (ORDER BY answer)"
        others.append(f"CASE WHEN {_NO_ANSWER} THEN -1 ELSE {number} END AS answer")
    arrays = engine.connection.execute(
        f"SELECT cells.rowid AS id, code, {', '.join(others)} FROM cells JOIN prompts USING (key)"
    ).fetchnumpy()
    order = np.empty(total, np.int64)
    order[np.asarray(arrays.pop("id"))] = np.arange(total)
    arrays = {name: np.asarray(array)[order] for name, array in arrays.items()}
    return Rows(
        names, arrays["code"], {scores[k]: arrays[f"s{k}"] for k in kept}, arrays["row"],
        arrays["place"], arrays["file"], None, counts, (*found.notes, *notes),
        found._replace(gold=tuple(x for x in found.gold if x not in lost)), arrays.get("answer"),
    )  # fmt: skip


_NO_ANSWER = "(answer IS NULL OR trim(answer, e' \\t\\r\\n') = '')"


def _refuse_filters(engine: _engine.Engine, path: Path, table: _tables.Table) -> None:
    """lm-evaluation-harness logs every response once for each filter."""
    text = "CAST(filter AS VARCHAR)" if table.names is not None else "filter ->> '$'"
    rows = engine.rows(f"SELECT DISTINCT {text} FROM {table.source(['filter'])} LIMIT 9")
    if len(rows) > 1:
        shown = ", ".join(sorted(str(row[0]) for row in rows))
        raise ValueError(
            f"{path}: every response may be there once for each filter ({shown}); pick one (where, "
            f"--where \"filter = '{rows[0][0]}'\"), or keep all with --where true"
        )


def _repeats(engine: _engine.Engine, path: Path, asked: _cells.Asked) -> list[str]:
    """Responses that occur twice: refused by their identifier, counted by their text."""
    again = engine.first(
        "SELECT count(*), min(rowid), min_by(first, rowid) FROM (SELECT rowid, min(rowid) OVER "
        "(PARTITION BY key, pair) AS first FROM cells) WHERE rowid > first"
    )
    if not again[0]:
        return []
    (one, _, key, shown), (other, *_) = (
        engine.first(f"SELECT row, place, key, response FROM cells WHERE rowid = {x}")
        for x in (again[2], again[1])
    )
    if asked.text:
        note = (
            f"{again[0]:,} responses repeat the prompt and the {asked.response} of an earlier one, "
            f"first row {other}; if each is logged several times, pick with --where"
        )
        return [note]
    where = f"rows {one} and {other} have" if one != other else f"row {one} has twice"
    raise ValueError(f"{path}: {where} the same prompt {key!r} and {asked.response} {shown!r}")


def from_arrays(path: Path, wanted: Wanted) -> Rows:
    """The rows of an npz file."""
    names, load = read_npz(path, wanted.most_rows, wanted.most_bytes)
    prompt = wanted.prompt if wanted.prompt != ("auto",) else ("prompt_id",)
    wanted = wanted._replace(prompt=prompt)
    found = wanted.find(path, names)
    scores = (*found.reward, *found.gold)
    others = (*names_of(found.answer), *names_of(found.response if not found.text else None))
    for name in (*scores, *others):
        if name not in names:
            raise ValueError(
                f"{path}: no column {name!r}; the columns are {', '.join(names[:20]) or 'none'}"
            )
    found = found._replace(response=None if found.text else found.response)
    arrays = load(scores, (*found.prompt, *others))
    keys, total = arrays[found.prompt[0]].astype(str), len(arrays[scores[0]])
    if not total:
        raise ValueError(f"{path}: no rows below the header")
    values = {name: np.asarray(arrays[name], float) for name in scores}
    for name, x in values.items():
        bad = ~np.isfinite(x) if wanted.missing == "error" else x == np.inf
        if wanted.missing != "drop" and bad.any():
            at = int(np.argmax(bad))
            _refuse(path, at + 1, 0, name, "a finite number", str(x[at]), int(bad.sum()) - 1)
    answer = None
    if found.answer is not None:
        given = arrays[found.answer]
        none = (
            np.isnan(given) if given.dtype.kind == "f" else np.char.strip(given.astype(str)) == ""
        )
        if wanted.missing == "error" and none.any():
            at = int(np.argmax(none))
            _refuse(path, at + 1, 0, found.answer, "an answer", "", int(none.sum()) - 1)
        answer = np.where(none, -1, np.unique(given, return_inverse=True)[1])
    if found.response is not None:
        pairs = list(zip(keys.tolist(), arrays[found.response].astype(str).tolist(), strict=True))
        if len(set(pairs)) < total:
            twice = next(x for i, x in enumerate(pairs) if x in pairs[:i])
            raise ValueError(f"{path}: prompt {twice[0]!r} has {found.response} {twice[1]!r} twice")
    unique, first, code = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    zeros = np.zeros(total, int)
    return Rows(
        unique[np.argsort(first)].tolist(), rank[code], values, np.arange(1, total + 1), zeros, zeros,
        None, (total,), found.notes, found, answer,
    )  # fmt: skip
