"""KL(P*‖P_n) per symbol of whole sequences against log n per symbol."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The divergence per symbol approaches (D - R)₊; the O(1/n) bound ends at log(1 + CV²) instead."""
    one = dataset.isel(problem=0, temperature=0)
    figure, (ax,) = style.panels(1, 3.0, width=style.SINGLE)
    lengths = one.length.values
    for m, color in zip(lengths, style.shades(len(lengths)), strict=True):
        at = one.sel(length=m)
        ax.plot(at.rate, at.kl_per_symbol, color=color, label=f"m = {m}")
    ax.plot(one.rate, one.kl_upper.sel(length=lengths[-1]), color=style.BLUE, ls="--",
            label=f"bound, m = {lengths[-1]}")  # fmt: skip
    ax.plot(one.rate, one.limit, color=style.BLACK, ls=":", lw=1.6, label="(D - R)₊")
    top = 1.05 * float(one.kl_upper.max())
    for field, text in (("threshold", "D"), ("threshold_upper", "log(1 + CV²)")):
        exponent = float(one[field])
        ax.axvline(exponent, color=style.GRAY, lw=0.8, ls=(0, (1, 1.5)), zorder=0)
        style.beside(ax, exponent, top, text, style.GRAY, 2, -4)
    ax.set(xlim=(0, 1.13 * float(one.rate[-1])), ylim=(0, top))
    ax.set_title(f"whole sequences of m symbols, λ = {float(one.temperature):g}")
    ax.set_xlabel("R = log n / m (nats per symbol)")
    ax.set_ylabel("KL($P^*$‖$P_n$) / m (nats)")
    style.legend_below(figure, ax, 3)
    return figure
