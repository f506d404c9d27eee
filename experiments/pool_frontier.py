"""Mean reward against KL for the prompts of a file of reward scores.

The reference law of a prompt is uniform on its candidates, and the exact laws of selection are those of
n draws from it with replacement. For the policy that generated the candidates this plug-in answer has a
bias of O(1/N), N being the size of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import METRICS, REWARD, assemble, grid, metric_variables, variable
from softbon_jax import scores as score_files

GRID = ("prompt", "temperature", "n")
SOFT = ("reward", "kl_soft_base")
TILTED = ("tilted_reward", "kl_tilted_base")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      scores: file that `softbon_jax.scores` reads, one candidate in a row; by default pools are made up.
      prompt_column: column of that file that says which candidates belong together.
      score_column: column of the reward.
      lowest: smallest positive temperature, in units of the range of all scores.
      highest: largest finite temperature, in the same units.
      temperatures: how many, evenly spaced in their logarithm; 0 and inf are added.
      n: numbers of candidates.
      prompts_per_cell: the most prompts that are computed at once.
      made_up: number of prompts that are made up where there is no file.
      seed: of the pools that are made up.
    """

    scores: Path | None = None
    prompt_column: str = "prompt_id"
    score_column: str = "proxy_reward"
    lowest: float = 0.005
    highest: float = 100.0
    temperatures: int = 49
    n: tuple[int, ...] = (1, 2, 4, 8, 16)
    prompts_per_cell: int = 64
    made_up: int = 60
    seed: int = 0


PAPER = Config()
SMOKE = Config(temperatures=13, n=(1, 4), prompts_per_cell=5, made_up=10)


def inputs(config: Config) -> list[Path]:
    """The files that the result depends on."""
    return [] if config.scores is None else [config.scores]


def pools(config: Config) -> score_files.Scores:
    """The scores to work on."""
    if config.scores is None:
        return made_up(config.made_up, config.seed)
    return score_files.read(
        config.scores,
        prompt=config.prompt_column,
        reward=config.score_column,
        gold=None,
        response=None,
    )


def made_up(prompts: int, seed: int) -> score_files.Scores:
    """Pools of 12 to 32 candidates whose prompts differ in mean, spread and skewness."""
    random = np.random.default_rng(seed)
    parts = {}
    for index in range(prompts):
        noise = random.gamma(random.uniform(1, 8), size=random.integers(12, 33))
        parts[f"made up {index}"] = random.normal() + random.uniform(0.3, 1) * noise
    return score_files.padded(parts)


def cells(config: Config) -> list[str]:
    """Consecutive prompts in groups of nearly equal size, as `first-last`, counted from 0."""
    total = len(pools(config).prompts)
    parts = np.array_split(np.arange(total), -(-total // config.prompts_per_cell))
    return [f"{part[0]}-{part[-1]}" for part in parts]


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of the prompts of a cell."""
    scores = pools(config)
    prompts, rewards, where = list(scores.prompts), scores.rewards, scores.where
    spread = np.ptp(rewards[where])
    # Scores that are all equal have no scale of their own, and no temperature matters to them.
    between = np.geomspace(config.lowest, config.highest, config.temperatures) * (spread or 1.0)
    temperature, n = np.array([0.0, *between, np.inf]), jnp.asarray(config.n, float)
    first, last = (int(end) for end in cell.split("-"))
    part = slice(first, last + 1)
    exact = sb.sweep(sb.empirical(rewards[part], where=where[part]), n, jnp.asarray(temperature))
    return xr.Dataset(
        {
            **metric_variables(exact, (*SOFT, "kl_soft_tilted"), GRID),
            **{
                field: variable(getattr(exact, field)[..., 0], GRID[:2], *METRICS[field])
                for field in TILTED
            },
            "pool_mean": variable(
                np.mean(rewards[part], axis=1, where=where[part]),
                ["prompt"],
                "mean score of the pool",
                REWARD,
            ),
            "pool_size": variable(where[part].sum(1), ["prompt"], "candidates in the pool", "1"),
        },
        coords=grid(prompt=prompts[part], temperature=temperature, n=config.n),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order, with means over prompts."""
    source = "pools made up" if config.scores is None else config.scores.name
    title = f"mean reward against KL from the reference law, {source}"
    whole = assemble(parts, "prompt", {"title": title})
    prompts = whole.sizes["prompt"]
    means = {}
    for field in SOFT + TILTED:
        name, units = METRICS[field]
        values, dims = whole[field].values, GRID[1 : whole[field].ndim]
        # One prompt says nothing about the spread between prompts.
        spread = values.std(0, ddof=1) if prompts > 1 else np.full(values.shape[1:], np.nan)
        means[f"mean_{field}"] = variable(values.mean(0), dims, f"{name}, mean over prompts", units)
        means[f"mean_{field}_se"] = variable(
            spread / np.sqrt(prompts), dims, f"{name}, standard error over prompts", units
        )
    return whole.assign(means)
