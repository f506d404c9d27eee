"""The notebooks: the code of their pages, all of it, in order, with what it prints."""

import ast
import contextlib
import doctest
import importlib.util
import io
import json
import re

import jax
import pytest

from tests.test_docs import DOCS, RECIPES, blocks

SPEC = importlib.util.spec_from_file_location("notebooks", DOCS / "_ext" / "notebooks.py")
notebooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(notebooks)


def code_of(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("page", notebooks.pages())
def test_it_holds_the_code_and_the_output_of_the_page(page):
    notebook = json.loads(json.dumps(notebooks.notebook(page)))
    first, *cells = code_of(notebook)
    assert first["source"] == "%pip install --quiet softbon-jax"
    session = "".join(blocks(DOCS / f"{page}.md", "pycon"))
    examples = doctest.DocTestParser().get_examples(session)
    source = "".join(x.source for x in examples)
    assert "\n".join(cell["source"] for cell in cells).split("\n") == source.rstrip("\n").split(
        "\n"
    )
    printed = "".join(out["text"] for cell in cells for out in cell["outputs"])
    assert printed == "".join(x.want for x in examples)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.parametrize("page", notebooks.pages())
def test_its_links_leave_the_page_and_lead_somewhere(page):
    text = "\n".join(x["source"] for x in notebooks.notebook(page)["cells"])
    links = re.findall(r"\]\((?!https://arxiv)(.*?)\)", text)
    home = notebooks.PROJECT["urls"]["Homepage"] + "/"
    for link in links:
        assert link.startswith(home), link
        assert (DOCS.parent / link.removeprefix(home).split("#")[0]).is_file(), link


def test_every_recipe_is_one():
    assert set(RECIPES) < set(notebooks.pages())


@pytest.mark.parametrize("page", notebooks.pages())
def test_what_a_cell_shows_is_printed(page):
    """A console shows the value of every expression, a notebook that of the last in a cell."""
    for cell in code_of(notebooks.notebook(page))[1:]:
        for statement in ast.parse(cell["source"]).body:
            if isinstance(statement, ast.Expr) and cell["outputs"]:
                assert ast.unparse(statement).startswith(("print(", "check(", "jax.config.")), page


@pytest.mark.slow  # the pages' own tests run the same code, as a console has it
@pytest.mark.parametrize("page", ["cookbook/ci", "cookbook/serving"])
def test_it_runs_cell_by_cell(page):
    namespace = {}
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_key_reuse(False),
    ):
        for cell in code_of(notebooks.notebook(page))[1:]:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(cell["source"], cell["id"], "exec"), namespace)
            assert out.getvalue() == "".join(x["text"] for x in cell["outputs"]), cell["id"]
