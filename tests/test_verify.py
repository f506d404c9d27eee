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
    assert len(exponents) == 5
    for claim, value in exponents.items():
        expected = {"KL": -2, "E ": -0.5}.get(claim[:2], -1)
        noisy = expected == -0.5
        tolerance = TOLERANCES.noisy_exponent if noisy else TOLERANCES.exponent
        assert value == pytest.approx(expected, abs=tolerance)


def scaled(factor):
    return lambda dataset, field: dataset[field] * factor


def slower(dataset, field):
    """A curve that falls one power of n more slowly, from the same start."""
    return dataset[field] * dataset.n


def faster(dataset, field):
    """A simulated curve that falls by n^-½ more, from the same start."""
    return dataset[field] / np.sqrt(dataset.simulated_n / dataset.simulated_n[0])


def noise_reported(dataset, field):
    """The noise floor where the estimate is silent."""
    return dataset[field].fillna(dataset[f"{field}_floor"])


def swapped(dataset, field):
    """Each simulator with the values of the other."""
    return dataset[field].copy(data=dataset[field].values[:, ::-1])


def shifted(errors):
    return lambda dataset, field: dataset[field] + errors * dataset[f"{field}_se"]


def longer(dataset, field):
    """A curve that grows with the length of the sequence."""
    return dataset[field] * dataset.length


def reversed_blocks(dataset, field):
    """The curves of the block sizes, each given to another."""
    return dataset[field].copy(data=dataset[field].values[::-1])


def one_nan(dataset, field):
    values = dataset[field].copy(deep=True)
    values[(0,) * values.ndim] = np.nan
    return values


PERTURBED = [
    ("kl_rate", "kl_tilted_soft", slower, "KL(P*‖P_n) falls as"),
    ("kl_rate", "kl_soft_tilted", slower, "KL(P_n‖P*) falls as"),
    ("kl_rate", "tv", slower, "TV(P_n, P*) falls as"),
    ("kl_rate", "kl_tilted_soft", scaled(1.02), "KL(P*‖P_n) · n² →"),
    ("kl_rate", "tv", scaled(0.98), "E_{P*}|1 + CV² - W|/2: ratio"),
    ("kl_rate", "kl_tilted_soft", scaled(30.0), "≤ log(1 + CV²/n)"),
    ("kl_rate", "kl_upper", scaled(1e-3), "≤ log(1 + CV²/n)"),
    ("kl_rate", "kl_upper_sinh", scaled(1e-3), "≤ sinh²(Δ/2λ)/n"),
    ("kl_rate", "kl_upper_quadratic", scaled(1e-3), "≤ the O(1/n²) bound"),
    ("kl_rate", "kl_tilted_soft", one_nan, "≤ log(1 + CV²/n)"),
    ("kl_rate", "kl_tilted_soft", one_nan, "KL(P*‖P_n) falls as"),
    ("kl_rate", "simulated_kl_tilted_soft", shifted(6), "simulation of KL(P*‖P_n)"),
    ("kl_rate", "simulated_kl_tilted_soft_se", scaled(3), "simulation of KL(P*‖P_n)"),
    ("kl_rate", "simulated_tv", shifted(6), "simulation of total variation"),
    ("reward_rate", "reward_gap", slower, "reward gap falls as"),
    ("reward_rate", "reward_gap", scaled(1.02), "Cov_{P*}(r, W): ratio"),
    ("reward_rate", "gap_upper", scaled(0.5), "≤ M'/(n + M')"),
    ("reward_rate", "gap_upper_crude", scaled(0.02), "≤ M/(n + M)"),
    ("reward_rate", "relative_reward_gap", scaled(-1), "never negative"),
    ("reward_rate", "reward", scaled(-1), "never falls"),
    ("reward_rate", "simulated_reward", shifted(6), "simulation of mean reward"),
    ("tv_rate", "tv", slower, "TV(P_n, P*) falls as"),
    ("tv_rate", "tv", scaled(1.02), "E_{P*}|1 + CV² - W|/2: ratio"),
    ("tv_rate", "tv", lambda dataset, field: dataset[field] * dataset.n**0.5, "no converse"),
    ("extremes", "ratio", scaled(1.1), "attained"),
    ("extremes", "ratio", scaled(0.9), "attained"),
    ("extremes", "kl_soft_base", scaled(-1), "never fall as real n"),
    ("extremes", "tv", scaled(-1), "never rise as real n"),
    ("extremes", "kl_upper_sinh", scaled(0.4), "each of its four bounds"),
    ("extremes", "kl_base_upper", scaled(0.5), "e^{-Δ/λ})) on random"),
    ("extremes", "kl_soft_base", scaled(1.1), "KL(P_n‖P) ≤ KL(P*‖P)"),
    ("extremes", "kl_tilted_base", scaled(1.5), "KL(P*‖P) ≤ (Δ/λ)²/8"),
    ("extremes", "hard_estimate", scaled(0.99), "Conjecture 4.4"),
    ("extremes", "kl_together", scaled(0.99), "two symbols"),
    ("extremes", "tied_law", scaled(1.01), "ties among them"),
    ("extremes", "poisson_law", scaled(1.01), "the mixture"),
    ("extremes", "two_kl", scaled(1.01), "E[A log A], A the mean"),
    ("extremes", "two_entropy", scaled(1.01), "E[A log A] is at most"),
    ("extremes", "two_entropy", scaled(1.01), "two outcomes: E[A log A]"),
    ("extremes", "searched", scaled(1.01), "searched for problems"),
    ("tv_rate", "fluctuation", faster, "E TV(R, P*) falls as"),
    ("tv_rate", "fluctuation", scaled(1.1), "its normal limit: ratio"),
    ("tv_rate", "tv", scaled(10.0), "TV(P_n, P*) ≤ E TV(R, P*)"),
    ("simulation_check", "simulated_reward", shifted(6), "mean reward of the selected"),
    ("simulation_check", "simulated_reward_se", scaled(3), "mean reward of the selected"),
    ("simulation_check", "simulated_reward_se", scaled(1 / 3), "mean reward of the selected"),
    ("simulation_check", "simulated_kl_soft_base", shifted(6), ": KL(P_n‖P) agrees"),
    ("simulation_check", "simulated_kl_tilted_soft", shifted(6), ": KL(P*‖P_n) agrees"),
    ("simulation_check", "simulated_tv", shifted(6), ": total variation between"),
    ("simulation_check", "simulated_law_deviation", scaled(3), "every probability agrees"),
    ("simulation_check", "simulated_tv", noise_reported, "below the noise"),
    ("simulation_check", "simulated_law_se", swapped, "not noisier than literal"),
    ("frontier", "kl_soft_base", scaled(0.9), "by exactly λ KL"),
    ("frontier", "kl_soft_tilted", scaled(0.9), "by exactly λ KL"),
    ("frontier", "kl_soft_tilted", scaled(-1), "falls as n grows, at every λ"),
    ("frontier", "kl_soft_tilted", scaled(100.0), "spans the frontier"),
    ("frontier", "kl_base_upper", scaled(0.5), "e^{-Δ/λ}"),
    ("frontier", "best_of_n_kl", scaled(0.9), "≤ log n - (n-1)/n"),
    ("frontier", "win_rate", scaled(1.01), "win rate ≤ n/(n+1)"),
    ("frontier", "base_variance", scaled(1.01), "Var_P(r)/λ"),
    ("frontier", "base_variance", scaled(1.01), "Var_P(r)/2λ²"),
    ("frontier", "base_reward", scaled(1.01), "the reference law itself"),
    ("pool_frontier", "pool_mean", scaled(1.01), "n = 1"),
    ("pool_frontier", "kl_tilted_base", scaled(1.1), "by exactly λ KL"),
    ("pool_frontier", "kl_soft_base", scaled(1.1), "≤ log n - (n-1)/n"),
    ("pools", "pool_mean", scaled(1.01), "n = 1"),
    ("pools", "proxy_reward_mean", scaled(-1), "mean proxy reward never falls"),
    ("pools", "kl_mean", scaled(1.1), "≤ log n - (n-1)/n, for n up to N/2"),
    ("pools", "chosen", scaled(0.0), "no point within the KL"),
    ("pools", "p_value", one_nan, "turns down in gold"),
    ("pools", "gold_drop", scaled(-1), "more pairs over-optimize less"),
    ("estimator_bias", "bias", shifted(8), "the U-statistic is unbiased"),
    ("estimator_bias", "bias", scaled(0.01), "biased low at n = N"),
    ("estimator_bias", "large_bias", shifted(6), "the mean U-statistic of"),
    ("estimator_bias", "coverage", scaled(0.8), "hold the truth"),
    ("estimator_bias", "jackknifed_kl", lambda dataset, field: dataset.plug_in_kl, "the jackknife"),
    ("estimator_bias", "left_out", shifted(7), "the judge left out"),
    ("estimator_bias", "by_the_same", scaled(-1), "judges who select and value"),
    ("estimator_bias", "advised_value", lambda dataset, field: dataset.largest_mean, "corrected"),
    ("estimator_bias", "false_alarms", scaled(10.0), "equal gold at every n"),
    ("rivals", "race_tv", scaled(10), "race: TV ≤"),
    ("rivals", "race_tv", one_nan, "race: TV ≤"),
    ("rivals", "rejection_tv", scaled(30), "rejection: TV ≤"),
    ("rivals", "race_tv", lambda dataset, field: dataset.soft_tv * 1.01, "nearer to the tilted"),
    ("rivals", "plane_kl", scaled(0.9), "of every rule is below"),
    ("rivals", "race_tv", scaled(0.5), "race: TV ≥"),
    ("rivals", "rejection_tv", scaled(0.5), "rejection: TV ≥"),
    ("rivals", "plane_total", scaled(1.05), "has a law"),
    ("rivals", "simulated_race_exact", scaled(1.5), "agrees with the closed form"),
    ("hard_limit", "kl", scaled(1.1), "KL ≤ log n - (n-1)/n"),
    ("hard_limit", "kl", scaled(1.1), "the mean of Beirami's estimator"),
    ("hard_limit", "kl_ceiling", scaled(0.9), "KL ≤ KL of the best outcome"),
    ("hard_limit", "kl_estimate", scaled(1.1), "estimator ≤ log n"),
    ("hard_limit", "win_rate", scaled(1.01), "win rate ≤ n/(n+1)"),
    ("hard_limit", "kl", scaled(1 + 1e-5), "KL = 2.30228"),
    ("hard_limit", "kl", scaled(0.9), "holds to 1%"),
    ("hard_limit", "win_rate", scaled(0.999), "holds to 0.01%"),
    ("poisson", "kl", scaled(0.99), "no rule is cheaper"),
    ("poisson", "gap", scaled(1.01), "largest gap to the tilt"),
    ("poisson", "gap", lambda dataset, field: dataset[field] * dataset.n**0.5, "it is near"),
    (
        "poisson",
        "gap",
        lambda dataset, field: dataset[field][::-1].values + 0 * dataset[field],
        "best-of-Poisson is nearer",
    ),
    (
        "stopping",
        "reward",
        lambda dataset, field: dataset[field][:, ::-1].values + 0 * dataset[field],
        "no more than a fixed",
    ),
    (
        "stopping",
        "reward",
        lambda dataset, field: dataset[field][:, ::-1].values + 0 * dataset[field],
        "geometric number",
    ),
    ("stopping", "reward", lambda dataset, field: dataset[field] * dataset.n, "concave in real n"),
    ("stopping", "reward", scaled(1.5), "nets more than z"),
    ("stopping", "excess", scaled(1.01), "solves E(r - z)+"),
    ("stopping", "net", scaled(0.99), "is z itself"),
    ("stopping", "net", scaled(0.9), "the best fixed n"),
    ("stopping", "stopped_reward", scaled(0.999), "2 E[N] - 1"),
    ("stopping", "stopped_reward", scaled(0.9), "more than the tilted"),
    (
        "judges",
        "gumbel_difference",
        lambda dataset, field: dataset[field] + 1e-8,
        "Gumbel(λ) noise",
    ),
    (
        "judges",
        "regressed",
        lambda dataset, field: dataset[field] + 1e-8,
        "regression on the score",
    ),
    ("beyond", "coverage", scaled(0.5), "hold the truth at n = 4N"),
    ("beyond", "coverage", scaled(0.5), "7 times in 10"),
    ("beyond", "bias", scaled(100.0), "off by less than a tenth"),
    ("beyond", "resolved", lambda dataset, field: dataset[field] * 0 + 1, "are refused"),
    ("judges", "gold", scaled(-1), "more noise never"),
    ("judges", "gold", scaled(-1), "more draws never"),
    ("judges", "gold_of_calls", scaled(-1), "several scores"),
    ("judges", "gold_of_calls", scaled(-1), "beat a second score"),
    ("judges", "gold", lambda dataset, field: dataset[field] * 0 + dataset.n, "few draws earn"),
    ("orders", "renyi", lambda dataset, field: dataset[field] * dataset.n**0.1, "falls as n⁻²"),
    ("orders", "renyi", scaled(1.05), "α Var_{P*}(W)/2"),
    ("orders", "renyi", lambda dataset, field: dataset[field] * dataset.n**0.1, "falls as n⁻¹"),
    ("orders", "largest_coefficient", scaled(1.05), "1 + CV² - min W"),
    ("orders", "renyi", scaled(1 + 1e-8), "D_1 is KL"),
    ("orders", "chi2", scaled(1 + 1e-8), "D_2 is log"),
    ("orders", "renyi", scaled(-1), "rises with α"),
    ("orders", "largest_ratio", scaled(1.1), "what n draws can reveal"),
    ("orders", "largest_ratio", scaled(0.9), "within a tenth"),
    ("orders", "proxy_cvar", scaled(-1), "worst share rises"),
    (
        "orders",
        "failures",
        lambda dataset, field: dataset[field] * dataset.tail_n,
        "at most n times",
    ),
    ("orders", "gold_cvar", lambda dataset, field: dataset.gold, "turns down before"),
    ("hedging", "best", scaled(1.1), "gold is largest"),
    ("hedging", "best", scaled(1.1), "√(p(p+1))"),
    ("hedging", "best_gold", scaled(0.9), "no point of a curve"),
    ("hedging", "gold_by_tilt", lambda dataset, field: dataset.best_gold, "misses the optimum"),
    ("hedging", "common_gold", scaled(0.5), "no common n"),
    ("hedging", "each_gold", scaled(0.9), "for each prompt"),
    ("hedging", "budget_used", scaled(1.1), "budgets of draws"),
    ("hedging", "price_kl", scaled(0.5), "price of a nat"),
    ("hedging", "price_draws", lambda dataset, field: dataset[field] + 1.0, "price of a draw"),
    (
        "distillation",
        "distance",
        lambda dataset, field: dataset[field] + 1e-5,
        "ends at the tilted",
    ),
    (
        "distillation",
        "kl_policy_soft",
        lambda dataset, field: dataset[field] + dataset.n * 1.0,
        "nearer to the trained",
    ),
    ("training", "gap", lambda dataset, field: dataset[field] + 0.02, "credits from groups"),
    ("training", "gap", lambda dataset, field: dataset[field] + 0.02, "students of the soft rule"),
    (
        "training",
        "net",
        lambda dataset, field: dataset[field][::-1].values + 0 * dataset[field],
        "nets most",
    ),
    ("training", "kl", lambda dataset, field: -dataset[field] + 2.0, "moves the policy less"),
    (
        "training",
        "gap",
        lambda dataset, field: dataset[field] * (1 + 1.0 * (dataset.learner == "weights")),
        "a student that weighs",
    ),
    ("blocks", "kl_tilted_soft", scaled(0.9), "≥ m D - log n"),
    ("blocks", "kl_upper", scaled(0.5), "≤ log(1 + ((1 + CV²)^m - 1)/n)"),
    ("blocks", "kl_symbol", scaled(1.01), "m times that of one symbol"),
    ("blocks", "kl_symbol", scaled(1.01), "all schemes agree"),
    ("blocks", "kl_tilted_soft", scaled(-1), "larger blocks are farther"),
    ("blocks", "reward_calls", scaled(2.0), "blocks scored"),
    ("threshold", "kl_per_symbol", scaled(0.9), "≥ D - R"),
    ("threshold", "kl_per_symbol", one_nan, "≥ D - R"),
    ("threshold", "kl_upper", scaled(0.5), "((1 + CV²)^m - 1)/n)/m"),
    ("threshold", "kl_limit_upper", scaled(0.5), "s/2√m"),
    ("threshold", "limit", scaled(1.1), "away from the corner"),
    ("threshold", "kl_per_symbol", longer, "largest excess"),
    ("threshold", "kl_per_symbol", scaled(-1), "falls as n grows"),
    ("threshold", "threshold", scaled(2.0), "exponent D"),
    ("gain", "gain_upper", scaled(0.5), "≤ Δ√(log n/2m)"),
    ("gain", "frontier", scaled(0.9), "gain ≤ that of the tilted law"),
    ("gain", "tilted_gain", scaled(0.9), "gain ≤ that of the target"),
    ("gain", "gain", scaled(-1), "never falls"),
    ("gain", "gain", scaled(0.5), "hard best-of-n approaches"),
    ("memory", "kl_tilted_soft", lambda dataset, field: dataset[field] * dataset.n, "falls as n⁻²"),
    ("memory", "coefficient", scaled(1.1), "Σ E Var(W_t)/2: ratio"),
    ("memory", "kl_tilted_soft", scaled(0.9), "≥ KL(P*‖P) - log n"),
    ("memory", "kl_whole", scaled(1.1), "(1 - R)+"),
    (
        "memory",
        "kl_tilted_soft",
        lambda dataset, field: dataset[field] / dataset.n,
        "tend to another law",
    ),
    (
        "memory",
        "coefficient",
        lambda dataset, field: dataset[field] ** 2,
        "rise in proportion to m",
    ),
    (
        "memory",
        "kl_tilted_soft",
        lambda dataset, field: dataset[field][:, ::-1].values + 0 * dataset[field],
        "nearer than all other schemes",
    ),
    ("memory", "floor", lambda dataset, field: dataset[field] ** 0.5, "has the exponent 2"),
    ("memory", "floor_coefficient", scaled(1.1), "Σ E Var(error)/2λ²"),
    ("samples_needed", "log_n_blocks", scaled(0.8), "log n ≥ m D - ε"),
    ("samples_needed", "log_n_upper", scaled(0.5), "log n ≤ log("),
    ("samples_needed", "log_n_blocks", scaled(2.0), "m D + O(√m)"),
    ("samples_needed", "log_n_symbols", scaled(1.5), "n grows like √m"),
    ("decoding", "decoded_reward", shifted(6), "mean reward of decoded"),
    ("decoding", "decoded_kl_soft_base", shifted(6), "KL(P_n‖P) of decoded"),
    ("decoding", "kl_soft_base", scaled(0.8), "no decoding beats"),
    ("decoding", "reward", scaled(1.2), "no decoding beats"),
    ("decoding", "reward", reversed_blocks, "with many candidates"),
]


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
    execute = runner.execute

    def broken(name, *arguments, **options):
        dataset = execute(name, *arguments, **options)
        return dataset.assign(tv=dataset.tv * 2) if name == "kl_rate" else dataset

    monkeypatch.setattr(runner, "execute", broken)
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

    execute = runner.execute

    def broken(*arguments, **options):
        dataset = execute(*arguments, **options)
        return dataset.assign(gap=dataset.gap * 2) if "gap" in dataset else dataset

    monkeypatch.setattr(runner, "execute", broken)
    assert main(options) == 1
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
