"""The command `softbon`: what it prints and writes, and how it refuses."""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import softbon_jax
from softbon_jax import scores
from softbon_jax.command.main import main
from tests import oracles


@pytest.fixture(scope="module")
def over(tmp_path_factory):
    """A file whose gold turns down: 40 prompts, 8 responses, gold = proxy, less beyond 0.7."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("scores") / "over.csv"
    with path.open("w") as file:
        file.write("prompt_id,response_id,proxy_reward,gold_reward\n")
        for prompt in range(40):
            for response, proxy in enumerate(random.normal(size=8)):
                gold = proxy - 3 * max(proxy - 0.7, 0) + 0.1 * random.normal()
                file.write(f"p{prompt},{response},{proxy:.4f},{gold:.4f}\n")
        file.write("short,0,1.0,1.0\n")
    return path


@pytest.fixture(scope="module")
def analysed(over, tmp_path_factory):
    """Its report and numbers."""
    out = tmp_path_factory.mktemp("out")
    options = ["--kl", "1.5", "--temperature", "0", "0.5", "--n", "1", "2", "4", "8"]
    files = ["--html", str(out / "r.html"), "--json", str(out / "r.json")]
    assert main(["analyze", str(over), *options, *files]) == 0
    return (out / "r.html").read_text(), json.loads((out / "r.json").read_text())


def test_numbers_are_those_of_plain_numpy(over, analysed):
    _, numbers = analysed
    pools = scores.read(over, least=2)
    # All of eight: the largest proxy; one of eight: the mean.
    best = pools.gold[np.arange(40), pools.rewards.argmax(1)]
    hard = numbers["temperature"].index(0)
    assert numbers["gold"]["mean"][hard][-1] == pytest.approx(best.mean(), rel=1e-12)
    assert numbers["gold"]["standard_error"][hard][-1] == pytest.approx(
        best.std(ddof=1) / np.sqrt(40), rel=1e-10
    )
    assert numbers["gold"]["mean"][hard][0] == pytest.approx(pools.gold.mean(), rel=1e-12)
    assert numbers["read"]["rows"] == 321
    assert numbers["read"]["dropped"] == [
        {"reason": "prompt with fewer than 2 responses", "rows": 1, "first": 321}
    ]
    kl = np.array(numbers["kl"]["mean"])[hard]
    np.testing.assert_allclose(
        kl, [0, np.log(2) - 0.5, np.log(4) - 0.75, np.log(8) - 7 / 8], atol=0.06
    )


def test_overoptimisation_is_found_and_the_choice_avoids_it(analysed):
    _, numbers = analysed
    verdicts = {x["temperature"]: x for x in numbers["overoptimisation"]}
    assert verdicts[0]["finding"] == "turns down"
    assert verdicts[0]["peak"] < 8
    choice = numbers["recommendation"]
    assert choice["ok"]
    assert choice["n"] < 8
    assert choice["kl"] <= 1.5
    assert choice["gain_low"] > 0
    assert 0 < choice["agreement"] <= 1
    assert np.sum(choice["near"]) == pytest.approx(1)


def test_the_report_stands_alone(analysed):
    page, _ = analysed
    assert page.count("<svg") == 1
    assert "turns down" in page
    assert "dropped 1 rows, first row 321" in page
    assert page.count("<script>") == 1
    assert not re.search(r"<(script |link|img|iframe)|url\(http|src=", page)


def test_reports_name_no_path_of_the_machine(over, tmp_path, capsys):
    """They name the file, and neither its folder nor the one they are written to."""
    files = [tmp_path / "r.html", tmp_path / "r.json"]
    options = ["--temperature", "0", "--html", str(files[0]), "--json", str(files[1])]
    assert main(["analyze", str(over), *options]) == 0
    for text in (capsys.readouterr().out, *(path.read_text() for path in files)):
        assert "over.csv" in text
        for folder in (over.parent, tmp_path, Path.home(), Path(softbon_jax.__file__).parent):
            assert folder.name not in text
            assert str(folder) not in text


def test_every_name_in_the_report_is_escaped(tmp_path, capsys):
    path = tmp_path / "<b>&.csv"
    text = "".join(f"{p},{x}\n" for p in range(12) for x in (0, 1))
    path.write_text("prompt_id,<i>\n" + text)
    page = tmp_path / "r.html"
    options = ["--reward", "<i>", "--temperature", "0", "--html", str(page)]
    assert main(["analyze", str(path), *options]) == 0
    assert "<b>" not in page.read_text()
    assert "<i>" not in page.read_text()
    assert "cannot be told without a gold score" in capsys.readouterr().out


def test_few_prompts_are_refused_with_the_reason(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text("prompt_id,proxy_reward,gold_reward\na,1,0\na,2,1\nb,0,0\nb,1,1\n")
    assert main(["analyze", str(path), "--temperature", "0"]) == 0
    out = capsys.readouterr().out
    assert "No recommendation for any budget: 2 prompts are too few, 10 are needed" in out
    assert "cannot tell. 2 prompts cannot tell" in out


# Several judges ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """300 prompts, 4 responses: three judges with the truth and noise, all standard normal."""
    random = np.random.default_rng(6)
    path = tmp_path_factory.mktemp("judges") / "judged.csv"
    lines = ["prompt_id,truth,judge_1,judge_2,judge_3,name"]
    for prompt in range(300):
        for truth in random.normal(size=4):
            noisy = ",".join(f"{truth + noise:.6f}" for noise in random.normal(size=3))
            lines.append(f"p{prompt},{truth:.6f},{noisy},x")
    path.write_text("\n".join(lines))
    return path


def judge(path, out, *options):
    """The JSON of hard best-of-4 with these options."""
    grid = ["--temperature", "0", "--n", "1", "4", "--json", str(out / "r.json")]
    assert main(["analyze", str(path), *options, *grid]) == 0
    return json.loads((out / "r.json").read_text())


@pytest.mark.slow
def test_judges_are_averaged_or_left_out(judged, tmp_path, capsys):
    """The truth selected by two judges is 1.02938/√1.5; valuing by what selects claims more."""
    three = ["judge_1", "judge_2", "judge_3"]
    naive = judge(judged, tmp_path, "--reward", *three)
    fair = judge(
        judged, tmp_path, "--reward", *three, "--leave-one-out", "--html", str(tmp_path / "r.html")
    )
    told = capsys.readouterr().out
    apart = judge(judged, tmp_path, "--reward", "judge_1", "--gold", "judge_2", "judge_3")

    def last(numbers, key):
        return numbers[key]["mean"][0][-1], numbers[key]["standard_error"][0][-1]

    (claimed, claimed_se), (value, value_se) = last(naive, "reward"), last(fair, "gold")
    exact = 1.0293753730 / 1.5**0.5
    assert abs(value - exact) < 3 * value_se
    assert abs(last(apart, "gold")[0] - 1.0293753730 / 2**0.5) < 3 * last(apart, "gold")[1]
    assert claimed - exact > 5 * claimed_se
    # By hand, from the file: for each judge the response that the other two like best.
    pools = scores.read(judged, reward=three, gold=None, leave_one_out=True)
    by_hand = [
        pools.judges[np.arange(300), np.delete(pools.judges, j, 2).sum(2).argmax(1), j].mean()
        for j in range(3)
    ]
    assert value == pytest.approx(np.mean(by_hand), rel=1e-12)
    # What was used is said.
    assert naive["read"]["columns"]["reward"] == three
    assert fair["read"]["columns"] == {
        "prompt": "prompt_id", "reward": three, "gold": None, "response": None, "leave_one_out": True,
        "answer": None,
    }  # fmt: skip
    assert apart["read"]["columns"]["gold"] == ["judge_2", "judge_3"]
    words = "reward = mean of all but one of judge_1, judge_2, judge_3, gold = the one left out"
    assert words in told
    assert words in (tmp_path / "r.html").read_text()
    assert "Mean score of the judge left out" in told


def test_select_by_several_judges(judged, tmp_path):
    out = tmp_path / "out.csv"
    options = ["--reward", "judge_1", "judge_2", "--temperature", "0", "--out", str(out)]
    assert main(["select", str(judged), *options]) == 0
    marked = scores.read(out, reward="selected", gold=None).rewards
    both = scores.read(judged, reward=["judge_1", "judge_2"], gold=None).rewards
    np.testing.assert_array_equal(marked.argmax(1), both.argmax(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--reward", "judge_1", "judge_9"],
            "no column 'judge_9'; the columns are prompt_id, truth",
        ),
        (
            ["--reward", "judge_1", "--gold", "judge_2", "judge_1"],
            "'judge_1' both selects and values",
        ),
        (["--reward", "judge_1", "judge_1"], "'judge_1' is named twice among those that select"),
        (["--reward", "judge_1", "name"], "row 1, column 'name' must be a finite number, is 'x'"),
        (["--reward", "judge_1", "--leave-one-out"], "takes two or more reward columns, got 1"),
        (
            ["--reward", "judge_1", "judge_2", "--gold", "truth", "--leave-one-out"],
            "the judge that is left out is the gold score",
        ),
    ],
)
def test_judges_that_make_no_sense_are_refused(judged, options, message, capsys):
    assert main(["analyze", str(judged), *options]) == 2
    assert message in capsys.readouterr().err


# select ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl", "x.parquet"])
def test_select_marks_one_response_a_prompt(over, tmp_path, name):
    with over.open() as file:
        rows = list(csv.DictReader(file))
    source = tmp_path / name
    if "csv" in name:
        text = over.read_bytes()
        source.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    elif "jsonl" in name:
        source.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), source)
    out = tmp_path / f"out-{name}"
    options = ["--temperature", "0", "--out", str(out)]
    assert main(["select", str(source), *options]) == 0
    marked = scores.read(out, reward="selected", gold=None)
    before = scores.read(source)
    assert marked.prompts == before.prompts
    np.testing.assert_array_equal(marked.rewards.sum(1), 1)
    best = np.where(before.where, before.rewards, -np.inf).argmax(1)
    np.testing.assert_array_equal(marked.rewards.argmax(1), best)
    assert main(["select", str(out), *options[:2], "--out", str(tmp_path / f"twice-{name}")]) == 2


def test_select_is_repeatable_and_soft(over, tmp_path):
    def chosen(seed):
        out = tmp_path / "out.csv"
        options = [
            "--temperature",
            "1",
            "--seed",
            str(seed),
            "--out",
            str(out),
            "--missing",
            "drop",
        ]
        assert main(["select", str(over), *options]) == 0
        return scores.read(out, reward="selected", gold=None).rewards.argmax(1)

    np.testing.assert_array_equal(chosen(3), chosen(3))
    assert (chosen(3) != chosen(4)).any()


def test_select_among_the_first_n(over, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert main(["select", str(over), "--n", "4", "--temperature", "0", "--out", str(out)]) == 2
    assert "--n asks for 4, prompt 'short' has 1 responses" in capsys.readouterr().err
    assert not out.exists()


# plan --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_plan_spends_the_budget(capsys):
    law = ["--probs", "0.5", "0.3", "0.1", "0.1", "--rewards", "0", "0.3", "0.6", "1"]
    assert main(["plan", *law, "--kl", "0.3", "--n", "1", "2", "16"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert "spends less" in lines[0]
    for line in lines[1:]:
        assert line.split()[3] == "0.3" or "spends less" in line
    assert main(["plan", *law, "--temperature", "0.2", "--n", "2"]) == 0
    # The check values of the law: P_2 = (.3101, .3480, .1567, .1852).
    reward = 0.3 * 0.347976608 + 0.6 * 0.15669594 + 0.185187922
    assert float(capsys.readouterr().out.splitlines()[1].split()[2]) == pytest.approx(
        reward, abs=1e-4
    )


@pytest.mark.parametrize("temperature", [0.0, 0.2, np.inf])
def test_plan_shows_what_the_law_earns_and_costs(capsys, temperature):
    """Against all triples of candidates; two outcomes tie, and the best cannot happen."""
    probs, rewards = np.array([0.4, 0.3, 0.0, 0.2, 0.1]), np.array([0.0, 0.5, 9.0, 0.5, 1.0])
    law = ["--probs", *map(str, probs), "--rewards", *map(str, rewards)]
    assert main(["plan", *law, "--n", "3", "--temperature", str(temperature)]) == 0
    shown = [float(x) for x in capsys.readouterr().out.splitlines()[1].split()[2:]]
    possible = probs > 0
    p, r = probs[possible], rewards[possible]
    q = oracles.law_by_tuples(np.log(p), r, 3, temperature)
    wins = (r[:, None] > r) + (r[:, None] == r) / 2
    np.testing.assert_allclose(
        shown, [q @ r, q @ np.log(q / p), q @ wins @ p], rtol=1e-3, atol=1e-15
    )


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analyze", "no.csv"], "no.csv"),
        (
            ["analyze", "{over}", "--reward", "score"],
            "no column 'score'; the columns are prompt_id",
        ),
        (["analyze", "{over}", "--n", "9"], "n must be at most 8, the largest pool, got 9"),
        (["analyze", "{over}", "--n", "0"], "--n must be an integer of at least 1, got 0"),
        (["analyze", "{over}", "--kl", "-1"], "--kl must be positive, got -1"),
        (["analyze", "{over}", "--temperature", "-1"], "temperature must be at least 0"),
        (["analyze", "{over}", "--max-rows", "5"], "more than 5 rows"),
        (
            ["select", "{over}", "--temperature", "0", "--out", "x.parquet"],
            "of the format of over.csv",
        ),
        (["plan", "--probs", "1"], "--probs needs --rewards"),
        (["plan", "--kl", "0"], "--kl must be positive, got 0"),
    ],
)
def test_refusals_name_the_cause_and_write_nothing(over, tmp_path, arguments, message, capsys):
    filled = [part.format(over=over) for part in arguments]
    if arguments[0] == "analyze":
        filled += ["--html", str(tmp_path / "r.html"), "--json", str(tmp_path / "r.json")]
    assert main(filled) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert os.listdir(tmp_path) == []


def test_help_teaches(capsys):
    for arguments, words in (([], "hard"), (["analyze"], "--gold"), (["select"], "--seed")):
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, "--help"])
        assert exit_.value.code == 0
        out = capsys.readouterr().out
        assert words in out or "softbon analyze" in out


def test_only_what_a_command_uses_is_imported():
    """Drawing and the readers of tables are imported when a file or a report needs them."""
    late = ("duckdb", "matplotlib", "optax", "pandas", "pyarrow", "rich", "xarray")
    code = f"import sys, softbon_jax.command.main; print([x for x in {late} if x in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# Real pools --------------------------------------------------------------------------------------

HARD = {
    "judge_goodhart/judge_goodhart_pools.csv.gz": (
        [1, 2, 4, 8, 16, 24],
        [79.0, 84.1, 89.2, 93.4, 95.7, 96.5],
        [0.668, 0.715, 0.767, 0.810, 0.829, 0.832],
    ),
    "tot_gpt4/tot_text_pools.csv.gz": (
        [1, 2, 4, 8, 16, 20],
        [6.54, 7.33, 7.86, 8.21, 8.48, 8.56],
        [6.57, 7.14, 7.50, 7.72, 7.86, 7.90],
    ),
    "alpaca_eval/alpaca_eval_paired.csv.gz": (
        [1, 2, 4, 8, 15],
        [0.642, 0.847, 0.959, 0.992, 0.998],
        [0.0948, 0.123, 0.141, 0.148, 0.150],
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_real_pools(name, tmp_path):
    root = os.environ.get("SOFTBON_POOLS", Path(__file__).parents[2] / "shared" / "data")
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    n, proxy, gold = HARD[name]
    out = tmp_path / "r.json"
    sizes = ["--n", *map(str, n)]
    assert main(["analyze", str(path), "--temperature", "0", *sizes, "--json", str(out)]) == 0
    numbers = json.loads(out.read_text())
    for key, expected in (("reward", proxy), ("gold", gold)):
        shown = [f"{x:.3g}" for x in expected]
        found = numbers[key]["mean"][0]
        for value, text in zip(found, shown, strict=True):
            assert value == pytest.approx(float(text), rel=1.5e-3 if "alpaca" not in name else 6e-3)
