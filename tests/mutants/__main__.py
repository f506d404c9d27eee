"""python -m tests.mutants: does anything notice when a formula is wrong?

`table.toml` lists single mistakes that somebody might make: a sign, n for n - 1, one divergence for the
other. Each is made in a copy of the repository; then the tests of its file run there, and the claims of
the experiments that use it, on the smoke settings. Who notices is printed and, with --markdown, written
to a page: what the tests kill, what the claims kill without them, and what nothing kills. The exit
status is 0 if at least 97 % are killed, and every survivor has its reason in the table.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("table.toml")
PACKAGE = "softbon_jax"
PARTS = ("softbon_jax", "experiments", "figures", "benchmarks", "tests", "docs", "README.md")
LEAST = 0.97
"""The share of the mutants that must be killed."""
PATIENCE, SLOWEST = 5.0, 180.0
"""A mutant is killed, too, if a file of tests or an experiment takes this many times as long as without
it, and longer than this many seconds."""
FLAGS = "--xla_backend_optimization_level=0"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One mistake, and who should notice it."""

    file: str
    what: str
    old: str
    new: str
    tests: tuple[str, ...]
    experiments: tuple[str, ...]
    survives: str | None = None
    public: bool = False

    @property
    def identity(self) -> str:
        """Changes with the mistake and with the file that it is made in."""
        source = (ROOT / PACKAGE / self.file).read_text()
        return hashlib.sha256("\0".join((source, self.old, self.new)).encode()).hexdigest()

    @contextlib.contextmanager
    def made_in(self, tree: Path) -> Iterator[None]:
        """The mistake is in a copy of the repository, and no longer there at the end."""
        path = tree / PACKAGE / self.file
        source = path.read_text()
        path.write_text(source.replace(self.old, self.new))
        try:
            yield
        finally:
            path.write_text(source)


def load(table: Path = TABLE) -> list[Mutant]:
    """The mutants of a table; `ValueError` for one that does not fit the source."""
    mutants = []
    for file, entry in tomllib.loads(table.read_text())["files"].items():
        source = (ROOT / PACKAGE / file).read_text()
        for row in entry["mutants"]:
            one = Mutant(
                file=file,
                tests=tuple(entry["tests"]),
                experiments=tuple(entry.get("experiments", ())),
                **row,
            )
            if source.count(one.old) != 1 or one.old == one.new:
                raise ValueError(f"{file}, {one.what!r}: its text must occur once and change")
            compile(source.replace(one.old, one.new), file, "exec")
            mutants.append(one)
    return mutants


# One copy of the repository for each worker -------------------------------------------------------


def copy_of_repository(folder: Path) -> Path:
    """The parts that tests and claims need."""
    skipped = shutil.ignore_patterns("__pycache__", "_build", "results")
    for name in (*PARTS, "pyproject.toml", "requirements"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skipped)
        else:
            shutil.copy(source, folder / name)
    return folder


@dataclasses.dataclass
class Copy:
    """A copy of the repository, and how long each check took there without any mistake."""

    tree: Path
    cache: Path
    seconds: dict[str, float]

    def passes(self, check: str, marks: str = "not slow and not long") -> bool:
        """Whether a file of tests, or an experiment computed afresh, passes here in time."""
        limit = max(SLOWEST, PATIENCE * self.seconds[check]) if check in self.seconds else None
        environment = os.environ | {
            "SOFTBON_CACHE": str(self.cache),
            "PYTHONDONTWRITEBYTECODE": "1",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip(),
        }
        with tempfile.TemporaryDirectory() as out:
            if check.endswith(".py"):
                how = ["pytest", "-x", "-q", "-m", marks, "-p", "no:cacheprovider", check]
            else:
                how = ["experiments", "verify", "--config", "smoke", "--out", out, "--only", check]
            try:
                done = subprocess.run(
                    [sys.executable, "-m", *how],
                    cwd=self.tree, env=environment, timeout=limit, check=False,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return False
        return done.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED)

    def baseline(self, mutants: Sequence[Mutant]) -> None:
        """Run every check once without a mistake; `ValueError` if one fails: no other means anything."""
        for check in dict.fromkeys(x for one in mutants for x in (*one.tests, *one.experiments)):
            began = time.perf_counter()
            if not self.passes(check):
                raise ValueError(f"{check} fails without any mistake")
            self.seconds[check] = time.perf_counter() - began

    def judge(self, mutant: Mutant) -> dict[str, Any]:
        """Who kills the mutant: the first file of tests and the first experiment that fail."""
        began = time.perf_counter()
        with mutant.made_in(self.tree):
            by_test = next((x for x in mutant.tests if not self.passes(x)), None)
            if by_test is None:
                by_test = next((x for x in mutant.tests if not self.passes(x, "slow")), None)
            by_claim = next((x for x in mutant.experiments if not self.passes(x)), None)
        seconds = time.perf_counter() - began
        return {"test": by_test, "claim": by_claim, "seconds": round(seconds, 1)}


def run(
    mutants: Sequence[Mutant], known: dict[str, dict[str, Any]], jobs: int, folder: Path
) -> Iterator[tuple[Mutant, dict[str, Any]]]:
    """(mutant, who kills it) as they come; those in `known` are not run again."""
    cache = Path(os.environ.get("SOFTBON_CACHE") or folder / "cache")
    yield from ((one, known[one.identity]) for one in mutants if one.identity in known)
    waiting = [one for one in mutants if one.identity not in known]
    if not waiting:
        return
    seconds: dict[str, float] = {}
    copies: queue.Queue[Copy] = queue.Queue()
    for i in range(jobs):
        copies.put(Copy(copy_of_repository(folder / f"copy{i}"), cache, seconds))
    copies.queue[0].baseline(waiting)

    def one_of(mutant: Mutant) -> tuple[Mutant, dict[str, Any]]:
        copy = copies.get()
        try:
            return mutant, copy.judge(mutant)
        finally:
            copies.put(copy)

    seen: collections.Counter[str] = collections.Counter()
    turn = {}
    for one in waiting:
        seen[one.file] += 1
        turn[one] = seen[one.file]
    waiting.sort(key=turn.__getitem__)  # one of every file, then a second
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(one_of, one) for one in waiting]
        for task in concurrent.futures.as_completed(tasks):
            yield task.result()


# The report ---------------------------------------------------------------------------------------


def page(results: Sequence[tuple[Mutant, dict[str, Any]]]) -> str:
    """The two lists and the survivors, as Markdown."""
    alive = [one for one, found in results if not (found["test"] or found["claim"])]
    killed = len(results) - len(alive)
    by_test = [(one, found["test"]) for one, found in results if found["test"]]
    by_claim = [(one, found["claim"]) for one, found in results if found["claim"]]
    public = [(one, found) for one, found in results if one.public]
    noticed = sum(bool(found["claim"]) for _, found in public)
    share = 100 * killed / len(results)
    files = len({one.file for one, _ in results})
    lines = [
        "# Mutants",
        "",
        "Single mistakes, each made in a copy of the repository, where the tests of its file and the",
        "claims of the experiments that use it (smoke settings) then run. Made by `make mutants`.",
        "",
        f"- {killed} of {len(results)} are killed ({share:.1f} %), number of files: {files};",
        f"- {len(by_test)} by tests, {len(by_claim)} by claims alone;",
        f"- the claims kill {noticed} of the {len(public)} that change a formula of a public function.",
    ]
    for title, rows in (("Killed by tests", by_test), ("Killed by claims alone", by_claim)):
        lines += ["", f"## {title}", "", "| file | mistake | noticed by |", "| --- | --- | --- |"]
        lines += [f"| {one.file} | {_cell(one.what)} | {who} |" for one, who in rows]
    lines += ["", "## Survivors", ""]
    lines += [f"- {one.file}: {one.what}. {one.survives or 'No reason is known.'}" for one in alive]
    return "\n".join(lines if alive else [*lines, "None."]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants: 0 if enough are killed, 1 if not, 2 if they cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="FILE", help="files of the package")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--known", type=Path, help="results so far, to go on with (JSON lines)")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")
    given = parser.parse_args(arguments)
    known: dict[str, dict[str, Any]] = {}
    if given.known and given.known.exists():
        records = map(json.loads, given.known.read_text().splitlines())
        known = {record.pop("identity"): record for record in records}
    results = []
    try:
        mutants = [one for one in load() if not given.only or one.file in given.only]
        with tempfile.TemporaryDirectory() as folder:
            for one, found in run(mutants, known, given.jobs, Path(folder)):
                results.append((one, found))
                who = " and ".join(filter(None, (found["test"], found["claim"]))) or "SURVIVES"
                print(f"{len(results)}/{len(mutants)} {one.file}: {one.what}: {who}", flush=True)
                if given.known and one.identity not in known:
                    with given.known.open("a") as file:
                        file.write(json.dumps({"identity": one.identity, **found}) + "\n")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    order = {one: i for i, one in enumerate(mutants)}
    results.sort(key=lambda pair: order[pair[0]])
    text = page(results)
    if given.markdown:
        given.markdown.write_text(text)
    alive = [one for one, found in results if not (found["test"] or found["claim"])]
    print(text.partition("\n## ")[0])
    enough = len(alive) <= (1 - LEAST) * len(results)
    return 0 if enough and all(one.survives for one in alive) else 1


if __name__ == "__main__":
    sys.exit(main())
