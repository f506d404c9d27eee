"""Figures draw what is saved, legibly, and to the same bytes each time."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from experiments import NAMES
from figures import kl_rate, simulation_check, style
from figures.__main__ import main, render
from tests import smoke

pytestmark = pytest.mark.slow  # the smoke results take minutes, where they are not there


@pytest.mark.parametrize("name", ["kl_rate", "pools", "rivals"])
def test_equal_data_give_equal_bytes(name, tmp_path):
    once, again = (next(render(smoke.results(), tmp_path / x, [name])) for x in "ab")
    assert once.name == f"{name}.svg"
    assert once.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_there_and_legible(name, columns):
    figure = smoke.figure(name, columns)
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for ax in figure.axes:
        assert ax.get_xlabel()
        assert ax.get_ylabel() or columns == 2
    assert figure.axes[0].get_ylabel()
    assert figure.get_figwidth() in (style.SINGLE, style.DOUBLE)[:columns]
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
    titles = [
        text
        for ax in figure.axes
        for text in ax.findobj(Text)
        if text.get_text() and text.get_text() == ax.get_title(loc="left")
    ]
    assert len(titles) == sum(bool(ax.get_title(loc="left")) for ax in figure.axes)
    labels = [text for ax in figure.axes for text in ax.texts] + titles
    boxes = [text.get_window_extent(renderer) for text in labels]
    for text, box in zip(labels, boxes, strict=True):
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text.get_text()
        assert text.get_fontsize() >= 6
    for one, other in itertools.combinations(range(len(labels)), 2):
        assert not boxes[one].overlaps(boxes[other]), (
            labels[one].get_text(),
            labels[other].get_text(),
        )


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def heights(line):
    """Error bars keep what they were given as objects."""
    return np.asarray(line.get_ydata(), float)


RATES = {
    "kl_rate": {
        "exact": "kl_tilted_soft",
        "log(1 + CV²/n)": "kl_upper",
        "sinh²(Δ/2λ)/n": "kl_upper_sinh",
        "Var(W)/2n²": "kl_asymptote",
    },
    "reward_rate": {
        "exact gap": "relative_reward_gap",
        "M'/(n + M')": "gap_upper",
        "M/(n + M)": "gap_upper_crude",
        "Cov(r, W)/(n E[r])": "relative_gap_asymptote",
    },
}


@pytest.mark.parametrize("name", RATES)
def test_rates_show_the_saved_curves(name):
    result, figure = smoke.result(name), smoke.figure(name)
    exact = next(iter(RATES[name].values()))
    for ax, (problem, temperature) in zip(figure.axes, style.RATE_PANELS, strict=True):
        one = result.sel(problem=problem, temperature=temperature)
        shown = lines(ax)
        for label, field in RATES[name].items():
            np.testing.assert_array_equal(shown[label].get_xdata(), one.n)
            np.testing.assert_array_equal(shown[label].get_ydata(), one[field])
        (bars,) = ax.containers
        assert "± 2 s.e." in bars.get_label()
        simulated = result.sel(problem=problem, simulated_temperature=temperature)
        np.testing.assert_array_equal(heights(bars[0]), simulated[f"simulated_{exact}"])


def test_tv_rate_shows_the_saved_curves():
    result = smoke.result("tv_rate")
    for ax, (problem, temperature) in zip(
        smoke.figure("tv_rate").axes, style.RATE_PANELS, strict=True
    ):
        one = result.sel(problem=problem, temperature=temperature)
        (points,) = ax.containers
        np.testing.assert_array_equal(heights(points[0]), one.fluctuation)
        shown = [line.get_ydata() for line in ax.get_lines()]
        for field in ("tv", "tv_asymptote", "fluctuation_asymptote"):
            assert any(np.array_equal(y, one[field]) for y in shown), field


def test_simulation_check_shows_the_saved_values():
    result = smoke.result("simulation_check")
    problem, temperature = simulation_check.SHOWN
    one = result.sel(problem=problem, temperature=temperature)
    estimates, errors, deviations = smoke.figure("simulation_check").axes
    np.testing.assert_array_equal(lines(estimates)["exact"].get_ydata(), one.tv)
    for simulator, bars, line, points in zip(
        simulation_check.LOOK,
        estimates.containers,
        errors.get_lines(),
        deviations.get_lines(),
        strict=False,
    ):
        point = one.sel(simulator=simulator)
        np.testing.assert_array_equal(heights(bars[0]), point.simulated_tv)
        np.testing.assert_array_equal(line.get_ydata(), point.simulated_law_se)
        ordered = points.get_ydata()
        assert np.all(np.diff(ordered) >= 0)
        assert len(ordered) > 20


def test_a_value_below_the_noise_is_not_drawn():
    result = smoke.result("kl_rate").copy(deep=True)
    result.simulated_kl_tilted_soft[:, :, -1] = np.nan
    axes = kl_rate.draw(result).axes
    for ax, (problem, temperature) in zip(axes, style.RATE_PANELS, strict=True):
        drawn = np.isfinite(heights(ax.containers[0][0]))
        point = result.sel(problem=problem, simulated_temperature=temperature)
        np.testing.assert_array_equal(drawn, point.simulated_kl_tilted_soft.notnull())
        assert drawn[1:-1].all()
        assert not drawn[-1]


def test_missing_results_are_explained(tmp_path, capsys):
    assert main(["--results", str(tmp_path), "--out", str(tmp_path / "gallery")]) == 2
    assert "no result of frontier" in capsys.readouterr().err


def test_only_the_figures_that_are_named(tmp_path, capsys, monkeypatch):
    folders = ["--results", str(smoke.results()), "--out", str(tmp_path)]
    with smoke.drawn_once(monkeypatch):
        assert main(["kl_rate", "poisson", *folders]) == 0
    assert sorted(x.name for x in tmp_path.iterdir()) == ["kl_rate.svg", "poisson.svg"]
    assert main(["kl_rate", "dance", *folders]) == 2
    assert "no experiment is called 'dance'" in capsys.readouterr().err


def test_figures_command(tmp_path, capsys, monkeypatch):
    with smoke.drawn_once(monkeypatch):
        assert main(["--results", str(smoke.results()), "--out", str(tmp_path)]) == 0
    paths = [tmp_path / f"{name}.svg" for name in NAMES]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in paths]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths:
        text = path.read_text()
        assert "<svg" in text
        assert "<dc:date>" not in text


def test_sequences_show_the_saved_curves():
    result = smoke.result("threshold").isel(problem=0, temperature=0)
    shown = lines(smoke.figure("threshold").axes[0])
    for m in result.length.values:
        np.testing.assert_array_equal(
            shown[f"m = {m}"].get_ydata(), result.kl_per_symbol.sel(length=m)
        )
    np.testing.assert_array_equal(shown["(D - R)₊"].get_ydata(), result.limit)
    result = smoke.result("blocks").isel(problem=0, temperature=0)
    for ax, n in zip(smoke.figure("blocks").axes, result.n.values, strict=True):
        for scheme in result.scheme.values:
            exact = result.kl_tilted_soft.sel(n=n, scheme=scheme)
            np.testing.assert_array_equal(lines(ax)[scheme].get_ydata(), exact)
    result = smoke.result("samples_needed").isel(problem=0, temperature=0)
    for ax, kl in zip(smoke.figure("samples_needed").axes, result.kl.values, strict=True):
        for label, field in (("whole, exact", "log_n_blocks"), ("symbols, exact", "log_n_symbols")):
            np.testing.assert_array_equal(lines(ax)[label].get_ydata(), result[field].sel(kl=kl))
