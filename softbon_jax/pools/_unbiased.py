"""The mean, over all subsets of n candidates of a pool, of what soft best-of-n selects from one.

For a subset S the softmax average is Σ_S v w / Σ_S w = ∫ Σ_{i in S} v_i w_i e^{-t Σ_S w} dt. Averages of
products over subsets obey a recursion in the candidates, here one of convex combinations, so that
nothing over- or underflows. At one t only the candidates with t w between e^-37 and e^3.75 matter:
a subset with a better one contributes nothing, and a worse one is merely a member.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _loops
from softbon_jax.pools import _quadrature
from softbon_jax.pools._arguments import Presorted, Request
from softbon_jax.pools._sorted import Pool

Array = jax.Array


class Work(NamedTuple):
    """The sizes that `soft` is compiled for; static.

    Attributes:
      nodes: number of quadrature nodes.
      width: how many candidates may matter at one of them.
      largest: of the n asked for that are below the size of some pool.
    """

    nodes: int
    width: int
    largest: int


def work_for(request: Request, temperature: float | None) -> Work:
    """What a request needs at a temperature in (0, inf), in rounded-up sizes; None is a traced one."""
    pools, n, slots = request.presorted, request.known_n, request.pools.rewards.shape[1]
    if pools is None or n is None or temperature is None:
        largest = slots if n is None else min(int(n.max()), slots)
        return Work(request.nodes or _quadrature.DEFAULT_NODES, slots, largest)
    nodes = request.nodes
    if nodes is None:
        with np.errstate(over="ignore"):
            rewards = pools.rewards.astype(np.float64)
            log_total = _quadrature.log_sum(np, rewards, pools.size, temperature)
        nodes = _quadrature.nodes_needed(pools.rewards, temperature, log_total)
    largest = int(n[n < pools.size.max()].max(initial=1))
    return Work(nodes, _width(pools, temperature), largest)


def _width(pools: Presorted, temperature: float) -> int:
    """A width N/4^i that holds all candidates within reach of one another."""
    constants = _quadrature.constants_for(pools.rewards.dtype)
    slots, rewards = pools.rewards.shape[1], pools.rewards.astype(np.float64)
    with np.errstate(over="ignore"):
        offsets = (rewards[:, :1] - rewards) / temperature
    reach = constants.idle + constants.right + 1
    low, high = 1, slots  # bisection for the smallest width
    while low < high:
        width = (low + high) // 2
        with np.errstate(invalid="ignore"):
            inside = offsets[:, width:] - offsets[:, :-width] <= reach
        present = np.arange(width, slots) < pools.size[:, None]
        low, high = (width + 1, high) if (inside & present).any() else (low, width)
    width = slots
    while width // 4 >= low:
        width //= 4
    return width


def elements(slots: int, count: int, work: Work | None) -> int:
    """The array elements that a kernel of one pool needs at a time; without work at temperature 0."""
    if work is None:
        return 5 * count * slots + 16 * slots
    return of_tile(work) + 3 * count * slots + 8 * (slots + work.nodes)


def of_tile(work: Work, kinds: int = 1) -> int:
    """Those of a tile of nodes, for so many kinds of values."""
    return _quadrature.MOST_IN_TILE * (8 * work.width + (3 + 3 * kinds) * work.largest)


def subset_shares(count: Array, n: Array, slots: int, dtype: Any) -> Array:
    """C(f, n)/C(count, n) for f = 0..slots, `[M, slots + 1]`: 0 below n, 1 from f = `count` on.

    The `count` is a scalar or `[M]`.
    """
    f = jnp.arange(slots, 0, -1, dtype=dtype)
    count = jnp.broadcast_to(count, n.shape)[:, None]
    falls = jnp.where(f[None] > count, 1.0, jnp.clip((f[None] - n[:, None]) / f[None], 0.0, 1.0))
    shares = jnp.concatenate([jnp.ones((n.size, 1), dtype), jnp.cumprod(falls, axis=1)], axis=1)
    return shares[:, ::-1]


class Marks(NamedTuple):
    """A small change at every candidate; the derivative by it is what a candidate contributes.

    Attributes:
      size: `[N]`, by how much: subsets count 1 + size times for a candidate in them.
      less: static; what is lost at the same time is the subset in which the candidate has no weight.
    """

    size: Array
    less: bool


def soft_sum(
    pool: Pool,
    n: Array,
    temperature: Array,
    work: Work,
    marks: Marks | None = None,
    against: Sequence[int] = (0,),
) -> tuple[Array, ...]:
    """The mean over all n-subsets of Σ v w / Σ w, by quadrature, for a temperature in (0, inf).

    Each `[M]`, for every one of `against`: at 0 that of the values, else of a chance of winning.

    With E_k(t) the mean of e^{-t Σ_S w} over the k-subsets S of the j worst candidates, and D_k that of
    Σ_S v t w e^{-t Σ_S w}, the next better candidate gives (x = e^{-t w}, E_0 = 1, D_0 = 0)

      E_k <- (1 - k/j) E_k + (k/j) x E_{k-1},
      D_k <- (1 - k/j) D_k + (k/j) (x D_{k-1} + v t w x E_{k-1}).

    Candidates of no weight at t come first (E_k = 1 for k up to their number), those of which nothing
    is left come last (a factor), so only `work.width` of them need a step. With `marks` x becomes
    x (1 + ε), or x + ε (x - 1). With m of `against` above 0, v is the chance that m others, drawn
    from what is not in S, all came before: of the j - 1 that did, k - 1 are in S, so it is
    C(j - k, m)/C(N - n, m). What is carried then is D_k/C(N - k, m). All share E.
    """
    chex.assert_rank([pool.rewards, pool.values, n, temperature], [1, 1, 1, 0])
    slots, dtype = pool.rewards.shape[0], pool.rewards.dtype
    width, largest = min(work.width, slots), work.largest
    log_total = _quadrature.log_sum(jnp, pool.rewards, pool.size, temperature)
    nodes = _quadrature.quadrature(pool.rewards, temperature, log_total, work.nodes)
    shares = subset_shares(pool.float_size, n, slots, dtype)
    k = jnp.arange(1, largest + 1, dtype=jnp.int32)[:, None]
    rows = jnp.clip(n.astype(jnp.int32), 1, largest) - 1
    chances = {others: _chances(pool, k, others) for others in against if others}

    def part(first: Array, lead: Array, u: Array, weight: Array) -> tuple[Array, ...]:
        """The sum over a few nodes, so few that E and D stay in the cache."""
        start = jnp.minimum(first, jnp.maximum(pool.size - width, 0))
        slot = start[None] + jnp.arange(width, dtype=jnp.int32)[::-1, None]  # the worst first
        reference = pool.rewards[lead][None]
        z = jnp.exp(jnp.minimum(u[None] - (reference - pool.rewards[slot]) / temperature, 30.0))
        x = jnp.exp(-z)
        density, number = z * x, jnp.maximum(pool.size - slot, 1)
        share = jnp.where(slot < pool.size, 1 / number.astype(dtype), 0.0)
        idle = jnp.maximum(pool.size - start - width, 0)
        e = (k <= idle[None]).astype(dtype)
        if marks is not None:
            mark = jnp.where(slot < pool.size, marks.size[slot], 0.0)
            if not marks.less:
                of_idle = jnp.where(pool.present, marks.size, 0.0)[::-1]
                of_idle = jnp.append(jnp.cumsum(of_idle)[::-1], jnp.zeros(1, dtype))[start + width]
                mean = of_idle / jnp.maximum(idle, 1).astype(dtype)
                e = e * (1 + k.astype(dtype) * mean[None])
            x = x + mark * (jnp.expm1(-z) if marks.less else x)
            density = density * (1 + mark)

        def add(state: Any, candidate: Any) -> tuple[Any, None]:
            (e, ds), (x, share, gains, number) = state, candidate
            x, rise = x[None], k.astype(dtype) * share[None]
            e_less = jnp.concatenate([jnp.ones_like(x), e[:-1]])

            def raised(others: int, d: Array, y: Array) -> Array:
                y, d_less = y[None], jnp.concatenate([jnp.zeros_like(x), d[:-1]])
                if others:
                    chance = chances[others]
                    y, d_less = y * chance.beaten[:, number], chance.gain * d_less
                return d + rise * (x * d_less + y * e_less - d)

            return (e + rise * (x * e_less - e), tuple(map(raised, against, ds, gains))), None

        gains = tuple(density if others else pool.values[slot] * density for others in against)
        ds = (jnp.zeros_like(e),) * len(against)
        (_, ds), _ = _loops.scan(add, (e, ds), (x, share, gains, number if chances else None))
        rest = pool.size - start

        def at_n(d: Array) -> Array:
            means = d[rows] * shares[:, rest]
            if marks is not None and marks.less:
                # With one of which nothing is left, the subset without it is lost: C(rest, n - 1).
                one = jnp.append(jnp.zeros(1, dtype), jnp.cumsum(marks.size))[start]
                d_less = jnp.concatenate([jnp.zeros_like(d[:1]), d])[rows]
                share = shares[:, jnp.minimum(rest + 1, slots)]
                ratio = n[:, None] / (rest + 1).astype(dtype)[None]
                means = means - one[None] * d_less * share * ratio
            return jnp.sum(means * weight[None], axis=1)

        return tuple(map(at_n, ds))

    arrays = (nodes.first, nodes.lead, nodes.u, nodes.weight)
    # A derivative takes the steps of a tile again: kept for all nodes they would be many.
    zero = (jnp.zeros(n.shape, dtype),) * len(against)
    totals = _quadrature.over_tiles(jax.checkpoint(part), arrays, nodes.weight, zero)
    return tuple(jnp.where(nodes.resolved, total, jnp.nan) for total in totals)


class Chances(NamedTuple):
    """What the recursion needs for the chance to win over m others.

    Attributes:
      gain: `[K, 1]`, C(N - k + 1, m)/C(N - k, m).
      beaten: `[K, N + 1]`, C(j - k, m)/C(N - k, m) for the candidate number j.
    """

    gain: Array
    beaten: Array


def _chances(pool: Pool, k: Array, others: int) -> Chances:
    slots, dtype = pool.rewards.shape[0], pool.rewards.dtype
    left = pool.float_size - k.astype(dtype)
    gain = jnp.where(left >= others, (left + 1) / jnp.maximum(left + 1 - others, 1), 0.0)
    beaten = subset_shares(left[:, 0], jnp.full(k.size, others, dtype), slots, dtype)
    before = jnp.maximum(jnp.arange(slots + 1, dtype=jnp.int32)[None] - k, 0)
    return Chances(gain, jnp.take_along_axis(beaten, before, axis=1))


def soft(pool: Pool, n: Array, temperature: Array, work: Work) -> Array:
    """`[M]`: the mean over all n-subsets of Σ v w / Σ w, for a temperature in (0, inf)."""
    (total,) = soft_sum(pool, n, temperature, work)
    return of_values(pool, n, temperature, total)


def of_values(pool: Pool, n: Array, temperature: Array, total: Array) -> Array:
    """The mean value from that of values less their center."""
    # The only subset of all candidates needs no integral.
    w = jnp.where(pool.present, jnp.exp((pool.rewards - pool.rewards[0]) / temperature), 0.0)
    return pool.center + jnp.where(n == pool.float_size, w @ pool.values / jnp.sum(w), total)


def hard(pool: Pool, n: Array) -> Array:
    """`[M]`: the mean over all n-subsets of the value of the best, ties sharing equally."""
    slots, dtype = pool.rewards.shape[0], pool.rewards.dtype
    shares = subset_shares(pool.float_size, n, slots, dtype)
    index, present = jnp.arange(slots, dtype=jnp.int32), pool.present
    # From the worst up, the candidate on slot i is number size - i; C(f-1, n-1) = C(f, n) n/f.
    number = jnp.where(present, pool.size - index, 1)
    weight = jnp.where(
        present[None], shares[:, number] * (n[:, None] / number.astype(dtype)[None]), 0.0
    )
    new = jnp.concatenate([jnp.ones(1, bool), pool.rewards[1:] < pool.rewards[:-1]]) | ~present
    group = jnp.cumsum(new) - 1
    totals = jax.ops.segment_sum(jnp.where(present, pool.values, 0.0), group, slots)
    counts = jax.ops.segment_sum(present.astype(dtype), group, slots)
    return pool.center + weight @ (totals / jnp.maximum(counts, 1))[group]


def base(pool: Pool, n: Array) -> Array:
    """`[M]`: the mean value of a candidate, at every n."""
    return pool.mean + jnp.zeros_like(n)
