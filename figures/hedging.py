"""Gold reward against the strength of selection by a proxy, with the exact optimum of each rule."""

from __future__ import annotations

from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from figures import style

PLAIN = {
    "hard": (style.RED, "hard: n"),
    "poisson": (style.ORANGE, "Poisson: \N{GREEK SMALL LETTER NU}"),
    "tilted": (style.BLACK, "tilted law"),
}


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The optimum of soft best-of-n moves with n; the optimum of the tilted law is only its limit."""
    figure, axes = style.panels(2, 2.9, sharey=True)
    soft = [str(x) for x in dataset.curve.values if str(x).startswith("soft")]
    shades = dict(zip(soft, style.shades(len(soft)), strict=True))
    left: list[tuple[str, Any, str]] = [(name, *PLAIN[name]) for name in ("hard", "poisson")]
    right: list[tuple[str, Any, str]] = [
        (name, shades[name], f"n = {name.partition('_')[2]}") for name in soft
    ]
    right.append(("tilted", *PLAIN["tilted"]))
    for ax, curves in zip(axes, (left, right), strict=True):
        for name, color, label in curves:
            one = dataset.sel(curve=name)
            ax.plot(one.strength, one.gold, color=color, label=label)
            ax.plot(one.best, one.best_gold, "o", ms=4, color=color, zorder=4)
        ax.set(xscale="log", xticks=[2, 5, 10, 20, 50], xticklabels=["2", "5", "10", "20", "50"])
        ax.minorticks_off()
        ax.legend(loc="upper left")
    axes[0].set(
        xlabel="n, or mean number of extra candidates",
        ylabel="mean gold reward",
        title="how many candidates (dots: exact optima)",
    )
    tilt = dataset.sel(curve="tilted")
    axes[1].axvline(float(tilt.best), color=style.BLACK, lw=0.8, ls=(0, (1, 1.5)), zorder=0)
    axes[1].set(xlabel="1/λ", title="soft best-of-n: how cold")
    return figure
