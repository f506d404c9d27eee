"""The results of all experiments at their smoke configs, computed once for all tests."""

import atexit
import functools
import io
import shutil
import tempfile
from pathlib import Path

import rich.console

from experiments import NAMES, module, runner

QUIET = rich.console.Console(file=io.StringIO())


@functools.cache
def results():
    out = Path(tempfile.mkdtemp(prefix="softbon-smoke-"))
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    for name in NAMES:
        runner.execute(name, module(name).SMOKE, out, console=QUIET)
    return out


def result(name):
    return runner.load(name, results())
