"""KL(P*‖P_n) of sequences with memory against n: the schemes side by side, and values with errors."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

COLORS = (style.BLUE, style.GREEN, style.ORANGE, style.RED)
DASHES = ("-", "--", ":", "-")


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Schemes at equal budgets of draws; soft values with errors; whole sequences of many lengths."""
    figure, axes = style.panels(3, 2.7)
    shown = dataset.isel(length=min(2, dataset.length.size - 1))
    m = int(shown.length)
    schemes = [str(x) for x in dataset.scheme.values]
    for scheme, hue, dashes in zip(schemes, COLORS, DASHES, strict=True):
        kl = shown.kl_tilted_soft.sel(scheme=scheme)
        axes[0].plot(shown.n, kl, color=hue, ls=dashes, label=scheme)
    axes[0].set(title=f"m = {m}: schemes")
    errors = shown.error.values
    for error, color in zip(errors, style.shades(len(errors)), strict=True):
        axes[1].plot(shown.n, shown.kl_of_errors.sel(error=error), color=color)
        axes[1].annotate(
            f"{error:g}",
            (float(shown.n[-1]), float(shown.floor.sel(error=error))),
            xytext=(2, 0),
            textcoords="offset points",
            va="center",
            fontsize=style.SMALL,
        )
    axes[1].plot(shown.n, shown.kl_tilted_soft.sel(scheme=schemes[-1]), color=style.RED)
    axes[1].set(title="soft values with an error of")
    for ax in axes[:2]:
        ax.set(xscale="log", yscale="log", xlabel="n", ylim=(1e-8, 1e2))
        ax.set_ylabel("KL($P^*$‖$P_n$) (nats)")
    ratio = dataset.kl_whole / dataset.kl_tilted_base.isel(scheme=0, n=0)
    lengths = dataset.length.values
    for length, color in zip(lengths, style.shades(len(lengths)), strict=True):
        line = ratio.sel(length=length)
        axes[2].plot(dataset.rate, line, color=color, marker=".", label=f"m = {length}")
    axes[2].plot(dataset.rate, (1 - dataset.rate).clip(min=0), color=style.BLACK, ls=":", lw=1.6)
    axes[2].set(
        xlabel="log n / KL($P^*$‖P)",
        ylabel="KL($P^*$‖$P_n$) / KL($P^*$‖P)",
        title="whole sequences",
    )
    axes[2].legend()
    style.legend_below(figure, axes[0])
    return figure
