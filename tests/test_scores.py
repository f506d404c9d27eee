"""Score files: every format gives the same pools, and what is wrong is named with row and column."""

import gzip
import json
import pickle
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softbon_jax import scores

ROWS = [
    {"q": "b", "id": "0", "score": 2.0, "truth": 1},
    {"q": "a", "id": "0", "score": -1e3, "truth": 0},
    {"q": "b", "id": "1", "score": 3.5, "truth": 0},
    {"q": "b", "id": "2", "score": 2.0, "truth": 1},
]
NAMES = {"prompt": "q", "reward": "score", "gold": "truth", "response": "id"}


def write(path, rows=ROWS):
    name = path.name
    if "parquet" in name:
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif "npz" in name:
        np.savez(path, **{key: np.array([row[key] for row in rows]) for key in rows[0]})
    else:
        if "json" in name:
            text = "\n".join(json.dumps(row) for row in rows)
        else:
            mark = "\t" if "tsv" in name else ","
            lines = [rows[0].keys(), *(map(str, row.values()) for row in rows)]
            text = "\n".join(mark.join(line) for line in lines)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize(
    "name", ["x.csv", "x.csv.gz", "x.tsv", "x.jsonl", "x.ndjson.gz", "x.parquet", "x.npz"]
)
def test_every_format_gives_the_same_pools(tmp_path, name):
    pools = scores.read(write(tmp_path / name), **NAMES)
    assert pools.prompts == ("b", "a")
    np.testing.assert_array_equal(pools.rewards, [[2, 3.5, 2], [-1000, 0, 0]])
    np.testing.assert_array_equal(pools.gold, [[1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(pools.where, [[True] * 3, [True, False, False]])
    np.testing.assert_array_equal(pools.rows, [[0, 2, 3], [1, -1, -1]])
    assert pools.read == 4
    assert pools.dropped == ()


def test_arrays_of_pools_in_npz(tmp_path):
    rewards = np.array([[1.0, np.nan, 2.0], [0.0, 3.0, 4.0]])
    np.savez(tmp_path / "x.npz", proxy_reward=rewards, gold_reward=rewards * 2)
    pools = scores.read(tmp_path / "x.npz")
    assert pools.prompts == ("0", "1")
    np.testing.assert_array_equal(pools.rewards, [[1, 2, 0], [0, 3, 4]])
    np.testing.assert_array_equal(pools.gold, 2 * pools.rewards)


def test_default_columns(tmp_path):
    text = 'prompt_id,note,proxy_reward,gold_reward\na,"x,\ny",1,\na,,2,\n'
    path = tmp_path / "x.csv"
    path.write_text(text)
    pools = scores.read(path)
    assert pools.columns == scores.Columns("prompt_id", "proxy_reward", None, None)  # gold is empty
    assert pools.gold is None
    np.testing.assert_array_equal(pools.rewards, [[1, 2]])


def test_what_is_dropped_is_told(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt_id,proxy_reward\na,1\na,\nb,1\na,nan\na,3\nc,2\n")
    pools = scores.read(path, missing="drop", least=2)
    assert pools.prompts == ("a",)
    np.testing.assert_array_equal(pools.rewards, [[1, 3]])
    np.testing.assert_array_equal(pools.rows, [[0, 4]])
    assert pools.dropped == (
        scores.Dropped("no finite proxy_reward", 2, 2),
        scores.Dropped("prompt with fewer than 2 responses", 2, 3),
    )


JUDGES = "prompt_id,a,b,c,note\nx,1,2,6,hm\nx,4,4,1,hm\ny,0,3,3,hm\n"


def test_several_columns_are_averaged(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(JUDGES)
    pools = scores.read(path, reward=["a", "b"], gold=["c"])
    np.testing.assert_array_equal(pools.rewards, [[1.5, 4], [1.5, 0]])
    np.testing.assert_array_equal(pools.gold, [[6, 1], [3, 0]])
    assert pools.columns == scores.Columns("prompt_id", ("a", "b"), "c")
    assert pools.columns.described == "reward = mean of a, b, gold = c"
    pools = scores.read(path, reward="c", gold=("a", "b"))
    np.testing.assert_array_equal(pools.gold, [[1.5, 4], [1.5, 0]])
    np.savez(tmp_path / "x.npz", a=np.array([[1.0, np.nan]]), b=np.array([[2.0, np.nan]]))
    np.testing.assert_array_equal(
        scores.read(tmp_path / "x.npz", reward=["a", "b"]).rewards, [[1.5]]
    )


def test_one_judge_is_left_out(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(JUDGES)
    pools = scores.read(path, reward=["a", "b", "c"], leave_one_out=True)
    np.testing.assert_array_equal(pools.rewards, [[3, 3], [2, 0]])
    np.testing.assert_array_equal(pools.judges, [[[1, 2, 6], [4, 4, 1]], [[0, 3, 3], [0, 0, 0]]])
    assert pools.gold is None
    assert pools.columns.valuing == "score of the judge left out"


def test_what_selects_is_not_gold_by_default(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt_id,gold_reward\na,1\na,2\n")
    assert scores.read(path, reward="gold_reward").gold is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": ["a", "d"]}, "no column 'd'; the columns are prompt_id, a, b, c, note"),
        ({"reward": "a", "gold": ["b", "d"]}, "no column 'd'"),
        ({"reward": ["a", "b", "a"]}, "column 'a' is named twice among those that select"),
        ({"reward": "a", "gold": ["b", "b"]}, "column 'b' is named twice among those that value"),
        ({"reward": ["a", "b"], "gold": ["c", "b"]}, "column 'b' both selects and values"),
        ({"reward": ["a", "note"]}, "row 1, column 'note' must be a finite number, is 'hm'"),
        ({"reward": []}, "no column is named that selects"),
        ({"reward": ["a"], "leave_one_out": True}, "takes two or more reward columns, got 1"),
        ({"reward": ["a", "b"], "gold": "c", "leave_one_out": True}, "so name no other"),
    ],
)
def test_bad_choices_of_columns_are_explained(tmp_path, options, message):
    path = tmp_path / "x.csv"
    path.write_text(JUDGES)
    with pytest.raises(ValueError, match=message):
        scores.read(path, **options)


HEAD = "prompt_id,proxy_reward\n"
BAD = [
    ("x.csv", "", "not a CSV file with a header"),
    ("x.csv", HEAD, "no rows"),
    (
        "x.csv",
        "prompt_id,points\na,1\n",
        "no column 'proxy_reward'; the columns are prompt_id, points",
    ),
    ("x.csv", "who,proxy_reward\na,1\n", "no column 'prompt_id'"),
    ("x.csv", "a,a\n1,2\n", "column 'a' twice"),
    ("x.csv", HEAD + "a,1\na,\n", "row 2, column 'proxy_reward'.*is empty"),
    ("x.csv", HEAD + "a,1\na,nan\n", "row 2, column 'proxy_reward'.*is 'nan'"),
    ("x.csv", HEAD + "a,inf\na,1\n", "row 1, column 'proxy_reward'.*is 'inf'"),
    ("x.csv", HEAD + "a,1\na,x\na,z\n", "row 2,.*is 'x' .and 1 more"),
    ("x.csv", HEAD + "a,\nb,\n", "'proxy_reward' is empty in all 2 rows"),
    ("x.csv", HEAD + "a,1\n,2\n", "row 2, column 'prompt_id'.*is empty"),
    ("x.csv", HEAD + "a,1,2\n", "line 2 has 3 cells, the header has 2"),
    (
        "x.csv",
        "prompt_id,response_id,proxy_reward\na,0,1\na,1,1\na,0,2\n",
        "rows 1 and 3.*'a'.*'0'",
    ),
    ("x.csv", HEAD + "a,1\nb,2\n", "nothing is left of 2 rows .2 rows: prompt with fewer"),
    ("x.csv", HEAD + "a,1\n" * 11, "more than 10 rows"),
    ("x.csv.gz", HEAD + "a,1\n", "not a plain or packed text file"),
    ("x.csv", b"\xff\xfe\x00", "not a plain or packed text file"),
    (
        "x.jsonl",
        '{"prompt_id": 1, "proxy_reward": 2}\n{"prompt_id": 1, "proxy_',
        "row 2 is not JSON",
    ),
    ("x.jsonl", '{"prompt_id": 1, "proxy_reward": 2}\n[]', "row 2 is not a JSON object"),
    (
        "x.jsonl",
        '{"prompt_id": 1, "proxy_reward": [[2, 3]]}',
        r"row 1, column 'proxy_reward'.*is '\[2,3\]'.*--steps last",
    ),
    (
        "x.jsonl",
        '{"prompt_id": 1, "proxy_reward": 2}\n{"prompt_id": 1}',
        "row 2, column 'prox.*empty",
    ),
    ("x.jsonl", "", "no column 'prompt_id'; the columns are none"),
    ("x.parquet", "PAR1", "not a Parquet file, or cut short"),
    ("x.npz", "PK", "not an npz file of plain arrays"),
    ("x.xls", "", "the name must end in one of .csv"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_files_are_explained(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        scores.read(path, least=2, most_rows=10)


def test_files_cut_short(tmp_path):
    for name, message in (("x.parquet", "cut short"), ("x.csv.gz", "not a plain or packed")):
        path = write(tmp_path / name)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=message):
            scores.read(path, **NAMES)


class Bomb:
    """Ends the process if it is ever unpickled."""

    def __reduce__(self):
        return (sys.exit, ("unpickled",))


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", proxy_reward=np.array([Bomb()], object))
    (tmp_path / "y.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("x.npz", "y.npz"):
        with pytest.raises(ValueError, match="not an npz file of plain arrays"):
            scores.read(tmp_path / name)


def test_files_need_the_engine(tmp_path, monkeypatch):
    path = write(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match="needs DuckDB: pip install"):
        scores.read(path, **NAMES)
    scores.read(write(tmp_path / "x.npz"), **NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "ignore"}, "missing must be 'error', 'drop' or 'lose', got 'ignore'"),
        ({"least": 0}, "least must be an integer of at least 1, got 0"),
        ({"most_rows": 2.5}, r"most_rows must be an integer of at least 1, got 2\.5"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        scores.read(write(tmp_path / "x.csv"), **NAMES, **options)


@pytest.mark.parametrize(
    ("pools", "gold", "message"),
    [
        ({}, None, "at least one prompt"),
        ({"a": [1.0], "b": []}, None, "prompt 'b' has no rewards"),
        ({"a": [1.0, 2.0]}, {"a": [1.0]}, "prompt 'a' has 2 rewards and 1 gold scores"),
    ],
)
def test_pools_that_cannot_be_padded(pools, gold, message):
    with pytest.raises(ValueError, match=message):
        scores.padded(pools, gold)


def test_tab_separated_by_any_case_of_its_name(tmp_path):
    path = write(tmp_path / "x.tsv")
    upper = path.rename(tmp_path / "Y.TSV")
    assert scores.read(upper, **NAMES).prompts == ("b", "a")
