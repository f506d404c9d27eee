"""KL(P*‖P_n) of a sequence against its length, for selection by symbols, by blocks and whole."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

PANELS = 3


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """One panel for each n: whole sequences part from the others once m D exceeds log n."""
    one = dataset.isel(problem=0, temperature=0)
    numbers = dataset.n.values[:PANELS]
    figure, axes = style.panels(len(numbers), 2.9, sharey=True)
    schemes = [str(x) for x in dataset.scheme.values]
    for ax, n in zip(axes, numbers, strict=True):
        at = one.sel(n=n)
        for scheme, color in zip(schemes, style.shades(len(schemes)), strict=True):
            ax.plot(at.length, at.kl_tilted_soft.sel(scheme=scheme), color=color, label=scheme)
        lower = at.kl_lower.where(at.kl_lower > 0)
        ax.plot(
            at.length,
            at.kl_upper,
            color=style.BLUE,
            ls="--",
            label="upper bound",
        )
        ax.plot(
            at.length, lower, color=style.RED, ls=":", lw=1.6, label="m D - log n (lower bound)"
        )
        ax.set(yscale="log", xlabel="length m (symbols)")
        ax.set_xscale("log", base=2)
        ax.set_ylim(bottom=0.3 * float(one.kl_tilted_soft.min()))
        ax.set_title(f"n = {n}")
    axes[0].set_ylabel("KL($P^*$‖$P_n$) of the sequence (nats)")
    style.legend_below(figure, axes[0])
    return figure
