"""The benchmarks run, on a small case, keep their timings, and say what changed.

Of the parts themselves `make slow` runs one, `make test-long` all.
"""

import copy
import json
import re
import sys
import types

import jax
import numpy as np
import pytest

from benchmarks import (
    __main__ as benchmarks,
    _compare,
    _page,
    _records,
    _timing,
    bench_cold,
    bench_growth,
    bench_selection,
    bench_sweep,
    bench_variants,
)

# Parts that run ----------------------------------------------------------------------------------


def run(folder, part, rounds=2):
    """The record of one part, read from the only file in the folder."""
    with jax.debug_key_reuse(False):  # every call of a contestant is to draw the same
        assert benchmarks.main([part, "--rounds", str(rounds), "--json", str(folder)]) == 0
    (path,) = folder.iterdir()
    return _records.read(path)


@pytest.fixture
def tiny(monkeypatch):
    """A part of two NumPy contestants."""

    def run(rounds, quick):
        calls = {"sum": lambda: np.arange(9).sum(), "jax": lambda: jax.numpy.arange(9)}
        times = _timing.race(calls, rounds)
        values = {"sum / jax": _timing.ratio(times, ["sum"], ["jax"], at_most=1e9)}
        return _timing.Report({"all": times}, values, ["a remark"])

    module = types.ModuleType("benchmarks.bench_tiny", "What is tiny.")
    module.run, module.DOUBLE, module.ROUNDS = run, True, 3
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(benchmarks, "PARTS", ("tiny",))


@pytest.mark.usefixtures("tiny")
def test_a_run_is_saved_with_what_it_was_made_with(tmp_path, capsys):
    record = run(tmp_path, "tiny")
    assert set(record) == {
        "schema", "date", "commit", "device", "processors", "platform", "versions",
        "compilation_cache", "quick", "parts",
    }  # fmt: skip
    assert set(record["versions"]) == {"softbon_jax", "python", "jax", "jaxlib", "numpy"}
    assert record["versions"]["jax"] == jax.__version__
    assert record["commit"] == "unknown" or re.fullmatch(r"[0-9a-f]{40,}\+?", record["commit"])
    assert record["processors"] >= 1
    assert record["quick"] is False
    (part,) = record["parts"].values()
    assert list(part["seconds"]["all"]) == ["sum", "jax"]
    for timing in part["seconds"]["all"].values():
        assert set(timing) == {"first", "steady", "reference"}
        assert len(timing["steady"]) == len(timing["reference"]) == 2
        assert min(timing["first"], *timing["steady"], *timing["reference"]) > 0
    value = part["values"]["sum / jax"]
    assert 0 < value["low"] <= value["median"] <= value["high"]
    assert value["at_most"] == 1e9
    printed = capsys.readouterr().out
    assert "target 1e+09: met" in printed
    assert "a remark" in printed
    text = next(tmp_path.iterdir()).read_text()
    assert re.search(r'"steady": \[[\d.e-]+, [\d.e-]+\]', text)  # on one line
    assert json.loads(text) == record


@pytest.mark.usefixtures("tiny")
def test_rounds_are_those_of_the_part_or_few(tmp_path):
    for options, rounds in (([], 3), (["--quick"], benchmarks.QUICK_ROUNDS)):
        folder = tmp_path / str(rounds)
        benchmarks.main(["--json", str(folder), *options])
        record = _records.read(next(folder.iterdir()))
        assert record["quick"] == bool(options)
        assert len(record["parts"]["tiny"]["seconds"]["all"]["sum"]["steady"]) == rounds


@pytest.mark.slow
def test_selection_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_selection, "SHAPE", (4, 8))
    part = run(tmp_path, "selection")["parts"]["selection"]
    assert len(part["seconds"]["4 x 8, float32"]["select"]["steady"]) == 2
    assert part["values"]["select / categorical"]["median"] > 0
    printed = capsys.readouterr().out
    assert "select / categorical" in printed
    assert "simulation" not in printed


@pytest.mark.long
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
    part = run(tmp_path, "variants")["parts"]["variants"]
    assert len(part["values"]) == len(names)
    last = capsys.readouterr().out.split("in standard errors\n")[1].splitlines()[: len(names) + 1]
    assert last[-1].startswith("two draws a word")
    assert all(float(line.split()[-1]) < 5 for line in last[:-1])


@pytest.mark.long
def test_growth_is_fitted_for_each_ladder(monkeypatch, tmp_path):
    ladders = {
        "metrics against K": bench_growth.Ladder(bench_growth.metrics, (4, 8, 16)),
        "literal against trials": bench_growth.Ladder(
            lambda x: bench_growth.simulate("literal", trials=x), (64, 4096, 2**18)
        ),
    }
    monkeypatch.setattr(bench_growth, "LADDERS", ladders)
    monkeypatch.setattr(bench_growth, "LARGEST", 100)
    monkeypatch.setattr(bench_growth, "LARGEST_BYTES", 0)
    part = run(tmp_path, "growth")["parts"]["growth"]
    assert list(part["seconds"]["metrics against K"]) == ["4", "8", "16"]
    assert set(part["seconds"]) == {*ladders, "metrics of the largest K"}
    name = "exponent of literal against trials, 64 to 262,144"
    assert list(part["values"]) == ["exponent of metrics against K, 4 to 16", name]


@pytest.mark.long
def test_a_cold_start_counts_its_programs(monkeypatch, tmp_path):
    metrics = {"metrics": bench_cold.PROGRAMS["metrics"]}
    monkeypatch.setattr(bench_cold, "PROGRAMS", metrics)
    part = run(tmp_path, "cold", rounds=1)["parts"]["cold"]
    (times,) = part["seconds"].values()
    assert set(times) == {*bench_cold.IMPORTS, "metrics, empty cache", "metrics, filled cache"}
    assert part["values"]["metrics, programs compiled with an empty cache"]["low"] > 0
    assert part["values"]["metrics, programs compiled with a filled cache"]["high"] == 0


def test_scores_of_the_cold_start(tmp_path):
    bench_cold.write_scores(tmp_path / "scores.csv")
    header, *rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert header == "prompt_id,proxy_reward,gold_reward"
    assert len(rows) == 2880
    assert len({row.split(",")[0] for row in rows}) == 120


def test_the_floor_is_the_integrals_of_the_sweep():
    rng = np.random.default_rng(0)
    t, w, rows = (rng.random((2, *shape)) for shape in ((5,), (3,), (4, 5)))
    expected = np.einsum("tnq,tqk->tnk", rows, np.exp(-t[:, :, None] * w[:, None, :]))
    np.testing.assert_allclose(bench_sweep.floor(t, w, rows), expected, rtol=1e-13)


@pytest.mark.parametrize("arguments", [["dance"], ["sweep", "--rounds", "0"]])
def test_what_there_is_not_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(arguments)
    message = capsys.readouterr().err
    assert "no part is called 'dance'" in message or "at least 1, got 0" in message


# Slopes ------------------------------------------------------------------------------------------


def test_exponent_of_the_upper_sizes():
    sizes = (1, 10, 100, 1_000, 10_000, 100_000)
    speed = np.array([1.0, 3.0, 0.5])  # of the machine, in each round
    exponents = np.array([1.5, 1.7, 1.6])
    times = [
        # what does not grow hides the rest below 1,000
        _timing.Timing(0.0, list(speed * max(1e3**2, x**2) * x ** (e - 2)), list(speed))
        for x in sizes
        for e in [exponents]
    ]
    fitted = _timing.exponent(times, sizes)
    np.testing.assert_allclose(fitted[:3], [1.6, 1.5, 1.7], rtol=1e-12)


# Comparison --------------------------------------------------------------------------------------

STEADY = [1.0, 1.1, 1.2, 0.9, 1.05]


def made_up(device="A CPU, 2 processors", **kernels):
    """A run of one part with these times of kernels, the reference kernel taking a tenth of a second."""
    record = _records.machine() | {"device": device, "quick": False}
    times = {
        name: _timing.Timing(1.0, steady, [0.1] * len(steady)) for name, steady in kernels.items()
    }
    value = _timing.Spread(1.0, 0.9, 1.1, 3.0)
    report = _timing.Report({"all": times}, {"exponent": value})
    return record | {"parts": {"tiny": _records.part_record(report, 1.0)}}


def scaled(factor, reference=1.0):
    """The baseline with the times of kernel `b` scaled, and the whole machine slower."""
    record = made_up(a=STEADY, b=STEADY)
    for name, timing in record["parts"]["tiny"]["seconds"]["all"].items():
        own = factor if name == "b" else 1.0
        timing["steady"] = [own * reference * x for x in timing["steady"]]
        timing["reference"] = [reference * x for x in timing["reference"]]
    return record


def compared(tmp_path, run, baseline, *options):
    paths = [tmp_path / "run.json", tmp_path / "baseline.json"]
    for record, path in zip((run, baseline), paths, strict=True):
        _records.write(record, path)
    return benchmarks.main(["compare", *map(str, paths), *options])


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.15, 0.9])
@pytest.mark.parametrize("reference", [1.0, 2.0])
def test_compare_tells_a_change_from_noise(factor, reference, tmp_path, capsys):
    """The range of the rounds is [0.9, 1.2]: up to 4/3 either way is noise, on a slower machine too."""
    found = {x.name: x for x in _compare.changes(scaled(factor, reference), scaled(1.0))}
    b = found["tiny: all: b"]
    np.testing.assert_allclose(b.quotient[:3], [factor, factor * 0.75, factor / 0.75], rtol=1e-4)
    assert (b.slower, b.faster) == (factor == 2.0, factor == 0.5)
    assert not found["tiny: all: a"].slower
    assert not found["tiny: all: a"].faster
    assert compared(tmp_path, scaled(factor, reference), scaled(1.0)) == 0
    printed = capsys.readouterr().out
    assert ("tiny: all: b" in printed) == (factor in (2.0, 0.5))
    assert "tiny: all: a" not in printed
    strict = compared(tmp_path, scaled(factor, reference), scaled(1.0), "--strict")
    assert strict == int(factor == 2.0)


def test_less_than_a_tenth_is_no_change():
    exact = [1.0] * 5
    run, baseline = made_up(a=[1.08] * 5, b=[1.2] * 5), made_up(a=exact, b=exact)
    assert [x.slower for x in _compare.changes(run, baseline)] == [True, False]  # b, a


def test_one_round_says_nothing():
    assert _compare.changes(made_up(a=[2.0]), made_up(a=[1.0])) == []


def test_compare_shows_other_values_and_what_is_gone(tmp_path, capsys):
    baseline = made_up(a=STEADY, b=STEADY)
    run = copy.deepcopy(baseline)
    run["parts"]["tiny"]["values"]["exponent"] |= {"median": 2.0, "low": 1.9, "high": 2.1}
    del run["parts"]["tiny"]["seconds"]["all"]["b"]
    run["device"] = "another"
    compared(tmp_path, run, baseline)
    printed = capsys.readouterr().out
    assert "tiny: exponent" in printed
    assert "in the baseline only\ntiny: all: b" in printed
    assert "different devices" in printed


# Baselines ---------------------------------------------------------------------------------------


def test_a_baseline_is_named_by_its_device(monkeypatch, tmp_path):
    names = {
        "AMD EPYC, 2 processors": "amd-epyc-2-processors",
        "Intel(R) Xeon(R) CPU @ 2.20GHz, 8 processors": "intel-r-xeon-r-cpu-2-20ghz-8-processors",
        "NVIDIA H100 80GB HBM3": "nvidia-h100-80gb-hbm3",
    }
    assert {name: _records.slug(name) for name in names} == names
    monkeypatch.setattr(_records, "BASELINES", tmp_path)
    record = made_up("NVIDIA H100 80GB HBM3", a=STEADY)
    assert _records.store(record, ("tiny",)) == tmp_path / "nvidia-h100-80gb-hbm3.json"
    assert _records.read(_records.baseline_of(record)) == record


def test_the_newest_run_becomes_the_baseline_if_it_is_whole(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(_records, "BASELINES", tmp_path / "baselines")
    monkeypatch.setattr(_page, "PAGE", tmp_path / "speed.md")
    assert benchmarks.main(["baseline"]) == 2
    assert "no run in" in capsys.readouterr().err
    monkeypatch.setattr(benchmarks, "PARTS", ("tiny",))
    old, new = made_up(a=STEADY), scaled(2.0)
    old["date"], new["date"] = "2025-12-31T10:00:00+00:00", "2026-01-01T09:00:00+00:00"
    for record in (new, old):
        _records.save(record, _records.RESULTS)
    assert benchmarks.main(["compare"]) == 2
    assert "there is no" in capsys.readouterr().err
    assert benchmarks.main(["baseline"]) == 0
    (path,) = (tmp_path / "baselines").iterdir()
    text = (tmp_path / "speed.md").read_text()
    record = _records.read(path)
    assert f"## {record['device']}\n" in text
    for part, found in record["parts"].items():
        assert f"### `{part}`\n" in text
        for name, value in found["values"].items():
            assert f"| {name} | {value['median']:.4g} |" in text
    assert _records.read(path) == new
    assert benchmarks.main(["compare", "--strict"]) == 0
    for change in ({"quick": True}, {"parts": {}}):
        with pytest.raises(_records.RecordError, match="a whole run"):
            _records.store(new | change, ("tiny",))
    _records.write({"schema": 0}, path)
    with pytest.raises(_records.RecordError, match="not a run"):
        _records.read(path)
