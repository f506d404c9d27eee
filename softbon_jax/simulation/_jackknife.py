"""Simulated trials in groups: totals in bounded memory, and the grouped jackknife.

Trials are simulated in blocks of `LANES` with a key each; trial j of every block is in group j. The
spread between groups gives standard errors; the delete-a-group jackknife removes bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from softbon_jax import _loops
from softbon_jax.simulation._draws import LANES

Array = jax.Array


def group_sizes(trials: Array) -> Array:
    """The number of trials in each of the `LANES` groups."""
    lane = jnp.arange(LANES, dtype=jnp.int32)
    return trials // LANES + (lane < trials % LANES).astype(jnp.int32)


def accumulate(
    key: Array,
    trials: Array,
    *,
    simulate: Callable[[Array], Array],
    add: Callable[[Array, Array, Array], Array],
    start: Array,
    blocks: int,
    axes: tuple[str, ...] = (),
) -> Array:
    """Totals by group over all trials.

    Args:
      key: block b has key fold_in(key, b).
      trials: () int32, how many.
      simulate: from the key of a block to its `LANES` trials `[LANES, ...]`.
      add: from totals `[LANES, ...]`, the trials of a block, and `[LANES]` bool that says which of
        them count, to new totals.
      start: totals before the first block.
      blocks: how many are in flight at once. Block b is added b-th, so this does not affect the result.
      axes: of the mesh, static, inside `shard_map`: each device has blocks of its own, and their totals
        are added up at the end.
    """
    lane = jnp.arange(LANES, dtype=jnp.int32)
    within = jnp.arange(blocks, dtype=jnp.int32)
    devices = 1
    if axes:
        devices = lax.axis_size(axes)
        within = within + blocks * lax.axis_index(axes)

    def step(i: Array, total: Array) -> Array:
        block = i * (blocks * devices) + within
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, block)
        counts = block[:, None] * LANES + lane[None] < trials

        def add_one(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
            return add(total, *block), None

        return _loops.scan(add_one, total, (jax.vmap(simulate)(keys), counts))[0]

    total = _loops.fori_loop(0, (trials - 1) // (LANES * blocks * devices) + 1, step, start)
    return lax.psum(total, axes) if axes else total


def add_rows(total: Array, value: Array, counts: Array) -> Array:
    """Add the values `[LANES, ...]` of those trials that count to the totals of their groups."""
    return total + jnp.where(counts.reshape(LANES, *(1,) * (value.ndim - 1)), value, 0)


def add_selected(total: Array, outcome: Array, counts: Array) -> Array:
    """Add the selected outcomes `[LANES]` to the histograms `[LANES, K]` of their groups."""
    chex.assert_rank([total, outcome], [2, 1])
    return total.at[jnp.arange(LANES), outcome].add(counts.astype(total.dtype))


def means(totals: Array, sizes: Array) -> tuple[Array, Array]:
    """The mean `[...]` of all trials and the means `[LANES, ...]` with each group left out."""
    total, trials = jnp.sum(totals, axis=0), jnp.sum(sizes)
    return total / trials, (total[None] - totals) / (trials - sizes)[:, None]


def mean_and_error(totals: Array, trials: Array, dtype: Any) -> tuple[Array, Array]:
    """The mean `[K]` of all trials and its standard error, from totals `[LANES, K]`.

    `jackknife` of `means` with less memory.
    """
    sizes = group_sizes(trials).astype(dtype)
    trials, some = trials.astype(dtype), sizes > 0
    mean = jnp.sum(totals.astype(dtype), axis=0) / trials
    # With s of T trials in a group, (pseudo-value - mean)²/(T/s - 1) is this square over s (T - s).
    weight = jnp.where(some, 1 / (jnp.where(some, sizes, 1) * (trials - sizes)), 0)
    away = totals.astype(dtype) - sizes[:, None] * mean[None]
    # As a product: XLA's own loop over groups is a hundred times slower with many outcomes.
    return mean, jnp.sqrt(weight @ (away * away) / jnp.sum(some).astype(dtype))


def jackknife(value: Array, without: Array, sizes: Array) -> tuple[Array, Array]:
    """Bias-corrected value and standard error `[...]`, from the values with each group left out."""
    chex.assert_shape(without, (LANES, *value.shape))
    sizes = sizes.reshape(LANES, *(1,) * value.ndim)
    trials, some = jnp.sum(sizes), sizes > 0
    groups = jnp.sum(some).astype(sizes.dtype)
    corrected = value + jnp.sum(
        jnp.where(some, (1 - sizes / trials) * (value[None] - without), 0), 0
    )
    ratio = trials / jnp.where(some, sizes, 1)
    pseudo = value[None] + (ratio - 1) * (value[None] - without)
    squares = (pseudo - corrected[None]) ** 2 / (ratio - 1)
    return corrected, jnp.sqrt(jnp.sum(jnp.where(some, squares, 0), axis=0) / groups)
