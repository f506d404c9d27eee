"""Any wrong value of any argument is refused by name, with a TypeError or a ValueError."""

import datetime
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import softbon_jax as sb
from tests.public import FUNCTIONS, PROBLEM, arguments

# Nothing that is right for an argument of any kind, but for what `LEGAL` lists.
WRONG = {
    "text": "abc",
    "no text": "",
    "bytes": b"ab",
    "dict": {"a": 1},
    "set": {1},
    "object": object(),
    "date": datetime.date(2026, 1, 1),
    "datetime64": np.datetime64("2026-01-01"),
    "timedelta64": np.timedelta64(1, "s"),
    "none": None,
    "function": len,
    "type": dict,
    "generator": (x for x in (1.0, 2.0)),
    "huge": 10**400,
    "unprintable": 10**5000,
    "huge in a list": [1, 10**400],
    "ragged": [[1.0], [1.0, 2.0]],
    "none in a list": [1.0, None],
    "complex": 1j,
    "complex array": np.array([1.0 + 0j]),
    "complex jax array": jnp.array([1.0 + 0j]),
    "bool": True,
    "strings": np.array(["1.0", "2.0"]),
    "objects": np.array([object()]),
    "record": np.zeros(2, [("a", float)]),
    "longdouble": np.longdouble(2),
    "longdoubles": np.ones(4, np.longdouble),
    "masked": np.ma.array([0.5, 0.5], mask=[False, True]),
    "sparse": scipy.sparse.eye_array(2),
    "keys": jax.random.split(jax.random.key(0), 2),
    "nan": float("nan"),
    "pair": (None, None),
    "problem of text": sb.Problem("ab", "cd"),
    "problem of none": sb.Problem(None, None),
    "ragged problem": sb.Problem([[0.0], [0.0, 0.0]], [0.0]),
    "complex problem": sb.Problem(PROBLEM.log_probs, 1j * np.array(PROBLEM.rewards)),
    "problem of two sizes": sb.Problem(PROBLEM.log_probs, PROBLEM.rewards[:3]),
    "problems": [PROBLEM, None],
}
PYTREES = set(WRONG) - {"text", "no text", "bytes", "object", "date", "datetime64", "function"}
LEGAL = {
    "baseline": {"bool"},
    "where": {"none", "bool"},
    "shared": {"bool"},
    "dtype": {"none", "sparse"},  # what has a dtype may stand for it
    "generator": {"function", "type"},  # called
    "ppf": {"function", "type"},  # called
    "example_item": PYTREES,
    "init_state": PYTREES,
    "items": {"generator"},  # of which JAX has its own opinion
}


def hostile_calls(name):
    """(argument, label, all arguments) for every wrong value of every argument of a function."""
    given = arguments(name)
    for argument, parameter in inspect.signature(FUNCTIONS[name]).parameters.items():
        others = {x: value for x, value in given.items() if x != argument}
        if argument == "log_n":
            others.pop("n", None)
        legal = LEGAL.get(argument, set())
        if parameter.default is None:
            legal = legal | {"none"}
        if (name, argument) == ("decode", "step"):  # called, to learn the shapes
            legal = {"function", "type"}
        for label, value in WRONG.items():
            if label not in legal:
                yield argument, label, others | {argument: value}


INTERNAL = re.compile("[Tt]racer|abstract|jit|XLA|ShapedArray|JAX type|object has no")


@pytest.mark.filterwarnings("ignore:pessimism_law is now:DeprecationWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_wrong_is_named(name):
    for argument, label, given in hostile_calls(name):
        at = f"{argument}: {label}"
        try:
            FUNCTIONS[name](**given)
        except (TypeError, ValueError) as error:
            message = str(error)
        else:
            pytest.fail(f"{at} was accepted")
        assert re.search(rf"\b{argument}\b", message), f"{at}: {message}"
        assert not INTERNAL.search(message), f"{at}: {message}"
        assert len(message) < 300, f"{at}: {message}"


def test_the_table_is_large():
    assert sum(1 for name in FUNCTIONS for _ in hostile_calls(name)) > 5000
