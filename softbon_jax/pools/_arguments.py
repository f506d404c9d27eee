"""From the arguments of a public function to a checked request for a worker."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.pools._sorted import Pools, sorted_rewards

Array = jax.Array


class Presorted(NamedTuple):
    """What is known of the pools before anything is compiled, in NumPy.

    Attributes:
      order: `[prompts, N]` indices that sort each pool.
      rewards: `[prompts, N]`, sorted; an empty slot repeats the worst.
      size: `[prompts]`, how many candidates.
    """

    order: np.ndarray
    rewards: np.ndarray
    size: np.ndarray


class Request(NamedTuple):
    """Checked arguments.

    Attributes:
      pools: `[prompts, N]`.
      presorted: None where the rewards or the mask are traced.
      n: scalar or `[M]`, a NumPy array of integers unless it is traced.
      temperature: scalar or `[T]`, in the dtype of the estimates.
      nodes: number of quadrature nodes that was asked for, or None.
    """

    pools: Pools
    presorted: Presorted | None
    n: Any
    temperature: Array
    nodes: int | None

    @property
    def order(self) -> np.ndarray | None:
        """That of the pools, where it is known."""
        return None if self.presorted is None else self.presorted.order

    @property
    def known_n(self) -> np.ndarray | None:
        """The n, where they are known."""
        return self.n if isinstance(self.n, np.ndarray) else None


def checked_pools(rewards: Any, values: Any, where: Any) -> Pools:
    """Pools of the right types and shapes."""
    rewards = _checks.as_float("rewards", rewards)
    values = rewards if values is None else _checks.as_float("values", values)
    if rewards.ndim != 2:
        raise ValueError(f"rewards must be [prompts, N], got shape {rewards.shape}")
    if values.shape != rewards.shape:
        raise ValueError(f"values has shape {values.shape}, rewards has shape {rewards.shape}")
    return Pools(rewards, values, checked_mask(where, rewards.shape))


def checked_mask(where: Any, shape: tuple[int, ...], of: str = "rewards") -> Array:
    """The mask of pools of a shape; ones come from NumPy, which compiles nothing."""
    return _checks.mask(np.ones(shape, bool) if where is None else where, shape, of)


def largest_pool(where: np.ndarray) -> int:
    """How many candidates the largest pool has; ValueError for a pool without any."""
    count = where.sum(1)
    _checks.offending("the number of candidates in a pool", count, count < 1, "at least 1")
    return int(count.max())


def checked(
    pools: Pools,
    n: Any,
    temperature: Any,
    nodes: int | None,
    *,
    spare: int = 0,
    averaged: bool = True,
) -> Request:
    """The request for a worker; ValueError and TypeError for values that make no sense.

    A reward of -inf is put so far below the others that it is never selected while one is there; where
    values are `averaged` it has to have one that is finite. A pool must have `spare` candidates more
    than n.
    """
    if 0 in pools.rewards.shape:
        raise ValueError(f"rewards must not be empty, got shape {pools.rewards.shape}")
    rewards, where = _checks.concrete(pools.rewards), _checks.concrete(pools.where)
    most = pools.rewards.shape[1]
    if where is not None:
        most = largest_pool(where)
        if rewards is not None:
            bad = where & ~(np.isfinite(rewards) | np.isneginf(rewards))
            _checks.offending("rewards", rewards, bad, "finite or -inf where they count")
        if averaged:
            kept = where if pools.values.ndim == 2 else where[:, None]
            _finite_where("values", _checks.concrete(pools.values), kept)
    temperature = _checks.temperature(temperature, pools.dtype)
    _checks.scalar_or_vector("temperature", temperature)
    if rewards is not None and where is not None and np.isneginf(rewards[where]).any():
        pools, temperature = _with_losers(pools, rewards, where, temperature)
        rewards = np.asarray(pools.rewards)
    return Request(
        pools,
        _presorted(rewards, where, pools.dtype),
        checked_n(n, most, spare),
        temperature,
        None if nodes is None else _checks.positive_integer("nodes", nodes),
    )


def _finite_where(name: str, value: np.ndarray | None, kept: np.ndarray) -> None:
    if value is not None:
        _checks.offending(name, value, kept & ~np.isfinite(value), "finite where they count")


FAR = 100.0
"""How many temperatures below the worst of the others a reward of -inf is put: its weight is e^-100."""

NEARLY_EQUAL = 1e13
"""The range of the rewards over the temperature that stands for inf where some rewards are -inf."""


def _with_losers(
    pools: Pools, rewards: np.ndarray, where: np.ndarray, temperature: Array
) -> tuple[Pools, Array]:
    """Pools whose -inf is finite but far below, and temperatures at which it stays so."""
    known = _checks.concrete(temperature)
    if known is None:
        raise ValueError(
            "rewards may be -inf only where the temperature is concrete, got a traced one"
        )
    finite = where & np.isfinite(rewards)
    wide = rewards.astype(np.float64)
    worst = np.min(np.where(finite, wide, np.inf), axis=1, keepdims=True)
    best = np.max(np.where(finite, wide, -np.inf), axis=1, keepdims=True)
    alive = finite.any(1, keepdims=True)
    worst, best = np.where(alive, worst, 0.0), np.where(alive, best, 0.0)
    reach = float(np.max(best - worst, initial=0.0)) or 1.0
    equal = reach * min(NEARLY_EQUAL, float(jnp.finfo(pools.dtype).max) ** 0.25)
    known = np.where(np.isposinf(known), equal, known)
    below = worst - FAR * max(float(known.max(initial=0.0)), reach) - np.abs(worst)
    filled = np.where(where & ~finite, below, wide).astype(pools.dtype)
    temperature = jnp.asarray(known, pools.dtype)
    values = pools.values if pools.values is not pools.rewards else jnp.asarray(filled)
    return Pools(jnp.asarray(filled), values, pools.where), temperature


def _presorted(
    rewards: np.ndarray | None, where: np.ndarray | None, dtype: Any
) -> Presorted | None:
    if rewards is None or where is None:
        return None
    order, rewards = sorted_rewards(np, np.where(where, rewards.astype(dtype), 0.0), where)
    return Presorted(order.astype(np.int32), rewards, where.sum(1))


def checked_n(n: Any, most: int, spare: int = 0) -> Any:
    """The n as a scalar or `[M]`, integers in NumPy if they are known."""
    n = _checks.real("n", n)
    number = _checks.concrete(n)
    if number is not None:
        whole = (number >= 1) & (number == np.floor(number)) & np.isfinite(number)
        _checks.offending("n", number, ~whole, "an integer of at least 1")
        limit = f"at most {most - spare}, the largest pool" + (f" less {spare}" if spare else "")
        _checks.offending("n", number, number > most - spare, limit)
        n = number.astype(int)
    _checks.scalar_or_vector("n", n)
    return n
