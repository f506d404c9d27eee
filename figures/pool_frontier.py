"""Mean reward against KL for pools of scores, averaged over prompts."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Means over prompts; bars are standard errors over prompts, at hard best-of-n."""
    figure, (ax,) = style.panels(1, 3.0, width=style.SINGLE)
    numbers = [int(n) for n in dataset.n.values if n > 1]
    hard = dataset.sel(temperature=0.0)
    ends = hard.sel(n=numbers)
    ax.errorbar(
        ends.mean_kl_soft_base,
        ends.mean_reward,
        xerr=ends.mean_kl_soft_base_se,
        yerr=ends.mean_reward_se,
        fmt="none",
        ecolor=style.GRAY,
        elinewidth=0.8,
        zorder=0,
    )
    style.frontier(
        ax,
        (dataset.mean_kl_tilted_base, dataset.mean_tilted_reward),
        [(n, dataset.mean_kl_soft_base.sel(n=n), dataset.mean_reward.sel(n=n)) for n in numbers],
        (hard.mean_kl_soft_base, hard.mean_reward),
    )
    prompts = dataset.sizes["prompt"]
    source = str(dataset.attrs["title"]).rsplit(", ", 1)[-1]
    ax.set_title(f"{source}: {prompts} prompts, ± s.e.")
    ax.set_ylabel("mean score (reward units)")
    style.explain_frontier(figure)
    return figure
