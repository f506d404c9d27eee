"""How the rivals approach the tilted law, and all rules in the plane of KL and reward."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import style

PANELS = ("dirichlet", 0.2)
BOTTOM = 1e-12
LOOKS = {
    "soft": (style.BLUE, "-", "soft best-of-n"),
    "race": (style.RED, "-", "uniform race"),
    "poisson": (style.SKY, "--", "soft best-of-Poisson"),
    "rejection": (style.GREEN, ":", "rejection, any"),
    "rejection_best": (style.GREEN, "-.", "rejection, best"),
}


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Total variation and KL against n, and reward against KL at one n, for every rule."""
    figure, axes = style.panels(3, 3.3)
    ((problem, temperature),) = style.available(dataset, [PANELS])
    one = dataset.sel(problem=problem, temperature=temperature)
    for ax, field in zip(axes, ("tv", "kl"), strict=False):
        for rule in ("soft", "race"):
            color, line, label = LOOKS[rule]
            ax.plot(one.n, one[f"{rule}_{field}"], color=color, ls=line, label=label)
        ax.set(xscale="log", yscale="log", ylim=(BOTTOM, 3), xlabel="number of candidates n")
    axes[0].plot(one.n, one.tv_upper, color=style.GRAY, ls=(0, (1, 1.5)))
    axes[0].plot(one.n, one.rejection_tv, color=style.GREEN, ls=":")
    axes[0].set_ylabel("total variation to $P^*$")
    axes[1].set_ylabel("KL($P^*$‖$P_n$) (nats)")
    axes[0].set_title(f"{problem}, λ = {temperature:g} Δ")
    size = float(one.n[-1])
    at = int(np.searchsorted(-one.tv_upper.values, -1e-9))
    style.beside(
        axes[0], float(one.n[at]), 1e-9, "(1 - μ/$w_{max}$)$^n$,\nrejection", style.GRAY, 8, 0
    )
    style.beside(axes[0], size, float(one.soft_tv[-1]), "soft: 1/n", style.BLUE, 0, 16, ha="right")
    style.beside(axes[1], size, float(one.soft_kl[-1]), "soft: 1/n²", style.BLUE, 0, 36, ha="right")
    for ax, field in zip(axes, ("tv", "kl"), strict=False):
        low = one[f"race_{field}"].where(one[f"race_{field}"] > 1e-6, drop=True)
        style.beside(
            ax,
            float(low.n[-1]),
            float(low[-1]),
            "race:\nexponential",
            style.RED,
            -6,
            -18,
            ha="right",
        )

    ax = axes[2]
    plane = dataset.sel(problem=problem)
    ax.plot(
        plane.tilted_kl.isel(rule=0),
        plane.tilted_reward.isel(rule=0),
        color=style.BLACK,
        lw=3,
        alpha=0.25,
        label="tilted laws",
    )
    for rule, (color, line, label) in LOOKS.items():
        path = plane.sel(rule=rule)
        ax.plot(path.plane_kl, path.plane_reward, color=color, ls=line, label=label)
    ax.plot(
        plane.simulated_pessimism_kl,
        plane.simulated_pessimism_reward,
        "o",
        ms=3,
        mfc="white",
        color=style.ORANGE,
        label="pessimism, simulated",
    )
    size = int(dataset.attrs["plane_n"])
    hard = plane.sel(n=size)
    ax.plot(hard.hard_kl, hard.hard_reward, "s", ms=4, color=style.BLACK, label="hard best-of-n")
    right = 1.15 * float(hard.hard_kl)
    top = 1.03 * float(hard.hard_reward)
    ax.set(xlim=(0, right), ylim=(None, top), xlabel="KL from P (nats)")
    ax.set_ylabel("mean reward (reward units)")
    ax.set_title(f"all rules at n = {size}")
    style.legend_below(figure, ax, 4)
    return figure
