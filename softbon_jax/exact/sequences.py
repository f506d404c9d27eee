"""Additive rewards over sequences: exact laws of blocks, of symbols and of blocks in between.

The reward of a sequence of m symbols, drawn independently from a reference law, is the sum of theirs.
Selecting among n whole sequences ("blockwise"), among n symbols at each position ("symbolwise"), or
block by block, gives laws that depend on a block only through its total reward, so the law of the
total is all that is needed: a `Problem` like any other.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _checks, _memory
from softbon_jax.exact import _blocks, _plan, _sorted, _sums
from softbon_jax.exact.laws import compiled_law
from softbon_jax.exact.metrics import Metrics, checked_metrics
from softbon_jax.problem import Problem

Array = jax.Array

MAX_TOTALS = _sums.MAX_ATOMS
"""The most distinct totals that a block may have: 65,536."""


class Rounded(NamedTuple):
    """A problem with its rewards rounded to a lattice, and the rounding error.

    Attributes:
      problem: the rounded `Problem`.
      error: `[...]` the largest change of a reward of positive probability, in reward units.
    """

    problem: Problem
    error: Array


class Costs(NamedTuple):
    """What decoding one sequence costs; floats, inf where they overflow.

    Attributes:
      symbol_draws: draws from the reference model, n for each of the m symbols whatever the blocks.
      reward_calls: scorings of a candidate, n for each block: a block is scored as a whole.
    """

    symbol_draws: Array
    reward_calls: Array


def block_problem(
    problem: Problem | Sequence[Problem], m: int | None = None, *, rewards: Any = None
) -> Problem:
    """The law of the total reward of m independent symbols, as a problem of its own.

    Every law of this package applies to the result at the same temperature: it gives the law of the
    total of the sequence that is selected among n whole ones. For rewards that are averages over the
    sequence, divide the rewards by m, or multiply the temperature by m.

    Args:
      problem: `[K]`, or a sequence of m problems, one for each position. Probabilities may be traced;
        rewards are concrete, in NumPy where the call is inside `jit`.
      m: the sequence length, static, at least 1; may be left out for a sequence of problems.
      rewards: `[K]` static, in the place of the problem's, or of those of every problem.

    Returns:
      A `Problem` `[S]` of the distinct totals in rising order, in the common dtype of the arguments.
      Totals of probability 0 are left out; where the probabilities are traced they stay, at -inf.

    Raises:
      TypeError: rewards are traced: the number of totals depends on their values.
      ValueError: m < 1 or not the number of problems, a batch of problems, a problem that is not a
        law, or more than `MAX_TOTALS` totals; then round the rewards with `round_to_lattice`. With
        traced probabilities also rewards on no lattice. A traced bad problem gives NaN.

    Numerics: where all rewards, less their lowest, are multiples of some step (found, not declared),
    by convolution, at a cost of (m · range/step)²; for any other rewards by types, that is by how
    often each symbol occurs, of which there are C(m+K-1, K-1). Totals closer than 4 eps of the largest
    possible total are merged. All in float64 on the host; sums of non-negative terms in levels of
    e^300, so that a probability of e^{-thousands} has a relative error of about 1e-12. Traced
    probabilities are convolved on the device, in m steps of K times the number of totals, and are
    differentiable.
    Source: derived here: the likelihood ratio of a block and of its total are the same.

    Example:
      >>> block = sb.block_problem(sb.bernoulli(0.5), 3)
      >>> block.rewards.tolist(), np.round(8 * np.exp(block.log_probs), 3).tolist()
      ([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 3.0, 1.0])
    """
    total = _blocks.total_law(*_blocks.distinct(problem, m, rewards=rewards))
    if isinstance(total.log_probs, jax.core.Tracer):
        return _blocks.with_infinities(total)
    return Problem(*(jnp.asarray(x) for x in total))


def log_block_law(
    block: Problem,
    n: Any = None,
    temperature: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Array:
    """The exact law of the total that soft best-of-n selects among n blocks.

    The same as `log_soft_bon`, in time and memory proportional to the number of totals alone: a
    block of a thousand symbols has thousands of totals and a range of thousands of temperatures.

    Args:
      block: `[S]` as `block_problem` makes it, traced: rewards rising strictly, all of positive
        probability.
      n: `[...]` number of candidates, real >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` in reward units, traced; 0 and inf are legal.
      log_n: `[...]` log n in nats instead of n, traced.
      nodes: static number of quadrature nodes; see `log_soft_bon`.

    Returns:
      `[..., S]` log-probabilities in nats. NaN where `nodes` is too small.

    Raises:
      TypeError: as `log_soft_bon`.
      ValueError: as `log_soft_bon`, a batch of blocks, a total of probability 0, or rewards that do
        not rise.

    Numerics: as `log_soft_bon`; every log-probability to about eps · (range/temperature + |log P|).
    Source: derived here; see `log_soft_bon`.

    Example:
      >>> block = sb.block_problem(sb.bernoulli(0.5), 3)
      >>> np.round(np.exp(np.float64(sb.log_block_law(block, 4, 0.5))), 3).tolist()
      [0.007, 0.131, 0.506, 0.356]
    """
    block = _arguments.checked_problem(block, "block")
    temperature, log_n = _arguments.checked_parameters(n, temperature, log_n, block.rewards.dtype)
    log_probs, rewards = (_checks.concrete(x) for x in block)
    if block.batch_shape != ():
        raise ValueError(f"block must be of shape [S], got batch shape {block.batch_shape}")
    if rewards is not None and (np.diff(rewards) <= 0).any():
        raise ValueError("block must have rising rewards, as block_problem makes them")
    if log_probs is not None:
        _checks.offending("block.log_probs", log_probs, np.isneginf(log_probs), "finite")
    _checks.batch_shape(temperature=temperature.shape, n=log_n.shape)
    plan = _plan.quadrature_plan(block, temperature, log_n, nodes)
    if block.num_outcomes == 1:
        return compiled_law(block, temperature, log_n, plan)[0]
    falling = _metrics_and_law(block, temperature, log_n, plan)[1]
    return _rising(falling, size=block.num_outcomes)


def round_to_lattice(problem: Problem, step: Any) -> Rounded:
    """The problem with every reward moved to the nearest of lowest reward + multiples of `step`.

    Args:
      problem: `[..., K]`, traced.
      step: `[...]` > 0, in reward units, traced.

    Returns:
      `Rounded`, whose `error` e is at most step/2. It bounds what rounding does to a block of m symbols
      at temperature λ: totals move by m e at most, and the log-probabilities of any block under the
      tilted law and under soft best-of-n, for every n, by 2 m e/λ at most.

    Raises:
      TypeError: an argument is not real.
      ValueError: step is not positive and finite, or the problem is not a law; traced bad values
        give NaN.

    Numerics: a reward half-way between two multiples goes to the even one.
    Source: derived here: weights e^{r/λ} change by factors within e^{±me/λ}, and so do numerator and
      denominator of each selection probability.

    Example:
      >>> rounded = sb.round_to_lattice(sb.from_probs([0.5, 0.3, 0.2], [0.0, 0.3, 1.0]), 0.25)
      >>> rounded.problem.rewards.tolist(), round(float(rounded.error), 4)
      ([0.0, 0.25, 1.0], 0.05)
    """
    problem = _arguments.checked_problem(problem)
    step = _checks.finite_positive("step", step, problem.rewards.dtype)
    _checks.batch_shape(problem=problem.batch_shape, step=step.shape)
    return _rounded(problem, step)


@jax.jit
def _rounded(problem: Problem, step: Array) -> Rounded:
    shape = jnp.broadcast_shapes(problem.batch_shape, step.shape)
    numbers = 4 * math.prod(shape) * problem.num_outcomes
    _memory.check(numbers * step.dtype.itemsize)
    log_probs, rewards = jnp.broadcast_arrays(*problem)
    bad = (jnp.isnan(log_probs) | jnp.isnan(rewards)).any(-1, keepdims=True)
    log_probs, rewards = (jnp.where(bad, jnp.nan, x) for x in (log_probs, rewards))
    possible = log_probs > -jnp.inf
    lowest = jnp.min(jnp.where(possible, rewards, jnp.inf), axis=-1, keepdims=True)
    step = step[..., None]
    step = step.reshape((1,) * (rewards.ndim - step.ndim) + step.shape)
    rounded = lowest + step * jnp.round((rewards - lowest) / step)
    error = jnp.max(jnp.where(possible, jnp.abs(rounded - rewards), 0.0), axis=-1)
    return Rounded(Problem(log_probs, rounded), jnp.where(bad[..., 0], jnp.nan, error))


def blockwise_metrics(
    problem: Problem | Sequence[Problem],
    m: int | None,
    n: Any = None,
    temperature: Any = None,
    *,
    block_size: int | None = None,
    log_n: Any = None,
    nodes: int | None = None,
    rewards: Any = None,
) -> Metrics:
    """Every metric of soft best-of-n, block by block, over sequences of m symbols.

    The sequence is cut into blocks of `block_size` symbols, the last one shorter if need be; for each
    block n candidates are drawn and one is selected. The blocks are independent: rewards and
    divergences add, and 1 + χ² multiplies.

    Args:
      problem: `[K]` the law of a symbol and its reward, or a sequence of m problems, one for each
        position. Probabilities may be traced; rewards as for `block_problem`.
      m: the sequence length, static, at least 1; None for a sequence of problems.
      n: `[...]` number of candidates for each block, real >= 1, traced; left out when `log_n` is
        given.
      temperature: `[...]` the paper's λ, in the units of the total reward, traced; 0 and inf are
        legal.
      block_size: symbols in a block, static, from 1 to m. Default: m, whole sequences.
      log_n: `[...]` log n in nats instead of n, traced, for n = e^{hundreds}.
      nodes: static number of quadrature nodes; see `log_soft_bon`. Needed when n or temperature are
        traced and range/temperature + log n is large.
      rewards: `[K]` static, as for `block_problem`.

    Returns:
      `Metrics` of the broadcast shape of n and temperature, of the whole sequence against P*^{⊗m} and
      P^{⊗m}. `tv` and `win_rate` do not add, and are NaN where there is more than one block.

    Raises:
      TypeError: as `block_problem` and `metrics`.
      ValueError: as `block_problem` and `metrics`; block_size not between 1 and m.

    Numerics: as `metrics`, with errors of about eps · (range/temperature + |log P|) of the block. In
    float32 that is 1e-4 for a thousand symbols. Time and memory are proportional to the number of
    totals, not to totals times nodes. Differentiable in n, temperature and log-probabilities.
    Source: derived here: given the total, the selected block has the law of P, so that divergences
    between laws of blocks are those between laws of their totals.

    Example:
      >>> whole, halves = (
      ...     sb.blockwise_metrics(sb.bernoulli(0.5), 8, 16, 0.5, block_size=size) for size in (8, 4)
      ... )
      >>> round(float(whole.reward), 3), round(float(halves.reward), 3)
      (6.153, 6.633)
    """
    problems, positions = _blocks.distinct(problem, m, rewards=rewards)
    length = len(positions)
    size = length if block_size is None else _checks.positive_integer("block_size", block_size)
    if size > length:
        raise ValueError(f"block_size must be at most m = {length}, got {size}")
    temperature, log_n = _parameters(problems, n, temperature, log_n)
    # Blocks with the same symbols in another order have the same law.
    blocks = Counter(tuple(sorted(block)) for block in _blocks.cut(positions, size))
    parts = []
    for block, count in blocks.items():
        total = _blocks.total_law(problems, block)
        if isinstance(total.log_probs, jax.core.Tracer):
            total = _blocks.impossible_first(total)
        dtype = total.rewards.dtype
        metrics = block_metrics(total, temperature.astype(dtype), log_n.astype(dtype), nodes)
        parts.append((metrics, count))
    return _product(parts)


def symbolwise_metrics(
    problem: Problem | Sequence[Problem],
    m: int | None,
    n: Any = None,
    temperature: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Metrics:
    """Every metric of soft best-of-n, symbol by symbol, over sequences of m symbols.

    At each position n symbols are drawn and one is selected: `blockwise_metrics` with blocks of 1.

    Args:
      problem: `[..., K]` the law of a symbol and its reward, traced, or a sequence of m problems, one
        for each position.
      m: the sequence length, static, at least 1; None for a sequence of problems.
      n: `[...]` number of candidates for each symbol, real >= 1, traced; left out when `log_n` is
        given.
      temperature: `[...]` in reward units, traced; 0 and inf are legal.
      log_n: `[...]` log n in nats instead of n, traced.
      nodes: static number of quadrature nodes; see `log_soft_bon`.

    Returns:
      `Metrics` of the broadcast batch shape, of the whole sequence. `tv` and `win_rate` are NaN
      where m > 1.

    Raises:
      TypeError: as `metrics`.
      ValueError: m < 1 or not the number of problems, and as `metrics`.

    Numerics: as `metrics`, whose results are added or multiplied; differentiable in everything.
    Source: arXiv:2505.03156 (symbolwise sampling); laws of independent symbols.

    Example:
      >>> symbols = sb.symbolwise_metrics(sb.bernoulli(0.5), 8, 16, 0.5)
      >>> round(float(symbols.reward), 3)
      6.956
    """
    problems, positions = _blocks.distinct(problem, m, batched=True)
    temperature, log_n = _parameters(problems, n, temperature, log_n)
    parts = []
    for i, count in Counter(positions).items():
        one, dtype = problems[i], problems[i].rewards.dtype
        _checks.batch_shape(problem=one.batch_shape, temperature=temperature.shape, n=log_n.shape)
        metrics = checked_metrics(one, temperature.astype(dtype), log_n.astype(dtype), nodes)
        parts.append((metrics, count))
    return _product(parts)


def sequence_costs(
    m: int, n: Any = None, *, block_size: int | None = None, log_n: Any = None
) -> Costs:
    """What decoding m symbols costs, with n candidates for each block of `block_size`.

    Args:
      m: the sequence length, static, at least 1.
      n: `[...]` number of candidates, real >= 1, traced; left out when `log_n` is given.
      block_size: symbols in a block, static, from 1 (symbolwise) to m (blockwise, the default).
      log_n: `[...]` log n in nats instead of n, traced.

    Returns:
      `Costs` of shape `[...]`: n·m symbol draws and n·⌈m/block_size⌉ reward calls. At equal n all
      block sizes draw equally many symbols.

    Raises:
      TypeError: n is not real.
      ValueError: m, block_size or n out of range.

    Numerics: inf where n overflows.
    Source: counting.

    Example:
      >>> costs = sb.sequence_costs(10, 3, block_size=4)
      >>> round(float(costs.symbol_draws)), round(float(costs.reward_calls))
      (30, 9)
    """
    m = _checks.positive_integer("m", m)
    size = m if block_size is None else _checks.positive_integer("block_size", block_size)
    if size > m:
        raise ValueError(f"block_size must be at most m = {m}, got {size}")
    candidates = jnp.exp(_checks.log_candidates(n, log_n))
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


def _parameters(
    problems: Sequence[Problem], n: Any, temperature: Any, log_n: Any
) -> tuple[Array, Array]:
    """(temperature, log n), checked, in the common dtype of the problems; their shapes broadcast."""
    dtype = jnp.result_type(*(one.rewards.dtype for one in problems))
    temperature, log_n = _arguments.checked_parameters(n, temperature, log_n, dtype)
    _checks.batch_shape(temperature=temperature.shape, n=log_n.shape)
    return temperature, log_n


def block_metrics(block: Problem, temperature: Array, log_n: Array, nodes: int | None) -> Metrics:
    """Metrics `[...]` of a block's problem `[S]`, from checked arguments."""
    plan = _plan.quadrature_plan(block, temperature, log_n, nodes)
    if block.num_outcomes == 1:
        return checked_metrics(block, temperature, log_n, nodes)
    return _metrics_and_law(block, temperature, log_n, plan)[0]


def _metrics_and_law(
    block: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> tuple[Metrics, Array]:
    """Metrics `[...]` of a block of S >= 2 totals, and log P_n of these falling, with padding."""
    traced = any(isinstance(x, jax.core.Tracer) for x in (temperature, log_n))
    # NumPy compiles nothing.
    broadcast: Any = jnp.broadcast_arrays if traced else np.broadcast_arrays
    temperature, log_n = broadcast(temperature, log_n)
    return _sorted.metrics_and_law(_sorted.sorted_problem(block), temperature, log_n, plan)


@functools.partial(jax.jit, static_argnames="size")
def _rising(log_law: Array, *, size: int) -> Array:
    """The law without what pads it, totals rising."""
    return log_law[..., :size][..., ::-1]


def _product(parts: Sequence[tuple[Metrics, int]]) -> Metrics:
    """The metrics of a product of independent laws, each repeated as often as its count says."""
    laws, counts = zip(*parts, strict=True)
    return laws[0] if counts == (1,) else _product_of(laws, np.array(counts, laws[0].tv.dtype))


@jax.jit
def _product_of(laws: Sequence[Metrics], counts: Array) -> Metrics:
    sums = {
        field: sum(getattr(x, field) * k for x, k in zip(laws, counts, strict=True))
        for field in _ADDITIVE
    }
    log_chi2 = sum(jnp.log1p(x.chi2) * k for x, k in zip(laws, counts, strict=True))
    unknown = jnp.full_like(laws[0].tv, jnp.nan)
    return laws[0]._replace(
        **sums,
        relative_reward_gap=sums["reward_gap"] / sums["tilted_reward"],
        chi2=jnp.expm1(log_chi2),
        tv=unknown,
        win_rate=unknown,
    )
