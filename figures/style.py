"""One look for all figures: sizes, colors, and SVG whose bytes depend only on the data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

SINGLE, DOUBLE = 3.4, 7.0
"""Widths of one and of two columns, in inches."""

_stacked: ContextVar[bool] = ContextVar("stacked", default=False)

# Okabe and Ito's colors, distinct for all common kinds of color vision.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, GRAY = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#0072b2",
    "#d55e00",
    "#767676",
)

SETTINGS = {
    "axes.edgecolor": GRAY,
    "axes.formatter.use_mathtext": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # part of Matplotlib, so every machine has it
    "font.size": 8,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "softbon",
    "xtick.color": GRAY,
    "xtick.labelcolor": BLACK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.color": GRAY,
    "ytick.labelcolor": BLACK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 0,
}

SMALL = 6.5
"""Font size of labels inside the axes."""

Draw = Callable[[xr.Dataset], Figure]


def styled(draw: Draw) -> Draw:
    """The same function, with `SETTINGS` in force while it draws."""

    @functools.wraps(draw)
    def inner(dataset: xr.Dataset) -> Figure:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **SETTINGS}):  # type: ignore[dict-item]
            figure = draw(dataset)
            if _stacked.get():  # panels that shared one y label now each need it
                label = ""
                for ax in figure.axes:
                    label = ax.get_ylabel() or label
                    ax.set_ylabel(label)
            return figure

    return inner


@contextmanager
def one_column() -> Iterator[None]:
    """Figures drawn inside this context are one column wide, with their panels stacked."""
    token = _stacked.set(True)
    try:
        yield
    finally:
        _stacked.reset(token)


def save(figure: Figure, target: Path | BinaryIO, suffix: str = "svg") -> None:
    """Write SVG without a date and with reproducible identifiers, or PNG."""
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(target, dpi=200, metadata=metadata, format=suffix)


def panels(
    columns: int, height: float, width: float = DOUBLE, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of one row of axes, or of one column inside `one_column`."""
    if _stacked.get() and width > SINGLE:
        figure = Figure(figsize=(SINGLE, 0.9 * height * columns), layout="constrained")
        axes = figure.subplots(columns, 1, squeeze=False, sharey=sharey)[:, 0]
    else:
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, sharey=sharey)[0]
    return figure, list(axes)


def beside(
    axes: Axes, x: float, y: float, text: str, color: Any, dx: float, dy: float, **options: Any
) -> None:
    """A label offset by (dx, dy) points from the point (x, y), in the color of what it names."""
    options = {
        "ha": "left",
        "va": "center",
        "fontsize": SMALL,
        "path_effects": [withStroke(linewidth=1.5, foreground="white")],
        "textcoords": "offset points",
        **options,
    }
    axes.annotate(text, (x, y), (dx, dy), color=color, **options)


def along(
    axes: Axes, x: Any, y: Any, share: float, text: str, color: Any, above: bool = False
) -> None:
    """A label next to a curve, at the fraction `share` of its points."""
    at = int(share * (len(x) - 1))
    dx, dy = (5, 5) if above else (-5, -5)
    beside(axes, float(x[at]), float(y[at]), text, color, dx, dy, ha="left" if above else "right")


def legend_below(figure: Figure, of: Axes | Sequence[Artist], columns: int = 7) -> None:
    """One legend below all panels, with the labels of one panel or of some artists.

    It has at most `columns` columns, and only as many as fit.
    """
    handles = of.get_legend_handles_labels()[0] if isinstance(of, Axes) else list(of)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for count in range(min(columns, len(handles)), 0, -1):
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=count, columnspacing=1.2
        )
        if count == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            return
        legend.remove()


def shades(count: int) -> list[tuple[float, float, float]]:
    """Colors for an ordered family of curves, from light to dark, legible on white."""
    colormap = matplotlib.colormaps["viridis_r"]
    return [colormap(x)[:3] for x in np.linspace(0.3, 0.95, count)]


def chosen(dataset: xr.Dataset, wanted: Sequence[str], count: int) -> list[str]:
    """The first `count` of the wanted problems that the dataset has; if none, its first ones."""
    present = [str(name) for name in dataset.problem.values]
    return ([name for name in wanted if name in present] or present)[:count]


def available(dataset: xr.Dataset, wanted: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The wanted pairs of problem and temperature, with the dataset's first for any it lacks."""
    problems, temperatures = dataset.problem.values, dataset.temperature.values
    return [
        (
            problem if problem in problems else str(problems[0]),
            temperature if temperature in temperatures else float(temperatures[0]),
        )
        for problem, temperature in wanted
    ]


RATE_PANELS = (("dirichlet", 0.5), ("dirichlet", 0.2), ("worst_case", 0.2))
"""Problem and temperature of the panels of all figures of rates."""


def rate_panels(dataset: xr.Dataset) -> tuple[Figure, list[tuple[Axes, str, float]]]:
    """A figure of rates: its panels in order, each with its problem and temperature, titled."""
    figure, axes = panels(len(RATE_PANELS), 2.9, sharey=True)
    shown = available(dataset, RATE_PANELS)
    for ax, (problem, temperature) in zip(axes, shown, strict=True):
        ax.set_title(setting(problem, temperature))
    return figure, [(ax, *pair) for ax, pair in zip(axes, shown, strict=True)]


def setting(problem: str, temperature: float) -> str:
    """A title: the problem, and the temperature in units of its reward range."""
    return f"{problem.replace('_', ' ')}, λ = {temperature:g} Δ"


def estimates(
    axes: Axes,
    x: xr.DataArray,
    y: xr.DataArray,
    error: xr.DataArray,
    label: str,
    color: str = GREEN,
    marker: str = "o",
) -> None:
    """Estimated points with bars of two standard errors."""
    axes.errorbar(
        x, y, yerr=2 * error, fmt=marker, ms=3, mfc="white", color=color, elinewidth=0.9,
        capsize=1.5, zorder=5, label=label,
    )  # fmt: skip


def simulated(
    axes: Axes, dataset: xr.Dataset, problem: str, temperature: float, field: str
) -> None:
    """Simulated values above their noise floor, with bars of two standard errors."""
    if temperature not in dataset.simulated_temperature.values:
        return
    point = dataset.sel(problem=problem, simulated_temperature=temperature)
    trials = point[f"simulated_{field}"].attrs["trials"]
    estimates(
        axes,
        point.simulated_n,
        point[f"simulated_{field}"],
        point[f"simulated_{field}_se"],
        f"simulated, {trials:,} trials ± 2 s.e.",
    )


Curve = tuple[xr.DataArray, xr.DataArray]


def frontier(
    axes: Axes, tilted: Curve, soft: Sequence[tuple[int, xr.DataArray, xr.DataArray]], hard: Curve
) -> None:
    """The plane of KL and reward: tilted laws, soft best-of-n for several n, and hard best-of-n."""
    right = 1.3 * max(float(kl.max()) for _, kl, _ in soft)
    axes.plot(*tilted, color=BLACK, lw=3, alpha=0.25, zorder=1)
    axes.plot(*hard, color=RED, ls=":", zorder=2)
    last = -1.0
    for (n, kl, reward), color in zip(soft, shades(len(soft)), strict=True):
        axes.plot(kl, reward, color=color, zorder=3)
        x, y = float(kl.sel(temperature=0.0)), float(reward.sel(temperature=0.0))
        axes.plot(x, y, "o", ms=4, color=color, mec=RED, zorder=4)
        if x - last > 0.06 * right:
            beside(axes, x, y, f"n = {n}", color, 3, -7)
        last = x
    axes.set_xlim(0, right)
    axes.set_xlabel("KL from the reference law (nats)")
    shown = tilted[0].values <= right
    axes.set_ylim(top=float(tilted[1].values[shown].max()) + 0.03 * float(np.ptp(tilted[1].values)))


def explain_frontier(figure: Figure) -> None:
    """The legend of `frontier`."""
    handles = [
        Line2D([], [], color=BLACK, lw=3, alpha=0.25, label="tilted laws (the frontier)"),
        Line2D([], [], color=shades(3)[1], label="soft best-of-n, λ from ∞ to 0"),
        Line2D([], [], color=RED, ls=":", marker="o", ms=4, mfc="white", label="hard best-of-n"),
    ]
    legend_below(figure, handles)
