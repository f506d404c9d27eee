"""One look for all figures: sizes, colours, and SVG whose bytes depend on the data alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

SINGLE, DOUBLE = 3.4, 7.0
"""Widths of one and of two columns, in inches."""

# Okabe and Ito's colours, told apart by all common kinds of colour vision.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, GREY = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#0072b2",
    "#d55e00",
    "#767676",
)

SETTINGS = {
    "axes.edgecolor": GREY,
    "axes.formatter.use_mathtext": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that every machine has it
    "font.size": 8,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "softbon",
    "xtick.color": GREY,
    "xtick.labelcolor": BLACK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.color": GREY,
    "ytick.labelcolor": BLACK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 0,
}

SMALL = 6.5
"""Font size of labels inside the axes."""

Draw = Callable[[xr.Dataset], Figure]


def styled(draw: Draw) -> Draw:
    """The function with these settings in force while it draws."""

    @functools.wraps(draw)
    def inner(dataset: xr.Dataset) -> Figure:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **SETTINGS}):  # type: ignore[dict-item]
            return draw(dataset)

    return inner


def save(figure: Figure, path: Path) -> None:
    """Write SVG without date, with identifiers that repeat, or PNG where the name ends so."""
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=200, metadata=metadata)


def panels(
    columns: int, height: float, width: float = DOUBLE, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of one row of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=sharey)
    return figure, list(axes[0])


def label(dataset: xr.Dataset, name: str) -> str:
    """The long name of a variable with its unit, for an axis."""
    attributes = dataset[name].attrs
    unit = attributes["units"]
    return attributes["long_name"] + ("" if unit == "1" else f" ({unit})")


def beside(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    color: Any,
    dx: float = 0,
    dy: float = 0,
    **options: Any,
) -> None:
    """A label (dx, dy) points from the point (x, y), in the colour of what it names."""
    options = {"ha": "left", "va": "center", "fontsize": SMALL, **options}
    halo = [withStroke(linewidth=1.5, foreground="white")]
    axes.annotate(
        text,
        (x, y),
        (dx, dy),
        textcoords="offset points",
        color=color,
        path_effects=halo,
        **options,
    )


def shades(count: int) -> list[tuple[float, float, float]]:
    """Colours for an ordered set of curves, light to dark, legible on white."""
    colormap = matplotlib.colormaps["viridis_r"]
    return [colormap(x)[:3] for x in np.linspace(0.15, 0.9, count)]


def chosen(dataset: xr.Dataset, wanted: tuple[str, ...], count: int) -> list[str]:
    """The first `count` of the wanted problems that the dataset has, else its first ones."""
    there = [str(name) for name in dataset.problem.values]
    return ([name for name in wanted if name in there] or there)[:count]
