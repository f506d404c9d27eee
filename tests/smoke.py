"""The results of all experiments at their smoke configs, computed once for all tests.

They are those of `make verify`: what it has computed with the present code is not computed again.
"""

import fcntl
import functools
import io

import rich.console

from experiments import NAMES, module, runner
from experiments.progress import Progress

QUIET = Progress(0, rich.console.Console(file=io.StringIO()))


@functools.cache
def results():
    out = runner.REPOSITORY / "results" / "smoke"
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:  # the first of several test processes computes them
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in NAMES:
            runner.execute(name, module(name).SMOKE, out, progress=QUIET)
    return out


def result(name):
    return runner.load(name, results())
