"""Docstrings of everything on the API pages: their sections, and examples that print what they show."""

import doctest
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests.test_docs import NAMED, resolved

FUNCTIONS = [name for kind, name in NAMED if kind == "function"]
CLASSES = [name for kind, name in NAMED if kind == "class"]
SECTIONS = ("Args", "Returns", "Raises", "Numerics", "Source", "Example")


def sections(name):
    """The headers of a docstring, in order."""
    text = inspect.getdoc(resolved(name))
    return re.findall(rf"^({'|'.join((*SECTIONS, 'Attributes'))}):", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_all_sections(name):
    wanted = set(SECTIONS)
    if not inspect.signature(resolved(name)).parameters:
        wanted -= {"Args"}
    found = sections(name)
    assert len(set(found)) == len(found)
    assert wanted - set(found) == set()


@pytest.mark.parametrize("name", CLASSES)
def test_records_describe_their_fields(name):
    record = resolved(name)
    assert "Attributes" in sections(name)
    text = inspect.getdoc(record).split("Attributes:")[1]
    for field in getattr(record, "_fields", ()):
        assert re.search(rf"^ +[\w, ]*\b{field}\b[\w, ]*:", text, flags=re.MULTILINE), field


@pytest.mark.slow
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_print_what_they_show(name, double):
    examples = doctest.DocTestFinder(recurse=False).find(
        resolved(name), name, globs={"sb": sb, "jax": jax, "jnp": jnp, "np": np}
    )
    assert examples[0].examples
    # As a reader has it: without the strictness of the other tests.
    with (
        jax.enable_x64(double),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_key_reuse(False),
    ):
        for example in examples:
            report = []
            doctest.DocTestRunner().run(example, out=report.append)
            assert not report, "".join(report)
