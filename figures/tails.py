"""When a proxy runs away: true reward under three tails of its error, hard and soft, and KL."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.tails import LOGISTIC
from figures import style

COLORS = {"normal": style.BLUE, "logistic": style.GREEN, "student": style.RED}
NAMES = {"normal": "normal", "logistic": "logistic", "student": "Student's t, 3"}


def note(ax: Axes, x: float, y: float, text: str, color: str) -> None:
    """A label whose right end is at x."""
    ax.text(x, y, text, ha="right", va="top" if text[0] == "λ" else "center", color=color,
            fontsize=style.SMALL)  # fmt: skip


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The tail of the error decides: more draws earn for ever, level off, or lose everything."""
    figure, (hard, soft, kl) = style.panels(3, 2.5)
    cool, warm = dataset.temperature.values
    for name, color in COLORS.items():
        of = dataset.sel(error=name)
        hard.plot(of.n, of.hard_gold, color=color, label=f"{NAMES[name]}")
        soft.plot(of.n, of.gold.sel(temperature=warm), color=color)
        kl.plot(of.n, of.kl_soft_base.sel(temperature=warm), color=color)
    hard.axhline(1 / LOGISTIC, color=style.GRAY, lw=0.8, ls=":")
    hard.text(1, 1 / LOGISTIC + 0.05, "1/s", fontsize=style.SMALL, color=style.GRAY)
    logistic = dataset.sel(error="logistic", temperature=cool)
    kl.plot(logistic.n, logistic.kl_soft_base, "--", color=COLORS["logistic"])
    note(kl, logistic.n[-1], logistic.kl_soft_base[-4], f"λ = {cool:g} < s", COLORS["logistic"])
    kl.plot(dataset.n, np.log(dataset.n) - 1 + 1 / dataset.n, color=style.GRAY, lw=0.8, ls=":")
    kl.text(
        dataset.n[8],
        np.log(dataset.n[8]) - 0.5,
        "hard",
        ha="right",
        fontsize=style.SMALL,
        color=style.GRAY,
    )
    for ax, title, label in (
        (hard, "hard best-of-n", "true reward"),
        (soft, f"soft, λ = {warm:g}", "true reward"),
        (kl, f"soft, λ = {warm:g}", "KL($P_n$‖P), nats"),
    ):
        ax.set(xscale="log", xlabel="n", title=title, ylabel=label)
    hard.set_ylim(0)
    soft.set_ylim(0)
    figure.legend(*hard.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
