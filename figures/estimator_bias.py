"""Bias of three estimates of a best-of-n curve from pools, and coverage of their intervals."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

LOOKS = {
    "U-statistic": (style.BLUE, "-", "o"),
    "plug-in": (style.RED, "--", "s"),
    "bootstrap": (style.GREEN, ":", "^"),
}


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The U-statistic stays at zero up to n = N; the others fall, and their intervals miss the truth."""
    figure, axes = style.panels(2, 2.8)
    one = dataset.isel(temperature=-1)
    size = dataset.attrs["size"]
    for name, (color, line, mark) in LOOKS.items():
        own = one.sel(estimator=name)
        axes[0].errorbar(
            own.n,
            own.bias,
            yerr=2 * own.bias_se,
            color=color,
            ls=line,
            marker=mark,
            ms=3.5,
            label=name,
        )
        axes[1].plot(own.n, own.coverage, color=color, ls=line, marker=mark, ms=3.5)
    axes[0].axhline(0, color=style.GRAY, lw=0.6, zorder=0)
    axes[1].axhline(0.95, color=style.GRAY, lw=0.6, zorder=0)
    style.beside(axes[1], float(one.n[0]), 0.95, "95%", style.GRAY, 0, 6)
    for ax in axes:
        ax.set(xscale="log", xlabel="number of candidates n")
        ax.set_xticks(one.n.values, [str(n) for n in one.n.values])
    axes[0].set_ylabel("bias (reward units, ± 2 s.e.)")
    axes[1].set_ylabel("coverage of 95% intervals")
    axes[1].set_ylim(0, 1.05)
    axes[0].set_title(f"pools of {size}, λ = {float(one.temperature):g}")
    axes[1].set_title(f"{dataset.attrs['prompts']} pools a study")
    style.legend_below(figure, axes[0])
    return figure
