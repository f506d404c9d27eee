"""Pools with a gold reward and proxies that over-optimize, generated in seconds without downloads.

A policy writes token sequences. A gold reward rises with a trait of theirs up to a level that is seldom
reached, and falls beyond it. Proxy reward models learn the gold reward from noisy preferences between
pairs of the policy's sequences. A few pairs teach that the reward rises but not where it turns, so that
selection by such a proxy goes too far: the synthetic setup of Gao, Schulman and Hilton
(arXiv:2210.10760), with everything small.

python -m experiments.pool_factory --out scores.csv.gz writes what `softbon analyze` reads.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from softbon_jax.command import compilation_cache

Array = jax.Array


@dataclass(frozen=True)
class Config:
    """Settings of the factory.

    Attributes:
      prompts: number of prompts, each with a preferred mixture of tokens (its taste).
      responses: sequences for each prompt.
      pairs: numbers of preference pairs that the proxies are trained on.
      tokens: size of the alphabet.
      length: of the sequences.
      stuck: share of sequences that keep repeating a token, and so have much of some trait.
      knee: the level of the trait, in standard deviations of other sequences, where gold starts to fall.
      turn: how much gold falls for each unit of the trait beyond the knee.
      noise: scale of the logistic noise in a preference, in gold units.
      hidden: units of a proxy's hidden layer.
      steps: of Adam.
      seed: of everything random.
    """

    prompts: int = 128
    responses: int = 256
    pairs: tuple[int, ...] = (128, 1024, 16384)
    tokens: int = 6
    length: int = 24
    stuck: float = 0.04
    knee: float = 1.5
    turn: float = 2.0
    noise: float = 0.5
    hidden: int = 16
    steps: int = 400
    seed: int = 0


class Pools(NamedTuple):
    """`gold` `[prompts, N]`, `proxies` `[S, prompts, N]` and their `accuracy` `[S]` on new pairs."""

    gold: np.ndarray
    proxies: np.ndarray
    accuracy: np.ndarray


def make(config: Config) -> Pools:
    """The pools; equal configs give equal pools.

    Args:
      config: settings.

    Returns:
      `Pools`, whose proxies are scaled to standard deviation 1 within prompts.
    """
    keys = iter(jax.random.split(jax.random.key(config.seed), 6))
    # A taste is a direction in the space of token counts.
    tastes = jax.random.normal(next(keys), (config.prompts, config.tokens))
    tastes /= jnp.linalg.norm(tastes, axis=1, keepdims=True)
    features = write_sequences(next(keys), config, config.prompts, config.responses)
    asked = (next(keys), next(keys))
    training = _pairs(asked[0], config, tastes, max(config.pairs))
    held_out = _pairs(asked[1], config, tastes, 4096)
    initial = _initial(next(keys), config)
    proxies, accuracy = [], []
    for count in config.pairs:
        few = jax.tree.map(lambda x, count=count: x[:count], training)
        with jax.numpy_dtype_promotion("standard"):  # which Optax's Adam relies on
            weights = _train(initial, few, config.steps)
        inputs = jnp.broadcast_to(tastes[:, None], (*features.shape[:2], config.tokens))
        proxies.append(_score(weights, features, inputs))
        first, second = (
            _score(weights, x, held_out.taste) for x in (held_out.first, held_out.second)
        )
        accuracy.append(jnp.mean((first > second) == (held_out.gap > 0)))
    scores = jnp.stack(proxies)
    scores /= jnp.sqrt(jnp.mean(jnp.var(scores, axis=2, keepdims=True), axis=1, keepdims=True))
    gold = gold_reward(features, tastes[:, None], config)
    return Pools(np.asarray(gold), np.asarray(scores), np.asarray(jnp.stack(accuracy)))


@partial(jax.jit, static_argnames=("config", "prompts", "responses"))
def write_sequences(key: Array, config: Config, prompts: int, responses: int) -> Array:
    """Standardized token counts `[prompts, responses, tokens]` of sequences from a Markov policy.

    The next token repeats the last one with probability 1/3 (9/10 in sequences that are stuck) and is
    otherwise uniform on the alphabet.
    """
    first_key, stuck_key, key = jax.random.split(key, 3)
    shape = (prompts, responses)
    stay = jnp.where(jax.random.uniform(stuck_key, shape) < config.stuck, 0.9, 1 / 3)

    def step(token: Array, key: Array) -> tuple[Array, Array]:
        stay_key, fresh_key = jax.random.split(key)
        fresh = jax.random.randint(fresh_key, shape, 0, config.tokens)
        token = jnp.where(jax.random.uniform(stay_key, shape) < stay, token, fresh)
        return token, jax.nn.one_hot(token, config.tokens, dtype=float)

    start = jax.random.randint(first_key, shape, 0, config.tokens)
    _, written = jax.lax.scan(step, start, jax.random.split(key, config.length))
    share = 1 / config.tokens
    # Repeating with probability 1/3 doubles the variance of independent draws.
    spread = jnp.sqrt(2 * config.length * share * (1 - share))
    return (jnp.sum(written, axis=0) - config.length * share) / spread


def gold_reward(features: Array, tastes: Array, config: Config) -> Array:
    """The trait, the component of the features along the taste, less `turn` times its excess."""
    trait = jnp.sum(features * tastes, axis=-1)
    return trait - config.turn * jnp.maximum(trait - config.knee, 0.0)


class _Preferences(NamedTuple):
    """Features of pairs `[pairs, tokens]`, the taste, and by how much the first was preferred."""

    first: Array
    second: Array
    taste: Array
    gap: Array


def _pairs(key: Array, config: Config, tastes: Array, count: int) -> _Preferences:
    prompt_key, write_key, noise_key = jax.random.split(key, 3)
    taste = tastes[jax.random.randint(prompt_key, (count,), 0, config.prompts)]
    written = write_sequences(write_key, config, count, 2)
    gold = gold_reward(written, taste[:, None], config)
    noise = config.noise * jax.random.logistic(noise_key, (count,))
    return _Preferences(written[:, 0], written[:, 1], taste, gold[:, 0] - gold[:, 1] + noise)


def _initial(key: Array, config: Config) -> dict[str, Array]:
    inner_key, outer_key = jax.random.split(key)
    width = 3 * config.tokens
    inner = jax.random.normal(inner_key, (width, config.hidden)) / jnp.sqrt(width)
    outer = jax.random.normal(outer_key, (config.hidden,)) / jnp.sqrt(config.hidden)
    return {"inner": inner, "bias": jnp.zeros(config.hidden), "outer": outer}


def _score(weights: dict[str, Array], features: Array, taste: Array) -> Array:
    """A proxy: one hidden layer on the features, the taste and their product."""
    inputs = jnp.concatenate([features, taste, features * taste], axis=-1)
    hidden = jax.nn.softplus(
        inputs @ weights["inner"] + weights["bias"].reshape((1,) * (inputs.ndim - 1) + (-1,))
    )
    return hidden @ weights["outer"]


@partial(jax.jit, static_argnames="steps")
def _train(weights: dict[str, Array], pairs: _Preferences, steps: int) -> dict[str, Array]:
    """Weights that Adam finds for the Bradley-Terry likelihood, with a little weight decay."""
    preferred = jnp.sign(pairs.gap)
    adam = optax.adamw(0.02, weight_decay=1e-3)

    def loss(weights: dict[str, Array]) -> Array:
        lead = _score(weights, pairs.first, pairs.taste) - _score(
            weights, pairs.second, pairs.taste
        )
        return jnp.mean(jax.nn.softplus(-preferred * lead))

    def step(state: Any, _: None) -> tuple[Any, None]:
        weights, moments = state
        updates, moments = adam.update(jax.grad(loss)(weights), moments, weights)
        return (optax.apply_updates(weights, updates), moments), None

    (weights, _), _ = jax.lax.scan(step, (weights, adam.init(weights)), None, length=steps)
    return weights


def write(config: Config, path: Path) -> None:
    """Write the pools as CSV, gzipped for .gz; `proxy_reward` is the proxy of the fewest pairs."""
    pools = make(config)
    header = ["prompt_id", "response_id", "proxy_reward", "gold_reward"]
    header += [f"proxy_{count}" for count in config.pairs]
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        for prompt in range(config.prompts):
            for response in range(config.responses):
                own = [f"{x:.6g}" for x in pools.proxies[:, prompt, response]]
                gold = f"{pools.gold[prompt, response]:.6g}"
                table.writerow([f"p{prompt:04d}", response, own[0], gold, *own])


@dataclass(frozen=True)
class Command:
    """Make pools and write them to a file.

    Attributes:
      out: CSV file, gzipped if its name ends in .gz.
      settings: of the factory.
    """

    out: Path
    settings: tyro.conf.OmitArgPrefixes[Config] = Config()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    jax.config.update("jax_enable_x64", True)
    compilation_cache.enable()
    command = tyro.cli(Command, args=arguments, prog="python -m experiments.pool_factory")
    write(command.settings, command.out)
    print(command.out)


if __name__ == "__main__":
    main()
