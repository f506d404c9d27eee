"""Log of the candidates needed for a divergence ε against the length of the sequence."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Whole sequences need e^{mD}, fewer than the (1 + CV²)^m of the bound; symbols need about √m."""
    one = dataset.isel(problem=0, temperature=0)
    budgets = one.kl.values[:2]
    figure, axes = style.panels(len(budgets), 2.9, sharey=True)
    for ax, budget in zip(axes, budgets, strict=True):
        at = one.sel(kl=budget)
        ax.plot(
            at.length,
            at.log_n_upper,
            color=style.BLUE,
            ls="--",
            label="enough, by the bound",
        )
        ax.plot(
            at.length, at.log_n_blocks, color=style.BLACK, marker="o", ms=3, label="whole, exact"
        )
        ax.plot(
            at.length,
            at.log_n_lower,
            color=style.RED,
            ls=":",
            lw=1.6,
            label="necessary: m D - ε",
        )
        ax.plot(
            at.length, at.log_n_symbols, color=style.GREEN, marker="s", ms=3, label="symbols, exact"
        )
        ax.set(xlim=0, ylim=0, xlabel="length m (symbols)")
        ax.set_title(f"KL of the sequence at most {budget:g} nats")
        if ax is axes[0]:
            x, y = float(at.length[-2]), float(at.log_n_upper[-2])
            style.beside(ax, x, y, "slope log(1 + CV²)", style.BLUE, -8, 8, ha="right")
            style.beside(
                ax, float(at.length[-2]), float(at.log_n_lower[-2]), "slope D", style.RED, 4, -9
            )
        style.beside(
            ax,
            float(at.length[-1]),
            float(at.log_n_symbols[-1]),
            "by symbols: n ∝ √m",
            style.GREEN,
            -2,
            9,
            ha="right",
        )
    axes[0].set_ylabel("log n (nats)")
    style.legend_below(figure, axes[0])
    return figure
