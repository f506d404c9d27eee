"""Proxy and gold reward against n and KL for pools of scores, and the recommended n and λ.

The pools are those of `pool_factory`, with a proxy for each number of preference pairs in training, or
those of a file that has gold scores. Reward curves are unbiased; standard errors are over prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from experiments import pool_factory
from experiments.dataset import REWARD, assemble, grid, variable
from softbon_jax import scores as score_files
from softbon_jax.command import advice, report

GRID = ("proxy", "temperature", "n")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      scores: file of scores; by default pools are generated.
      prompt_column: of that file.
      score_column: of that file: the proxy.
      gold_column: of that file.
      prompts: number of generated prompts.
      responses: generated for each prompt.
      pairs: numbers of preference pairs that the proxies are trained on.
      relative_temperatures: λ in units of the typical spread of a prompt's scores; inf is added.
      n: numbers of responses.
      budget: largest mean KL(P_n‖P) of the recommended point, in nats.
      seed: of the pools and the bootstrap.
    """

    scores: Path | None = None
    prompt_column: str = "prompt_id"
    score_column: str = "proxy_reward"
    gold_column: str = "gold_reward"
    prompts: int = 128
    responses: int = 128
    pairs: tuple[int, ...] = (128, 1024, 16384)
    relative_temperatures: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8)
    n: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    budget: float = 3.0
    seed: int = 0


PAPER = Config()
SMOKE = Config(
    prompts=96,
    responses=64,
    pairs=(128, 8192),
    relative_temperatures=(0.0, 0.4),
    n=(1, 2, 4, 8, 16, 32, 64),
)


def inputs(config: Config) -> list[Path]:
    """The files that the result depends on."""
    return [] if config.scores is None else [config.scores]


def cells(config: Config) -> list[str]:
    """A cell for each proxy."""
    return ["file"] if config.scores else [f"{count} pairs" for count in config.pairs]


def pools(config: Config, cell: str) -> score_files.Scores:
    """The scores of one proxy, with the gold scores."""
    if config.scores is not None:
        return score_files.read(
            config.scores,
            prompt=config.prompt_column,
            reward=config.score_column,
            gold=config.gold_column,
        )
    made = pool_factory.make(
        pool_factory.Config(
            prompts=config.prompts, responses=config.responses, pairs=config.pairs, seed=config.seed
        )
    )
    proxy = made.proxies[cells(config).index(cell)]
    names = [f"p{i}" for i in range(config.prompts)]
    return score_files.padded(
        dict(zip(names, proxy, strict=True)), dict(zip(names, made.gold, strict=True))
    )


def compute(config: Config, cell: str) -> xr.Dataset:
    """The curves of one proxy."""
    scores = pools(config, cell)
    spread = np.median([scores.rewards[i, w].std() for i, w in enumerate(scores.where)])
    temperature = np.array([*(x * spread for x in config.relative_temperatures), np.inf])
    table = advice.tabulate(scores, np.array(config.n), temperature)
    choice = advice.choose(table, kl=config.budget, seed=config.seed)
    verdict = advice.overoptimized(table, 0.0, seed=config.seed)
    chosen = np.zeros(table.reward.shape[1:])
    if choice.ok:
        chosen[table.temperature == choice.temperature, table.n == choice.n] = 1

    def curve(values: np.ndarray, name: str, units: str) -> dict[str, xr.Variable]:
        mean, error = report.means(values)
        return {
            "mean": variable(mean[None], GRID, f"mean {name}", units),
            "se": variable(error[None], GRID, f"standard error of mean {name}", units),
        }

    assert table.gold is not None  # a gold column was asked for
    assert scores.gold is not None
    parts = {
        "proxy_reward": curve(table.reward, "proxy reward", REWARD),
        "gold": curve(table.gold, "gold reward", REWARD),
        "kl": curve(table.kl, "KL(P_n‖P), jackknifed", "nats"),
    }
    one = ["proxy"]
    single = [scores.gold[i, w].mean() for i, w in enumerate(scores.where)]
    return xr.Dataset(
        {
            **{f"{key}_{name}": x for key, both in parts.items() for name, x in both.items()},
            "chosen": variable(chosen[None], GRID, "whether the point is recommended", "1"),
            "spread": variable([spread], one, "typical spread of a prompt's proxy rewards", REWARD),
            "pool_mean": variable(
                [np.mean(single)], one, "mean gold reward of a single response", REWARD
            ),
            "gold_drop": variable(
                [verdict.drop], one, "gold at its peak less at the largest n", REWARD
            ),
            "gold_drop_se": variable([verdict.drop_se], one, "standard error of that drop", REWARD),
            "p_value": variable(
                [verdict.p_value], one, "p-value of no over-optimization, hard best-of-n", "1"
            ),
        },
        coords={
            **grid(proxy=[cell], n=config.n),
            "temperature": variable(
                [*config.relative_temperatures, np.inf],
                ["temperature"],
                "temperature λ, in spreads of the proxy",
                "reward units",
            ),
        },
        attrs={"budget": config.budget},
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    source = "pools made by the factory" if config.scores is None else config.scores.name
    title = f"proxy and gold reward against n, {source}"
    return assemble(parts, "proxy", {"title": title, "budget": config.budget})
