"""Soft best-of-n beside its rivals: how fast each approaches the tilted law, what it costs and earns.

Race and rejection approach the tilted law exponentially in n, but only once n exceeds w_max/μ: the race
must have drawn the best outcome, and rejection must know its reward. Soft best-of-n approaches it as
1/n. In the plane of KL(·‖P) and reward all rules stay below the tilted laws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments import problems
from experiments.curves import curves, of_n, of_temperature
from experiments.dataset import REWARD, a_cell_a_problem, assemble, grid, variable
from softbon_jax import bounds
from softbon_jax.sampling import select as selection

PLANE = ("problem", "rule", "plane_temperature")
RULES = ("soft", "race", "poisson", "rejection", "rejection_best", "tilted")
"""Rules with an exact law; the plane compares them at one n, for Poisson the mean."""
NODES = 768


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: names from `experiments.problems`, rewards in [0, 1].
      temperatures: in reward units, for the approach to the tilted law.
      largest_n: the grid of n runs from 1 to here.
      per_octave: points of that grid in each factor of two.
      plane_n: number of candidates in the plane of KL and reward.
      plane_temperatures: number of temperatures for each rule there, from 0.02 to 20.
      regularizations: of inference-time pessimism, whose law is simulated.
      trials: simulated races; a tenth of them for the law of pessimism.
      seed: of the random problems and of the simulations.
    """

    problems: tuple[str, ...] = ("four", "dirichlet", "zipf", "uniform")
    temperatures: tuple[float, ...] = (0.1, 0.2, 0.5)
    largest_n: int = 4096
    per_octave: int = 2
    plane_n: int = 16
    plane_temperatures: int = 41
    regularizations: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    trials: int = 20_000
    seed: int = 0


PAPER = Config()
SMOKE = Config(
    problems=("four", "dirichlet"),
    temperatures=(0.2, 0.5),
    per_octave=1,
    plane_temperatures=9,
    regularizations=(0.05, 0.2),
    trials=2_000,
)

cells = a_cell_a_problem


def compute(config: Config, cell: str) -> xr.Dataset:
    """All rules on the problem called `cell`."""
    on = curves(config, cell, NODES)
    problem, n, soft = on.problem, on.n, on.exact
    race = sb.race_metrics(*on.pairs)
    rejection = sb.law_metrics(problem, sb.log_rejection(*on.pairs), on.temperature[:, None])

    between = jnp.geomspace(0.02, 20.0, config.plane_temperatures)
    size = float(config.plane_n)
    laws = jnp.stack([log_law(rule, problem, size, between) for rule in RULES])
    plane = sb.law_metrics(problem, laws, between[None])
    tilted = np.exp(sb.log_tilted(problem, on.temperature))
    rewards = np.where(np.isfinite(problem.log_probs), problem.rewards, -np.inf)
    pessimism_key, race_key = (problems.cell_key(config.seed, cell, i) for i in (0, 1))
    beta = jnp.asarray(config.regularizations)
    pessimism = sb.simulate_pessimism(
        pessimism_key, problem, config.plane_n, beta, trials=max(config.trials // 10, 2)
    )
    others = np.concatenate([sb.log_best_of_n(problem, n), jnp.log(pessimism.probs)])
    plain = sb.law_metrics(problem, others, 1.0)  # beside P; the tilted law is not asked for
    (hard_kl, pessimist_kl), (hard_reward, pessimist_reward) = (
        np.split(np.asarray(x), [n.size]) for x in (plain.kl_soft_base, plain.reward)
    )
    simulated, expected, error = _simulated_race(race_key, problem, config)

    def of_plane(values: jax.Array, name: str, units: str) -> xr.Variable:
        return variable(values[None], PLANE, name, units)

    def other(values: np.ndarray, dim: str, name: str, units: str) -> xr.Variable:
        return variable(values[None], ("problem", dim), name, units)

    return xr.Dataset(
        {
            "soft_tv": of_n(soft.tv, "TV to the tilted law, soft best-of-n", "1"),
            "race_tv": of_n(race.tv, "TV to the tilted law, race", "1"),
            "rejection_tv": of_n(rejection.tv, "TV to the tilted law, rejection", "1"),
            "tv_upper": of_n(bounds.race_tv_upper(*on.pairs), "(1 - μ/w_max)^n", "1"),
            "soft_kl": of_n(soft.kl_tilted_soft, "KL(P*‖P_n), soft best-of-n", "nats"),
            "race_kl": of_n(race.kl_tilted_soft, "KL(P*‖P_n), race", "nats"),
            "plane_kl": of_plane(plane.kl_soft_base, "KL from the reference law", "nats"),
            "plane_kl_tilted": of_plane(plane.kl_soft_tilted, "KL from the tilted law", "nats"),
            "plane_total": of_plane(jnp.exp(laws).sum(-1), "sum of the probabilities", "1"),
            "best": of_temperature(
                tilted[:, rewards == rewards.max()].sum(-1),
                "P*(best outcome)",
                "1",
            ),
            "plane_reward": of_plane(plane.reward, "mean reward", REWARD),
            "tilted_kl": of_plane(plane.kl_tilted_base, "KL(P*‖P)", "nats"),
            "tilted_reward": of_plane(plane.tilted_reward, "mean reward of the tilted law", REWARD),
            "hard_kl": other(hard_kl, "n", "KL(·‖P), hard best-of-n", "nats"),
            "hard_reward": other(hard_reward, "n", "mean reward, hard best-of-n", REWARD),
            "simulated_pessimism_kl": other(
                pessimist_kl, "regularization", "KL(·‖P), pessimism, simulated", "nats"
            ),
            "simulated_pessimism_reward": other(
                pessimist_reward, "regularization", "mean reward, pessimism, simulated", REWARD
            ),
            "simulated_race": other(simulated, "outcome", "simulated law of the race", "1"),
            "simulated_race_exact": other(expected, "outcome", "its exact value", "1"),
            "simulated_race_se": other(error, "outcome", "binomial standard error", "1"),
        },
        coords=grid(
            problem=[cell],
            temperature=config.temperatures,
            n=on.numbers,
            rule=list(RULES),
            plane_temperature=between,
            regularization=config.regularizations,
            outcome=np.arange(problem.num_outcomes),
        ),
    )


def log_law(rule: str, problem: sb.Problem, n: float, temperature: jax.Array) -> jax.Array:
    """The exact law `[T, K]` of a rule with n candidates."""
    laws = {
        "soft": lambda: sb.log_soft_bon(problem, n, temperature, nodes=NODES),
        "race": lambda: sb.log_uniform_race(problem, n, temperature),
        "poisson": lambda: sb.log_best_of_poisson(problem, n - 1, temperature, nodes=NODES),
        "rejection": lambda: sb.log_rejection(problem, n, temperature),
        "rejection_best": lambda: sb.log_rejection(problem, n, temperature, fallback="best"),
        "tilted": lambda: sb.log_tilted(problem, temperature),
    }
    return laws[rule]()


def _simulated_race(
    key: jax.Array, problem: sb.Problem, config: Config
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies of the race at the first temperature, the exact law, and its standard error."""
    draw_key, race_key = jax.random.split(key)
    temperature, n = config.temperatures[0], config.plane_n
    cumulative = jnp.cumsum(jnp.exp(problem.log_probs))
    level = jax.random.uniform(draw_key, (config.trials, n)) * cumulative[-1]
    drawn = jnp.searchsorted(cumulative, level, side="right")
    index = selection.select_race(race_key, problem.rewards[drawn], temperature)
    picked = jnp.take_along_axis(drawn, index[:, None], axis=1)[:, 0]
    counts = jnp.zeros(problem.num_outcomes).at[picked].add(1.0)
    # At as many temperatures as in the plane, so that one program serves both.
    same = np.full(config.plane_temperatures, temperature)
    law = np.exp(sb.log_uniform_race(problem, float(n), same))[0]
    return np.asarray(counts) / config.trials, law, np.sqrt(law * (1 - law) / config.trials)


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    attributes = {"title": "soft best-of-n and its rivals", "plane_n": config.plane_n}
    return assemble(parts, "problem", attributes)
