"""The table of static and traced arguments in docs/api/static.md is complete and true.

`python -m tests.test_static` prints the rows that are missing or do not fit a signature, as measured.
"""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.public import FUNCTIONS, arguments

PAGE = Path(__file__).parents[1] / "docs" / "api" / "static.md"
ROWS = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \|$", PAGE.read_text(), flags=re.MULTILINE)
TABLE = {name: tuple(re.findall(r"\w+", x) for x in columns) for name, *columns in ROWS}


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
