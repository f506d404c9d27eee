"""Layouts that common tools write: the same scores in each, and what could be read in two ways asked."""

import gzip
import json
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softbon_jax import scores
from softbon_jax.command.main import main

PROMPTS = ["why?", " why?", "who\n?", "é"]
REWARDS = [[0.5, -1.25, 3.0], [0.1, 0.2, 0.3], [7.0, 7.0, -7.0], [1e-3, 2.0, 0.0]]
GOLD = [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]]
FLAT = [
    {"prompt": p, "reward": r, "correct": g}
    for p, rs, gs in zip(PROMPTS, REWARDS, GOLD, strict=True)
    for r, g in zip(rs, gs, strict=True)
]
LISTS = [
    {"prompt": p, "reward": r, "correct": g} for p, r, g in zip(PROMPTS, REWARDS, GOLD, strict=True)
]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def cells(rows, mark=",", end="\n", decimal="."):
    def shown(x):
        return f'"{x}"' if isinstance(x, str) else str(x).replace(".", decimal)

    text = [list(rows[0]), *([shown(x) for x in row.values()] for row in rows)]
    return end.join(mark.join(row) for row in text) + end


def same(pools, prompts=tuple(PROMPTS)):
    assert pools.prompts == tuple(prompts)
    np.testing.assert_array_equal(pools.rewards, REWARDS)
    np.testing.assert_array_equal(pools.gold, GOLD)


def put(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TEXTS = {
    "lines": ("x.jsonl", lines(FLAT)),
    "lists": ("x.jsonl", lines(LISTS)),
    "array": ("x.json", json.dumps(FLAT, indent=2)),
    "array of lists": ("x.json", json.dumps(LISTS)),
    "objects one after another": ("x.json", "\n".join(json.dumps(x, indent=1) for x in FLAT)),
    "object of columns": ("x.json", json.dumps({k: [x[k] for x in FLAT] for k in FLAT[0]})),
    "object of columns by index": (
        "x.json", json.dumps({k: {str(i): x[k] for i, x in enumerate(FLAT)} for k in FLAT[0]}),
    ),
    "utf-16 lines": ("x.jsonl", lines(FLAT).encode("utf-16")),
    "gzipped lists": ("X.JSONL.GZ", gzip.compress(lines(LISTS).encode())),
    "numbers as text": ("x.jsonl", lines([{**x, "reward": str(x["reward"])} for x in FLAT])),
    "lists of one": ("x.jsonl", lines([{**x, "reward": [x["reward"]]} for x in FLAT])),
    "commas": ("x.csv", cells(FLAT)),
    "semicolons": ("x.csv", cells(FLAT, ";")),
    "semicolons and decimal commas": ("x.csv", "\ufeff" + cells(FLAT, ";", "\r\n", ",")),
    "tabs": ("X.TSV", cells(FLAT, "\t")),
    "excel": ("x.txt", cells(FLAT, "\t", "\r\n", ",").encode("utf-16")),
    "bars": ("x.csv", cells(FLAT, "|")),
    "latin-1": ("x.csv", cells(FLAT).encode("latin-1")),
    "booleans": ("x.csv", cells([{**x, "correct": ["FALSE", "TRUE"][x["correct"]]} for x in FLAT])),
    "Booleans": ("x.jsonl", lines([{**x, "correct": bool(x["correct"])} for x in FLAT])),
    "verdicts": ("x.csv", cells([{**x, "correct": "IC"[x["correct"]]} for x in FLAT])),
    "statuses": ("x.jsonl", lines([{**x, "correct": ["fail", "pass"][x["correct"]]} for x in FLAT])),
    "lists of verdicts": (
        "x.jsonl", lines([{**x, "correct": [["fail", "pass"][g] for g in x["correct"]]} for x in LISTS]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", TEXTS)
def test_texts(tmp_path, layout):
    pools = scores.read(put(tmp_path, *TEXTS[layout]))
    same(pools)
    assert any("Latin-1" in x for x in pools.notes) == (layout == "latin-1")


TABLES = {
    "flat": pa.Table.from_pylist(FLAT),
    "lists": pa.Table.from_pylist(LISTS),
    "decimal and dictionary": pa.table({
        "prompt": pa.array([x["prompt"] for x in FLAT]).dictionary_encode(),
        "reward": pa.array([x["reward"] for x in FLAT]).cast(pa.decimal128(20, 6)),
        "correct": [bool(x["correct"]) for x in FLAT],
    }),
    "text": pa.table({k: [str(x[k]) for x in FLAT] for k in FLAT[0]}),
}  # fmt: skip


@pytest.mark.parametrize("layout", TABLES)
def test_tables(tmp_path, layout):
    table = TABLES[layout]
    pq.write_table(table, tmp_path / "x.parquet")
    same(scores.read(tmp_path / "x.parquet"))
    for name, make in (("x.arrow", pa.ipc.new_file), ("y.arrow", pa.ipc.new_stream)):
        with make(tmp_path / name, table.schema) as file:
            file.write_table(table)
        same(scores.read(tmp_path / name))


def test_zstandard(tmp_path):
    with pa.CompressedOutputStream(str(tmp_path / "x.csv.zst"), "zstd") as file:
        file.write(cells(FLAT).encode() * 1)
    same(scores.read(tmp_path / "x.csv.zst"))
    cut = (tmp_path / "x.csv.zst").read_bytes()[:-5]
    with pytest.raises(ValueError, match="not a plain or packed text file"):
        scores.read(put(tmp_path, "y.csv.zst", cut))


def test_half_precision_in_parquet(tmp_path):
    half = np.float16([0.1, 1 / 3, 2.0])
    pq.write_table(pa.table({"prompt": ["a"] * 3, "reward": half}), tmp_path / "x.parquet")
    np.testing.assert_array_equal(scores.read(tmp_path / "x.parquet").rewards[0], half)


# Several files, several columns -------------------------------------------------------------------


def test_folders_and_patterns_are_read_in_the_order_of_their_names(tmp_path):
    put(tmp_path, "b.jsonl", lines(LISTS[2:]))
    put(tmp_path, "a.csv", cells(FLAT[:6]))
    put(tmp_path, "notes.md", "")
    for path in (tmp_path, str(tmp_path / "[ab].*"), [tmp_path / "a.csv", tmp_path / "b.jsonl"]):
        pools = scores.read(path)
        same(pools)
    np.testing.assert_array_equal(pools.rows, [[0, 1, 2], [3, 4, 5], [6, 6, 6], [7, 7, 7]])
    for path, message in (
        (str(tmp_path / "*.pq"), "no file has such a name"),
        ([], "no file is named"),
    ):
        with pytest.raises(ValueError, match=message):
            scores.read(path)
    bad = put(tmp_path, "c.csv", "prompt,reward\na,1\n")
    with pytest.raises(ValueError, match=r"c\.csv: no column 'correct'"):
        scores.read([tmp_path / "a.csv", bad])


def test_names_of_files_are_no_patterns(tmp_path):
    same(scores.read(put(tmp_path, "a[1]'*\".csv", cells(FLAT))))


def test_several_columns_make_the_key(tmp_path):
    rows = [
        {"a": a, "b": b, "reward": r}
        for a, b, r in [("x", "yz", 1), ("xy", "z", 2), ("x", "yz", 3)]
    ]
    for name, text in (("x.jsonl", lines(rows)), ("x.csv", cells(rows))):
        pools = scores.read(put(tmp_path, name, text), prompt=["a", "b"])
        assert pools.prompts == ('["x","yz"]', '["xy","z"]')
        np.testing.assert_array_equal(pools.rewards, [[1, 3], [2, 0]])


def test_identifiers_are_neither_trimmed_nor_merged(tmp_path):
    names = ["1", "01", "1.0", " 1", "1e0", str(2**63), str(2**63 + 1), "nan", "É", "e\u0301"]
    rows = [{"prompt": name, "reward": i} for i, name in enumerate(names)]
    for name, text in (("x.jsonl", lines(rows)), ("x.csv", cells(rows))):
        assert scores.read(put(tmp_path, name, text)).prompts == tuple(names)


def test_a_list_of_messages_is_a_prompt(tmp_path):
    rows = [{**x, "prompt": [{"role": "user", "content": x["prompt"]}] * 3} for x in LISTS]
    pools = scores.read(put(tmp_path, "x.jsonl", lines(rows)))
    same(pools, [json.dumps(x["prompt"], separators=(",", ":"), ensure_ascii=False) for x in rows])
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    same(scores.read(tmp_path / "x.parquet"), pools.prompts)


def test_paths_into_nested_data(tmp_path):
    rows = [
        {
            "doc": {"q": x["prompt"]},
            "judges": [{"out": {"s.x": x["reward"]}}, {}],
            "m.n": x["correct"],
        }
        for x in LISTS
    ]
    named = {"prompt": "doc.q", "reward": 'judges[0].out."s.x"', "gold": "m.n"}
    same(scores.read(put(tmp_path, "x.jsonl", lines(rows)), **named))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    same(scores.read(tmp_path / "x.parquet", **named))
    inside = {
        "all": {
            str(i): [{"p": x["prompt"], "r": x["reward"], "c": x["correct"]}]
            for i, x in enumerate(FLAT)
        }
    }
    named = {"prompt": "all.*[*].p", "reward": "all.*[*].r", "gold": "all.*[*].c"}
    same(scores.read(put(tmp_path, "x.json", json.dumps(inside)), **named))
    for path in ("doc.", "doc[", "nothing.q", "]"):
        with pytest.raises(ValueError, match="no column"):
            scores.read(put(tmp_path, "x.jsonl", lines(rows)), prompt=path, reward="m.n", gold=None)


# Two readings ------------------------------------------------------------------------------------

STEPS = [[[0.9, r] for r in rs] for rs in REWARDS]


def test_scores_of_steps(tmp_path):
    nested = [{**x, "reward": s} for x, s in zip(LISTS, STEPS, strict=True)]
    path = put(tmp_path, "x.jsonl", lines(nested))
    same(scores.read(path, steps="last"))
    for steps, of in (("min", np.min), ("mean", np.mean), ("sum", np.sum), ("prod", np.prod)):
        np.testing.assert_allclose(
            scores.read(path, steps=steps).rewards, of(STEPS, -1), rtol=1e-15
        )
    with pytest.raises(
        ValueError, match=r"row 1, column 'reward'.*is '\[0\.9,0\.5\]'.*--steps last"
    ):
        scores.read(path)
    flat = [{**x, "reward": [0.9, x["reward"]]} for x in FLAT]
    path = put(tmp_path, "y.jsonl", lines(flat))
    same(scores.read(path, steps="last"))
    with pytest.raises(
        ValueError, match="row 1: column 'reward' has 2 entries, column 'correct' has 1"
    ):
        scores.read(path)
    with pytest.raises(ValueError, match=r"of scores of steps .* or one entry a response"):
        scores.read(path, gold=None)
    assert scores.read(path, gold=None, steps="none").rewards.shape == (4, 6)


def test_lists_of_unequal_length_are_refused(tmp_path):
    rows = [LISTS[0], {**LISTS[1], "correct": [1, 0]}]
    with pytest.raises(
        ValueError, match="row 2: column 'reward' has 3 entries, column 'correct' has 2"
    ):
        scores.read(put(tmp_path, "x.jsonl", lines(rows)))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"rm": 1.0}, "which column is the reward: reward, rm"),
        ({"exact_match": 1}, "which column is the gold: correct, exact_match"),
        ({"question": "q"}, "which column is the prompt: prompt, question"),
    ],
)
def test_two_columns_that_may_be_meant_are_asked_for(tmp_path, extra, message):
    path = put(tmp_path, "x.jsonl", lines([*FLAT[:3], {**FLAT[3], **extra}]))
    with pytest.raises(ValueError, match=message):
        scores.read(path)


def test_a_comma_that_may_stand_between_thousands(tmp_path):
    path = put(tmp_path, "x.csv", "prompt;reward\na;1,234\na;2,345\n")
    with pytest.raises(ValueError, match="is the comma in column 'reward' a decimal mark"):
        scores.read(path)
    np.testing.assert_array_equal(scores.read(path, decimal=",").rewards, [[1.234, 2.345]])
    path = put(tmp_path, "y.csv", 'prompt,reward\na,"1,5"\n')
    with pytest.raises(ValueError, match="is '1,5'"):
        scores.read(path)
    np.testing.assert_array_equal(scores.read(path, decimal=",").rewards, [[1.5]])


# Rows --------------------------------------------------------------------------------------------


def test_where_picks_rows_and_keeps_their_numbers(tmp_path):
    rows = [{**x, "filter": f, "k": i} for i, x in enumerate(FLAT) for f in ("strict", "loose")]
    named = {"prompt": "prompt", "reward": "reward", "gold": "correct"}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for path in (
        put(tmp_path, "x.jsonl", lines(rows)),
        put(tmp_path, "x.csv", cells(rows)),
        tmp_path / "x.parquet",
    ):
        pools = scores.read(path, where="filter = 'loose' AND k >= 0", **named)
        same(pools)
        np.testing.assert_array_equal(pools.rows[0], [1, 3, 5])
        assert pools.read == 24
        with pytest.raises(ValueError, match=r"once for each filter \(loose, strict\)"):
            scores.read(path, **named)
    for bad in ("true) UNION SELECT (1", "1; DROP TABLE x", "k IN (SELECT 1)", "(", "nothing = 1"):
        with pytest.raises(ValueError, match=r"where must be one|x\.csv"):
            scores.read(tmp_path / "x.csv", where=bad, **named)


def test_where_reads_no_other_file(tmp_path):
    secret = put(tmp_path, "secret.txt", "hidden")
    path = put(tmp_path, "x.csv", cells(FLAT))
    for inside in (f"(SELECT content FROM read_text('{secret}'))", f"read_text('{secret}')"):
        with pytest.raises(ValueError, match=r"where must be|read_text") as refused:
            scores.read(path, where=f"prompt = {inside}")
        assert "hidden" not in str(refused.value)


def test_repeated_texts_are_counted_and_repeated_identifiers_refused(tmp_path):
    rows = [{**x, "response": "same" if i < 2 else f"r{i}"} for i, x in enumerate(FLAT)]
    path = put(tmp_path, "x.jsonl", lines(rows))
    (note,) = [x for x in scores.read(path).notes if "repeat" in x]
    assert "1 responses repeat the prompt and the response of an earlier one, first row 2" in note
    with pytest.raises(
        ValueError, match=r"rows 1 and 2 have the same prompt 'why\?' and response 'same'"
    ):
        scores.read(path, response="response")


def test_keys_of_later_rows_are_found(tmp_path):
    rows = [
        {"prompt": "a", "reward": 1},
        *({"prompt": "a", "reward": 2, "correct": 1} for _ in range(3)),
    ]
    path = put(tmp_path, "x.jsonl", lines(rows))
    with pytest.raises(
        ValueError, match="row 1, column 'correct' must be a finite number, is empty"
    ):
        scores.read(path)
    pools = scores.read(path, missing="drop")
    np.testing.assert_array_equal(pools.gold, [[1, 1, 1]])
    assert any("every estimate is too high" in x for x in pools.notes)


@pytest.mark.parametrize("word", ["", "nan", "NA", "N/A", "null", "None"])
def test_words_for_missing(tmp_path, word):
    path = put(tmp_path, "x.csv", f"prompt,reward,correct\na,1,1\na,{word},0\na,3,1\n")
    with pytest.raises(ValueError, match="row 2, column 'reward'"):
        scores.read(path)
    np.testing.assert_array_equal(scores.read(path, missing="drop").rewards, [[1, 3]])
    pools = scores.read(path, missing="lose")
    np.testing.assert_array_equal(pools.rewards, [[1, -np.inf, 3]])
    np.testing.assert_array_equal(pools.gold, [[1, 0, 1]])


def test_a_lost_draw_has_the_lowest_gold_of_the_file(tmp_path):
    """Of all prompts, not of its own: gold that is unknown is never taken for more than the worst."""
    rows = "a,1,0.5\na,,\na,3,0.75\nb,1,0.25\nb,2,\nb,3,2\n"
    path = put(tmp_path, "x.csv", f"prompt,reward,gold_reward\n{rows}")
    pools = scores.read(path, missing="lose")
    np.testing.assert_array_equal(pools.rewards, [[1, -np.inf, 3], [1, 2, 3]])
    np.testing.assert_array_equal(pools.gold, [[0.5, 0.25, 0.75], [0.25, 0.25, 2]])


def test_success_names_the_words_that_count(tmp_path):
    text = "prompt,reward,verdict\na,1,great\na,2,poor\na,3,awful\n"
    path = put(tmp_path, "x.csv", text)
    with pytest.raises(ValueError, match=r"row 1, column 'verdict'.*is 'great'"):
        scores.read(path, gold="verdict")
    pools = scores.read(path, gold="verdict", success=["great", "good"])
    np.testing.assert_array_equal(pools.gold, [[1, 0, 0]])
    with pytest.raises(
        ValueError, match="is 'grate'"
    ):  # no word of a column of numbers is a verdict
        scores.read(
            put(tmp_path, "y.csv", text.replace(",2,", ",grate,")), gold="verdict", success="great"
        )


def test_evaluations_in_one_object(tmp_path):
    runs = {
        str(i): [{"task_id": str(i), "plus_status": s} for s in ["pass", "fail", "pass"]]
        for i in range(3)
    }
    path = put(tmp_path, "x.json", json.dumps({"date": "today", "eval": runs}))
    pools = scores.read(path)
    assert pools.prompts == ("0", "1", "2")
    np.testing.assert_array_equal(pools.rewards, [[1, 0, 1]] * 3)


def test_means_tie_where_they_tie_exactly(tmp_path):
    path = put(tmp_path, "x.csv", "prompt,a,b\nx,0.1,0.7\nx,0.4,0.4\nx,0.3,0.5\nx,0.35,0.45\n")
    assert len(set(scores.read(path, reward=["a", "b"]).rewards[0])) == 1


# The command --------------------------------------------------------------------------------------


def test_inspect_shows_the_command_that_reads_the_same(tmp_path, capsys):
    first = {**LISTS[0], "reward": [*REWARDS[0], -1e9], "correct": [*GOLD[0], 0]}
    path = put(tmp_path, "x.jsonl", lines([first, *LISTS[1:]]))
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "  prompt   varchar" in out
    assert "  reward   array" in out
    assert "4 rows, 4 prompts with 3 to 4 responses" in out
    assert "reward: 1 of 13 are far from all others" in out
    command = shlex.split(out.splitlines()[-1])
    assert command[:3] == ["softbon", "analyze", str(path)]
    assert command[3:] == ["--prompt", "prompt", "--reward", "reward", "--gold", "correct"]
    assert main(["inspect", str(tmp_path / "none.csv")]) == 2


def test_known_names_of_a_key_of_two_columns(tmp_path):
    rows = [
        {"question_id": "1", "model_name": name, "rm": r, "scores": [bool(x) for x in g]}
        for name, r, g in zip(PROMPTS, REWARDS, GOLD, strict=True)
    ]
    same(
        scores.read(put(tmp_path, "x.jsonl", lines(rows))),
        [f'["1",{json.dumps(x, ensure_ascii=False)}]' for x in PROMPTS],
    )


def test_select_marks_the_entries_of_lists(tmp_path, capsys):
    path, out = put(tmp_path, "x.jsonl", lines(LISTS)), tmp_path / "out.jsonl"
    assert main(["select", str(path), "--temperature", "0", "--out", str(out)]) == 0
    marks = [json.loads(line)["selected"] for line in out.read_text().splitlines()]
    assert marks[0] == [0, 0, 1]
    assert [sum(x) for x in marks] == [1] * 4
    assert "4 of 12 responses selected" in capsys.readouterr().out
