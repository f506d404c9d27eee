"""Pools of reward scores from a CSV file, or made up: a padded array with a mask."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd


class Pools(NamedTuple):
    """Scores of several prompts' candidates.

    Attributes:
      prompts: their identifiers, in order of first appearance.
      rewards: `[prompts, N]`, 0 where there is no candidate.
      where: `[prompts, N]`, whether there is one.
    """

    prompts: list[str]
    rewards: np.ndarray
    where: np.ndarray


def read(path: Path, prompt_column: str, score_column: str) -> Pools:
    """The pools of a CSV file, plain or gzipped, with one row a candidate.

    Raises:
      ValueError: the file is not such a CSV, lacks a column or has no rows, or a prompt is empty
        or a score is not a finite number, naming the column and the row (1 is the first below the
        header).
      OSError: the file cannot be read.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path}: not a CSV file with a header: {error}") from None
    except (UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not a plain or gzipped text file: {error}") from None
    for column in (prompt_column, score_column):
        if column not in table.columns:
            raise ValueError(
                f"{path}: no column {column!r}; the columns are {', '.join(table.columns)}"
            )
    if table.empty:
        raise ValueError(f"{path}: no rows below the header")
    prompts, text = table[prompt_column].str.strip(), table[score_column].str.strip()
    if (text == "").all():
        raise ValueError(f"{path}: column {score_column!r} is empty in all {len(text)} rows")
    scores = pd.to_numeric(text, errors="coerce").to_numpy(float)
    for column, values, bad, wanted in (
        (prompt_column, prompts, (prompts == "").to_numpy(), "an identifier"),
        (score_column, text, ~np.isfinite(scores), "a finite number"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            found = repr(values.iloc[row]) if values.iloc[row] else "empty"
            more = f" (and {bad.sum() - 1} rows more)" if bad.sum() > 1 else ""
            raise ValueError(
                f"{path}: row {row + 1}, column {column!r} must be {wanted}, is {found}{more}"
            )
    return _padded(
        {str(p): scores[rows] for p, rows in prompts.groupby(prompts, sort=False).indices.items()}
    )


def made_up(prompts: int, seed: int) -> Pools:
    """Ragged pools of 12 to 32 candidates: prompts differ in mean, in spread and in skewness."""
    random = np.random.default_rng(seed)
    pools = {}
    for index in range(prompts):
        noise = random.gamma(random.uniform(1, 8), size=random.integers(12, 33))
        pools[f"made up {index}"] = random.normal() + random.uniform(0.3, 1) * noise
    return _padded(pools)


def _padded(pools: dict[str, np.ndarray]) -> Pools:
    sizes = np.array([len(scores) for scores in pools.values()])
    where = np.arange(sizes.max()) < sizes[:, None]
    rewards = np.zeros(where.shape)
    rewards[where] = np.concatenate(list(pools.values()))
    return Pools(list(pools), rewards, where)
