"""Divergences of every order against n, and the mean and the tail of a gold reward."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Finite orders fall as 1/n² and α = inf as 1/n; the worst tenth turns down before the mean."""
    figure, (rates, tail) = style.panels(2, 2.9)
    ((problem, temperature),) = style.available(dataset, [("dirichlet", 0.2)])
    one = dataset.sel(problem=problem, temperature=temperature)
    orders = dataset.order.values
    for order, color in zip(orders, style.shades(len(orders)), strict=True):
        if np.isinf(order):
            label, limit = "α = ∞", one.largest_coefficient / one.n
        else:
            label, limit = f"α = {order:g}", order * one.kl_coefficient / one.n**2
        rates.plot(one.n, one.renyi.sel(order=order), color=color, label=label)
        rates.plot(one.n, limit, color=style.RED, ls=":", lw=1.2)
    rates.plot([], [], color=style.RED, ls=":", lw=1.2, label="leading terms")
    rates.set(
        xscale="log",
        yscale="log",
        ylim=(1e-12, 1e2),
        xlabel="number of candidates n",
        ylabel="$D_α(P_n$‖$P^*)$ (nats)",
        title=style.setting(problem, temperature),
    )
    rates.legend(loc="lower left", fontsize=style.SMALL)
    temperatures = dataset.tail_temperature.values
    for value, color in zip(temperatures, style.shades(len(temperatures)), strict=True):
        at = dataset.sel(tail_temperature=value)
        tail.plot(at.tail_n, at.gold, color=color, label=f"λ = {value:g}")
        tail.plot(at.tail_n, at.gold_cvar, color=color, ls="--")
        for curve in (at.gold, at.gold_cvar):
            best = int(np.argmax(curve.values))
            tail.plot(at.tail_n[best], curve[best], "o", ms=3, color=color)
    share = f"{100 * dataset.attrs['level']:.0f} %"
    tail.plot([], [], color=style.GRAY, ls="--", label=f"mean of the worst {share}")
    tail.plot([], [], color=style.GRAY, label="mean")
    tail.set(
        xscale="log", xlabel="number of candidates n", ylabel="gold reward", title="rare failures"
    )
    tail.legend(loc="lower left", fontsize=style.SMALL)
    return figure
