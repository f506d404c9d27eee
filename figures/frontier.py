"""Mean reward against KL from the reference law: the tilted frontier and best-of-n below it."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

PANELS = ("dirichlet", "zipf", "uniform", "four")
CURVES = (2, 4, 16, 64, 256)


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """One panel for each problem: soft best-of-n leaves the frontier as it turns into hard best-of-n."""
    problems = style.chosen(dataset, PANELS, 3)
    figure, axes = style.panels(len(problems), 2.7)
    numbers = [n for n in CURVES if n in dataset.n.values]
    for ax, problem in zip(axes, problems, strict=True):
        one = dataset.sel(problem=problem)
        style.frontier(
            ax,
            (one.kl_tilted_base, one.tilted_reward),
            [(n, one.kl_soft_base.sel(n=n), one.reward.sel(n=n)) for n in numbers],
            (one.kl_soft_base.sel(temperature=0.0), one.reward.sel(temperature=0.0)),
        )
        ax.set_title(problem.replace("_", " "))
    axes[0].set_ylabel("mean reward (reward units)")
    style.explain_frontier(figure)
    return figure
