"""Every batched function with its rows divided among eight devices, which are forced on one machine.

`sharding_cases` is the program; what is here starts it and reads what it says.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.public import FUNCTIONS
from tests.sharding_cases import CASES, MODES, TWO_AXES, takes_a_grid

QUICK = (
    "log_tilted", "quantile", "select", "select_many", "pool_effective_size", "pool_votes",
    "bounds.best_of_n_kl", "log_best_of_n",
)  # fmt: skip
LONG = tuple(name for name in CASES if name not in QUICK)

# No batches: builders, host code, one problem or one stream at a time; or one of its kind is a case.
OTHERS = {
    "allocate", "bernoulli", "block_problem", "blockwise_metrics", "curve_difference", "decode",
    "dirichlet", "extrapolate_curve", "from_distribution", "jackpot", "leave_one_out_curve",
    "log_block_law", "markov_metrics", "mean_random_n", "memory_limit", "normal_noise", "pessimism_law",
    "poisson_mask",
    "reservoir_init", "reservoir_merge", "reservoir_update", "round_to_lattice", "sequence_costs",
    "soft_values", "uniform_quantiles", "worst_case", "zipf", "rates.fit_rate",
}  # fmt: skip
MEANS = ("pool_curve", "plug_in_curve", "pool_kl", "pool_table", "pool_win_rate", "slope")
"""Sums over rows: an all-reduce of as many numbers as there are of them."""
TOLERANCE = {"n_for_kl": 1e-12, "temperature_for_kl": 1e-12, "hedge": 1e-12}  # of a root finder


def run(names, modes):
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-m", "tests.sharding_cases", ",".join(modes), *names],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(names, modes=MODES):
    found = run(names, modes)
    wanted = {(n, m) for n in names for m in modes if m != "grid" or takes_a_grid(n)}
    assert {(x["name"], x["mode"]) for x in found} == wanted
    for case in found:
        assert case["apart"] <= TOLERANCE.get(case["name"], 1e-13), case
        if case["name"] != "leave_one_out":  # known scores are averaged as decimals, on the host
            assert case["in_full"] == 0, case
        allowed = {"all-reduce"} if case["name"] in MEANS else set()
        if case["name"] == "pool_tail":  # the quantiles of all prompts together
            allowed = {"all-gather", "all-reduce"}
        assert set(case["moved"]) <= allowed, case


@pytest.mark.slow
def test_some_functions():
    check(QUICK)


PARTS = [pytest.param(x, marks=pytest.mark.slow if x == 0 else pytest.mark.long) for x in range(18)]


@pytest.mark.parametrize("part", PARTS)
def test_all_functions(part):
    check(LONG[part::18])


@pytest.mark.slow
def test_a_mesh_of_two_axes():
    check(("log_tilted", "select_many", "pool_votes"), TWO_AXES)


@pytest.mark.long
@pytest.mark.parametrize("part", range(18))
def test_all_functions_on_a_mesh_of_two_axes(part):
    check(tuple(CASES)[part::18], TWO_AXES)


def test_every_batched_function_is_a_case():
    covered = {name.split()[0] for name in CASES}
    alike = {name for name in FUNCTIONS if name.startswith("bounds.")}  # two workers do them all
    assert set(FUNCTIONS) - covered - alike == OTHERS
