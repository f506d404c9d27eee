"""Additive rewards over sequences: exact laws of blocks, of symbols and of everything between.

A sequence of m symbols, drawn one by one from a reference law, has the sum of their rewards for its
reward. Selecting among n whole sequences ("blockwise"), among n symbols at each position
("symbolwise"), or block by block, gives laws that depend on a block through its total reward alone,
so the law of the total is all that is needed: a `Problem` like any other.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _checks
from softbon_jax.exact import _plan, _sorted, _sums
from softbon_jax.exact.laws import log_soft_bon
from softbon_jax.exact.metrics import Metrics, metrics
from softbon_jax.problem import Problem

Array = jax.Array

MAX_TOTALS = _sums.MAX_ATOMS
"""The most different totals that a block may have: 65,536."""


class Rounded(NamedTuple):
    """A problem with its rewards on a lattice, and how far the rounding has moved them.

    Attributes:
      problem: the rounded `Problem`.
      error: `[...]` the largest change of a reward of positive probability, in reward units.
    """

    problem: Problem
    error: Array


class Costs(NamedTuple):
    """What it takes to decode one sequence; floats, inf where they overflow.

    Attributes:
      symbol_draws: draws from the reference model, n for each of the m symbols whatever the blocks.
      reward_calls: scorings of a candidate, n for each block: a block is scored as a whole.
    """

    symbol_draws: Array
    reward_calls: Array


def block_problem(problem: Problem | Sequence[Problem], m: int | None = None) -> Problem:
    """The law of the total reward of m independent symbols, as a problem of its own.

    Every law of this package applies to the result as it stands, at the same temperature: it gives
    the law of the total of the sequence that is selected among n whole ones. For rewards that are
    averages over the sequence, divide the rewards by m, or multiply the temperature by it.

    Args:
      problem: `[K]`, or a sequence of m problems, one for each position.
      m: number of symbols, at least 1; may be left out for a sequence of problems.

    Returns:
      A `Problem` `[S]` of the distinct totals in rising order, in the common dtype of the arguments.
      Totals of probability 0 are left out.

    Raises:
      ValueError: m < 1 or not the number of problems, a batch of problems, a problem that is not a
        law, or more than `MAX_TOTALS` totals; then round the rewards with `round_to_lattice`.
      TypeError: arguments are traced: the number of totals depends on the values. The result can be
        passed into `jit` and differentiated from there on.

    Numerics: where all rewards, less their lowest, are multiples of some step (found, not declared),
    by convolution, with a work of (m · range/step)²; for any other rewards by types, that is by how
    often each symbol occurs, of which there are C(m+K-1, K-1). Totals equal to 4 eps of the largest
    possible total are one. All in float64 on the host; sums of non-negative terms in levels of e^300,
    so that log-probabilities of -thousands are right to about 1e-12 in float64, that is
    probabilities relative to themselves.
    Source: derived here: the likelihood ratio of a block and of its total are the same.
    """
    problems, positions = _positions(problem, m)
    return _block(problems, positions)


def log_block_law(
    block: Problem, n: Any, temperature: Any, *, log_n: Any = None, nodes: int | None = None
) -> Array:
    """The exact law of the total that soft best-of-n selects among n blocks.

    What `log_soft_bon` gives, in time and memory proportional to the number of totals alone: a
    block of a thousand symbols has thousands of totals and a range of thousands of temperatures.

    Args:
      block: `[S]` as `block_problem` makes it: rewards rising strictly, all of positive probability.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced; 0 and inf are legal.
      log_n: `[...]` log n in nats instead of n.
      nodes: static number of quadrature points; see `law.log_soft_bon`.

    Returns:
      `[..., S]` log-probabilities in nats. NaN where `nodes` points are too few.

    Raises:
      ValueError: as `log_soft_bon`, or rewards that do not rise.

    Numerics: as `log_soft_bon`; every log-probability to about eps · (range/temperature + |log P|).
    Source: derived here; see `law.log_soft_bon`.
    """
    block = _arguments.checked_problem(block)
    log_probs, rewards = (_checks.concrete(x) for x in block)
    if block.batch_shape != ():
        raise ValueError(f"block must be of shape [S], got batch shape {block.batch_shape}")
    if rewards is not None and (np.diff(rewards) <= 0).any():
        raise ValueError("block must have rising rewards, as block_problem makes them")
    if log_probs is not None:
        _checks.offending("block.log_probs", log_probs, np.isneginf(log_probs), "finite")
    if block.num_outcomes == 1:
        return log_soft_bon(block, n, temperature, log_n=log_n, nodes=nodes)
    return _banded_law(block, n, temperature, log_n, nodes)[1]


def round_to_lattice(problem: Problem, step: Any) -> Rounded:
    """The problem with every reward moved to the nearest of lowest reward + multiples of `step`.

    Args:
      problem: `[..., K]`.
      step: `[...]` > 0, in reward units, traced.

    Returns:
      `Rounded`, whose `error` e is at most step/2. It bounds what rounding does to a block of m symbols
      at temperature λ: totals move by m e at most, and the log-probabilities of any block under the
      tilted law and under soft best-of-n, for every n, by 2 m e/λ at most.

    Raises:
      ValueError: step is not positive and finite, or the problem is not a law; traced bad values
        give NaN.

    Source: derived here: weights e^{r/λ} change by factors within e^{±me/λ}, and so do numerator and
      denominator of each selection probability.
    """
    problem = _arguments.checked_problem(problem)
    value = _checks.concrete(step)
    if value is not None:
        _checks.offending("step", value, ~((value > 0) & np.isfinite(value)), "positive and finite")
    step = _checks.as_float("step", step, problem.rewards.dtype)
    _checks.batch_shape(problem=problem.batch_shape, step=step.shape)
    return _rounded(problem, step)


@jax.jit
def _rounded(problem: Problem, step: Array) -> Rounded:
    log_probs, rewards = jnp.broadcast_arrays(*problem)
    possible = log_probs > -jnp.inf
    lowest = jnp.min(jnp.where(possible, rewards, jnp.inf), axis=-1, keepdims=True)
    step = jnp.where(step > 0, step, jnp.nan)[..., None]
    step = step.reshape((1,) * (rewards.ndim - step.ndim) + step.shape)
    rounded = lowest + step * jnp.round((rewards - lowest) / step)
    error = jnp.max(jnp.where(possible, jnp.abs(rounded - rewards), 0.0), axis=-1)
    return Rounded(Problem(problem.log_probs, rounded), error)


def blockwise_metrics(
    problem: Problem | Sequence[Problem],
    m: int | None,
    n: Any,
    temperature: Any,
    *,
    block_size: int | None = None,
    log_n: Any = None,
    nodes: int | None = None,
) -> Metrics:
    """Every metric of soft best-of-n, block by block, over sequences of m symbols.

    The sequence is cut into blocks of `block_size` symbols, the last one shorter if need be; for each
    block n candidates are drawn and one is selected. The blocks are independent: rewards and
    divergences add, and 1 + χ² multiplies.

    Args:
      problem: `[K]` the law of a symbol and its reward, or a sequence of m problems, one for each
        position.
      m: number of symbols, at least 1; None for a sequence of problems.
      n: `[...]` number of candidates for each block, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` the paper's λ, in the units of the total reward, traced; 0 and inf are
        legal.
      block_size: symbols to a block, from 1 to m. Default: m, whole sequences.
      log_n: `[...]` log n in nats instead of n, for n = e^{hundreds}.
      nodes: static number of quadrature points; see `law.log_soft_bon`. Needed when n or temperature
        are traced and range/temperature + log n is large.

    Returns:
      `Metrics` of the broadcast shape of n and temperature, of the whole sequence against P*^{⊗m} and
      P^{⊗m}. `tv` and `win_rate` do not add, and are NaN where there is more than one block.

    Raises:
      ValueError, TypeError: as `block_problem` and `metrics`; block_size not between 1 and m.

    Numerics: as `metrics`, with errors of about eps · (range/temperature + |log P|) of the block. In
    float32 that is 1e-4 for a thousand symbols. Time and memory are proportional to the number of
    totals, not to that times the number of points. Differentiable in n and temperature.
    Source: derived here: given the total, the selected block has the law of P, so that divergences
    between laws of blocks are those between laws of their totals.
    """
    problems, positions = _positions(problem, m)
    size = (
        len(positions) if block_size is None else _checks.positive_integer("block_size", block_size)
    )
    if size > len(positions):
        raise ValueError(f"block_size must be at most m = {len(positions)}, got {size}")
    # Blocks with the same symbols in another order have the same law.
    blocks = Counter(tuple(sorted(block)) for block in _batched(positions, size))
    parts = [
        (_block_metrics(_block(problems, block), n, temperature, log_n, nodes), count)
        for block, count in blocks.items()
    ]
    return _together(parts)


def symbolwise_metrics(
    problem: Problem | Sequence[Problem],
    m: int | None,
    n: Any,
    temperature: Any,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Metrics:
    """Every metric of soft best-of-n, symbol by symbol, over sequences of m symbols.

    At each position n symbols are drawn and one is selected: `blockwise_metrics` with blocks of 1.

    Args:
      problem: `[..., K]` the law of a symbol and its reward, or a sequence of m problems, one for
        each position.
      m: number of symbols, at least 1; None for a sequence of problems.
      n: `[...]` number of candidates for each symbol, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced; 0 and inf are legal.
      log_n: `[...]` log n in nats instead of n.
      nodes: static number of quadrature points; see `law.log_soft_bon`.

    Returns:
      `Metrics` of the broadcast batch shape, of the whole sequence. `tv` and `win_rate` are NaN
      where m > 1.

    Raises:
      ValueError: m < 1 or not the number of problems, and as `metrics`.

    Numerics: as `metrics`, whose results are multiplied; differentiable in everything.
    Source: arXiv:2505.03156 (symbolwise sampling); laws of independent symbols.
    """
    problems, positions = _positions(problem, m, batched=True)
    parts = [
        (metrics(problems[i], n, temperature, log_n=log_n, nodes=nodes), count)
        for i, count in Counter(positions).items()
    ]
    return _together(parts)


def sequence_costs(m: int, n: Any, *, block_size: int | None = None, log_n: Any = None) -> Costs:
    """What decoding m symbols costs, with n candidates for each block of `block_size`.

    Args:
      m: number of symbols, at least 1.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      block_size: symbols to a block, from 1 (symbolwise) to m (blockwise, the default).
      log_n: `[...]` log n in nats instead of n.

    Returns:
      `Costs` of shape `[...]`: n·m symbol draws and n·⌈m/block_size⌉ reward calls. At equal n all
      block sizes draw equally many symbols.

    Raises:
      ValueError: m, block_size or n out of range.
    """
    m = _checks.positive_integer("m", m)
    size = m if block_size is None else _checks.positive_integer("block_size", block_size)
    if size > m:
        raise ValueError(f"block_size must be at most m = {m}, got {size}")
    given = log_n if n is None else n
    dtype = _checks.as_float("n", 1.0 if given is None else given).dtype
    candidates = jnp.exp(_checks.log_candidates(n, log_n, dtype))
    return Costs(candidates * m, candidates * -(-m // size))


# What they share ---------------------------------------------------------------------------------

_ADDITIVE = (
    "reward",
    "tilted_reward",
    "reward_gap",
    "kl_tilted_soft",
    "kl_soft_tilted",
    "kl_soft_base",
    "kl_tilted_base",
)


def _positions(
    problem: Problem | Sequence[Problem], m: int | None, batched: bool = False
) -> tuple[list[Problem], list[int]]:
    """The different problems, and for each position which of them it has."""
    if isinstance(problem, Problem):
        if m is None:
            raise ValueError("m must be given for a single problem, got None")
        problems, positions = [problem], [0] * _checks.positive_integer("m", m)
    else:
        if len(problem) == 0 or m not in (None, len(problem)):
            raise ValueError(f"m must be the number of problems {len(problem)} >= 1, got {m}")
        problems, positions = [], []
        known: dict[int, int] = {}
        for one in problem:
            if id(one) not in known:
                known[id(one)] = len(problems)
                problems.append(one)
            positions.append(known[id(one)])
    for one in problems:
        shape = _arguments.checked_problem(one).batch_shape
        if not batched and shape != ():
            raise ValueError(f"problem must be of shape [K], got batch shape {shape}")
    return problems, positions


def _batched(positions: Sequence[int], size: int) -> Iterable[tuple[int, ...]]:
    iterator = iter(positions)
    while block := tuple(itertools.islice(iterator, size)):
        yield block


def _block(problems: Sequence[Problem], positions: Iterable[int]) -> Problem:
    """The law of the total of symbols of these problems."""
    parts, dtypes = [], []
    for i, count in Counter(positions).items():
        if any(isinstance(x, jax.core.Tracer) for x in problems[i]):
            raise TypeError(
                "the problem of a block must be concrete, its number of totals depends on the rewards:"
                " build it outside of jit, vmap and grad"
            )
        pair = (np.asarray(x, np.float64) for x in np.broadcast_arrays(*problems[i]))
        parts.append((_sums.of_outcomes(*pair), count))
        dtypes.append(_arguments.checked_problem(problems[i]).rewards.dtype)
    dtype = jnp.result_type(*dtypes)
    try:
        total = _sums.of_sum(parts, float(jnp.finfo(dtype).eps))
    except _sums.TooManyAtomsError as error:
        span = sum(count * float(np.ptp(one.values)) for one, count in parts)
        raise ValueError(
            f"a block of {sum(count for _, count in parts)} symbols must have at most"
            f" {MAX_TOTALS:,} totals, but {error}: their rewards are multiples of no common step"
            f" above {span / MAX_TOTALS:.3g}; round them with round_to_lattice to one that is"
        ) from None
    return Problem(jnp.asarray(total.log_probs, dtype), jnp.asarray(total.values, dtype))


def _block_metrics(
    problem: Problem, n: Any, temperature: Any, log_n: Any, nodes: int | None
) -> Metrics:
    """Metrics of a block's problem, at the cost of its number of totals."""
    if problem.num_outcomes == 1:
        return metrics(problem, n, temperature, log_n=log_n, nodes=nodes)
    return _banded_law(problem, n, temperature, log_n, nodes)[0]


def _banded_law(
    problem: Problem, n: Any, temperature: Any, log_n: Any, nodes: int | None
) -> tuple[Metrics, Array]:
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    shape = _checks.batch_shape(temperature=temperature.shape, n=log_n.shape)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    temperature, log_n = (jnp.broadcast_to(x, shape) for x in (temperature, log_n))
    falling = _sorted.sorted_problem(problem)
    result, log_law = _sorted.over_points(falling, temperature, log_n, plan)
    return result, log_law[..., : problem.num_outcomes][..., ::-1]


def _together(parts: Sequence[tuple[Metrics, int]]) -> Metrics:
    """The metrics of a product of independent laws, each as often as its count says."""
    first, count = parts[0]
    if len(parts) == 1 and count == 1:
        return first
    sums = {field: sum(getattr(x, field) * k for x, k in parts) for field in _ADDITIVE}
    log_chi2 = sum(jnp.log1p(x.chi2) * k for x, k in parts)
    unknown = jnp.full_like(first.tv, jnp.nan)
    return first._replace(
        **sums,
        relative_reward_gap=sums["reward_gap"] / sums["tilted_reward"],
        chi2=jnp.expm1(log_chi2),
        tv=unknown,
        win_rate=unknown,
    )
