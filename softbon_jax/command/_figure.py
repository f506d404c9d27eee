"""The figure of a report, as SVG whose points say their numbers."""

from __future__ import annotations

import html
import importlib
import io
import warnings
from typing import Any

import numpy as np

from softbon_jax.command._intervals import means, student
from softbon_jax.command._terminal import printable
from softbon_jax.command._words import Analysis, gains, what

# Okabe and Ito's colors, distinguishable with all common kinds of color vision; and, for who sees or
# prints none, a dash and a marker of its own for each line.
COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v")


def drawing() -> tuple[Any, Any]:
    """The modules that draw; `ImportError` if they are not installed."""
    try:
        importlib.import_module("matplotlib.backends.backend_svg")
        return importlib.import_module("matplotlib"), importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ImportError(
            "an HTML report (--html) needs Matplotlib: pip install 'softbon-jax[command]'"
        ) from None


def shown(analysis: Analysis) -> list[int]:
    """At most five finite temperatures, the recommended one among them."""
    temperature = analysis.table.temperature
    finite = [int(i) for i in np.flatnonzero(np.isfinite(temperature))]
    if len(finite) <= len(MARKERS):
        return finite
    some = [finite[round(i)] for i in np.linspace(0, len(finite) - 1, len(MARKERS))]
    best = np.flatnonzero(temperature == analysis.choice.temperature)
    if analysis.choice.ok and int(best[0]) in finite and int(best[0]) not in some:
        inner = np.abs(np.array(some[1:-1]) - best[0])  # the ends stay
        some[1 + int(np.argmin(inner))] = int(best[0])
    return sorted(some)


def pictures(analysis: Analysis) -> str:
    """Gains over one response against n, and against KL, as one SVG element.

    Every point is a group of class "point" with its numbers as its title.
    """
    matplotlib, figures = drawing()
    table, choice = analysis.table, analysis.choice
    curves = [(analysis.scores.columns.selecting, table.reward)]
    if table.gold is not None:
        curves.append((what(analysis), table.gold))
    settings = {
        "svg.fonttype": "path",
        "svg.hashsalt": "softbon",
        "text.parse_math": False,  # the names of columns are no formulas
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    reach, cost = student(len(table.prompts) - 1), means(table.kl)[0]
    cost = np.where(np.abs(cost) < 1e-12, 0.0, cost)
    titles: list[str] = []
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name may be in any script
        figure = figures.Figure(figsize=(3.6 * (len(curves) + 1), 3.8), layout="constrained")
        axes = figure.subplots(1, len(curves) + 1, squeeze=False)[0]
        panels = [(x, *curve, False) for x, curve in zip(axes, curves, strict=False)]
        for ax, name, values, against_kl in [*panels, (axes[-1], *curves[-1], True)]:
            mean, (gain, error) = means(values)[0], means(gains(table, values))
            ends = []
            for k, i in enumerate(shown(analysis)):
                x = cost[i] if against_kl else table.n
                style = {"color": COLORS[k], "marker": MARKERS[k], "ms": 4}
                label = f"λ = {table.temperature[i]:g}"
                # A line for the legend, with its markers; every point once more, to have a title.
                ax.plot(x, gain[i], ls=DASHES[k], lw=1.3, label=label, **style)
                band = reach * error[i]
                if not against_kl:
                    ax.fill_between(
                        x, gain[i] - band, gain[i] + band, color=COLORS[k], alpha=0.1, lw=0
                    )
                    ends.append((float(gain[i, -1]), label, COLORS[k]))
                for m, n in enumerate(table.n):
                    ax.plot(x[m], gain[i, m], ls="none", gid=f"point-{len(titles)}", **style)
                    titles.append(
                        f"{label}, n = {n}: mean {name} {mean[i, m]:.4g}, {gain[i, m]:+.3g} over one "
                        f"response (95% {gain[i, m] - band[m]:+.3g} to {gain[i, m] + band[m]:+.3g}), "
                        f"mean KL {cost[i, m]:.3g} nats"
                    )
            ax.axhline(0, color="#888888", lw=0.8, zorder=0)
            ax.set_ylabel(printable(f"gain in mean {name} over one response"))
            if against_kl:
                ax.margins(x=0.12, y=0.12)
                ax.set_xlabel("mean KL from the policy (nats)")
            else:
                ax.set(xscale="log", xlabel="number of responses n")
                ax.set_xticks(table.n, [str(n) for n in table.n])
                ax.minorticks_off()
                _name_lines(ax, int(table.n[-1]), ends)
        if choice.ok:
            row = int(np.flatnonzero(table.temperature == choice.temperature)[0])
            at = int(np.flatnonzero(table.n == choice.n)[0])
            place = cost[row, at], means(gains(table, curves[-1][1]))[0][row, at]
            axes[-1].plot(*place, "o", ms=12, mfc="none", mec=COLORS[2], mew=1.8)
            axes[-1].set_title(
                f"ring: n = {choice.n}, λ = {choice.temperature:g}", color=COLORS[2], fontsize=9
            )
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    for k, title in enumerate(titles):
        said = html.escape(printable(title))
        text = text.replace(f'<g id="point-{k}">', f'<g class="point"><title>{said}</title>')
    return text[text.index("<svg") :]


def _name_lines(ax: Any, last: int, ends: list[tuple[float, str, str]]) -> None:
    """The name of each line at its right end, moved apart where the ends are close."""
    low, high = ax.get_ylim()
    ends = sorted(ends)
    heights = np.array([(y - low) / (high - low) for y, _, _ in ends])
    gap, room = 0.055, np.arange(len(ends))
    # Up as far as the gap asks for, then all down by the mean of that.
    apart = np.maximum.accumulate(heights - gap * room) + gap * room
    apart -= (apart - heights).mean()
    for (y, label, color), height in zip(ends, apart, strict=True):
        ax.annotate(
            label, (last, y), (1.06, height), xycoords="data", textcoords="axes fraction",
            color=color, va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.6, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    ax.set_ylim(low, high)
