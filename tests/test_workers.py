"""Experiments side by side in several processes: the same bytes, errors that arrive, nothing left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import runner, workers
from experiments.__main__ import main


def test_items_in_order_and_the_first_error():
    assert workers.side_by_side(lambda x: x**2, [3, 1, 2], 2) == [9, 1, 4]
    with pytest.raises(ZeroDivisionError):
        workers.side_by_side(lambda x: 1 // x, [1, 0, 2], 2)


def test_one_process_is_this_one():
    with workers.processes(1) as call:
        assert call(os.getpid) == os.getpid()


@pytest.mark.parametrize("number", ["0", "-2"])
def test_bad_numbers(number, tmp_path, capsys):
    assert main(["verify", "--out", str(tmp_path), "--processes", number]) == 2
    assert f"--processes must be at least 1, got {number}" in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes():
    with workers.processes(2) as call:
        assert call(os.getpid) != os.getpid()
        with pytest.raises(ValueError, match="no experiment is called 'dance'"):
            call(runner.computed, "dance", None, "")


COMMAND = [sys.executable, "-m", "experiments", "verify", "--config", "smoke"]
COMMAND += ["--only", "poisson", "hard_limit"]


def running(process):
    """Whether it is there and not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_killed_side_by_side_and_continued(tmp_path):
    def run(out, *options):
        command = [*COMMAND, "--out", str(out), *options]
        return subprocess.Popen(
            command, cwd=runner.REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    stopped, straight = tmp_path / "stopped", tmp_path / "straight"
    process = run(stopped, "--processes", "2")
    while not list(stopped.glob(".cells/*/0000.*.nc")):
        time.sleep(0.01)
        assert process.poll() is None
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = {child for task in tasks for child in task.read_text().split()}
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(600):
        if not any(map(running, children)):
            break
        time.sleep(0.05)
    else:
        pytest.fail("processes are left behind")
    both = [run(stopped, "--processes", "2"), run(straight, "--processes", "1")]
    assert [x.wait() for x in both] == [0, 0]
    for name in ("poisson", "hard_limit"):
        assert (stopped / name / "data.nc").read_bytes() == (
            straight / name / "data.nc"
        ).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [None, "glibc.malloc.check=0"])
def test_processes_ask_for_huge_pages_unless_the_user_asks_for_something(asked, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if asked:
        monkeypatch.setenv("GLIBC_TUNABLES", asked)
    with workers.processes(2) as call:
        assert call(os.getenv, "GLIBC_TUNABLES") == (asked or workers.HUGE_PAGES)
    assert os.getenv("GLIBC_TUNABLES") == asked
