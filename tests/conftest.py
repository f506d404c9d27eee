"""The strict environment of every test: double precision, no implicit promotion, no reused keys.

Hypothesis has two profiles, chosen by the environment variable `HYPOTHESIS_PROFILE`: "test" takes a
few examples, always the same ones; "long" takes many, other ones each time, and the seed that the
report begins with brings them back (`--hypothesis-seed`).
"""

import gc
import os
import random

import hypothesis
import jax
import pytest

from softbon_jax.command import compilation_cache

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

compilation_cache.enable()
compilation_cache.quick()

# Tracing makes very many objects, few of them in cycles: they need be looked at seldom.
gc.freeze()
gc.set_threshold(100_000)

# The first example of a test compiles, and no later one does: a deadline means nothing.
hypothesis.settings.register_profile("test", max_examples=25, derandomize=True, deadline=None)
hypothesis.settings.register_profile(
    "long", max_examples=5000, deadline=None, print_blob=True, database=None
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "test")
hypothesis.settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)  # before the plugin of hypothesis reads the seed
def pytest_configure(config):
    if PROFILE == "long" and config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(random.SystemRandom().getrandbits(32))


def pytest_report_header(config):
    seed = config.getoption("--hypothesis-seed")
    return f"hypothesis: {PROFILE} examples" + (f", --hypothesis-seed={seed}" if seed else "")


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go():
    """At the end of a file: a process may hold some thousand compiled programs and then crashes."""
    yield
    jax.clear_caches()
