"""Docstrings of this project as reStructuredText.

They are plain text with sections in the style of Google: `Args:`, `Returns:`, `Raises:`,
`Attributes:`, `Example:`, and `Numerics:` and `Source:`, whose text may begin on the same line. Sections
become fields; single backquotes become code or, around a documented name, links; indented paragraphs are
formulas, `*one*` word is emphasized, and no other character is markup. (Napoleon reads the mathematics
of these docstrings as markup: P*, |r|, E_, indented formulas.)
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

from sphinx.application import Sphinx

HEADER = re.compile(r"(Args|Returns|Raises|Attributes|Numerics|Source|Example):(?: +(.*))?$")
ERRORS = re.compile(r"\w+(Error|Exit|Interrupt|Warning)\b")
ENTRY = re.compile(r"([\w, ]+): (.*)", flags=re.DOTALL)


def converted(lines: list[str], documented: dict[str, str]) -> list[str]:
    """The docstring `lines` as reStructuredText.

    Args:
      lines: of the docstring, without common indentation.
      documented: what to link, and the full name to link it to.
    """
    body: list[str] = []
    fields: list[str] = []
    members: list[str] = []
    trailing = False  # text after the sections
    i = 0
    while i < len(lines):
        header = HEADER.match(lines[i])
        if header is None:
            (fields if trailing and fields else body).append(lines[i])
            i += 1
            continue
        name, first = header[1], header[2]
        block = [first] if first else []
        i += 1
        if first:  # up to an empty line or the next section
            while i < len(lines) and lines[i].strip() and not HEADER.match(lines[i]):
                block.append(lines[i].strip())
                i += 1
        else:
            while i < len(lines) and (lines[i].startswith(" ") or not lines[i]):
                block.append(lines[i])
                i += 1
        text = textwrap.dedent("\n".join(block)).strip()
        if name == "Args":
            fields += [
                _field(f"param {entry}", words, documented) for entry, words in _entries(text)
            ]
        elif name == "Raises" and not ERRORS.match(text):  # it says in words that nothing is
            fields.append(_field(name, text, documented))
        elif name == "Raises":
            fields += [
                _field(f"raises {entry}", words, documented)
                for names, words in _entries(text)
                for entry in names.split(", ")
            ]
        elif name == "Attributes":
            for entry, words in _entries(text):
                members += [f".. attribute:: {entry}", ""]
                members += [f"   {_inline(_line(words), documented)}", ""]
        elif name == "Example":
            fields.append(_example(block, documented))
        else:
            label = {"Returns": "returns"}.get(name, name)
            fields.append(_field(label, text, documented))
    return [
        *_paragraphs("\n".join(body), documented),
        "",
        *[line for field in fields for line in field.splitlines()],
        "",
        *members,
        "",
    ]


def _entries(text: str) -> list[tuple[str, str]]:
    """The `name: words` entries of a section; what is further to the right goes on."""
    entries = []
    for entry in re.split(r"\n(?=\S)", text):
        match = ENTRY.match(entry)
        if match is None:
            raise ValueError(f"not an entry of a section: {entry!r}")
        entries.append((match[1], match[2]))
    return entries


def _field(label: str, text: str, documented: dict[str, str]) -> str:
    return f":{label}: {_inline(_line(text), documented)}"


def _example(block: list[str], documented: dict[str, str]) -> str:
    """A field with the code and what it prints, and the words between."""
    lines = [":Example:", ""]
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent("\n".join(block)).strip()):
        if paragraph.startswith(">>>"):
            paragraph = ".. code-block:: pycon\n\n" + textwrap.indent(paragraph, "   ")
        else:
            paragraph = _inline(_line(paragraph), documented)
        lines += [*textwrap.indent(paragraph, "   ").splitlines(), ""]
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def _paragraphs(text: str, documented: dict[str, str]) -> list[str]:
    lines = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.startswith(" "):
            lines += ["::", "", *textwrap.indent(textwrap.dedent(paragraph), "   ").splitlines()]
        else:
            lines += _inline(paragraph, documented).splitlines()
        lines.append("")
    return lines


def _inline(text: str, documented: dict[str, str]) -> str:
    """Code and links for what is between backquotes, nothing else as markup."""
    parts = re.split(r"`([^`]+)`", text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"([\\*|_])", r"\\\1", part)
            parts[i] = re.sub(r"(?<!\S)\\\*(\w+)\\\*(?!\w)", r"*\1*", parts[i])
        elif part in documented:
            parts[i] = f":py:obj:`{part} <{documented[part]}>`"
        else:
            parts[i] = f"``{part}``"
    # Inline markup wants a space or punctuation on both sides.
    for i in range(1, len(parts), 2):
        before, after = parts[i - 1][-1:], parts[i + 1][:1]
        parts[i] = ("\\ " if before.isalnum() else "") + parts[i]
        parts[i] += "\\ " if after.isalnum() else ""
    return "".join(parts)


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = converted(lines, app.config.documented_names)


def setup(app: Sphinx) -> dict[str, bool]:
    """Convert every docstring that autodoc reads."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_config_value("documented_names", {}, "env", dict)
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
