"""The report of `softbon analyze`: as text, as one self-contained HTML file, and as JSON.

Reports name the file of scores without its folder, and nothing else of the machine that made them.
"""

from __future__ import annotations

import html
import importlib
import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from softbon_jax.command._terminal import printable
from softbon_jax.command.advice import Choice, PerPrompt, Table, Verdict
from softbon_jax.scores import Scores

# Okabe and Ito's colors, distinguishable with all common kinds of color vision.
COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
DASHES = ("-", "--", ":", "-.")


class Analysis(NamedTuple):
    """The findings of `softbon analyze`.

    Attributes:
      source: name of the file of scores, without its folder.
      scores: the pools that were read.
      table: the estimates.
      budget: the limits on n and KL, in words.
      choice: the recommendation.
      per_prompt: one temperature for each prompt; None without a recommendation.
      verdicts: for each temperature that was tested, whether the proxy is over-optimized; empty without
        a gold score.
    """

    source: str
    scores: Scores
    table: Table
    budget: str
    choice: Choice
    per_prompt: PerPrompt | None
    verdicts: dict[float, Verdict]


def means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over prompts and its standard error.

    Args:
      values: `[prompts, ...]` estimates.

    Returns:
      The mean and its standard error, `[...]`; for a single prompt the error is NaN.

    Raises:
      IndexError: there are no prompts.

    Numerics: float64; the spread between prompts has divisor prompts - 1.
    Source: the standard error of a mean of independent prompts.

    Example:
      >>> from softbon_jax.command import report
      >>> mean, error = report.means(np.array([[1.0], [2.0], [3.0]]))
      >>> mean.tolist(), np.round(error, 4).tolist()
      ([2.0], [0.5774])
    """
    count = len(values)
    error = (
        values.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.full(values[0].shape, np.nan)
    )
    return values.mean(0), error


def as_json(analysis: Analysis) -> dict[str, Any]:
    """All numbers, for another program.

    Args:
      analysis: the findings.

    Returns:
      A dictionary of plain Python values that JSON can hold: NaN is None and infinity is "inf". Curves
      are `[T][M]` lists, temperatures first.

    Raises:
      Nothing for the findings of `softbon analyze`.

    Numerics: the numbers are not rounded.
    Source: derived here: the layout is this project's own. The key "overoptimisation" keeps its first
      spelling for the programs that read it.

    Example:
      >>> from softbon_jax.command import advice, report
      >>> pools = sb.scores.padded({f"p{i}": [0.0, i + 1.0] for i in range(12)})
      >>> table = advice.tabulate(pools, [1, 2], [0.0])
      >>> found = report.Analysis("x.csv", pools, table, "n ≤ 2", advice.choose(table), None, {})
      >>> numbers = report.as_json(found)
      >>> numbers["file"], numbers["reward"]["mean"], numbers["recommendation"]["n"]
      ('x.csv', [[3.25, 6.5]], 2)
    """
    table, scores = analysis.table, analysis.scores
    curves = {"reward": table.reward, "gold": table.gold, "kl": table.kl}
    result: dict[str, Any] = {
        "file": analysis.source,
        "read": {
            "rows": scores.read,
            "prompts": len(scores.prompts),
            "responses": int(scores.where.sum()),
            "responses_per_prompt": [
                int(f(scores.where.sum(1))) for f in (np.min, np.median, np.max)
            ],
            "columns": scores.columns._asdict(),
            "dropped": [part._asdict() for part in scores.dropped],
            "notes": scores.notes,
        },
        "prompts_in_curves": len(table.prompts),
        "n": table.n,
        "temperature": table.temperature,
        "units": {"kl": "nats", "temperature": "units of the reward"},
        "budget": analysis.budget,
        "recommendation": analysis.choice._replace(near=analysis.choice.near.tolist())._asdict(),
        "overoptimisation": [
            {"temperature": t, **verdict._asdict()} for t, verdict in analysis.verdicts.items()
        ],
    }
    for name, values in curves.items():
        if values is not None:
            mean, error = means(values)
            result[name] = {"mean": mean, "standard_error": error}
    if analysis.per_prompt is not None:
        each = analysis.per_prompt._asdict()
        names = [scores.prompts[i] for i in table.prompts]
        each["temperature"] = dict(zip(names, each["temperature"], strict=True))
        result["per_prompt_temperature"] = each
    return _plain(result)


def _plain(x: Any) -> Any:
    if isinstance(x, dict):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    if isinstance(x, (np.ndarray, np.generic)):
        return _plain(x.tolist())
    if isinstance(x, float) and not math.isfinite(x):
        return None if math.isnan(x) else "inf" if x > 0 else "-inf"
    return x


def as_text(analysis: Analysis) -> str:
    """The findings as text for a terminal.

    Args:
      analysis: the findings.

    Returns:
      Lines of text: what was read, a table for each curve, the conclusions.

    Raises:
      Nothing for the findings of `softbon analyze`.

    Numerics: means are printed to four digits, standard errors to one.
    Source: derived here: the layout is this project's own.

    Example:
      >>> from softbon_jax.command import advice, report
      >>> pools = sb.scores.padded({f"p{i}": [0.0, i + 1.0] for i in range(12)})
      >>> table = advice.tabulate(pools, [1, 2], [0.0])
      >>> found = report.Analysis("x.csv", pools, table, "n ≤ 2", advice.choose(table), None, {})
      >>> print(report.as_text(found).splitlines()[4])
      0  3.25 ±0.5  6.5 ±1
    """
    lines = [*_reading(analysis), ""]
    for title, head, rows in _tables(analysis):
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines.append(title)
        lines += [
            "  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in [head, *rows]
        ]
        lines.append("")
    return "\n".join(map(printable, [*lines, *_findings(analysis)]))


def as_html(analysis: Analysis) -> str:
    """The findings as one web page: figures, tables and conclusions, no scripts and no external files.

    Args:
      analysis: the findings.

    Returns:
      The page, HTML with its figure inside as SVG.

    Raises:
      ImportError: Matplotlib, which draws the figure, is not installed.

    Numerics: as `as_text`; bands in the figure are ± 1.96 standard errors. The same findings give the
      same bytes.
    Source: derived here: the layout is this project's own.

    Example:
      >>> from softbon_jax.command import advice, report
      >>> pools = sb.scores.padded({f"p{i}": [0.0, i + 1.0] for i in range(12)})
      >>> table = advice.tabulate(pools, [1, 2], [0.0])
      >>> found = report.Analysis("x.csv", pools, table, "n ≤ 2", advice.choose(table), None, {})
      >>> page = report.as_html(found)
      >>> page.startswith("<!DOCTYPE html>"), page.count("<svg")
      (True, 1)
    """

    def escape(text: str) -> str:
        return html.escape(printable(text))

    parts = [f"<h1>Soft best-of-n on {escape(analysis.source)}</h1>"]
    parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in _reading(analysis)), "</ul>"]
    parts += ["<h2>What to do</h2>", *(f"<p>{escape(line)}</p>" for line in _findings(analysis))]
    parts += ["<h2>Curves</h2>", f"<figure>{_pictures(analysis)}<figcaption>{escape(CAPTION)}"]
    parts += ["</figcaption></figure>", "<h2>Numbers</h2>"]
    for title, head, rows in _tables(analysis):
        cells = "".join(f"<th>{escape(x)}</th>" for x in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(x)}</td>" for x in row) + "</tr>" for row in rows
        )
        parts.append(f"<h3>{escape(title)}</h3><table><tr>{cells}</tr>{body}</table>")
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(analysis.source)}: soft best-of-n</title><style>{STYLE}</style></head>"
        f"<body>\n{body}\n</body></html>\n"
    )


CAPTION = (
    "Left: unbiased means over all subsets of n responses, averaged over prompts; bands are ± 1.96 "
    "standard errors over prompts. Rightmost: the same against KL from the policy, each line one "
    "temperature, n rising along it; the ring is the recommended point. λ is the temperature, in units "
    "of the reward; λ = 0 is hard best-of-n."
)

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#111}"
    "h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}h3{font-size:1rem}"
    "figure{margin:0}figure svg{width:100%;height:auto}figcaption{color:#444;font-size:.9rem}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}"
    "th,td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd}th{color:#444}"
)


# Words and numbers -------------------------------------------------------------------------------


def _reading(analysis: Analysis) -> list[str]:
    scores, sizes = analysis.scores, analysis.scores.where.sum(1)
    columns = scores.columns
    spread = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    read = (
        f"{analysis.source}: {scores.read:,} rows, {len(scores.prompts):,} prompts with {spread} "
        f"responses each (prompt = {columns.prompt}, {columns.described})"
    )
    lines = [read]
    lines += [f"dropped {x.rows:,} rows, first row {x.first}: {x.reason}" for x in scores.dropped]
    lines += scores.notes
    left = len(scores.prompts) - len(analysis.table.prompts)
    if left:
        lines.append(
            f"left out of the curves: {left} prompts with fewer than {analysis.table.n[-1]} responses"
        )
    return lines


def _tables(analysis: Analysis) -> list[tuple[str, list[str], list[list[str]]]]:
    table = analysis.table
    head = ["λ", *(f"n={n}" for n in table.n)]
    result = []
    for title, values in (
        ("mean reward ± standard error", table.reward),
        ("mean gold ± standard error", table.gold),
        ("mean KL from the policy (nats) ± standard error", table.kl),
    ):
        if values is not None:
            mean, error = (np.where(np.abs(x) < 1e-12, 0.0, x) for x in means(values))
            rows = [
                [f"{t:g}", *(f"{m:.4g} ±{e:.1g}" for m, e in zip(*pair, strict=True))]
                for t, *pair in zip(table.temperature, mean, error, strict=True)
            ]
            result.append((title, head, rows))
    return result


def _findings(analysis: Analysis) -> list[str]:
    choice, columns = analysis.choice, analysis.scores.columns
    what = columns.valuing or columns.selecting
    if not choice.ok:
        lines = [f"No recommendation for {analysis.budget}: {choice.reason}."]
    else:
        best = (
            f"Recommended for {analysis.budget}: n = {choice.n}, λ = {choice.temperature:g}, at a mean "
            f"KL of {choice.kl:.3g} nats. Mean {what} {choice.value:.4g} (95% interval "
            f"{choice.low:.4g} to {choice.high:.4g}), {choice.gain:+.3g} over one response "
            f"({choice.gain_low:+.3g} to {choice.gain_high:+.3g}); {choice.reason}. "
            f"{choice.agreement:.0%} of bootstrap samples of the prompts choose the same point; the "
            "optimism of choosing is taken off."
        )
        lines = [best]
    each = analysis.per_prompt
    if each is not None:
        lines.append(
            "A λ for every prompt, chosen and valued on the same responses, which flatters it, at the "
            f"same n and mean KL would change mean {columns.selecting} by "
            f"{each.gain:+.2g} ± {each.gain_se:.1g}"
            + (
                f" and mean {columns.valuing} by {each.objective_gain:+.2g} ± "
                f"{each.objective_gain_se:.1g}."
                if columns.valuing
                else "."
            )
        )
    for t, verdict in analysis.verdicts.items():
        lines.append(f"Over-optimization at λ = {t:g}: {verdict.finding}. {verdict.reason}.")
    if columns.valuing is None:
        lines.append(
            f"Whether {columns.selecting} is over-optimized cannot be told without a gold score "
            "(--gold)."
        )
    return lines


# Pictures ----------------------------------------------------------------------------------------


def _shown(table: Table) -> Sequence[int]:
    """At most five temperatures, from the lowest to the highest finite one."""
    finite = np.flatnonzero(np.isfinite(table.temperature))
    if len(finite) <= 5:
        return [int(i) for i in finite]
    return [int(finite[round(i)]) for i in np.linspace(0, len(finite) - 1, 5)]


def drawing() -> tuple[Any, Any]:
    """The modules that draw; `ImportError` if they are not installed."""
    try:
        return importlib.import_module("matplotlib"), importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ImportError(
            "an HTML report (--html) needs Matplotlib: pip install 'softbon-jax[command]'"
        ) from None


def _pictures(analysis: Analysis) -> str:
    matplotlib, figures = drawing()
    table, columns = analysis.table, analysis.scores.columns
    curves = [(columns.selecting, table.reward)]
    if table.gold is not None:
        curves.append((columns.valuing or "gold", table.gold))
    settings = {
        "svg.fonttype": "path",
        "svg.hashsalt": "softbon",
        "text.parse_math": False,  # the names of columns are no formulas
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    shown = _shown(table)
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name may be in any script
        width = 3.4 * (len(curves) + 1)
        figure = figures.Figure(figsize=(width, 3.6), layout="constrained")
        axes = figure.subplots(1, len(curves) + 1, squeeze=False)[0]
        for ax, (name, values) in zip(axes, curves, strict=False):
            mean, error = means(values)
            for k, i in enumerate(shown):
                color = COLORS[k]
                ax.plot(
                    table.n, mean[i], color=color, ls=DASHES[k % 4], marker="o", ms=3,
                    label=f"λ = {table.temperature[i]:g}",
                )  # fmt: skip
                low, high = mean[i] - 1.96 * error[i], mean[i] + 1.96 * error[i]
                ax.fill_between(table.n, low, high, color=color, alpha=0.12, lw=0)
            ax.set(xscale="log", xlabel="number of responses n", ylabel=printable(f"mean {name}"))
            ax.set_xticks(table.n, [str(n) for n in table.n])
            ax.minorticks_off()
        objective, cost = means(table.objective)[0], means(table.kl)[0]
        ax = axes[-1]
        for k, i in enumerate(shown):
            ax.plot(cost[i], objective[i], color=COLORS[k], ls=DASHES[k % 4], marker="o", ms=3)
        if analysis.choice.ok:
            row = int(np.flatnonzero(table.temperature == analysis.choice.temperature)[0])
            at = int(np.flatnonzero(table.n == analysis.choice.n)[0])
            ax.plot(
                cost[row, at], objective[row, at], "o", ms=11, mfc="none", mec=COLORS[2], mew=1.8
            )
            ax.annotate(
                "recommended", (cost[row, at], objective[row, at]), (0, 10),
                textcoords="offset points", color=COLORS[2], ha="center",
            )  # fmt: skip
        ax.margins(x=0.12, y=0.12)
        ax.set(xlabel="mean KL from the policy (nats)", ylabel=printable(f"mean {curves[-1][0]}"))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def __getattr__(name: str) -> Any:
    """The name before American spelling, for one release."""
    if name == "COLOURS":
        warnings.warn("COLOURS is now COLORS", DeprecationWarning, stacklevel=2)
        return COLORS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
