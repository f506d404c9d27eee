"""What float32 is good for: its largest error in each quantity, by range over temperature."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """One row a quantity; the rightmost point is its worst case."""
    figure = Figure(figsize=(style.SINGLE, 5.6), layout="constrained")
    ax = figure.subplots()
    rows = np.arange(dataset.quantity.size)
    worst = dataset.error.max("size")
    ratios = dataset.ratio.values
    for ratio, color in zip(ratios, style.shades(len(ratios)), strict=True):
        ax.plot(worst.sel(ratio=ratio), rows, "o", ms=3.5, color=color, label=f"{ratio:g}")
    ax.axvline(1e-4, color=style.GRAY, lw=0.8, ls=":")
    ax.set_yticks(rows, [str(x) for x in dataset.quantity.values], fontsize=style.SMALL)
    ax.invert_yaxis()
    ax.set(
        xscale="log",
        xlim=(1e-9, 2e-4),
        xlabel="largest error, relative",
        ylabel="float32 beside float64",
    )
    ax.grid(axis="y", lw=0.3)
    size = style.SMALL
    # Above the rows, where its dots are not taken for data.
    figure.legend(
        title="range/λ", fontsize=size, title_fontsize=size, loc="outside upper right", ncols=4
    )
    return figure
