"""From the cells of a table to numbers and identifiers, one row a response, in the engine.

A cell is a number, text, or JSON (what is nested in Parquet and Arrow becomes JSON). Words become
numbers here, lists are unfolded side by side, scores of steps are reduced to one. What is no score is
kept as NaN (missing) or NULL (no number at all) with its text, so that it can be named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from softbon_jax.scores._engine import Engine, condition, literal, quoted
from softbon_jax.scores._tables import Table

MISSING = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nat")
TRUE, FALSE = ("true", "yes"), ("false", "no")
SUCCESS = ("t", "y", "pass", "passed", "c", "correct", "success", "ok", "resolved")
FAILURE = ("f", "n", "fail", "failed", "i", "incorrect", "wrong", "failure", "timeout", "error",
           "timed out", "exception", "syntaxerror", "unresolved")  # fmt: skip
STEPS = {"last": "list_last", "min": "list_min", "mean": "list_avg", "sum": "list_sum",
         "prod": "list_product"}  # fmt: skip


def listed(names: Collection[str], most: int = 20) -> str:
    """The names of columns, of many and long ones the beginning."""
    shown = [name if len(name) <= 60 else f"{name[:60]}…" for name in list(names)[:most]]
    more = [f"{len(names) - most:,} more"] if len(names) > most else []
    return ", ".join(shown + more) or "none"


NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|BOOLEAN|BIGNUM)$")


class Asked(NamedTuple):
    """What is asked of every file.

    Attributes:
      prompt: columns or paths that make the key.
      scores: columns or paths of scores.
      response: column or path of what tells responses apart, or None.
      where: an expression of SQL, or None.
      steps: how scores of steps become one, "none" where lists hold responses, or None.
      success: words that count as 1.
      decimal: "," or "."; None to find out.
      text: whether `response` is the text of a response, of which repeats are counted, and not refused.
      answer: column or path of the answer that a response gives, or None.
    """

    prompt: tuple[str, ...]
    scores: tuple[str, ...]
    response: str | None
    where: str | None
    steps: str | None
    success: tuple[str, ...]
    decimal: str | None
    text: bool
    answer: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All that are read, in the order of the columns x0, x1, … of the table `raw`."""
        others = (x for x in (self.answer, self.response) if x)
        return (*self.prompt, *self.scores, *others)


def steps_of(name: str) -> tuple[str, str]:
    """The column that a path begins with, and the rest of it as a JSON path."""
    first = re.match(r"[^.\[]+", name)
    if first is None:
        return name, ""
    rest = name[first.end() :]
    parts = re.findall(r'\.([^.\["]+)|\.?\[(-?\d+|\*)\]|\.?\[?"([^"]+)"\]?', rest)
    spelled = re.sub(r'\.([^.\["]+)|\.?\[(-?\d+|\*)\]|\.?\[?"([^"]+)"\]?', "", rest)
    if spelled:  # no path, so there is no such column
        return name, ""
    path = "".join(
        f"[{at}]" if at else ".*" if key == "*" else f'."{key or text}"' for key, at, text in parts
    )
    return first[0], path


def raw(
    engine: Engine, path: Path, table: Table, asked: Asked, known: Collection[str]
) -> list[str]:
    """Copy the columns asked for into a table of the engine, with the number of the row.

    Returns:
      For each of the columns whether it is "number", "text" or "json".
    """
    wanted = asked.columns
    tops, made, kinds = [], [], []
    for k, name in enumerate(wanted):
        names = known if table.names is None else table.names
        first, rest = (name, "") if name in names else steps_of(name)
        if first not in names:
            raise ValueError(f"{path}: no column {name!r}; the columns are {listed(names)}")
        kind = table.types.get(first, "JSON")
        expression = f"source.{quoted(first)}"
        tops.append(first)
        if kind != "JSON" and (rest or re.search(r"\[|\(", re.sub(r"DECIMAL\(.*\)", "", kind))):
            cast = "TRY_CAST({} AS JSON)" if kind == "VARCHAR" else "to_json({})"
            expression, kind = cast.format(expression), "JSON"
        if rest:
            many = "*" in rest
            inner = f"json_extract({expression}, {literal('$' + rest)})"
            expression = f"to_json({inner})" if many else inner
        kinds.append("json" if kind == "JSON" else "number" if NUMERIC.match(kind) else "text")
        if kinds[-1] == "text":
            expression = f"{expression}::VARCHAR"
            if asked.text and k == len(wanted) - 1:  # a text may be long, and only repeats count
                expression = f"hash({expression})"
        made.append(f"{expression} AS x{k}")
    source, filtered = table.source, ""
    if asked.where is not None:
        used = [
            x for x in condition(engine, asked.where) if table.names is None or x in table.names
        ]
        typed = [f"{_typed(engine, table, x)} AS {quoted(x)}" for x in used]
        tops += used
        body = f"SELECT {', '.join(['source.row', *typed])} FROM numbered AS source"
        filtered = f"WHERE row IN (SELECT row FROM ({body}) AS file WHERE (\n{asked.where}\n))"
    tops = list(dict.fromkeys(tops))
    # Where nothing has to be looked at before it is converted, the file is read once, and not kept.
    direct = "json" not in kinds and "text" not in kinds[len(asked.prompt) :][: len(asked.scores)]
    engine.connection.execute("DROP VIEW IF EXISTS raw" if direct else "DROP TABLE IF EXISTS raw")
    numbered = f"SELECT row_number() OVER () AS row, * FROM {source(tops)}"
    if filtered:
        numbered = (
            f"WITH numbered AS MATERIALIZED ({numbered}) SELECT row, {', '.join(made)} "
            f"FROM numbered AS source {filtered}"
        )
    else:
        numbered = (
            f"SELECT row_number() OVER () AS row, {', '.join(made)} FROM {source(tops)} AS source"
        )
    engine.connection.execute(f"CREATE TEMP {'VIEW' if direct else 'TABLE'} raw AS {numbered}")
    return kinds


def _typed(engine: Engine, table: Table, name: str) -> str:
    """A column for `where`: numbers where all of it is numbers, else text."""
    column = f"source.{quoted(name)}"
    if table.types.get(name, "VARCHAR") != "VARCHAR":
        return column
    text = column if table.names is not None else f"({column} ->> '$')"
    bad = engine.first(
        f"SELECT count(*) FILTER ({text} IS NOT NULL AND TRY_CAST({text} AS DOUBLE) IS NULL), "
        f"count(*) FILTER ({text} IS NOT NULL AND TRY_CAST({text} AS BOOLEAN) IS NULL) "
        f"FROM {table.source([name])} AS source"
    )
    return f"{text}::DOUBLE" if bad[0] == 0 else f"{text}::BOOLEAN" if bad[1] == 0 else text


def _number(text: str, success: Sequence[str], decimal: str) -> str:
    """The number that a text stands for: NaN if it is missing, NULL if it is none."""
    bare = f"trim({text})"
    plain = f"replace(replace({bare}, '.', 'x'), ',', '.')" if decimal == "," else bare
    words = "" if not success else f"WHEN {bare} IN {_set(success)} THEN 1.0 "
    failed = "" if not success else f"WHEN regexp_matches({bare}, '[A-Za-z]') THEN 0.0 "
    return (
        f"CASE WHEN {text} IS NULL THEN 'nan'::DOUBLE {words}"
        f"WHEN NOT contains({bare}, '_') AND TRY_CAST({plain} AS DOUBLE) IS NOT NULL "
        f"THEN TRY_CAST({plain} AS DOUBLE) "
        f"WHEN lower({bare}) IN {_set(MISSING)} THEN 'nan'::DOUBLE "
        f"WHEN lower({bare}) IN {_set(TRUE)} THEN 1.0 WHEN lower({bare}) IN {_set(FALSE)} THEN 0.0 "
        f"{failed}END"
    )


def _set(words: Sequence[str]) -> str:
    return f"({', '.join(map(literal, words))})"


def unfold(
    engine: Engine, path: Path, asked: Asked, kinds: list[str], parted: bool, file: int
) -> None:
    """Append a file's rows, from the table `raw`, to the table `cells`: one a response."""
    keys, scores = (
        len(asked.prompt),
        range(len(asked.prompt), len(asked.prompt) + len(asked.scores)),
    )
    lists = {k: _depth(engine, k) for k, kind in enumerate(kinds) if kind == "json"}
    kept = {k for k in (*scores, *range(scores.stop, len(kinds))) if lists.get(k)}
    items: dict[int, str] = {}
    nested = any(lists[k] > 1 for k in kept if k in scores)
    if asked.steps not in (None, "none") and not nested:
        kept = {k for k in kept if k not in scores}
    if asked.answer and not kept & set(scores):  # an answer may be a list, of one response
        kept.discard(scores.stop)
    for k in kept:
        items[k] = _items(k)
    if items:
        first = min(kept & set(scores) or kept)
        longest = f"len({items[first]})"
        for k in range(keys):  # a list of prompts, or one prompt that is a list of messages
            if (
                lists.get(k)
                and engine.first(
                    f"SELECT count(*) = 0 FROM raw WHERE coalesce(len({_items(k)}) <> {longest}, true) "
                    f"OR json_type(x{k}, '$[0].role') IS NOT NULL"
                )[0]
            ):
                items[k] = _items(k)
        _check_lengths(engine, path, asked, items, scores, longest)
        if asked.steps is None:
            _check_repeats(engine, path, asked, keys, items, longest, nested)
    columns = [f"unnest({items[k]}) AS x{k}" if k in items else f"x{k}" for k in range(len(kinds))]
    place = f"unnest(range({longest}))" if items else "0"
    flat = f"(SELECT row, {place} AS place, {', '.join(columns)} FROM raw)"
    text = [
        f"x{k}" if kind != "json" else _text(f"x{k}") if lists[k] else _scalar(f"x{k}")
        for k, kind in enumerate(kinds)
    ]
    key = f"{text[0]}::VARCHAR" if keys == 1 else (
        f"CASE WHEN {' AND '.join(f'{text[k]} IS NOT NULL' for k in range(keys))} THEN "
        f"to_json([{', '.join(f'{text[k]}::VARCHAR' for k in range(keys))}])::VARCHAR END"
    )  # fmt: skip
    values = [
        _value(engine, path, asked, kinds[k], lists.get(k, 0), k, text[k], flat, parted)
        + f" AS s{k}"
        for k in scores
    ]
    outer = ", ".join(
        f"s{k} AS s{k - keys}, CASE WHEN s{k} IS NULL OR NOT isfinite(s{k}) "
        f"THEN left({text[k]}::VARCHAR, 500) END AS t{k - keys}" for k in scores
    )  # fmt: skip
    other = ""
    if asked.answer:
        answer = f"{text[scores.stop]}::VARCHAR"
        if kinds[scores.stop] == "number":
            answer = f"nullif({answer}, 'nan')"
        other = f", {answer} AS answer"
    if asked.response:
        lost = (
            asked.text and bool(items) and len(kinds) - 1 not in items
        )  # every row is a pair of its own
        shown = "NULL::VARCHAR" if asked.text else f"{text[-1]}::VARCHAR"
        pair = "hash(row, place)" if lost else f"hash({key}, {text[-1]})"
        other += f", {shown} AS response, {pair} AS pair"
    start = "INSERT INTO cells" if file else "CREATE TEMP TABLE cells AS"
    engine.connection.execute(
        f"{start} SELECT {file} AS file, row, place, {key} AS key, {outer}{other} "
        f"FROM (SELECT *, {', '.join(values)} FROM {flat})"
    )


def _value(
    engine: Engine,
    path: Path,
    asked: Asked,
    kind: str,
    deep: int,
    k: int,
    text: str,
    flat: str,
    parted: bool,
) -> str:
    """The expression of the number in column `k`: NaN if it is missing, NULL if it is none."""
    if kind == "number":
        return f"coalesce(x{k}::DOUBLE, 'nan')"
    odd = f"TRY_CAST({text} AS DOUBLE) IS NULL OR contains({text}, '_')"
    if not engine.first(f"SELECT count(*) FROM {flat} WHERE {text} IS NOT NULL AND ({odd})")[0]:
        return f"coalesce(TRY_CAST({text} AS DOUBLE), 'nan')"
    name = asked.scores[k - len(asked.prompt)]
    decimal = _decimal(engine, path, name, flat, text, asked.decimal, parted)
    words = _words(engine, flat, text, asked.success)
    value = _number(text, words, decimal)
    if kind == "text" or not deep:
        return value
    each = _number("(y ->> '$')", words, decimal)
    each = f"list_transform(json_extract(x{k}, '$[*]'), lambda y: {each})"
    many = ""
    if asked.steps in STEPS:
        bad = f"len(list_filter({each}, lambda z: z IS NULL))"
        many = f"WHEN {bad} = 0 THEN {STEPS[asked.steps]}({each}) "
    return (
        f"CASE WHEN json_type(x{k}) <> 'ARRAY' THEN {value} "
        f"WHEN json_array_length(x{k}) = 1 THEN list_first({each}) "
        f"WHEN json_array_length(x{k}) = 0 THEN 'nan'::DOUBLE {many}END"
    )


def _scalar(x: str) -> str:
    """The text of JSON that is no list and no object, without parsing numbers."""
    return (
        f"CASE WHEN left({x}::VARCHAR, 1) = '\"' THEN {x} ->> '$' "
        f"WHEN {x}::VARCHAR <> 'null' THEN {x}::VARCHAR END"
    )


def listing(rows: Sequence[tuple[Any, ...]]) -> str:
    """The first cells of rows, as SQL has them after IN."""
    return f"({', '.join(str(row[0]) for row in rows[:1000])})"


def _text(x: str) -> str:
    return (
        f"CASE json_type({x}) WHEN 'VARCHAR' THEN {x} ->> '$' "
        f"WHEN 'NULL' THEN NULL ELSE json({x})::VARCHAR END"
    )


def _items(k: int) -> str:
    """A cell as the list of what it holds; an object that is the whole of a column, of its values."""
    return (
        f"CASE json_type(x{k}) WHEN 'ARRAY' THEN json_extract(x{k}, '$[*]') "
        f"WHEN 'OBJECT' THEN json_extract(x{k}, '$.*') ELSE [x{k}] END"
    )


def _depth(engine: Engine, k: int) -> int:
    """How deep the lists of a column are: 0, 1, or 2 for lists of lists."""
    if not engine.first(f"SELECT count(*) FROM raw WHERE left(x{k}::VARCHAR, 1) IN ('[', '{{')")[0]:
        return 0
    deep = engine.first(
        f"SELECT max(CASE json_type(x{k}) WHEN 'ARRAY' THEN 1 "
        f"WHEN 'OBJECT' THEN ((SELECT count(*) FROM raw) = 1)::INT ELSE 0 END) + "
        f"max((json_type(x{k}) = 'ARRAY' AND len(list_filter(json_extract(x{k}, '$[*]'), "
        f"lambda y: json_type(y) = 'ARRAY')) > 0)::INT) FROM raw"
    )[0]
    return int(deep or 0)


def _check_lengths(
    engine: Engine, path: Path, asked: Asked, items: dict[int, str], scores: range, longest: str
) -> None:
    first = min(set(items) & set(scores) or items)
    name = asked.columns[first]
    for k in (*scores, *[k for k in items if k not in scores]):
        length = f"len({items[k]})" if k in items else "1"
        bad = engine.first(
            f"SELECT row, {longest}, {length} FROM raw WHERE x{first} IS NOT NULL AND x{k} IS NOT NULL "
            f"AND {longest} <> {length} ORDER BY row LIMIT 1"
        )
        if bad:
            other = asked.columns[k]
            if asked.text and k == len(asked.columns) - 1:
                del items[k]
                continue
            raise ValueError(
                f"{path}: row {bad[0]}: column {name!r} has {bad[1]} entries, column {other!r} has "
                f"{bad[2]}; if they are scores of the steps of one response, say so (steps, --steps)"
            )


def _check_repeats(
    engine: Engine,
    path: Path,
    asked: Asked,
    keys: int,
    items: dict[int, str],
    longest: str,
    nested: bool,
) -> None:
    """Lists in several rows of one prompt may be responses, or the steps of one response each."""
    if nested or any(k in items for k in range(keys)):
        return
    group = ", ".join(f"x{k}::VARCHAR" for k in range(keys))
    bad = engine.first(
        f"SELECT min(row) FROM raw WHERE {longest} > 1 GROUP BY {group} HAVING count(*) > 1 "
        "ORDER BY 1 LIMIT 1"
    )
    if bad and not asked.response:
        raise ValueError(
            f"{path}: row {bad[0]} and others of the same prompt hold lists: of scores of steps (steps, "
            "--steps last, min, mean, sum or prod) or one entry a response (--steps none)?"
        )


def _decimal(
    engine: Engine, path: Path, name: str, flat: str, text: str, decimal: str | None, other: bool
) -> str:
    """The decimal mark of a column of text: a comma only where commas do not part the cells."""
    if decimal is not None:
        return decimal
    number = r"^\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*$"
    thousand = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*$"
    commas, points, thousands = engine.first(
        f"SELECT count(*) FILTER (regexp_matches({text}, {literal(number)})), "
        f"count(*) FILTER (contains({text}, '.') AND TRY_CAST({text} AS DOUBLE) IS NOT NULL), "
        f"count(*) FILTER (regexp_matches({text}, {literal(thousand)})) FROM {flat}"
    )
    if not commas or points or not other:
        return "."
    if commas == thousands:
        raise ValueError(
            f"{path}: is the comma in column {name!r} a decimal mark (--decimal ,) or between "
            "thousands? Nothing in the file tells"
        )
    return ","


def _words(engine: Engine, flat: str, text: str, success: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a column that count as 1: those that are named, or of known verdicts."""
    if success:
        found = engine.first(f"SELECT count(*) FROM {flat} WHERE trim({text}) IN {_set(success)}")
        return success if found[0] else ()
    rows = engine.rows(
        f"SELECT DISTINCT trim({text}) FROM {flat} WHERE {text} IS NOT NULL AND "
        f"TRY_CAST(trim({text}) AS DOUBLE) IS NULL AND lower(trim({text})) NOT IN {_set(MISSING)} "
        "LIMIT 30"
    )
    words = {row[0] for row in rows}
    if words and all(x.lower() in SUCCESS + FAILURE + TRUE + FALSE for x in words):
        return tuple(x for x in words if x.lower() in SUCCESS + TRUE) or ("pass",)
    return ()
