"""What curves and divergences of pools share: checked arguments, one prompt after the other, means."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, exact
from softbon_jax.pools import _unbiased

Array = jax.Array

DEFAULT_NODES = 512
"""Quadrature points used where rewards or temperature are traced and none are asked for."""


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


class Pools(NamedTuple):
    """Checked arrays `[prompts, N]` of one dtype, and sizes `[prompts]`."""

    rewards: Array
    values: Array
    where: Array
    size: Array


def arguments(
    rewards: Any, n: Any, temperature: Any, values: Any, where: Any
) -> tuple[Pools, Any, Array]:
    """Pools, n (a NumPy array of ints where it is concrete) and temperature, checked."""
    rewards = _checks.as_float("rewards", rewards)
    values = rewards if values is None else _checks.as_float("values", values)
    if rewards.ndim != 2 or 0 in rewards.shape:
        raise ValueError(f"rewards must be [prompts, N], none of them 0, got shape {rewards.shape}")
    where = jnp.ones(rewards.shape, bool) if where is None else jnp.asarray(where)
    for name, x in (("values", values), ("where", where)):
        if x.shape != rewards.shape:
            raise ValueError(f"{name} has shape {x.shape}, rewards has shape {rewards.shape}")
    if where.dtype != bool:
        raise ValueError(f"where must be bool, got dtype {where.dtype}")
    kept = _checks.concrete(where)
    if kept is not None:
        count = kept.sum(1)
        _checks.offending("the number of candidates in a pool", count, count < 1, "at least 1")
        for name, x in (("rewards", rewards), ("values", values)):
            value = _checks.concrete(x)
            if value is not None:
                bad = kept & ~np.isfinite(value)
                _checks.offending(name, value, bad, "finite where they count")
    dtype = jnp.promote_types(rewards.dtype, values.dtype)
    _checks.temperature(temperature)
    temperature = _checks.as_float("temperature", temperature, dtype)
    number = _checks.concrete(n)
    if number is not None:
        number = np.asarray(number)
        whole = (number >= 1) & (number == np.floor(number)) & np.isfinite(number)
        _checks.offending("n", number, ~whole, "an integer of at least 1")
        if kept is not None:
            most = kept.sum(1).max()
            _checks.offending("n", number, number > most, f"at most {most}, the largest pool")
        n = number.astype(int)
    else:
        n = jnp.asarray(n)
    for name, x in (("n", n), ("temperature", temperature)):
        if x.ndim > 1 or x.size == 0:
            raise ValueError(f"{name} must be a scalar or a vector, got shape {x.shape}")
    size = jnp.sum(where, axis=1, dtype=jnp.int32)
    rewards, values = (jnp.where(where, x.astype(dtype), 0.0) for x in (rewards, values))
    return Pools(rewards, values, where, size), n, temperature


def rule_of(temperature: Array) -> str:
    value = _checks.concrete(temperature)
    if value is None:
        return "any"
    return "hard" if value == 0 else "base" if np.isposinf(value) else "soft"


def sorted_pool(rewards: Any, where: Any, xp: Any) -> tuple[Any, Any]:
    """The order, best first and empty slots last, and rewards so, the worst in the empty slots."""
    order = xp.argsort(xp.where(where, -rewards, xp.inf), axis=-1)
    worst = xp.min(xp.where(where, rewards, xp.inf), axis=-1, keepdims=True)
    filled = xp.where(where, rewards, worst)
    return order, xp.take_along_axis(filled, order, axis=-1)


def plan_of(pools: Pools, n: Any, temperature: Array, nodes: int | None) -> _unbiased.Plan:
    slots = pools.rewards.shape[1]
    if rule_of(temperature) in ("hard", "base"):
        return _unbiased.Plan(1, 1, 1)
    rewards, where, number, t = (
        _checks.concrete(x) for x in (pools.rewards, pools.where, n, temperature)
    )
    if rewards is None or where is None or number is None or t is None:
        largest = slots if number is None else min(int(number.max()), slots)
        return _unbiased.Plan(nodes or DEFAULT_NODES, slots, largest)
    plan = _unbiased.plan_for(sorted_pool(rewards, where, np)[1], where.sum(1), number, float(t))
    return plan if nodes is None else plan._replace(nodes=nodes)


def kl_nodes(pools: Pools, log_n: Any, temperature: Array, nodes: int | None) -> int:
    if rule_of(temperature) in ("hard", "base"):
        return 1
    rewards, where, most, t = (
        _checks.concrete(x) for x in (pools.rewards, pools.where, log_n, temperature)
    )
    if nodes is not None or rewards is None or where is None or most is None or t is None:
        return nodes or DEFAULT_NODES
    ordered = sorted_pool(rewards, where, np)[1]
    return _unbiased.nodes_needed(ordered, float(t), float(most))


def over_prompts(one: Any, pools: Pools, n: Any, temperature: Array, rule: str) -> Any:
    """`one(pool, proper temperature)` prompt by prompt, NaN for n above its size."""
    dtype = pools.rewards.dtype
    n = jnp.asarray(n).astype(dtype)

    def prompt(part: Pools) -> Any:
        order, rewards = sorted_pool(part.rewards, part.where, jnp)
        there = part.where[order]
        values = jnp.where(there, part.values[order], 0.0)
        center = jnp.sum(values) / part.size.astype(dtype)
        pool = _unbiased.Pool(rewards, jnp.where(there, values - center, 0.0), part.size)
        proper = temperature
        if rule == "any":
            proper = exact.proper_temperature(temperature, rewards)
        poison = jnp.where((n >= 1) & (n <= pool.slots_used) & (temperature >= 0), 0.0, jnp.nan)
        return jax.tree.map(lambda x: x + poison.astype(dtype), one(pool, proper, center, n))

    return jax.lax.map(prompt, pools)


def curve_of(per_prompt: Array, pools: Pools, n: Any, temperature: Array) -> Curve:
    """Means over the prompts of `[prompts, T, M]`, in the shape that was asked for."""
    n = jnp.asarray(n)
    count, mean, error = _means(per_prompt, pools.size, n.reshape(-1))
    shape = (*temperature.shape, *n.shape)
    return Curve(
        mean.reshape(shape),
        error.reshape(shape),
        per_prompt.reshape(len(per_prompt), *shape),
        count.reshape(n.shape),
    )


@jax.jit
def _means(per_prompt: Array, size: Array, n: Array) -> tuple[Array, Array, Array]:
    there = size[:, None] >= n.astype(size.dtype)[None]
    count = jnp.sum(there, axis=0)
    total = jnp.maximum(count, 1).astype(per_prompt.dtype)[None]
    kept = there[:, None]
    mean = jnp.sum(jnp.where(kept, per_prompt, 0.0), axis=0) / total
    off = jnp.where(kept, per_prompt - mean[None], 0.0)
    error = jnp.sqrt(jnp.sum(off**2, axis=0) / jnp.maximum(total - 1, 1) / total)
    mean = jnp.where(count[None] > 0, mean, jnp.nan)
    return count, mean, jnp.where(count[None] > 1, error, jnp.nan)
