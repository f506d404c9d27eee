"""Peaks over a threshold: a generalized-Pareto tail above a high draw of each pool, by L-moments.

The k draws of a pool that exceed its (k+1)-th largest are, less that draw, independent draws of the law
of excesses. Their first L-moments have unbiased estimates at any k; for a generalized-Pareto law with
index ξ < 1 and scale σ they are λ₁ = σ/(1-ξ), λ₂ = λ₁/(2-ξ), λ₃ = λ₂ (1+ξ)/(3-ξ). So the ratio of sums
over pools of any scales gives one index that is consistent however few exceed the threshold of each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Excesses(NamedTuple):
    """What the tails of sorted pools are fitted to.

    Attributes:
      number: `[prompts]` k, how many exceed the threshold.
      threshold: `[prompts]` the next draw.
      moments: `[3, prompts]` unbiased estimates of λ₁, λ₂ and λ₃ of the excesses.
      tied: share of the excesses that are equal to the next one, or 0.
    """

    number: np.ndarray
    threshold: np.ndarray
    moments: np.ndarray
    tied: float


def default_count(size: np.ndarray) -> np.ndarray:
    """The square root of N, at least 4: it grows, and its share of N falls."""
    return np.maximum(4, np.sqrt(size).astype(int))


def excesses(rewards: np.ndarray, count: np.ndarray) -> Excesses:
    """Those of pools `[prompts, N]`, best first, k of at least 3 and below the size of the pool."""
    rank = np.arange(rewards.shape[1])[None]
    k = count[:, None]
    threshold = np.take_along_axis(rewards, k, axis=1)
    over = np.where(rank < k, rewards - threshold, 0.0)
    below = np.where(rank < k, k - 1.0 - rank, 0.0)  # how many of the excesses are smaller
    means = [
        (over * weight).sum(1) / count
        for weight in (1.0, below / (k - 1), below * (below - 1) / ((k - 1) * (k - 2)))
    ]
    moments = np.stack([means[0], 2 * means[1] - means[0], 6 * means[2] - 6 * means[1] + means[0]])
    same = (rewards[:, :-1] == rewards[:, 1:]) & (rank[:, :-1] < k)
    return Excesses(count, threshold[:, 0], moments, float(same.sum() / count.sum()))


def index_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """ξ from λ₁ and λ₂, or from sums of them over pools."""
    return 2 - first / second


def misfit_of(index: np.ndarray, second: np.ndarray, third: np.ndarray) -> np.ndarray:
    """How far λ₃/λ₂ is from that of a generalized-Pareto law with this index."""
    return third / second - (1 + index) / (3 - index)


# The law with that tail --------------------------------------------------------------------------


class Nodes(NamedTuple):
    """Gauss nodes in s = -log of the chance to exceed, given an excess; `[J]`."""

    s: np.ndarray
    weight: np.ndarray


MOST_NODES = 2**14
"""More nodes are refused."""

TOO_LOW = f"temperature must be 0, or high enough for {MOST_NODES} nodes over the range of rewards"

IDLE = 6.0
"""At n e^-s below e^-IDLE two draws beyond s are so rare that their order does not matter."""


def tail_nodes(reach: float, dense: float, steepness: float, index: float) -> Nodes:
    """Nodes for s from 0 to `reach`.

    Args:
      reach: beyond it nothing matters.
      dense: up to here panels are short where rewards rise steeply, too.
      steepness: the scale over the temperature; 0 for hard selection.
      index: the largest ξ.
    """
    s = np.linspace(0.0, reach, 2000)
    slope = 1 + steepness / 4 * np.exp(index * s) * (s < dense)
    panels = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(s))])
    number = int(np.ceil(panels[-1]))
    x, w = np.polynomial.legendre.leggauss(8)
    if number * x.size > MOST_NODES:
        raise ValueError(TOO_LOW)
    edges = np.interp(np.linspace(0.0, panels[-1], number + 1), panels, s)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    return Nodes((middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel())


def excess_at(s: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The excess in units of σ that is exceeded with chance e^-s: (e^{ξs} - 1)/ξ."""
    x = index * s
    small = np.abs(x) < 1e-8
    safe = np.where(small, 1.0, x)
    return s * np.where(small, 1 + x / 2, np.expm1(safe) / safe)


def mass_above(fit: Excesses, size: np.ndarray) -> np.ndarray:
    """The mass of the tail: that of k draws and half of the threshold's, the least biased of options."""
    return (fit.number + 0.5) / size


def hard_value(
    rewards: np.ndarray, size: np.ndarray, fit: Excesses, index: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """`[prompts, M]`: the mean of the best of n under the fitted law, ξ `[prompts]`."""
    rank, k = np.arange(rewards.shape[1])[None], fit.number[:, None]
    inside = (rank >= k) & (rank < size[:, None])
    above = mass_above(fit, size)
    lower = (size[:, None] - rank - 1.0) / size[:, None]
    upto = np.where(rank == k, 1 - above[:, None], lower + 1 / size[:, None])  # F at the draw
    top = float(np.log(max(n.max() * above.max(), 1.0)))
    tail = tail_nodes((top + 40) / (1 - max(index.max(), 0.0)), 0.0, 0.0, 0.0)
    y = excess_at(tail.s[None], index[:, None])
    density = above[:, None] * np.exp(-tail.s)[None]
    scale = (1 - index) * fit.moments[0]
    out = []
    for number in n:
        mass = np.where(inside, upto, 0.0) ** number - np.where(inside, lower, 0.0) ** number
        of_tail = number * (1 - density) ** (number - 1) * density * tail.weight[None]
        of_threshold = 1 - (1 - above) ** number
        body = np.sum(np.where(inside, mass * rewards, 0.0), axis=1)
        out.append(body + of_threshold * fit.threshold + scale * np.sum(of_tail * y, axis=1))
    return np.stack(out, axis=1)


def soft_value(
    rewards: np.ndarray,
    size: np.ndarray,
    fit: Excesses,
    index: np.ndarray,
    n: np.ndarray,
    temperature: float,
) -> np.ndarray:
    """`[prompts, M]`: the same at a finite temperature above 0, which must not be too low for the nodes.

    What has the largest score r + λG of n, G Gumbel noise, is selected: a score is at most u with
    chance φ = E[e^{-z}], z = e^{(r-u)/λ}, and the mean of r at score u is E[r z e^{-z}]/E[z e^{-z}].
    """
    above = mass_above(fit, size)
    scale = (1 - index) * fit.moments[0]
    highest = max(float(index.max()), 0.0)
    dense = float(np.log(max(n.max() * above.max(), 1.0))) + IDLE
    reach = (dense + 20) / (1 - highest)
    farthest = excess_at(np.array(dense), index)
    out = []
    for row, slots, k, u, p, own, xi, far in zip(
        rewards, size, fit.number, fit.threshold, above, scale, index, farthest, strict=True
    ):
        tail = tail_nodes(reach, dense, own / temperature, highest)
        body = row[k:slots][::-1]
        values = np.concatenate([body, u + own * excess_at(tail.s, xi)])
        mass = np.full(body.size, 1 / slots)
        mass[-1] /= 2
        mass = np.concatenate([mass, p * np.exp(-tail.s) * tail.weight])
        # Far out the order of two draws does not matter, and a bound spares quadrature nodes.
        selecting = np.minimum(values, u + own * far + 40 * temperature)
        out.append(_by_scores(mass, selecting, values, n, temperature))
    return np.stack(out)


BLOCK = 64
"""How many scores are worked on together."""

SPACING = 0.6
"""Of scores, in temperatures; the trapezoid sum is off by about exp(-π²/SPACING)."""


def _by_scores(
    mass: np.ndarray, selecting: np.ndarray, values: np.ndarray, n: np.ndarray, temperature: float
) -> np.ndarray:
    """`[M]`: the mean of the values of what is selected; `selecting` increases."""
    origin = selecting[-1]
    below = (selecting - origin) / temperature
    top = 25 + np.log(n.max())
    number = int((top - below[0] + 4) / SPACING)
    if number > MOST_NODES:
        raise ValueError(TOO_LOW)
    weights = np.stack([mass, mass * (values - origin)], axis=1)
    upto = np.append(0.0, np.cumsum(mass))
    total = np.zeros((n.size, 2))
    for start in range(0, number, BLOCK):
        u = top - SPACING * np.arange(start, min(start + BLOCK, number))
        # Draws far below a score have no say, and draws far above it leave nothing.
        first, last = np.searchsorted(below, [u[-1] - 37.0, u[0] + 4.0])
        z = np.exp(np.minimum(below[None, first:last] - u[:, None], 30.0))
        decay = np.exp(-z)
        phi = np.maximum(upto[first] + decay @ mass[first:last], 1e-300) / upto[-1]
        total += phi ** (n[:, None] - 1) @ ((z * decay) @ weights[first:last])
    return origin + total[:, 1] / total[:, 0]
