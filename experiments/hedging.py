"""Hedging a proxy: the gold reward against n, ν and 1/λ, and the exact optimum of each rule.

The proxy is uniform on [0, 1], r(u) = u, and the gold reward is u^p (1 - u): it rises with the proxy
until u = p/(p+1) and then falls. At finite n the optimal 1/λ of soft best-of-n is above that of the
tilted law, its limit at n = inf.

A further cell has prompts whose gold reward turns down at different proxy rewards. There n and λ are
chosen jointly within one budget of draws and each of several budgets of KL, shared by all prompts or
separately for each.
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
from experiments.problems import unit_range

PLAIN = ("hard", "poisson", "tilted")
NODES = 768
"""Of every allocation; with one range of rewards besides, one program serves all of them."""
STEP = 0.01
"""Relative change of a budget from which its worth is computed."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      power: p of the gold reward.
      outcomes: equally likely proxy rewards that stand in for a uniform one.
      n: numbers of candidates of soft best-of-n, one curve for each.
      points: on each curve, with n, ν or 1/λ from 2 to 60.
      prompts: random laws on 4 outcomes that share the budgets.
      draws: the mean number of candidates that they may draw.
      kl: budgets of mean KL(P_n‖P), nats.
      seed: of the laws.
    """

    power: int = 12
    outcomes: int = 1024
    n: tuple[int, ...] = (16, 32, 64, 128)
    points: int = 60
    prompts: int = 6
    draws: float = 8.0
    kl: tuple[float, ...] = (0.05, 0.2, 0.8)
    seed: int = 0


PAPER = Config()
SMOKE = Config(outcomes=128, points=9, prompts=2, draws=4.0, kl=(0.38,))


def cells(config: Config) -> list[str]:
    """One for the prompts that share a budget, which takes longest, and one a rule."""
    return ["allocation", *PLAIN, "soft"]


def compute(config: Config, cell: str) -> xr.Dataset:
    """The curves of gold reward of the rule `cell` and their optima, or the allocations."""
    if cell == "allocation":
        return _allocation(config)
    problem = sb.uniform_quantiles(config.outcomes)
    gold = problem.rewards**config.power * (1 - problem.rewards)
    x = jnp.geomspace(2.0, 60.0, config.points)
    tilt = sb.hedge(problem, gold, rule="tilted")
    curves, best, inverse = [cell], tilt, cell in ("tilted", "soft")
    if cell == "hard":
        laws = sb.log_best_of_n(problem, x)
        best = sb.hedge(problem, gold, rule="hard")
    elif cell == "poisson":
        laws = sb.log_best_of_poisson(problem, x, 0.0)
        best = sb.hedge(problem, gold, rule="poisson")
    elif cell == "tilted":
        laws = sb.log_tilted(problem, 1 / x)
    else:
        n = jnp.asarray(config.n, float)
        curves = [f"soft_{size}" for size in config.n]
        best = sb.hedge(problem, gold, n=n)
        laws = sb.log_soft_bon(problem, n[:, None], 1 / x)
    missed = best.gold
    if cell == "soft":
        missed = jnp.exp(sb.log_soft_bon(problem, n, tilt.value)) @ gold

    def of_curve(value: jax.Array, name: str, units: str) -> xr.Variable:
        return variable(np.atleast_1d(value), ["curve"], name, units)

    return xr.Dataset(
        {
            "gold": variable(
                np.atleast_2d(jnp.exp(laws) @ gold),
                ["curve", "strength"],
                "mean gold reward",
                REWARD,
            ),
            "best": of_curve(
                1 / best.value if inverse else best.value,
                "parameter of the largest gold reward",
                "1",
            ),
            "best_gold": of_curve(best.gold, "largest mean gold reward", REWARD),
            "gold_by_tilt": of_curve(missed, "mean gold reward at the optimum of the tilt", REWARD),
        },
        coords=grid(curve=curves, strength=np.asarray(x)),
    )


def _allocation(config: Config) -> xr.Dataset:
    """What the budgets earn: with the best common n and λ, with those of each prompt, and on a grid."""
    keys = jax.random.split(jax.random.key(config.seed), config.prompts)
    prompts = unit_range(jax.vmap(lambda key: sb.dirichlet(key, 4))(keys))
    turn = jnp.linspace(0.6, 1.4, config.prompts)[:, None]  # gold falls with the proxy beyond this
    gold = prompts.rewards * (2 * turn - prompts.rewards)
    # A grid of common λ and n, and what its points cost.
    temperature, n = jnp.geomspace(0.02, 20.0, 40), jnp.linspace(1.0, config.draws, 15)
    cases = sb.Problem(*(x[:, None, None] for x in prompts))
    laws = sb.log_soft_bon(cases, n[None, None], temperature[None, :, None])
    earned = (jnp.exp(laws) @ gold[:, None, :, None])[..., 0].mean(0)
    spent = jnp.sum(jnp.exp(laws) * (laws - cases.log_probs), axis=-1).mean(0)

    def best(draws: float, kl: float, *, shared: bool = False) -> sb.Allocation:
        return sb.allocate(prompts, gold, draws=draws, kl=kl, shared=shared, nodes=NODES)

    def worth(less: tuple[float, float], more: tuple[float, float]) -> float:
        """The difference quotient of what budgets earn, in the one by which they differ."""
        gained = float(best(*more).gold.mean() - best(*less).gold.mean())
        return gained / (sum(more) - sum(less))

    columns, draws, low, high = [], config.draws, 1 - STEP, 1 + STEP
    for kl in config.kl:
        common, each = (best(draws, kl, shared=shared) for shared in (True, False))
        on_grid = jnp.max(jnp.where(spent <= kl, earned, -jnp.inf))
        overdraft = [
            max(float(x.kl_base.mean()) / kl, float(x.n.mean()) / draws) for x in (common, each)
        ]
        columns.append(
            (
                on_grid,
                common.gold.mean(),
                each.gold.mean(),
                max(overdraft),
                each.price_kl,
                each.price_draws,
                worth((draws, kl * low), (draws, kl * high)) if each.kl_binds else np.nan,
                worth((draws * low, kl), (draws * high, kl)) if each.draws_bind else np.nan,
            )
        )
    names = {
        "grid_gold": ("largest mean gold reward of a grid of common n and λ", REWARD),
        "common_gold": ("mean gold reward of the best common n and λ", REWARD),
        "each_gold": ("mean gold reward with n and λ for each prompt", REWARD),
        "budget_used": ("largest share of a budget that is used", "1"),
        "price_kl": ("mean gold reward that one more nat would earn", f"{REWARD} per nat"),
        "price_draws": ("mean gold reward that one more draw would earn", f"{REWARD} per draw"),
        "worth_kl": (
            "its difference quotient in the budget of KL, where that binds",
            f"{REWARD} per nat",
        ),
        "worth_draws": (
            "its difference quotient in the budget of draws, where that binds",
            f"{REWARD} per draw",
        ),
    }
    values = zip(names.items(), np.asarray(columns).T, strict=True)
    return xr.Dataset(
        {name: variable(x, ["kl_budget"], *labels) for (name, labels), x in values},
        coords={
            "kl_budget": variable(config.kl, ["kl_budget"], "budget of mean KL(P_n‖P)", "nats")
        },
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = f"gold reward u^{config.power} (1 - u) selected by the proxy u"
    attributes = {"title": title, "power": config.power, "outcomes": config.outcomes}
    return assemble(parts[1:], "curve", attributes).merge(parts[0])
