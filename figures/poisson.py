"""KL above the tilted law of the same win rate: best-of-n and best-of-Poisson."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import style


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """At its worst a Poisson number of candidates costs 35 times less KL than a fixed number."""
    figure, (ax,) = style.panels(1, 2.9, width=style.SINGLE)
    for rule, color, letter in (
        ("best-of-n", style.BLUE, "n"),
        ("best-of-Poisson", style.RED, "\N{GREEK SMALL LETTER NU}"),
    ):
        gap = dataset.gap.sel(rule=rule)
        ax.plot(gap.n, gap, color=color)
        top = int(np.argmax(gap.values))
        n, high = float(gap.n[top]), float(gap[top])
        ax.plot(n, high, "o", ms=4, color=color)
        where = n - 1 if letter == "\N{GREEK SMALL LETTER NU}" else n
        # The label of the lower curve stands to the right of both, where there is room.
        x, y, right, up = (n, high, 10, 13) if rule == "best-of-n" else (12.0, 0.012, 0, 0)
        style.beside(
            ax, x, y, f"{rule}:\n{high:.3g} nats at {letter} = {where:.2f}", color, right, up
        )
    ax.set(
        xscale="log",
        yscale="log",
        ylim=(1e-6, 0.2),
        xlabel="mean number of candidates",
        ylabel="KL above the tilted law (nats)",
        title="uniform reward, equal win rate",
    )
    return figure
