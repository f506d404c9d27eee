"""The findings of `softbon analyze`, and how they are put into words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from softbon_jax.command._ballot import SUBSETS
from softbon_jax.command._grid import Table
from softbon_jax.command._intervals import means, student
from softbon_jax.command.advice import Ballot, Choice, PerPrompt, Verdict
from softbon_jax.scores import Scores


class Analysis(NamedTuple):
    """The findings of `softbon analyze`.

    Attributes:
      source: name of the file of scores, without its folder.
      scores: the pools that were read.
      table: the estimates.
      budget: the limits on n and KL, in words.
      choice: the recommendation.
      per_prompt: one temperature for each prompt; None without a recommendation, and where that is the
        lowest temperature.
      verdicts: for each temperature that was tested, whether the proxy is over-optimized; empty without
        a gold score.
      ballot: votes beside selection by scores; None unless answers are asked for.
    """

    source: str
    scores: Scores
    table: Table
    budget: str
    choice: Choice
    per_prompt: PerPrompt | None
    verdicts: dict[float, Verdict]
    ballot: Ballot | None = None


def what(analysis: Analysis) -> str:
    """The name of the score to maximize."""
    columns = analysis.scores.columns
    return columns.valuing or columns.selecting


def gains(table: Table, values: np.ndarray) -> np.ndarray:
    """`[prompts, T, M]` values less those of one response (of the least n), prompt by prompt."""
    return values - values[:, :1, :1]


def reading(analysis: Analysis) -> list[str]:
    """What was read, one a line."""
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


def tables(analysis: Analysis) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, head and rows of every table."""
    table = analysis.table
    head = ["λ", *(f"n={n}" for n in table.n)]
    result = []

    def cells(mean: np.ndarray, error: np.ndarray) -> list[str]:
        return [f"{m:.4g} ±{e:.1g}" for m, e in zip(mean, error, strict=True)]

    for title, values in (
        ("mean reward ± standard error", table.reward),
        ("mean gold ± standard error", table.gold),
        ("mean KL from the policy (nats) ± standard error", table.kl),
        (
            f"gain in mean {what(analysis)} over one response ± standard error, paired by prompt",
            gains(table, table.objective),
        ),
    ):
        if values is not None:
            mean, error = (np.where(np.abs(x) < 1e-12, 0.0, x) for x in means(values))
            rows = [
                [f"{t:g}", *cells(*pair)]
                for t, *pair in zip(table.temperature, mean, error, strict=True)
            ]
            result.append((title, head, rows))
    if analysis.ballot is not None:
        by_rule = [
            [name, *cells(*means(x))]
            for name, x in zip(analysis.ballot.rules, analysis.ballot.value, strict=True)
        ]
        title = f"mean {what(analysis)} of the answer that is chosen ± standard error"
        result.append((title, ["rule", *head[1:]], by_rule))
    return result


def findings(analysis: Analysis) -> list[str]:
    """The conclusions, one a line."""
    choice, columns = analysis.choice, analysis.scores.columns
    if not choice.ok:
        lines = [f"No recommendation for {analysis.budget}: {choice.reason}."]
    else:
        best = (
            f"Recommended for {analysis.budget}: n = {choice.n}, λ = {choice.temperature:g}, at a mean "
            f"KL of {choice.kl:.3g} nats. Mean {what(analysis)} {choice.value:.4g} (95% interval "
            f"{choice.low:.4g} to {choice.high:.4g}), {choice.gain:+.3g} over one response "
            f"({choice.gain_low:+.3g} to {choice.gain_high:+.3g}); {choice.reason}. "
            f"{choice.agreement:.0%} of bootstrap samples of the prompts choose the same point; the "
            "optimism of choosing is taken off."
        )
        lines = [best]
    if analysis.per_prompt is not None:
        lines.append(_of_each(analysis, analysis.per_prompt))
    if analysis.ballot is not None:
        lines.append(_of_votes(analysis, analysis.ballot))
    for t, verdict in analysis.verdicts.items():
        lines.append(f"Over-optimization at λ = {t:g}: {verdict.finding}. {verdict.reason}.")
    if columns.valuing is None:
        lines.append(
            f"Whether {columns.selecting} is over-optimized cannot be told without a gold score "
            "(--gold)."
        )
    return lines


def _of_each(analysis: Analysis, each: PerPrompt) -> str:
    """What a λ for every prompt would earn."""
    columns = analysis.scores.columns
    if not each.n:
        return (
            "What a λ for every prompt would earn is not told: half of a pool, which would choose it, "
            "must have two responses."
        )
    parts = [(columns.selecting, each.gain, each.gain_low, each.gain_high)]
    if columns.valuing:
        ends = each.objective_gain_low, each.objective_gain_high
        parts.append((columns.valuing, each.objective_gain, *ends))
    changes = " and ".join(
        f"mean {name} by {gain:+.2g} (95% interval {low:+.2g} to {high:+.2g})"
        for name, gain, low, high in parts
    )
    return (
        "A λ for every prompt, chosen on one half of its responses and valued on the other, at n = "
        f"{each.n} and the same mean KL would change {changes}."
    )


def _of_votes(analysis: Analysis, ballot: Ballot) -> str:
    """Every rule for choosing an answer against the plain vote, at the largest n."""
    reach = student(len(analysis.table.prompts) - 1)
    votes = ballot.value[0, :, -1]
    differences = []
    for name, value in zip(ballot.rules[1:], ballot.value[1:, :, -1], strict=True):
        mean, error = means(value - votes)
        ends = f"95% interval {mean - reach * error:+.2g} to {mean + reach * error:+.2g}"
        differences.append(f"{name}: {mean:+.2g} ({ends})")
    sampled = [name for name, x in zip(ballot.rules, ballot.sampled, strict=True) if x]
    line = (
        f"The answer with most votes of {analysis.table.n[-1]} has mean {what(analysis)} "
        f"{votes.mean():.4g}. By prompt, the others against it: {'; '.join(differences)}. In random "
        f"subsets, {SUBSETS} a prompt: {'; '.join(sampled)}."
    )
    if ballot.mixed:
        line += (
            f" In {ballot.mixed:,} prompts responses of one answer have unequal {what(analysis)}, of "
            "which a vote earns the mean."
        )
    return line


def glance(analysis: Analysis) -> list[tuple[str, str, str]]:
    """What to serve, what it earns, where more hurts, how sure: question, answer and more of it."""
    choice, count = analysis.choice, len(analysis.table.prompts)
    if choice.ok:
        more = f"the best within {analysis.budget}; {choice.reason}"
        serve = f"n = {choice.n}, λ = {choice.temperature:g}", more
        more = (
            f"over one response, paired by prompt; 95% interval {choice.gain_low:+.3g} to "
            f"{choice.gain_high:+.3g}; at a mean KL of {choice.kl:.3g} nats"
        )
        earns = f"{choice.gain:+.3g} mean {what(analysis)}", more
        more = (
            f"of bootstrap samples of the {count:,} prompts choose this very point; the interval of the "
            "gain holds for whichever point is chosen"
        )
        sure = f"{choice.agreement:.0%}", more
    else:
        serve = "No recommendation", f"for {analysis.budget}: {choice.reason}"
        earns = "Nothing beyond doubt", f"over one response, within {analysis.budget}"
        sure = "Not enough", f"for a recommendation, with {count:,} prompts"
    return [
        ("What to serve", *serve),
        ("What it earns", *earns),
        ("Where more hurts", *_hurts(analysis)),
        ("How sure", *sure),
    ]


def _hurts(analysis: Analysis) -> tuple[str, str]:
    """The answer, and more of it."""
    if not analysis.verdicts:
        return "Cannot be told", "without a gold score (--gold)"
    down = {t: x for t, x in analysis.verdicts.items() if x.finding == "turns down"}
    for t, verdict in down.items():
        return f"Beyond n = {verdict.peak} at λ = {t:g}", verdict.reason
    found = {x.finding for x in analysis.verdicts.values()}
    said = next(f"at λ = {t:g} {x.reason}" for t, x in analysis.verdicts.items())
    if found == {"still rising"}:
        return f"Not up to n = {analysis.table.n[-1]}", said
    return "Cannot tell", said


def intervals(analysis: Analysis) -> str:
    """Which intervals the curves have, in words."""
    count = len(analysis.table.prompts)
    return (
        f"95% bands, each point by itself: Student's t, {student(count - 1):.3g} standard errors of the "
        f"differences from one response over {count:,} prompts"
    )
