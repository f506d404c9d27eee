"""From the start of a process to its first answer, with an empty and with a filled compilation cache."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import _timing
from softbon_jax.command import compilation_cache

DOUBLE, ROUNDS = False, 5
PROMPTS, RESPONSES = 120, 24
REPOSITORY = Path(__file__).resolve().parent.parent

EMPTY, FILLED = "empty cache", "filled cache"
IMPORTS = {
    "import": "import jax, softbon_jax",
    "import, all public names": "import jax; from softbon_jax import *",
}
METRICS = """
from softbon_jax.command import compilation_cache
compilation_cache.enable()
import softbon_jax as sb
print(sb.metrics(sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0]), 16, 0.3).reward)
"""
PLAN = "plan --probs 0.5 0.3 0.1 0.1 --rewards 0 0.3 0.6 1 --n 1 2 4 8 16 32 64 --kl 0.5"
PROGRAMS = {
    "metrics": ["-c", METRICS],
    "metrics, quick to compile": [
        "-c",
        METRICS.replace("enable()", "enable(), compilation_cache.quick()"),
    ],
    "softbon plan": ["-m", "softbon_jax", *PLAN.split()],
    "softbon analyze": ["-m", "softbon_jax", "analyze", "scores.csv"],
}


def write_scores(path: Path) -> None:
    """A file of scores with a gold column that the proxy follows with noise."""
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(PROMPTS, RESPONSES))
    proxy = gold + rng.normal(size=gold.shape)
    rows = [
        f"{prompt},{proxy[prompt, i]:.6f},{gold[prompt, i]:.6f}"
        for prompt, i in itertools.product(range(PROMPTS), range(RESPONSES))
    ]
    path.write_text("\n".join(["prompt_id,proxy_reward,gold_reward", *rows]) + "\n")


def process(
    arguments: list[str], folder: Path, cache: str = "off", *, empty: bool = False
) -> Callable[[], None]:
    """Python with these arguments in a process of its own in `folder`, which must end well.

    With `empty`, each call gets an empty cache of its own, whose name begins with that of `cache`.
    """
    # Neither another cache nor the flags of this process.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    paths = [str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)

    def call() -> None:
        name = tempfile.mkdtemp(prefix=cache, dir=folder) if empty else cache
        subprocess.run(
            [sys.executable, *arguments],
            env=environment | {compilation_cache.VARIABLE: name},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    return call


def entries(folder: Path) -> int:
    """How many programs a cache holds."""
    return len(list(folder.glob("*-cache")))


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race the processes, `import jax` beside each of them, and count what they have compiled."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scores(folder / "scores.csv")
        import_jax = process(["-c", "import jax"], folder)
        contestants = {name: process(["-c", code], folder) for name, code in IMPORTS.items()}
        for name, arguments in PROGRAMS.items():
            empty, filled = f"{name}, {EMPTY}", f"{name}, {FILLED}"
            contestants[empty] = process(arguments, folder, empty, empty=True)
            contestants[filled] = process(arguments, folder, filled)
        times = _timing.race(contestants, rounds, reference=import_jax, warm=False)
        values = {}
        for name in IMPORTS:
            own = np.subtract(times[name].steady, times[name].reference)
            values[f"{name}, less import jax, ms"] = _timing.spread(1e3 * own)
        for name in PROGRAMS:
            compiled = [entries(x) for x in folder.glob(f"{name}, {EMPTY}*")]
            again = entries(folder / f"{name}, {FILLED}") - min(compiled)
            values[f"{name}, programs compiled with an {EMPTY}"] = _timing.spread(compiled)
            values[f"{name}, programs compiled with a {FILLED}"] = _timing.spread([again])
    return _timing.Report({"processes; the reference is `import jax`": times}, values)
