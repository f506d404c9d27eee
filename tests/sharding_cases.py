"""python -m tests.sharding_cases NAME...: batched functions on arrays that eight devices share.

Prints a line of JSON for each case and mode: how far the numbers are from those of one device, how many
results came back in full on every device, and what the compiled program moves. The flags that force
eight devices have to be set before the process starts.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import softbon_jax as sb
from softbon_jax.command import compilation_cache

ROWS, OUTCOMES, CANDIDATES = 64, 5, 8
MODES = ("explicit", "automatic", "manual")
TWO_AXES = ("joint", "half", "grid")
"""Explicit, on a mesh of 4 by 2: rows over both axes or over one, and two axes of rows over one each."""
KEY = jax.random.key(3)
N, T = np.array([2, 3]), np.array([0.1, 0.5])
PMF, NOISE = np.array([0.5, 0.25, 0.25]), np.array([-0.1, 0.0, 0.2])


def inputs():
    """The arrays `[ROWS, ...]` that the cases share."""
    rng = np.random.default_rng(0)
    problem = sb.from_probs(rng.dirichlet(np.ones(OUTCOMES), ROWS), rng.random((ROWS, OUTCOMES)))
    return {
        "problem": problem,
        "law": sb.log_best_of_n(problem, 2.0),
        "gold": jnp.asarray(rng.random((ROWS, OUTCOMES))),
        "rewards": jnp.asarray(rng.random((ROWS, CANDIDATES))),
        "values": jnp.asarray(rng.random((ROWS, CANDIDATES))),
        "answers": jnp.asarray(rng.integers(0, 3, (ROWS, CANDIDATES))),
        "judges": jnp.asarray(rng.random((ROWS, CANDIDATES, 3))),
        "t": jnp.asarray(rng.uniform(0.2, 0.8, ROWS)),
        "n": jnp.asarray(rng.uniform(1.0, 8.0, ROWS)),
    }


# By the name of the function; what comes after a blank is a variant of it.
CASES = {
    "metrics": lambda a: sb.metrics(a["problem"], 4.0, 0.3),
    "metrics rows": lambda a: sb.metrics(a["problem"], a["n"], a["t"]),
    "metrics limit": lambda a: sb.metrics(a["problem"], 4.0, 0.0),
    "race_metrics": lambda a: sb.race_metrics(a["problem"], 4.0, 0.3),
    "law_metrics": lambda a: sb.law_metrics(a["problem"], a["law"], 0.3),
    "sweep": lambda a: sb.sweep(a["problem"], N, T),
    "sweep limit": lambda a: sb.sweep(a["problem"], N, np.array([0.0, 0.5])),
    "log_tilted": lambda a: sb.log_tilted(a["problem"], 0.3),
    "log_soft_bon": lambda a: sb.log_soft_bon(a["problem"], 4.0, 0.3),
    "log_ratio_soft_bon": lambda a: sb.log_ratio_soft_bon(a["problem"], a["n"], 0.3),
    "log_best_of_n": lambda a: sb.log_best_of_n(a["problem"], a["n"]),
    "log_best_of_poisson": lambda a: sb.log_best_of_poisson(a["problem"], 4.0, 0.3),
    "log_rejection": lambda a: sb.log_rejection(a["problem"], 4.0, 0.3),
    "log_uniform_race": lambda a: sb.log_uniform_race(a["problem"], 4.0, 0.3),
    "log_random_n": lambda a: sb.log_random_n(a["problem"], PMF, 0.3),
    "random_n_metrics": lambda a: sb.random_n_metrics(a["problem"], PMF, 0.3),
    "log_stopped": lambda a: sb.log_stopped(a["problem"], 0.5, 4.0, 0.3),
    "stopped_metrics": lambda a: sb.stopped_metrics(a["problem"], 0.5, 4.0, 0.3),
    "mean_stopped_n": lambda a: sb.mean_stopped_n(a["problem"], 0.5, 4.0),
    "log_noisy_soft_bon": lambda a: sb.log_noisy_soft_bon(a["problem"], 4.0, 0.3, NOISE, PMF),
    "log_noisy_best_of_n": lambda a: sb.log_noisy_best_of_n(a["problem"], 4.0, 0.5),
    "renyi": lambda a: sb.renyi(a["problem"], 4.0, 0.3, 2.0),
    "f_divergence": lambda a: sb.f_divergence(a["problem"], 4.0, 0.3, jnp.square),
    "quantile": lambda a: sb.quantile(a["problem"], 0.25),
    "cvar": lambda a: sb.cvar(a["problem"], 0.25),
    "tail_probability": lambda a: sb.tail_probability(a["problem"], 0.5),
    "symbolwise_metrics": lambda a: sb.symbolwise_metrics(a["problem"], 4, 3.0, 0.3),
    "temperature_for_kl": lambda a: sb.temperature_for_kl(a["problem"], 4.0, 0.1),
    "temperature_for_reward": lambda a: sb.temperature_for_reward(a["problem"], 4.0, 0.6),
    "n_for_kl": lambda a: sb.n_for_kl(a["problem"], 0.1, 0.3),
    "frontier": lambda a: sb.frontier(a["problem"], 4.0, np.array([0.1, 0.2])),
    "hedge": lambda a: sb.hedge(a["problem"], a["gold"], n=4.0),
    "best_threshold": lambda a: sb.best_threshold(a["problem"], 0.05, 4.0, 0.3),
    "distill": lambda a: sb.distill(a["problem"], 0.3, steps=2),
    "simulate": lambda a: sb.simulate(KEY, a["problem"], 4, 0.3, trials=256),
    "simulate race": lambda a: sb.simulate(KEY, a["problem"], 4, a["t"], trials=256, rule="race"),
    "simulate literal": lambda a: sb.simulate(
        KEY, a["problem"], 4, 0.3, trials=256, method="literal"
    ),
    "conditional_fluctuation": lambda a: sb.conditional_fluctuation(
        KEY, a["problem"], 4, 0.3, trials=256
    ),
    "simulate_pessimism": lambda a: sb.simulate_pessimism(KEY, a["problem"], 2, 0.3, trials=64),
    "select": lambda a: sb.select(KEY, a["rewards"], a["t"]),
    "select_best": lambda a: sb.select_best(KEY, a["rewards"]),
    "select_many": lambda a: sb.select_many(KEY, a["rewards"], 0.3, k=2),
    "select_race": lambda a: sb.select_race(KEY, a["rewards"], 0.3),
    "select_rejection": lambda a: sb.select_rejection(KEY, a["rewards"], 0.3, 1.0),
    "select_pessimist": lambda a: sb.select_pessimist(KEY, a["rewards"], 0.3),
    "selection_log_probs": lambda a: sb.selection_log_probs(a["rewards"], 0.3),
    "pessimism_log_probs": lambda a: sb.pessimism_log_probs(a["rewards"], 0.3),
    "pool_curve": lambda a: sb.pool_curve(a["rewards"], N, T, values=a["values"]),
    "plug_in_curve": lambda a: sb.plug_in_curve(a["rewards"], N, T, values=a["values"]),
    "leave_one_out": lambda a: tuple(jnp.moveaxis(x, 0, 1) for x in sb.leave_one_out(a["judges"])),
    "pool_kl": lambda a: sb.pool_kl(a["rewards"], N, T),
    "pool_effective_size": lambda a: sb.pool_effective_size(a["rewards"], T),
    "pool_credits": lambda a: sb.pool_credits(a["rewards"], 2, 0.3, values=a["values"]),
    "pool_weights": lambda a: sb.pool_weights(a["rewards"], N, T),
    "pool_votes": lambda a: sb.pool_votes(a["answers"], N, num_classes=3),
    "pool_weighted_votes": lambda a: sb.pool_weighted_votes(
        KEY, a["answers"], jnp.square(a["values"]), N, num_classes=3, subsets=20
    ),
    "pool_table": lambda a: sb.pool_table(a["rewards"], N, T, values=a["values"]),
    "pool_win_rate": lambda a: sb.pool_win_rate(a["rewards"], N, T),
    "pool_tail": lambda a: sb.pool_tail(a["rewards"], 0.25, N, T, values=a["values"]),
    "from_probs": lambda a: sb.from_probs(jnp.exp(a["law"]), a["gold"]),
    "from_logits": lambda a: sb.from_logits(a["law"], a["gold"]),
    "empirical": lambda a: sb.empirical(a["rewards"]).rewards,
    "bounds.kl_upper": lambda a: sb.bounds.kl_upper(a["problem"], 4.0, 0.3),
    "bounds.cv_squared": lambda a: sb.bounds.cv_squared(a["problem"], a["t"]),
    "bounds.n_for_kl_upper": lambda a: sb.bounds.n_for_kl_upper(a["problem"], 0.1, 0.3),
    "bounds.race_tv_upper": lambda a: sb.bounds.race_tv_upper(a["problem"], 4.0, 0.3),
    "bounds.threshold_exponent": lambda a: sb.bounds.threshold_exponent(a["problem"], 0.3),
    "bounds.block_kl_lower": lambda a: sb.bounds.block_kl_lower(a["problem"], 4, 8.0, 0.3),
    "bounds.expected_best_of_n_kl_estimate": lambda a: sb.bounds.expected_best_of_n_kl_estimate(
        a["problem"], 4.0
    ),
    "bounds.best_of_n_kl": lambda a: sb.bounds.best_of_n_kl(a["n"]),
    "bounds.best_of_poisson_kl": lambda a: sb.bounds.best_of_poisson_kl(a["t"]),
    "slope": lambda a: jax.grad(lambda t, p: jnp.sum(sb.metrics(p, 4.0, t).tv), (0, 1))(
        jnp.asarray(0.3), a["problem"]
    ),
}

RANDOM = ("simulate", "conditional", "select", "pessimism", "pool_weighted")
"""How cases begin whose random numbers depend on the row: in `shard_map` a device counts its own."""


def moved(text):
    """How often a compiled program moves arrays, by the name of what it does; scalars do not count."""
    names = "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "all-reduce"
    found = {}
    for name in names:
        hits = re.findall(rf"= ([^\n=]*?) {name}(?:-start)?\(", text)
        count = sum(bool(re.search(r"\[\d", shape)) for shape in hits)
        found |= {name: count} if count else {}
    return found


def apart(got, want):
    """The largest difference of two pytrees, relative where the numbers are not small."""
    worst = 0.0
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        x, y = (np.asarray(z, np.float64) for z in (x, y))
        assert x.shape == y.shape
        differ = ~((x == y) | (np.isnan(x) & np.isnan(y)))
        if differ.any():
            scale = np.maximum(np.abs(y[differ]), 1e-3)
            worst = max(worst, float(np.max(np.abs(x[differ] - y[differ]) / scale)))
    return worst if worst == worst else float("inf")


def in_full(tree, divided, rows):
    """How many arrays with a row for each problem are not so divided; constants, all NaN, need not."""
    arrays = [x for x in jax.tree.leaves(tree) if x.shape[: len(rows)] == rows]
    return sum(
        not x.sharding.is_equivalent_to(divided, x.ndim) and not np.isnan(x).all() for x in arrays
    )


def report(name, mode):
    """What happens to one case in one mode."""
    case, whole, rows = CASES[name], inputs(), (ROWS,)
    kind = AxisType.Explicit if mode == "explicit" or mode in TWO_AXES else AxisType.Auto
    if mode in TWO_AXES:
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind, kind))
        spec = {"joint": P(("a", "b")), "half": P("a"), "grid": P("a", "b")}[mode]
    else:
        mesh, spec = jax.make_mesh((8,), ("rows",), axis_types=(kind,)), P("rows")
    if mode == "grid":
        rows = (8, ROWS // 8)
        whole = jax.tree.map(lambda x: x.reshape(*rows, *x.shape[1:]), whole)
    compiled = jax.jit(case)(whole)
    with jax.set_mesh(mesh):
        parts = jax.device_put(whole, NamedSharding(mesh, spec))
        if mode == "manual":
            return manual(name, parts, compiled)
        program = jax.jit(case).lower(parts).compile()
        eager, traced = case(parts), program(parts)
    return {
        "apart": max(apart(eager, case(whole)), apart(traced, compiled)),
        "in_full": in_full((eager, traced), NamedSharding(mesh, spec), rows),
        "moved": moved(program.as_text()),
    }


def manual(name, parts, want):
    """The case inside `shard_map`, and its numbers where they are those of the rows alone."""
    mapped = jax.shard_map(
        lambda a: jax.tree.map(lambda x: x if x.ndim else x[None], CASES[name](a)),
        in_specs=(P("rows"),),
        out_specs=P("rows"),
    )
    got = jax.jit(mapped)(parts)
    alike = [
        (x, y)
        for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True)
        if y.shape[:1] == (ROWS,) and not name.startswith(RANDOM)
    ]
    return {"apart": apart(*zip(*alike, strict=True)) if alike else 0.0, "in_full": 0, "moved": {}}


def takes_a_grid(name):
    """Whether its arrays may have several leading axes: pools have one."""
    return not name.startswith(("pool_", "plug_in", "leave_one_out"))


def main(modes, *names):
    assert jax.device_count() == 8
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    compilation_cache.enable()
    for name in names:
        for mode in modes.split(","):
            if mode == "grid" and not takes_a_grid(name):
                continue
            print(json.dumps({"name": name, "mode": mode} | report(name, mode)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
