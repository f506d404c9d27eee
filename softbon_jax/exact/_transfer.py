"""The law of the total reward of a stretch of a Markov chain, by a transfer matrix on (state, total).

The distinct totals are numbered on the host: they are the points of a lattice where the rewards have
one, and otherwise found one by one. A step of the chain then moves every (state, total) to others, and
all probabilities are kept as logarithms, so that one of e^{-thousands} has its digits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _loops, _memory
from softbon_jax.exact import _sums
from softbon_jax.exact._sorted import NOTHING

Array = jax.Array


class Totals(NamedTuple):
    """The distinct totals of at most some number of rewards, and what a step does to them; NumPy.

    Attributes:
      offsets: `[T]` rising strictly, from 0: a total less the lowest reward once for each reward in it.
      previous: `[D, T]` the total that reward d turns into total t; T where there is none.
      kinds: `[S, S]` which of the D distinct rewards a transition has.
      lowest: the lowest reward.
    """

    offsets: np.ndarray
    previous: np.ndarray
    kinds: np.ndarray
    lowest: float

    def of(self, rewards: int) -> np.ndarray:
        """`[T]` the totals of that many rewards."""
        return rewards * self.lowest + self.offsets


class Stretch(NamedTuple):
    """The law of (total, last state) of a stretch of a chain.

    Attributes:
      log_probs: `[R, S, T]` joint with the last state, from R starts; about `NOTHING` for 0.
      means: `[R, S, T]` the mean total given both: the total itself, but smooth in the rewards.
    """

    log_probs: Any
    means: Any


def totals_of(rewards: np.ndarray, possible: np.ndarray, most: int, epsilon: float) -> Totals:
    """The totals of up to `most` rewards of transitions.

    Args:
      rewards: `[S, S]` of transitions, taken as accurate to `epsilon` relative to the largest.
      possible: `[S, S]` which of them can occur.
      most: at least 1.
      epsilon: relative accuracy of the rewards.

    Raises:
      TooManyAtomsError: there are more than `MAX_ATOMS`.
    """
    least, scale = rewards[possible].min(), np.abs(rewards[possible]).max()
    steps, kinds = np.unique(np.where(possible, rewards - least, 0.0), return_inverse=True)
    kinds = kinds.reshape(rewards.shape)
    span = most * steps[-1]
    step = _sums.common_step(steps, 4 * epsilon * scale, span / _sums.MAX_ATOMS)
    if step is None:
        offsets, previous = _one_by_one(steps, most, 4 * epsilon * scale * most)
    else:
        multiples = np.rint(steps / step).astype(int)
        _memory.check(8 * 3 * (most * int(multiples[-1]) + 1) * multiples.size)
        index = np.arange(most * multiples[-1] + 1)
        offsets, previous = step * index, index[None] - multiples[:, None]
    previous = np.where(previous < 0, offsets.size, previous).astype(np.int32)
    return Totals(offsets, previous, kinds, float(least))


def _one_by_one(steps: np.ndarray, most: int, error: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets `[T]` and previous `[D, T]`, -1 for none, where the rewards have no lattice."""
    offsets = np.zeros(1)
    for _ in range(most):
        _memory.check(8 * 5 * offsets.size * steps.size)
        sums = np.sort((offsets[:, None] + steps).ravel())
        offsets = sums[np.diff(sums, prepend=-np.inf) > error]
        if offsets.size > _sums.MAX_ATOMS:
            raise _sums.TooManyAtomsError(f"their total takes more than {_sums.MAX_ATOMS:,} values")
    before = offsets[None] - steps[:, None]
    previous = np.searchsorted(offsets, before - error)
    found = np.abs(offsets[np.minimum(previous, offsets.size - 1)] - before) <= error
    return offsets, np.where(found, previous, -1)


# From step to step -------------------------------------------------------------------------------


def from_every_state(totals: Totals, xp: Any, dtype: Any) -> Stretch:
    """The stretch of no steps from each of the S states, `[S, S, T]`."""
    size, count = totals.kinds.shape[0], totals.offsets.size
    log_probs = np.full((size, size, count), NOTHING)
    log_probs[np.arange(size), np.arange(size), 0] = 0.0
    return Stretch(xp.asarray(log_probs, dtype), xp.zeros(log_probs.shape, dtype))


def from_first(totals: Totals, xp: Any, log_initial: Any, rewards: Any, counted: bool) -> Stretch:
    """The stretch of the first state, `[1, S, T]`; its reward is in the total if it is `counted`.

    Then all transitions to a state have the same reward, that of the state.
    """
    first = np.arange(totals.offsets.size) == 0
    # Where the total of nothing goes is the total that has it as its previous one.
    start = totals.previous[totals.kinds[0]] == 0 if counted else first[None]
    log_probs = xp.where(start, log_initial[:, None], NOTHING)
    mean = rewards if counted else xp.zeros_like(log_initial)
    return Stretch(log_probs[None], xp.broadcast_to(mean[:, None], log_probs.shape)[None])


def advance(
    totals: Totals, xp: Any, log_kernel: Any, rewards: Any, stretch: Stretch, steps: int
) -> Stretch:
    """The stretch longer by `steps` steps, of which transitions have the rewards `[S, S]`.

    In NumPy, where nothing is differentiated, the means stay behind.
    """
    log_kernel = log_kernel[None, :, :, None]

    def paths(log_probs: Any) -> Any:
        return _arriving(xp, totals, log_probs, NOTHING) + log_kernel

    def step(stretch: Stretch, _: None) -> tuple[Stretch, None]:
        by_way = paths(stretch.log_probs)
        log_probs = log_sum(jnp, by_way)
        # The same total by every way, so that the shares of the ways have no slope that matters.
        shares = jax.lax.stop_gradient(jnp.exp(by_way - log_probs[:, None]))
        means = _arriving(jnp, totals, stretch.means, 0.0) + rewards[None, :, :, None]
        means = jnp.sum(shares * means, axis=1)
        return Stretch(log_probs, jnp.where(log_probs > NOTHING / 2, means, 0.0)), None

    if xp is jnp:
        return _loops.scan(step, stretch, None, length=steps)[0] if steps else stretch
    log_probs = stretch.log_probs
    for _ in range(steps):
        log_probs = log_sum(np, paths(log_probs))
    return Stretch(log_probs, stretch.means)


def _arriving(xp: Any, totals: Totals, values: Any, nothing: float) -> Any:
    """`[R, S, S, T]` of `values` `[R, S, T]` where each transition to each total comes from."""
    _memory.check(4 * values.shape[-2] * _memory.size_of(values))
    edge = xp.full((*values.shape[:-1], 1), nothing, values.dtype)
    padded = xp.concatenate([values, edge], axis=-1)
    states = np.arange(values.shape[-2])[:, None, None]
    return padded[..., states, totals.previous[totals.kinds]]


def log_sum(xp: Any, log_x: Any) -> Any:
    """The log of Σ e^log_x over the third axis from the end, or the first of two."""
    axis = max(-3, -log_x.ndim)
    top = log_x.max(axis=axis, keepdims=True)
    top = top if xp is np else jax.lax.stop_gradient(top)
    return xp.log(xp.exp(log_x - top).sum(axis)) + top.squeeze(axis)


def finite(xp: Any, log_probs: Any) -> Any:
    """The logarithms with `NOTHING` for -inf."""
    return xp.where(log_probs > -np.inf, log_probs, NOTHING)


def infinite(xp: Any, log_probs: Any) -> Any:
    """The logarithms with -inf for `NOTHING`, and what is near it."""
    return xp.where(log_probs > NOTHING / 2, log_probs, -np.inf)
