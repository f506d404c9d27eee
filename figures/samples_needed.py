"""Log of the candidates needed for a divergence ε against the length of the sequence."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Whole sequences need e^{mD}, fewer than the bound's (1 + CV²)^m; symbols need about √m."""
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
            label="enough: (1 + CV²)$^m$/(e$^ε$ - 1)",
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
            label="necessary: e$^{mD - ε}$",
        )
        ax.plot(
            at.length, at.log_n_symbols, color=style.GREEN, marker="s", ms=3, label="symbols, exact"
        )
        ax.set_xscale("log", base=2)
        ax.set(yscale="log", xlabel="length m (symbols)")
        ax.set_title(f"KL of the sequence at most {budget:g} nats")
        style.along(ax, at.length, at.log_n_blocks, 0.7, "whole", style.BLACK)
        style.along(ax, at.length, at.log_n_symbols, 0.7, "by symbols", style.GREEN, above=True)
    axes[0].set_ylabel("log n (nats)")
    style.legend_below(figure, axes[0])
    return figure
