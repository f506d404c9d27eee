"""`softbon analyze`: reward and KL at each n and λ, and the best point."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from softbon_jax import _checks, scores
from softbon_jax.command import (
    _files,
    _options,
    _processes,
    _terminal,
    advice,
    compilation_cache,
    report,
)

FEW = 512
"""With fewer prompts most of the time is compilation, which is then made quick."""


def run(options: argparse.Namespace) -> None:
    """Analyze the files and write what is asked for."""
    if options.distributed:
        _processes.join()  # before anything is computed
    _options.check_file_options(options)
    if options.answer is not None and (options.leave_one_out or options.gold == ["none"]):
        other = "--leave-one-out" if options.leave_one_out else "--gold none"
        raise ValueError(
            f"--answer {options.answer} needs a gold score that says how good each answer is, "
            f"not {other}"
        )
    _options.positive("--kl", options.kl)
    _options.positive("--budget-n", options.budget_n)
    for size in options.n or ():
        _checks.positive_integer("--n", size)
    if _processes.first():
        outputs = {"--html": options.html, "--json": options.json}
        _check_outputs(outputs, scores.files_of(options.file))
    if options.html:
        report.drawing()
    with _terminal.progress() as tell:
        text = _analysis(options, tell)
    if _processes.first():
        _terminal.say(text)


def _analysis(options: argparse.Namespace, tell: Callable[[str], None]) -> str:
    """The report of `run`, once its options are checked; every step is told."""
    tell(f"reading {_options.named(options)}")
    pools = _options.read(options, least=2)
    if pools.answers is not None and pools.gold is None:
        raise ValueError(
            f"--answer {options.answer} needs a gold score that says how good each answer is (--gold)"
        )
    if len(pools.where) < FEW:
        compilation_cache.quick()
    largest = int(pools.where.sum(1).max())
    if max(options.n or [1]) > largest:
        raise ValueError(f"--n must be at most {largest}, the largest pool, got {max(options.n)}")
    known = [x for x in (pools.rewards, pools.gold) if x is not None]
    if max(np.abs(x[np.isfinite(x)]).max(initial=0.0) for x in known) > _options.LARGEST:
        raise ValueError(
            f"{_options.named(options)}: scores beyond {_options.LARGEST:g} overflow; rescale them"
        )
    n = advice.default_n(pools) if options.n is None else np.array([1, *options.n])
    temperature = (
        advice.default_temperatures(pools)
        if options.temperature is None
        else np.unique(options.temperature)
    )

    def estimating(of: str = "") -> Callable[[int, int], None]:
        def told(done: int, total: int) -> None:
            part = f", part {min(done + 1, total)} of {total}" if total > 1 else ""
            tell(f"estimating{of}{part}")

        return told

    how = {"float32": options.float32}
    table = advice.tabulate(pools, n, temperature, tell=estimating(), **how)
    tell("resampling prompts")
    choice = advice.choose(table, kl=options.kl, n=options.budget_n, seed=options.seed)
    limits = [f"mean KL ≤ {options.kl:g} nats"] if options.kl is not None else []
    limits += [f"n ≤ {options.budget_n}"] if options.budget_n is not None else []
    per_prompt = None
    # Where all prompts have the lowest λ of the grid, no other λ spends that KL.
    if choice.ok and choice.n > 1 and choice.temperature > table.temperature.min():
        told = estimating(" on half of the responses")
        halves = advice.halves(pools, table, choice.n, seed=options.seed, tell=told, **how)
        per_prompt = advice.per_prompt_temperatures(table, choice.n, choice.kl, halves=halves)
    verdicts = {}
    if table.gold is not None:
        # The lowest temperature, where selection is strongest, and the recommended one.
        asked = {*table.temperature[:1], *([choice.temperature] if choice.ok else [])}
        for t in sorted(t for t in asked if np.isfinite(t)):
            verdicts[float(t)] = advice.overoptimized(table, t, seed=options.seed)
    ballot = None
    if pools.answers is not None:
        tell("counting votes")
        usual = choice.ok and 0 < choice.temperature < np.inf
        shared = choice.temperature if usual else None
        ballot = advice.ballot(pools, table, shared, seed=options.seed)
    analysis = report.Analysis(
        source=_options.named(options),
        scores=pools,
        table=table,
        budget=" and ".join(limits) or "any budget",
        choice=choice,
        per_prompt=per_prompt,
        verdicts=verdicts,
        ballot=ballot,
    )
    if not _processes.first():
        return ""
    # Everything is made before anything is written.
    tell("drawing" if options.html else "writing")
    page = report.as_html(analysis) if options.html else None
    numbers = (
        json.dumps(report.as_json(analysis), indent=1, allow_nan=False) if options.json else None
    )
    for option, path, text in (("--html", options.html, page), ("--json", options.json, numbers)):
        if text is not None:
            with _files.naming(option, path), _files.replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
    return report.as_text(analysis)


def _check_outputs(outputs: dict[str, Path | None], sources: Sequence[Path]) -> None:
    """That every output can be written, and that none replaces another or the scores."""
    seen = {os.path.realpath(source): "the file of scores" for source in sources}
    for option, path in outputs.items():
        if path is None:
            continue
        with _files.naming(option, path):
            _files.check_output(path)
        place = os.path.realpath(path)
        if place in seen and (path.is_file() or not path.exists()):
            raise ValueError(f"{option} {path} is {seen[place]}; name another file")
        seen[place] = f"also the file of {option}"
