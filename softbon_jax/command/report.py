"""The report of `softbon analyze`: as text, as one self-contained HTML file, and as JSON.

Reports name the file of scores without its folder, and nothing else of the machine that made them.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from softbon_jax.command import _page, _words
from softbon_jax.command._ballot import SUBSETS, Ballot
from softbon_jax.command._figure import COLORS as COLORS, drawing as drawing, pictures
from softbon_jax.command._intervals import means as means, student
from softbon_jax.command._terminal import printable
from softbon_jax.command._words import Analysis as Analysis

SCHEMA = 1
"""Of the JSON; another number if a key goes or changes its meaning, not if one is added."""


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
    Source: derived here: the layout is this project's own, described in docs/json.md. The key
      "overoptimisation" keeps its first spelling for the programs that read it.

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
    curves = {
        "reward": table.reward,
        "gold": table.gold,
        "kl": table.kl,
        "gain": _words.gains(table, table.objective),
    }
    result: dict[str, Any] = {
        "schema": SCHEMA,
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
        "standard_errors_of_95": student(len(table.prompts) - 1),
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
    if analysis.ballot is not None:
        result["votes"] = _of_votes(analysis.ballot)
    return _plain(result)


def _of_votes(ballot: Ballot) -> dict[str, Any]:
    """Each rule, and its differences from the plain vote."""
    rules = []
    for rule, sampled, value in zip(ballot.rules, ballot.sampled, ballot.value, strict=True):
        mean, error = means(value)
        more, more_error = means(value - ballot.value[0])
        over = {"mean": more, "standard_error": more_error}
        rules.append(
            {
                "rule": rule,
                "sampled": sampled,
                "mean": mean,
                "standard_error": error,
                "over_votes": over,
            }
        )
    return {"subsets": SUBSETS, "mixed_prompts": ballot.mixed, "rules": rules}


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
    lines = [*_words.reading(analysis), ""]
    for title, head, rows in _words.tables(analysis):
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines.append(title)
        lines += [
            "  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in [head, *rows]
        ]
        lines.append("")
    return "\n".join(map(printable, [*lines, *_words.findings(analysis)]))


def as_html(analysis: Analysis) -> str:
    """The findings as one web page: answers, figure, conclusions and tables; no external files.

    Args:
      analysis: the findings.

    Returns:
      The page, HTML with its figure inside as SVG. A script of its own, which nothing depends on, shows
      the numbers of the point under the pointer.

    Raises:
      ImportError: Matplotlib, which draws the figure, is not installed.

    Numerics: as `as_text`; bands in the figure have Student's t quantiles over prompts, and are those of
      gains over one response, paired by prompt. The same findings give the same bytes.
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
    reading = "".join(f"<li>{_page.escape(line)}</li>" for line in _words.reading(analysis))
    findings = (f"<p>{_page.escape(line)}</p>" for line in _words.findings(analysis))
    caption = _page.escape(f"{_words.intervals(analysis)}. {CAPTION}")
    parts = [
        f"<h1>Soft best-of-n on {_page.escape(analysis.source)}</h1>",
        _page.boxes(_words.glance(analysis)),
        f"<figure>{pictures(analysis)}<figcaption>{caption}</figcaption></figure>",
        "<h2>Findings</h2>",
        *findings,
        "<h2>What was read</h2>",
        f"<ul>{reading}</ul>",
        "<h2>Numbers</h2>",
        *(_page.table(*table) for table in _words.tables(analysis)),
    ]
    return _page.page(f"{analysis.source}: soft best-of-n", parts)


CAPTION = (
    "Left: gain over one response of the same prompt, from unbiased means over all subsets of n "
    "responses, averaged over prompts. Rightmost: the same against KL from the policy, each line one "
    "temperature, n rising along it; the ring is the recommended point. λ is the temperature, in units "
    "of the reward; λ = 0 is hard best-of-n. All numbers are in the tables below."
)


def __getattr__(name: str) -> Any:
    """The name before American spelling, for one release."""
    if name == "COLOURS":
        warnings.warn("COLOURS is now COLORS", DeprecationWarning, stacklevel=2)
        return COLORS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
