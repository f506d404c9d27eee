"""Files and options made to do harm: each ends well, or with one line that says what is wrong where.

Every case runs through the command, in this process. A status of 0 must come with the right selection,
2 with one line that names the file or the option; nothing else is allowed, and no warning either.
"""

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softbon_jax import scores
from softbon_jax.command.main import main
from tests.hostile_cases import (
    ARRAYS,
    FILES,
    GOOD,
    HEAD,
    LARGE_TEXT,
    LINES,
    ROWS,
    blank,
    described,
    header,
    npz,
    parquet,
    zipped,
)


def run(capsys, *arguments):
    """The status of a command, its output, and its one line of error."""
    try:
        status = main([str(x) for x in arguments])
    except SystemExit as end:
        status = end.code
    out, error = capsys.readouterr()
    assert status in (0, 2), error
    assert "\x1b" not in out + error
    if status == 2:
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert len(error) < 3000
    else:
        assert error == ""
    return status, out, error


def select(capsys, path, *options):
    """The same for `select`; where it succeeds, the higher of the two scores is selected."""
    out = path.with_name(f"selected-{path.name}")
    status, _, error = run(capsys, "select", path, "--temperature", 0, "--out", out, *options)
    if status == 0:
        assert marks(out) == [0, 1]
    else:
        assert not out.exists()
    return status, error


def marks(path):
    """The last column of a file."""
    if path.suffix == ".parquet":
        return pq.read_table(path).column("selected").to_pylist()
    text = path.read_bytes()
    text = (gzip.decompress(text) if path.suffix.lower() == ".gz" else text).decode("utf-8-sig")
    if "json" in path.name:
        return [json.loads(line)["selected"] for line in text.splitlines()]
    rows = list(csv.reader(io.StringIO(text), delimiter=scores.delimiter_of(path)))
    return [int(row[-1]) for row in rows[1:]]


# Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FILES)
def test_files_of_scores(tmp_path, capsys, case):
    name, content, message = FILES[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    status, error = select(capsys, path)
    assert status == (0 if message is None else 2), error
    assert (message or "") in error


@pytest.mark.parametrize("case", ARRAYS)
def test_files_of_arrays(tmp_path, capsys, case):
    content, message = ARRAYS[case]
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    status, _, error = run(capsys, "analyze", path)
    assert status == 2
    assert message in error
    assert "x.npz" in error


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.gz", "npz", "parquet"])
def test_flipped_and_missing_bytes(tmp_path, capsys, kind):
    """Where a format has checksums, an answer is the right one."""
    text = (GOOD if "csv" in kind else LINES).encode()
    pool = npz(proxy_reward=np.array([[1.0, 3.0]]))
    good = {"npz": pool, "parquet": parquet(write_page_checksum=True)}.get(
        kind, gzip.compress(text)
    )
    path = tmp_path / f"x.{kind}"
    random = np.random.default_rng(0)
    refused = 0
    for at in random.choice(len(good), 12, replace=False):
        bad = bytearray(good)
        bad[at] ^= 1 << int(random.integers(8))
        for content in (bytes(bad), good[:at]):
            path.write_bytes(content)
            if kind == "npz":  # which select does not write; analyze finds too few prompts
                status, out, error = run(capsys, "analyze", path, "--temperature", 0, "--n", 1, 2)
                assert status == 2 or "2 ±nan  3 ±nan" in out
            else:
                status, error = select(capsys, path)
                (tmp_path / f"selected-x.{kind}").unlink(missing_ok=True)
            assert status == 0 or f"x.{kind}" in error
            refused += status == 2
    assert refused >= 12


def test_blank_lines_are_no_rows(tmp_path, capsys):
    for name, text in (("x.csv.gz", GOOD), ("x.jsonl.gz", LINES)):
        path = tmp_path / name
        path.write_bytes(blank(text, 2**18))
        assert select(capsys, path)[0] == 0


@pytest.mark.slow
def test_a_large_text_is_read_once(tmp_path, capsys):
    """A gigabyte, if every row held it."""
    path = tmp_path / "x.parquet"
    path.write_bytes(parquet(LARGE_TEXT, compression="zstd"))
    status, out, _ = run(capsys, "analyze", path, "--temperature", "inf", "--n", "1")
    assert status == 0
    assert "1,000 rows, 1 prompts" in out


def test_limits(tmp_path, capsys):
    (tmp_path / "x.csv").write_text(HEAD + "a,1\n" * 50)
    assert "more than 49 rows" in select(capsys, tmp_path / "x.csv", "--max-rows", 49)[1]
    assert (
        "more than 99 bytes when unpacked"
        in select(capsys, tmp_path / "x.csv", "--max-bytes", 99)[1]
    )
    (tmp_path / "x.parquet").write_bytes(parquet(ROWS * 50))
    assert "more than 99 rows" in select(capsys, tmp_path / "x.parquet", "--max-rows", 99)[1]
    (tmp_path / "x.npz").write_bytes(npz(proxy_reward=np.ones((10, 10))))
    _, _, error = run(capsys, "analyze", tmp_path / "x.npz", "--max-bytes", 99)
    assert "x.npz holds more than 99 bytes" in error


# Inputs -------------------------------------------------------------------------------------------


def test_inputs_that_are_no_files(tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "stdin.jsonl").symlink_to("/dev/stdin")
    for name in ("fifo.csv", "folder.csv", "zero.csv"):
        assert f"{name} is not a regular file" in select(capsys, tmp_path / name)[1]
    for name in ("/dev/zero", "/dev/stdin"):
        status, _, error = run(capsys, "analyze", name)
        assert status == 2
        assert f"{name}: the name must end in" in error
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "broken.csv").symlink_to("nothing.csv")
    for name in ("missing.csv", "loop.csv", "broken.csv", "a" * 300 + ".csv"):
        status, _, error = run(capsys, "analyze", tmp_path / name)
        assert status == 2
        assert name in error


def test_a_file_that_grows_while_it_is_read(tmp_path, capsys, monkeypatch):
    good, out = tmp_path / "good.csv", tmp_path / "out.csv"
    good.write_text(GOOD)
    read = scores.read

    def grow(*args, **options):
        pools = read(*args, **options)
        good.write_text(GOOD + "a,4\n")
        return pools

    monkeypatch.setattr(scores, "read", grow)
    status, _, error = run(capsys, "select", good, "--temperature", "0", "--out", out)
    assert status == 2
    assert "good.csv has changed while it was read" in error
    assert not out.exists()


# Without bounds on memory these end the machine ---------------------------------------------------

NAME = "prompt_id"
BOMB, LIMIT, OF_ENGINE = 2**29, 3 * 2**27, 2**28
"""Bytes: a file when unpacked; what a process may take beyond its start, and of that the engine."""
LIMITED = f"""
import os, resource, sys
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # the stack of a thread counts as well
import duckdb, pyarrow.parquet, jax
from softbon_jax.command.main import main
from softbon_jax.scores import _engine
assert _engine.MEMORY > {OF_ENGINE}
_engine.MEMORY = {OF_ENGINE}
jax.numpy.zeros(1).block_until_ready()
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (taken + {LIMIT},) * 2)
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process is that of Linux")
@pytest.mark.parametrize("kind", ["spaces", "blank", "rows", "json", "parquet", "npz"])
def test_bombs_in_bounded_memory(tmp_path, kind):
    """Half a gigabyte in a file of a megabyte, with less for the process to work with.

    Of what the engine has by default, and of the files that would fill it, this is an eighth.
    """
    piece = bytes(2**20)

    def large_text():
        name = pa.DictionaryArray.from_arrays(np.zeros(1000, np.int32), ["x" * (BOMB // 1000)])
        table = pa.table({NAME: name, "proxy_reward": [1.0] * 1000})
        return parquet(table, compression="zstd", store_schema=False)

    name, content = {
        "spaces": ("x.csv.gz", lambda: zipped(b" " * 2**20, BOMB // 2**20)),
        "blank": ("x.csv.gz", lambda: blank(GOOD, BOMB)),
        "rows": (
            "x.csv.gz",
            lambda: zipped(
                b'a,1,"' + b"x" * 2**17 + b'"\n', BOMB // 2**17, HEAD.replace("\n", ",t\n")
            ),
        ),
        "json": ("x.jsonl.gz", lambda: zipped(b"[" * 2**20, BOMB // 2**20)),
        "parquet": ("x.parquet", large_text),
        "npz": (
            "x.npz",
            lambda: header(
                described((BOMB // 4096,), "<U1024"), *[piece] * (BOMB // 2**20), name=NAME
            ),
        ),
    }[kind]
    path = tmp_path / name
    path.write_bytes(content())
    assert path.stat().st_size < 2**21
    options = ["--max-bytes", str(BOMB // 4)] if kind == "rows" else []
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            LIMITED,
            "analyze",
            path,
            "--temperature",
            "inf",
            "--n",
            "1",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
    )
    assert done.returncode in (0, 2), done.stderr
    if done.returncode == 2:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert name in done.stderr
        # What is read piece by piece is refused before memory is short; an array is asked for whole.
        assert kind == "npz" or not re.search("allocate|fit into memory", done.stderr)
