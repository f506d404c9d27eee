"""Results that are killed, damaged, full or shared: found, said, and made again with the same bytes."""

import contextlib
import errno
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments import poisson, runner
from experiments.__main__ import main

NAME = "poisson"
RUN = ["run", NAME, "--config", "smoke", "--out"]
COMMAND = [sys.executable, "-m", "experiments", *RUN]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A result that nothing has happened to."""
    out = tmp_path_factory.mktemp("straight")
    assert main([*RUN, str(out)]) == 0
    return out


@pytest.fixture
def again(straight, capsys):
    """Runs the experiment again: the same bytes. What is said on the way."""

    def run(out):
        capsys.readouterr()
        assert main([*RUN, str(out)]) == 0
        said = capsys.readouterr().err
        assert data(out).read_bytes() == data(straight).read_bytes()
        assert runner.load(NAME, out).identical(runner.load(NAME, straight))
        assert not list((out / ".cells").iterdir())
        assert not list((out / NAME).glob(".*"))
        return said

    return run


def data(out):
    return out / NAME / "data.nc"


def manifest(out):
    return out / NAME / "manifest.json"


def stopped(out, monkeypatch):
    """A run that is stopped after its first cell; that cell's file."""

    def compute(config, cell, original=poisson.compute):
        if cell == poisson.cells(config)[1]:
            raise KeyboardInterrupt
        return original(config, cell)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(poisson, "compute", compute)
        main([*RUN, str(out)])
    (cell,) = out.glob(".cells/*/*.nc")
    return cell


# Damage -------------------------------------------------------------------------------------------


def flip(content, random):
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]


DAMAGE = {
    "flip": flip,
    "cut": lambda content, random: content[: random.randrange(len(content))],
    "empty": lambda content, random: b"",
    "more": lambda content, random: content + b"x",
    "other": lambda content, random: random.randbytes(len(content)),
    "list": lambda content, random: b"[]",
    "null": lambda content, random: b"null",
    "deep": lambda content, random: b"[" * 100_000,
    "digits": lambda content, random: b"9" * 5000,
    "version": lambda content, random: b'{"experiment": "poisson"}',
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_mended(tmp_path, capsys, monkeypatch, again, damage):
    chance = random.Random(0)
    cell = stopped(tmp_path, monkeypatch)
    cell.write_bytes(DAMAGE[damage](cell.read_bytes(), chance))
    assert f"{cell} is damaged, and is now in " in again(tmp_path)
    assert (tmp_path / ".replaced" / f"{cell.name}-damaged").is_file()
    for path in (data(tmp_path), manifest(tmp_path)):
        bad = DAMAGE[damage](path.read_bytes(), chance)
        path.write_bytes(bad)
        with pytest.raises(runner.ResultError, match=f"{path} .*run `python -m experiments run"):
            runner.load(NAME, tmp_path)
        assert f"computing it again, because {path} " in again(tmp_path)
        assert (tmp_path / ".replaced" / "poisson-damaged" / path.name).read_bytes() == bad


def test_missing_files(tmp_path, again, capsys):
    again(tmp_path)
    data(tmp_path).unlink()
    with pytest.raises(runner.ResultError, match=r"data\.nc is not what its manifest describes"):
        runner.load(NAME, tmp_path)
    assert "data.nc is not what its manifest describes" in again(tmp_path)
    manifest(tmp_path).unlink()
    with pytest.raises(runner.ResultError, match="no result of poisson"):
        runner.load(NAME, tmp_path)
    again(tmp_path)


def test_a_result_of_a_version_without_checksums(tmp_path, again):
    again(tmp_path)
    old = json.loads(manifest(tmp_path).read_text())
    del old["manifest_sha256"]
    manifest(tmp_path).write_text(json.dumps(old))
    assert "manifest.json was saved by another version" in again(tmp_path)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys, again):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main([*RUN, str(tmp_path)]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("[")]
    assert re.match(rf"error: .*No space left on device: '{tmp_path}/.cells/.*0000\.", line)
    again(tmp_path)


def test_inputs_that_are_no_files(tmp_path, capsys):
    os.mkfifo(tmp_path / "scores.csv")
    options = ["--scores", str(tmp_path / "scores.csv"), "--out", str(tmp_path)]
    assert main(["run", "pool_frontier", "--config", "smoke", *options]) == 2
    assert "scores.csv is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_files_of_claims_are_checked_before_computing(tmp_path, capsys, monkeypatch, option):
    monkeypatch.setattr(runner, "execute", None)
    assert main(["verify", "--config", "smoke", option, str(tmp_path)]) == 2
    assert f"{option} {tmp_path} is not written: it is a folder" in capsys.readouterr().err


def test_a_second_run_waits(tmp_path, again, capsys):
    again(tmp_path)
    lock = (tmp_path / ".locks" / NAME).open("a+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = threading.Thread(target=main, args=([*RUN, str(tmp_path)],))
    waiting.start()
    said = ""
    for _ in range(500):
        said += capsys.readouterr().err
        if "waiting for process" in said:
            break
        time.sleep(0.01)
    assert f"poisson: waiting for process {os.getpid()}, which computes it in {tmp_path}" in said
    assert waiting.is_alive()
    lock.close()
    waiting.join()
    assert "poisson: up to date" in capsys.readouterr().err


# Chance -------------------------------------------------------------------------------------------


@pytest.fixture
def chance():
    seed = int(os.environ.get("SOFTBON_SEED", 0)) or random.SystemRandom().getrandbits(32)
    print(f"SOFTBON_SEED={seed} repeats this")
    return random.Random(seed)


@pytest.mark.parametrize(
    ("runs", "fewest"),
    [
        pytest.param(5, 1, marks=pytest.mark.slow),
        pytest.param(20, 5, marks=pytest.mark.long),
    ],
)
def test_kills(tmp_path, again, chance, runs, fewest):
    """At a random moment between the first file and the last, with nobody to tidy up."""
    began = time.perf_counter()
    subprocess.run([*COMMAND, tmp_path / "time"], cwd=runner.REPOSITORY, check=True)
    longest = time.perf_counter() - began
    killed = 0
    for i in range(runs):
        out = tmp_path / str(i)
        process = subprocess.Popen(
            [*COMMAND, out], cwd=runner.REPOSITORY, stderr=subprocess.DEVNULL
        )
        while not out.exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, longest / 3))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() != 0
        again(out)
    print(f"{killed} of {runs} had not ended by themselves")
    assert killed >= fewest


@pytest.mark.slow
def test_twenty_kinds_of_damage(tmp_path, again, monkeypatch, chance):
    for i in range(20):
        out = tmp_path / str(i)
        stopped(out, monkeypatch)
        if chance.random() < 0.6:
            again(out)
        files = [x for x in out.rglob("*") if x.is_file()]
        path = chance.choice(files)
        kind = chance.choice(["remove", *DAMAGE])
        content = path.read_bytes()
        if kind == "remove":
            path.unlink()
        else:
            path.write_bytes(DAMAGE[kind](content or b"x", chance))
        said = again(out)
        if path.suffix in (".nc", ".json") and kind != "remove":
            assert str(path) in said, kind


@pytest.mark.slow
def test_two_runs_at_once(tmp_path, again):
    both = [
        subprocess.Popen([*COMMAND, tmp_path], cwd=runner.REPOSITORY, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate()[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("up to date" in text for text in said) == 1
    assert "up to date" in again(tmp_path)


@pytest.mark.slow
def test_the_file_library_survives_a_full_disk(tmp_path):
    """Files may have 2,000 bytes: an error line and status 2, where it would end in a signal."""
    code = (
        "import resource, sys; from experiments.__main__ import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *RUN, tmp_path],
        cwd=runner.REPOSITORY,
        env={**os.environ, "SOFTBON_CACHE": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: [Errno 27] File too large: ")
