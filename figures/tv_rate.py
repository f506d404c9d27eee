"""Total variation from the tilted law: given the draws it falls as n^-1/2, averaged over them as 1/n."""

from __future__ import annotations

from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The law of the selected sample, and the softmax measure whose average it is."""
    figure, panels = style.rate_panels(dataset)
    trials = dataset.fluctuation.attrs["trials"]
    for ax, problem, temperature in panels:
        one = dataset.sel(problem=problem, temperature=temperature)
        asymptotes: dict[str, Any] = {"color": style.RED, "ls": ":", "lw": 1.6}
        ax.plot(one.n, one.fluctuation_asymptote, **asymptotes, label="leading terms")
        ax.plot(one.n, one.tv_asymptote, **asymptotes, zorder=4)
        style.estimates(
            ax,
            one.simulated_n,
            one.fluctuation,
            one.fluctuation_se,
            f"E TV(R, P*) given the draws, {trials:,} trials ± 2 s.e.",
        )
        ax.plot(one.n, one.tv, color=style.BLACK, lw=1.6, label="TV($P_n$, P*), exact")
        ax.set(xscale="log", yscale="log", ylim=(1e-7, 10), xlabel="number of candidates n")
        if ax is figure.axes[0]:
            style.along(ax, one.n, one.tv, 0.7, "law: slope -1", style.BLACK)
            style.along(
                ax, one.n, one.fluctuation_asymptote, 0.2, "given the draws: slope -½",
                style.GREEN, above=True,
            )  # fmt: skip
    figure.axes[0].set_ylabel("total variation from $P^*$")
    style.legend_below(figure, figure.axes[0])
    return figure
