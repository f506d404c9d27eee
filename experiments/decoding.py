"""A Markov chain decoded by blocks of different sizes: reward and KL, exactly and by running `decode`.

The reward of a token depends on the token before it, so that a good token now can spoil the next one.
Selection symbol by symbol is short-sighted, however many candidates it has. Longer blocks look farther
ahead and come closer to the frontier of all laws on sequences, but need more candidates.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import METRICS, REWARD, assemble, grid, variable
from experiments.symbols import scheme

GRID = ("block_size", "temperature", "n")
NODES = 512

TRANSITIONS = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.4, 0.2, 0.4]])
REWARDS = np.array([[0.0, 0.8, -0.3], [-0.5, -0.9, -1.5], [0.0, 0.2, 1.0]])
"""The chain, and the reward for going from one token (row) to another (column). Token 1 is bait: it pays
at once and costs as much later. Token 2 costs at first and pays for as long as the chain stays there."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      length: number of tokens.
      block_sizes: tokens in a block.
      temperatures: in reward units.
      n: numbers of candidates for each block.
      decoded_n: a subset of n at which `decode` is also run.
      decoded_temperature: the temperature at which it is run, one of `temperatures`.
      runs: decoded sequences for each block size and n.
      seed: of the decoding.
    """

    length: int = 6
    block_sizes: tuple[int, ...] = (1, 2, 3, 6)
    temperatures: tuple[float, ...] = (0.1, 0.3, 1.0)
    n: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    decoded_n: tuple[int, ...] = (8,)
    decoded_temperature: float = 0.3
    runs: int = 8192
    seed: int = 0


PAPER = Config()
SMOKE = Config(length=4, block_sizes=(1, 4), temperatures=(0.3,), n=(1, 4, 16), decoded_n=(4,),
    runs=2048)  # fmt: skip


def cells(config: Config) -> list[str]:
    """A cell for each block size."""
    return [str(size) for size in config.block_sizes]


def step(key: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One token of the chain, for `softbon_jax.decode`; the state is the previous token."""
    token = jax.random.categorical(key, jnp.log(jnp.asarray(TRANSITIONS))[state])
    token = token.astype(state.dtype)
    return token, token, jnp.asarray(REWARDS)[state, token]


def sequences(start: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All sequences that follow a token: `[S, length]`, their log-probabilities and rewards `[S]`."""
    tokens = np.array(list(itertools.product(range(len(TRANSITIONS)), repeat=length)))
    before = np.column_stack([np.full(len(tokens), start), tokens[:, :-1]])
    return (
        tokens,
        np.log(TRANSITIONS)[before, tokens].sum(1),
        REWARDS[before, tokens].sum(1),
    )


def exact(config: Config, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean reward and KL of sequences `[T, N]`, and log P_n/P of the blocks `[T, N, 3, S]`.

    They are summed block by block, over the law of the last token of the previous block.
    """
    tokens = [sequences(start, size) for start in range(len(TRANSITIONS))]
    problem = sb.Problem(*(jnp.stack([x[i] for x in tokens]) for i in (1, 2)))
    n, temperature = np.array(config.n, float), np.array(config.temperatures)
    batch = sb.Problem(*(x[None, None] for x in problem))
    arguments = (batch, n[:, None], temperature[:, None, None])
    log_law = np.asarray(sb.log_soft_bon(*arguments, nodes=NODES))
    law, log_ratio = np.exp(log_law), log_law - np.asarray(problem.log_probs)
    reward = np.sum(law * np.asarray(problem.rewards), axis=-1)
    kl = np.sum(law * log_ratio, axis=-1)
    ends = np.stack([law[..., tokens[0][0][:, -1] == x].sum(-1) for x in range(3)], axis=-1)
    now = np.broadcast_to(np.eye(3)[0], (*kl.shape[:2], 3))
    total_reward, total_kl = np.zeros(kl.shape[:2]), np.zeros(kl.shape[:2])
    for _ in range(config.length // size):
        total_reward = total_reward + np.sum(now * reward, axis=-1)
        total_kl = total_kl + np.sum(now * kl, axis=-1)
        now = np.einsum("...s,...se->...e", now, ends)
    return total_reward, total_kl, log_ratio


@functools.partial(jax.jit, static_argnames=("length", "size", "n", "runs"))
def decoded(key: jax.Array, temperature: Any, length: int, size: int, n: int, runs: int) -> Any:
    """Many decoded sequences."""

    def one(key: jax.Array) -> sb.Decoded:
        return sb.decode(
            key, jnp.int32(0), step, length=length, block_size=size, n=n, temperature=temperature
        )

    return jax.vmap(one)(jax.random.split(key, runs))


def compute(config: Config, cell: str) -> xr.Dataset:
    """All temperatures and n of one block size, some of them also by `decode`."""
    size = int(cell)
    if config.length % size:
        raise ValueError(f"block_sizes must divide length = {config.length}, got {size}")
    reward, kl, log_ratio = exact(config, size)
    row = config.temperatures.index(config.decoded_temperature)
    powers = len(TRANSITIONS) ** np.arange(size)[::-1]
    estimates = []
    for n in config.decoded_n:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), size), n)
        out = decoded(key, config.decoded_temperature, config.length, size, n, config.runs)
        blocks = np.asarray(out.tokens).reshape(config.runs, -1, size)
        before = np.column_stack([np.zeros(config.runs, int), blocks[:, :-1, -1]])
        # The law of a block is known, so log P_n/P of what a run selected is exact.
        table = log_ratio[row, config.n.index(n)]
        of_run = (np.asarray(out.rewards).sum(1), table[before, blocks @ powers].sum(1))
        estimates.append([(x.mean(), x.std(ddof=1) / np.sqrt(config.runs)) for x in of_run])
    values = np.array(estimates)[None]  # [1, decoded n, reward and KL, value and error]

    def estimate(i: int, j: int, long_name: str, units: str) -> xr.Variable:
        return variable(values[..., i, j], ("block_size", "decoded_n"), long_name, units)

    return xr.Dataset(
        {
            "reward": variable(reward[None], GRID, METRICS["reward"][0], REWARD),
            "kl_soft_base": variable(kl[None], GRID, *METRICS["kl_soft_base"]),
            "decoded_reward": estimate(0, 0, "mean reward of decoded sequences", REWARD),
            "decoded_reward_se": estimate(0, 1, "its standard error", REWARD),
            "decoded_kl_soft_base": estimate(
                1, 0, "mean of log P_n/P of decoded sequences", "nats"
            ),
            "decoded_kl_soft_base_se": estimate(1, 1, "its standard error", "nats"),
        },
        coords=grid(
            block_size=[scheme(size)],
            temperature=config.temperatures,
            n=config.n,
            decoded_n=list(config.decoded_n),
        ),
    )


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order, and the frontier of all laws."""
    _, log_probs, totals = sequences(0, config.length)
    slopes = np.geomspace(1e-3, 1e3, 121)
    log_q = log_probs + slopes[:, None] * (totals - totals.max())
    log_q -= np.logaddexp.reduce(log_q, axis=1)[:, None]
    q = np.exp(log_q)
    whole = assemble(
        parts,
        "block_size",
        {"title": "a Markov chain decoded by blocks", "decoded_temperature": config.decoded_temperature,
         "runs": config.runs},
    )  # fmt: skip
    return whole.assign(
        frontier_kl=variable(
            np.sum(q * (log_q - log_probs), axis=1), ["slope"], "KL of tilted laws", "nats"
        ),
        frontier_reward=variable(q @ totals, ["slope"], "mean reward of tilted laws", REWARD),
    ).assign_coords(slope=variable(slopes, ["slope"], "1/λ of tilted laws", f"1/({REWARD})"))
