"""Two processes on one machine, four devices each, on arrays of which each holds a half."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import processes_cases

LONGEST = 200
"""Seconds after which a process counts as hanging; of that, 10 are without a heartbeat."""


def start(out, *options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
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
