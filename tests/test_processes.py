"""Two processes on one machine, four devices each, on arrays of which each holds a half."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from softbon_jax.command import main
from tests import processes_cases

LONGEST = 200
"""Seconds after which a process counts as hanging; of that, 10 are without a heartbeat."""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(out, *options):
    address = f"127.0.0.1:{free_port()}"
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.processes_cases", address, str(i), str(out), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[1],
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        )
        for i in range(processes_cases.PROCESSES)
    ]


def finish(processes):
    """(return code, what it printed) of each; none is left running."""
    try:
        said = [process.communicate(timeout=LONGEST)[0] for process in processes]
        return [(process.returncode, x) for process, x in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_same_numbers_as_one_process(tmp_path):
    out = tmp_path / "found.npz"
    for code, said in finish(start(out)):
        assert code == 0, said[-3000:]
    want = processes_cases.outputs(*processes_cases.inputs())
    with np.load(out) as found:
        assert set(found) == set(want)
        for name, value in want.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other(tmp_path):
    (code, said), (other, _) = finish(start(tmp_path / "found.npz", "die"))
    assert other == 1
    assert code != 0, said[-3000:]
    assert not (tmp_path / "found.npz").exists()


def analyze(files, *options):
    """`softbon analyze` on one file a process, as Slurm starts it."""
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, "-m", "softbon_jax", "analyze", str(file), "--distributed", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[1],
            env=os.environ
            | {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_PORT": port, "SLURM_JOB_ID": "1"}
            | {"SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(len(files))}
            | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
        )
        for i, file in enumerate(files)
    ]


@pytest.fixture
def scores(tmp_path):
    """40 prompts of 6, in a file."""
    path, random = tmp_path / "scores.csv", np.random.default_rng(0)
    rows = [f"p{i % 40},{x}" for i, x in enumerate(random.normal(size=240))]
    path.write_text("prompt_id,proxy_reward\n" + "\n".join(rows))
    return path


GRID = ("--n", "3", "--temperature", "0", "0.5")


@pytest.mark.slow
def test_the_command_divides_the_prompts(scores, tmp_path):
    """The same report, to the last byte, from the first process; nothing from the others."""
    together, alone = tmp_path / "together.json", tmp_path / "alone.json"
    for code, said in (found := finish(analyze([scores] * 3, *GRID, "--json", together))):
        assert code == 0, said[-3000:]
    assert ["scores.csv: 240 rows" in said for _, said in found] == [True, False, False]
    assert main.main(["analyze", str(scores), *GRID, "--json", str(alone)]) == 0
    assert together.read_bytes() == alone.read_bytes()
    assert json.loads(alone.read_text())["prompts_in_curves"] == 40


@pytest.mark.slow
def test_more_processes_than_prompts(tmp_path):
    path = tmp_path / "two.csv"
    path.write_text("prompt_id,proxy_reward\na,1\na,3\nb,2\nb,5")
    for code, said in finish(analyze([path] * 3, "--n", "2", "--temperature", "0.5")):
        assert code == 0, said[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("other", ["more.csv", "none.csv"])
def test_processes_that_cannot_agree_end_at_once(scores, tmp_path, other):
    """One has read more than the other, or nothing at all."""
    (tmp_path / "more.csv").write_text(scores.read_text() + "\np0,9")
    (code, said), (other_code, _) = finish(analyze([scores, tmp_path / other], *GRID))
    assert code == other_code == 2
    assert "error: the processes have read different scores" in said


def test_alone_there_is_nothing_to_divide(scores, capsys):
    assert main.main(["analyze", str(scores), "--distributed"]) == 2
    assert "error: --distributed: no other processes are found" in capsys.readouterr().err
