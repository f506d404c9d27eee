"""Pages as notebooks, made from the same text: `notebooks/NAME.ipynb` beside the built pages.

A block of `pycon` becomes a cell of code with what it prints, the text between becomes cells of text.
The first cell installs the package, so that the notebook opens in Colab as it stands; relative links and
pictures lead to the project's home.
"""

from __future__ import annotations

import doctest
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
PAGES = ("tutorial", "bounds", "training", "conventions")


def pages() -> list[str]:
    """The pages that become notebooks, as paths below docs without their endings."""
    recipes = (DOCS / "cookbook").glob("*.md")
    return [*PAGES, *sorted(f"cookbook/{path.stem}" for path in recipes if path.stem != "index")]


def notebook(page: str) -> dict[str, Any]:
    """The notebook of a page, in the format of Jupyter, version 4.5."""
    text = (DOCS / f"{page}.md").read_text()
    text = re.sub(r"^```\{.*?\}.*?^```\n", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^```pycon\n(.*?)^```\n", text, flags=re.MULTILINE | re.DOTALL)
    cells = [_code(f"%pip install --quiet {PROJECT['name']}", "")]
    for i, part in enumerate(parts):
        cells += _from_console(part) if i % 2 else _from_text(part, page)
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _from_text(text: str, page: str) -> list[dict[str, Any]]:
    def absolute(match: re.Match[str]) -> str:
        path = (DOCS / page).parent.joinpath(match[1]).resolve().relative_to(DOCS.parent)
        return f"]({PROJECT['urls']['Homepage']}/{path})"

    text = re.sub(r"\]\((?!https?:|#)([^)]+)\)", absolute, text.strip())
    return [{"cell_type": "markdown", "metadata": {}, "source": text}] if text else []


def _from_console(session: str) -> list[dict[str, Any]]:
    """A cell ends where something is printed, as a notebook shows that below the cell."""
    cells, lines = [], ""
    for example in doctest.DocTestParser().get_examples(session):
        lines += example.source
        if example.want:
            cells.append(_code(lines, example.want))
            lines = ""
    return [*cells, _code(lines, "")] if lines else cells


def _code(source: str, printed: str) -> dict[str, Any]:
    output = {"output_type": "stream", "name": "stdout", "text": printed}
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [output] if printed else [],
        "source": source.rstrip("\n"),
    }


def write(app: Sphinx, exception: Exception | None) -> None:
    """Every notebook, at the end of a build of HTML that did not fail."""
    if exception is not None or app.builder.format != "html":
        return
    for page in pages():
        path = Path(app.outdir) / "notebooks" / f"{page}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook(page), indent=1, ensure_ascii=False) + "\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the notebooks when the pages are built."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
