"""python -m tests.matrix: the wheel, outside the repository, on every supported Python and JAX here.

For each interpreter of 3.11 to 3.14 that is found, and for the oldest and the newest JAX that it can
install: a virtual environment with the wheel and what the tests need, a copy of the tests that need
nothing but the package, and a session of them; then the examples of the docstrings in 32-bit mode. At
the end the locked packages are looked up for known vulnerabilities. The exit status is 0 if all passes;
an interpreter that is not there is said and is no failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OUTSIDE = (  # need nothing but the package
    "test_batching.py", "test_bounds_interface.py", "test_bounds_values.py", "test_calibrate.py",
    "test_docstrings.py", "test_law.py", "test_pool.py", "test_problem.py", "test_rare.py",
    "test_rates.py", "test_rules.py", "test_selection.py", "test_sequences.py", "test_simulation.py",
)  # fmt: skip
EXAMPLES = """
import doctest, sys
import jax, jax.numpy as jnp, numpy as np
import softbon_jax as sb
assert not jax.config.jax_enable_x64
failed = tried = 0
for name in sb.__all__:
    one = getattr(sb, name)
    if callable(one) and one.__doc__:
        for test in doctest.DocTestFinder(recurse=False).find(one, name, globs=dict(globals())):
            result = doctest.DocTestRunner().run(test)
            failed, tried = failed + result.failed, tried + result.attempted
print(f"{tried} examples, {failed} failed, jax {jax.__version__}, {sys.version.split()[0]}")
sys.exit(bool(failed or not tried))
"""


def interpreters(versions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(version, path) of those that are found and run."""
    for version in versions:
        found = shutil.which(f"python{version}")
        known = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for path in [*([found] if found else []), *map(str, known)]:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and f" {version}." in done.stdout:
                yield version, path
                break
        else:
            print(f"Python {version}: not found here", flush=True)


def oldest(package: str) -> str:
    """The lowest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = (x for x in project["dependencies"] if x.split(">=")[0] == package)
    return wanted.replace(">=", "==") + ".0"


def _run(command: Sequence[str | Path], **options: object) -> bool:
    return subprocess.run(list(map(str, command)), check=False, **options).returncode == 0  # type: ignore[call-overload, no-any-return]


def session(python: str, jax: Sequence[str], wheel: Path, folder: Path) -> bool:
    """One environment, and whether all of its tests pass."""
    environment = folder / "venv"
    inside = environment / "bin" / "python"
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    needs = [x for x in groups["test"] if "playwright" not in x]
    install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not _run([python, "-m", "venv", environment]) or not _run([*install, wheel, *jax, *needs]):
        return False
    tests = folder / "tests"
    shutil.copytree(ROOT / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)  # has the settings of pytest
    quick = "--xla_backend_optimization_level=0"
    settings = {**os.environ, "XLA_FLAGS": quick, "PYTHONPATH": str(folder)}
    files = [tests / name for name in OUTSIDE]
    command = [
        inside, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow and not long",
        "-p", "no:cacheprovider", "--rootdir", folder, *files,
    ]  # fmt: skip
    passed = _run(command, cwd=folder, env=settings)
    settings["JAX_ENABLE_X64"] = "0"
    return _run([inside, "-c", EXAMPLES], cwd=folder, env=settings) and passed


def audit(environment: Path) -> bool:
    """Whether every locked package was looked up and none has a known vulnerability."""
    inside = environment / "bin" / "python"
    if not _run([sys.executable, "-m", "venv", environment]):
        return False
    install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not _run([*install, "pip-audit"]):
        return False
    look = [inside, "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip"]
    return _run([*look, "--requirement", ROOT / "requirements" / "lock.txt"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Every session in turn; 0 if all pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--python", nargs="+", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--jax", nargs="+", choices=("oldest", "newest"))
    parser.add_argument("--no-audit", action="store_true", help="do not look up vulnerabilities")
    options = parser.parse_args(arguments)
    results: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
        ]
        if not _run([*build, "--wheel-dir", folder, ROOT]):
            return 1
        (wheel,) = folder.glob("*.whl")
        pins = {"oldest": [oldest("jax"), oldest("jaxlib")], "newest": ["jax", "jaxlib"]}
        for version, python in interpreters(options.python):
            for which in options.jax or pins:
                place = folder / f"{version}-{which}"
                place.mkdir()
                label = f"Python {version}, {which} jax"
                print(f"=== {label}", flush=True)
                results[label] = session(python, pins[which], wheel, place)
                shutil.rmtree(place)
    if not options.no_audit:
        print("=== known vulnerabilities of the locked packages", flush=True)
        results["pip-audit"] = audit(Path(name) / "audit")
    for label, passed in results.items():
        print(f"{label}: {'passed' if passed else 'FAILED'}")
    return int(not all(results.values()))


if __name__ == "__main__":
    raise SystemExit(main())
