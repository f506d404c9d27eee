"""Digits that are proved: headline numbers beside rigorous enclosures of them.

Each number as the library computes it in float64, and how far it can be from the true one at most,
by ball arithmetic (`enclosures`). Inequalities that random problems meet up to rounding are proved at
named problems the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from flint import arb

import softbon_jax as sb
from experiments import enclosures, symbols
from experiments.dataset import variable
from softbon_jax import bounds

EXAMPLE = ((0.5, 0.3, 0.1, 0.1), (0.0, 0.3, 0.6, 1.0))
"""The law and the rewards of the README."""

FEW, ORDER = 16, 0.3
"""Candidates, and the order of a divergence, where one value of each formula is enough."""

RARE = ((1 - 2.0**-20, 2.0**-20), (0.0, 1.0))
"""A prize that about a million candidates find: the bounds on the divergence are close there."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      temperature: of the example and of the symbol, in reward units.
      rare_temperature: of the rare prize.
      n: integers of at least 2.
    """

    temperature: float = 0.3
    rare_temperature: float = 0.05
    n: tuple[int, ...] = (2, 16, 1024, 10**6, 10**12)


PAPER = Config()
SMOKE = Config(n=(2, 16, 10**12))


def cells(config: Config) -> list[str]:
    """One cell: all of it takes a second."""
    return ["all"]


def compute(config: Config, cell: str) -> xr.Dataset:
    """Every number with its distance from the truth, and every inequality with its excess."""
    with enclosures.precise():
        parts = (_of_laws, _of_rates, _of_thresholds, _of_bounds, _of_other_laws, _of_pairs)
        rows = [row for part in parts for row in part(config)]
        names, groups, values, balls = zip(*rows, strict=True)
        far = [enclosures.distance(x, ball) for x, ball in zip(values, balls, strict=True)]
        inequalities = list(_inequalities(config))
    return xr.Dataset(
        {
            "value": variable(values, ["number"], "as computed in float64", "its own"),
            "distance": variable(far, ["number"], "largest relative distance from the truth", "1"),
            "group": variable(groups, ["number"], "what it belongs to", "1"),
            "excess": variable(
                [excess for _, _, excess in inequalities], ["inequality"],
                "upper end of exact/bound - 1", "1",
            ),
            "bound": variable([x for x, _, _ in inequalities], ["inequality"], "the bound", "1"),
        },
        coords={
            "number": np.array(names, object),
            "inequality": np.array([f"{x}, {where}" for x, where, _ in inequalities], object),
        },
    )  # fmt: skip


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The one cell, with a title."""
    return parts[0].assign_attrs(title="numbers enclosed by ball arithmetic")


Row = tuple[str, str, float, enclosures.Ball]  # name, group, as computed, enclosure


def _of_laws(config: Config) -> Iterator[Row]:
    problem = sb.from_probs(*EXAMPLE)
    exact = enclosures.laws(*EXAMPLE, config.temperature)
    measured = sb.metrics(problem, np.array(config.n, float), config.temperature)
    ours = np.exp(sb.log_soft_bon(problem, np.array(config.n, float), config.temperature))
    for i, n in enumerate(config.n):
        ratios = enclosures.soft_ratios(exact, n)
        for k, (p, ratio) in enumerate(zip(exact.tilted, ratios, strict=True)):
            yield f"P_n({k + 1}), n = {n:g}", "law", float(ours[i, k]), p * ratio
        kl = enclosures.relative_entropy(exact.tilted, ratios)
        yield f"KL(P*‖P_n), n = {n:g}", "divergence", float(measured.kl_tilted_soft[i]), kl
        gap = enclosures.reward_gap(exact, ratios)
        yield f"reward gap, n = {n:g}", "divergence", float(measured.reward_gap[i]), gap


def _of_rates(config: Config) -> Iterator[Row]:
    problem, t = sb.from_probs(*EXAMPLE), config.temperature
    exact = enclosures.laws(*EXAMPLE, t)
    mean = exact.expect(lambda w, r: w)  # 1 + CV²
    spread = sum(
        (_fluctuation(exact, k) for k in range(len(exact.base))), arb(0)
    ) / (2 * arb.pi()).sqrt()  # fmt: skip
    rates = {
        "Var(W)/2": (
            bounds.kl_asymptote_coefficient,
            exact.expect(lambda w, r: (w - mean) ** 2) / 2,
        ),
        "Cov(r, W)": (
            bounds.reward_gap_asymptote_coefficient,
            exact.expect(lambda w, r: r * (w - mean)),
        ),
        "E|1 + CV² - W|/2": (
            bounds.tv_asymptote_coefficient,
            exact.expect(lambda w, r: abs(mean - w)) / 2,
        ),
        "of E TV(R, P*)": (bounds.fluctuation_asymptote_coefficient, spread),
        "CV²": (bounds.cv_squared, mean - 1),
    }
    for name, (ours, ball) in rates.items():
        yield name, "constant", float(ours(problem, t)), ball


def _fluctuation(exact: enclosures.Laws, k: int) -> enclosures.Ball:
    """The standard deviation of W(X)(1{X = k} - P*(k)) under P."""
    target = exact.tilted[k]
    total = arb(0)
    for i, (p, w) in enumerate(zip(exact.base, exact.weights, strict=True)):
        total += p * w**2 * ((1 if i == k else 0) - target) ** 2
    return total.sqrt()


def _of_thresholds(config: Config) -> Iterator[Row]:
    symbol, t = symbols.build("thirds"), config.temperature
    exact = enclosures.laws([0.5, 0.3, 0.1, 0.1], [0.0, 1 / 3, 2 / 3, 1.0], t)
    d = exact.expect(lambda w, r: w.log())
    upper = exact.expect(lambda w, r: w).log()
    yield "D = KL(P*‖P)", "constant", float(bounds.threshold_exponent(symbol, t)), d
    yield "log(1 + CV²)", "constant", float(bounds.threshold_exponent_upper(symbol, t)), upper


def _of_bounds(config: Config) -> Iterator[Row]:
    """Values of bounds and asymptotes at `FEW`, away from where they are attained."""
    problem, t = sb.from_probs(*EXAMPLE), config.temperature
    exact = enclosures.laws(*EXAMPLE, t)
    mean = exact.expect(lambda w, r: w)
    variance = exact.expect(lambda w, r: (w - mean) ** 2)
    upper, asymptote = bounds.kl_upper(problem, FEW, t), bounds.kl_asymptote(problem, FEW, t)
    yield "log(1 + CV²/n)", "formula", float(upper), (1 + (mean - 1) / FEW).log()
    yield "Var(W)/2n²", "formula", float(asymptote), variance / (2 * arb(FEW) ** 2)
    of_block = float(bounds.block_kl_upper(problem, 3, FEW, t))
    yield "log(1 + ((1 + CV²)³ - 1)/n)", "formula", of_block, (1 + (mean**3 - 1) / FEW).log()
    worst = float(bounds.cv_squared(sb.worst_case(2.0), 1.0))
    yield "CV² of the worst case, sinh²(Δ/2λ)", "formula", worst, arb(1).sinh() ** 2


def _of_other_laws(config: Config) -> Iterator[Row]:
    """Rejection with `FEW` draws, a tail, the noise of a judge, and a divergence of another order."""
    problem, t = sb.from_probs(*EXAMPLE), config.temperature
    exact = enclosures.laws(*EXAMPLE, t)
    log_law = sb.log_rejection(problem, FEW, t)
    refused = (1 - exact.mean) ** FEW
    triples = zip(exact.base, exact.tilted, exact.weights, strict=True)
    for k, (p, tilted, w) in enumerate(triples):
        rest = p * (1 - w * exact.mean) / (1 - exact.mean)
        law = (1 - refused) * tilted + refused * rest
        yield f"rejection, P_n({k + 1})", "formula", float(np.exp(log_law[k])), law
    ratios = enclosures.soft_ratios(exact, FEW)
    soft = enclosures.selected(exact, ratios)
    selected = sb.Problem(sb.log_soft_bon(problem, FEW, t), problem.rewards)
    most = exact.rewards[1]
    below = sum((q for q, r in zip(soft, exact.rewards, strict=True) if r <= most), arb(0))
    tail = float(sb.tail_probability(selected, problem.rewards[1]))
    yield "P_n(r ≤ r(2))", "formula", tail, below
    noise = sb.normal_noise(t)
    spread = float(np.sum(noise.weights * noise.values**2))
    yield "the variance of normal noise, σ²", "formula", spread, arb(t) ** 2
    order = arb(ORDER)
    pairs = zip(exact.tilted, ratios, strict=True)
    moment = sum((p * x**order for p, x in pairs), arb(0))
    of_order = float(sb.renyi(problem, FEW, t, ORDER))
    yield f"D_α(P_n‖P*), α = {ORDER}", "formula", of_order, moment.log() / (order - 1)


def _of_pairs(config: Config) -> Iterator[Row]:
    """Two symbols selected together, by `FEW` pairs."""
    probs, rewards = EXAMPLE
    tenths = [round(10 * x) for x in rewards]  # totals that tie must tie here too
    pairs = [(i, j) for i in range(len(probs)) for j in range(len(probs))]
    exact = enclosures.laws(
        [arb(probs[i]) * arb(probs[j]) for i, j in pairs],
        [float(tenths[i] + tenths[j]) for i, j in pairs],
        10 * config.temperature,
    )
    symbol = sb.from_probs(probs, np.array(tenths, float))
    measured = sb.blockwise_metrics(symbol, 2, FEW, 10 * config.temperature)
    ratios = enclosures.soft_ratios(exact, FEW)
    kl = enclosures.relative_entropy(exact.tilted, ratios)
    yield "KL(P*‖P_n) of pairs", "divergence", float(measured.kl_tilted_soft), kl
    gap = enclosures.reward_gap(exact, ratios)
    yield "reward gap of pairs", "divergence", float(measured.reward_gap), gap
    spent = enclosures.spent(exact, ratios)
    yield "KL(P_n‖P) of pairs", "divergence", float(measured.kl_soft_base), spent
    most = exact.expect(lambda w, r: w.log())
    yield "KL(P*‖P) of pairs", "divergence", float(measured.kl_tilted_base), most


def _inequalities(config: Config) -> Iterator[tuple[str, str, float]]:
    """The bound, where, and the upper end of exact/bound - 1."""
    places = (
        (EXAMPLE, config.temperature, "example"),
        (RARE, config.rare_temperature, "rare prize"),
    )
    for (probs, rewards), t, place in places:
        exact = enclosures.laws(probs, rewards, t)
        cv = exact.expect(lambda w, r: w) - 1
        span = (max(exact.rewards) - min(exact.rewards)) / arb(t)
        reward = exact.expect(lambda w, r: r)
        excess = exact.expect(lambda w, r: r * w) / reward - 1
        d = exact.expect(lambda w, r: w.log())
        yield "D ≤ log(1 + CV²)", place, _excess(d / (1 + cv).log())
        yield "KL(P*‖P) ≤ (Δ/λ)²/8", place, _excess(8 * d / span**2)
        for n in config.n:
            ratios = enclosures.soft_ratios(exact, n)
            kl = enclosures.relative_entropy(exact.tilted, ratios)
            spent = enclosures.spent(exact, ratios)
            gap = enclosures.reward_gap(exact, ratios) / reward
            most = (n / (1 + (n - 1) * (-span).exp())).log()
            where = f"{place}, n = {n:g}"
            yield "KL(P*‖P_n) ≤ log(1 + CV²/n)", where, _excess(kl / (1 + cv / n).log())
            yield "KL(P*‖P_n) ≤ sinh²(Δ/2λ)/n", where, _excess(kl * n / (span / 2).sinh() ** 2)
            yield (
                "relative gap ≤ M/(n + M), M = E_{P*}[rW]/E_{P*}[r] - 1",
                where,
                _excess(gap * (n + excess) / excess),
            )
            yield "KL(P_n‖P) ≤ log(n/(1 + (n-1)e^{-Δ/λ}))", where, _excess(spent / most)
            yield "KL(P_n‖P) ≤ KL(P*‖P)", where, _excess(spent / d)


def _excess(ratio: enclosures.Ball) -> float:
    return float((ratio - 1).upper())
