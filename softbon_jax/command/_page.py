"""The look of a report as a web page: its style, and the script that shows numbers under the pointer."""

from __future__ import annotations

import base64
import hashlib
import html

from softbon_jax.command._terminal import printable

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#111;
background:#fff}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}h3{font-size:1rem}
h1,p,li,dd,dt{overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:1rem;margin:1.5rem 0}
dl div{border:1px solid #bbb;border-top:4px solid #0072b2;padding:.6rem .9rem}
dt{color:#444;font-size:.9rem}dd{margin:0;font-size:.9rem}dd.answer{font-size:1.25rem;font-weight:600}
figure{margin:0}figure svg{width:100%;height:auto}figcaption{color:#444;font-size:.9rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
th,td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
th{color:#444}
#tip{position:fixed;max-width:22rem;padding:.3rem .6rem;background:#111;color:#fff;font-size:.85rem;
border-radius:.2rem;pointer-events:none}
@media print{@page{margin:14mm}
body{font-size:10pt;max-width:none;margin:0;padding:0}#tip{display:none}
dl{grid-template-columns:repeat(4,1fr);gap:.5rem}dd.answer{font-size:1.1rem}
h2,h3{break-after:avoid}figure,table,dl div,p{break-inside:avoid}
table{display:table;overflow:visible;font-size:7.5pt}th,td{padding:.1rem .3rem;white-space:normal}}
"""

SCRIPT = """
(function () {
  var tip = document.createElement("div"), points = [];
  tip.id = "tip";
  tip.hidden = true;
  document.body.appendChild(tip);
  document.querySelectorAll("g.point").forEach(function (point) {
    var title = point.querySelector("title");
    points.push({at: point, text: title.textContent});
    point.setAttribute("role", "img");
    point.setAttribute("aria-label", title.textContent);
    title.remove();
  });
  function show(event) {
    var best = 20, found = null;
    points.forEach(function (point) {
      var box = point.at.getBoundingClientRect();
      var far = Math.hypot(
        event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
      if (far < best) { best = far; found = point; }
    });
    tip.hidden = !found;
    if (found) {
      tip.textContent = found.text;
      var x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
      var y = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8);
      tip.style.left = Math.max(0, x) + "px";
      tip.style.top = Math.max(0, y) + "px";
    }
  }
  document.querySelectorAll("figure").forEach(function (figure) {
    figure.addEventListener("pointermove", show);
    figure.addEventListener("pointerdown", show);
    figure.addEventListener("pointerleave", function () { tip.hidden = true; });
  });
})();
"""


def escape(text: str) -> str:
    """Text as it may stand in a page, where names of files and columns may hold anything."""
    return html.escape(printable(text))


def table(title: str, head: list[str], rows: list[list[str]]) -> str:
    """A table with its title above it."""
    cells = "".join(f'<th scope="col">{escape(x)}</th>' for x in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(x)}</td>" for x in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return f"<h3>{escape(title)}</h3><table><tr>{cells}</tr>{body}</table>"


def boxes(answers: list[tuple[str, str, str]]) -> str:
    """Questions with short answers side by side."""
    parts = (
        f'<div><dt>{escape(question)}</dt><dd class="answer">{escape(answer)}</dd>'
        f"<dd>{escape(more)}</dd></div>"
        for question, answer, more in answers
    )
    return f"<dl>{''.join(parts)}</dl>"


def page(title: str, parts: list[str]) -> str:
    """A whole page, which loads nothing and runs no script but `SCRIPT`."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>\n{body}\n<script>{SCRIPT}</script></body></html>\n"
    )
