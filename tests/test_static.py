"""The table of static and traced arguments in docs/api/static.md is complete and true.

`python -m tests.test_static` prints the rows that are missing or do not fit a signature, as measured.
"""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb

PAGE = Path(__file__).parents[1] / "docs" / "api" / "static.md"
ROWS = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \|$", PAGE.read_text(), flags=re.MULTILINE)
TABLE = {name: tuple(re.findall(r"\w+", x) for x in columns) for name, *columns in ROWS}


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
    "b": STATE,
    "block": PROBLEM,
    "block_size": 2,
    "chunk": 2,
    "concentration": 1.0,
    "divergence": "kl_soft_base",
    "draws": 4.0,
    "dtype": float,
    "envelope": 1.0,
    "example_item": jnp.zeros(()),
    "exponent": 1.0,
    "fallback": "any",
    "gain": 0.1,
    "gold": jnp.array([0.0, 1.0, 0.5, 0.2]),
    "init_state": jnp.zeros((), int),
    "items": jnp.zeros(4),
    "judges": jnp.arange(24.0).reshape(2, 3, 4),
    "k": 2,
    "key": jax.random.key(0),
    "kl": 0.1,
    "length": 4,
    "log_law": jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])),
    "logits": jnp.zeros(4),
    "m": 2,
    "mean_extra": 1.5,
    "log_n": 1.0,
    "method": "counts",
    "n": 4.0,
    "nodes": 64,
    "num_outcomes": 4,
    "p": 0.25,
    "prize": 2.0,
    "probs": jnp.array([0.5, 0.3, 0.1, 0.1]),
    "problem": PROBLEM,
    "range_over_temperature": 2.0,
    "regularization": 0.5,
    "reward": 0.5,
    "rewards": jnp.array([0.0, 0.3, 0.6, 1.0]),
    "rounds": 2,
    "rule": "soft",
    "selected": 0.25,
    "shape": (4,),
    "shared": True,
    "state": STATE,
    "step": step,
    "learning_rate": 0.1,
    "steps": 2,
    "temperature": 0.5,
    "trials": 128,
    "values": jnp.array([0.0, 1.0, 0.5, 0.2]),
    "where": jnp.array([True, True, True, False]),
    "win_rate": 0.7,
}
POOL = jnp.arange(8.0).reshape(2, 4)
OF_POOLS = {"rewards": POOL, "values": POOL, "where": POOL < 7, "n": jnp.array([1, 2])}
OWN = {
    "allocate": {"n": None, "kl": None},
    "frontier": {"kl": jnp.array([0.1, 0.2])},
    "decode": {"n": 3},
    "dirichlet": {"key": jax.random.key(1)},
    "leave_one_out_curve": {"n": jnp.array([1, 2]), "where": jnp.ones((2, 3), bool)},
    "pessimism_law": {"n": 4},
    "simulate_pessimism": {"n": 4},
    "plug_in_curve": OF_POOLS,
    "pool_curve": OF_POOLS,
    "pool_effective_size": OF_POOLS,
    "pool_kl": OF_POOLS,
    "rates.fit_rate": {"n": 2.0 ** np.arange(8), "values": 2.0 ** -np.arange(8)},
    "round_to_lattice": {"step": 0.1},
    "hedge": {"temperature": None},
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


def without_values(value):
    """Strings, dtypes and functions cannot be traced at all."""
    return isinstance(value, (str, type)) or callable(value)


REFUSALS = (jax.errors.JAXTypeError, TypeError, ValueError, IndexError)


def trace(function, given, unknown):
    """Trace the function with some of its arguments unknown."""
    known = {x: value for x, value in given.items() if x not in unknown}
    jax.eval_shape(lambda rest: function(**known, **rest), {x: given[x] for x in unknown})


def test_the_table_names_every_function():
    assert len(ROWS) == len(TABLE)
    assert set(TABLE) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_static_or_traced(name):
    static, traced = TABLE[name]
    names = list(inspect.signature(FUNCTIONS[name]).parameters)
    assert sorted(static + traced) == sorted(names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:pessimism_law is now:DeprecationWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_traced_arguments_may_be_unknown_and_static_ones_may_not(name):
    function, given, (static, traced) = FUNCTIONS[name], arguments(name), TABLE[name]
    if traced:
        trace(function, given, [x for x in traced if x in given])
    if "log_n" in traced:
        instead = given | {"n": None, "log_n": jnp.log(given["n"])}
        trace(function, instead, [x for x in traced if x in instead])
    for argument in static:
        if argument in given and not without_values(given[argument]):
            with pytest.raises(REFUSALS):
                trace(function, given, [argument])


def measured(name):
    """A row of the table; `?` for an argument of which `ARGUMENTS` has no example."""
    function, given, columns = FUNCTIONS[name], arguments(name), ([], [])
    for argument in inspect.signature(function).parameters:
        values = given
        if argument == "log_n" and "n" in given:
            values = given | {"n": None, "log_n": jnp.log(given["n"])}
        elif (name, argument) == ("hedge", "temperature"):  # it takes n or a temperature
            values = given | {"n": None, "temperature": 0.5}
        static = argument not in values or without_values(values[argument])
        if not static:
            try:
                trace(function, values, [argument])
            except REFUSALS:
                static = True
        mark = "" if argument in values else " ?"
        columns[not static].append(f"`{argument}`{mark}")
    static, traced = (", ".join(x) or "—" for x in columns)
    return f"| `{name}` | {static} | {traced} |"


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    for name, function in FUNCTIONS.items():
        wanted = sorted(inspect.signature(function).parameters)
        if sorted(x for column in TABLE.get(name, ()) for x in column) != wanted:
            print(measured(name), flush=True)
