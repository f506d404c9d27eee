"""How the documentation is built: `make docs`."""

import importlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import softbon_jax  # noqa: E402

project = "softbon_jax"
version = release = softbon_jax.__version__
copyright = "the authors of softbon_jax, Apache-2.0"  # noqa: A001

extensions = [
    "myst_parser",
    "sphinx.ext.githubpages",  # .nojekyll: the pages can be hosted as they stand
    "claims",
    "docstrings",
    "mathml",
    "notebooks",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

# Names that the API pages document, in the forms in which docstrings speak of them.
documented_names: dict[str, str] = {}
for page in sorted((HERE / "api").glob("*.md")):
    for name in re.findall(r"^\.\. auto\w+:: (.*)", page.read_text(), flags=re.MULTILINE):
        *parents, last = name.split(".")
        described = softbon_jax
        for part in (*parents[1:], last):
            if not hasattr(described, part):
                importlib.import_module(f"{described.__name__}.{part}")
            described = getattr(described, part)
        module = getattr(described, "__module__", name).rpartition(".")[2]
        for form in (last, f"{module}.{last}", f"{parents[-1]}.{last}"):
            documented_names[form] = name

autodoc_typehints = "none"  # shapes and meanings are in the text; types are arrays
autodoc_member_order = "bysource"
add_module_names = False
python_maximum_signature_line_length = 88
nitpick_ignore = [
    ("py:exc", name) for name in ("ImportError", "OSError", "TypeError", "ValueError")
]

highlight_language = "none"  # of formulas in docstrings

html_math_renderer = "mathml"
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "softbon_jax"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_copy_source = False
