"""How far the computed numbers can be from the true ones, proved by ball arithmetic."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import style

_COLORS = {
    "law": style.BLUE,
    "divergence": style.RED,
    "constant": style.GREEN,
    "formula": style.ORANGE,
}
_LABELS = {
    "law": "law",
    "divergence": "KL and reward gap",
    "constant": "constants of the rates",
    "formula": "bounds, other rules",
}


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """One dot a number, sorted within its group, over the rounding unit of float64."""
    figure, axes = style.panels(1, 2.7)
    (ax,) = axes
    start = 0
    for group, color in _COLORS.items():
        far = np.sort(dataset.distance.values[dataset.group.values == group])
        ax.plot(start + np.arange(far.size), far, "o", ms=3, color=color, label=_LABELS[group])
        start += far.size
    ax.axhline(np.finfo(float).eps, color=style.GRAY, ls=(0, (1, 1.5)), label="spacing of float64")
    ax.set(
        yscale="log",
        xlabel="numbers, each group sorted",
        ylabel="relative error, at most",
        title="digits that are proved",
    )
    style.legend_below(figure, ax)
    return figure
