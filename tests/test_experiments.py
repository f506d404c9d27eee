"""Experiments: labeled results, saved once, resumed, never mixed up; pools read from score files."""

import dataclasses
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import softbon_jax
from experiments import NAMES, module, pool_frontier, run, runner
from experiments.__main__ import main
from softbon_jax.command import replacing
from tests import oracles, smoke

TINY = dataclasses.replace(
    pool_frontier.SMOKE, temperatures=3, made_up=6, prompts_per_cell=2, n=(1, 2)
)
OTHER_SEED = 24
"""Its longest pool is as long as that of `TINY`, so that nothing is compiled again."""


def execute(config, out, **options):
    return runner.execute("pool_frontier", config, out, progress=smoke.QUIET, **options)


def said():
    """What has been said since the last call."""
    file = smoke.QUIET.console.file
    text = file.getvalue()
    file.seek(0)
    file.truncate()
    return " ".join(text.split())


@pytest.fixture
def computed(monkeypatch):
    """The cells that are computed from here on, in order; raises at the one called `fail`."""
    original, cells, state = pool_frontier.compute, [], {"fail": None}

    def compute(config, cell):
        if cell == state["fail"]:
            raise KeyboardInterrupt
        cells.append(cell)
        return original(config, cell)

    monkeypatch.setattr(pool_frontier, "compute", compute)
    return cells, state


# Results ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_results_are_labeled_and_complete(name):
    result = smoke.result(name)
    for variable in result.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]
        partly = variable.name.startswith("simulated") or name in ("beyond", "tails")  # refused
        if not partly:
            assert not variable.isnull().any(), variable.name
    if "temperature" in result.coords:
        assert result.temperature.attrs["units"] == "reward units"
    assert result.attrs["title"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kl_rate", "reward_rate"])
def test_estimates_come_with_standard_errors(name):
    result = smoke.result(name)
    fields = [x for x in result if f"{x}_se" in result]
    assert len(fields) == 3
    for field in fields:
        seen = result[field].notnull()
        assert float(seen.mean()) > 0.8
        # At n = 1 the counts alone give the law of two outcomes: their control leaves no error.
        assert float((result[f"{field}_se"].where(seen, drop=True) >= 0).mean()) == 1
        assert float((result[f"{field}_se"] > 0).mean()) > 0.8


@pytest.mark.slow
def test_saved_result_is_what_run_returns(tmp_path):
    saved = execute(TINY, tmp_path)
    xr.testing.assert_identical(saved, run("pool_frontier", TINY))


@pytest.mark.slow
def test_problem_names_survive():
    config = module("kl_rate").SMOKE
    assert tuple(smoke.result("kl_rate").problem.values) == config.problems


# The runner ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_manifest(tmp_path):
    execute(TINY, tmp_path)
    manifest = json.loads((tmp_path / "pool_frontier" / "manifest.json").read_text())
    basis = manifest["basis"]
    assert basis["config"] == json.loads(json.dumps(dataclasses.asdict(TINY)))
    assert basis["precision"] == "float64"
    assert basis["jaxlib"] == manifest["packages"]["jaxlib"]
    assert manifest["data_sha256"] == runner._sha256_of_file(tmp_path / "pool_frontier" / "data.nc")
    assert manifest["device"].startswith("cpu")
    assert manifest["rows"] == 6 * 5 * 2
    assert manifest["wall_seconds"] > 0
    assert {"jax", "numpy", "softbon-jax"} <= set(manifest["packages"])
    assert {"commit", "dirty"} <= set(manifest)


def test_equal_configs_give_equal_bytes(tmp_path):
    for folder in "ab":
        execute(TINY, tmp_path / folder)
    one, two = ((tmp_path / folder / "pool_frontier" / "data.nc").read_bytes() for folder in "ab")
    assert one == two


def test_a_stopped_run_is_continued(tmp_path, computed):
    cells, state = computed
    state["fail"] = "4-5"
    with pytest.raises(KeyboardInterrupt):
        execute(TINY, tmp_path / "stopped")
    assert cells == ["0-1", "2-3"]
    with pytest.raises(runner.ResultError, match="no result"):
        runner.load("pool_frontier", tmp_path / "stopped")
    state["fail"] = None
    execute(TINY, tmp_path / "stopped")
    assert cells == ["0-1", "2-3", "4-5"]
    execute(TINY, tmp_path / "straight")
    assert len(cells) == 6
    stopped, straight = (
        (tmp_path / folder / "pool_frontier" / "data.nc").read_bytes()
        for folder in ("stopped", "straight")
    )
    assert stopped == straight
    assert not list((tmp_path / "stopped" / ".cells").iterdir())


def test_shares_of_the_cells_are_found(tmp_path, computed, monkeypatch):
    """Two shares, one of them stopped and started again, give the bytes of one run."""
    cells, state = computed
    monkeypatch.setattr(pool_frontier, "SMOKE", TINY)

    def share(part):
        own = f"share {part} --config smoke --only pool_frontier --processes 1 --out".split()
        return main([*own, str(tmp_path / "shared")])

    state["fail"] = "4-5"
    with pytest.raises(KeyboardInterrupt):
        share("0/2")
    state["fail"] = None
    assert share("1/2") == share("0/2") == 0
    assert cells == ["0-1", "2-3", "4-5"]
    execute(TINY, tmp_path / "shared")
    assert len(cells) == 3
    assert share("0/2") == 0
    assert len(cells) == 3
    execute(TINY, tmp_path / "straight")
    one, two = (
        (tmp_path / folder / "pool_frontier" / "data.nc").read_bytes()
        for folder in ("shared", "straight")
    )
    assert one == two


@pytest.mark.slow
def test_cells_of_another_config_are_not_reused(tmp_path, computed):
    cells, state = computed
    state["fail"] = "2-3"
    with pytest.raises(KeyboardInterrupt):
        execute(TINY, tmp_path)
    state["fail"] = None
    execute(dataclasses.replace(TINY, seed=OTHER_SEED), tmp_path)
    assert cells == ["0-1", "0-1", "2-3", "4-5"]


def test_a_finished_result_is_not_computed_again(tmp_path, computed):
    cells, _ = computed
    first = execute(TINY, tmp_path)
    second = execute(TINY, tmp_path)
    assert len(cells) == 3
    xr.testing.assert_identical(first, second)


@pytest.mark.slow
def test_another_config_replaces_the_result_and_keeps_the_old_one(tmp_path):
    execute(TINY, tmp_path)
    before = (tmp_path / "pool_frontier" / "data.nc").read_bytes()
    said()
    execute(dataclasses.replace(TINY, seed=OTHER_SEED), tmp_path)
    assert f"because seed was 0 and is {OTHER_SEED}" in said()
    assert runner.read_manifest("pool_frontier", tmp_path)["basis"]["config"]["seed"] == OTHER_SEED
    (kept,) = (tmp_path / ".replaced").iterdir()
    assert (kept / "data.nc").read_bytes() == before
    assert json.loads((kept / "manifest.json").read_text())["basis"]["config"]["seed"] == 0


def test_results_of_other_code_are_computed_again(tmp_path, computed, monkeypatch):
    cells, _ = computed
    execute(TINY, tmp_path)
    sources = runner.sources
    other = {"softbon_jax/exact/laws.py": "another version"}
    monkeypatch.setattr(runner, "sources", lambda name: sources(name) | other)
    said()
    execute(TINY, tmp_path)
    assert len(cells) == 6
    assert "because softbon_jax/exact/laws.py has changed" in said()
    assert not (tmp_path / ".replaced").exists()  # the new data are the old ones, byte for byte


def test_a_result_depends_on_what_its_experiment_imports():
    names = {x.removeprefix("experiments/") for x in runner.sources("reward_rate")}
    own = {
        "reward_rate.py",
        "kl_rate.py",
        "curves.py",
        "problems.py",
        "dataset.py",
        "simulation.py",
    }
    assert own <= names
    assert {"softbon_jax/exact/laws.py", "softbon_jax/pools/curves.py"} <= names
    assert not names & {"pools.py", "runner.py", *(f"softbon_jax/{x}" for x in runner.OUTSIDE)}
    library = Path(softbon_jax.__file__).parent
    assert all((library / x).exists() for x in runner.OUTSIDE)


@pytest.mark.slow
def test_forced_results_are_computed_again(tmp_path, computed):
    cells, _ = computed
    execute(TINY, tmp_path)
    execute(TINY, tmp_path, force=True)
    assert len(cells) == 6


def test_damaged_data_are_noticed(tmp_path, computed):
    cells, _ = computed
    execute(TINY, tmp_path)
    data = tmp_path / "pool_frontier" / "data.nc"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    with pytest.raises(runner.ResultError, match="not what its manifest describes"):
        runner.load("pool_frontier", tmp_path)
    execute(TINY, tmp_path)
    assert len(cells) == 6
    runner.load("pool_frontier", tmp_path)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "before"
    assert [x.name for x in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_changed_score_file_is_noticed(tmp_path):
    path = tmp_path / "scores.csv"
    config = dataclasses.replace(TINY, scores=path)
    path.write_text("prompt_id,proxy_reward\na,1\na,2\n")
    execute(config, tmp_path)
    for file in ("manifest.json", "data.nc"):  # they name the file, and no folder of this machine
        saved = (tmp_path / "pool_frontier" / file).read_bytes()
        assert b"scores.csv" in saved
        assert str(tmp_path).encode() not in saved
    path.write_text("prompt_id,proxy_reward\na,1\na,3\n")
    said()
    assert execute(config, tmp_path).reward.max() == pytest.approx(2.5)
    assert "because scores.csv has changed" in said()


# The command line ---------------------------------------------------------------------------------


def test_list_names_every_experiment(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)


def test_run_takes_settings_from_the_command_line(tmp_path, capsys):
    options = ["--config", "smoke", "--temperatures", "3", "--n", "1", "3", "--made-up", "6"]
    options += ["--prompts-per-cell", "2"]  # what is not n is that of `TINY`, with its programs
    assert main(["run", "pool_frontier", *options, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "pool_frontier" / "data.nc")
    config = runner.read_manifest("pool_frontier", tmp_path)["basis"]["config"]
    assert (config["temperatures"], config["n"], config["made_up"]) == (3, [1, 3], 6)
    assert config["prompts_per_cell"] == 2
    assert config["lowest"] == pool_frontier.SMOKE.lowest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage"),
        (["dance"], "usage"),
        (["run"], "needs the name"),
        (["run", "dance"], "no experiment is called 'dance'"),
        (["run", "kl_rate", "--config", "huge"], "--config must be smoke or paper"),
        (["run", "pool_frontier", "--scores", "/no/such.csv"], "/no/such.csv"),
        (["share", "2/2"], "I/K with I from 0 to K - 1, got '2/2'"),
        (["share", "1"], "I/K with I from 0 to K - 1, got '1'"),
    ],
)
def test_bad_commands_are_explained(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_settings(capsys):
    with pytest.raises(SystemExit):
        main(["run", "pool_frontier", "--help"])
    out = capsys.readouterr().out
    assert "--score-column" in out
    assert "--force" in out


# pool_frontier against plain NumPy ----------------------------------------------------------------


def hard(pool, n):
    """Mean reward and KL from the pool of best-of-n with replacement: F(x)^n - F(x-)^n."""
    values, counts = np.unique(pool, return_counts=True)
    share = counts / counts.sum()
    law = np.diff(np.concatenate([[0], np.cumsum(share)]) ** n)
    return law @ values, np.sum(law[law > 0] * np.log((law / share)[law > 0]))


def check_pools(config, pools):
    result = run("pool_frontier", config)
    means = np.array([pool.mean() for pool in pools])
    scale = max(1.0, max(np.abs(pool).max() for pool in pools))
    single = result.sel(n=1)
    np.testing.assert_allclose(
        single.reward, np.broadcast_to(means[:, None], single.reward.shape), atol=1e-12 * scale
    )
    np.testing.assert_allclose(single.kl_soft_base, 0, atol=1e-12)
    for n in config.n:
        expected = np.array([hard(pool, n) for pool in pools]).T
        for temperature, tolerance in ((0.0, 1e-12), (result.temperature.values[1], 1e-6)):
            got = result.sel(n=n, temperature=temperature)
            for field, values in zip(("reward", "kl_soft_base"), expected, strict=True):
                np.testing.assert_allclose(got[field], values, rtol=0, atol=tolerance * scale)
                error = values.std(ddof=1) / np.sqrt(len(pools)) if len(pools) > 1 else np.nan
                np.testing.assert_allclose(got[f"mean_{field}"], values.mean(), atol=1e-6 * scale)
                np.testing.assert_allclose(got[f"mean_{field}_se"], error, atol=1e-6 * scale)
    return result


@pytest.mark.slow
def test_small_pools_against_numpy_and_enumeration(tmp_path):
    pools = {"tied": [1, 1, 4, 2], "constant": [3, 3, 3], "single": [-2.5], "wide": [0, 10, 5, 5]}
    rows = [f"{prompt},{score}" for prompt, scores in pools.items() for score in scores]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["prompt_id,proxy_reward", *rows]))
    config = dataclasses.replace(TINY, scores=path, n=(1, 2, 3), lowest=1e-3, prompts_per_cell=3)
    result = check_pools(config, [np.array(x, float) for x in pools.values()])
    assert list(result.prompt.values) == list(pools)
    for temperature in result.temperature.values[1:-1]:
        for prompt, scores in pools.items():
            law = oracles.law_by_tuples(np.zeros(len(scores)), scores, 3, temperature)
            got = float(result.reward.sel(prompt=prompt, temperature=temperature, n=3))
            assert got == pytest.approx(law @ np.array(scores), abs=1e-12)


def shared(name):
    root = os.environ.get("SOFTBON_POOLS", Path(__file__).parents[2] / "shared" / "data")
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "prompts", "mean"),
    [
        ("judge_goodhart/judge_goodhart_pools.csv.gz", 120, 79.0),
        ("tot_gpt4/tot_text_pools.csv.gz", 100, 6.54),
    ],
)
def test_real_pools_against_numpy(name, prompts, mean):
    path = shared(name)
    # Scores are whole numbers: 1/2000 of the range is far below their smallest distance.
    config = dataclasses.replace(pool_frontier.SMOKE, scores=path, n=(1, 2, 16), lowest=5e-4)
    config = dataclasses.replace(config, temperatures=2, prompts_per_cell=60)
    with gzip.open(path, "rt") as file:
        header, *rows = (line.rstrip("\n").split(",") for line in file)
    prompt, score = header.index("prompt_id"), header.index("proxy_reward")
    pools = {}
    for row in rows:
        pools.setdefault(row[prompt], []).append(float(row[score]))
    result = check_pools(config, [np.array(pool) for pool in pools.values()])
    assert list(result.prompt.values) == list(pools)
    assert result.sizes["prompt"] == prompts
    assert float(result.mean_reward.sel(n=1)[0]) == pytest.approx(mean, abs=0.05)


def test_a_pool_without_scores_is_explained(capsys, tmp_path):
    path = shared("tot_gpt4/tot_game24_samples.csv.gz")
    assert main(["run", "pool_frontier", "--scores", str(path), "--out", str(tmp_path)]) == 2
    assert "column 'proxy_reward' is empty in all 20000 rows" in capsys.readouterr().err
