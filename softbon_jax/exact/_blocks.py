"""Sequences of problems cut into blocks, and the law of a block's total as a problem of its own."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from softbon_jax import _arguments, _checks
from softbon_jax.exact import _sums
from softbon_jax.problem import Problem


def distinct(
    problem: Problem | Sequence[Problem], m: int | None, batched: bool = False
) -> tuple[list[Problem], list[int]]:
    """The distinct problems, checked, and for each position the index of its problem."""
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
    problems = [_arguments.checked_problem(one) for one in problems]
    for one in problems:
        if not batched and one.batch_shape != ():
            raise ValueError(f"problem must be of shape [K], got batch shape {one.batch_shape}")
    return problems, positions


def cut(positions: Sequence[int], size: int) -> Iterable[tuple[int, ...]]:
    """Consecutive blocks of `size` positions, the last one shorter if need be."""
    iterator = iter(positions)
    while block := tuple(itertools.islice(iterator, size)):
        yield block


def total_law(problems: Sequence[Problem], positions: Iterable[int]) -> Problem:
    """The law of the total of symbols of these problems, which have been checked; NumPy arrays."""
    parts, dtypes = [], []
    for i, count in Counter(positions).items():
        if any(isinstance(x, jax.core.Tracer) for x in problems[i]):
            raise TypeError(
                "the problem of a block must be concrete, its number of totals depends on the rewards:"
                " build it outside of jit, vmap and grad"
            )
        pair = (np.asarray(x, np.float64) for x in np.broadcast_arrays(*problems[i]))
        parts.append((_sums.of_outcomes(*pair), count))
        dtypes.append(problems[i].rewards.dtype)
    dtype = jax.numpy.result_type(*dtypes)
    try:
        total = _sums.of_sum(parts, float(jax.numpy.finfo(dtype).eps))
    except _sums.TooManyAtomsError as error:
        span = sum(count * float(np.ptp(one.values)) for one, count in parts)
        raise ValueError(
            f"a block of {sum(count for _, count in parts)} symbols must have at most"
            f" {_sums.MAX_ATOMS:,} totals, but {error}: their rewards are multiples of no common step"
            f" above {span / _sums.MAX_ATOMS:.3g}; round them with round_to_lattice to one that is"
        ) from None
    arrays: Any = (total.log_probs.astype(dtype), total.values.astype(dtype))
    return Problem(*arrays)
