"""The README's Python runs, and its table of claims is not empty."""

import contextlib
import io
import re
from pathlib import Path

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def test_quickstart_runs():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    # 16380995e-9 by multinomial enumeration.
    assert "KL(P*||P_n) 0.016381" in out.getvalue()


def test_every_figure_is_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", TEXT):
        assert (Path(__file__).parents[1] / path).is_file(), path


def test_claims_are_there_and_pass():
    table = TEXT.split("<!-- claims: begin -->")[1].split("<!-- claims: end -->")[0]
    assert table.count("| pass |") >= 25
    assert "FAIL" not in table
