"""Two simulators against the exact law: estimates, standard errors, and whether those are right."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import TOLERANCES
from figures import style

SHOWN = ("dirichlet", 0.5)
LOOK = {"counts": (style.GREEN, "o"), "literal": (style.ORANGE, "s")}


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """One problem at one λ in the first two panels, all settings in the third."""
    figure, axes = style.panels(3, 2.9)
    ((problem, temperature),) = style.available(dataset, (SHOWN,))
    one = dataset.sel(problem=problem, temperature=temperature)
    _estimates(axes[0], one)
    _errors(axes[1], one)
    _deviations(axes[2], dataset)
    for ax in axes[:2]:
        ax.set(xscale="log", yscale="log", xlabel="number of candidates n")
        ax.set_title(style.setting(problem, temperature))
    axes[2].set_title("mean reward, all settings")
    style.legend_below(figure, axes[0])
    return figure


def _estimates(ax: Axes, one: xr.Dataset) -> None:
    """TV, with the noise floor below which literal simulation cannot see it."""
    ax.plot(one.n, one.tv, color=style.BLACK, lw=1.6, label="exact")
    for simulator, (color, marker) in LOOK.items():
        point = one.sel(simulator=simulator)
        label = f"{simulator}, {one.attrs['trials']:,} trials ± 2 s.e."
        style.estimates(ax, one.n, point.simulated_tv, point.simulated_tv_se, label, color, marker)
    floor = one.simulated_tv_floor.sel(simulator="literal")
    ax.plot(one.n, floor, color=style.GRAY, lw=0.8, ls=(0, (1, 1.5)), zorder=0)
    x, y = float(one.n[-1]), float(floor[-1])
    style.beside(ax, x, y, "noise of literal", style.GRAY, 0, 5, ha="right")
    ax.set_ylabel("TV($P_n$, P*)")


def _errors(ax: Axes, one: xr.Dataset) -> None:
    for simulator, (color, marker) in LOOK.items():
        error = one.simulated_law_se.sel(simulator=simulator)
        ax.plot(one.n, error, color=color, marker=marker, ms=3, mfc="white")
    n, error = one.n, one.simulated_law_se.sel(simulator="counts")
    style.along(ax, n, error, 0.7, "counts: slope -1", style.GREEN)
    literal = one.simulated_law_se.sel(simulator="literal")
    style.beside(
        ax, float(n[-1]), float(literal[-1]), "literal: flat", style.ORANGE, 0, 8, ha="right"
    )
    ax.set_ylabel("standard error of the law")


def _deviations(ax: Axes, dataset: xr.Dataset) -> None:
    """Ordered deviations of the mean reward from its exact value, against normal quantiles."""
    exact = dataset.reward
    for simulator, (color, _) in LOOK.items():
        of = dataset.sel(simulator=simulator).transpose(*exact.dims, ...)
        estimate, error = of.simulated_reward.values, of.simulated_reward_se.values
        seen = of.simulated_rarest.values >= TOLERANCES.appearances
        if simulator == "literal":
            seen = np.ones_like(seen)
        seen &= error > TOLERANCES.resolution  # otherwise exact up to rounding
        ordered = np.sort(((estimate - exact.values) / np.where(seen, error, 1))[seen])
        normal = [NormalDist().inv_cdf((i + 0.5) / ordered.size) for i in range(ordered.size)]
        ax.plot(normal, ordered, ".", ms=3, color=color, zorder=3)
    ends = np.array([-3.2, 3.2])
    ax.plot(ends, ends, color=style.BLACK, lw=0.8, zorder=1)
    ax.set(xlim=ends, ylim=ends * 1.3, xlabel="normal quantile", ylabel="deviation / s.e.")
    style.beside(ax, -1.6, -1.6, "if every s.e. is right", style.BLACK, 6, -6)
