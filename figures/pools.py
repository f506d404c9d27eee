"""Proxy and gold reward against n for several λ, and gold against KL for several proxies."""

from __future__ import annotations

from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

PROXY_STYLES = ((style.RED, "-"), (style.ORANGE, "--"), (style.BLUE, "-"))


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """Proxy reward keeps rising while gold turns down; with a better proxy it turns later or never."""
    figure, axes = style.panels(3, 2.9)
    worst = dataset.isel(proxy=0)
    finite = worst.temperature.values[:-1]
    start = worst.proxy_reward_mean.sel(n=1) / worst.spread
    for temperature, color in zip(finite, style.shades(len(finite))[::-1], strict=True):
        one = worst.sel(temperature=temperature)
        gain = one.proxy_reward_mean / one.spread - start.sel(temperature=temperature)
        band(
            axes[0],
            one.n,
            gain,
            one.proxy_reward_se / one.spread,
            color,
            f"λ = {temperature:g} s.d.",
        )
        band(axes[1], one.n, one.gold_mean, one.gold_se, color, "")
    for ax in axes[:2]:
        ax.set(xscale="log", xlabel="number of responses n")
    axes[0].set_ylabel("gain in proxy reward (s.d.)")
    axes[0].set_title(f"proxy learnt from {worst.proxy.item()}")
    axes[1].set_ylabel("mean gold reward")
    axes[1].set_title("the same selection, in gold")
    for proxy, (shade, line) in zip(dataset.proxy.values, PROXY_STYLES, strict=False):
        one = dataset.sel(proxy=proxy)
        hard = one.sel(temperature=0.0)
        axes[2].plot(hard.kl_mean, hard.gold_mean, color=shade, ls=line, marker=".", label=proxy)
        at = one.where(one.chosen == 1)
        if bool((one.chosen == 1).any()):
            x, y = float(at.kl_mean.max()), float(at.gold_mean.max())
            axes[2].plot(x, y, "o", ms=9, mfc="none", mec=shade, zorder=5)
    axes[2].set_xlabel("mean KL from the policy (nats)")
    axes[2].set_title("hard best-of-n; ○ recommended")
    axes[2].set_ylabel("mean gold reward")
    axes[2].legend(loc="lower right")
    style.legend_below(figure, axes[0])
    return figure


def band(
    ax: Axes, n: xr.DataArray, mean: xr.DataArray, error: xr.DataArray, color: Any, label: str
) -> None:
    """A curve with its ± 1.96 standard errors over prompts."""
    options = {"color": color, "label": label} if label else {"color": color}
    ax.plot(n, mean, marker=".", **options)
    low, high = mean - 1.96 * error, mean + 1.96 * error
    ax.fill_between(n, low, high, color=color, alpha=0.15, lw=0)
