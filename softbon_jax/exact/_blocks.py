"""Sequences of problems cut into blocks, and the law of a block's total as a problem of its own."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _checks, _loops, _memory
from softbon_jax.exact import _sums
from softbon_jax.exact._sorted import FILLING, NOTHING
from softbon_jax.problem import Problem

Array = jax.Array


def distinct(
    problem: Problem | Sequence[Problem],
    m: int | None,
    batched: bool = False,
    rewards: Any = None,
) -> tuple[list[Problem], list[int]]:
    """The distinct problems, checked, and for each position the index of its problem.

    Rewards that are concrete stay so under `jit`; `rewards` stand in for those of every problem.
    """
    if isinstance(problem, Problem):
        if m is None:
            raise ValueError("m must be given for a single problem, got None")
        problems, positions = [problem], [0] * _checks.positive_integer("m", m)
    else:
        sequence = isinstance(problem, Sequence) and not isinstance(problem, (str, bytes))
        if not sequence or not all(isinstance(x, Problem) for x in problem):
            raise TypeError(
                f"problem must be a Problem or a sequence of them, got {_checks.shown(problem)}"
            )
        if m is not None:
            m = _checks.positive_integer("m", m)
        if len(problem) == 0 or m not in (None, len(problem)):
            raise ValueError(f"m must be the number of problems {len(problem)} >= 1, got {m}")
        problems, positions = [], []
        known: dict[int, int] = {}
        for one in problem:
            if id(one) not in known:
                known[id(one)] = len(problems)
                problems.append(one)
            positions.append(known[id(one)])
    if rewards is not None:
        known_rewards: Any = _checks.concrete(_checks.real("rewards", rewards))
        if known_rewards is None:
            raise TypeError(f"rewards must be concrete, got {_checks.shown(rewards)}")
        problems = [_with_rewards(one, known_rewards) for one in problems]
    problems = [_concrete_rewards(one, _arguments.checked_problem(one)) for one in problems]
    for one in problems:
        if not batched and one.batch_shape != ():
            raise ValueError(f"problem must be of shape [K], got batch shape {one.batch_shape}")
    return problems, positions


def _with_rewards(given: Problem, rewards: Any) -> Problem:
    """The problem with other rewards; NaN where its own are traced and illegal."""
    log_probs, own = _arguments.checked_problem(given)
    if isinstance(own, jax.core.Tracer):
        log_probs = jnp.where(jnp.isnan(own).any(), jnp.nan, log_probs)
    return Problem(log_probs, rewards)


def _concrete_rewards(given: Problem, checked: Problem) -> Problem:
    """The checked problem, its rewards in NumPy where tracing has hidden what was given."""
    known = _checks.concrete(given.rewards)
    if known is None or not isinstance(checked.rewards, jax.core.Tracer):
        return checked
    rewards: Any = known.astype(checked.rewards.dtype)
    return Problem(checked.log_probs, rewards)


def cut(positions: Sequence[int], size: int) -> Iterable[tuple[int, ...]]:
    """Consecutive blocks of `size` positions, the last one shorter if need be."""
    iterator = iter(positions)
    while block := tuple(itertools.islice(iterator, size)):
        yield block


def total_law(problems: Sequence[Problem], positions: Iterable[int]) -> Problem:
    """The law of the total of symbols of these problems, which have been checked.

    In NumPy, without the totals of probability 0; where the probabilities are traced, as
    `_traced_total` has it.
    """
    counts = Counter(positions)
    if any(isinstance(problems[i].rewards, jax.core.Tracer) for i in counts):
        raise TypeError(
            "the rewards of a block must be concrete, its number of totals depends on them: give them"
            " as rewards= in NumPy, or build the block outside of jit, vmap and grad"
        )
    if any(isinstance(problems[i].log_probs, jax.core.Tracer) for i in counts):
        return _traced_total([(problems[i], count) for i, count in counts.items()])
    parts, dtypes = [], []
    for i, count in counts.items():
        pair = (np.asarray(x, np.float64) for x in np.broadcast_arrays(*problems[i]))
        parts.append((_sums.of_outcomes(*pair), count))
        dtypes.append(problems[i].rewards.dtype)
    dtype = jax.numpy.result_type(*dtypes)
    try:
        total = _sums.of_sum(parts, float(jax.numpy.finfo(dtype).eps))
    except _sums.TooManyAtomsError as error:
        span = sum(count * float(np.ptp(one.values)) for one, count in parts)
        raise _too_many(sum(count for _, count in parts), span, str(error)) from None
    arrays: Any = (total.log_probs.astype(dtype), total.values.astype(dtype))
    return Problem(*arrays)


def _too_many(symbols: int, span: float, reason: str) -> ValueError:
    return ValueError(
        f"a block of {symbols} symbols must have at most {_sums.MAX_ATOMS:,} totals, but {reason}:"
        f" their rewards are multiples of no common step above {span / _sums.MAX_ATOMS:.3g}; round"
        " them with round_to_lattice to one that is"
    )


# Probabilities that are traced -------------------------------------------------------------------


def _traced_total(parts: Sequence[tuple[Problem, int]]) -> Problem:
    """The law of the total on a lattice that the rewards alone determine.

    The totals that can be reached, in rising order; the log-probability of one is about `NOTHING` where
    symbols of probability 0 keep it from being reached.
    """
    dtype = jax.numpy.result_type(*(one.rewards.dtype for one, _ in parts))
    values = [np.asarray(one.rewards, np.float64) for one, _ in parts]
    counts = [count for _, count in parts]
    lowest = math.fsum(k * v.min() for v, k in zip(values, counts, strict=True))
    span = sum(k * float(np.ptp(v)) for v, k in zip(values, counts, strict=True))
    error = 4 * float(jnp.finfo(dtype).eps) * max(float(np.abs(v).max()) for v in values)
    step = _sums.common_step(
        np.concatenate([v - v.min() for v in values]), error, span / _sums.MAX_ATOMS
    )
    if step is None:
        raise _too_many(sum(counts), span, "with traced probabilities they must be on a lattice")
    shifts = [np.rint((v - v.min()) / step).astype(int) for v in values]
    reached = np.ones(1, bool)
    for shift, count in zip(shifts, counts, strict=True):
        moves = np.bincount(shift) > 0
        for _ in range(count):
            reached = np.convolve(reached, moves) > 0
    log_law = jnp.full((reached.size,), NOTHING, dtype).at[0].set(0)
    for (one, count), shift in zip(parts, shifts, strict=True):
        log_probs = jnp.asarray(one.log_probs, dtype)
        log_probs = log_probs - jax.nn.logsumexp(log_probs)
        log_law = _added(log_law, jnp.maximum(log_probs, NOTHING), shift, count)
    (totals,) = np.nonzero(reached)
    rewards: Any = (lowest + step * totals).astype(dtype)
    return Problem(log_law[totals], rewards)


def _added(log_law: Array, log_probs: Array, shift: np.ndarray, count: int) -> Array:
    """The law on the lattice once `count` symbols are added, each of which moves it by a shift."""
    size, most = log_law.size, int(shift.max())
    _memory.check(4 * shift.size * _memory.size_of(log_law))

    def add(log_law: Array, _: None) -> tuple[Array, None]:
        padded = jnp.pad(log_law, (most, 0), constant_values=NOTHING)
        moved = [padded[most - k : most - k + size] for k in shift.tolist()]
        terms = jnp.maximum(jnp.stack(moved) + log_probs[:, None], NOTHING)
        return jax.nn.logsumexp(terms, axis=0), None

    return _loops.scan(jax.checkpoint(add), log_law, None, length=count)[0]


def impossible_first(total: Problem) -> Problem:
    """A traced law, totals of probability 0 before all others, as `_sorted` fills up a problem."""
    possible = total.log_probs > NOTHING / 2
    order = jnp.argsort(possible, stable=True)
    rewards = jnp.asarray(total.rewards)
    rewards = jnp.where(possible, rewards, rewards[jnp.argmax(possible)])
    log_probs = jnp.where(possible, total.log_probs, FILLING)
    bad = jnp.isnan(total.log_probs).any()
    return Problem(jnp.where(bad, jnp.nan, log_probs[order]), rewards[order])


def with_infinities(total: Problem) -> Problem:
    """A law with -inf for a probability of 0."""
    log_probs = total.log_probs
    return Problem(
        jnp.where(log_probs < NOTHING / 2, -jnp.inf, log_probs), jnp.asarray(total.rewards)
    )
