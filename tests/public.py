"""Every public function, legal arguments for it, and what a call of it compiles."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb


def functions():
    """What the table is about, by the name under which a user finds it."""
    found = {name: getattr(sb, name) for name in sb.__all__}
    for room in ("bounds", "rates", "calibrate"):
        module = getattr(sb, room)
        for name, value in vars(module).items():
            if not name.startswith("_") and name not in sb.__all__:
                own = getattr(value, "__module__", "").startswith("softbon_jax")
                if own or name in getattr(module, "__all__", ()):
                    found[f"{room}.{name}"] = value
    return {name: x for name, x in found.items() if inspect.isfunction(x)}


FUNCTIONS = functions()
PROBLEM = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
STATE = sb.reservoir_init(jnp.zeros(()))


def step(key, state):
    token = jax.random.randint(key, (), 0, 4)
    return token, token, 0.5


# An argument of every kind, by the names that the functions share.
ARGUMENTS = {
    "a": STATE,
    "against": 2,
    "answers": jnp.array([[0, 1, 1, 2], [2, 2, 0, 1]]),
    "b": STATE,
    "between": "soft_tilted",
    "baseline": True,
    "block": PROBLEM,
    "block_size": 2,
    "chunk": 2,
    "concentration": 1.0,
    "confidence": 0.9,
    "divergence": "kl_soft_base",
    "draws": 4.0,
    "dtype": float,
    "envelope": 1.0,
    "example_item": jnp.zeros(()),
    "exceedances": 4,
    "exponent": 1.0,
    "fallback": "any",
    "first": jnp.arange(8.0).reshape(4, 2),
    "gain": 0.1,
    "gold": jnp.array([0.0, 1.0, 0.5, 0.2]),
    "generator": jnp.square,
    "init_state": jnp.zeros((), int),
    "initial": jnp.array([0.25, 0.75]),
    "items": jnp.zeros(4),
    "judges": jnp.arange(24.0).reshape(2, 3, 4),
    "k": 2,
    "kernel": jnp.array([[0.5, 0.5], [0.25, 0.75]]),
    "key": jax.random.key(0),
    "kl": 0.1,
    "length": 4,
    "level": 0.25,
    "log_law": jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])),
    "logits": jnp.zeros(4),
    "m": 2,
    "mean_extra": 1.5,
    "most_bytes": 2**30,
    "log_n": 1.0,
    "method": "counts",
    "n": 4.0,
    "nodes": 64,
    "noise": jnp.array([-0.1, 0.0, 0.2]),
    "num_classes": 3,
    "num_outcomes": 4,
    "order": 2.0,
    "p": 0.25,
    "prize": 2.0,
    "pmf": jnp.array([0.5, 0.25, 0.25]),
    "ppf": lambda level: level,
    "price": 0.05,
    "probs": jnp.array([0.5, 0.3, 0.1, 0.1]),
    "problem": PROBLEM,
    "range_over_temperature": 2.0,
    "regularization": 0.5,
    "reward": 0.5,
    "resamples": 50,
    "rewards": jnp.array([0.0, 0.3, 0.6, 1.0]),
    "rounds": 2,
    "rule": "soft",
    "scale": 0.5,
    "second": jnp.ones((4, 1)),
    "selected": 0.25,
    "shape": (4,),
    "shared": True,
    "state": STATE,
    "step": step,
    "learning_rate": 0.1,
    "steps": 2,
    "subsets": 20,
    "temperature": 0.5,
    "threshold": 0.5,
    "trials": 128,
    "values": jnp.array([0.0, 1.0, 0.5, 0.2]),
    "weights": jnp.array([0.25, 0.5, 0.25]),
    "where": jnp.array([True, True, True, False]),
    "win_rate": 0.7,
}
LENGTHY = {
    "allocate", "best_threshold", "blockwise_metrics", "conditional_fluctuation",
    "curve_difference", "cvar", "decode", "frontier", "hedge", "log_noisy_soft_bon",
    "log_random_n", "markov_metrics", "n_for_kl", "pool_credits", "pool_kl", "pool_table",
    "pool_tail", "pool_weights", "pool_win_rate", "race_metrics", "random_n_metrics", "renyi",
    "simulate", "stopped_metrics", "sweep", "symbolwise_metrics", "temperature_for_kl",
    "temperature_for_reward",
}  # fmt: skip
"""What compiles for more than a second: some tests leave these to `make slow` or `make test-long`."""
POOL = jnp.arange(8.0).reshape(2, 4)
OF_POOLS = {"rewards": POOL, "values": POOL, "where": POOL < 7, "n": jnp.array([1, 2])}
OWN = {
    "allocate": {"n": None, "kl": None},
    "extrapolate_curve": {
        "rewards": -jnp.log(jax.random.uniform(jax.random.key(2), (150, 16))),
        "where": jnp.ones((150, 16), bool),
        "n": jnp.array([4.0, 32.0]),
    },
    "frontier": {"kl": jnp.array([0.1, 0.2])},
    "decode": {"n": 3},
    "dirichlet": {"key": jax.random.key(1)},
    "from_distribution": {"logpdf": None, "support": None},
    "log_noisy_best_of_n": {"noise": "normal"},
    "leave_one_out_curve": {"n": jnp.array([1, 2]), "where": jnp.ones((2, 3), bool)},
    "markov_metrics": {
        "rewards": jnp.array([0.0, 1.0]),
        "block_size": 1,
        "values": jnp.zeros((4, 2)),
    },
    "pessimism_law": {"n": 4},
    "simulate_pessimism": {"n": 4},
    "plug_in_curve": OF_POOLS,
    "pool_credits": OF_POOLS | {"n": 2},
    "pool_curve": OF_POOLS,
    "pool_effective_size": OF_POOLS,
    "pool_kl": OF_POOLS,
    "pool_votes": OF_POOLS,
    "pool_weighted_votes": OF_POOLS | {"weights": POOL},
    "pool_table": OF_POOLS,
    "pool_tail": OF_POOLS,
    "pool_weights": OF_POOLS,
    "pool_win_rate": OF_POOLS,
    "rates.fit_rate": {"n": 2.0 ** np.arange(8), "values": 2.0 ** -np.arange(8)},
    "round_to_lattice": {"step": 0.1},
    "hedge": {"temperature": None},
    "soft_values": {"rewards": jnp.array([0.0, 1.0])},
    "sweep": {"n": jnp.array([1.0, 4.0]), "temperature": jnp.array([0.5, 1.0])},
}


def arguments(name):
    """Values for the arguments of a function, without options that exclude others."""
    given = ARGUMENTS | OWN.get(name, {})
    names = inspect.signature(FUNCTIONS[name]).parameters
    usable = {x: given[x] for x in names if x in given and given[x] is not None}
    if "n" in usable:
        usable.pop("log_n", None)  # exactly one of them
    return usable


def programs(caplog, call):
    """The names of the programs that are compiled for a call."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        jax.block_until_ready(call())
    return re.findall(r"Compiling jit\((\w+)\)", caplog.text)
