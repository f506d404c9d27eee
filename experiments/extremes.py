"""Where each bound is attained, and what holds for every problem, on random and on searched problems.

Each bound has a family of problems on which exact value over bound tends to its supremum, 1 or the
factor that the bound gives away. Beside them: monotonicity in real n, Conjecture 4.4 of Beirami et al.,
and a search for problems against the open inequality KL(P*‖P_n) ≤ sinh²(Δ/2λ)/2n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy import special

import softbon_jax as sb
from experiments.dataset import METRICS, REWARD, metric_variables, variable
from experiments.families import FAMILIES, STEPS
from softbon_jax import bounds

NODES = 1024
SEARCH_NODES = 512
RANDOM = ("draw", "temperature", "real_n")
FIELDS = ("reward", "kl_soft_base", "kl_tilted_soft", "kl_soft_tilted", "tv")
UPPERS = ("kl_upper", "kl_upper_linear", "kl_upper_sinh", "kl_upper_quadratic")
BINOMIAL = ("range", "high", "draws")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      problems: random laws, on 5 outcomes, rewards in [0, 1] rounded to a lattice, so that some tie.
      temperatures: in reward units.
      n: real numbers of candidates, in increasing order.
      population: problems in a generation of the search.
      generations: how many.
      ranges: Δ/λ of the two-outcome problems.
      highs: how many probabilities of the better outcome for each of them.
      draws: their numbers of candidates, integers.
      seed: of the random problems and of the search.
    """

    problems: int = 1000
    temperatures: tuple[float, ...] = (0.05, 0.1, 0.3, 1.0, 5.0)
    n: tuple[float, ...] = (1.0, 1.1, 1.5, 1.9, 2.5, 4.2, 9.7, 40.5, 1e3, 1e5)
    population: int = 512
    generations: int = 120
    ranges: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
    highs: int = 101
    draws: tuple[int, ...] = (1, 2, 3, 5, 10, 30, 100, 1000)
    seed: int = 0


PAPER = Config()
SMOKE = Config(
    problems=50, n=(1.0, 1.5, 2.5, 9.7, 1e3), population=128, generations=30, highs=41,
    ranges=(0.1, 1.0, 4.0, 12.0), draws=(1, 2, 5, 30, 1000),
)  # fmt: skip


def cells(config: Config) -> list[str]:
    """The families, random problems, pairs of them, laws by summation, the search, two outcomes."""
    return ["attained", "random", "pairs", "rules", "search", "binomial"]


def compute(config: Config, cell: str) -> xr.Dataset:
    """The piece called `cell`."""
    pieces = {
        "attained": _attained,
        "random": _random,
        "pairs": _pairs,
        "rules": _rules,
        "search": _search,
        "binomial": _binomial,
    }
    return pieces[cell](config)


def _attained(config: Config) -> xr.Dataset:
    """Exact value over bound on each family, step by step."""
    ratio = [np.asarray(family.ratio()) for family in FAMILIES.values()]
    return xr.Dataset(
        {
            "ratio": variable(ratio, ["bound", "step"], "exact value/bound", "1"),
            "factor": variable(
                [family.factor for family in FAMILIES.values()],
                ["bound"],
                "its limit",
                "1",
            ),
        },
        coords={"bound": list(FAMILIES), "step": np.arange(STEPS)},
    )


def laws(random: np.random.Generator, count: int, outcomes: int) -> sb.Problem:
    """Random laws, from nearly uniform to very uneven, and rewards on a lattice of [0, 1]."""
    spread = random.uniform(0.3, 4.0, size=(count, 1))
    rewards = np.round(random.uniform(size=(count, outcomes)) * 12) / 12
    # The range is 1 for all, so that temperatures mean the same.
    rewards[:, 0], rewards[:, 1] = 0.0, 1.0
    return sb.from_logits(spread * random.normal(size=(count, outcomes)), rewards)


def _random(config: Config) -> xr.Dataset:
    """Metrics and bounds of random problems at real n; hard best-of-n beside Beirami's estimator."""
    problem = laws(np.random.default_rng(config.seed), config.problems, 5)
    n, temperature = jnp.asarray(config.n), jnp.asarray(config.temperatures)
    every = sb.sweep(problem, n, jnp.asarray([0.0, *config.temperatures]), nodes=NODES)
    hard = jax.tree.map(lambda x: x[:, 0], every)
    exact = jax.tree.map(lambda x: x[:, 1:], every)
    cases = sb.Problem(*(x[:, None, None] for x in problem))
    on_grid = (cases, n, temperature[:, None])
    rows = sb.Problem(*(x[:, None] for x in problem))
    estimate = bounds.expected_best_of_n_kl_estimate(rows, n)
    drawn = ("draw", "real_n")
    return xr.Dataset(
        {
            **metric_variables(exact, FIELDS, RANDOM),
            **{
                name: variable(getattr(bounds, name)(*on_grid), RANDOM, name, "nats")
                for name in UPPERS
            },
            "kl_base_upper": variable(
                bounds.kl_base_upper(*on_grid), RANDOM, "log(n/(1 + (n-1) e^{-Δ/λ}))", "nats"
            ),
            "kl_tilted_base": variable(
                exact.kl_tilted_base[..., 0], RANDOM[:2], *METRICS["kl_tilted_base"]
            ),
            "hard_kl": variable(hard.kl_soft_base, drawn, "KL(best-of-n‖P)", "nats"),
            "hard_estimate": variable(estimate, drawn, "mean of Beirami's estimator", "nats"),
        },
        coords={
            "real_n": variable(config.n, ["real_n"], "number of candidates n, real", "1"),
            "temperature": variable(config.temperatures, ["temperature"], "temperature λ", REWARD),
        },
    )


def _pairs(config: Config) -> xr.Dataset:
    """KL of selecting two symbols together, and the sum of selecting each, on pairs of problems."""
    random = np.random.default_rng(config.seed + 1)
    one, other = (laws(random, config.problems, 3) for _ in range(2))
    n, temperature = jnp.asarray(config.n), jnp.asarray(config.temperatures)
    together = sb.Problem(
        *(
            (x[:, :, None] + y[:, None, :]).reshape(len(x), -1)
            for x, y in zip(one, other, strict=True)
        )
    )

    def divergence(problem: sb.Problem) -> jax.Array:
        return sb.sweep(problem, n, temperature, nodes=NODES).kl_tilted_soft

    apart, block = divergence(one) + divergence(other), divergence(together)
    pairs = ("pair", *RANDOM[1:])
    return xr.Dataset(
        {
            "kl_together": variable(
                block, pairs, "KL(P*‖P_n), two symbols selected together", "nats"
            ),
            "kl_apart": variable(apart, pairs, "KL(P*‖P_n), each selected by itself", "nats"),
        }
    )


def _rules(config: Config) -> xr.Dataset:
    """Laws beside sums over all draws: of three candidates, two outcomes tied, and of Poisson many."""
    probs, rewards = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.0, 0.5, 0.5, 1.0])
    problem = sb.from_probs(probs, rewards)
    temperature = np.array([0.0, 0.2, 1.0])
    drawn = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
    chance = probs[drawn].prod(1)
    best = rewards[drawn] == rewards[drawn].max(1, keepdims=True)
    weights = np.stack([best, *(np.exp(rewards[drawn] / x) for x in temperature[1:])])
    shares = weights / weights.sum(-1, keepdims=True) * chance[:, None]
    mean = np.stack([(shares * (drawn == x)).sum((1, 2)) for x in range(4)], axis=1)
    nu, most = 3.0, 60
    laws = np.exp(
        sb.log_soft_bon(
            problem, 1.0 + np.arange(most)[:, None], temperature[1:], nodes=SEARCH_NODES
        )
    )
    count = np.arange(most)
    poisson = np.exp(count * np.log(nu) - nu - special.gammaln(count + 1))
    exact = np.exp(sb.log_soft_bon(problem, 3.0, temperature, nodes=SEARCH_NODES))
    soft_poisson = np.exp(sb.log_best_of_poisson(problem, nu, temperature[1:], nodes=SEARCH_NODES))
    tied, positive = ("tied_temperature", "outcome"), ("positive_temperature", "outcome")
    return xr.Dataset(
        {
            "tied_law": variable(exact, tied, "law of soft best-of-3", "1"),
            "tied_mean": variable(mean, tied, "mean over all draws", "1"),
            "poisson_law": variable(soft_poisson, positive, "law of soft best-of-Poisson", "1"),
            "poisson_mixture": variable(
                np.tensordot(poisson, laws, 1), positive, "mixture over the number", "1"
            ),
        },
        coords={"tied_temperature": temperature, "positive_temperature": temperature[1:]},
    )


def _search(config: Config) -> xr.Dataset:
    """The largest KL(P*‖P_n)·n/sinh²(Δ/2λ) of each generation, in two classes.

    A problem has three outcomes, Δ/λ from 0.01 to 14 and n from 1 to 10⁶. Its class has a Δ/λ and an
    n of at least so much. The best eighth of a generation has children, in steps that become smaller.
    """
    random = np.random.default_rng(config.seed + 2)
    highest = np.array([6.0, 14.0, 1.0, np.log(14.0), np.log(1e6)])
    largest = []
    for least_range, least_n in CLASSES:
        lowest = np.array([-14.0, -14.0, 0.0, np.log(least_range), np.log(least_n)])
        born = random.uniform(lowest, highest, size=(config.population, 5))
        kept, values, history = born[:0], np.zeros(0), []
        for generation in range(config.generations):
            kept = np.concatenate([kept, born])
            values = np.concatenate([values, _ratio(born)])
            order = np.argsort(-values)[: config.population // 8]
            kept, values = kept[order], values[order]
            history.append(values[0])
            step = (highest - lowest) * 0.3 * 0.03 ** (generation / config.generations)
            parents = kept[random.integers(len(kept), size=config.population)]
            moved = parents + step * random.normal(size=parents.shape)
            born = np.clip(moved, lowest, highest)
        largest.append(history)
    return xr.Dataset(
        {
            "searched": variable(
                largest, ["class", "generation"], "largest KL(P*‖P_n)/(sinh²(Δ/2λ)/n) found", "1"
            )
        },
        coords={"class": [f"Δ/λ ≥ {least:g}, n ≥ {n:g}" for least, n in CLASSES]},
    )


CLASSES = ((0.01, 1.0), (0.01, 2.0), (1.0, 1.0))
"""Least Δ/λ and n of the problems that are searched. With Δ/λ → 0 and n = 1 the ratio tends to 1/2."""


def _ratio(genes: np.ndarray) -> np.ndarray:
    """KL(P*‖P_n)/(sinh²(Δ/2λ)/n) of each problem; λ = 1."""
    middle, high, place, log_range, log_n = genes.T
    width = np.exp(log_range)
    logits = np.stack([np.zeros_like(high), middle, -high], axis=1)
    rewards = np.stack([np.zeros_like(high), place * width, width], axis=1)
    problem = sb.from_logits(logits, rewards)
    exact = sb.metrics(problem, None, 1.0, log_n=log_n, nodes=SEARCH_NODES).kl_tilted_soft
    return np.asarray(exact / bounds.kl_upper_sinh(problem, None, 1.0, log_n=log_n))


def _binomial(config: Config) -> xr.Dataset:
    """KL(P*‖P_n) and E[A log A] for two outcomes, A the mean of W over the n draws."""
    width = np.array(config.ranges)[:, None, None]
    n = np.array(config.draws, float)
    # From where the tilted law is nearly worst to where it is nearly best.
    logit = np.linspace(-1.5, 0.5, config.highs)[None, :, None] * (width + 2)
    high = special.expit(logit)
    mean = 1 + np.expm1(width) * high
    entropy = np.empty(np.broadcast_shapes(high.shape, n.shape))
    for i, number in enumerate(config.draws):
        count = np.arange(number + 1)
        log_choices = -special.betaln(number - count + 1, count + 1) - np.log(number + 1)
        chance = np.exp(
            log_choices
            + count * special.log_expit(logit)
            + (number - count) * special.log_expit(-logit)
        )
        average = (1 + np.expm1(width) * count / number) / mean
        gain = average * np.log(average) - (average - 1)
        entropy[..., i] = (chance * gain).sum(-1)
    zero = np.zeros_like(logit)
    problem = sb.from_logits(
        np.concatenate([zero, logit], axis=-1)[:, :, None],
        np.stack(np.broadcast_arrays(0.0, width), axis=-1),
    )
    exact = sb.metrics(problem, n, 1.0, nodes=SEARCH_NODES).kl_tilted_soft
    return xr.Dataset(
        {
            "two_kl": variable(exact, BINOMIAL, "KL(P*‖P_n), two outcomes", "nats"),
            "two_entropy": variable(entropy, BINOMIAL, "E[A log A]", "nats"),
            "two_bound": variable(
                bounds.kl_upper(problem, n, 1.0), BINOMIAL, "log(1 + CV²/n)", "nats"
            ),
            "two_half": variable(
                bounds.kl_upper_sinh(problem, n, 1.0) / 2, BINOMIAL, "sinh²(Δ/2λ)/2n", "nats"
            ),
        },
        coords={"range": list(config.ranges), "draws": list(config.draws)},
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    title = "where the bounds are attained, and what holds for every problem"
    return xr.merge(parts, combine_attrs="drop_conflicts").assign_attrs(title=title)
