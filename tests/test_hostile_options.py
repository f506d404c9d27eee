"""Options made to do harm: numbers and names of all kinds, outputs that are no files."""

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from softbon_jax import scores
from softbon_jax.command import replacing
from tests.hostile_cases import GOOD, HEAD
from tests.test_hostile_files import marks, run, select


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    return path


def files(folder):
    return sorted(x.name for x in folder.iterdir())


# Options ------------------------------------------------------------------------------------------

HUGE = "9" * 30
BOTH = [
    (["--seed", "-1"], "--seed must be an integer from 0 to 9223372036854775807, got -1"),
    (["--seed", HUGE], "--seed must be"),
    (["--seed", "1e3"], "argument --seed: invalid int value: '1e3'"),
    (["--seed", "9" * 5000], "argument --seed: invalid int value"),
    (["--seed"], "argument --seed: expected one argument"),
    (["--n", "0"], "--n must be an integer of at least 1, got 0"),
    (["--n", "-1"], "--n must be an integer of at least 1, got -1"),
    (["--n", HUGE], "--n "),
    (["--n", "1.5"], "argument --n: invalid int value"),
    (["--max-rows", "0"], "--max-rows must be an integer of at least 1, got 0"),
    (["--max-bytes", "-5"], "--max-bytes must be an integer from 1 to 9223372036854775807, got -5"),
    (["--max-bytes", "1"], "good.csv holds more than 1 bytes"),
    (["--temperature", "-1e308"], "--temperature must be at least 0"),
    (["--temperature", "-inf"], "--temperature must be at least 0"),
    (["--temperature", "nan"], "--temperature must be at least 0"),
    (["--temperature", "-.5e-3"], "--temperature must be at least 0"),
    (["--temperature", "hot"], "argument --temperature: invalid float value: 'hot'"),
    (["--missing", "\x1b[2J"], "argument --missing: invalid choice"),
    (["--reward", "\x1b[2J"], "no column '\\x1b[2J'"),
    (["--reward", ""], "no column ''"),
    (["--reward", "a\nb"], "no column 'a\\nb'"),
    (["--prompt", "\x9b31m"], "no column '\\x9b31m'"),
    (["--response", "\u202e"], "no column '\\u202e'"),
    (["--gold", "proxy_reward"], "'proxy_reward' both selects and values"),
    (["--\x1b[31m"], "unrecognized arguments: --\\x1b[31m"),
    (["--where", "1; drop"], "where must be one expression of SQL"),
]
ANALYZE = [
    (["--kl", "-1e308"], "--kl must be positive, got -1e+308"),
    (["--kl", "nan"], "--kl must be positive, got nan"),
    (["--budget-n", "-3"], "--budget-n must be positive, got -3"),
    (["--n", "1", "2", HUGE], f"--n must be at most 2147483647, got {HUGE}"),
    (["--leave-one-out"], "takes two or more reward columns"),
    (["--html", ""], "--html . is not written: it is a folder"),
    (
        ["--html", "no/such/r.html"],
        "--html no/such/r.html is not written: its folder does not exist",
    ),
    (["--json", "good.csv"], "--json good.csv is the file of scores"),
    (["--json", "link.csv"], "--json link.csv is the file of scores"),
    (["--json", "loop"], "--json loop is not written"),
    (["--json", "socket"], "--json socket is not written"),
]
SELECT = [
    (["--out", "x.jsonl"], "--out must be of the format of good.csv, got x.jsonl"),
    (["--out", "folder.csv"], "--out folder.csv is not written: it is a folder"),
    (["--out", "no/x.csv"], "--out no/x.csv is not written: its folder does not exist"),
    (["--out", "/dev/null"], "/dev/null: the name must end in"),
    (["--column", "prompt_id"], "already has a column 'prompt_id'"),
]
PLAN = [
    (["--rewards", "-inf", "1"], "--rewards must be finite, got -inf"),
    (["--rewards", "0", "1e400"], "--rewards must be finite, got inf"),
    (["--rewards", "0", "1", "--probs", "-1e308", "1"], "probs must be finite and not negative"),
    (["--rewards", "0", "1", "--probs", "1e308", "1e308"], "the sum of probs must be 1, got inf"),
    (["--rewards", "0", "1", "--probs", "1"], "probs and rewards must have the same last axis"),
    (["--rewards"], "argument --rewards: expected at least one argument"),
    (["--probs", "1"], "--probs needs --rewards"),
    (["--n", "-1e3"], "--n must be finite and at least 1, got -1000.0"),
    (["--n", "inf"], "--n must be finite and at least 1, got inf"),
    (["--n", "nan"], "--n must be finite and at least 1, got nan"),
    (["--kl", "-1e-3"], "--kl must be positive, got -0.001"),
    (["--kl", "1", "--temperature", "1"], "not allowed with argument --kl"),
    (["--temperature", "-1e-300"], "--temperature must be at least 0"),
]


def named(cases, start):
    return [pytest.param(start + x, message, id=f"{start[0]} {x}"[:40]) for x, message in cases]


@pytest.mark.parametrize(
    ("arguments", "message"),
    named(BOTH + ANALYZE, ["analyze", "good.csv"])
    + named(BOTH + SELECT, ["select", "good.csv", "--temperature", "0", "--out", "out.csv"])
    + named(PLAN, ["plan"])
    + [
        pytest.param([], "arguments are required: COMMAND"),
        pytest.param(["\x1b[2J"], "invalid ch"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(
    good, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(good.parent)
    Path("folder.csv").mkdir()
    Path("link.csv").symlink_to("good.csv")
    Path("loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        before = files(good.parent)
        status, _, error = run(capsys, *arguments)
    assert status == 2
    assert message in error
    assert files(good.parent) == before
    assert good.read_text() == GOOD


def test_numbers_with_a_sign_are_no_options(capsys):
    """Against the law of two outcomes by hand: best of two has probabilities 1/4 and 3/4."""
    for low, high, mean in (("-1e308", "1e308", 0.5e308), ("-1e-310", "1e-310", 0.5e-310)):
        _, out, _ = run(capsys, "plan", "--rewards", low, high, "--n", "2")
        assert float(out.splitlines()[1].split()[2]) == pytest.approx(mean, rel=1e-3)


def test_html_without_matplotlib_is_refused_before_computing(good, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(scores, "read", None)
    status, _, error = run(capsys, "analyze", good, "--html", good.with_name("r.html"))
    assert status == 2
    assert "--html) needs Matplotlib: pip install" in error


def test_scores_whose_squares_overflow(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text(HEAD + "a,1\na,-1e200\n")
    status, _, error = run(capsys, "analyze", path)
    assert status == 2
    assert "x.csv: scores beyond 1e+150 overflow" in error


def test_a_pool_that_cannot_be_padded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("softbon_jax.scores._pools.MOST_CELLS", 10)
    path = tmp_path / "x.csv"
    path.write_text(HEAD + "a,1\n" * 5 + "b,1\nc,1\n")
    assert "3 prompts with up to 5 responses are too many" in select(capsys, path)[1]


NAMES = [
    "score $x_{$",
    "\x1b[31mred",
    "<b>&amp;",
    "λ 評",
    "-->",
    "a\nb",
    "\u202e",
    "\\frac",
    "\ud800",
]


@pytest.mark.slow
def test_names_of_columns_harm_no_report(tmp_path, capsys):
    path, page, numbers = (tmp_path / f"x.{ending}" for ending in ("jsonl", "html", "json"))
    names = ["proxy" + name for name in NAMES]
    rows = [
        {"prompt_id": f"p{i}", **dict.fromkeys(names, i + j)} for i in range(12) for j in (0, 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for gold in names[1:]:
        chosen = ["--reward", names[0], "--gold", gold, "--temperature", "0", "--n", "2"]
        if gold is not names[1]:  # drawing takes its time
            chosen += ["--json", numbers]
        else:
            chosen += ["--html", page]
        status, out, error = run(capsys, "analyze", path, *chosen)
        assert status == 0, error
        assert "proxyscore $x_{$" in out
    assert json.loads(numbers.read_text())["read"]["columns"]["gold"] == "proxy\\ud800"
    text = page.read_text()
    assert "\x1b" not in text
    assert "proxy\\x1b[31mred" in text


# Outputs ------------------------------------------------------------------------------------------


def analyze(capsys, path, *options):
    return run(capsys, "analyze", path, "--temperature", "0", "--n", "1", *options)


def test_permissions_and_links_are_kept(tmp_path, capsys, good):
    inside = tmp_path / "inside"
    inside.mkdir()
    secret, link, dangling = inside / "secret.csv", tmp_path / "link.csv", tmp_path / "new.csv"
    secret.write_text(GOOD)
    secret.chmod(0o600)
    link.symlink_to(secret)
    dangling.symlink_to(inside / "new.csv")
    for out in (link, dangling):
        status, _, _ = run(capsys, "select", good, "--temperature", "0", "--out", out)
        assert status == 0
        assert out.is_symlink()
        assert marks(out) == [0, 1]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE((inside / "new.csv").stat().st_mode) == 0o666 & ~umask()
    assert files(inside) == ["new.csv", "secret.csv"]


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_select_in_place(good, capsys):
    good.chmod(0o640)
    assert run(capsys, "select", good, "--temperature", "0", "--out", good)[0] == 0
    assert marks(good) == [0, 1]
    assert stat.S_IMODE(good.stat().st_mode) == 0o640


def test_select_writes_what_the_name_says(good, tmp_path, capsys):
    for name in ("b.tsv", "B.TSV.GZ", "b.csv.gz"):
        out = tmp_path / name
        assert run(capsys, "select", good, "--temperature", "0", "--out", out)[0] == 0
        assert marks(out) == [0, 1]


def test_json_rows_are_copied_digit_for_digit(tmp_path, capsys):
    rows = ['{"prompt_id": "\\ud800", "proxy_reward": 1.10, "t": 1e400 }', '{"prompt_id":"\\ud800"']
    rows[1] += ',"proxy_reward":3,"t":100000000000000000000.10}'
    path, out = tmp_path / "x.jsonl", tmp_path / "out.jsonl"
    path.write_text("\n".join(rows))
    assert run(capsys, "select", path, "--temperature", "0", "--out", out)[0] == 0
    for row, line in zip(rows, out.read_text().splitlines(), strict=True):
        assert line.startswith(row[:-1].rstrip())
        assert json.loads(line)["selected"] in (0, 1)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full", "/dev/stdout"])
def test_devices_are_written_through(good, capfd, device):
    before = os.stat(device).st_rdev
    status, out, error = analyze(capfd, good, "--json", device)
    assert os.stat(device).st_rdev == before
    if device == "/dev/full":
        assert status == 2
        assert "--json /dev/full is not written: No space left on device" in error
    else:
        assert status == 0
        assert ('"file": "good.csv"' in out) == (device == "/dev/stdout")
        assert out.count("good.csv: 2 rows") == 1


@pytest.mark.slow
def test_a_file_that_is_standard_output_is_not_replaced(good, tmp_path):
    both = tmp_path / "both.txt"
    code = "import sys; from softbon_jax.command.main import main; sys.exit(main())"
    with both.open("w") as out:
        subprocess.run(
            [sys.executable, "-c", code, "analyze", good, "--temperature", "0", "--json", both],
            stdout=out,
            check=True,
        )
    text = both.read_text()
    assert '"file": "good.csv"' in text
    assert "good.csv: 2 rows" in text


def test_pipes_are_written_through(good, tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    status, _, error = analyze(capsys, good, "--json", pipe)
    assert status == 2
    assert f"--json {pipe} is not written: nothing reads from this pipe" in error
    read = []
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(handle, True)

    def drain():
        with os.fdopen(handle, "rb") as file:
            read.append(file.read())

    thread = threading.Thread(target=drain)
    writer = os.open(pipe, os.O_WRONLY)  # so that the reader waits
    thread.start()
    assert analyze(capsys, good, "--json", pipe)[0] == 0
    os.close(writer)
    thread.join()
    assert json.loads(read[0])["file"] == "good.csv"


def test_a_full_disk_leaves_what_was_there(good, tmp_path, capsys, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out"
    out.write_text("before")
    for option, path in (
        ("--json", out),
        ("--html", out),
        ("--out", out.rename(tmp_path / "o.csv")),
    ):
        path.write_text("before")
        start = ["select", good] if option == "--out" else ["analyze", good]
        status, _, error = run(capsys, *start, "--temperature", "0", option, path)
        assert status == 2
        assert f"{option} {path} is not written: No space left on device" in error
        assert path.read_text() == "before"
    assert files(tmp_path) == ["good.csv", "o.csv", "out"]


def test_a_folder_that_cannot_be_written(good, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
    status, _, error = analyze(capsys, good, "--json", tmp_path / "r.json")
    assert status == 2
    assert "r.json is not written: its folder cannot be written" in error


def test_two_outputs_in_one_file(good, tmp_path, capsys):
    out = tmp_path / "r"
    status, _, error = analyze(capsys, good, "--json", out, "--html", tmp_path / "." / "r")
    assert status == 2
    assert "is also the file of --html" in error


def test_only_the_owner_reads_a_secret_while_it_is_written(tmp_path):
    path = tmp_path / "secret"
    path.write_text("")
    path.chmod(0o600)
    with replacing(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
