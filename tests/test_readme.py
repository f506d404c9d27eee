"""The README is short, its Python prints what it shows, its links lead somewhere; the page of claims."""

import contextlib
import io
import json
import re
import statistics
from pathlib import Path

import pytest

import softbon_jax as sb
from experiments import NAMES
from tests import smoke

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "claims.md").read_text()
TABLE = PAGE.split("<!-- claims: begin -->")[1].split("<!-- claims: end -->")[0]
NUMBER = r"(-?[\d.]+(?:e[+-]\d+)?)"


def rows():
    """Cells of the table, without its two lines of head."""
    lines = [line for line in TABLE.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    return [[re.sub(r"\\(.)", r"\1", cell).strip() for cell in row] for row in cells]


def passes(measured, allowed):
    """The verdict, from the numbers as they are printed."""
    if " ± " in allowed:
        target, tolerance = map(float, allowed.split(" ± "))
        return abs(float(measured.split(" at worst")[0]) - target) <= tolerance
    if "rms" in allowed:
        worst, rms = re.match(
            rf"{NUMBER} standard errors at worst, {NUMBER} rms", measured
        ).groups()
        most, low, high = re.match(
            rf"≤ {NUMBER} at worst, {NUMBER} to {NUMBER} rms", allowed
        ).groups()
        return float(worst) <= float(most) and float(low) <= float(rms) <= float(high)
    if " below" in allowed:  # attained at the end of a family: both as printed, to six digits
        target, tolerance = map(
            float, re.fullmatch(rf"{NUMBER}, to {NUMBER} below", allowed).groups()
        )
        value = float(re.match(rf"exact/bound {NUMBER} at the end, ", measured)[1])
        return target - tolerance <= value <= target * (1 + 1e-5)
    (value,) = re.findall(rf"{NUMBER} \([\d,]+ points\)$", measured)
    return float(value) <= float(re.fullmatch(rf"≤ {NUMBER}", allowed)[1])


def test_it_is_short():
    assert len(TEXT.encode()) <= 6 * 1024


def test_quickstart_prints_what_it_shows():
    examples = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", TEXT, flags=re.S)
    assert len(examples) == TEXT.count("```python")
    namespace = {}
    for code, shown in examples:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "README.md", "exec"), namespace)
        assert out.getvalue() == shown
    # 16380995e-9 by multinomial enumeration.
    assert "KL(P*‖P_n) 0.016381" in examples[0][1]


def test_every_link_leads_somewhere():
    paths = re.findall(r"\]\((?!https:)(.*?)\)", TEXT)
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).is_file(), path


def test_the_speed_is_that_of_a_baseline():
    ((ms, times),) = re.findall(r"\| ([\d.]+) ms; NumPy counts, a point, ([\d,]+) times", TEXT)

    def measured(path):
        part = json.loads(path.read_text())["parts"]["sweep"]
        (seconds,) = (table["sweep"]["steady"] for table in part["seconds"].values())
        ratio = part["values"]["NumPy / sweep, a point"]["median"]
        return f"{1e3 * statistics.median(seconds):.1f}", f"{round(ratio, -3):,.0f}"

    assert (ms, times) in map(measured, (ROOT / "benchmarks" / "baselines").glob("*.json"))


def test_the_citation_names_the_version():
    (version,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version == sb.__version__
    (day,) = re.findall(
        r'^date-released: "(.*)"$', (ROOT / "CITATION.cff").read_text(), re.MULTILINE
    )
    assert f"\n## {version} - {day}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_verdicts_follow_from_the_numbers_beside_them():
    for experiment, claim, _, measured, allowed, verdict in rows():
        assert passes(measured, allowed) == (verdict == "pass"), (experiment, claim)


def test_every_experiment_has_claims_and_all_pass():
    assert list(dict.fromkeys(row[0] for row in rows())) == list(NAMES)
    passed = sum(row[-1] == "pass" for row in rows())
    assert TABLE.strip().splitlines()[-1] == f"{passed} of {len(rows())} claims pass"
    assert passed == len(rows())


@pytest.mark.slow
def test_claims_and_sources_are_those_of_the_code():
    """But for the numbers in them, which depend on the config."""

    def without_numbers(claims):
        return {
            (experiment, re.sub(r"[\d,.]*\d(, \d+)*", "#", claim), source)
            for experiment, claim, source in claims
        }

    shown = without_numbers(row[:3] for row in rows())
    made = without_numbers((x.experiment, x.claim, x.source) for x in smoke.claims())
    assert shown == made
