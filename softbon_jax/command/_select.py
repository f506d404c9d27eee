"""`softbon select`: the response of every prompt that is served."""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np

from softbon_jax import _checks, scores
from softbon_jax.command import _files, _options, _terminal
from softbon_jax.sampling.select import select


def run(options: argparse.Namespace) -> None:
    """Copy the file with one more column, that of the selection."""
    _options.check_file_options(options)
    if options.n is not None:
        _checks.positive_integer("--n", options.n)
    kind = scores.format_of(options.file)
    if kind not in ("csv", "jsonl", "parquet"):
        raise ValueError(
            f"{options.file}: select does not write {kind}; convert the file to CSV, JSON "
            "lines or Parquet"
        )
    if scores.format_of(options.out) != scores.format_of(options.file):
        raise ValueError(f"--out must be of the format of {options.file.name}, got {options.out}")
    with _files.naming("--out", options.out):
        _files.check_output(options.out)
    if kind == "parquet":
        _files.parquet()
    unchanged = _files.watch(options.file)
    pools = _options.read(options, least=1)
    if options.n is not None:
        short = int(np.argmin(pools.where.sum(1)))
        fewest = pools.where[short].sum()
        if fewest < options.n:
            raise ValueError(
                f"--n asks for {options.n}, prompt {pools.prompts[short]!r} has {fewest} responses"
            )
    n = pools.where.shape[1] if options.n is None else options.n
    index = select(
        jax.random.key(options.seed),
        pools.rewards[:, :n],
        options.temperature,
        where=pools.where[:, :n],
    )
    chosen = _chosen(pools, np.asarray(index))
    with _files.naming("--out", options.out), _files.replacing(options.out) as temporary:
        unchanged()
        _files.copy_with_column(options.file, temporary, options.column, chosen, name=options.out)
        unchanged()
    total = pools.read if pools.places is None else int(pools.where.sum())
    _terminal.say(
        f"{_terminal.printable(options.out)}: {len(pools.prompts)} of {total} responses selected"
    )


def _chosen(pools: scores.Scores, index: np.ndarray) -> list[Any]:
    """For each row 1 if it is selected, else 0; a list of them where a row holds several responses."""
    marks = np.zeros(pools.where.shape, int)
    marks[np.arange(len(index)), index] = 1
    if pools.places is None:
        flat = np.zeros(pools.read, int)
        flat[pools.rows[pools.where]] = marks[pools.where]
        return list(map(int, flat))
    rows: list[Any] = [[] for _ in range(pools.read)]
    order = np.argsort(pools.places[pools.where], kind="stable")
    for row, mark in zip(pools.rows[pools.where][order], marks[pools.where][order], strict=True):
        rows[row].append(int(mark))
    return rows
