"""The benchmarks run, on a small case, and say what they do not have."""

import json

import jax
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import bench_selection


@pytest.mark.slow
def test_a_part_runs_and_writes_its_timings(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_selection, "SHAPE", (4, 8))
    with jax.debug_key_reuse(False):  # every call of a contestant is to draw the same
        benchmarks.main(["selection", "--rounds", "2", "--json", str(tmp_path)])
    record = json.loads((tmp_path / "selection.json").read_text())
    assert len(record["seconds"]["pools"]["select"]["steady"]) == 2
    assert record["ratios"]["select / categorical"]["median"] > 0
    printed = capsys.readouterr().out
    assert "select / categorical" in printed
    assert "simulation" not in printed


def test_unknown_parts_are_refused(capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["dance"])
    assert "no part is called 'dance'" in capsys.readouterr().err
