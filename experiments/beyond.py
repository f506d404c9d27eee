"""Beyond the pool: how often the intervals of the model hold the truth at four times as many draws.

Pools are drawn from known laws, so that the truth is exact: laws whose tail is generalized-Pareto from
some point on, laws that only tend to it, a tail without variance, and scores that are rounded. Each
prompt has a place and a scale of its own. The curve of one study stands beside its pools and the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import xarray as xr
from scipy import stats

import softbon_jax as sb
from experiments.dataset import REWARD, assemble, grid, variable

LAWS: dict[str, Any] = {
    "uniform": stats.uniform(),
    "normal": stats.norm(),
    "exponential": stats.expon(),
    "Student t, 5": stats.t(5),
    "Pareto, ξ = 0.25": stats.genpareto(0.25),
    "Pareto, ξ = 0.6": stats.genpareto(0.6),
    "rounded normal": stats.norm(),
}
REFUSED = ("Pareto, ξ = 0.6", "rounded normal")
"""Those that the model should not be fitted to; their truth is not computed."""
STEP = 0.5
"""To multiples of which the scores of the last one are rounded."""
SCALES = (0.5, 0.8, 1.0, 1.3, 1.6)
"""Of prompts, equally likely."""
SPREAD = 0.3
"""Standard deviation of the places of prompts."""
FACTOR = 4
"""Draws that are predicted, over those of a pool."""
GRID = ("law", "size", "temperature")
SHOWN = ("law", "temperature", "shown_n")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      sizes: N, numbers of candidates in a pool.
      prompts: pools in a study.
      studies: number of studies for each law and size.
      temperatures: in reward units; a law has scale 1, and its prompts have `SCALES`.
      resamples: of the bootstrap.
      shown_n: numbers of draws of the study that is shown, which has pools of the smallest size.
      seed: of the pools.
    """

    sizes: tuple[int, ...] = (16, 64)
    prompts: int = 120
    studies: int = 100
    temperatures: tuple[float, ...] = (0.0,)
    resamples: int = 500
    shown_n: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    seed: int = 0


PAPER = Config()
SMOKE = Config(sizes=(16,), studies=20, temperatures=(0.0,), resamples=100, shown_n=(1, 4, 16, 64))


def cells(config: Config) -> list[str]:
    """One cell a law."""
    return list(LAWS)


def compute(config: Config, cell: str) -> xr.Dataset:
    """Coverage and refusals of one law, and the curve of its first study."""
    index = list(LAWS).index(cell)
    found = []
    for i, size in enumerate(config.sizes):
        truth = _truth(cell, np.array([FACTOR * size]), config.temperatures)[:, 0]
        for study in range(config.studies):
            random = np.random.default_rng((config.seed, index, i, study))
            scores = pools(cell, size, config.prompts, random)
            model = _model(config, study, scores, np.array([FACTOR * size]))[..., 0]
            inside = (model[LOW] <= truth) & (truth <= model[HIGH])
            found.append((inside, ~np.isnan(model[MEAN]), model[MEAN] - truth, truth))
    shape = (len(config.sizes), config.studies, -1)
    columns = (np.reshape(x, shape) for x in zip(*found, strict=True))
    covered, resolved, errors, exact = columns
    count = resolved.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        coverage = (covered & resolved).sum(1) / count
        bias = np.where(resolved, errors, 0.0).sum(1) / count
    every = resolved.mean(1)
    return xr.Dataset(
        {
            "coverage": variable(
                coverage[None], GRID, f"share of intervals with the truth at n = {FACTOR}N", "1"
            ),
            "resolved": variable(every[None], GRID, "share of studies that are resolved", "1"),
            "bias": variable(bias[None], GRID, "mean error of those", REWARD),
            "value": variable(exact[:, 0][None], GRID, "E_{P_n}[r], exact", REWARD),
            **_shown(config, cell),
        },
        coords={
            **grid(law=[cell], size=list(config.sizes), temperature=config.temperatures),
            "shown_n": variable(config.shown_n, ["shown_n"], "number of candidates n", "1"),
        },
    )


MEAN, LOW, HIGH = range(3)


def _model(config: Config, key: int, scores: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Its curve and the ends of its interval, `[3, T, M]`; NaN where it is not resolved.

    Nor is it at a temperature so low that the nodes for the range of a heavy tail are too many.
    """
    curves = []
    for temperature in config.temperatures:
        try:
            model = sb.extrapolate_curve(
                jax.random.key(key), scores, n, temperature, resamples=config.resamples
            )
        except ValueError as error:
            if "high enough" not in str(error):
                raise
            curves.append(np.full((3, n.size), np.nan))
        else:
            curves.append(np.stack([model.mean, model.low, model.high]))
    return np.stack(curves, axis=1)


def pools(name: str, size: int, prompts: int, random: np.random.Generator) -> np.ndarray:
    """Scores `[prompts, size]` of a law, each prompt with a place and a scale."""
    scores = LAWS[name].rvs(size=(prompts, size), random_state=random)
    if name.startswith("rounded"):
        return STEP * np.round(scores / STEP)
    place, scale = random.normal(size=(prompts, 1)), random.choice(SCALES, size=(prompts, 1))
    return SPREAD * place + scale * scores


def _truth(name: str, n: np.ndarray, temperatures: Sequence[float]) -> np.ndarray:
    """`[T, M]`: the mean over prompts of the reward at n."""
    if name in REFUSED:
        return np.full((len(temperatures), n.size), np.nan)
    return np.stack(
        [
            _hard_truth(LAWS[name], n) if t == 0 else _soft_truth(LAWS[name], n, t)
            for t in temperatures
        ]
    )


def _hard_truth(law: Any, n: np.ndarray) -> np.ndarray:
    """∫ r dF^n over s = -log(1 - F), by the trapezoidal rule in log s."""
    log_s = np.linspace(-30.0, np.log(80.0), 4001)
    s = np.exp(log_s)
    law_of_best = n[:, None] * np.exp(-s) * (-np.expm1(-s)) ** (n[:, None] - 1) * s
    return np.mean(SCALES) * np.trapezoid(law_of_best * law.isf(np.exp(-s)), log_s, axis=1)


def _soft_truth(law: Any, n: np.ndarray, temperature: float) -> np.ndarray:
    """The mean over scales, by nodes for the quantile function."""
    exact = sb.from_distribution(
        ppf=law.ppf, temperature=temperature / max(SCALES), n=float(n.max())
    )
    of_scales = [
        scale * np.asarray(sb.sweep(exact, n.astype(float), [temperature / scale]).reward[0])
        for scale in SCALES
    ]
    return np.mean(of_scales, axis=0)


def _shown(config: Config, name: str) -> dict[str, xr.Variable]:
    """The curve of one study by the model, by its pools alone, and exactly."""
    size, n = config.sizes[0], np.array(config.shown_n)
    random = np.random.default_rng((config.seed, list(LAWS).index(name), 0, 0))
    scores = pools(name, size, config.prompts, random)
    model = _model(config, 0, scores, n)
    within = n[n <= size]
    known = np.asarray(sb.pool_curve(scores, within, np.array(config.temperatures)).mean)
    known = np.pad(known, ((0, 0), (0, n.size - within.size)), constant_values=np.nan)
    exact = _truth(name, n, config.temperatures)
    values = {
        "model": (model[MEAN], "by the model"),
        "model_low": (model[LOW], "lower end of its interval"),
        "model_high": (model[HIGH], "upper end"),
        "pool": (known, "by the pools, unbiased"),
        "exact": (exact, "E_{P_n}[r], exact"),
    }
    return {
        key: variable(np.asarray(x)[None], SHOWN, label, REWARD)
        for key, (x, label) in values.items()
    }


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = "beyond the pool: a model of the tail against the truth"
    attributes = {"title": title, "studies": config.studies, "prompts": config.prompts}
    return assemble(parts, "law", attributes)
