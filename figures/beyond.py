"""Beyond the pool: a curve by the model beside its pools and the truth, and coverage by law."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import style

SHOWN = ("exponential", "normal")


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The model goes on where the pools end; its intervals are as good as the tail is Pareto."""
    figure, (left, right) = style.panels(2, 2.9)
    one = dataset.isel(temperature=0)
    size = int(one["size"][0])
    for law, color in zip(SHOWN, (style.BLUE, style.ORANGE), strict=True):
        own = one.sel(law=law)
        left.fill_between(own.shown_n, own.model_low, own.model_high, color=color, alpha=0.25, lw=0)
        left.plot(own.shown_n, own.exact, color=color, label=law)
        left.plot(own.shown_n, own.pool, "o", ms=3.5, color=color)
    left.axvline(size, color=style.GRAY, lw=0.6, zorder=0)
    left.set(
        xscale="log",
        xlabel="number of candidates n",
        ylabel="reward of the selected",
        title=f"pools of {size}; model: 95% bands",
    )
    ticks = [int(x) for x in one.shown_n.values[::2]]
    left.set_xticks(ticks, [str(x) for x in ticks])
    left.set_xticks([], minor=True)
    left.legend(fontsize=style.SMALL, loc="upper left")
    known = one.dropna("law", how="all", subset=["coverage"])
    place = np.arange(known.law.size)
    for k, (number, color) in enumerate(
        zip(known["size"].values, (style.GREEN, style.RED), strict=False)
    ):
        own = known.sel(size=number)
        right.plot(own.coverage, place + 0.15 * k, "o", ms=4, color=color, label=f"N = {number}")
    right.axvline(0.95, color=style.GRAY, lw=0.6, zorder=0)
    right.set_yticks(place, known.law.values)
    right.set(
        xlim=(0.5, 1.02),
        ylim=(-0.6, known.law.size + 0.4),
        xlabel="share of intervals with the truth",
        ylabel="law of the scores",
        title=f"n = 4N, {dataset.attrs['studies']} studies",
    )
    right.legend(fontsize=style.SMALL, loc="upper left", ncols=2)
    return figure
