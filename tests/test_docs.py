"""The code on the documentation's pages runs and prints what it shows; the API pages name everything.

It compiles kernels of every kind, so that it is in `make slow`, and three pages are in `make test-long`.
"""

import doctest
import importlib
import inspect
import re
import types
from pathlib import Path

import jax
import pytest

import softbon_jax
from softbon_jax.command.main import main

DOCS = Path(__file__).parents[1] / "docs"
NAMED = re.findall(
    r"^\.\. auto(\w+):: (\S+)",
    "\n".join(path.read_text() for path in sorted((DOCS / "api").glob("*.md"))),
    flags=re.MULTILINE,
)

SETUP = [  # of every recipe
    ">>> import jax",
    '>>> jax.config.update("jax_enable_x64", True)',
    ">>> import numpy as np",
    ">>> import softbon_jax as sb",
]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


RECIPES = sorted(
    f"cookbook/{x.stem}" for x in (DOCS / "cookbook").glob("*.md") if x.stem != "index"
)


PAGES = ["tutorial", "bounds", "training", "conventions", "devices", *RECIPES]
LONG = ["bounds", "training", "cookbook/memory"]


@pytest.mark.parametrize(
    "page",
    [pytest.param(x, marks=pytest.mark.long if x in LONG else pytest.mark.slow) for x in PAGES],
)
def test_code_prints_what_the_page_shows(page):
    path = DOCS / f"{page}.md"
    parser, runner, namespace = doctest.DocTestParser(), doctest.DocTestRunner(), {}
    written = blocks(path, "pycon")
    assert written
    # As a reader has it: without the strictness of the other tests.
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_key_reuse(False),
    ):
        for block in written:
            test = parser.get_doctest(block, namespace, page, str(path), 0)
            test.globs = namespace  # get_doctest copies it, and blocks share theirs
            report = []
            runner.run(test, out=report.append, clear_globs=False)
            assert not report, "".join(report)


@pytest.mark.parametrize("page", RECIPES)
def test_a_recipe_is_short_and_says_where_it_ends(page):
    text = (DOCS / f"{page}.md").read_text()
    (code,) = blocks(DOCS / f"{page}.md", "pycon")
    assert sum(line.startswith((">>>", "...")) for line in code.splitlines()) <= 20 + len(SETUP)
    assert code.splitlines()[: len(SETUP)] == SETUP
    title, question = text.split("\n\n")[:2]
    assert title.startswith("# ")
    assert question.endswith("?") or "?" in title
    assert "\n**Limits.** " in text
    assert "\nSee [" in text


def test_the_cookbook_lists_every_recipe():
    text = (DOCS / "cookbook" / "index.md").read_text()
    listed = re.findall(r"^\| \[.*?\]\((\w+)\.md\) \|", text, flags=re.MULTILINE)
    assert sorted(f"cookbook/{x}" for x in listed) == RECIPES
    assert text.split("```{toctree}")[1].split("\n\n")[1].split("\n```")[0].split("\n") == listed


@pytest.mark.slow
def test_commands_print_what_the_page_shows(capsys):
    shown = [block for block in blocks(DOCS / "command.md", "console") if "$ softbon plan" in block]
    assert shown
    for block in shown:
        command, printed = block.split("\n", 1)
        assert main(command.removeprefix("$ softbon ").split()) == 0
        assert capsys.readouterr().out.rstrip() == printed.rstrip()


def test_what_the_api_pages_name_is_there():
    kinds = {
        "function": inspect.isfunction,
        "class": inspect.isclass,
        "module": inspect.ismodule,
    }
    for kind, name in NAMED:
        found = resolved(name)
        assert kinds[kind](found), name
        assert found.__doc__, name


def resolved(name):
    """The object of a dotted name; a part that is no attribute is a module to import."""
    first, *rest = name.split(".")
    found = importlib.import_module(first)
    for part in rest:
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


def test_the_table_of_rules_names_functions():
    rows = re.findall(r"^\| .* \|$", (DOCS / "api" / "rules.md").read_text(), flags=re.MULTILINE)[
        2:
    ]
    assert len(rows) >= 6
    for row in rows:
        names = re.findall(r"`(.*?)`", row)
        assert len(names) >= 2
        for name in names:
            assert inspect.isfunction(resolved(f"softbon_jax.{name}")), name


def test_the_api_pages_name_every_public_object():
    names = [name for _, name in NAMED]
    assert len(names) == len(set(names))
    public = {f"softbon_jax.{name}" for name in softbon_jax.__all__}
    for module in (softbon_jax.bounds, softbon_jax.rates, softbon_jax.calibrate):
        public |= public_members(module)
    assert public - set(names) == set()


def public_members(module):
    """Documented under the name of the module, unless the package has them under its own."""
    members = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(value, (types.FunctionType, type))
        and value.__module__.startswith("softbon_jax")
    }
    return {f"{module.__name__}.{name}" for name in members - set(softbon_jax.__all__)}
