"""Rows of the table of claims in claims.md, so that no page quotes a number of its own.

    ```{claims}
    kl_rate: falls as
    ```

is a table of the claims of `kl_rate` whose text has "falls as" in it.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PAGE = Path(__file__).parents[1] / "claims.md"


def rows() -> list[str]:
    """The lines of the table, its head first, without the last column, which is the verdict."""
    table = PAGE.read_text().split("<!-- claims: begin -->")[1].split("<!-- claims: end -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [line.rsplit("|", 2)[0] + "|" for line in lines]


def chosen(wanted: str) -> list[str]:
    """The rows that a line of the directive asks for."""
    experiment, text = wanted.split(": ", 1)
    found = []
    for row in rows():
        bare = row.replace("\\", "")
        if bare.startswith(f"| {experiment} |") and text in bare.split(" | ")[1]:
            found.append(row)
    if not found:
        raise ValueError(f"no claim of {experiment} has {text!r} in it")
    return found


class Claims(SphinxDirective):
    """The directive."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The table, or an error where a line asks for what is not there."""
        self.env.note_dependency(str(PAGE))
        table = rows()[:2]
        try:
            for wanted in self.content:
                table += chosen(wanted)
        except ValueError as error:
            raise self.error(str(error)) from error
        parent = nodes.container(classes=["claims"])
        self.state.nested_parse(StringList(table, str(PAGE)), self.content_offset, parent)
        return [parent]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
