"""The table of claims: what is claimed, what was measured, the allowed range, pass or fail."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import rich.console
import rich.markup
import rich.table

import experiments
from experiments import runner
from experiments.claims import Claim

COLUMNS = ("experiment", "claim", "measured", "allowed", "")


def check(size: str, out: Path, console: rich.console.Console | None = None) -> list[Claim]:
    """The claims on all results of the config `size` in the folder `out`, computed where missing.

    Raises:
      runner.ResultError: a result of another config is in the way.
    """
    claims = []
    for name in experiments.NAMES:
        settings = getattr(experiments.module(name), size.upper())
        dataset = runner.execute(name, settings, out, console=console)
        claims += importlib.import_module(f"experiments.claims.{name}").claims(dataset)
    return claims


def as_table(claims: Sequence[Claim]) -> rich.table.Table:
    """For a terminal."""
    table = rich.table.Table(*COLUMNS, caption=_summary(claims), show_lines=True)
    for claim in claims:
        verdict = "[green]pass[/green]" if claim.passed else "[bold red]FAIL[/bold red]"
        cells = (claim.experiment, claim.claim, claim.measured, claim.allowed)
        table.add_row(*(rich.markup.escape(cell) for cell in cells), verdict)
    return table


def as_markdown(claims: Sequence[Claim]) -> str:
    """For a page on GitHub."""
    rows = [
        (x.experiment, x.claim, x.measured, x.allowed, "pass" if x.passed else "**FAIL**")
        for x in claims
    ]
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    table = "\n".join("| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in lines)
    return f"{table}\n\n{_summary(claims)}"


def as_json(claims: Sequence[Claim]) -> str:
    """For a program: a list of objects, NaN as null."""
    rows = [dataclasses.asdict(claim) for claim in claims]
    for row in rows:
        row["value"] = row["value"] if row["value"] == row["value"] else None
    return json.dumps(rows, indent=2, ensure_ascii=False)


def _escaped(cell: str) -> str:
    """With what Markdown would take as markup made literal."""
    for mark in ("\\", "*", "_", "|", "<"):
        cell = cell.replace(mark, "\\" + mark) if cell != "**FAIL**" else cell
    return cell


def _summary(claims: Sequence[Claim]) -> str:
    return f"{sum(claim.passed for claim in claims)} of {len(claims)} claims pass"
