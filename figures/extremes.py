"""How bounds are attained, and how near E[A log A] comes to half of the uniform bound."""

from __future__ import annotations

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
    families = [
        axes[0].plot(SMALL, dataset.ratio.sel(bound=name), color=color, ls=line, label=label)[0]
        for name, label, color, line in SHOWN
    ]
    axes[0].set(xscale="log", xlabel="ε of the family", ylabel="exact KL/bound")
    axes[0].invert_xaxis()
    ratio = (dataset.two_entropy / dataset.two_half).max("high")
    shades = style.shades(dataset.sizes["range"])
    widths = [
        axes[1].plot(dataset.draws, ratio.sel(range=x), color=shade, label=f"Δ/λ = {x:g}")[0]
        for x, shade in zip(dataset.range.values, shades, strict=True)
    ]
    axes[1].set(xscale="log", xlabel="number of candidates n")
    axes[1].set_ylabel("E[A log A]/(sinh²(Δ/2λ)/2n)")
    for ax in axes:
        ax.axhline(1, color=style.GRAY, ls=":")
        ax.set_ylim(0, 1.05)
    style.legend_below(figure, [*families, *widths], columns=4)
    return figure
