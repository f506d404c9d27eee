"""Sequences with memory: soft best-of-n along a Markov chain, and the values that make it exact.

The reward of a sequence is the sum of the rewards of its states, or of its transitions. Whole sequences
are selected by a law that depends on their total alone, whose law is a transfer matrix away. Selecting
state by state, or block by block, makes another Markov chain of the sequence. With the soft value of
the last state added to the reward, what that chain tends to is the tilted law of the whole sequence.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _batching, _checks
from softbon_jax.exact import _blockwise, _plan, _soft, _stretches, sequences
from softbon_jax.exact._measures import Metrics, nan_below_one
from softbon_jax.problem import Problem, probability_tolerance

Array = jax.Array


# Soft values -------------------------------------------------------------------------------------


def soft_values(kernel: Any, rewards: Any, length: int, temperature: Any) -> Array:
    """What each state of a Markov chain is worth: its future reward, softly averaged.

    V_t(s) = λ log E[e^{(future reward)/λ} | s_t = s], where the future reward is that of the states, or
    transitions, after position t. Selection by reward plus V at each step has the tilted law of the
    whole sequence as its limit.

    Args:
      kernel: `[S, S]` probabilities of the next state, a row for each state, traced.
      rewards: `[S]` of a state or `[S, S]` of a transition (from, to), traced.
      length: m, static, at least 1: the number of states of a sequence.
      temperature: `[...]` λ, reward units, traced; 0 gives the largest future reward of positive
        probability, inf its mean.

    Returns:
      `[..., m, S]` in reward units, a row for each position; the last is 0.

    Raises:
      TypeError: an argument is not real.
      ValueError: rows of the kernel that are not laws, infinite rewards, a negative temperature, length
        < 1, or shapes that do not match. Values are checked when they are concrete; traced bad values
        give NaN.

    Numerics: a backward recursion in logs, at a cost of m S²; the rounding is about eps · |V|.
      Differentiable in all that is traced, at a temperature in (0, inf).
    Source: derived here; the backward recursion of Feynman and Kac.

    Example:
      >>> kernel = [[0.9, 0.1], [0.5, 0.5]]
      >>> np.round(np.float64(sb.soft_values(kernel, [0.0, 1.0], 3, 0.5)), 3).tolist()
      [[0.76, 1.396], [0.247, 0.717], [0.0, 0.0]]
    """
    kernel, rewards = _checked_kernel(kernel, rewards)
    length = _checks.positive_integer("length", length)
    temperature = _checks.temperature(temperature, kernel.dtype)
    return _soft_values(kernel, rewards, temperature, length=length)


@functools.partial(jax.jit, static_argnames="length")
def _soft_values(kernel: Array, rewards: Array, temperature: Array, *, length: int) -> Array:
    log_kernel = _stretches.log_of_law(jnp, kernel)
    rewards = _stretches.on_transitions(jnp, _stretches.Chain(kernel[0], kernel, rewards))
    poison = jnp.where(jnp.isnan(log_kernel + rewards).any(), jnp.nan, 0.0)

    def one(temperature: Array) -> Array:
        return _blockwise.state_values(log_kernel, rewards, temperature, length)

    scalars = (temperature + poison.astype(temperature.dtype),)
    return _batching.over_batch(one, (), scalars, elements=kernel.size + length * kernel.shape[0])


# Metrics -----------------------------------------------------------------------------------------


def markov_metrics(
    initial: Any,
    kernel: Any,
    rewards: Any,
    length: int,
    n: Any = None,
    temperature: Any = None,
    block_size: int | None = None,
    values: Any = None,
    log_n: Any = None,
    *,
    nodes: int | None = None,
) -> Metrics:
    """Every metric of soft best-of-n, block by block, over sequences of a Markov chain.

    The sequence s_1, ..., s_m has the reward r(s_1) + ... + r(s_m), or r(s_1, s_2) + ... +
    r(s_{m-1}, s_m) where transitions are rewarded: then the first state has none. It is cut into blocks
    of `block_size` states, the last one shorter if need be; from where it has come to, n continuations
    by a block are drawn, and one is selected by its reward plus the value of its last state.

    Args:
      initial: `[S]` probabilities of the first state, traced.
      kernel: `[S, S]` probabilities of the next state, a row for each state, traced.
      rewards: `[S]` of a state or `[S, S]` of a transition (from, to), traced where `block_size` is 1,
        and otherwise concrete, since the number of totals depends on them.
      length: m, static, at least 1: the number of states of a sequence.
      n: `[...]` number of candidates for each block, real >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` λ, in the units of the total reward, traced; 0 and inf are legal.
      block_size: states in a block, static, from 1 (state by state) to m. Default: m, whole sequences.
      values: `[..., m, S]` in reward units, traced: row t is added to the reward when a block that ends
        at position t is selected, not when rewards are counted. Default: 0.
      log_n: `[...]` log n in nats instead of n, traced, for n = e^{hundreds}.
      nodes: static number of quadrature nodes; see `log_soft_bon`. Needed where arguments are traced and
        range/temperature + log n is large.

    Returns:
      `Metrics` of the broadcast shape of n, temperature and values, of whole sequences: P is the chain
      itself, P* its law tilted by the total reward without values, at temperature 0 the law given the
      largest total. `tv` and `win_rate` are NaN where there is more than one block.

    Raises:
      TypeError: an argument is not real, or the rewards of blocks are traced.
      ValueError: probabilities that are not laws, infinite rewards or values, n < 1, a negative
        temperature, `block_size` not between 1 and m, shapes that do not match, or more than 65,536
        totals of a block; then round the rewards, as `round_to_lattice` does. Values are checked when
        they are concrete; traced bad values give NaN.

    Numerics: about 1e-11 relative in float64, also where divergences vanish, as they do like 1/n² with
      soft values. Values that are soft values to rounding, up to a constant for each position, are taken
      to be exactly those. Where the rewards are multiples of some step after subtracting the lowest, the
      totals of a block of b are b · range/step + 1 in number, otherwise they are counted. Whole
      sequences cost m S² times that, other blocks quadrature nodes times that and the number of starts.
      chi2 is inf where it overflows. Differentiable in all that is traced, at a temperature in (0, inf),
      and once in the rewards, those of blocks outside of `jit`; there tv and win_rate are taken as ties.
    Source: derived here: the chain rule along the selected and the tilted chain.

    Example:
      >>> kernel, rewards = [[0.9, 0.1], [0.5, 0.5]], [0.0, 1.0]
      >>> values = sb.soft_values(kernel, rewards, 8, 0.5)
      >>> for options in ({}, {"block_size": 1}, {"block_size": 1, "values": values}):
      ...     found = sb.markov_metrics([1.0, 0.0], kernel, rewards, 8, 16, 0.5, **options)
      ...     print(f"{found.reward:.2f} {found.kl_tilted_soft:.4f}")
      3.84 1.9075
      4.55 0.6519
      5.98 0.0658
    """
    chain = _checked_chain(initial, kernel, rewards)
    dtype = chain.kernel.dtype
    length = _checks.positive_integer("length", length)
    size = length if block_size is None else _checks.positive_integer("block_size", block_size)
    if size > length:
        raise ValueError(f"block_size must be at most length = {length}, got {size}")
    temperature = _checks.temperature(temperature, dtype)
    log_n = _checks.log_candidates(n, log_n, dtype)
    shapes = {"temperature": temperature.shape, "n": log_n.shape}
    if values is not None:
        values = _checks.finite("values", values, dtype)
        wanted = (length, chain.num_states)
        if values.shape[-2:] != wanted:
            raise ValueError(
                f"values must be of shape [..., {wanted[0]}, {wanted[1]}], got {values.shape}"
            )
        shapes["values"] = values.shape[:-2]
    _checks.batch_shape(**shapes)
    if values is None and size == length > 1:
        block = _stretches.total_problem(chain, length)
        return _nan_unless_laws(chain, sequences.block_metrics(block, temperature, log_n, nodes))
    layout = _stretches.layout(length, size)
    if values is not None:  # in NumPy where it can be, which compiles nothing
        known = None if isinstance(values, jax.core.Tracer) else np.asarray(values)
        values = (values if known is None else known)[..., layout.last, :]
    source = chain if size == 1 else _stretches.stretches(chain, length, size)
    plan = _rows_plan(source, values, layout.kinds, temperature, log_n, nodes)
    result = _interior(source, values, layout.kinds, temperature, log_n, plan)
    if _plan.may_be_limit(temperature):
        result = _at_limits(result, source, values, layout.kinds, temperature, log_n)
    return _nan_unless_laws(chain, result)


def _nan_unless_laws(chain: _stretches.Chain, result: Metrics) -> Metrics:
    """NaN where laws that are traced are none; those that are known have been checked."""
    laws = [x for x in (chain.initial, chain.kernel) if isinstance(x, jax.core.Tracer)]
    if not laws:
        return result
    illegal = [jnp.isnan(_stretches.log_of_law(jnp, x)).any() for x in laws]
    poison = jnp.where(jnp.stack(illegal).any(), jnp.nan, 0.0)
    return jax.tree.map(lambda x: x + poison.astype(x.dtype), result)


def _checked_kernel(kernel: Any, rewards: Any) -> tuple[Array, Array]:
    """Both as arrays of one dtype; ValueError for bad values and shapes."""
    kernel = _probabilities("kernel", kernel)
    rewards = _checks.finite("rewards", rewards)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"kernel must be of shape [S, S], got shape {kernel.shape}")
    states = kernel.shape[0]
    if rewards.shape not in ((states,), (states, states)):
        raise ValueError(
            f"rewards must be of shape ({states},) or ({states}, {states}), got {rewards.shape}"
        )
    dtype = jnp.promote_types(kernel.dtype, rewards.dtype)
    return kernel.astype(dtype), rewards.astype(dtype)


def _checked_chain(initial: Any, kernel: Any, rewards: Any) -> _stretches.Chain:
    initial = _probabilities("initial", initial)
    kernel, rewards = _checked_kernel(kernel, rewards)
    if initial.shape != kernel.shape[:1]:
        raise ValueError(f"initial must be of shape {kernel.shape[:1]}, got {initial.shape}")
    dtype = jnp.promote_types(initial.dtype, kernel.dtype)
    return _stretches.Chain(initial.astype(dtype), kernel.astype(dtype), rewards.astype(dtype))


def _probabilities(name: str, probs: Any) -> Array:
    """Laws on the last axis, as an array; ValueError for what is none."""
    probs = _checks.as_float(name, probs)
    _checks.outcomes(name, probs, "state")
    value = _checks.concrete(probs)
    if value is not None:
        bad = ~(np.isfinite(value) & (value >= 0))
        _checks.offending(name, value, bad, "finite and not negative")
        total = value.sum(-1, dtype=np.float64)
        bad = np.abs(total - 1) > probability_tolerance(probs.dtype)
        _checks.offending(f"the sum of {name} over next states", total, bad, "1")
    return probs


# The compiled workers ----------------------------------------------------------------------------


def _rows_plan(
    source: _stretches.Chain | _blockwise.Blocks,
    values: Array | None,
    kinds: np.ndarray,
    temperature: Array,
    log_n: Array,
    nodes: int | None,
) -> _plan.Plan:
    """The plan for the rows of all blocks."""
    arrays = [x for x in (*source, values) if x is not None]
    known: Any = [_checks.concrete(x) for x in arrays]
    unknown = [x for x, value in zip(arrays, known, strict=True) if value is None]
    if unknown:
        return _plan.quadrature_plan(Problem(unknown[0], unknown[0]), temperature, log_n, nodes)
    dtype = arrays[0].dtype
    with np.errstate(divide="ignore"):
        blocks = _blocks(np, type(source)(*known[: len(source)]), kinds)
    laws: Any = blocks.laws
    rewards: Any = blocks.totals
    if values is not None:
        laws, rewards = laws[kinds], rewards[kinds] + known[-1][..., None, None, :]
    laws, rewards = (x.reshape(*x.shape[:-2], -1).astype(dtype) for x in (laws, rewards))
    flat: Any = (laws, rewards)
    known_temperature: Any = _checks.concrete(temperature)
    if known_temperature is not None:  # against the batch of rows
        temperature = known_temperature[..., None, None]
    return _plan.quadrature_plan(Problem(*flat), temperature, log_n, nodes)


def _blocks(
    xp: Any, source: _stretches.Chain | _blockwise.Blocks, kinds: np.ndarray
) -> _blockwise.Blocks:
    """The blocks, from the chain where they are single states."""
    if isinstance(source, _stretches.Chain):
        return _stretches.steps(xp, source, kinds)
    return source


def _over_batch(
    worker: Any,
    source: _stretches.Chain | _blockwise.Blocks,
    values: Array | None,
    kinds: np.ndarray,
    scalars: tuple[Array, ...],
    nodes: int,
) -> Any:
    """`worker(blocks, values, *scalars)` over all leading axes; values `[..., J, S]` of block ends."""
    blocks = _blocks(jnp, source, kinds)
    bad = jnp.isnan(blocks.laws).any() | jnp.isnan(blocks.totals).any()
    poison = jnp.where(bad, jnp.nan, 0.0)
    scalars = tuple(x + poison.astype(x.dtype) for x in scalars)
    of_kind = math.prod(blocks.laws.shape[1:])
    of_rows = 5 * of_kind * blocks.kinds.size
    elements = math.prod(blocks.laws.shape) * nodes
    elements = max(elements, of_kind * blocks.kinds.size)
    if values is None:
        rows = math.prod(blocks.laws.shape[:2])
        least = of_rows + _blockwise.elements_at_once(blocks, rows, nodes)
        return _batching.over_batch(
            lambda *x: worker(blocks, None, *x), (), scalars, elements=elements, least=least
        )
    elements = of_kind * blocks.kinds.size * nodes
    rows = blocks.kinds.size * blocks.laws.shape[1]
    least = of_rows + _blockwise.elements_at_once(blocks, rows, nodes)

    def one(values: Array, *scalars: Array) -> Any:
        return worker(blocks, values.reshape(blocks.kinds.size, -1), *scalars)

    flat = values.reshape(*values.shape[:-2], -1)
    return _batching.over_batch(one, (flat,), scalars, elements=elements, least=least)


@jax.jit
def _interior(
    source: _stretches.Chain | _blockwise.Blocks,
    values: Array | None,
    kinds: np.ndarray,
    temperature: Array,
    log_n: Array,
    plan: _plan.Plan,
) -> Metrics:
    def one(blocks: _blockwise.Blocks, values: Array | None, *scalars: Array) -> Metrics:
        temperature, log_n = scalars
        temperature = _soft.interior_temperature(temperature, blocks.totals)
        found = _blockwise.soft_metrics(blocks, values, temperature, log_n, plan)
        return nan_below_one(log_n, found)

    return _over_batch(one, source, values, kinds, (temperature, log_n), plan.nodes)


@jax.jit
def _at_limits(
    soft: Metrics,
    source: _stretches.Chain | _blockwise.Blocks,
    values: Array | None,
    kinds: np.ndarray,
    temperature: Array,
    log_n: Array,
) -> Metrics:
    """`soft` with the limits where the temperature is 0 or inf; they do not depend on it."""

    def one(blocks: _blockwise.Blocks, values: Array | None, log_n: Array) -> Any:
        return nan_below_one(log_n, _blockwise.limits(blocks, values, log_n))

    hard, base = _over_batch(one, source, values, kinds, (log_n,), 1)
    temperature = jnp.broadcast_to(temperature, soft.reward.shape)

    def chosen(soft: Array, hard: Array, base: Array) -> Array:
        hard, base = (jnp.broadcast_to(x, soft.shape) for x in (hard, base))
        return jnp.where(temperature == 0, hard, jnp.where(jnp.isposinf(temperature), base, soft))

    return jax.tree.map(chosen, soft, hard, base)
