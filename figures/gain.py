"""Reward gained per symbol by whole sequences against log n per symbol."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Hard best-of-n climbs to the tilted law of the same divergence; soft stops at its target."""
    one = dataset.isel(problem=0).where(dataset.rate > 0, drop=True)
    figure, (ax,) = style.panels(1, 3.0, width=style.SINGLE)
    lengths, temperatures = one.length.values, one.temperature.values
    styles = ["-", (0, (4, 1.5)), (0, (1, 1))]
    colors = [style.RED, style.GREEN, style.BLUE]
    shortest, longest = lengths[0], lengths[-1]
    for temperature, color in zip(temperatures, colors, strict=False):
        for m, line in ((shortest, styles[2]), (longest, styles[0])):
            ax.plot(one.rate, one.gain.sel(temperature=temperature, length=m), color=color, ls=line)
        end = float(one.gain.sel(temperature=temperature, length=longest)[-1])
        style.beside(ax, float(one.rate[-1]), end, f"λ = {temperature:g}", color, 3, 0)
    ax.plot(one.rate, one.frontier, color=style.BLACK, lw=3, alpha=0.25, zorder=1)
    ax.plot(one.rate, np.sqrt(one.rate / 2), color=style.GRAY, ls="--", lw=0.9)
    ax.set(xlim=(0, 1.2 * float(one.rate[-1])), ylim=(0, 1.05 * float(one.gain_upper.max())))
    ax.set_title("whole sequences of m symbols")
    ax.set_xlabel("R = log n / m (nats per symbol)")
    ax.set_ylabel("gain per symbol (reward units)")
    handles = [
        Line2D([], [], color=style.GRAY, ls="--", lw=0.9, label="Δ√(R/2)"),
        Line2D([], [], color=style.BLACK, lw=3, alpha=0.25, label="tilted law with KL = R"),
        Line2D([], [], color=style.BLACK, ls=styles[0], label=f"exact, m = {longest}"),
        Line2D([], [], color=style.BLACK, ls=styles[2], label=f"exact, m = {shortest}"),
    ]
    style.legend_below(figure, handles, 2)
    return figure
