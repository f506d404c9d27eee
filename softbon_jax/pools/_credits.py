"""What every candidate contributes to the mean over all subsets: derivatives by its membership.

The mean over subsets S of T(S) 1{i in S} is the derivative of the mean of T(S) Π_{j in S} (1 + ε_j) by
ε_i. Less a baseline, it is that of the mean of T(S) - T(S without i) over the S with i. Kernels for
one pool, `[N, 1]`, candidates in the order of the pool. The chance that a candidate is selected is
the derivative by its value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from softbon_jax.pools import _quadrature, _unbiased
from softbon_jax.pools._arguments import Request
from softbon_jax.pools._sorted import Pool

Array = jax.Array


def work_for(request: Request, temperature: float | None) -> _unbiased.Work:
    """As for a curve, but n may be as large as the pool."""
    work, n = _unbiased.work_for(request, temperature), request.known_n
    return work if n is None else work._replace(largest=int(n.max()))


def elements(slots: int, count: int, work: _unbiased.Work | None) -> int:
    """The array elements that a kernel of one pool needs at a time: every step of a tile is kept."""
    if work is None:
        return 6 * count * slots + 32 * slots
    steps = 6 * _quadrature.MOST_IN_TILE * work.width * work.largest
    return steps + count * _unbiased.elements(slots, 1, work)


def _with_constant(pool: Pool, n: Array, out: Array, less: bool, constant: Array) -> Array:
    """What a constant in all values adds, which the kernels leave out: the baseline has it, too."""
    share = jnp.where(n == 1, 1.0, 0.0) if less else n
    return jnp.where(pool.present, out + constant * share / pool.float_size, 0.0)[:, None]


def soft(pool: Pool, n: Array, temperature: Array, work: _unbiased.Work, *, less: bool) -> Array:
    """For a temperature in (0, inf)."""

    def mean(size: Array) -> Array:
        marks = _unbiased.Marks(size, less)
        return _unbiased.soft_sum(pool, n, temperature, work, marks)[0][0]

    out = jax.grad(mean)(jnp.zeros_like(pool.values))
    return _with_constant(pool, n, out, less, pool.center)


def hard(pool: Pool, n: Array, *, less: bool) -> Array:
    """At temperature 0, where T(S) is the mean value of those in S that tie for the best.

    With B worse candidates and a group of G that tie, of mean value m, m' without candidate i:

      in S with candidate i of the group, T is m' + (v_i - m')/(number in S), which gives
        m' C(B+G-1, n-1) + (v_i - m') (C(B+G, n) - C(B, n))/G;
      where i is worse, it gives m (C(B+G-1, n-1) - C(B-1, n-1)).

    Without i, T is m' if another of the group is in S, else that of n - 1 of the B.
    """
    slots, dtype, present = pool.rewards.shape[0], pool.rewards.dtype, pool.present
    index = jnp.arange(slots, dtype=jnp.int32)
    shares = _unbiased.subset_shares(pool.float_size, n, slots, dtype)[0]

    def of_n(f: Array) -> Array:
        """C(f, n)/C(N, n)."""
        return shares[jnp.clip(f, 0, slots)]

    def of_less(f: Array) -> Array:
        """C(f, n - 1)/C(N, n); 0 for a negative f."""
        ratio = n / jnp.maximum(f + 1, 1).astype(dtype)
        return jnp.where((f >= 0) & (f < pool.size), of_n(f + 1) * ratio, 0.0)

    first = jnp.concatenate([jnp.ones(1, bool), pool.rewards[1:] < pool.rewards[:-1]]) | ~present
    group = jnp.cumsum(first) - 1
    total = jax.ops.segment_sum(jnp.where(present, pool.values, 0.0), group, slots)[group]
    tied = jax.ops.segment_sum(present.astype(jnp.int32), group, slots)[group]
    begin = jax.lax.cummax(jnp.where(first, index, 0))
    below, upto = pool.size - begin - tied, pool.size - begin
    number = jnp.maximum(tied, 1).astype(dtype)
    mean = total / number
    others = (total - pool.values) / jnp.maximum(number - 1, 1)
    lead = jnp.where(tied > 1, pool.values - others, 0.0)
    some = (of_n(upto) - of_n(below)) / number
    heads = first & present
    if less:
        # The means of n - 1 of those worse, from the worst group up.
        step = jnp.where(heads, mean * (of_less(upto) - of_less(below)), 0.0)
        worse = jnp.append(jnp.cumsum(step[::-1])[::-1], jnp.zeros(1, dtype))[begin + tied]
        alone = of_less(below)
        out = alone * pool.values - worse + (some - alone) * lead
        return _with_constant(pool, n, out, less, pool.center)
    step = jnp.where(heads, mean * (of_less(upto - 1) - of_less(below - 1)), 0.0)
    better = (jnp.cumsum(step) - step)[begin]
    own = jnp.where(tied > 1, others * of_less(upto - 1), 0.0)
    own = own + jnp.where(tied > 1, lead, pool.values) * some
    return _with_constant(pool, n, own + better, less, pool.center)


def base(pool: Pool, n: Array, *, less: bool) -> Array:
    """At temperature inf, where T(S) is the mean value in S."""
    others = jnp.maximum(pool.float_size - 1, 1)
    each = jnp.where(n > 1, 1 / others, 1 / pool.float_size)
    whole = (pool.float_size - n) / others / pool.float_size
    # From the mean, so that those of the others sum to minus one's own.
    values = pool.values + (pool.center - pool.mean)
    out = values * (each if less else jnp.where(pool.size > 1, whole, 1.0))
    return _with_constant(pool, n, out, less, pool.mean)


def weights(mean: Callable[..., Array]) -> Callable[..., Array]:
    """The kernel `[N, M]` of the chances to be selected, from the kernel `[M]` of a mean value."""

    def chances(pool: Pool, n: Array, *others: Any) -> Array:
        def of_values(values: Array) -> Array:
            return mean(pool._replace(values=values), n, *others)

        return jax.jacrev(of_values)(pool.values).T

    return chances


def equal_weights(pool: Pool, n: Array) -> Array:
    """At temperature inf all are selected equally often."""
    return jnp.broadcast_to(
        jnp.where(pool.present, 1 / pool.float_size, 0.0)[:, None], (pool.present.size, n.size)
    )
