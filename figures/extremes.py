"""How bounds are attained, and how near E[A log A] comes to half of the uniform bound."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.families import SMALL
from figures import style

SHOWN = (
    ("KL(P*‖P_n) ≤ log(1 + CV²/n)", "log(1 + CV²/n)", style.BLUE, "-"),
    ("KL(P*‖P_n) ≤ CV²/n", "CV²/n", style.SKY, "--"),
    ("KL(P*‖P_n) ≤ sinh²(Δ/2λ)/n", "sinh²(Δ/2λ)/n", style.RED, "-"),
    ("KL(P*‖P_n) ≤ the O(1/n²) bound", "the O(1/n²) bound", style.GREEN, "-."),
)


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Exact value over bound along a family for each, and the ratio for two outcomes against n."""
    figure, axes = style.panels(2, 2.9)
    for name, label, color, line in SHOWN:
        axes[0].plot(SMALL, dataset.ratio.sel(bound=name), color=color, ls=line, label=label)
    axes[0].set(xscale="log", ylim=(0, 1.05), xlabel="ε of the family", ylabel="exact KL/bound")
    axes[0].invert_xaxis()
    ratio = (dataset.two_entropy / dataset.two_half).max("high")
    for width, color in zip(
        dataset.range.values, style.shades(dataset.sizes["range"]), strict=True
    ):
        axes[1].plot(dataset.draws, ratio.sel(range=width), color=color, label=f"Δ/λ = {width:g}")
    axes[1].axhline(1, color=style.GRAY, ls=":")
    axes[1].set(
        xscale="log",
        ylim=(0, 1.05),
        xlabel="number of candidates n",
        ylabel="E[A log A]/(sinh²(Δ/2λ)/2n)",
    )
    lines = [line for ax in axes for line in ax.get_lines() if not line.get_label().startswith("_")]
    style.legend_below(figure, np.array(lines, object).tolist(), columns=4)
    return figure
