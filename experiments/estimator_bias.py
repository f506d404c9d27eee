"""Three estimates of a best-of-n curve from pools: their bias, and the coverage of their intervals.

Pools are drawn from a known law, so that the truth is exact. The U-statistic averages over all subsets
of the pool; the plug-in treats the pool as the law; the bootstrap draws n candidates from the pool with
replacement, which is a noisy plug-in. The last two are too low, the more so the closer n is to N.
Besides the studies of small pools, the U-statistic is averaged over very many large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import REWARD, assemble, grid, variable

GRID = ("temperature", "estimator", "n")
ATTRIBUTES = ("size", "prompts", "studies", "large_size", "large_pools")
ESTIMATORS = ("U-statistic", "plug-in", "bootstrap")


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
    large_pools: int = 20_000
    large_n: tuple[int, ...] = (16, 64, 256)


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
)


def cells(config: Config) -> list[str]:
    """A cell for each temperature."""
    return [f"{temperature:g}" for temperature in config.temperatures]


def law(config: Config) -> sb.Problem:
    """Quantiles of a standard normal reward."""
    ranks = sb.uniform_quantiles(config.outcomes)
    return sb.Problem(ranks.log_probs, jax.scipy.special.ndtri(ranks.rewards))


def compute(config: Config, cell: str) -> xr.Dataset:
    """All estimates at one temperature."""
    index = cells(config).index(cell)
    temperature, problem = config.temperatures[index], law(config)
    draw_key, boot_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), index))
    large_key = jax.random.fold_in(jax.random.key(config.seed), len(config.temperatures) + index)
    total = config.studies * config.prompts
    drawn = jax.random.randint(draw_key, (total, config.size), 0, config.outcomes)
    pools = problem.rewards[drawn]
    estimates = np.stack(
        [
            sb.pool_curve(pools, config.n, temperature).per_prompt,
            sb.plug_in_curve(pools, config.n, temperature).per_prompt,
            _bootstrap(boot_key, pools, config, temperature),
        ],
        axis=1,
    )
    truth = np.asarray(sb.metrics(problem, np.array(config.n, float), temperature).reward)
    # [studies, prompts, estimator, n]
    studies = estimates.reshape(config.studies, config.prompts, *estimates.shape[1:])
    center = studies.mean(1)
    error = studies.std(1, ddof=1) / np.sqrt(config.prompts)
    large_bias, large_se = _large(large_key, problem, config, temperature)
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


def _large(
    key: jax.Array, problem: sb.Problem, config: Config, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """The mean error of the U-statistic over large pools, and its standard error, on the same draws."""
    drawn = jax.random.randint(key, (config.large_pools, config.large_size), 0, config.outcomes)
    curve = sb.pool_curve(problem.rewards[drawn], config.large_n, temperature)
    truth = sb.metrics(problem, np.array(config.large_n, float), temperature).reward
    return np.asarray(curve.mean - truth), np.asarray(curve.standard_error)


def _bootstrap(key: jax.Array, pools: jax.Array, config: Config, temperature: float) -> np.ndarray:
    """`[pools, M]`: the softmax average of n draws with replacement, averaged over resamples."""
    columns = []
    for i, n in enumerate(config.n):
        shape = (len(pools), config.resamples, n)
        index = jax.random.randint(jax.random.fold_in(key, i), shape, 0, config.size)
        rewards = jnp.take_along_axis(pools[:, None], index, axis=2)
        if temperature == 0:
            columns.append(jnp.mean(jnp.max(rewards, axis=2), axis=1))
        else:
            weights = jax.nn.softmax(rewards / temperature, axis=2)
            columns.append(jnp.mean(jnp.sum(weights * rewards, axis=2), axis=1))
    return np.stack(columns, axis=1)


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = f"estimates of best-of-n from pools of {config.size}"
    attributes = {name: getattr(config, name) for name in ATTRIBUTES}
    whole = assemble(parts, "temperature", {"title": title, **attributes})
    return whole.assign_coords(grid(temperature=config.temperatures))
