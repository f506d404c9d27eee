"""Results of all experiments at their smoke configs, and their figures, each made once for all tests.

The results are those of `make verify`: what it has computed with the present code is not computed again.
"""

import contextlib
import fcntl
import functools
import importlib
import io

import rich.console

from experiments import NAMES, module, runner, verify
from experiments.progress import Progress
from figures import style

QUIET = Progress(0, rich.console.Console(file=io.StringIO()))
DRAW = {name: importlib.import_module(f"figures.{name}").draw for name in NAMES}


@functools.cache
def results():
    out = runner.REPOSITORY / "results" / "smoke"
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:  # the first of several test processes computes them
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in NAMES:
            runner.execute(name, module(name).SMOKE, out, progress=QUIET)
    return out


@functools.cache
def result(name):
    """Shared: change a copy."""
    return runner.load(name, results())


@functools.cache
def claims():
    """Those on all results."""
    return verify.check("smoke", results(), progress=QUIET)


@functools.cache
def figure(name, columns=2):
    """Shared, as `draw` returns it or laid out."""
    with style.one_column() if columns == 1 else contextlib.nullcontext():
        return DRAW[name](result(name))


@contextlib.contextmanager
def drawn_once(monkeypatch):
    """Inside, whatever draws a figure of the smoke results gets the shared one."""
    with monkeypatch.context() as patch:
        for name in NAMES:

            @functools.wraps(DRAW[name])
            def draw(dataset, name=name):
                assert dataset.identical(result(name))
                return figure(name, 1 if style._stacked.get() else 2)

            patch.setattr(f"figures.{name}.draw", draw)
        yield
