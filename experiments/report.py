"""The report of the reproduction: one HTML page that needs nothing else.

For each experiment it has the figure, the claims (statement, source, measured number, allowed range,
pass or fail) and the commands that compute and draw it again. Those name the default folders, so that no
path of the machine that made the page is on it. Narrow screens get the one-column version of each
figure.
"""

from __future__ import annotations

import base64
import html
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import experiments
from experiments import runner
from experiments.claims import CHECK, DERIVED, PAPER, Claim
from experiments.verify import summary

STYLE = """
:root { color-scheme: light dark; --ink: #16181d; --faint: #555b66; --line: #d5d8de; --page: #fff;
  --good: #00674b; --bad: #b3261e; --link: #00599a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --faint: #a6adb9; --line: #3a3f49;
  --page: #14161a; --good: #5ed6ae; --bad: #ff9b91; --link: #7cc0f5; } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.25rem; margin-top: 3rem }
li { overflow-wrap: anywhere } a { color: var(--link) }
.faint, figcaption { color: var(--faint); font-size: .9rem }
figure { margin: 1rem 0 } img { display: block; width: 100%; height: auto; background: #fff;
  border-radius: 4px; padding: 4px }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line) }
th { color: var(--faint); font-weight: 600 }
.pass { color: var(--good); font-weight: 600 } .fail { color: var(--bad); font-weight: 700 }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 4px; padding: .5rem .75rem;
  font-size: .85rem }
@media (max-width: 40rem) {
  thead { display: none } tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line) }
  td { display: block; border: 0; padding: .1rem 0; overflow-wrap: anywhere }
  td[data-name]:not([data-name=""])::before { content: attr(data-name) ": "; color: var(--faint) }
}
"""


def as_html(claims: Sequence[Claim], size: str, results: Path, gallery: Path, narrow: Path) -> str:
    """The page: claims on results of the config `size`, with folders of results and of SVG figures.

    Those in `narrow` are one column wide.

    Raises:
      runner.ResultError: a result is missing or damaged.
      OSError: a figure is missing.
    """
    names = [name for name in experiments.NAMES if any(x.experiment == name for x in claims)]
    manifests = {name: runner.read_manifest(name, results) or {} for name in names}
    parts = [
        "<h1>Soft best-of-n: the reproduction</h1>",
        _verdict(claims),
        _origin(claims),
        _contents(names, claims),
    ]
    for name in names:
        own = [claim for claim in claims if claim.experiment == name]
        parts.append(_section(name, own, size, results, (gallery, narrow), manifests[name]))
    parts += ["<h2>How it was made</h2>", _made(manifests)]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>Soft best-of-n: {summary(claims)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _verdict(claims: Sequence[Claim]) -> str:
    failed = [claim for claim in claims if not claim.passed]
    parts = [f'<p class="{"fail" if failed else "pass"}">{summary(claims)}.</p>']
    if failed:
        rows = "".join(
            f'<li><a href="#{x.experiment}">{x.experiment}</a>: {html.escape(x.claim)} '
            f"(measured {html.escape(x.measured)}, allowed {html.escape(x.allowed)})</li>"
            for x in failed
        )
        parts.append(f"<ul>{rows}</ul>")
    return "\n".join(parts)


def _origin(claims: Sequence[Claim]) -> str:
    """How many claims come from the paper, from here, from others and from checks; how many pass."""
    groups = {
        f"on what the paper states ({PAPER})": [x for x in claims if PAPER in x.source],
        DERIVED: [x for x in claims if x.source == DERIVED],
        "checks of the computation": [x for x in claims if x.source == CHECK],
    }
    known = [x for group in groups.values() for x in group]
    groups["of other papers"] = [x for x in claims if x not in known]
    counts = ", ".join(
        f"{sum(x.passed for x in group)} of {len(group)} {what}" for what, group in groups.items()
    )
    words = f"Passing: {counts}."
    rates = [x for x in claims if x.experiment == "kl_rate"]
    if rates and all(x.passed for x in rates):
        words += (
            " The bounds of order 1/n hold at every point; for a fixed problem "
            'the divergence itself falls as 1/n² (see <a href="#kl_rate">kl_rate</a>).'
        )
    return f"<p>{words}</p>"


def _contents(names: Sequence[str], claims: Sequence[Claim]) -> str:
    links = []
    for name in names:
        own = [x.passed for x in claims if x.experiment == name]
        state = "pass" if all(own) else "fail"
        links.append(
            f'<a href="#{name}">{name}</a>&nbsp;<span class="{state}">{sum(own)}/{len(own)}</span>'
        )
    return f"<nav><p>{' · '.join(links)}</p></nav>"


def _section(
    name: str,
    claims: Sequence[Claim],
    size: str,
    results: Path,
    figures: tuple[Path, Path],
    manifest: dict[str, Any],
) -> str:
    dataset = runner.load(name, results)
    title = str(dataset.attrs["title"])
    draw = importlib.import_module(f"figures.{name}").draw
    wide, narrow = (
        "data:image/svg+xml;base64,"
        + base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
        for folder in figures
    )
    caption = html.escape(" ".join((draw.__doc__ or "").split()))
    head = ("claim", "source", "measured", "allowed", "")
    rows = "".join(_row(head, claim) for claim in claims)
    heads = "".join(f"<th>{x}</th>" for x in head)
    folder = runner.default_results(size).as_posix()
    out = "" if size == "paper" else f" --out {folder}/figures"
    commands = (
        f"python -m experiments run {name} --config {size} --force\n"
        f"python -m figures {name} --results {folder}{out}"
    )
    seconds = manifest.get("wall_seconds", float("nan"))
    return f"""<section id="{name}"><h2>{name}: {html.escape(title)}</h2>
<figure><picture><source media="(max-width: 40rem)" srcset="{narrow}">
<img alt="{html.escape(title)}: {caption}" src="{wide}"></picture>
<figcaption>{caption}</figcaption></figure>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>
<pre>{html.escape(commands)}</pre>
<p class="faint">Computed in {seconds:.1f} s.</p></section>"""


def _row(head: Sequence[str], claim: Claim) -> str:
    verdict = '<span class="pass">pass</span>' if claim.passed else '<span class="fail">FAIL</span>'
    texts = (claim.claim, claim.source, claim.measured, claim.allowed)
    cells = [*(html.escape(x) for x in texts), verdict]
    pairs = zip(("", *head[1:]), cells, strict=True)
    return "<tr>" + "".join(f'<td data-name="{x}">{cell}</td>' for x, cell in pairs) + "</tr>"


def _made(manifests: dict[str, dict[str, Any]]) -> str:
    """Versions, device, commit and dates, each said once where all results agree."""
    lines = []
    for field in ("commit", "dirty", "device", "python", "packages"):
        values = dict.fromkeys(_words(m.get(field)) for m in manifests.values())
        lines.append(f"{field}: {' / '.join(values)}")
    finished = sorted(str(m.get("finished")) for m in manifests.values())
    lines.append(f"finished: {finished[0]} to {finished[-1]}")
    seconds = sum(m.get("wall_seconds", 0.0) for m in manifests.values())
    lines.append(f"time of all experiments: {seconds:.0f} s")
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _words(x: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in x.items()) if isinstance(x, dict) else str(x)
