"""Three estimates of a best-of-n curve from pools: their bias, and the coverage of their intervals.

Pools are drawn from a known law, so that the truth is exact. The U-statistic averages over all subsets
of the pool; the plug-in treats the pool as the law; the bootstrap draws n candidates from the pool with
replacement, which is a noisy plug-in. The last two are too low, the more so the closer n is to N.
Besides the studies of small pools, the U-statistic is averaged over very many large ones.

Further cells: the divergence from pools, with and without the jackknife; selection by all noisy judges
but one, valued by that one or by all; and advice on tables in which no point is better than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr
from scipy import special

import softbon_jax as sb
from experiments.dataset import REWARD, assemble, grid, variable
from softbon_jax.command import advice

GRID = ("temperature", "estimator", "n")
ATTRIBUTES = ("size", "prompts", "studies", "large_size", "large_pools", "tables")
OTHERS = ("divergence", "judges", "advice")
JUDGES = 4
NOISE = 1.5
"""Standard deviation of the noise of a judge; that of the true score is 1."""
ESTIMATORS = ("U-statistic", "plug-in", "bootstrap")
DIVERGENCE_N, DIVERGENCE_TEMPERATURE = 8, 1.0
"""Where KL(P_n‖P) is estimated."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      outcomes: of the law, which are equally likely quantiles of a standard normal reward.
      size: N, the number of candidates in a pool.
      prompts: pools in a study, over which standard errors are taken.
      studies: number of studies.
      resamples: of the bootstrap, for each pool and n.
      temperatures: in reward units; the reward has a standard deviation of about 1.
      n: numbers of candidates.
      seed: of the pools.
      large_size: N of the large pools.
      large_pools: how many of them.
      large_n: numbers of candidates from them.
      divergence_pools: pools from which a divergence is estimated.
      judged_pools: pools that judges score.
      tables: tables for advice.
    """

    outcomes: int = 256
    size: int = 32
    prompts: int = 50
    studies: int = 200
    resamples: int = 20
    temperatures: tuple[float, ...] = (0.0, 0.3)
    n: tuple[int, ...] = (1, 2, 4, 8, 16, 24, 32)
    seed: int = 0
    large_size: int = 256
    large_pools: int = 10_000
    large_n: tuple[int, ...] = (16, 64, 256)
    divergence_pools: int = 4000
    judged_pools: int = 20_000
    tables: int = 2000


PAPER = Config()
SMOKE = Config(
    outcomes=64,
    size=16,
    prompts=25,
    studies=40,
    resamples=4,
    n=(1, 2, 4, 16),
    large_size=64,
    large_pools=1000,
    large_n=(4, 16, 64),
    divergence_pools=2000,
    judged_pools=2000,
    tables=200,
)


def cells(config: Config) -> list[str]:
    """A cell for each temperature, and one each for divergences, judges and advice."""
    return [*(f"{temperature:g}" for temperature in config.temperatures), *OTHERS]


def law(config: Config) -> sb.Problem:
    """Quantiles of a standard normal reward."""
    ranks = sb.uniform_quantiles(config.outcomes)
    return sb.Problem(ranks.log_probs, jax.scipy.special.ndtri(ranks.rewards))


def compute(config: Config, cell: str) -> xr.Dataset:
    """All estimates at one temperature, or one of the other studies."""
    others = {"divergence": _divergence, "judges": _judges, "advice": _advice}
    if cell in others:
        return others[cell](config)
    index = cells(config).index(cell)
    temperature, problem = config.temperatures[index], law(config)
    draw_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), index))[0]
    large_key = jax.random.fold_in(jax.random.key(config.seed), len(config.temperatures) + index)
    total = config.studies * config.prompts
    drawn = jax.random.randint(draw_key, (total, config.size), 0, config.outcomes)
    pools = problem.rewards[drawn]
    curve = sb.pool_curve(pools, config.n, temperature)
    estimates = np.stack(
        [
            curve.per_prompt,
            sb.plug_in_curve(pools, config.n, temperature).per_prompt,
            _bootstrap(np.random.default_rng([config.seed, index]), pools, config, temperature),
        ],
        axis=1,
    )
    exact = np.asarray(_exact(config).reward)[index]
    truth, large_truth = np.split(exact[:-1], [len(config.n)])
    # [studies, prompts, estimator, n]
    studies = estimates.reshape(config.studies, config.prompts, *estimates.shape[1:])
    center = studies.mean(1)
    error = studies.std(1, ddof=1) / np.sqrt(config.prompts)
    large_bias, large_se = _large(large_key, problem, config, temperature, large_truth)
    large_grid = ("temperature", "large_n")
    covered = np.abs(center - truth) <= 1.96 * error
    return xr.Dataset(
        {
            "truth": variable(truth[None], ["temperature", "n"], "E_{P_n}[r], exact", REWARD),
            "bias": variable((estimates - truth).mean(0)[None], GRID, "mean error", REWARD),
            "bias_se": variable(
                estimates.std(0, ddof=1)[None] / np.sqrt(total),
                GRID,
                "standard error of it",
                REWARD,
            ),
            "spread": variable(
                estimates.std(0, ddof=1)[None], GRID, "standard deviation between pools", REWARD
            ),
            "own_se": variable(
                np.asarray(curve.standard_error)[None],
                ["temperature", "n"],
                "standard error of the mean U-statistic, its own",
                REWARD,
            ),
            "coverage": variable(
                covered.mean(0)[None], GRID, "share of 95% intervals that hold the truth", "1"
            ),
            "large_bias": variable(
                large_bias[None], large_grid, "mean error of the U-statistic, large pools", REWARD
            ),
            "large_bias_se": variable(large_se[None], large_grid, "standard error of it", REWARD),
        },
        coords=grid(
            temperature=[temperature],
            estimator=list(ESTIMATORS),
            n=config.n,
            large_n=config.large_n,
        ),
        attrs={name: getattr(config, name) for name in ATTRIBUTES},
    )


def _exact(config: Config) -> sb.Metrics:
    """All temperatures and all n of the studies, those of the divergence last: one program."""
    n = (*config.n, *config.large_n, DIVERGENCE_N)
    temperatures = (*config.temperatures, DIVERGENCE_TEMPERATURE)
    return sb.sweep(law(config), np.array(n, float), np.array(temperatures))


def _large(
    key: jax.Array, problem: sb.Problem, config: Config, temperature: float, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean error of the U-statistic over large pools, and its standard error, on the same draws."""
    drawn = jax.random.randint(key, (config.large_pools, config.large_size), 0, config.outcomes)
    curve = sb.pool_curve(problem.rewards[drawn], config.large_n, temperature)
    return np.asarray(curve.mean - truth), np.asarray(curve.standard_error)


def _mean_and_error(values: np.ndarray, name: str, units: str) -> dict[str, xr.Variable]:
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    return {
        name: variable(values.mean(0), [], f"mean error, {name.replace('_', ' ')}", units),
        f"{name}_se": variable(error, [], "standard error of it", units),
    }


def _divergence(config: Config) -> xr.Dataset:
    """KL(P_n‖P) from pools of 32 at n = 8: the plug-in and the jackknife."""
    problem, size = law(config), 32
    key = jax.random.fold_in(jax.random.key(config.seed), 100)
    drawn = jax.random.randint(key, (config.divergence_pools, size), 0, config.outcomes)
    estimate = sb.pool_kl(problem.rewards[drawn], DIVERGENCE_N, DIVERGENCE_TEMPERATURE)
    truth = float(_exact(config).kl_soft_base[-1, -1])
    return xr.Dataset(
        {
            **_mean_and_error(np.ravel(estimate.plug_in) - truth, "plug_in_kl", "nats"),
            **_mean_and_error(np.ravel(estimate.per_prompt) - truth, "jackknifed_kl", "nats"),
        }
    )


def _judges(config: Config) -> xr.Dataset:
    """What the best of 8 by all judges but one is worth, by that judge and by all of them.

    For normal scores E_{P_n}[true score] is Cov(true, mean of judges)/Var(mean) times E_{P_n}[mean].
    """
    random, n, size = np.random.default_rng(config.seed), 8, 16
    true = random.normal(size=(config.judged_pools, size))
    noise = NOISE * random.normal(size=(config.judged_pools, size, JUDGES))
    judges = true[..., None] + noise
    half = len(judges) // 2
    known = sb.leave_one_out_curve(judges[:half], n, 0.0)
    traced = jax.jit(lambda x: sb.leave_one_out_curve(x, n, 0.0))(judges[half:])  # other code
    left_out = np.concatenate([known.per_prompt, traced.per_prompt])
    by_all = sb.pool_curve(judges[..., 1:].mean(-1), n, 0.0).per_prompt
    variance = 1 + NOISE**2 / (JUDGES - 1)
    u, weight = np.polynomial.legendre.leggauss(200)
    quantile = jax.scipy.special.ndtri((u + 1) / 2)
    largest = np.sum(weight / 2 * n * ((u + 1) / 2) ** (n - 1) * np.asarray(quantile))
    truth = largest / np.sqrt(variance)
    return xr.Dataset(
        {
            **_mean_and_error(np.ravel(left_out) - truth, "left_out", REWARD),
            **_mean_and_error(np.ravel(by_all) - truth, "by_the_same", REWARD),
        }
    )


def _advice(config: Config) -> xr.Dataset:
    """The value of the best of eight equal points, false advice, and false alarms."""
    random, prompts, n = (
        np.random.default_rng(config.seed),
        60,
        np.array([1, 2, 3, 4, 6, 8, 12, 16, 32]),
    )
    corrected, advised, alarms = np.zeros((config.tables, 2)), 0, 0
    for i in range(config.tables):
        gold = random.normal(size=(prompts, 1, n.size))
        even = advice.Table(np.zeros(1), n, gold, gold, np.zeros_like(gold), np.arange(prompts))
        alarms += advice.overoptimized(even, 0.0, seed=i, samples=400).finding == "turns down"
        advised += advice.choose(even, seed=i, samples=400).ok
        gold[:, :, 0] -= 2  # of a single response, so that the advice is clear
        choice = advice.choose(even, seed=i, samples=400)
        corrected[i] = choice.value, gold.mean(0).max()
    return xr.Dataset(
        {
            **_mean_and_error(corrected[:, 0], "advised_value", REWARD),
            **_mean_and_error(corrected[:, 1], "largest_mean", REWARD),
            "false_advice": variable(advised / config.tables, [], "share with advice", "1"),
            "false_alarms": variable(alarms / config.tables, [], "share that turns down", "1"),
        }
    )


def _bootstrap(
    random: np.random.Generator, pools: jax.Array, config: Config, temperature: float
) -> np.ndarray:
    """`[pools, M]`: the softmax average of n draws with replacement, averaged over resamples."""
    columns = []
    for n in config.n:
        index = random.integers(config.size, size=(len(pools), config.resamples, n))
        rewards = np.take_along_axis(np.asarray(pools)[:, None], index, axis=2)
        if temperature == 0:
            columns.append(rewards.max(2).mean(1))
        else:
            weights = special.softmax(rewards / temperature, axis=2)
            columns.append((weights * rewards).sum(2).mean(1))
    return np.stack(columns, axis=1)


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = f"estimates of best-of-n from pools of {config.size}"
    attributes = {name: getattr(config, name) for name in ATTRIBUTES}
    count = len(config.temperatures)
    whole = assemble(parts[:count], "temperature", {"title": title, **attributes})
    whole = whole.merge(xr.merge(parts[count:]))
    return whole.assign_coords(grid(temperature=config.temperatures))
