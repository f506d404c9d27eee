"""Training ends at the tilted law; soft best-of-n approaches the trained policy."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

PANEL = "dirichlet"


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """KL from the tilted law during training, and KL between the trained policy and soft best-of-n."""
    figure, axes = style.panels(2, 2.7)
    (problem,) = style.chosen(dataset, (PANEL,), 1)
    one = dataset.sel(problem=problem)
    temperatures = one.temperature.values
    for temperature, color in zip(temperatures, style.shades(len(temperatures)), strict=True):
        path = one.sel(temperature=temperature)
        label = f"λ = {temperature:g} Δ"
        axes[0].plot(path.step + 1, path.training, color=color, label=label)
        axes[1].plot(path.n, path.kl_policy_soft, "o", ms=3, color=color)
        axes[1].plot(path.n, path.kl_tilted_soft, color=color, label=label)
    axes[0].set(
        xscale="log",
        yscale="log",
        ylim=(1e-14, 10),
        xlabel="step of training",
        ylabel="KL(policy‖$P^*$) (nats)",
        title=f"{problem}: training ends at $P^*$",
    )
    axes[1].set(
        xscale="log",
        yscale="log",
        xlabel="number of candidates n",
        ylabel="KL(·‖soft best-of-n) (nats)",
        title="from the policy (dots), from $P^*$ (lines)",
    )
    style.legend_below(figure, axes[0])
    return figure
