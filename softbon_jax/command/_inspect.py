"""`softbon inspect`: what is in a file of scores, before anything is computed from it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import numpy as np

from softbon_jax import scores
from softbon_jax.command import _options, _terminal
from softbon_jax.scores import Scores, names_of

FAR = 10.0
"""Scores that many interquartile ranges from the median are called outliers."""


def run(options: argparse.Namespace) -> None:
    """Print what is in the files."""
    _options.check_file_options(options)
    _terminal.say("\n".join(_terminal.printable(line) for line in lines(options)))


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The columns, the pools, and the command that would analyze them."""
    yield f"{_options.named(options)}: columns"
    columns = scores.describe(options.file)
    width = min(max(map(len, columns), default=0), 40)
    for name, kind in list(columns.items())[:50]:
        yield f"  {name:{width}.40}  {kind:.60}"
    if len(columns) > 50:
        yield f"  and {len(columns) - 50} more"
    pools = _options.read(options, least=1)
    sizes = pools.where.sum(1)
    yield (
        f"{pools.read:,} rows, {len(pools.prompts):,} prompts with {sizes.min()} to {sizes.max()} "
        f"responses (prompt = {pools.columns.prompt}, {pools.columns.described})"
    )
    yield from pools.notes
    yield from (f"dropped {x.rows:,} rows, first row {x.first}: {x.reason}" for x in pools.dropped)
    yield from _of_scores("reward", pools.rewards, pools)
    if pools.gold is not None:
        yield from _of_scores("gold", pools.gold, pools)
    if pools.answers is not None:
        kinds = np.max(pools.answers, axis=1, where=pools.where, initial=0) + 1
        yield f"answers: {kinds.min()} to {kinds.max()} a prompt, median {np.median(kinds):g}"
    yield "to analyze it:"
    yield f"  {command(options, pools)}"


def _of_scores(role: str, values: np.ndarray, pools: Scores) -> Iterator[str]:
    known = values[pools.where]
    finite = known[np.isfinite(known)]
    low, quarter, middle, most, high = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1])
    tied = sum(
        int(np.sum(np.unique(x[w], return_counts=True)[1] > 1))
        for x, w in zip(values[:10_000], pools.where, strict=False)
    )
    yield f"{role}: {low:.4g} to {high:.4g}, median {middle:.4g}; {tied:,} ties within prompts"
    spread = most - quarter
    outliers = np.abs(finite - middle) > FAR * spread if spread > 0 else np.zeros(1, bool)
    if outliers.any():
        yield (
            f"{role}: {outliers.sum():,} of {finite.size:,} are far from all others (lowest {low:.4g}, "
            f"highest {high:.4g}): penalties of failures?"
        )
    if finite.size < known.size:
        yield f"{role}: {known.size - finite.size:,} draws are lost"


def command(options: argparse.Namespace, pools: Scores) -> str:
    """The command that reads the same pools, with every column by its name."""
    words = ["softbon", "analyze", *map(str, options.file)]
    prompt = pools.columns.prompt.split(" + ") if options.prompt == ["auto"] else options.prompt
    words += ["--prompt", *prompt, "--reward", *names_of(pools.columns.reward)]
    words += ["--gold", *(names_of(pools.columns.gold) or ("none",))]
    for name in ("answer", "where", "steps", "delimiter", "decimal", "encoding"):
        value = getattr(options, name)
        words += [f"--{name}", value] if value is not None else []
    words += ["--success", *options.success] if options.success else []
    words += ["--missing", options.missing] if options.missing != "error" else []
    return shlex.join(words)
