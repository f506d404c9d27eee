"""The benchmarks run, on a small case, and say what they do not have."""

import json

import jax
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import bench_selection, bench_variants


@pytest.mark.slow
def test_a_part_runs_and_writes_its_timings(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_selection, "SHAPE", (4, 8))
    with jax.debug_key_reuse(False):  # every call of a contestant is to draw the same
        benchmarks.main(["selection", "--rounds", "2", "--json", str(tmp_path)])
    record = json.loads((tmp_path / "selection.json").read_text())
    assert len(record["seconds"]["pools"]["select"]["steady"]) == 2
    assert record["ratios"]["select / categorical"]["median"] > 0
    assert record["machine"]["compilation_cache"] == bool(jax.config.jax_compilation_cache_dir)
    printed = capsys.readouterr().out
    assert "select / categorical" in printed
    assert "simulation" not in printed


@pytest.mark.slow
def test_variants_draw_from_the_law(monkeypatch, tmp_path, capsys):
    names = (
        bench_variants.SHIPPED,
        "draw: bisection written out",
        "select: smallest Exp(1)/w",
        "bits: jax.random, rbg",
        "two draws a word, not exact",
    )
    variants = {name: bench_variants.VARIANTS[name] for name in names}
    monkeypatch.setattr(bench_variants, "VARIANTS", variants)
    monkeypatch.setattr(bench_variants, "TRIALS", 5_000)
    with jax.debug_key_reuse(False):
        benchmarks.main(["variants", "--rounds", "2", "--json", str(tmp_path)])
    record = json.loads((tmp_path / "variants.json").read_text())
    assert set(record["ratios"]) == set(names)
    last = capsys.readouterr().out.split("in standard errors\n")[1].splitlines()
    assert len(last) == len(names) + 1
    assert all(float(line.split()[-1]) < 5 for line in last[:-1])


def test_unknown_parts_are_refused(capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["dance"])
    assert "no part is called 'dance'" in capsys.readouterr().err
