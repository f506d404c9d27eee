"""The mean, over all subsets of n candidates of a pool, of what soft best-of-n selects from one.

For a subset S the softmax average is Σ_S v w / Σ_S w = ∫ Σ_{i in S} v_i w_i e^{-t Σ_S w} dt. Averages of
products over subsets obey a recursion in the candidates, here one of convex combinations, so that
nothing over- or underflows. At one t only the candidates with t w between e^-37 and e^3.75 are in
play: a subset with a better one contributes nothing, and a worse one is merely a member.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Rule(NamedTuple):
    """Constants of the quadrature in u = log t for one float dtype.

    Attributes:
      spacing: h of the trapezoid rule, off by about exp(-π²/h).
      first: at t Σw = e^first and below, the integrand is a polynomial in t.
      left: at t w = e^-left of the best candidate left, the integrand is linear in t.
      right: at t w = e^right nothing is left of a candidate.
      idle: at t w = e^-idle a candidate is a member like any other.
      degree: number of Gauss points for the polynomial.
    """

    spacing: float
    first: float
    left: float
    right: float
    idle: float
    degree: int


def rule_for(dtype: Any) -> Rule:
    """The rule that reaches the precision of `dtype`."""
    if jnp.finfo(dtype).bits >= 64:
        return Rule(0.28, 1.0, 20.0, 3.75, 37.0, 8)
    return Rule(0.5, 1.0, 12.0, 3.0, 18.0, 5)


TILE = 64
"""Quadrature points in work at once."""


class Plan(NamedTuple):
    """What the kernel is compiled for; static.

    Attributes:
      nodes: number of quadrature points.
      width: how many candidates may be in play at one of them.
      largest: of the n asked for that are below the size of some pool.
    """

    nodes: int
    width: int
    largest: int


def plan_for(rewards: np.ndarray, size: np.ndarray, n: np.ndarray, temperature: float) -> Plan:
    """What sorted pools `[prompts, N]` need at a temperature in (0, inf), in rounded-up sizes."""
    rule, slots = rule_for(rewards.dtype), rewards.shape[1]
    rewards = rewards.astype(np.float64)
    with np.errstate(over="ignore"):
        parts = clusters(np, rule, rewards, temperature, log_sum(np, rewards, size, temperature))
        offsets = (rewards[:, :1] - rewards) / temperature
    reach = rule.idle + rule.right + 1
    low, high = 1, slots  # the smallest width that holds all candidates within reach of another
    while low < high:
        width = (low + high) // 2
        with np.errstate(invalid="ignore"):
            inside = offsets[:, width:] - offsets[:, :-width] <= reach
        there = np.arange(width, slots) < size[:, None]
        low, high = (width + 1, high) if (inside & there).any() else (low, width)
    while slots // 4 >= low:
        slots //= 4
    largest = int(n[n < size.max()].max(initial=1))
    return Plan(rounded_up(int(parts.stop[:, -1].max())), slots, largest)


def nodes_needed(rewards: np.ndarray, temperature: float, log_total: float) -> int:
    """How many points `quadrature` uses for sorted pools `[prompts, N]`, rounded up."""
    rule, totals = rule_for(rewards.dtype), np.full((len(rewards), 1), log_total)
    with np.errstate(over="ignore"):
        parts = clusters(np, rule, rewards.astype(np.float64), temperature, totals)
    return rounded_up(int(parts.stop[:, -1].max()))


def rounded_up(size: int) -> int:
    """`size` rounded up to 128·8^i: few sizes, so few compilations."""
    bucket = 128
    while bucket < size:
        bucket *= 8
    return bucket


class Pool(NamedTuple):
    """One pool of N slots, best candidate first and empty slots last.

    Attributes:
      rewards: `[N]`; an empty slot repeats the worst reward.
      values: `[N]` less their mean; 0 in empty slots.
      size: scalar integer, the number of candidates.
    """

    rewards: Array
    values: Array
    size: Array

    @property
    def slots_used(self) -> Array:
        """The size as a float."""
        return self.size.astype(self.rewards.dtype)


@functools.cache
def geometric_gauss(spacing: float, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss points and weights for the measure h Σ_{i>=0} q^i δ(q^i), q = e^-h, on (0, 1].

    They stand for all lattice points of the trapezoid rule from t = 1 down to 0 and are exact for
    t times a polynomial of degree 2·degree - 1. Lanczos' method on the measure itself.
    """
    points = np.exp(-spacing * np.arange(math.ceil(45 / spacing)))
    mass = spacing * points
    basis = [np.sqrt(mass / mass.sum())]
    diagonal, beside = [], []
    for _ in range(degree):
        diagonal.append(basis[-1] @ (points * basis[-1]))
        rest = points * basis[-1]
        for _ in range(2):  # once more against rounding
            for known in basis:
                rest = rest - (known @ rest) * known
        beside.append(np.linalg.norm(rest))
        basis.append(rest / beside[-1])
    jacobi = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    nodes, vectors = np.linalg.eigh(jacobi)
    return nodes, mass.sum() * vectors[0] ** 2


class Clusters(NamedTuple):
    """Per candidate, best first: where its part of the quadrature points begins and ends.

    A candidate more than left + right below the one before starts a lattice of its own, so that
    offsets are small numbers however small the temperature is. Arrays `[..., N]`.

    Attributes:
      lead: index of the first candidate of the cluster.
      start: u of the first point of the cluster, relative to the step of its first candidate.
      distance: to the last point of the cluster before, where a cluster begins; else meaningless.
      stop: points used up to and with this candidate, as floats.
      begin: points used before the cluster, as floats.
    """

    lead: Any
    start: Any
    distance: Any
    stop: Any
    begin: Any


def clusters(xp: Any, rule: Rule, rewards: Any, temperature: Any, log_total: Any) -> Clusters:
    """The clusters of sorted pools `[..., N]` with log Σw `log_total` `[..., 1]`; `xp` NumPy or JAX."""
    index = xp.broadcast_to(xp.arange(rewards.shape[-1], dtype=np.int32), rewards.shape)
    step = (rewards[..., :-1] - rewards[..., 1:]) / temperature
    step = xp.concatenate([xp.full_like(rewards[..., :1], xp.inf), step], axis=-1)
    new = step > rule.left + rule.right
    lead = xp.where(new, index, 0)
    lead = np.maximum.accumulate(lead, -1) if xp is np else jax.lax.cummax(lead, axis=lead.ndim - 1)
    below = (xp.take_along_axis(rewards, lead, axis=-1) - rewards) / temperature
    start = xp.where(lead == 0, rule.first - log_total + rule.spacing, -rule.left)
    own = xp.floor((below + rule.right - start) / rule.spacing) + 1
    last = start + rule.spacing * (own - 1) - below  # from the candidate's own step

    def previous(x: Any) -> Any:
        return xp.concatenate([xp.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)

    stop = xp.cumsum(own - xp.where(new, 0.0, previous(own)), axis=-1)
    begin = xp.take_along_axis(previous(stop), lead, axis=-1)
    return Clusters(lead, start, step - rule.left - previous(last), stop, begin)


class Nodes(NamedTuple):
    """Quadrature points `[Q]`.

    Attributes:
      first: the best candidate that is not out of play; all before it are.
      lead: the candidate whose step `u` is relative to.
      u: log t + log w of the lead.
      weight: of t times the integrand, in the sum.
      resolved: scalar, whether Q was enough.
    """

    first: Array
    lead: Array
    u: Array
    weight: Array
    resolved: Array


def quadrature(rewards: Array, temperature: Array, log_total: Array, nodes: int) -> Nodes:
    """The points for one sorted pool `[N]`; a constant to differentiation.

    No sum of weights that occurs in the integrand may have a logarithm above `log_total` `[1]`.
    """
    rewards, temperature, log_total = jax.lax.stop_gradient((rewards, temperature, log_total))
    rule = rule_for(rewards.dtype)
    h, dtype = rule.spacing, rewards.dtype
    parts = clusters(jnp, rule, rewards, temperature, log_total)
    position = jnp.arange(nodes, dtype=dtype)
    first = jnp.searchsorted(parts.stop, position, side="right")
    used = position < parts.stop[-1]
    first = jnp.where(used, first, 0)
    inside = position - parts.begin[first]
    lead = parts.lead[first]
    geometric = jnp.expm1(-parts.distance[lead]) / math.expm1(-h)
    weight = h * jnp.where((inside == 0) & (lead > 0), geometric, 1.0)
    points, masses = geometric_gauss(h, rule.degree)
    zeros = jnp.zeros(rule.degree, first.dtype)
    polynomial = rule.first - log_total + jnp.asarray(np.log(points), dtype)
    return Nodes(
        jnp.concatenate([zeros, first]),
        jnp.concatenate([zeros, lead]),
        jnp.concatenate([polynomial, jnp.where(used, parts.start[first] + h * inside, 0.0)]),
        jnp.concatenate([jnp.asarray(masses / points, dtype), jnp.where(used, weight, 0.0)]),
        parts.stop[-1] <= nodes,
    )


def over_tiles(part: Any, points: tuple[Array, ...], weight: Array, zero: Array) -> Array:
    """The sum of `part(*tile)` over tiles of `TILE` points; tiles without weight cost nothing.

    So the number of points is a bound, and what is computed follows what a pool needs.
    """
    tiles = -(-weight.size // TILE)

    def tiled(x: Array) -> Array:
        rest = ((0, tiles * TILE - weight.size), *((0, 0),) * (x.ndim - 1))
        return jnp.pad(x, rest).reshape(tiles, TILE, *x.shape[1:])

    def add(total: Array, tile: tuple[Any, Array]) -> tuple[Array, None]:
        arrays, used = tile
        more = jax.lax.cond(used, lambda x: part(*x), lambda x: jnp.zeros_like(zero), arrays)
        return total + more, None

    used = jnp.any(tiled(weight) != 0, axis=1)
    return jax.lax.scan(add, zero, (tuple(map(tiled, points)), used))[0]


def log_sum(xp: Any, rewards: Any, size: Any, temperature: Any) -> Any:
    """Log Σw `[..., 1]` of sorted pools, w = 1 for the best candidate."""
    there = xp.arange(rewards.shape[-1], dtype=np.int32) < xp.expand_dims(size, -1)
    w = xp.where(there, xp.exp((rewards - rewards[..., :1]) / temperature), 0.0)
    return xp.log(xp.sum(w, axis=-1, keepdims=True))


# The kernel --------------------------------------------------------------------------------------


def subset_shares(count: Array, n: Array, slots: int, dtype: Any) -> Array:
    """C(f, n)/C(count, n) for f = 0..slots, `[M, slots + 1]`: 0 below n, 1 from f = `count` on."""
    f = jnp.arange(slots, 0, -1, dtype=dtype)
    falls = jnp.where(f[None] > count, 1.0, jnp.clip((f[None] - n[:, None]) / f[None], 0.0, 1.0))
    shares = jnp.concatenate([jnp.ones((n.size, 1), dtype), jnp.cumprod(falls, axis=1)], axis=1)
    return shares[:, ::-1]


def soft(pool: Pool, n: Array, temperature: Array, plan: Plan) -> Array:
    """`[M]`: the mean over all n-subsets of Σ v w / Σ w, for a temperature in (0, inf).

    With E_k(t) the mean of e^{-t Σ_S w} over the k-subsets S of the first j candidates, and D_k that
    of Σ_S v t w e^{-t Σ_S w}, one candidate more gives (x = e^{-t w}, E_0 = 1, D_0 = 0)

      E_k <- (1 - k/j) E_k + (k/j) x E_{k-1},
      D_k <- (1 - k/j) D_k + (k/j) (x D_{k-1} + v t w x E_{k-1}).

    Candidates of no weight at t come first (E_k = 1 for k up to their number), candidates out of play
    last (a factor), so only `plan.width` of them need a step.
    """
    slots, dtype = pool.rewards.shape[0], pool.rewards.dtype
    width, largest = min(plan.width, slots), plan.largest
    log_total = log_sum(jnp, pool.rewards, pool.size, temperature)
    nodes = quadrature(pool.rewards, temperature, log_total, plan.nodes)
    shares = subset_shares(pool.slots_used, n, slots, dtype)
    k = jnp.arange(1, largest + 1, dtype=jnp.int32)[:, None]
    rows = jnp.clip(n.astype(jnp.int32), 1, largest) - 1

    def part(first: Array, lead: Array, u: Array, weight: Array) -> Array:
        """The sum over a few points, so few that E and D stay in the cache."""
        start = jnp.minimum(first, jnp.maximum(pool.size - width, 0))
        slot = start[None] + jnp.arange(width, dtype=jnp.int32)[:, None]
        reference = pool.rewards[lead][None]
        z = jnp.exp(jnp.minimum(u[None] - (reference - pool.rewards[slot]) / temperature, 30.0))
        x = jnp.exp(-z)
        idle = jnp.maximum(pool.size - start - width, 0)
        members = idle[None] + jnp.arange(1, width + 1, dtype=jnp.int32)[:, None]
        share = jnp.where(slot < pool.size, 1 / members.astype(dtype), 0.0)

        def add(state: tuple[Array, Array], candidate: tuple[Array, ...]) -> tuple[Any, None]:
            e, d = state
            x, y, share = (row[None] for row in candidate)
            rise = k.astype(dtype) * share
            e_less = jnp.concatenate([jnp.ones_like(x), e[:-1]])
            d_less = jnp.concatenate([jnp.zeros_like(x), d[:-1]])
            return (e + rise * (x * e_less - e), d + rise * (x * d_less + y * e_less - d)), None

        e = (k <= idle[None]).astype(dtype)
        steps = (x, pool.values[slot] * z * x, share)
        (_, d), _ = jax.lax.scan(add, (e, jnp.zeros_like(e)), steps)
        return jnp.sum(d[rows] * shares[:, pool.size - start] * weight[None], axis=1)

    points = (nodes.first, nodes.lead, nodes.u, nodes.weight)
    total = over_tiles(part, points, nodes.weight, jnp.zeros(n.shape, dtype))
    total = jnp.where(nodes.resolved, total, jnp.nan)
    # The only subset of all candidates needs no integral.
    inside = jnp.arange(slots, dtype=jnp.int32) < pool.size
    w = jnp.where(inside, jnp.exp((pool.rewards - pool.rewards[0]) / temperature), 0.0)
    return jnp.where(n == pool.slots_used, w @ pool.values / jnp.sum(w), total)


def hard(pool: Pool, n: Array) -> Array:
    """`[M]`: the mean over all n-subsets of the value of the best, ties sharing equally."""
    slots, dtype = pool.rewards.shape[0], pool.rewards.dtype
    shares = subset_shares(pool.slots_used, n, slots, dtype)
    index = jnp.arange(slots, dtype=jnp.int32)
    there = index < pool.size
    # From the worst up, the candidate on slot i is number size - i; C(f-1, n-1) = C(f, n) n/f.
    number = jnp.where(there, pool.size - index, 1)
    weight = jnp.where(
        there[None], shares[:, number] * (n[:, None] / number.astype(dtype)[None]), 0.0
    )
    new = jnp.concatenate([jnp.ones(1, bool), pool.rewards[1:] < pool.rewards[:-1]]) | ~there
    group = jnp.cumsum(new) - 1
    totals = jax.ops.segment_sum(jnp.where(there, pool.values, 0.0), group, slots)
    counts = jax.ops.segment_sum(there.astype(dtype), group, slots)
    return weight @ (totals / jnp.maximum(counts, 1))[group]
