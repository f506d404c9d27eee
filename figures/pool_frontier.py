"""Mean score against KL for pools of scored candidates: the mean over prompts, and each prompt."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

BAND = 1.96


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The plane of KL and mean score, averaged over prompts."""
    figure, (ax,) = style.panels(1, 2.8, width=style.SINGLE)
    tilted = dataset.sortby("temperature")
    ax.plot(tilted.mean_kl_tilted_base, tilted.mean_tilted_reward, color=style.BLACK, lw=1.6)
    numbers = [int(n) for n in dataset.n.values if n > 1]
    for n, color in zip(numbers, style.shades(len(numbers)), strict=True):
        soft = tilted.sel(n=n)
        ax.plot(soft.mean_kl_soft_base, soft.mean_reward, color=color)
        low, high = (soft.mean_reward + sign * BAND * soft.mean_reward_se for sign in (-1, 1))
        ax.fill_between(soft.mean_kl_soft_base, low, high, color=color, alpha=0.12, lw=0)
        end = soft.isel(temperature=0)
        x, y = float(end.mean_kl_soft_base), float(end.mean_reward)
        ax.plot(x, y, "o", ms=3.5, color=color, mec=style.RED)
        style.beside(ax, x, y, f"n = {n}", color, dx=5, dy=-5)
    widest = float(tilted.isel(temperature=0).mean_kl_soft_base.max())
    ax.set_xlim(0, 1.3 * widest)
    ax.set_xlabel("mean KL from each pool's law (nats)")
    ax.set_ylabel("mean score (reward units)")
    ax.set_title(f"tilted (black), soft best-of-n; {dataset.sizes['prompt']} prompts, 95 % bands")
    return figure
