"""A Markov chain cut into blocks: the law of (total, last state) of each kind of block."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.exact import _blockwise, _quadrature, _sums, _transfer
from softbon_jax.exact._sorted import FILLING, NOTHING
from softbon_jax.problem import Problem, probability_tolerance

Array = jax.Array


class Chain(NamedTuple):
    """A Markov chain: arrays of one dtype, `initial` and `kernel` laws or NaN.

    Attributes:
      initial: `[S]` law of the first state.
      kernel: `[S, S]` law of the next one.
      rewards: `[S]` of a state, the first included, or `[S, S]` of a transition.
    """

    initial: Array
    kernel: Array
    rewards: Array

    @property
    def num_states(self) -> int:
        return self.kernel.shape[-1]

    @property
    def on_states(self) -> bool:
        return self.rewards.ndim == 1


def on_transitions(xp: Any, chain: Chain) -> Any:
    """`[S, S]` the reward of each transition."""
    return xp.broadcast_to(chain.rewards, chain.kernel.shape) if chain.on_states else chain.rewards


def log_of_law(xp: Any, probs: Any) -> Any:
    """Log-probabilities `[..., S]` without the rounding of their sum; NaN for what is not a law."""
    positive = probs > 0
    log_probs = xp.where(positive, xp.log(xp.where(positive, probs, 1.0)), -xp.inf)
    total = xp.sum(probs, axis=-1, keepdims=True)
    is_law = xp.abs(total - 1) <= probability_tolerance(probs.dtype)
    is_law = is_law & (probs >= 0).all(-1, keepdims=True)
    return log_probs - xp.where(is_law, xp.log(total), xp.nan)


# Steps and stretches -----------------------------------------------------------------------------


class Layout(NamedTuple):
    """How a sequence is cut into blocks, and filled up to one of few numbers of them.

    Attributes:
      kinds: `[J]` 0 for the first block, 1 for the others, and one each for a shorter last one and for
        what fills up: a step from every state to itself, without reward.
      last: `[J]` the position, from 0, at which each ends; those that fill up end at the last.
    """

    kinds: Any
    last: Any


def layout(length: int, size: int) -> Layout:
    """The layout of `length` states in blocks of `size`: few numbers of blocks, so few compilations."""
    count, short = -(-length // size), length % size > 0
    padded = 1 if count == 1 else _quadrature.node_bucket(count)
    kinds = np.minimum(np.arange(padded), 1)
    kinds[count - 1] += short and count > 1
    kinds[count:] = 2 + short
    return Layout(kinds, np.minimum(size * np.arange(1, padded + 1), length) - 1)


def steps(xp: Any, chain: Chain, kinds: Any) -> _blockwise.Blocks:
    """Every state a block of its own, the first drawn from the initial law."""
    log_kernel, rewards = log_of_law(xp, chain.kernel), on_transitions(xp, chain)
    log_first = log_of_law(xp, chain.initial)
    first = chain.rewards if chain.on_states else xp.zeros_like(chain.initial)
    if kinds.size == 1:
        return _blockwise.Blocks(log_first[None, None, None], first[None, None, None], kinds)
    log_first, first = (xp.broadcast_to(x[None], log_kernel.shape) for x in (log_first, first))
    stay = xp.asarray(np.where(np.eye(chain.num_states) > 0, 0.0, -np.inf), log_kernel.dtype)
    laws = xp.stack([log_first, log_kernel, stay])
    totals = xp.stack([first, rewards, xp.zeros_like(rewards)])
    return _blockwise.Blocks(laws[:, :, None], totals[:, :, None], kinds)


def _totals(chain: Chain, most: int) -> _transfer.Totals:
    """The totals of up to `most` rewards."""
    rewards = _checks.concrete(chain.rewards)
    if rewards is None:
        raise TypeError(
            "the rewards of blocks must be concrete, their number of totals depends on them: give them"
            " outside of jit and vmap"
        )
    initial, kernel = (_checks.concrete(x) for x in (chain.initial, chain.kernel))
    size = chain.kernel.shape[0]
    possible = np.ones((size, size), bool) if kernel is None else kernel > 0
    if chain.on_states:
        first = np.ones(size, bool) if initial is None else initial > 0
        possible = np.broadcast_to(possible.any(0) | first, possible.shape)
        rewards = np.broadcast_to(rewards, possible.shape)
    epsilon = float(jnp.finfo(chain.rewards.dtype).eps)
    try:
        return _transfer.totals_of(np.asarray(rewards, np.float64), possible, most, epsilon)
    except _sums.TooManyAtomsError as error:
        raise ValueError(
            f"{most} rewards of a block must have at most {_sums.MAX_ATOMS:,} totals, but {error}: the"
            " rewards are multiples of no common step that is large enough; round them, as"
            " round_to_lattice does"
        ) from None


def _traced(chain: Chain) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in chain)


def _in_float64(chain: Chain) -> Chain:
    """NumPy arrays, with laws that sum to 1 in that precision."""
    initial, kernel, rewards = (np.asarray(x, np.float64) for x in chain)
    laws = (x / x.sum(-1, keepdims=True) for x in (initial, kernel))
    arrays: Any = (*laws, rewards)
    return Chain(*arrays)


def stretches(chain: Chain, length: int, size: int) -> _blockwise.Blocks:
    """Blocks of `size` states: the first, the others, and a shorter one at the end if need be.

    In NumPy and float64, or in JAX where the chain is traced.
    """
    totals = _totals(chain, size)
    if _traced(chain):
        return _traced_stretches(totals, chain, length=length, size=size)
    with np.errstate(divide="ignore"):
        blocks = _stretches(np, totals, _in_float64(chain), length, size)
    some = (blocks.laws > -np.inf).any(axis=(0, 1, 3))  # what no start can have is left out
    laws, values = (x[:, :, some].astype(chain.kernel.dtype) for x in blocks[:2])
    return _blockwise.Blocks(laws, values, blocks.kinds)


def _stretches(
    xp: Any, totals: _transfer.Totals, chain: Chain, length: int, size: int
) -> _blockwise.Blocks:
    first, log_kernel = _start(xp, totals, chain)
    rewards = on_transitions(xp, chain)
    longer = functools.partial(_transfer.advance, totals, xp, log_kernel, rewards)
    found, counts = [longer(first, size - 1)], [size - (not chain.on_states)]
    short = length % size
    if length > size:
        every = longer(_transfer.from_every_state(totals, xp, log_kernel.dtype), short)
        found += [longer(every, size - short)] + [every] * (short > 0)
        counts += [size] + [short] * (short > 0)
    shape = found[-1].log_probs.shape
    values = (_values(totals, count, x) for x, count in zip(found, counts, strict=True))
    pair = ([x.log_probs for x in found], values)
    laws, values = (xp.stack([xp.broadcast_to(x, shape) for x in xs]) for xs in pair)
    laws, values = (x.swapaxes(-1, -2) for x in (_transfer.infinite(xp, laws), values))
    if length > size:
        stay = _transfer.from_every_state(totals, xp, laws.dtype).log_probs.swapaxes(-1, -2)
        laws = xp.concatenate([laws, _transfer.infinite(xp, stay)[None]])
        values = xp.concatenate([values, xp.zeros_like(values[:1])])
    return _blockwise.Blocks(laws, values, layout(length, size).kinds)


_traced_stretches = jax.jit(functools.partial(_stretches, jnp), static_argnames=("length", "size"))


def _start(xp: Any, totals: _transfer.Totals, chain: Chain) -> tuple[_transfer.Stretch, Any]:
    """The stretch of the first state, and the log of the kernel."""
    log_initial, log_kernel = (_transfer.finite(xp, log_of_law(xp, x)) for x in chain[:2])
    first = _transfer.from_first(totals, xp, log_initial, chain.rewards, chain.on_states)
    return first, log_kernel


def _values(totals: _transfer.Totals, count: int, stretch: _transfer.Stretch) -> Any:
    """The totals of `count` rewards, with the slopes of their means where these are traced."""
    values = totals.of(count)
    if isinstance(stretch.means, np.ndarray):
        return values
    means = stretch.means
    return jnp.asarray(values, means.dtype)[None, None] + (means - jax.lax.stop_gradient(means))


def total_problem(chain: Chain, length: int) -> Problem:
    """The law of the total reward of whole sequences, in rising order."""
    totals = _totals(chain, length - (not chain.on_states))
    if _traced(chain):
        return _traced_total(totals, chain, length=length)
    with np.errstate(divide="ignore"):
        log_probs, values = _total(np, totals, _in_float64(chain), length)
    some = log_probs > NOTHING / 2
    arrays: Any = (x[some].astype(chain.kernel.dtype) for x in (log_probs, values))
    return Problem(*arrays)


def _total(xp: Any, totals: _transfer.Totals, chain: Chain, length: int) -> tuple[Any, Any]:
    first, log_kernel = _start(xp, totals, chain)
    rewards = on_transitions(xp, chain)
    stretch = _transfer.advance(totals, xp, log_kernel, rewards, first, length - 1)
    log_joint, count = stretch.log_probs[0], length - (not chain.on_states)
    log_probs, values = _transfer.log_sum(xp, log_joint), _values(totals, count, stretch)
    if xp is np:
        return log_probs, values
    shares = jax.lax.stop_gradient(jnp.exp(log_joint - log_probs[None]))
    return log_probs, jnp.sum(shares * values[0], axis=0)


@functools.partial(jax.jit, static_argnames="length")
def _traced_total(totals: _transfer.Totals, chain: Chain, *, length: int) -> Problem:
    """Totals of probability 0 come before all others, as `_sorted` fills up a problem."""
    log_probs, values = _total(jnp, totals, chain, length)
    possible = log_probs > NOTHING / 2
    order = jnp.argsort(possible, stable=True)
    lowest = values[jnp.argmax(possible)]
    log_probs = jnp.where(possible, log_probs, FILLING)[order]
    return Problem(log_probs, jnp.where(possible, values, lowest)[order])
