"""KL(P*‖P_n) against n: the exact curve, the bounds of order 1/n, the asymptote and simulation."""

from __future__ import annotations

import numpy as np
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
            (one.kl_upper_sinh, style.GREY, ":", "sinh²(Δ/2λ)/n"),
            (one.kl_upper, style.ORANGE, "-", "log(1 + CV²/n)"),
            (one.kl_asymptote, style.RED, "--", "Var(W)/2n²"),
            (one.kl_tilted_soft, style.BLACK, "-", "exact"),
        )
        for values, color, dashes, _ in curves:
            ax.plot(n, values, color=color, ls=dashes, lw=1.6 if color == style.BLACK else 1.1)
        simulated = dataset.sel(problem=problem).sel(
            simulated_temperature=TEMPERATURE, method="nearest"
        )
        estimate, error = simulated.simulated_kl_tilted_soft, simulated.simulated_kl_tilted_soft_se
        seen = (estimate > simulated.simulated_kl_tilted_soft_floor).values
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
        ax.set(xscale="log", yscale="log", ylim=(1e-13, 1e3), xlabel="candidates n")
        ax.set_title(f"{problem.replace('_', ' ')}, λ = {float(one.temperature):g}")
        if panel == 0:
            ax.set_ylabel("KL(P*‖P_n) (nats)".replace("P_n", "$P_n$"))
            handles = [ax.plot([], [], color=c, ls=d)[0] for _, c, d, _ in curves]
            handles.append(ax.plot([], [], "o", ms=3, color=style.BLUE)[0])
            names = [name for *_, name in curves] + ["simulation, 95 % interval"]
            ax.legend(handles, names, loc="lower left", handlelength=1.6)
        else:
            last = int(np.searchsorted(n, 2e3))
            style.beside(ax, n[last], float(one.kl_upper[last]), "1/n", style.ORANGE, dy=8)
            style.beside(ax, n[last], float(one.kl_tilted_soft[last]), "1/n²", style.BLACK, dy=8)
    return figure
