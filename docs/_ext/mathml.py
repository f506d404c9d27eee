"""Mathematics as MathML, which browsers draw themselves: no scripts, fonts or files to load."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

SPACE = '<mspace width="0.1667em"></mspace>'
LOGGER = logging.getLogger(__name__)


def _mathml(node: nodes.Element, *, as_block: bool) -> str:
    text = node.astext()
    try:
        # Without its line breaks, which are spaces to a browser and show inside of a sentence.
        lines = tex2mathml(text, as_block=as_block).splitlines()
    except MathError as error:
        LOGGER.warning("mathematics not understood: %s: %s", error, text, location=node)
        return ""
    joined = "".join(line.strip() for line in lines)
    # Names of functions have space around them, which not every browser adds of itself.
    joined = re.sub(r"<mo>&ApplyFunction;</mo>(?=<mo)", "", joined)
    joined = joined.replace("<mo>&ApplyFunction;</mo>", SPACE)
    joined = re.sub(
        r'<mo( class="mathopen")?>([|‖])</mo>', r'<mo lspace="0" rspace="0">\2</mo>', joined
    )
    return re.sub(r"(</(?:mi|mn|mfrac|msub|msup)>|\)</mo>)(?=<mi>log</mi>)", rf"\1{SPACE}", joined)


def _inline(translator: Any, node: nodes.Element) -> None:
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.Element) -> None:
    translator.body.append(f'<div class="formula">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer, to be chosen by `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
