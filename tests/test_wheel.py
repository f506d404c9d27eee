"""The wheel, away from the repository: what it says, what it holds, and that it runs without extras."""

import email
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = PROJECT["urls"]["Homepage"]

WITHOUT_EXTRAS = """
import sys
from pathlib import Path

target, repository, *arguments = sys.argv[1:]
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(repository)]
for name in ("duckdb", "flint", "matplotlib", "pandas", "pyarrow", "rich", "tyro", "xarray"):
    sys.modules[name] = None

import softbon_jax as sb

assert Path(sb.__file__).is_relative_to(target), sb.__file__
if arguments:
    from softbon_jax.command.main import main

    sys.exit(main(arguments))
problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
print(f"{sb.metrics(problem, n=16, temperature=0.3).reward:.4f}")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (x for x in archive.namelist() if x.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_readme_in_the_wheel_has_no_relative_link(metadata):
    text = metadata.get_payload(decode=True).decode()
    readme = (ROOT / "README.md").read_text()
    written = re.findall(r"\]\((.*?)\)", readme)
    wanted = [x if x.startswith("https://") else f"{HOME}/{x}" for x in written]
    assert re.findall(r"\]\((.*?)\)", text) == wanted
    assert len(set(wanted) - set(written)) > 10
    assert text.replace(f"]({HOME}/", "](").strip() == readme.strip()


def test_every_address_of_the_project_begins_with_its_home():
    text = (ROOT / "pyproject.toml").read_text()
    assert all(url.startswith(HOME) for url in PROJECT["urls"].values())
    assert set(re.findall(r"https://[^\s\"'\\]+", text)) <= {
        *PROJECT["urls"].values(),
        f"{HOME}/",
    }


def test_what_it_needs_and_what_its_extras_add(metadata):
    needed = {}
    for line in metadata.get_all("Requires-Dist"):
        extra = re.search(r"extra == '(\w+)'", line)
        name = re.match(r"[\w-]+", line)[0]
        needed.setdefault(extra and extra[1], set()).add(name)
    assert needed[None] == {"chex", "jax", "jaxlib", "numpy", "optax"}
    assert needed["command"] == {"duckdb", "matplotlib", "pyarrow"}
    assert set(needed) == {None, *PROJECT["optional-dependencies"]}


def test_it_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"softbon_jax"}
    assert "softbon_jax/py.typed" in names


@pytest.mark.slow
def test_it_runs_without_extras_and_the_command_says_what_to_install(wheel, tmp_path):
    target = tmp_path / "target"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", target, wheel], check=True)

    def run(*arguments):
        command = [sys.executable, "-P", "-c", WITHOUT_EXTRAS, target, ROOT, *arguments]
        settings = os.environ | {"PYTHONPATH": str(target)}
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)

    computed = run()
    assert computed.stdout == "0.6540\n", computed.stderr
    (tmp_path / "scores.csv").write_text("prompt_id,proxy_reward\na,1\na,3\n")
    refused = run("analyze", "scores.csv")
    assert refused.returncode == 2
    assert "pip install 'softbon-jax[command]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""
