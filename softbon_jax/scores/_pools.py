"""From the rows of a file to pools: columns chosen, cells checked, rows grouped by prompt."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from softbon_jax import _checks
from softbon_jax.scores._formats import (
    MOST_BYTES,
    MOST_ROWS,
    Limits,
    Stream,
    format_of,
    rows_of,
    too_long,
)
from softbon_jax.scores._records import Columns, Dropped, Scores, names_of

MOST_CELLS = 10 * MOST_ROWS
"""The most prompts times responses of the largest prompt."""

Missing = Literal["error", "drop"]
"""What to do with a row whose score is missing."""


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
    most_bytes: int = MOST_BYTES,
    leave_one_out: bool = False,
) -> Scores:
    r"""The pools of a file of scores: one row a response, grouped by prompt.

    Args:
      path: .csv, .tsv, .jsonl or .ndjson, also with .gz; .parquet; .npz. An npz file holds under the
        name of each column either a vector or a `[prompts, N]` array, NaN where there is no response;
        in the second case no `prompt` is needed.
      prompt: column that identifies the prompt.
      reward: column of the score that selects; of several, the mean selects, without rescaling.
      gold: column of the score to maximize, or several to average; None for none; "auto" takes
        "gold_reward" if the file has it, it is not a `reward` and it is not empty.
      response: column that identifies a response among those to its prompt; None for none; "auto" takes
        "response_id" if the file has it.
      missing: what to do with a row whose score is empty or not finite: "error" refuses the file, "drop"
        leaves the row out.
      least: prompts with fewer responses are dropped.
      most_rows: a file with more rows, or as many blank ones, is refused.
      most_bytes: a file is refused that holds more when it is unpacked, counted in characters of text
        or in bytes of the columns that are read.
      leave_one_out: keep the columns of `reward` apart in `Scores.judges`, so that each can be the score
        to maximize while the others select; then there is no gold score.

    Returns:
      `Scores`.

    Raises:
      ValueError: the file is damaged, not of its format or not a regular file, lacks a column, has no
        rows, or more than `most_rows` or `most_bytes`; a score is not a number, or a response occurs
        twice; the message names the row (1 is the first below the header) and the column. Or: padded to
        the largest, the pools are too many. A column is named twice, or as reward and as gold;
        `leave_one_out` with one reward column or with a gold score; `missing` is neither "error" nor
        "drop"; `least`, `most_rows` or `most_bytes` is not a positive integer.
      ImportError: Parquet without pyarrow.
      OSError: the file cannot be opened.

    Numerics: scores are float64. The mean of several columns is their sum, in the order they are named,
      divided by their number, so that integer scores that tie keep tying.
    Source: CSV is RFC 4180, gzip RFC 1952; the layouts are defined here.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "scores.csv"
      >>> _ = path.write_text("prompt_id,proxy_reward\na,1\na,3\nb,2")
      >>> pools = sb.scores.read(path)
      >>> pools.prompts, pools.rewards.tolist(), pools.where.tolist()
      (('a', 'b'), [[1.0, 3.0], [2.0, 0.0]], [[True, True], [True, False]])
    """
    path, selecting = Path(path), names_of(reward)
    _checks.one_of("missing", missing, ("error", "drop"))
    least = _checks.positive_integer("least", least)
    limits = Limits(
        _checks.positive_integer("most_rows", most_rows),
        _checks.positive_integer("most_bytes", most_bytes, most=_checks.LARGEST_FILE),
    )
    if leave_one_out:
        if gold is not None and gold != "auto":
            raise ValueError("the judge that is left out is the gold score, so name no other")
        if len(selecting) < 2:
            raise ValueError(
                f"leave-one-out takes two or more reward columns, got {len(selecting)}"
            )
        gold = None
    _check_roles(path, selecting, () if gold == "auto" else names_of(gold))
    names, rows = rows_of(path, limits)
    if gold == "auto":
        usable = "gold_reward" in names and "gold_reward" not in selecting
        valuing: tuple[str, ...] = ("gold_reward",) if usable else ()
    else:
        valuing = names_of(gold)
    if response == "auto":
        response = "response_id" if "response_id" in names else None
    scored, others = (*selecting, *valuing), (prompt, *names_of(response))
    # Only npz can do without the column of prompts.
    for name in (*(others if format_of(path) != "npz" else others[1:]), *scored):
        if name not in names:
            raise ValueError(f"{path}: no column {name!r}; the columns are {_listed(names)}")
    table = _collect(path, rows(scored, others), selecting, valuing, others, limits)
    if gold == "auto" and valuing and all(x is None for x in table.scores[valuing[0]]):
        del table.scores[valuing[0]]
        valuing = ()
    columns = Columns(
        prompt=prompt,
        reward=_one_or_all(selecting),
        gold=_one_or_all(valuing) if valuing else None,
        response=response,
        leave_one_out=leave_one_out,
    )
    return _pools(path, table, columns, missing, least)


def padded(pools: Mapping[str, Any], gold: Mapping[str, Any] | None = None) -> Scores:
    """Pools from one vector of scores a prompt, as if read from a file in that order.

    Args:
      pools: for each prompt its `[N]` rewards; N may differ.
      gold: for each prompt its `[N]` gold scores, the score to maximize; or None.

    Returns:
      `Scores`, with the default names of columns.

    Raises:
      ValueError: there are no prompts, a prompt has no rewards, or its gold scores are fewer or more
        than its rewards.
      KeyError: a prompt has no gold scores.

    Numerics: scores are float64; no values are checked.
    Source: derived here: the layout that `read` gives.

    Example:
      >>> pools = sb.scores.padded({"a": [1.0, 3.0], "b": [2.0]})
      >>> pools.rewards.tolist(), pools.where.tolist()
      ([[1.0, 3.0], [2.0, 0.0]], [[True, True], [True, False]])
    """
    if not pools:
        raise ValueError("pools must have at least one prompt, got none")
    sizes = np.array([len(scores) for scores in pools.values()])
    for name, size in zip(pools, sizes, strict=True):
        if size == 0:
            raise ValueError(f"prompt {name!r} has no rewards")
        if gold is not None and len(gold[name]) != size:
            raise ValueError(
                f"prompt {name!r} has {size} rewards and {len(gold[name])} gold scores"
            )
    where = np.arange(sizes.max()) < sizes[:, None]
    rows = np.full(where.shape, -1)
    rows[where] = np.arange(sizes.sum())

    def fill(parts: Mapping[str, Any]) -> np.ndarray:
        array = np.zeros(where.shape)
        array[where] = np.concatenate([np.asarray(parts[name], float) for name in pools])
        return array

    return Scores(
        prompts=tuple(pools),
        rewards=fill(pools),
        gold=None if gold is None else fill(gold),
        where=where,
        rows=rows,
        columns=Columns(gold=None if gold is None else "gold_reward"),
        read=int(sizes.sum()),
        dropped=(),
    )


# Columns -----------------------------------------------------------------------------------------


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


# Cells -------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """One list a column; scores are floats, or None where empty."""

    prompt: list[str]
    scores: dict[str, list[float | None]]
    response: list[str]


class _BadCells:
    """The bad cells of each column: the first, and how many."""

    def __init__(self) -> None:
        self.first: dict[str, tuple[int, Any]] = {}
        self.count: dict[str, int] = {}

    def add(self, column: str, number: int, found: Any) -> None:
        """One more in `column`, in row `number`."""
        self.first.setdefault(column, (number, found))
        self.count[column] = self.count.get(column, 0) + 1

    def refuse(self, path: Path, column: str, wanted: str) -> None:
        """Raise `ValueError` about the bad cells of `column`, if there are any."""
        if column in self.first:
            number, found = self.first[column]
            more = self.count[column] - 1
            text = "empty" if found is None or found == "" else _SHORT.repr(found)
            raise ValueError(
                f"{path}: row {number}, column {column!r} must be {wanted}, is {text}"
                + (f" (and {more} more)" if more else "")
            )


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60


def _listed(names: Sequence[str], most: int = 20) -> str:
    """The names of columns, of many and long ones the beginning."""
    shown = [name if len(name) <= 60 else f"{name[:60]}…" for name in names[:most]]
    more = [f"{len(names) - most:,} more"] if len(names) > most else []
    return ", ".join(shown + more) or "none"


def _number(cell: Any) -> float | None:
    """The cell as a float, None where it is empty; it raises an error if it is not a number."""
    if isinstance(cell, str):
        cell = cell.strip()
        if "_" in cell:  # which Python, but nothing else, reads as a number
            raise ValueError("not a number")
    if cell is None or cell == "":
        return None
    if not isinstance(cell, (str, bool, int, float)):
        raise TypeError("not a number")
    return float(cell)


def _collect(
    path: Path,
    stream: Stream,
    selecting: Sequence[str],
    valuing: Sequence[str],
    others: Sequence[str],
    limits: Limits,
) -> _Table:
    """The columns asked for, every cell of a score a number or empty.

    `others` are the columns of the prompt and, if there is one, of the response.
    """
    table = _Table([], {name: [] for name in (*selecting, *valuing)}, [])
    identifiers = list(zip(others, (table.prompt, table.response), strict=False))
    bad = _BadCells()
    for number, row in enumerate(stream, 1):
        if number > limits.rows:
            raise ValueError(too_long(path, limits))
        for column, values in table.scores.items():
            try:
                values.append(_number(row.get(column)))
            except (TypeError, ValueError, OverflowError):
                values.append(None)
                bad.add(column, number, row.get(column))
        for column, names in identifiers:
            cell = row.get(column)
            nested = isinstance(cell, (list, dict))
            name = "" if nested or cell is None else str(cell).strip()
            names.append(name)
            if nested or (not name and names is table.prompt):
                bad.add(column, number, cell)
    if not table.prompt:
        raise ValueError(f"{path}: no rows below the header")
    for name in others:
        bad.refuse(path, name, "an identifier")
    for name in selecting:
        if all(x is None for x in table.scores[name]) and name not in bad.first:
            raise ValueError(f"{path}: column {name!r} is empty in all {len(table.prompt)} rows")
    for name in table.scores:
        bad.refuse(path, name, "a finite number")
    return table


# Pools -------------------------------------------------------------------------------------------


def _pools(path: Path, table: _Table, columns: Columns, missing: Missing, least: int) -> Scores:
    total = len(table.prompt)
    scores, keep, dropped = _finite_scores(path, table, missing)
    if columns.response is not None:
        _refuse_duplicates(path, table, columns.response)
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
    largest = max(map(len, members.values()))
    if len(members) * largest > MOST_CELLS:
        raise ValueError(
            f"{path}: {len(members):,} prompts with up to {largest:,} responses are too many to be "
            "padded to one size; leave the largest prompts out"
        )
    selecting, valuing = names_of(columns.reward), names_of(columns.gold)

    def mean_by_prompt(names: tuple[str, ...]) -> dict[str, np.ndarray]:
        mean = np.sum([scores[name] for name in names], axis=0) / len(names)
        return {name: mean[rows] for name, rows in members.items()}

    pools = padded(mean_by_prompt(selecting), mean_by_prompt(valuing) if valuing else None)
    rows = np.full(pools.where.shape, -1)
    rows[pools.where] = np.concatenate([np.array(part) for part in members.values()])
    judges = None
    if columns.leave_one_out:
        each = np.stack([scores[name] for name in selecting], axis=-1)
        judges = np.where(pools.where[..., None], each[rows], 0.0)
    return pools._replace(
        rows=rows, columns=columns, read=total, dropped=tuple(dropped), judges=judges
    )


def _finite_scores(
    path: Path, table: _Table, missing: Missing
) -> tuple[dict[str, np.ndarray], np.ndarray, list[Dropped]]:
    """The scores as arrays, the rows to keep, and what is dropped because a score is not finite."""
    scores, keep = {}, np.ones(len(table.prompt), bool)
    dropped: list[Dropped] = []
    for name, cells in table.scores.items():
        values = np.array([math.nan if x is None else x for x in cells])
        lost = ~np.isfinite(values)
        if missing == "error":
            bad = _BadCells()
            for index in np.flatnonzero(lost):
                found = cells[index]
                bad.add(name, int(index) + 1, None if found is None else str(found))
            bad.refuse(path, name, "a finite number")
        lost &= keep
        if lost.any():
            first = int(np.argmax(lost)) + 1
            dropped.append(Dropped(f"no finite {name}", int(lost.sum()), first))
            keep &= ~lost
        scores[name] = values
    return scores, keep, dropped


def _refuse_duplicates(path: Path, table: _Table, response: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row, pair in enumerate(zip(table.prompt, table.response, strict=True)):
        other = seen.setdefault(pair, row)
        if other != row:
            raise ValueError(
                f"{path}: rows {other + 1} and {row + 1} have the same prompt {pair[0]!r} and"
                f" {response} {pair[1]!r}"
            )
