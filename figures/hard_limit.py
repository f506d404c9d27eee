"""Hard best-of-n on finite alphabets: KL and win rate, exact, estimated and by the formulas."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """The formulas hold while n is below the alphabet size; the jackpot shows at n ~ 1/P(jackpot)."""
    figure, axes = style.panels(2, 3.0)
    names = [str(x) for x in dataset.problem.values]
    uniform = [x for x in names if x.startswith("uniform")]
    colors = dict(zip(uniform, style.shades(len(uniform)), strict=True)) | {"jackpot": style.RED}
    for ax, field, formula in zip(
        axes, ("kl", "win_rate"), ("kl_formula", "win_formula"), strict=True
    ):
        dual = 1 - dataset if field == "win_rate" else dataset
        ax.plot(
            dataset.n, dual[formula], color=style.BLACK, lw=3, alpha=0.25, label="continuous reward"
        )
        for name in names:
            one = dual.sel(problem=name)
            label = name.replace("uniform_", "K = ")
            ax.plot(dataset.n, one[field], color=colors[name], label=label)
            if field == "kl":
                ax.plot(dataset.n, one.kl_estimate, color=colors[name], ls=(0, (1, 1.5)), lw=1.8)
        ax.set(xscale="log", xlabel="number of candidates n")
    axes[0].plot([], [], color=style.GRAY, ls=(0, (1, 1.5)), lw=1.8, label="estimator")
    axes[0].set(ylabel="KL from the reference law (nats)", title="exact KL levels off at log K")
    axes[1].set(yscale="log", ylabel="1 - win rate", title="ties keep the win rate below n/(n+1)")
    style.legend_below(figure, axes[0])
    return figure
