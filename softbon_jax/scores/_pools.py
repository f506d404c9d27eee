"""From the files of scores to pools: columns chosen, cells checked, rows grouped by prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from softbon_jax import _checks
from softbon_jax._averages import mean_last
from softbon_jax.scores import _cells, _files
from softbon_jax.scores._records import Columns, Dropped, Scores, names_of
from softbon_jax.scores._rows import (
    Missing as Missing,
    Rows,
    Wanted,
    check_roles,
    from_arrays,
    from_tables,
    kinds_of,
)

MOST_CELLS = 200_000_000
"""The most prompts times responses of the largest prompt."""


def read(
    path: Path | str | Sequence[Path | str],
    *,
    prompt: str | Sequence[str] = "auto",
    reward: str | Sequence[str] = "auto",
    gold: str | Sequence[str] | None = "auto",
    response: str | None = "auto",
    where: str | None = None,
    steps: str | None = None,
    success: str | Sequence[str] = (),
    missing: Missing = "error",
    least: int = 1,
    most_rows: int | None = None,
    most_bytes: int = _files.MOST_BYTES,
    leave_one_out: bool = False,
    delimiter: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    answer: str | None = None,
) -> Scores:
    r"""The pools of files of scores, one row a response or one row a prompt with lists of responses.

    A column is a name, or a path into nested data, such as `judgments[0].judgment.scores` or
    `eval.*[*].status`. A cell that is a list has one entry a response: the lists of a row are unfolded
    side by side. A list of one number is that number; scores of steps need `steps`.

    Args:
      path: a file, several, a folder or a pattern: .csv .tsv .txt .json .jsonl .ndjson, also with .gz or
        .zst; .parquet; .arrow; .npz, by itself. An npz file holds under the name of each column either a
        vector or a `[prompts, N]` array, NaN where there is no response; in the second case no `prompt`
        is needed.
      prompt: column that identifies the prompt, or several that do together; it may hold a list of chat
        messages. "auto" takes "prompt_id", or else a name that common tools write.
      reward: column of the score that selects; of several, the mean selects, without rescaling. "auto"
        takes "proxy_reward", or else a known name.
      gold: column of the score to maximize, or several to average; None for none; "auto" takes
        "gold_reward", or else a known name, if there is one that is no `reward` and not empty.
      response: column that identifies a response among those to its prompt: one that occurs twice is
        refused; None for none. "auto" takes "response_id"; where there is none, the text of the
        response, of which repeats are counted in `Scores.notes`.
      where: expression of SQL that picks rows, such as "filter = 'strict-match'".
      steps: "last", "min", "mean", "sum" or "prod", how a list of scores of steps becomes one score;
        "none" says that lists hold responses, where that is not plain.
      success: words that count as 1; all others of their column count as 0. Without it "pass", "C",
        "correct", "ok" and the like do where all words of the column are known verdicts.
      missing: what to do with a row whose score is empty or not finite: "error" refuses the file, "drop"
        leaves the row out, "lose" keeps the draw and never selects it while another is there: its reward
        is -inf, and its gold, if that is missing, the lowest of the file.
      least: prompts with fewer responses are dropped.
      most_rows: files with more responses are refused; None for no limit.
      most_bytes: a file is refused that holds more when it is unpacked, or whose columns read do.
      leave_one_out: keep the columns of `reward` apart in `Scores.judges`, so that each can be the score
        to maximize while the others select; then there is no gold score.
      delimiter: what is between the cells of text; None to find it in the header.
      decimal: "." or ","; None to find out where cells are not parted by commas.
      encoding: of text; None for UTF-8, UTF-16 where the file begins so, and Latin-1 for CSV that is not
        UTF-8, which keeps every identifier apart whatever it is.
      answer: column of the answer that a response gives, such as the final number, for votes; two are
        the same if their texts are. One that is empty is missing: with "lose" it is kept as an answer
        that no other response gives. None for none.

    Returns:
      `Scores`. Identifiers are neither trimmed nor merged.

    Raises:
      ValueError: a file is damaged, not of its format or not a regular file, lacks a column, has no
        rows, or more than `most_rows` or `most_bytes`; a score is not a number, or a response occurs
        twice; lists of one row differ in length; the message names file, row (1 is the first below the
        header) and column. Two columns may be meant, or lists may be steps or responses: the message
        asks. Or: padded to the largest, the pools are too many. A column is named twice, or as reward
        and as gold; `leave_one_out` with one reward column or with a gold score; `where` is not one
        expression; an option has a value that it cannot have.
      ImportError: DuckDB is not installed (but for npz), or pyarrow for .arrow and .zst.
      OSError: a file cannot be opened.

    Numerics: scores are float64. The mean of several columns is equal where the exact means are equal:
      decimals are added as decimals. Words: true and yes are 1, false and no 0; an empty cell, nan, NA,
      N/A, null and None are missing.
    Source: CSV is RFC 4180, gzip RFC 1952; the layouts are those that common tools write.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "scores.csv"
      >>> _ = path.write_text("prompt_id,proxy_reward\na,1\na,3\nb,2")
      >>> pools = sb.scores.read(path)
      >>> pools.prompts, pools.rewards.tolist(), pools.where.tolist()
      (('a', 'b'), [[1.0, 3.0], [2.0, 0.0]], [[True, True], [True, False]])
    """
    files = _files.files_of(path)
    _checks.one_of("missing", missing, ("error", "drop", "lose"))
    _checks.one_of("steps", steps or "none", (*_cells.STEPS, "none"))
    _checks.one_of("decimal", decimal or ".", (".", ","))
    if delimiter is not None and len(delimiter) != 1:
        raise ValueError(f"delimiter must be one character, got {delimiter!r}")
    least = _checks.positive_integer("least", least)
    if most_rows is not None:
        most_rows = _checks.positive_integer("most_rows", most_rows)
    most_bytes = _checks.positive_integer("most_bytes", most_bytes, most=_checks.LARGEST_FILE)
    selecting, valuing = names_of(reward), names_of(gold)
    if leave_one_out:
        if gold is not None and gold != "auto":
            raise ValueError("the judge that is left out is the gold score, so name no other")
        if len(selecting) < 2:
            raise ValueError(
                f"leave-one-out takes two or more reward columns, got {len(selecting)}"
            )
        gold, valuing = None, ()
    check_roles(files[0], selecting, () if gold == "auto" else valuing)
    wanted = Wanted(
        _spelled(names_of(prompt)), _spelled(selecting), None if gold is None else _spelled(valuing),
        response if response is None else _spelled((response,))[0], where, steps,
        names_of(success), missing, most_rows, most_bytes, delimiter, decimal, encoding,
        answer if answer is None else _spelled((answer,))[0],
    )  # fmt: skip
    kinds = [_files.check_file(file) for file in files]
    if "npz" in kinds:
        if len(files) > 1 or where is not None:
            raise ValueError(f"{files[kinds.index('npz')]}: npz is read by itself, without where")
        rows = from_arrays(files[0], wanted)
    else:
        rows = from_tables(files, kinds, wanted)
    return _pools(files[0], rows, wanted, least, leave_one_out)


def describe(path: Path | str | Sequence[Path | str]) -> dict[str, str]:
    """The columns of a file of scores, and what is in each.

    Args:
      path: as in `read`; of several files the first.

    Returns:
      For each column, in the order of the file, its type: as DuckDB names it, or for JSON those that
      occur.

    Raises:
      ValueError: the file is damaged or not of its format.
      ImportError: as `read`.
      OSError: the file cannot be opened.

    Numerics: none.
    Source: derived here.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "scores.jsonl"
      >>> _ = path.write_text('{"prompt": "a", "reward": [1, 2.5]}')
      >>> sb.scores.describe(path)
      {'prompt': 'varchar', 'reward': 'array'}
    """
    nothing = Wanted(
        (), (), None, None, None, None, (), "drop", None, _files.MOST_BYTES, None, None, None
    )
    return kinds_of(_files.files_of(path)[0], nothing)


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


def _spelled(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names with half pairs as JSON spells them, since they are no text."""
    return tuple(re.sub("[\ud800-\udfff]", lambda x: f"\\u{ord(x[0]):04x}", name) for name in names)


def _one_or_all(names: tuple[str, ...]) -> str | tuple[str, ...]:
    return names[0] if len(names) == 1 else names


# Pools -------------------------------------------------------------------------------------------


def _pools(path: Path, rows: Rows, wanted: Wanted, least: int, leave_one_out: bool) -> Scores:
    found, total = rows.columns, len(rows.code)
    keep, dropped, notes = np.ones(total, bool), [], list(rows.notes)
    scores = dict(rows.scores)
    for name, values in scores.items():
        lost = ~np.isfinite(values) & keep
        if not lost.any():
            continue
        if wanted.missing == "lose":
            lowest = np.min(values[np.isfinite(values)], initial=np.inf)
            scores[name] = np.where(lost, -np.inf if name in found.reward else lowest, values)
            notes.append(f"{lost.sum():,} responses without {name} are kept, and lose to any other")
        else:
            dropped.append(
                Dropped(f"no finite {name}", int(lost.sum()), int(rows.row[np.argmax(lost)]))
            )
            keep &= ~lost
    if rows.answer is not None and (lost := (rows.answer < 0) & keep).any():
        if wanted.missing == "lose":
            notes.append(f"{lost.sum():,} responses without {found.answer} are kept, each alone")
        else:
            reason = f"no {found.answer}"
            dropped.append(Dropped(reason, int(lost.sum()), int(rows.row[np.argmax(lost)])))
            keep &= ~lost
    if dropped:
        notes.append(
            "what is dropped is taken not to exist: if such responses are worse than others, every "
            "estimate is too high (--missing lose keeps them as draws that lose)"
        )
    sizes = np.bincount(rows.code[keep], minlength=len(rows.prompts))
    short = keep & (sizes < least)[rows.code]
    if short.any():
        reason = f"prompt with fewer than {least} responses"
        dropped.append(Dropped(reason, int(short.sum()), int(rows.row[np.argmax(short)])))
        keep &= ~short
    if not keep.any():
        reasons = "; ".join(f"{x.rows} rows: {x.reason}" for x in dropped)
        raise ValueError(f"{path}: nothing is left of {total} rows ({reasons})")
    order = np.flatnonzero(keep)
    order = order[np.argsort(rows.code[order], kind="stable")]
    present, sizes = np.unique(rows.code[order], return_counts=True)
    # Prompts appear in the order of their first row that is kept.
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.argsort(order[starts], kind="stable")
    if not np.array_equal(rank, np.arange(len(rank))):
        parts = np.split(order, starts[1:])
        order = np.concatenate([parts[i] for i in rank])
        present, sizes = present[rank], sizes[rank]
    if len(sizes) * sizes.max() > MOST_CELLS:
        raise ValueError(
            f"{path}: {len(sizes):,} prompts with up to {sizes.max():,} responses are too many to be "
            "padded to one size; leave the largest prompts out"
        )
    where = np.arange(sizes.max()) < sizes[:, None]

    def fill(values: np.ndarray, empty: Any = 0.0) -> np.ndarray:
        array = np.full((*where.shape, *values.shape[1:]), empty, values.dtype)
        array[where] = values[order]
        return array

    def mean(names: tuple[str, ...]) -> np.ndarray:
        if len(names) == 1:
            return fill(scores[names[0]])
        return fill(mean_last(np.stack([scores[name] for name in names], axis=-1)))

    offset = np.cumsum([0, *rows.read])[rows.file]
    judges = None
    if leave_one_out:
        judges = fill(np.stack([scores[name] for name in found.reward], axis=-1))
    response = None if found.text else found.response
    return Scores(
        prompts=tuple(rows.prompts[i] for i in present),
        rewards=mean(found.reward),
        gold=mean(found.gold) if found.gold else None,
        where=where,
        rows=fill(offset + rows.row - 1, -1),
        columns=Columns(
            " + ".join(found.prompt), _one_or_all(found.reward),
            _one_or_all(found.gold) if found.gold else None, response, leave_one_out, found.answer,
        ),
        read=sum(rows.read),
        dropped=tuple(dropped),
        judges=judges,
        places=fill(rows.place, -1) if rows.place.any() else None,
        notes=tuple(notes),
        answers=None if rows.answer is None else _labels(fill(rows.answer, -2), where),
    )  # fmt: skip


def _labels(answers: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Numbers of answers, `[prompts, N]` with -1 for none, counted anew from 0 within each prompt."""
    alone = answers.max() + 1 + np.arange(answers.size).reshape(answers.shape)
    answers = np.where(answers == -1, alone, answers)
    order = np.argsort(answers, axis=1, kind="stable")
    ranked = np.take_along_axis(answers, order, axis=1)
    first = np.take_along_axis(where, order, axis=1)
    first[:, 1:] &= ranked[:, 1:] != ranked[:, :-1]
    labels = np.empty_like(order)
    np.put_along_axis(labels, order, np.cumsum(first, axis=1) - 1, axis=1)
    return np.where(where, labels, 0)
