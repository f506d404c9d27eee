"""python -m tests.processes_cases ADDRESS NUMBER OUT [die]: one of two processes with four devices each.

Both compute on arrays that they hold halves of, and the first writes the results in full. With "die"
the second one ends without a word before the work.
"""

import os
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

import softbon_jax as sb
from softbon_jax.command import compilation_cache

ROWS, PROCESSES, HEARTBEAT = 16, 2, 10
N, T = np.array([2, 3]), np.array([0.1, 0.5])


def inputs():
    rng = np.random.default_rng(0)
    laws, rewards = rng.dirichlet(np.ones(5), ROWS), rng.random((ROWS, 5))
    return np.log(laws), rewards, rng.random((ROWS, 8))


def outputs(log_probs, rewards, pools, mesh=None):
    problem = sb.Problem(log_probs, rewards)
    key = jax.random.key(1)
    one = sb.from_probs([0.5, 0.3, 0.2], [0.0, 0.3, 1.0])
    return {
        "sweep": sb.sweep(problem, N, T, nodes=64).reward,
        "simulate": sb.simulate(key, problem, 4, 0.3, trials=256).probs,
        "trials": sb.simulate(key, one, 4, 0.3, trials=4096, mesh=mesh).probs,
        "distance": sb.conditional_fluctuation(key, one, 4, 0.3, trials=4096, mesh=mesh).mean,
        "pool_curve": sb.pool_curve(pools, N, T).per_prompt,
        "mean": sb.pool_curve(pools, N, T).mean,
    }


def main(address, number, out, *options):
    jax.config.update("jax_enable_x64", True)
    compilation_cache.enable()
    jax.distributed.initialize(
        address,
        PROCESSES,
        int(number),
        heartbeat_timeout_seconds=HEARTBEAT,
        initialization_timeout=60,
    )
    mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("rows"))
    assert jax.device_count() == 8
    assert len(jax.local_devices()) == 4
    if "die" in options and number == "1":
        os._exit(1)
    parts = (
        jax.make_array_from_callback(x.shape, sharding, lambda at, x=x: x[at]) for x in inputs()
    )
    found = outputs(*parts, mesh=mesh)
    whole = multihost_utils.process_allgather(found, tiled=True)
    if number == "0":
        np.savez(out, **{name: np.asarray(x) for name, x in whole.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
