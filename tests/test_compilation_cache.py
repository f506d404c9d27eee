"""The persistent compilation cache: what turns it on and off, and that damage stops no program."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from softbon_jax.command import compilation_cache

# A program as short as one can be; warnings that are not ignored are errors.
PROGRAM = """
import jax
import jax.numpy as jnp
from softbon_jax.command import compilation_cache
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.endswith("cache_hits")))
compilation_cache.enable()
print(round(float(jax.jit(lambda x: jnp.sin(x) * 2)(jnp.float32(0.5))), 4), sum(hits))
"""
RIGHT = "0.9589"


def start(folder, *command):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", *(command or ("-c", PROGRAM))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**environment, compilation_cache.VARIABLE: str(folder)},
    )


def finish(process):
    """What it prints; it must end well and say nothing on standard error."""
    out, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    return out.split()


def entries(folder):
    return sorted(folder.glob("*-cache"))


@pytest.mark.slow
def test_processes_share_a_folder_and_survive_damage(tmp_path):
    folder = tmp_path / "new" / "cache"
    both = [start(folder), start(folder)]  # at once, neither finds anything
    for process in both:
        assert finish(process)[0] == RIGHT
    written = entries(folder)
    assert written
    value, hits = finish(start(folder))
    assert (value, int(hits) > 0) == (RIGHT, True)
    for path in written:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert finish(start(folder)) == [RIGHT, "0"]


@pytest.mark.slow
def test_the_command_fills_the_cache_and_keeps_quiet(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt_id,proxy_reward\na,1\na,2\n")
    cache = tmp_path / "cache"
    options = ["select", str(path), "--temperature", "0", "--out", str(tmp_path / "out.csv")]
    finish(start(cache, "-m", "softbon_jax", *options))
    assert entries(cache)
    assert cache.stat().st_mode & 0o077 == 0  # what is in it is executed


# In this process: the settings of JAX are put back, and nothing is compiled in between.


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """As in a fresh process with SOFTBON_CACHE set to a folder that does not exist yet."""
    names = (
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv(compilation_cache.VARIABLE, str(tmp_path / "asked"))
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_asked_for_is_used(settings):
    assert compilation_cache.enable() == settings / "asked"
    assert jax.config.jax_compilation_cache_dir == str(settings / "asked")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    assert compilation_cache.enable() == settings / "asked"


def test_the_default_is_in_the_cache_of_the_user(settings, monkeypatch):
    monkeypatch.delenv(compilation_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(settings))
    monkeypatch.setattr(sys, "platform", "linux")
    assert compilation_cache.enable() == settings / "softbon_jax"


def test_a_folder_set_in_jax_is_left_alone(settings):
    jax.config.update("jax_compilation_cache_dir", str(settings / "own"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    assert compilation_cache.enable() == settings / "own"
    assert jax.config.jax_compilation_cache_dir == str(settings / "own")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 7.0
    assert list(settings.iterdir()) == []


@pytest.mark.parametrize("word", ["off", "OFF", "0", "no", "none"])
def test_the_user_can_turn_it_off(settings, monkeypatch, word):
    monkeypatch.setenv(compilation_cache.VARIABLE, word)
    assert compilation_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_jax_can_turn_it_off(settings):
    jax.config.update("jax_enable_compilation_cache", False)
    assert compilation_cache.enable() is None
    assert list(settings.iterdir()) == []


def test_without_a_folder_to_write_in_there_is_no_cache(settings, monkeypatch):
    (settings / "file").write_text("")
    monkeypatch.setenv(compilation_cache.VARIABLE, str(settings / "file" / "cache"))
    assert compilation_cache.enable() is None
    (settings / "asked").mkdir()
    monkeypatch.setenv(compilation_cache.VARIABLE, str(settings / "asked"))
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # also for root
    assert compilation_cache.enable() is None

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(compilation_cache.VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert compilation_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_the_oldest_entries_go_first_and_nothing_else(settings, monkeypatch):
    folder = settings / "asked"
    folder.mkdir()
    names = [f"jit_f-{i:064x}-cache" for i in range(6)]
    for age, name in enumerate(names):  # the first is the newest
        (folder / name).write_bytes(bytes(10))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    (folder / "thesis.tex").write_bytes(bytes(100))
    os.utime(folder / "thesis.tex", (0, 0))
    monkeypatch.setattr(compilation_cache, "MOST_BYTES", 60)
    compilation_cache._prune(folder)
    assert {path.name for path in folder.iterdir()} == {*names, "thesis.tex"}
    monkeypatch.setattr(compilation_cache, "MOST_BYTES", 59)
    assert compilation_cache.enable() == folder
    assert {path.name for path in folder.iterdir()} == {*names[:2], "thesis.tex"}


@pytest.mark.parametrize(
    ("version", "given", "expected"),
    [
        ((0, 10, 0), "", "--xla_cpu_use_fusion_emitters=false"),
        ((0, 11, 3), "--xla_x=1", "--xla_x=1 --xla_cpu_use_fusion_emitters=false"),
        ((0, 12, 0), "--xla_x=1", "--xla_x=1"),  # it would end the process
        ((1, 0, 0), "", ""),
        ((0, 10, 0), "--xla_cpu_use_fusion_emitters=true", "--xla_cpu_use_fusion_emitters=true"),
    ],
)
def test_quick_adds_a_flag_that_xla_knows_and_leaves_the_users_alone(
    monkeypatch, version, given, expected
):
    monkeypatch.setattr(compilation_cache.jaxlib.version, "__version_info__", version)
    monkeypatch.setenv("XLA_FLAGS", given)
    for _ in range(2):
        assert compilation_cache.quick() == expected.endswith("=false")
        assert os.environ["XLA_FLAGS"] == expected
