"""Write the stored results that fast tests compare with: `python tests/make_reference.py`.

`reference/metrics.json` holds every metric at 28 digits, and the law at 20 where there are at most
10 outcomes; `reference/rare.json` the same for rare best outcomes; `reference/gradients.json` every
derivative at 20. Inputs are float64, written so that they read back exactly. All numbers come from
`oracles`.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import mpmath
import numpy as np
import oracles
from mpmath import mp

COMMAND = "python tests/make_reference.py"
FOLDER = Path(__file__).parent / "reference"
DIGITS = 28
LAW_DIGITS = 20
NS = (1, 1.0001, 1.5, 2, 2.7, 16, 100, 1e3, 1e6, 1e9, 1e12)
RATIOS = (1e-3, 0.1, 1, 3.3, 10, 50, 300, 2000)


class Inputs(NamedTuple):
    """One case to compute."""

    name: str
    log_probs: np.ndarray
    rewards: np.ndarray
    n: float
    temperature: float


def _log(probs: list[float] | np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probs, np.float64))


def _random(seed: int, size: int, concentration: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.log(rng.dirichlet(np.full(size, concentration))), rng.normal(size=size)


def _worst(ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Two outcomes with P(high) = 1 / (1 + e^ratio): chi2(P*, P) is the largest possible."""
    log_probs = np.array([-np.log1p(np.exp(-ratio)), -ratio - np.log1p(np.exp(-ratio))])
    return log_probs, np.array([0.0, 1.0])


TWO = (_log([0.3, 0.7]), np.array([0.0, 1.0]))
FOUR = (_log([0.5, 0.3, 0.1, 0.1]), np.array([0.0, 0.3, 0.6, 1.0]))
THREE_CLOSE = (_log([0.5, 0.3, 0.2]), np.array([0.0, 0.9994, 1.0]))
SMALL = {
    "negative": (_log([0.2, 0.5, 0.3]), np.array([-0.1, -3.2, -1.5])),
    "ties": (_log([0.1, 0.4, 0.2, 0.3]), np.array([0.5, 1.0, 0.0, 1.0])),
    "ties_top_and_bottom": (_log([0.25, 0.25, 0.3, 0.2]), np.array([2.0, -1.0, 2.0, -1.0])),
    "near_ties": (_log([0.4, 0.3, 0.2, 0.1]), np.array([0.5, 0.5 + 1e-9, 0.2, 0.9])),
    "near_ties_top": (_log([0.6, 0.25, 0.15]), np.array([0.0, 1.0, 1.0 - 1e-9])),
    "zero_probability": (_log([0.5, 0.0, 0.3, 0.2]), np.array([0.1, 0.4, 1.0, 0.7])),
    "zero_probability_best": (_log([0.5, 0.3, 0.0, 0.2]), np.array([0.1, 0.4, 5.0, 0.7])),
    "jackpot": (_log([1 - 1e-6, 1e-6]), np.array([0.0, 1.0])),
    "jackpot_of_four": (_log([0.4, 0.4, 0.2 - 1e-6, 1e-6]), np.array([0.0, 0.1, 0.2, 1.0])),
    "rare_worst": (_log([1e-6, 0.5, 0.5 - 1e-6]), np.array([-1.0, 0.2, 0.3])),
    "offset": (_log([0.3, 0.3, 0.4]), np.array([1000.0, 1000.25, 1001.0])),
    "unnormalized": (_log([0.5, 0.3, 0.1, 0.1]) + 1e-15, np.array([0.0, 0.3, 0.6, 1.0])),
}
_ZIPF = np.arange(1.0, 11.0) ** -1.5
LARGE = {
    "dirichlet_10": _random(10, 10),
    "zipf_10": (_log(_ZIPF / _ZIPF.sum()), np.linspace(-1.0, 1.0, 10)),
    "sparse_64": _random(64, 64, 0.1),
    "dirichlet_64": _random(65, 64),
    "dirichlet_200": _random(200, 200),
    "levels_200": (_random(201, 200)[0], np.arange(200) % 5 / 4.0),
}


def _range(log_probs: np.ndarray, rewards: np.ndarray) -> float:
    possible = rewards[np.isfinite(log_probs)]
    return float(possible.max() - possible.min())


def _on(name: str, problem: tuple, n: float, ratio: float) -> Inputs:
    """The case whose temperature is the range of the possible rewards divided by `ratio`."""
    label = f"{name} n={n:g} range/temperature={ratio:g}"
    return Inputs(label, *problem, float(n), _range(*problem) / ratio)


def metric_cases() -> Iterator[Inputs]:
    grid = list(itertools.product(NS, RATIOS))
    for n, ratio in grid:
        # two outcomes far apart at large n: divergences far below the smallest float64, and slow
        if ratio < 2000 or n < 1e3:
            yield _on("two", TWO, n, ratio)
    for k, (n, ratio) in enumerate(grid):
        if k % 2 == 0 and (ratio < 2000 or n < 1e6):
            yield _on("four", FOUR, n, ratio)
    for n in NS:
        yield _on("close", THREE_CLOSE, n, 2000)
        yield _on("close", THREE_CLOSE, n, 300)
    for ratio in (0.1, 1, 3.3, 10, 50, 300):
        for n in (1.5, 16, 1e6, 1e12):
            yield _on("worst", _worst(ratio), n, ratio)
    for start, (name, problem) in enumerate(SMALL.items()):
        # a spread of pairs that differs from problem to problem
        for k in range(12):
            n = NS[(start + 5 * k) % len(NS)]
            yield _on(name, problem, n, RATIOS[(2 * start + 3 * k) % (len(RATIOS) - 1)])
    for n in (1, 2.7, 100, 1e6):
        yield _on("ties", SMALL["ties"], n, 2000)
    for n in (1, 1.5, 16, 1e9):
        rewards = np.full(3, 0.7)
        yield Inputs(f"all_tied n={n:g}", _log([0.2, 0.3, 0.5]), rewards, float(n), 0.3)
    for n in (1, 2, 2.7, 16, 1e3, 1e6, 1e12):
        rewards = np.array([0.3, -1e5, 0.0, 1.0])
        yield Inputs(f"penalty n={n:g}", _log([0.2, 0.1, 0.4, 0.3]), rewards, float(n), 0.3)
    for start, (name, problem) in enumerate(LARGE.items()):
        size = len(problem[0])
        ratios = {10: (0.1, 3.3, 10, 50, 300), 64: (1e-3, 1, 10, 50), 200: (0.1, 3.3, 20)}[size]
        for k, ratio in enumerate(ratios):
            for n in (NS[(start + 2 * k + 1) % len(NS)], NS[(start + 2 * k + 6) % len(NS)]):
                yield _on(name, problem, n, ratio)
    for name, problem in {"four": FOUR, **SMALL, "zipf_10": LARGE["zipf_10"]}.items():
        for n in (2.7, 100) if name != "zipf_10" else (1, 1.0001, 1.5, 16, 1e3):
            yield Inputs(f"{name} n={n:g} temperature=0", *problem, float(n), 0.0)
    for n in (1.0, 16.0, 1e12):
        yield Inputs(f"four n={n:g} temperature=inf", *FOUR, n, np.inf)


def _rare(p: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A best outcome of probability p, at a distance from the others; `size` outcomes."""
    if size == 2:
        return np.array([np.log1p(-p), np.log(p)]), np.array([0.0, 1.0])
    random = np.random.default_rng(size)
    rest = random.dirichlet(np.ones(size - 1)) * (1 - p)
    return np.log(np.append(rest, p)), np.append(np.sort(random.uniform(0, 0.5, size - 1)), 1.0)


def rare_cases() -> Iterator[Inputs]:
    """Rare best outcomes over the whole domain: p, range/temperature, n and K."""
    grid = itertools.product(
        (1e-6, 1e-8, 1e-10, 1e-14, 1e-17, 1e-20),
        (1, 10, 50, 400, 2000),
        (2, 16, 1e4, 1e7, 1e12, 1e15),
    )
    for k, (p, ratio, n) in enumerate(grid):
        if k % 3 == 0:
            few = 2 if ratio >= 400 else (2, 4, 8)[(k // 3) % 3]  # more take minutes each there
            size = 200 if k % 30 == 0 and ratio <= 10 else few
            yield _on(f"rare {p:g} of {size}", _rare(p, size), n, ratio)
    for name, p, n, temperature in (
        ("found in float32", 1e-8, 1e7, 1 / 400),
        ("found in float64", 1e-17, 1e12, 1e-3),
        ("found far out", 1e-16, 1e15, 0.01),
    ):
        yield Inputs(name, *_rare(p, 2), n, temperature)


def gradient_cases() -> Iterator[Inputs]:
    pairs = [
        *((n, ratio) for n in (1, 1.5, 2.7, 16, 1e3, 1e9) for ratio in (0.1, 3.3, 20)),
        *((1.0001, 1), (100, 50), (1e12, 10), (1e6, 1e-3)),
    ]
    for k, (n, ratio) in enumerate(pairs):
        yield _on("two", TWO, n, ratio) if k % 2 else _on("four", FOUR, n, ratio)
    for start, (name, problem) in enumerate(SMALL.items()):
        for k in range(3):
            n, ratio = pairs[(start + 7 * k) % len(pairs)]
            yield _on(name, problem, n, ratio)
    for ratio, n in ((3.3, 16), (10, 1e6)):
        yield _on("worst", _worst(ratio), n, ratio)
    for n in (1.0, 16.0):
        yield Inputs(f"all_tied n={n:g}", _log([0.2, 0.3, 0.5]), np.full(3, 0.7), n, 0.3)
    yield _on("dirichlet_6", _random(6, 6), 2.7, 10)
    yield _on("dirichlet_20", _random(20, 20), 16, 3.3)


def _stored(inputs: Inputs, exact: oracles.Exact) -> dict:
    return {
        "name": inputs.name,
        "log_probs": [repr(float(x)) for x in inputs.log_probs],
        "rewards": [repr(float(x)) for x in inputs.rewards],
        "n": repr(inputs.n),
        "temperature": repr(float(inputs.temperature)),
        "metrics": {m: oracles.decimal(x, DIGITS) for m, x in exact.metrics.items()},
    }


def metric_entry(inputs: Inputs) -> dict:
    exact = oracles.exact_metrics(*inputs[1:])
    case = _stored(inputs, exact)
    if len(inputs.rewards) <= 10:
        for key, values in (("log_law", exact.log_law), ("log_ratio", exact.log_ratio)):
            case[key] = [oracles.decimal(x, LAW_DIGITS) for x in values]
    return case


def gradient_entry(inputs: Inputs) -> dict:
    def text(values: mp.mpf | list[mp.mpf]) -> str | list[str]:
        if isinstance(values, list):
            return [oracles.decimal(x, LAW_DIGITS) for x in values]
        return oracles.decimal(values, LAW_DIGITS)

    gradients = oracles.exact_gradients(*inputs[1:])
    case = _stored(inputs, oracles.exact_metrics(*inputs[1:]))
    case["gradients"] = {v: {m: text(x) for m, x in by.items()} for v, by in gradients.items()}
    return case


def _timed(job: tuple[Callable[[Inputs], dict], Inputs]) -> tuple[dict, float]:
    entry, inputs = job
    start = time.perf_counter()
    return entry(inputs), time.perf_counter() - start


def write(name: str, entry: Callable[[Inputs], dict], inputs: list[Inputs], jobs: int) -> None:
    start, cases = time.perf_counter(), []
    with Pool(jobs) as pool:
        for case, seconds in pool.imap(_timed, [(entry, x) for x in inputs]):
            cases.append(case)
            print(f"{name} {len(cases)}/{len(inputs)} {seconds:6.1f} s  {case['name']}", flush=True)
    header = {
        "command": COMMAND,
        "oracle": {
            "law": "adaptive Gauss-Legendre quadrature of the integral over t, in mpmath",
            "metrics": "plain sums at two resolutions",
            "gradients": "central differences at two steps, 1e-25 and 1e-26",
            "digits_agreeing_at_least": oracles.PROVEN_DIGITS,
            "gradient_digits_agreeing_at_least": oracles.PROVEN_GRADIENT_DIGITS,
            "digits_stored": DIGITS,
            "law_and_gradient_digits_stored": LAW_DIGITS,
            "mpmath": mpmath.__version__,
            "python": sys.version.split()[0],
        },
        "metrics": list(oracles.METRICS),
    }
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = json.dumps(header, indent=1)[:-2] + f',\n "cases": [\n{lines}\n]\n}}\n'
    (FOLDER / f"{name}.json").write_text(text)
    seconds = time.perf_counter() - start
    print(f"{name}.json: {len(cases)} cases, {len(text) / 1e3:.0f} kB, {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=["metrics", "gradients", "rare"])
    parser.add_argument("--every", type=int, default=1, help="only every so many-th case")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    work = {
        "metrics": (metric_entry, metric_cases),
        "gradients": (gradient_entry, gradient_cases),
        "rare": (metric_entry, rare_cases),
    }
    for name in arguments.files:
        entry, cases = work[name]
        write(name, entry, list(cases())[:: arguments.every], arguments.jobs)


if __name__ == "__main__":
    main()
