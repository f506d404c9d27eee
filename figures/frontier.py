"""Mean reward against KL from the reference law: the tilted frontier and best-of-n below it."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

PANELS = ("uniform", "dirichlet", "jackpot", "four")
CURVES = (2, 4, 16, 64, 256)


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """One panel a problem."""
    problems = style.chosen(dataset, PANELS, 3)
    figure, axes = style.panels(len(problems), 2.6)
    numbers = [n for n in CURVES if n in dataset.n.values]
    for panel, (ax, problem) in enumerate(zip(axes, problems, strict=True)):
        one = dataset.sel(problem=problem)
        ax.plot(one.kl_tilted_base, one.tilted_reward, color=style.BLACK, lw=1.6, zorder=1)
        for n, color in zip(numbers, style.shades(len(numbers)), strict=True):
            soft = one.sel(n=n)
            ax.plot(soft.kl_soft_base, soft.reward, color=color, zorder=2)
        hard = one.sel(temperature=0.0)
        ax.plot(hard.kl_soft_base, hard.reward, color=style.RED, ls=":", lw=1, zorder=3)
        for n, color in zip(numbers, style.shades(len(numbers)), strict=True):
            end = hard.sel(n=n)
            ax.plot(end.kl_soft_base, end.reward, "o", ms=3.5, color=color, mec=style.RED, zorder=4)
            style.beside(
                ax, float(end.kl_soft_base), float(end.reward), f"n={n}", color, dx=4, dy=-4
            )
        ax.set_title(problem.replace("_", " "))
        ax.set_xlabel("KL from the reference law (nats)")
        ax.set_xlim(0, 1.25 * float(hard.kl_soft_base.sel(n=numbers).max()))
        if panel == 0:
            ax.set_ylabel("mean reward (reward units)")
    return figure
