"""KL(P*‖P_n) against n: exact, bounded, asymptotic and simulated."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

BOTTOM = 1e-14


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The bounds fall as 1/n, the divergence of each of these fixed problems as 1/n²."""
    figure, panels = style.rate_panels(dataset)
    for ax, problem, temperature in panels:
        one = dataset.sel(problem=problem, temperature=temperature)
        ax.plot(one.n, one.kl_upper_sinh, color=style.SKY, ls="--", label="sinh²(Δ/2λ)/n")
        ax.plot(one.n, one.kl_upper, color=style.BLUE, label="log(1 + CV²/n)")
        ax.plot(one.n, one.kl_tilted_soft, color=style.BLACK, lw=1.6, label="exact")
        ax.plot(one.n, one.kl_asymptote, color=style.RED, ls=":", lw=1.6, label="Var(W)/2n²")
        style.simulated(ax, dataset, problem, temperature, "kl_tilted_soft")
        floor = float(one.plain_floor)
        ax.axhline(floor, color=style.GRAY, lw=0.8, ls=(0, (1, 1.5)), zorder=0)
        ax.set(xscale="log", yscale="log", ylim=(BOTTOM, 1e3), xlabel="number of candidates n")
        if ax is figure.axes[0]:
            last = float(one.n[-1])
            style.beside(ax, last, floor, "noise of plain simulation", style.GRAY, 0, 4, ha="right")
            style.along(ax, one.n, one.kl_upper, 0.95, "bound: slope -1", style.BLUE)
            style.along(ax, one.n, one.kl_tilted_soft, 0.75, "exact: slope -2", style.BLACK)
    figure.axes[0].set_ylabel("KL($P^*$‖$P_n$) (nats)")
    style.legend_below(figure, figure.axes[0])
    return figure
