"""`softbon analyze --answer`: answers are read right, and every rule earns what enumeration says."""

import json
import re

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softbon_jax import scores
from softbon_jax.command import _ballot, advice
from softbon_jax.command.main import main
from tests import oracles

PROMPTS, SIZE, N = 12, 6, [1, 2, 5, 6]
TEXTS = ("7", "1/2", " 7", "x")
RIGHT = "1/2"


@pytest.fixture(scope="module")
def rows():
    """One row a response: prompt, whole reward, whether its answer is the right one, and the answer."""
    random = np.random.default_rng(0)
    found = []
    for p in range(PROMPTS):
        for answer in random.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=SIZE):
            reward = int(random.integers(0, 3) + (TEXTS[answer] == RIGHT))
            found.append((f"p{p}", reward, int(TEXTS[answer] == RIGHT), TEXTS[answer]))
    return found


def columns(rows):
    return dict(
        zip(("prompt_id", "reward", "correct", "answer"), zip(*rows, strict=True), strict=True)
    )


def write(folder, rows, kind):
    path = folder / f"scores.{kind}"
    table = columns(rows)
    if kind == "csv":
        lines = [",".join(table), *(f'{p},{r},{c},"{a}"' for p, r, c, a in rows)]
        path.write_text("\n".join(lines))
    elif kind == "jsonl":  # one row a prompt, with lists
        names = dict.fromkeys(table["prompt_id"])
        for name in names:
            own = columns([row for row in rows if row[0] == name])
            line = {key: name if key == "prompt_id" else list(x) for key, x in own.items()}
            path.write_text((path.read_text() if path.exists() else "") + json.dumps(line) + "\n")
    elif kind == "parquet":
        pq.write_table(pa.table({name: list(x) for name, x in table.items()}), path)
    else:
        np.savez(path, **{name: np.array(x) for name, x in table.items()})
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "npz"])
def test_answers_are_told_apart_by_their_text(tmp_path, rows, kind):
    pools = scores.read(write(tmp_path, rows, kind), answer="answer")
    assert pools.columns.answer == "answer"
    assert pools.answers.shape == pools.rewards.shape == (PROMPTS, SIZE)
    for p in range(PROMPTS):
        texts = np.array([row[3] for row in rows if row[0] == f"p{p}"])
        same = texts[:, None] == texts
        np.testing.assert_array_equal(pools.answers[p][:, None] == pools.answers[p], same)
        assert set(pools.answers[p]) == set(range(len(set(texts))))


def test_an_answer_may_be_nested_or_a_list(tmp_path):
    path = tmp_path / "nested.jsonl"
    lines = [{"prompt_id": "a", "reward": k, "out": {"final": [k % 2, 3]}} for k in range(3)]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert scores.read(path, answer="out.final").answers.tolist() == [[0, 1, 0]]
    assert scores.read(path, answer="out.final[1]").answers.tolist() == [[0, 0, 0]]


def test_pools_of_unequal_size_and_several_files(tmp_path):
    for name, text in (("a", "p,1,u\np,2,v\nq,3,u"), ("b", "q,1,w\nq,0,u\np,5,u")):
        (tmp_path / f"{name}.csv").write_text(f"prompt_id,reward,answer\n{text}")
    pools = scores.read(tmp_path, answer="answer")
    assert pools.answers.tolist() == [[0, 1, 0], [0, 1, 0]]
    (tmp_path / "c.csv").write_text("prompt_id,reward,answer\nr,1,v")
    pools = scores.read(tmp_path, answer="answer")
    assert pools.answers.tolist()[2] == [0, 0, 0]
    assert pools.where.tolist()[2] == [True, False, False]


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_missing_answers(tmp_path, rows, kind):
    rows = [(*row[:3], " " if k in (1, 3) else row[3]) for k, row in enumerate(rows)]
    path = write(tmp_path, rows, kind)
    with pytest.raises(
        ValueError, match=r"row 2, column 'answer' must be an answer, is empty \(and 1"
    ):
        scores.read(path, answer="answer")
    dropped = scores.read(path, answer="answer", missing="drop")
    assert dropped.dropped == (scores.Dropped("no answer", 2, 2),)
    assert dropped.where.sum() == len(rows) - 2
    kept = scores.read(path, answer="answer", missing="lose")
    assert "2 responses without answer are kept, each alone" in kept.notes
    first = kept.answers[0]
    assert all((first == first[k]).sum() == 1 for k in (1, 3))
    without = scores.read(path)
    assert without.answers is None
    np.testing.assert_array_equal(kept.rewards, without.rewards)


def test_a_number_that_is_none_is_missing(tmp_path):
    path = tmp_path / "numbers.parquet"
    table = {"prompt_id": ["a"] * 4, "reward": [0.0] * 4, "answer": [1.5, float("nan"), None, 1.5]}
    pq.write_table(pa.table(table), path)
    with pytest.raises(ValueError, match=r"row 2, column 'answer' must be an answer"):
        scores.read(path, answer="answer")
    assert scores.read(path, answer="answer", missing="lose").answers.tolist() == [[0, 1, 2, 0]]


@pytest.mark.slow
def test_bad_arguments_are_explained(rows, tmp_path):
    pools = scores.read(write(tmp_path, rows, "csv"), answer="answer")
    table = advice.tabulate(pools, [1, 2], [0.0, 1.0, np.inf])
    for temperature in (0.0, 0.5, np.inf):
        with pytest.raises(ValueError, match=rf"one of \[1.0\], got {temperature}"):
            advice.ballot(pools, table, temperature)
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to .*, got -1"):
        advice.ballot(pools, table, 1.0, seed=-1)
    with pytest.raises(ValueError, match="scores must have answers and gold"):
        advice.ballot(pools._replace(answers=None), table, 1.0)


def expected(rows, rule, n, temperature):
    """Mean over prompts and subsets, by enumeration."""
    found = []
    for p in range(PROMPTS):
        own = [row for row in rows if row[0] == f"p{p}"]
        texts, answers = np.unique([row[3] for row in own], return_inverse=True)
        rewards, right = (np.array([row[k] for row in own]) for k in (1, 2))
        if rule in ("soft", "hard"):
            t = temperature if rule == "soft" else 0.0
            found.append(oracles.mean_over_subsets(rewards, right, n, t))
            continue
        weights = {"votes": np.ones(SIZE, int), "total": 2**rewards, "mean": rewards}[rule]
        how = "mean" if rule == "mean" else "sum"
        won = oracles.weighted_votes_over_subsets(answers, weights, n, len(texts), how)
        found.append(won[texts == RIGHT].sum())
    return np.mean(found)


def test_every_rule_earns_what_enumeration_says(tmp_path, rows, capsys):
    path, out = write(tmp_path, rows, "csv"), tmp_path / "numbers.json"
    temperature = 1 / np.log(2)  # e^{reward/λ} is then a power of two, and totals tie where they do
    options = ["--n", *map(str, N), "--temperature", "0", f"{temperature:.17g}"]
    assert main(["analyze", str(path), "--answer", "answer", *options, "--json", str(out)]) == 0
    votes = json.loads(out.read_text())["votes"]
    kinds = [("votes", False), ("soft", False), ("hard", False), ("total", True), ("mean", True)]
    assert [rule["sampled"] for rule in votes["rules"]] == [sampled for _, sampled in kinds]
    for rule, (kind, sampled) in zip(votes["rules"], kinds, strict=True):
        exact = [expected(rows, kind, n, temperature) for n in N]
        # The only subset of all responses has no error.
        spread = 0.5 / np.sqrt(PROMPTS * votes["subsets"])
        error = sampled * 4.5 * spread * np.not_equal(N, SIZE) + 1e-12
        assert (np.abs(np.subtract(rule["mean"], exact)) <= error).all(), kind
        more = np.subtract(rule["mean"], votes["rules"][0]["mean"])
        np.testing.assert_allclose(rule["over_votes"]["mean"], more, atol=1e-12)
    text = capsys.readouterr().out
    mean = votes["rules"][0]["mean"][-1]
    assert f"The answer with most votes of 6 has mean correct {mean:.4g}." in text
    assert "mean correct of the answer that is chosen ± standard error" in text
    assert "largest mean reward" in text


def test_many_responses_are_counted_in_subsets(rows, tmp_path, monkeypatch):
    pools = scores.read(write(tmp_path, rows, "csv"), answer="answer")
    with jax.enable_x64(True):
        table = advice.tabulate(pools, N, [0.0, 1.0])
        exact = advice.ballot(pools, table, 1.0)
        monkeypatch.setattr(_ballot, "MOST_EXACT", 2 * 2 * SIZE)
        some = advice.ballot(pools, table, 1.0)
    assert exact.rules == some.rules
    assert (exact.sampled[0], some.sampled[0]) == (False, True)
    np.testing.assert_allclose(some.value[0, :, :2], exact.value[0, :, :2], rtol=1e-12)
    off = np.abs(some.value[0].mean(0) - exact.value[0].mean(0))
    assert 0 < off[2] < 4.5 * 0.5 / np.sqrt(PROMPTS * _ballot.SUBSETS)
    np.testing.assert_allclose(some.value[0, :, 3], exact.value[0, :, 3], atol=1e-12)


@pytest.mark.slow
def test_one_answer_of_unequal_gold_and_lost_draws(tmp_path, capsys):
    path, out = tmp_path / "mixed.csv", tmp_path / "numbers.json"
    lines = ["prompt_id,reward,gold,answer"]
    for p in range(10):
        lines += [f"{p},1,1,u", f"{p},0,0,u", f"{p},,0,v", f"{p},,0,v"]
    path.write_text("\n".join(lines))
    options = ["--answer", "answer", "--missing", "lose", "--n", "4", "--json", str(out)]
    assert main(["analyze", str(path), *options]) == 0
    votes = json.loads(out.read_text())["votes"]
    assert votes["mixed_prompts"] == 10
    named = {rule["rule"].split("(")[0]: rule["mean"][-1] for rule in votes["rules"]}
    # u and v tie in votes; u has the mean .5, and all of the weight.
    assert named["most votes"] == pytest.approx(0.25, abs=1e-12)
    assert named["largest total of exp"] == pytest.approx(0.5, abs=1e-12)
    assert named["largest mean reward"] == pytest.approx(0.5, abs=1e-12)
    assert "In 10 prompts responses of one answer have unequal gold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--gold", "none"],
            "--answer answer needs a gold score that says how good each answer is",
        ),
        (["--reward", "a", "b", "--leave-one-out"], "needs a gold score .* not --leave-one-out"),
        (["--gold", "correct", "--answer", "nothing"], "no column 'nothing'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, rows, capsys, options, message):
    path = write(tmp_path, rows, "csv")
    assert main(["analyze", str(path), "--answer", "answer", *options]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_inspect_counts_them_and_names_the_column(tmp_path, rows, capsys):
    path = write(tmp_path, rows, "csv")
    assert main(["inspect", str(path), "--answer", "answer"]) == 0
    said = capsys.readouterr().out
    kinds = [len({row[3] for row in rows if row[0] == f"p{p}"}) for p in range(PROMPTS)]
    assert f"answers: {min(kinds)} to {max(kinds)} a prompt, median {np.median(kinds):g}" in said
    assert "--answer answer" in said.splitlines()[-1]
