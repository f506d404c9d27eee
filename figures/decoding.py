"""Reward against KL from the model of a Markov chain decoded by blocks."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Symbol by symbol, more candidates cost KL and gain little; longer blocks stay at the frontier."""
    one = dataset.sel(temperature=dataset.attrs["decoded_temperature"])
    figure, (ax,) = style.panels(1, 3.2, width=style.SINGLE)
    right = 1.1 * float(one.kl_soft_base.max())
    shown = one.frontier_kl <= right
    ax.plot(one.frontier_kl, one.frontier_reward, color=style.BLACK, lw=3, alpha=0.25,
            label="tilted laws (the frontier)")  # fmt: skip
    sizes = one.block_size.values
    for size, color in zip(sizes, style.shades(len(sizes)), strict=True):
        at = one.sel(block_size=size)
        ax.plot(at.kl_soft_base, at.reward, color=color, marker=".", ms=3, label=f"{size}, exact")
        ax.errorbar(
            at.decoded_kl_soft_base,
            at.decoded_reward,
            xerr=2 * at.decoded_kl_soft_base_se,
            yerr=2 * at.decoded_reward_se,
            fmt="o",
            ms=4,
            mfc="white",
            color=color,
            elinewidth=0.9,
            zorder=5,
        )
    ax.plot([], [], "o", ms=4, mfc="white", color=style.BLACK,
            label=f"decoded, {dataset.attrs['runs']:,} runs ± 2 s.e.")  # fmt: skip
    best = float(one.frontier_reward.where(shown).max())
    low = float(one.frontier_reward.min())
    ax.set(
        xlim=(-0.02 * right, right), ylim=(low - 0.05 * (best - low), best + 0.08 * (best - low))
    )
    ax.set_xlabel("KL from the model (nats)")
    ax.set_ylabel("mean reward (reward units)")
    temperature, numbers = dataset.attrs["decoded_temperature"], one.n.values
    ax.set_title(f"λ = {temperature:g}, n = {', '.join(map(str, numbers))}")
    style.legend_below(figure, ax, 2)
    return figure
