"""The table of claims: true results pass, and each kind of false result fails by name."""

import dataclasses
import importlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from experiments import NAMES, runner
from experiments.__main__ import main
from experiments.claims import PAPER, TOLERANCES, Claim, agreement, at_most, bound, power_laws
from tests import smoke
from tests.false_results import PERTURBED

pytestmark = pytest.mark.slow  # the smoke results take minutes, where they are not there


def rows_of(name, dataset):
    return importlib.import_module(f"experiments.claims.{name}").claims(dataset)


@pytest.fixture(scope="module")
def claims():
    return smoke.claims()


def test_every_claim_passes(claims):
    assert [claim for claim in claims if not claim.passed] == []
    assert {claim.experiment for claim in claims} == set(NAMES)
    assert len(claims) >= 30
    assert len({(claim.experiment, claim.claim) for claim in claims}) == len(claims)


def test_fitted_exponents(claims):
    exponents = {x.claim: x.value for x in claims if "for a fixed problem" in x.claim}
    assert len(exponents) == 8
    for claim, value in exponents.items():
        expected = -2 if "n⁻²" in claim else -0.5 if claim.startswith("E ") else -1
        noisy = expected == -0.5
        tolerance = TOLERANCES.noisy_exponent if noisy else TOLERANCES.exponent
        assert value == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("name", "field", "change", "claim"), PERTURBED)
def test_a_false_result_fails(name, field, change, claim):
    true = smoke.result(name)
    false = true.assign({field: change(true, field).assign_attrs(true[field].attrs)})
    rows = [row for row in rows_of(name, false) if claim in row.claim]
    assert len(rows) >= 1
    assert not any(row.passed for row in rows)


def test_limits_of_the_temperature_fail_when_broken():
    true = smoke.result("frontier")
    wrong = true.copy(deep=True)
    wrong.kl_soft_base[:, 1, :] *= 1.01  # the smallest positive temperature
    wrong.reward[:, 5, 1:] *= 0.5
    failed = [row.claim for row in rows_of("frontier", wrong) if not row.passed]
    assert any(claim.startswith("λ → 0") for claim in failed)
    assert any("at most λ log n" in claim for claim in failed)


def test_a_law_that_converges_too_slowly_fails_by_its_rate():
    """A law that obeys every bound, but whose KL falls as 1/n only."""
    true = smoke.result("kl_rate").sel(problem=["four"])
    start = true.isel(n=0)
    false = true.assign(
        kl_tilted_soft=(start.kl_tilted_soft / (100 * true.n)).assign_attrs(
            true.kl_tilted_soft.attrs
        ),
        tv=(start.tv / true.n**0.5).assign_attrs(true.tv.attrs),
    )
    rows = {row.claim: row.passed for row in rows_of("kl_rate", false)}
    assert rows["KL(P*‖P_n) ≤ log(1 + CV²/n)"]
    failed = [claim for claim, passed in rows.items() if not passed]
    assert any(claim.startswith("KL(P*‖P_n) falls as") for claim in failed)
    assert any(claim.startswith("TV(P_n, P*) falls as") for claim in failed)
    assert any(claim.startswith("simulation of KL") for claim in failed)


def test_exit_status(monkeypatch, capsys):
    command = ["verify", "--config", "smoke", "--only", "kl_rate", "--out", str(smoke.results())]
    assert main(command) == 0
    load = runner.load

    def broken(name, out):
        dataset = load(name, out)
        return dataset.assign(tv=dataset.tv * 2) if name == "kl_rate" else dataset

    monkeypatch.setattr(runner, "load", broken)
    assert main(command) == 1
    assert "FAIL" in capsys.readouterr().out


def test_formats(claims, capsys):
    some = ["kl_rate", "samples_needed"]  # whose claims have bars in them
    out = ["--config", "smoke", "--out", str(smoke.results()), "--only", *some]
    assert main(["verify", "--format", "json", *out]) == 0
    rows = json.loads(capsys.readouterr().out)
    wanted = [dataclasses.asdict(x) for x in claims if x.experiment in some]
    assert rows == wanted
    assert main(["verify", "--format", "markdown", *out]) == 0
    table = capsys.readouterr().out.splitlines()[: len(wanted) + 2]
    assert any(r"\|" in line for line in table)
    # A bar inside a cell is escaped, so that every row has as many cells as the header.
    cells = [line.replace(r"\|", "").count("|") for line in table]
    assert set(cells) == {7}


def test_files_for_continuous_integration(claims, tmp_path, monkeypatch):
    out = ["--config", "smoke", "--out", str(smoke.results())]
    paths = [str(tmp_path / "ci" / x) for x in ("claims.xml", "claims.json")]
    some = ["--only", "threshold", "poisson"]
    options = ["verify", *out, *some, "--junit", paths[0], "--json", paths[1]]
    assert main(options) == 0
    root = ET.parse(paths[0]).getroot()
    assert [suite.get("name") for suite in root] == ["threshold", "poisson"]
    wanted = [x.claim for x in claims if x.experiment in ("threshold", "poisson")]
    assert [case.get("name") for case in root.iter("testcase")] == wanted
    assert root.get("tests") == str(len(wanted))
    assert root.get("failures") == "0"
    assert [x["claim"] for x in json.loads(Path(paths[1]).read_text())] == wanted

    load = runner.load

    def broken(name, out):
        dataset = load(name, out)
        return dataset.assign(gap=dataset.gap * 2) if "gap" in dataset else dataset

    monkeypatch.setattr(runner, "load", broken)
    assert main([*options, "--processes", "1"]) == 1  # which is this one
    root = ET.parse(paths[0]).getroot()
    failed = [x.get("name") for x in root.iter("testcase") if x.find("failure") is not None]
    assert root.get("failures") == str(len(failed))
    assert any("largest gap to the tilt" in name for name in failed)


def test_an_unknown_experiment_is_refused_before_work(tmp_path, capsys):
    assert main(["verify", "--only", "poisson", "dance", "--out", str(tmp_path)]) == 2
    assert "no experiment is called 'dance'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_claim_without_a_source_is_an_error():
    value = xr.DataArray([0.5])
    for make, arguments in (
        (at_most, ("kl_rate", "a claim", value, 1.0, "largest")),
        (bound, ("kl_rate", "a claim", value, value)),
        (power_laws, ("kl_rate", "KL", "1", *np.ones((4, 1)), -2)),
        (agreement, ("kl_rate", "a claim", *np.ones((5, 1)))),
    ):
        with pytest.raises(TypeError, match="source"):
            make(*arguments)
    with pytest.raises(TypeError, match="missing 1 required"):
        Claim("kl_rate", "a claim", "1", "≤ 1", True, 1.0)


def test_the_paper_is_credited_with_rates_alone(claims):
    """Its abstract states no constant: every form is derived here."""
    credited = [x for x in claims if PAPER in x.source]
    assert {x.experiment for x in credited} == {
        "kl_rate", "reward_rate", "blocks", "threshold", "samples_needed", "distillation"
    }  # fmt: skip
    for claim in credited:
        assert claim.source.startswith(("rate: ", "limit: ")), claim
        assert "here" in claim.source
    forms = ("log(1 + CV²/n)", "sinh²(Δ/2λ)/n", "M'/(n + M')")
    for form in forms:
        (claim,) = [x for x in claims if x.claim.endswith(f"≤ {form}")]
        assert claim.source == f"rate: {PAPER}; form: derived here"
