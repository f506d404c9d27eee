"""Reward against the mean number of draws: fixed, random, and up to the best threshold."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

CURVES = (
    ("fixed", style.BLUE, "-", "fixed n"),
    ("poisson", style.GREEN, "--", "1 + Poisson"),
    ("geometric", style.ORANGE, ":", "geometric"),
)


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """With hard selection a threshold needs half as many draws; the softer the selection, the fewer."""
    temperatures = dataset.temperature.values
    figure, axes = style.panels(len(temperatures), 2.5, sharey=True)
    for ax, temperature in zip(axes, temperatures, strict=True):
        one = dataset.sel(temperature=temperature)
        ax.plot(one.mean_n, one.stopped_reward, color=style.RED, lw=1.8, label="best threshold")
        for rule, color, dashes, label in CURVES:
            ax.plot(one.n, one.reward.sel(rule=rule), color=color, ls=dashes, label=label)
        title = "hard selection, λ = 0" if temperature == 0 else f"λ = {temperature:g}"
        ax.set(
            xscale="log", xlabel="mean number of draws", xlim=(1, float(dataset.n[-1])), title=title
        )
        ticks = [1, 2, 4, 8, 16, 32]
        ax.set_xticks(ticks, [str(x) for x in ticks])
    axes[0].set_ylabel("mean reward, uniform on [0, 1]")
    style.legend_below(figure, axes[0])
    return figure
