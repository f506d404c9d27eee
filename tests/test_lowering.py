"""Every public kernel lowers for every platform, in single precision without a double in it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.public import FUNCTIONS, arguments

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

# No kernel: they compute on the host, or build a problem from its size alone.
ON_HOST = {
    "extrapolate_curve", "from_distribution", "memory_limit", "rates.fit_rate", "sequence_costs",
}  # fmt: skip
# What fixes a shape or a branch.
STATIC = {
    "against", "baseline", "between", "block_size", "chunk", "divergence", "dtype", "envelope",
    "example_item", "fallback", "generator", "k", "learning_rate", "length", "m", "method", "nodes",
    "num_classes", "num_outcomes", "ppf", "rounds", "rule", "shape", "shared", "steps", "subsets",
    "trials",
}  # fmt: skip
OWN = {
    "block_problem": {"rewards"},
    "blockwise_metrics": {"rewards"},
    "decode": {"n", "step"},
    "log_noisy_best_of_n": {"noise"},
    "pessimism_law": {"n"},
    "simulate_pessimism": {"n"},
}


def single(x):
    """An argument in 32 bits; a key as its words, of which `jax.export` knows the type."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(x)
    x = np.asarray(x)
    return x.astype({"f": np.float32, "i": np.int32}.get(x.dtype.kind, x.dtype))


def module(name):
    """The text of the kernel, lowered for all platforms at once."""
    given = arguments(name)
    static = STATIC & given.keys()
    static |= OWN.get(name, set())
    fixed = {x: given.pop(x) for x in static if x in given}
    fixed |= {"dtype": np.float32} if "dtype" in fixed else {}
    fixed |= {"example_item": np.float32(0)} if "example_item" in fixed else {}

    def call(traced):
        if "key" in traced:
            traced = traced | {"key": jax.random.wrap_key_data(traced["key"])}
        return FUNCTIONS[name](**traced, **fixed)

    with jax.enable_x64(False):
        traced = jax.tree.map(single, given)
        exported = jax.export.export(jax.jit(call), platforms=PLATFORMS)(traced)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def wide(text):
    """The lines with 64-bit numbers, other than the counters of `jax.random` and sizes in attributes."""
    text = re.sub(r"dense<[^>]*> : tensor<[\dx]+xi64>", "", text)
    return re.findall(r"^.*tensor<(?:\d+x)*[fi]64>.*$", text, flags=re.M)


LONG = {
    "allocate", "best_threshold", "conditional_fluctuation", "frontier", "hedge", "log_block_law",
    "markov_metrics", "pool_kl", "pool_table", "pool_tail", "random_n_metrics", "simulate",
    "stopped_metrics",
}  # fmt: skip
"""They take seconds to trace."""


CASES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
    for name in sorted(FUNCTIONS.keys() - ON_HOST)
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:pessimism_law is now:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_lowers_for_every_platform_without_a_double(name):
    text = module(name)
    assert "func.func public @main" in text
    assert not wide(text)


def test_a_double_is_noticed():
    exported = jax.export.export(jax.jit(lambda x: x.astype(jnp.float64) + 1))(jnp.float32(1))
    assert wide(exported.mlir_module())
