"""From the kernels of one pool at one temperature to the grid of prompts, temperatures and n."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, exact
from softbon_jax.pools._sorted import Pool

Array = jax.Array


class Kernel(NamedTuple):
    """How one pool is worked on, static; all three return a tree of arrays `[M]` or `[N, M]`.

    Attributes:
      soft: of (pool, n, temperature in (0, inf), work).
      hard: of (pool, n), at temperature 0.
      base: of (pool, n), at temperature inf.
      elements: of (N, M, work): the array elements that `soft` needs at a time; without work the others.
    """

    soft: Callable[[Pool, Array, Array, Any], Any]
    hard: Callable[[Pool, Array], Any]
    base: Callable[[Pool, Array], Any]
    elements: Callable[[int, int, Any], int]


class Group(NamedTuple):
    """The kernel that some temperatures share; static.

    Attributes:
      regime: "soft", "hard" or "base" for temperatures in (0, inf), 0 and inf; "any" for traced ones.
      work: the sizes that the soft kernel is compiled for; None where it is not needed.
    """

    regime: str
    work: Hashable = None


class Members(NamedTuple):
    """Which temperatures are in which group.

    Attributes:
      of_group: for each group `[..]` positions in the flattened temperatures.
      position: `[T]` where each temperature is in the groups, one after the other.
    """

    of_group: tuple[np.ndarray, ...]
    position: np.ndarray


def grouped(
    temperature: Array, work: Callable[[float | None], Hashable]
) -> tuple[tuple[Group, ...], Members]:
    """The temperatures by what has to be compiled for them.

    Args:
      temperature: a scalar or `[T]`.
      work: for a temperature in (0, inf), or None for traced ones.

    Returns:
      The groups and who is in them.
    """

    def group_of(value: float) -> Group:
        if value == 0 or np.isposinf(value):
            return Group("hard" if value == 0 else "base")
        return Group("soft", work(value))

    known = _checks.concrete(temperature)
    if known is None:
        of_each = [Group("any", work(None))] * temperature.size
    else:
        of_each = [group_of(value) for value in known.ravel().tolist()]
    groups = tuple(sorted(set(of_each)))
    of_group = tuple(np.flatnonzero([x == group for x in of_each]) for group in groups)
    return groups, Members(of_group, np.argsort(np.concatenate(of_group)))


def elements(kernel: Kernel, groups: tuple[Group, ...], slots: int, count: int) -> int:
    """The array elements that a pool of `slots` needs at a time, for `count` n."""
    works = {None, *(group.work for group in groups)}
    return max(kernel.elements(slots, count, work) for work in works)


def over_grid(
    kernel: Kernel,
    groups: tuple[Group, ...],
    members: Members,
    pool: Pool,
    n: Array,
    temperature: Array,
) -> Any:
    """The kernel at `[T, M]` for one pool, one temperature at a time.

    NaN where n is above the size of the pool and for a temperature below 0.
    """
    n, temperature = n.reshape(-1), temperature.reshape(-1)

    def at(group: Group, temperature: Array) -> Any:
        legal = (n >= 1) & (n <= pool.float_size) & (temperature >= 0)
        legal = legal & jnp.isfinite(pool.rewards).all() & jnp.isfinite(pool.values).all()
        poison = jnp.where(legal, 0.0, jnp.nan).astype(n.dtype)
        out = _in_regime(kernel, group, pool, n, temperature)
        return jax.tree.map(lambda x: x + (poison if x.ndim < 2 else poison[None]), out)

    def of_group(group: Group, chosen: np.ndarray) -> Any:
        if chosen.size == 1:  # spares the compiler a loop
            return jax.tree.map(lambda x: x[None], at(group, temperature[chosen[0]]))
        return jax.lax.map(partial(at, group), temperature[chosen])

    parts = [of_group(*pair) for pair in zip(groups, members.of_group, strict=True)]
    return jax.tree.map(lambda *x: jnp.concatenate(x)[members.position], *parts)


def _in_regime(kernel: Kernel, group: Group, pool: Pool, n: Array, temperature: Array) -> Any:
    if group.regime == "soft":
        return kernel.soft(pool, n, temperature, group.work)
    if group.regime == "hard":
        return kernel.hard(pool, n)
    if group.regime == "base":
        return kernel.base(pool, n)
    between = (temperature > 0) & (temperature < jnp.inf)
    soft = kernel.soft(pool, n, exact.interior_temperature(temperature, pool.rewards), group.work)
    return jax.tree.map(
        lambda s, h, b: jnp.where(between, s, jnp.where(temperature == 0, h, b)),
        soft,
        kernel.hard(pool, n),
        kernel.base(pool, n),
    )


# Means over prompts ------------------------------------------------------------------------------


class Curve(NamedTuple):
    """Estimates against n, one number for each prompt and their mean; `[..]` is `[T]` or empty.

    Attributes:
      mean: `[.., M]` over the prompts whose pool has at least n candidates.
      standard_error: `[.., M]` of that mean, from the spread between prompts; NaN for one prompt.
      per_prompt: `[prompts, .., M]`, NaN where n is above the size of the prompt's pool.
      prompts: `[M]` integers, how many prompts the mean is over. Where it changes from one n to the
        next, so does the set of prompts, and the two means are not of the same thing.
    """

    mean: Array
    standard_error: Array
    per_prompt: Array
    prompts: Array


def curve_of(per_prompt: Array, size: Array, n: Array, temperature: Array) -> Curve:
    """Means over the prompts of `[prompts, T, M]`, in the shape of `temperature` and n."""
    large_enough = size[:, None] >= n.reshape(-1).astype(size.dtype)[None]
    count = jnp.sum(large_enough, axis=0)
    kept = jnp.broadcast_to(large_enough[:, None], per_prompt.shape)
    mean, error = _mean_and_error(per_prompt, kept, jnp.broadcast_to(count, per_prompt.shape[1:]))
    shape = (*temperature.shape, *n.shape)
    return Curve(
        mean.reshape(shape),
        error.reshape(shape),
        per_prompt.reshape(len(per_prompt), *shape),
        count.reshape(n.shape),
    )


def over_prompts(per_prompt: Array) -> Curve:
    """Means over the prompts of `[prompts, ...]` that are not NaN."""
    kept = ~jnp.isnan(per_prompt)
    count = jnp.sum(kept, axis=0)
    return Curve(*_mean_and_error(per_prompt, kept, count), per_prompt, count)


def _mean_and_error(per_prompt: Array, kept: Array, count: Array) -> tuple[Array, Array]:
    """Of the prompts that are kept, `count` in number; NaN of none, and the error of one."""
    total = jnp.maximum(count, 1).astype(per_prompt.dtype)
    mean = jnp.sum(jnp.where(kept, per_prompt, 0.0), axis=0) / total
    off = jnp.where(kept, per_prompt - mean[None], 0.0)
    error = jnp.sqrt(jnp.sum(off**2, axis=0) / jnp.maximum(total - 1, 1) / total)
    return jnp.where(count > 0, mean, jnp.nan), jnp.where(count > 1, error, jnp.nan)
