"""The table of claims: what is claimed and by whom, what was measured, the allowed range, the verdict.

It is printed for a terminal, as Markdown, as JSON or as JUnit XML, and saved as JSON or as JUnit XML,
which continuous integration shows as tests.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import rich.markup
import rich.table

import experiments
from experiments import runner, workers
from experiments.claims import Claim
from experiments.progress import Progress

COLUMNS = ("experiment", "claim", "measured", "allowed", "")


def steps(size: str, names: Sequence[str] = experiments.NAMES) -> int:
    """The number of steps of progress in computing the results of the config `size`."""
    modules = [experiments.module(name) for name in names]
    return sum(len(x.cells(getattr(x, size.upper()))) for x in modules)


def check(
    size: str,
    out: Path,
    names: Sequence[str] = experiments.NAMES,
    progress: Progress | None = None,
    *,
    force: bool = False,
    processes: int = 1,
    then: Callable[[workers.Task, str], object] | None = None,
) -> list[Claim]:
    """The claims on results of the config `size` in the folder `out`, computed where missing.

    Args:
      size: "smoke" or "paper".
      out: folder of results.
      names: of the experiments whose claims are checked.
      progress: counts the steps.
      force: compute again results that are up to date.
      processes: how many compute, a cell each at a time; 1 is this one. Results are the same.
      then: is called with what calls a function in one of the processes, and the name of an experiment
        whose result has been saved.

    Raises:
      ValueError: no experiment has one of the names.
    """
    if progress is None:
        with Progress(steps(size, names)) as own:
            return check(size, out, names, own, force=force, processes=processes, then=then)
    shown, processes = progress, min(processes, len(names))

    def of(name: str) -> list[Claim]:
        settings = getattr(experiments.module(name), size.upper())
        runner.execute(name, settings, out, force=force, progress=shown, call=call)
        if then is not None:
            then(call, name)
        claims: list[Claim] = call(claimed, name, out)
        return claims

    with workers.processes(processes) as call:
        return [claim for claims in workers.side_by_side(of, names, processes) for claim in claims]


def claimed(name: str, out: Path) -> list[Claim]:
    """The claims on the saved result of an experiment in the folder `out`."""
    claims: list[Claim] = importlib.import_module(f"experiments.claims.{name}").claims(
        runner.load(name, out)
    )
    return claims


def as_table(claims: Sequence[Claim]) -> rich.table.Table:
    """For a terminal."""
    table = rich.table.Table(*COLUMNS, caption=summary(claims), show_lines=True)
    for claim in claims:
        verdict = "[green]pass[/green]" if claim.passed else "[bold red]FAIL[/bold red]"
        cells = (claim.experiment, claim.claim, claim.measured, claim.allowed)
        table.add_row(*(rich.markup.escape(cell) for cell in cells), verdict)
    return table


def as_markdown(claims: Sequence[Claim]) -> str:
    """For a page on GitHub, with the source of each claim."""
    rows = [
        (x.experiment, x.claim, x.source, x.measured, x.allowed, "pass" if x.passed else "**FAIL**")
        for x in claims
    ]
    heads = (*COLUMNS[:2], "source", *COLUMNS[2:])
    lines = [heads, ("---",) * len(heads), *rows]
    table = "\n".join("| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in lines)
    return f"{table}\n\n{summary(claims)}"


def as_page(claims: Sequence[Claim], size: str) -> str:
    """The page of the documentation; other pages quote the rows between the two comments."""
    return f"""# The claims, as measured

Written by `python -m experiments reproduce --config {size}`, which computes every number here.
`make verify` checks the same claims on the `smoke` settings. A claim that fails ends either command with
exit status 1. Where the O(1/n) of a bound and the measured rate differ, the table says so: the bound
holds at every point, and the exponent is -2.

<!-- claims: begin -->
{as_markdown(claims)}
<!-- claims: end -->
"""


def as_json(claims: Sequence[Claim]) -> str:
    """For a program: a list of objects, with NaN as null."""
    rows = [dataclasses.asdict(claim) for claim in claims]
    for row in rows:
        row["value"] = row["value"] if row["value"] == row["value"] else None
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_junit(claims: Sequence[Claim]) -> str:
    """For continuous integration: JUnit XML, a suite per experiment and a test case per claim."""
    failed = [claim for claim in claims if not claim.passed]
    root = ET.Element(
        "testsuites", name="claims", tests=str(len(claims)), failures=str(len(failed)), errors="0"
    )
    for name in dict.fromkeys(claim.experiment for claim in claims):
        own = [claim for claim in claims if claim.experiment == name]
        failures = sum(not claim.passed for claim in own)
        suite = ET.SubElement(
            root, "testsuite", name=name, tests=str(len(own)), failures=str(failures), errors="0"
        )
        for claim in own:
            case = ET.SubElement(suite, "testcase", classname=f"claims.{name}", name=claim.claim)
            words = f"measured: {claim.measured}\nallowed: {claim.allowed}\nsource: {claim.source}"
            if not claim.passed:
                message = f"measured {claim.measured}, allowed {claim.allowed}"
                ET.SubElement(case, "failure", type="claim", message=message).text = words
            else:
                ET.SubElement(case, "system-out").text = words
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def summary(claims: Sequence[Claim]) -> str:
    """How many pass."""
    return f"{sum(claim.passed for claim in claims)} of {len(claims)} claims pass"


def _escaped(cell: str) -> str:
    """With the characters escaped that Markdown would take as markup."""
    for mark in ("\\", "*", "_", "|", "<"):
        cell = cell.replace(mark, "\\" + mark) if cell != "**FAIL**" else cell
    return cell
