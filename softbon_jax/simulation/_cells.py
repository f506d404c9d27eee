"""The cells of a simulation: checked arguments of one batch shape, and a worker over them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from softbon_jax import _arguments, _checks, _memory, _sharding, exact
from softbon_jax.problem import Problem

Array = jax.Array

# The largest n whose counts are all exact integers in float32 and in float64; the largest n over
# which the weight of a stream can grow batch by batch in float32.
FLOAT32_COUNTS_LIMIT, FLOAT64_COUNTS_LIMIT = 2**24, 2**53
LITERAL_LIMIT = 2**27


class Cells(NamedTuple):
    """What is simulated: one cell for each entry of the batch shape, all from one key.

    Attributes:
      key: a Threefry key; cell i draws from fold_in(key, i).
      problem: `[..., K]`.
      n: `[...]` int32 for literal simulation, else in the problem's dtype; 0 where a traced n is not a
        legal number of candidates.
      temperature: `[...]`.
    """

    key: Array
    problem: Problem
    n: Array
    temperature: Array


def prepare(key: Array, problem: Problem, n: Any, temperature: Any, *, literal: bool) -> Cells:
    """The checked arguments of a simulation, broadcast against each other."""
    _checks.key(key)
    problem = _arguments.checked_problem(problem)
    n, largest = _candidates(n, problem.rewards.dtype, literal=literal)
    temperature = _checks.temperature(temperature, problem.rewards.dtype)
    shape = _checks.batch_shape(
        problem=problem.batch_shape, n=n.shape, temperature=temperature.shape
    )
    _memory.check(4 * math.prod(shape) * problem.num_outcomes * problem.rewards.dtype.itemsize)
    aligned = _aligned(problem, n, temperature, shape=shape, largest=largest, literal=literal)
    return Cells(_threefry(key), *aligned)


@functools.partial(jax.jit, static_argnames=("shape", "largest", "literal"))
def _aligned(
    problem: Problem,
    n: Array,
    temperature: Array,
    *,
    shape: tuple[int, ...],
    largest: int,
    literal: bool,
) -> tuple[Problem, Array, Array]:
    """The arguments in one batch shape; n is 0 where a traced one is out of range."""
    if jnp.issubdtype(n.dtype, jnp.floating):
        legal = (n >= 1) & (n <= largest) & (n == jnp.floor(n))
    else:
        legal = (n >= 1) & (n <= min(largest, jnp.iinfo(n.dtype).max))
    n = jnp.where(legal, n, 0).astype(jnp.int32 if literal else problem.rewards.dtype)
    problem = Problem(*(jnp.broadcast_to(x, (*shape, problem.num_outcomes)) for x in problem))
    return problem, jnp.broadcast_to(n, shape), jnp.broadcast_to(temperature, shape)


def _candidates(n: Any, dtype: Any, *, literal: bool) -> tuple[Any, int]:
    """The numbers of candidates as an array, and the largest that is legal."""
    counts_limit = FLOAT64_COUNTS_LIMIT if dtype == jnp.float64 else FLOAT32_COUNTS_LIMIT
    largest = LITERAL_LIMIT if literal else counts_limit
    n = _checks.real("n", n)
    value = _checks.concrete(n)
    if value is not None:
        whole = (value >= 1) & (value == np.floor(value)) & np.isfinite(value)
        _checks.offending("n", value, ~whole, "an integer of at least 1")
        method = "method 'literal'" if literal else f"counts in {dtype}"
        _checks.offending("n", value, value > largest, f"at most {largest} for {method}")
    return n, largest


def _threefry(key: Array) -> Array:
    """The key itself; a key of another generator seeds a Threefry key.

    Under `vmap` an rbg key draws for all keys from the first alone. In a loop that ends for one block
    and not for another it would then draw the same numbers for ever.
    """
    if str(jax.random.key_impl(key)) == "threefry2x32":
        return key
    words = jax.random.bits(key, (2,), jnp.uint32)
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def over_cells(
    worker: Callable[[Array, Problem, Array, Array], Any], cells: Cells, mesh: Mesh | None = None
) -> Any:
    """`worker(key, problem [K], n, temperature)` for every cell in turn, NaN for an illegal cell.

    With a mesh every device works on every cell; the worker says what it does of it.
    """
    shape, outcomes = cells.n.shape, cells.problem.num_outcomes
    chex.assert_equal_shape([cells.n, cells.temperature])
    chex.assert_shape(list(cells.problem), (*shape, outcomes))

    def cell(arguments: tuple) -> Any:
        index, problem, n, temperature = arguments
        log_probs = exact.normalized(problem.log_probs)
        finite = jnp.all(jnp.isfinite(problem.rewards)) & ~jnp.any(jnp.isnan(log_probs))
        legal = finite & (temperature >= 0) & (n >= 1)
        # Harmless numbers in an illegal cell: a loop that looks at NaN may never end.
        log_probs = jnp.where(legal, log_probs, -math.log(outcomes))
        harmless = Problem(log_probs, jnp.where(legal, problem.rewards, 0))
        n, temperature = (jnp.where(legal, x, 1) for x in (n, temperature))
        result = worker(jax.random.fold_in(cells.key, index), harmless, n, temperature)
        return jax.tree.map(lambda x: jnp.where(legal, x, jnp.nan), result)

    def local(index: Array, problem: Problem, n: Array, temperature: Array) -> Any:
        flat = Problem(*(x.reshape(-1, outcomes) for x in problem))
        out = lax.map(cell, (index.reshape(-1), flat, n.reshape(-1), temperature.reshape(-1)))
        return jax.tree.map(lambda x: x.reshape(*index.shape, *x.shape[1:]), out)

    index = jnp.arange(cells.n.size, dtype=jnp.int32).reshape(shape)
    arguments = (index, cells.problem, cells.n, cells.temperature)
    if mesh is not None:
        return _sharding.on_every_device(local, arguments, mesh)
    return _sharding.over_shards(local, arguments, (0, 1, 0, 0))
