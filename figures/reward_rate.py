"""The relative reward gap against n: exact, bounded, asymptotic and simulated."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Bounds and gap all fall as 1/n: here the bounds have the right order."""
    figure, panels = style.rate_panels(dataset)
    for ax, problem, temperature in panels:
        one = dataset.sel(problem=problem, temperature=temperature)
        ax.plot(one.n, one.gap_upper_crude, color=style.SKY, ls="--", label="M/(n + M)")
        ax.plot(one.n, one.gap_upper, color=style.BLUE, label="M'/(n + M')")
        asymptote = one.relative_gap_asymptote
        ax.plot(
            one.n, asymptote, color=style.RED, ls=":", lw=1.6, label="Cov(r, W)/(n E[r])", zorder=4
        )
        ax.plot(one.n, one.relative_reward_gap, color=style.BLACK, lw=1.6, label="exact gap")
        style.simulated(ax, dataset, problem, temperature, "relative_reward_gap")
        ax.set(xscale="log", yscale="log", ylim=(1e-8, 10), xlabel="number of candidates n")
        if ax is figure.axes[0]:
            exact = one.relative_reward_gap
            style.along(ax, one.n, exact, 0.6, "all: slope -1", style.BLACK)
    figure.axes[0].set_ylabel("relative reward gap")
    style.legend_below(figure, figure.axes[0])
    return figure
