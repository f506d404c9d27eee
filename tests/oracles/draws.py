"""What simulation and decoding estimate: expectations over tuples of draws, laws of sequences."""

import itertools
from collections.abc import Callable

import numpy as np

from .laws import law_by_counts, softmax
from .precise import Numbers


def normalized(log_probs: Numbers) -> np.ndarray:
    probs = np.exp(np.asarray(log_probs, np.float64))
    return probs / probs.sum()


def expected_log_weight(log_probs: Numbers, rewards: Numbers, n: int, temperature: float) -> float:
    """E log(n p_i), p the softmax over the tuple of candidates and i the selected one."""
    probs, rewards = normalized(log_probs), np.asarray(rewards, np.float64)
    total = 0.0
    for candidates in itertools.product(range(len(probs)), repeat=n):
        drawn = list(candidates)
        selected = softmax(rewards[drawn], temperature)
        total += np.prod(probs[drawn]) * (selected @ np.log(n * selected))
    return total


def expected_fluctuation(log_probs: Numbers, rewards: Numbers, n: int, temperature: float) -> float:
    """E TV(R, P*), R the law of the selected sample given the tuple of candidates."""
    probs, rewards = normalized(log_probs), np.asarray(rewards, np.float64)
    tilted = probs * np.exp((rewards - rewards.max()) / temperature)
    tilted /= tilted.sum()
    total = 0.0
    for candidates in itertools.product(range(len(probs)), repeat=n):
        drawn = list(candidates)
        measure = np.zeros_like(probs)
        np.add.at(measure, drawn, softmax(rewards[drawn], temperature))
        total += np.prod(probs[drawn]) * np.abs(measure - tilted).sum() / 2
    return total


def markov_blocks(
    transitions: np.ndarray, rewards: np.ndarray, state: int, size: int
) -> tuple[list[tuple[int, ...]], list[float], list[float]]:
    """Every block of `size` states after `state`, its log-probability and its total reward.

    `transitions` and `rewards` are [S, S], from the row's state to the column's.
    """
    blocks = list(itertools.product(range(len(transitions)), repeat=size))
    steps = [list(itertools.pairwise((state, *block))) for block in blocks]
    log_probs = [float(sum(np.log(transitions[step]) for step in path)) for path in steps]
    totals = [float(sum(rewards[step] for step in path)) for path in steps]
    return blocks, log_probs, totals


def blockwise_law(
    transitions: np.ndarray,
    rewards: np.ndarray,
    length: int,
    block_size: int,
    n: int,
    temperature: float,
    state: int = 0,
) -> dict[tuple[int, ...], float]:
    """The probability of every sequence decoded by soft best-of-n, block after block."""
    size = min(block_size, length)
    if size == 0:
        return {(): 1.0}
    blocks, log_probs, totals = markov_blocks(transitions, rewards, state, size)
    law = {}
    for block, p in zip(blocks, law_by_counts(log_probs, totals, n, temperature), strict=True):
        rest = blockwise_law(
            transitions, rewards, length - size, block_size, n, temperature, block[-1]
        )
        law |= {block + tail: p * q for tail, q in rest.items()}
    return law


def grouped_jackknife(
    totals: np.ndarray, sizes: np.ndarray, statistic: Callable[[float], float]
) -> tuple[float, float]:
    """Bias-corrected statistic of a mean and its standard error, leaving out one group at a time.

    Busing, Meijer and van der Leeden 1999, with h = trials / (size of the group); groups of size 0
    do not count.
    """
    trials, full = sizes.sum(), statistic(totals.sum() / sizes.sum())
    groups = [(t, s) for t, s in zip(totals, sizes, strict=True) if s > 0]
    left = [statistic((totals.sum() - t) / (trials - s)) for t, s in groups]
    h = [trials / s for _, s in groups]
    corrected = len(groups) * full - sum((1 - 1 / x) * y for x, y in zip(h, left, strict=True))
    pseudo = [x * full - (x - 1) * y for x, y in zip(h, left, strict=True)]
    squares = [(y - corrected) ** 2 / (x - 1) for x, y in zip(h, pseudo, strict=True)]
    return corrected, float(np.sqrt(sum(squares) / len(groups)))
