"""The workflow of continuous integration parses, runs targets of the Makefile, covers the matrix."""

import re
import tomllib
from pathlib import Path

import yaml

from tests import matrix

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
JOBS = yaml.safe_load(TEXT)["jobs"]
TARGETS = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_every_command_is_a_target_of_the_makefile():
    run = [command for job in JOBS.values() for command in commands(job)]
    assert len(run) >= 5
    named = {re.fullmatch(r"make (\S+|\$\{\{.*?\}\})( MATRIX=.*)?", line)[1] for line in run}
    from_matrix = "${{ matrix.target }}"
    assert named - {from_matrix} <= TARGETS
    assert set(JOBS["test"]["strategy"]["matrix"]["target"]) <= TARGETS


def test_the_matrix_is_that_of_the_project():
    cells = JOBS["matrix"]["strategy"]["matrix"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    stated = re.findall(r":: (3\.\d+)$", "\n".join(classifiers), flags=re.MULTILINE)
    assert cells["python"] == list(matrix.VERSIONS) == stated
    assert cells["jax"] == ["oldest", "newest"]
    assert {x.split("-")[0] for x in cells["os"]} == {"ubuntu", "macos"}


def test_what_is_published_waits_for_everything():
    checks = {name for name in JOBS if not name.startswith("publish")}
    assert set(JOBS["publish-wheel"]["needs"]) == checks
    assert set(JOBS["publish-docs"]["needs"]) == checks - {"wheel"}
    for name in set(JOBS) - checks:
        assert "refs/tags/v" in JOBS[name]["if"]
        assert "secrets." not in str(JOBS[name])


def test_ci_runs_the_same_targets():
    ours = set(re.findall(r"\b(\w+)\b", (ROOT / ".ci" / "run").read_text())) & TARGETS
    run = {word for job in JOBS.values() for line in commands(job) for word in line.split()}
    assert {"lint", "docs", "verify", "test", "slow"} <= ours
    assert ours - run <= set(JOBS["test"]["strategy"]["matrix"]["target"])
