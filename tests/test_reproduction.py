"""`reproduce` and its report: stopped and continued, and looked at in a browser where there is one."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from experiments import NAMES, module, report, runner
from experiments.__main__ import main
from experiments.claims import Claim
from figures.__main__ import render
from tests import smoke

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of the smoke results, as `reproduce` writes it."""
    gallery = tmp_path_factory.mktemp("gallery")
    claims = smoke.claims()
    with smoke.drawn_once(pytest.MonkeyPatch()):
        list(render(smoke.results(), gallery))
        list(render(smoke.results(), gallery / "narrow", columns=1))
        text = report.as_html(claims, "smoke", smoke.results(), gallery, gallery / "narrow")
    path = gallery / "report.html"
    path.write_text(text, encoding="utf-8")
    return path, claims


@pytest.mark.slow
def test_every_claim_is_on_the_page(page):
    path, claims = page
    text = path.read_text()
    assert text.count("<img ") == len(NAMES)
    assert text.count('<span class="pass">pass</span>') == len(claims)
    assert "http" not in text.split("base64,")[0]  # nothing is loaded from elsewhere
    for name in NAMES:
        assert f"python -m figures {name} --results results/smoke" in text


@pytest.mark.slow
def test_the_page_names_no_path_of_this_machine(page):
    path, _ = page
    text = re.sub(r"base64,[^\"]*", "", path.read_text())  # figures say nothing but what they show
    for folder in (path.parent, smoke.results(), runner.REPOSITORY, Path.home()):
        assert str(folder) not in text


def test_a_failed_claim_is_named_first():
    rows = [
        Claim("kl_rate", f"claim {x}", "derived here", "3 < 2", "≤ 1", x != "a", np.nan)
        for x in "abc"
    ]
    text = report._verdict(rows)
    assert "2 of 3 claims pass" in text
    assert text.index("claim a") < text.index("3 &lt; 2")
    assert "claim b" not in text


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium on the PATH")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_in_a_browser(page, width, scheme):
    path, _ = page
    complaints = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("requestfailed", lambda request: complaints.append(request.url))
        tab.goto(path.as_uri(), wait_until="load")
        images = tab.eval_on_selector_all(
            "img", "all => all.map(x => [x.complete && x.naturalWidth, x.getBoundingClientRect()])"
        )
        assert len(images) == len(NAMES)
        for loaded, box in images:
            assert loaded > 0
            assert box["height"] > 50
            assert 0 <= box["left"] < box["right"] <= width
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        ink, paper = (
            sum(map(int, tab.evaluate(f"getComputedStyle(document.body).{x}")[4:-1].split(",")))
            for x in ("color", "backgroundColor")
        )
        assert (ink < 200 < 600 < paper) if scheme == "light" else (paper < 200 < 600 < ink)
        browser.close()
    assert complaints == []


@pytest.mark.slow
def test_reproduce_counts_every_step(tmp_path, capsys):
    out = tmp_path / "smoke"
    options = ["--config", "smoke", "--only", "poisson", "--out", str(out)]
    assert main(["reproduce", *options]) == 0
    captured = capsys.readouterr()
    steps = len(module("poisson").cells(module("poisson").SMOKE)) + 2
    assert f"[{steps}/{steps}, " in captured.err
    assert "claims pass" in captured.out
    assert (out / "figures" / "poisson.svg").exists()
    text = (out / "report.html").read_text()
    assert text.count("<img ") == 1
    assert main(["reproduce", *options]) == 0
    assert "poisson: up to date" in capsys.readouterr().err


COMMAND = [sys.executable, "-m", "experiments", "reproduce", "--config", "smoke"]
COMMAND += ["--only", "hard_limit", "--out"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A reproduction that was not stopped."""
    out = tmp_path_factory.mktemp("straight")
    subprocess.run([*COMMAND, out], cwd=runner.REPOSITORY, check=True)
    return out


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_killed_reproduction_is_continued(straight, tmp_path, kill):
    stopped = tmp_path / "stopped"
    # What was started in the background is deaf to an interrupt, and so would be what it starts.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([*COMMAND, stopped], cwd=runner.REPOSITORY)
    signal.signal(signal.SIGINT, handler)
    while not list(stopped.glob(".cells/*/0000.*.nc")):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(kill)
    assert process.wait() != 0
    assert not (stopped / "hard_limit").exists()
    subprocess.run([*COMMAND, stopped], cwd=runner.REPOSITORY, check=True)
    assert runner.read_manifest("hard_limit", stopped)["cells_resumed"] >= 1
    for file in ("hard_limit/data.nc", "figures/hard_limit.svg"):
        assert (stopped / file).read_bytes() == (straight / file).read_bytes()
