"""A better judge or more samples: contours of the true reward, and how to spend calls of the judge."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Along a contour noise is paid for with draws, and soon no number of draws pays for it."""
    figure, (left, right) = style.panels(2, 2.9)
    gold = dataset.gold.transpose("noise", "n")
    levels = np.arange(0.25, 2.5, 0.25)
    drawn = left.contour(
        gold.n, gold.noise, gold.values, levels=levels, colors=style.shades(len(levels))
    )
    left.clabel(drawn, fontsize=style.SMALL, fmt="%g")
    left.set(
        xscale="log",
        yscale="log",
        xlabel="number of candidates n",
        ylabel="noise of the judge, in spreads of the truth",
        title="true reward",
    )
    ticks = [0.125, 0.25, 0.5, 1, 2, 4]
    left.set_yticks(ticks, [f"{x:g}" for x in ticks])
    left.set_yticks([], minor=True)
    shown = [x for x in dataset.noise.values if np.isclose(np.log2(x), round(np.log2(x)))]
    for noise, color in zip(shown, style.shades(len(shown)), strict=True):
        curve = dataset.gold_of_calls.sel(noise=noise)
        best = int(np.argmax(curve.values))
        right.plot(curve.scores, curve, color=color, label=f"noise {noise:g}")
        right.plot(curve.scores[best], curve[best], "o", ms=3.5, color=color)
    right.set(
        xscale="log",
        xlabel="scores of each draw",
        ylabel="true reward",
        title=f"{dataset.attrs['calls']} calls of the judge",
    )
    ticks = [1, 2, 4, 8, 16, 32, 64]
    right.set_xticks(ticks, [str(x) for x in ticks])
    right.set_xticks([], minor=True)
    right.legend(fontsize=style.SMALL)
    return figure
