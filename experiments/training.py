"""A policy trained on what it will be served through, from groups of scored responses alone.

A softmax policy over a dozen responses is trained by Adam, less a price on its divergence from the
reference law P: on the mean reward, on soft best-of-8 and on hard best-of-8, each from groups of 16
responses with `pool_credits`. Two students learn the law P_8 that soft best-of-8 makes of P: from all 16
responses with `pool_weights`, or from one response selected out of each 8 of them. All are compared with
what exact gradients lead to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import softbon_jax as sb
from experiments.dataset import REWARD, assemble, grid, variable

Array = jax.Array

TRAINED, STUDENTS = ("mean", "soft", "hard"), ("weights", "selected")
NODES = 256


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      outcomes: different responses.
      n: candidates of the rule that serves.
      temperature: λ of the soft rule, rewards being uniform on [0, 1].
      price: of a nat of KL(policy‖P), in reward units.
      group: responses in a group.
      groups: in a step.
      steps: of training.
      exact_steps: with exact gradients, for the optimum.
      every: steps between two records.
      learning_rate: of the first step; it falls to 0.
      seed: of the problem and of the responses.
    """

    outcomes: int = 12
    n: int = 8
    temperature: float = 0.1
    price: float = 0.1
    group: int = 16
    groups: int = 32
    steps: int = 600
    exact_steps: int = 2000
    every: int = 10
    learning_rate: float = 0.1
    seed: int = 0


PAPER = Config()
SMOKE = Config(groups=16, steps=200, exact_steps=1000)


def cells(config: Config) -> list[str]:
    """One cell a learner."""
    del config
    return [*TRAINED, *STUDENTS]


def compute(config: Config, cell: str) -> xr.Dataset:
    """The course of one learner, and what exact gradients lead to."""
    problem = made(config)
    key = jax.random.fold_in(jax.random.key(config.seed), cells(config).index(cell))
    rule = (config.n, config.temperature)
    # At λ = inf all n earn the mean; the credits of n = 2 have the others as their baseline.
    trained_on = {"mean": (2, np.inf), "soft": rule, "hard": (config.n, 0.0)}
    if cell in TRAINED:
        path = trained(key, problem, *trained_on[cell], config)
        target = optimum(problem, *trained_on[cell], config)
    else:
        path = taught(key, problem, cell == "weights", config)
        target = sb.log_soft_bon(problem, *rule, nodes=NODES)
    laws = course(problem.log_probs, path, target)
    served, kl = rewards_of(problem, *rule, laws), divergence(problem, laws)
    net = served - config.price * kl
    if cell in TRAINED:
        score = rewards_of(problem, *trained_on[cell], laws) - config.price * kl
    else:
        score = agreement(target, laws)
    net, served, score, kl, laws = (np.asarray(x) for x in (net, served, score, kl, laws))
    distance = np.abs(np.exp(laws[:-1]) - np.exp(laws[-1])).sum(-1) / 2

    def of(values: Any, name: str, units: str) -> xr.Variable:
        return variable(values[None], ("learner", "step"), name, units)

    def of_target(values: Any, name: str, units: str) -> xr.Variable:
        return variable(values[-1:], ["learner"], f"its optimum: {name}", units)

    reward = f"mean reward of soft best-of-{config.n} from the policy"
    cheaper = f"{reward}, less the price of its KL"
    way = "what is left of the way to its own optimum"
    apart = "total variation between the policy and its optimum"
    whole = score[-1] - score[0]
    return xr.Dataset(
        {
            "served": of(served[:-1], reward, REWARD),
            "net": of(net[:-1], cheaper, REWARD),
            "kl": of(kl[:-1], "KL(policy‖P)", "nats"),
            "gap": of((score[-1] - score[:-1]) / whole, way, "1"),
            "tv": of(distance, apart, "1"),
            "target_served": of_target(served, reward, REWARD),
            "target_net": of_target(net, cheaper, REWARD),
            "target_kl": of_target(kl, "KL(policy‖P)", "nats"),
        },
        coords=grid(learner=[cell], step=np.arange(0, config.steps + 1, config.every)),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    attributes = {
        "title": "training on soft best-of-n from groups of responses",
        "n": config.n,
        "price": config.price,
    }
    return assemble(parts, "learner", attributes)


# The learners -------------------------------------------------------------------------------------


def made(config: Config) -> sb.Problem:
    """A reference law and rewards, both at random."""
    logits, rewards = jax.random.split(jax.random.key(config.seed))
    return sb.from_logits(
        jax.random.normal(logits, (config.outcomes,)),
        jax.random.uniform(rewards, (config.outcomes,)),
    )


@jax.jit
def course(start: Array, path: Array, target: Array) -> Array:
    """`[steps + 1, K]`: the log-laws from the start on, and that of the target."""
    laws = jax.nn.log_softmax(jnp.concatenate([start[None], path]))
    return jnp.concatenate([laws, target[None]])


@jax.jit
def divergence(problem: sb.Problem, log_policy: Array) -> Array:
    """`[..]`: KL of policies `[.., K]` from the reference law."""
    base = jnp.broadcast_to(problem.log_probs, log_policy.shape)
    return jnp.sum(jnp.exp(log_policy) * (log_policy - base), axis=-1)


@jax.jit
def rewards_of(problem: sb.Problem, n: Any, temperature: Any, log_policy: Array) -> Array:
    """`[..]`: the exact mean reward of soft best-of-n from policies `[.., K]`."""
    policy = sb.Problem(log_policy, jnp.broadcast_to(problem.rewards, log_policy.shape))
    return jnp.exp(sb.log_soft_bon(policy, n, temperature, nodes=NODES)) @ problem.rewards


@jax.jit
def agreement(log_target: Array, log_policy: Array) -> Array:
    """`[..]`: the mean log-probability of what the teacher says: largest where they agree."""
    return log_policy @ jnp.exp(log_target)


def climbed(gradient: Any, logits: Array, steps: Array, rate: float) -> Array:
    """`[steps, K]`: Adam's course with an estimate of the gradient at (logits, step)."""
    adam = optax.adam(optax.cosine_decay_schedule(rate, len(steps)))

    def step(state: tuple[Array, Any], x: Array) -> tuple[tuple[Array, Any], Array]:
        logits, moments = state
        updates, moments = adam.update(-gradient(logits, x), moments, logits)
        logits = optax.apply_updates(logits, updates)
        return (logits, moments), logits

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        return jax.lax.scan(step, (logits, adam.init(logits)), steps)[1]


@partial(jax.jit, static_argnames="config")
def optimum(problem: sb.Problem, n: Any, temperature: Any, config: Config) -> Array:
    """The log-law at which exact gradients end."""

    def value(logits: Array) -> Array:
        law = jax.nn.log_softmax(logits)
        return rewards_of(problem, n, temperature, law) - config.price * divergence(problem, law)

    def gradient(logits: Array, _: Array) -> Array:
        return jax.grad(value)(logits)

    steps = jnp.arange(config.exact_steps)
    path = climbed(gradient, problem.log_probs, steps, config.learning_rate)
    return jax.nn.log_softmax(path[-1])


@partial(jax.jit, static_argnames="config")
def trained(key: Array, problem: sb.Problem, n: Any, temperature: Any, config: Config) -> Array:
    """Every so many steps the logits of a policy that sees groups of responses and their rewards."""

    def gradient(logits: Array, key: Array) -> Array:
        shape = (config.groups, config.group)
        responses = jax.random.categorical(key, logits, shape=shape)
        credit = sb.pool_credits(problem.rewards[responses], n, temperature, nodes=NODES)

        def value(logits: Array) -> Array:
            law = jax.nn.log_softmax(logits)
            earned = jnp.sum(credit * law[responses], axis=1).mean()
            return earned - config.price * divergence(problem, law)

        return jax.grad(value)(logits)

    keys = jax.random.split(key, config.steps)
    path = climbed(gradient, problem.log_probs, keys, config.learning_rate)
    return path[config.every - 1 :: config.every]


@partial(jax.jit, static_argnames="config")
def taught(key: Array, problem: sb.Problem, all_responses: Any, config: Config) -> Array:
    """Every so many steps the logits of a student of soft best-of-n from the reference law."""
    n, temperature = config.n, config.temperature

    def gradient(logits: Array, key: Array) -> Array:
        drawing, selecting = jax.random.split(key)
        shape = (config.groups, config.group)
        responses = jax.random.categorical(drawing, problem.log_probs, shape=shape)
        rewards = problem.rewards[responses]
        weights = sb.pool_weights(rewards, n, temperature, nodes=NODES)
        chosen = sb.select(selecting, rewards.reshape(-1, n), temperature)
        share = n / config.group
        one = share * jax.nn.one_hot(chosen, n, dtype=weights.dtype).reshape(shape)
        weights = jnp.where(all_responses, weights, one)

        def value(logits: Array) -> Array:
            return jnp.sum(weights * jax.nn.log_softmax(logits)[responses], axis=1).mean()

        return jax.grad(value)(logits)

    keys = jax.random.split(key, config.steps)
    path = climbed(gradient, problem.log_probs, keys, config.learning_rate)
    return path[config.every - 1 :: config.every]
