"""The report: its page answers, shows and escapes; its JSON is as documented; what is told meanwhile."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from softbon_jax import scores
from softbon_jax.command import _figure, _words, advice, main, report

PAGE = Path(__file__).parents[1] / "docs" / "json.md"
N, TEMPERATURE = np.array([1, 2, 4]), np.array([0.0, 0.5, np.inf])


def analysis(rise=1.0, prompts=20, name="x.csv", gold=True):
    """Findings from a table made by hand: value and KL rise with n, less at a higher λ."""
    random = np.random.default_rng(0)
    strength = np.array([1.0, 0.6, 0.0])[:, None] * np.log(N)
    reward = random.normal(size=(prompts, 1, 1)) + strength * (
        1 + 0.1 * random.normal(size=(prompts, 1, 1))
    )
    value = random.normal(size=(prompts, 1, 1)) + rise * strength * (
        1 + 0.1 * random.normal(size=(prompts, 1, 1))
    )
    kl = np.broadcast_to(strength, reward.shape)
    pools = scores.padded({f"<p{i}>": np.arange(8.0) + i for i in range(prompts)})
    columns = pools.columns._replace(gold="gold & more" if gold else None)
    pools = pools._replace(
        columns=columns, dropped=(scores.Dropped("no <b> score", 2, 7),), notes=("a note",)
    )
    table = advice.Table(TEMPERATURE, N, reward, value if gold else None, kl, np.arange(prompts))
    choice = advice.choose(table, samples=200)
    half = table._replace(n=N[1:2], reward=reward[..., 1:2], gold=value[..., 1:2], kl=kl[..., 1:2])
    each = advice.per_prompt_temperatures(table, 4, 1.0, halves=(half, half))
    verdicts = {0.0: advice.overoptimized(table, 0.0, samples=200)} if gold else {}
    ballot = advice.Ballot(
        ("most votes", "<b>"), (False, True), np.stack([value, value + 1])[:, :, 0], 3
    )
    return report.Analysis(
        name, pools, table, "any budget", choice, each, verdicts, ballot if gold else None
    )


# The JSON ----------------------------------------------------------------------------------------


def documented():
    rows = re.findall(r"^\| `(.*?)` \|(.*?)\|(.*?)\|(.*?)\|$", PAGE.read_text(), flags=re.M)
    assert len(rows) > 40
    return {key: kind.strip() for key, kind, _, _ in rows}


def leaves(value, path="", maps=("per_prompt_temperature.temperature",)):
    """(path, value) of everything that is neither an object nor a list of objects."""
    if isinstance(value, dict):
        for key, part in value.items():
            inner = "*" if path in maps else key
            yield from leaves(part, f"{path}.{inner}" if path else inner)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for part in value:
            yield from leaves(part, f"{path}[]")
    else:
        yield path, value


def is_number(x):
    return x is None or x == "inf" or (isinstance(x, (int, float)) and not isinstance(x, bool))


def is_integer(x):
    return isinstance(x, int) and not isinstance(x, bool)


def is_columns(x):
    return x is None or isinstance(x, str) or all(isinstance(y, str) for y in x)


FITS = {
    "integer": is_integer,
    "number": is_number,
    "string": lambda x: isinstance(x, str),
    "boolean": lambda x: isinstance(x, bool),
    "strings": lambda x: all(isinstance(y, str) for y in x),
    "columns": is_columns,
    "[3] integers": lambda x: len(x) == 3 and all(map(is_integer, x)),
    "[M] integers": lambda x: len(x) == len(N) and all(map(is_integer, x)),
    "[M] numbers": lambda x: len(x) == len(N) and all(map(is_number, x)),
    "[T] numbers": lambda x: len(x) == len(TEMPERATURE) and all(map(is_number, x)),
    "[T][M] numbers": lambda x: (
        len(x) == len(TEMPERATURE) and all(len(y) == len(N) and all(map(is_number, y)) for y in x)
    ),
}


def test_the_json_is_what_the_page_describes():
    found = json.loads(json.dumps(report.as_json(analysis()), allow_nan=False))
    kinds, told = documented(), dict(leaves(found))
    assert set(told) == set(kinds)
    wrong = [(key, x) for key, x in leaves(found) if not FITS[kinds[key]](x)]
    assert not wrong
    assert found["schema"] == report.SCHEMA == 1
    bare = dict(leaves(report.as_json(analysis(gold=False))))
    absent = {"gold.mean", "gold.standard_error"}
    absent |= {key for key in kinds if key.startswith(("overoptimisation[]", "votes."))}
    assert set(kinds) - set(bare) == absent
    assert set(bare) - set(kinds) == {"overoptimisation"}


def test_gains_are_paired():
    """Prompts differ by far more than what they gain, which the standard error does not show."""
    found = analysis()
    numbers = report.as_json(found)
    gained = found.table.gold[:, 0, 2] - found.table.gold[:, 0, 0]
    assert numbers["gain"]["mean"][0][2] == pytest.approx(gained.mean(), rel=1e-12)
    error = gained.std(ddof=1) / 20**0.5
    assert numbers["gain"]["standard_error"][0][2] == pytest.approx(error, rel=1e-12)
    assert error < 0.2 * numbers["gold"]["standard_error"][0][2]
    assert numbers["standard_errors_of_95"] == pytest.approx(stats.t.ppf(0.975, 19), rel=1e-6)


# The page ----------------------------------------------------------------------------------------


class Read(HTMLParser):
    """Tags, and the text of each."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.attributes = [], {}, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        """Open."""
        self.attributes += [(tag, *x) for x in attributes]
        if tag not in ("meta", "br"):
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        """Close what is open."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Of the innermost that is open."""
        if self.open:
            self.text[self.open[-1]][-1] += data


def test_the_page_answers_at_a_glance():
    found = analysis(prompts=60)
    page = Read(report.as_html(found))
    questions = ["What to serve", "What it earns", "Where more hurts", "How sure"]
    assert page.text["dt"] == questions
    answers = page.text["dd"]
    assert answers[0] == "n = 4, λ = 0"
    assert answers[2] == f"{found.choice.gain:+.3g} mean gold & more"
    assert f"{found.choice.gain_low:+.3g} to {found.choice.gain_high:+.3g}" in answers[3]
    assert answers[4] == "Not up to n = 4"
    assert answers[6] == f"{found.choice.agreement:.0%}"
    hurt = [answer for _, answer, _ in _words.glance(analysis(rise=-1.0, prompts=60))]
    assert hurt == [
        "No recommendation",
        "Nothing beyond doubt",
        "Beyond n = 1 at λ = 0",
        "Not enough",
    ]
    assert _words.glance(analysis(gold=False))[2][1:] == (
        "Cannot be told",
        "without a gold score (--gold)",
    )


def test_every_point_says_its_numbers_and_the_tables_say_them_too():
    found = analysis()
    page = Read(report.as_html(found))
    points = [x for x in page.text["title"] if x.startswith("λ")]
    assert len(points) == 3 * 2 * len(N)  # panels, finite temperatures
    mean, error = report.means(found.table.gold - found.table.gold[:, :1, :1])
    reach = stats.t.ppf(0.975, 19) * error
    said = (
        f"λ = 0.5, n = 4: mean gold & more {found.table.gold[:, 1, 2].mean():.4g}, "
        f"{mean[1, 2]:+.3g} over one response "
        f"(95% {(mean - reach)[1, 2]:+.3g} to {(mean + reach)[1, 2]:+.3g}), mean KL "
        f"{0.6 * np.log(4):.3g} nats"
    )
    assert points.count(said) == 2  # against n, and against KL
    cells = page.text["td"]
    assert f"{mean[1, 2]:.4g} ±{error[1, 2]:.1g}" in cells
    assert "Student's t, 2.09 standard errors" in page.text["figcaption"][0]


def test_the_page_loads_nothing_and_runs_its_own_script_only():
    name = "</title><script>alert(1)</script>.csv"
    text = report.as_html(analysis(name=name))
    page = Read(text)
    assert len(page.text["script"]) == 1
    assert "alert" not in page.text["script"][0]
    assert not {"link", "img", "iframe", "object"} & page.text.keys()
    loads = [x for x in page.attributes if x[1] in ("src", "data") or x[1].startswith("on")]
    assert not loads
    assert all(x[2].startswith("#") for x in page.attributes if x[1].endswith("href"))
    assert "url(http" not in text
    assert "default-src 'none'" in text
    assert page.text["h1"] == [f"Soft best-of-n on {name}"]
    assert "dropped 2 rows, first row 7: no <b> score" in page.text["li"]
    assert "<b>" not in text
    assert "@media print" in text


def test_lines_differ_without_color():
    styles = list(zip(map(str, _figure.DASHES), _figure.MARKERS, strict=True))
    assert len({x for x, _ in styles}) == len({x for _, x in styles}) == 5


def test_the_recommended_line_is_shown():
    found = analysis()
    many = found.table._replace(temperature=np.array([0.0, *range(1, 9), np.inf]))
    for t in range(9):
        chosen = found._replace(table=many, choice=found.choice._replace(temperature=float(t)))
        lines = _figure.shown(chosen)
        assert len(lines) == 5
        assert {0, t, 8} <= set(lines)


# What is told meanwhile --------------------------------------------------------------------------


def write(path, prompts=12, size=2):
    random = np.random.default_rng(1)
    rows = [f"p{i},{x:.3f}" for i in range(prompts) for x in random.normal(size=size)]
    path.write_text("prompt_id,proxy_reward\n" + "\n".join(rows))
    return str(path)


def test_progress_is_for_terminals_only(tmp_path, capsys, monkeypatch):
    options = ["analyze", write(tmp_path / "x.csv"), "--temperature", "0", "--n", "2"]
    assert main.main(options) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main.main(options) == 0
    told = capsys.readouterr().err
    steps = [x for x in told.split("\r\x1b[K") if x]
    assert steps[0] == "reading x.csv …"
    assert "estimating …" in steps
    assert steps[-1] == "writing …"
    assert told.endswith("\r\x1b[K")
    assert main.main([*options, "--reward", "none such"]) == 2
    assert "\r\x1b[Kerror: " in capsys.readouterr().err


def test_a_temperature_for_every_prompt_is_told_where_there_is_a_choice(
    tmp_path, capsys, monkeypatch
):
    """Not at the lowest of the grid, whose KL no other spends. The estimates are made by hand."""
    table, numbers = analysis(gold=False).table, tmp_path / "x.json"
    half = table._replace(n=N[2:], reward=table.reward[..., 2:], kl=table.kl[..., 2:])
    monkeypatch.setattr(advice, "tabulate", lambda *_, **__: table)
    monkeypatch.setattr(advice, "halves", lambda *_, **__: (half, half))
    options = ["analyze", write(tmp_path / "x.csv", 20, 4), "--temperature", "0", "--n", "4"]
    for budget, temperature in (("9", 0), ("1", 0.5)):
        assert main.main([*options, "--kl", budget, "--json", str(numbers)]) == 0
        found = json.loads(numbers.read_text())
        assert found["recommendation"]["ok"]
        assert found["recommendation"]["temperature"] == temperature
        assert ("per_prompt_temperature" in found) == (temperature > 0)
        told = "chosen on one half of its responses and valued on the other, at n = 4"
        assert (told in capsys.readouterr().out) == (temperature > 0)


def test_packages_are_there_before_anything_is_computed(tmp_path):
    """In a process of its own, which cannot import Matplotlib, and whose readers must not be called."""
    path = write(tmp_path / "x.csv")
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from softbon_jax import scores\n"
        "from softbon_jax.command import advice, main\n"
        "scores.read = advice.tabulate = None\n"
        f"sys.exit(main.main(['analyze', {path!r}, '--html', {str(tmp_path / 'r.html')!r}]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr == (
        "error: an HTML report (--html) needs Matplotlib: pip install 'softbon-jax[command]'\n"
    )
    assert not (tmp_path / "r.html").exists()


def test_a_copy_of_parquet_needs_pyarrow_before_anything_is_selected(tmp_path, capsys, monkeypatch):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setattr(scores, "read", None)
    out = ["--temperature", "0", "--out", str(tmp_path / "y.parquet")]
    assert main.main(["select", str(path), *out]) == 2
    assert "a copy of a Parquet file needs pyarrow" in capsys.readouterr().err
