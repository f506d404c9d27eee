"""Relative reward gap against n: the exact curve, its two bounds, the asymptote and simulation."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

PANELS = ("uniform", "dirichlet", "worst_case", "four")
TEMPERATURE = 0.2


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """One panel a problem, at one temperature."""
    problems = style.chosen(dataset, PANELS, 3)
    figure, axes = style.panels(len(problems), 2.7, sharey=True)
    n = dataset.n.values
    for panel, (ax, problem) in enumerate(zip(axes, problems, strict=True)):
        one = dataset.sel(problem=problem).sel(temperature=TEMPERATURE, method="nearest")
        curves = (
            (one.gap_upper_crude, style.GREY, ":", "M/(n + M)"),
            (one.gap_upper, style.ORANGE, "-", "M'/(n + M')"),
            (one.relative_gap_asymptote, style.RED, "--", "Cov(r, W)/n E[r]"),
            (one.relative_reward_gap, style.BLACK, "-", "exact"),
        )
        for values, color, dashes, _ in curves:
            ax.plot(n, values, color=color, ls=dashes, lw=1.6 if color == style.BLACK else 1.1)
        simulated = dataset.sel(problem=problem).sel(
            simulated_temperature=TEMPERATURE, method="nearest"
        )
        estimate = simulated.simulated_relative_reward_gap
        error = simulated.simulated_relative_reward_gap_se
        seen = (estimate > simulated.simulated_relative_reward_gap_floor).values
        ax.errorbar(
            dataset.simulated_n.values[seen],
            estimate.values[seen],
            1.96 * error.values[seen],
            fmt="o",
            ms=3,
            lw=0.8,
            color=style.BLUE,
            zorder=5,
        )
        ax.set(xscale="log", yscale="log", ylim=(1e-7, 3), xlabel="candidates n")
        ax.set_title(f"{problem.replace('_', ' ')}, λ = {float(one.temperature):g}")
        if panel == 0:
            ax.set_ylabel("relative reward gap")
            handles = [ax.plot([], [], color=c, ls=d)[0] for _, c, d, _ in curves]
            handles.append(ax.plot([], [], "o", ms=3, color=style.BLUE)[0])
            names = [name for *_, name in curves] + ["simulation, 95 % interval"]
            ax.legend(handles, names, loc="lower left", handlelength=1.6)
    return figure
