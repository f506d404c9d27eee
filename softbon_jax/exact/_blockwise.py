"""Selection block by block along a Markov chain: the kernels of one chain, with every metric.

A chain here is a sequence of J blocks. Block j starts in one of S states, and its outcomes are pairs of
a total and a last state, with a law for each start. Soft best-of-n picks an outcome by total plus the
value of its last state, which gives another law for each start: the selected sequence is a chain too,
and so is the tilted law P*, whose rows are tilted by total plus soft value. All metrics of the sequence
are then sums over the way, taken backwards from its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _batching, _loops, _special
from softbon_jax.exact import _divergences, _rules, _soft, _steep
from softbon_jax.exact._measures import Metrics
from softbon_jax.exact._plan import Plan
from softbon_jax.problem import Problem

Array = jax.Array

ROUNDING = 16
"""Values that differ from soft values by this many eps of the largest are taken to be those."""

FAR = 80.0
"""The log-ratio to a target of 0, in the sums that do not depend on it."""


class Blocks(NamedTuple):
    """The blocks of a chain. R is S; 1 if there is one block alone.

    Attributes:
      laws: `[U, R, T, S]` log-probability of (total, last state) for each kind of block and start.
      totals: `[U, R, T, S]` the total of each.
      kinds: `[J]` the kind of each block.
    """

    laws: Array
    totals: Array
    kinds: Array


class Rows(NamedTuple):
    """The laws of one outcome of a block, `[J, R, T, S]`, and their ratios as in `SoftTerms`.

    Attributes:
      log_probs: log P.
      log_target: log P*.
      log_tilt: log P*/P.
      tilt: P*/P - 1 where that is near 0; 0 elsewhere.
      probs: P_n.
      log_ratio, delta: of P_n to P*.
      log_base_ratio, eta: of P_n to P.
    """

    log_probs: Array
    log_target: Array
    log_tilt: Array
    tilt: Array
    probs: Array
    log_ratio: Array
    delta: Array
    log_base_ratio: Array
    eta: Array


# Soft values -------------------------------------------------------------------------------------


def soft_maximum(log_probs: Array, rewards: Array, temperature: Array) -> Array:
    """λ log E[e^{r/λ}] over the last axis, for λ in (0, inf), also where that is close to E[r]."""
    rewards, top = _soft.on_support(log_probs, rewards)
    below = _special.over(rewards, top[..., None], temperature)
    p = jnp.exp(log_probs)
    lost = jnp.sum(p * jnp.expm1(below), axis=-1)
    mild = lost > -0.5
    steep = jax.nn.logsumexp(log_probs + below, axis=-1)
    return top + temperature * jnp.where(mild, jnp.log1p(jnp.where(mild, lost, 0.0)), steep)


def mean_reward(log_probs: Array, rewards: Array) -> Array:
    """E[r] over the last axis."""
    rewards, top = _soft.on_support(log_probs, rewards)
    return top + jnp.sum(jnp.exp(log_probs) * (rewards - top[..., None]), axis=-1)


def backward(step: Callable[[Any, Any], tuple[Any, Any]], last: Any, items: Any) -> tuple[Any, Any]:
    """`jax.lax.scan` from the last item to the first; a single one may change the shape of the carry."""
    if jax.tree.leaves(items)[0].shape[0] > 1:
        return _loops.scan(step, last, items, reverse=True)
    first, out = step(last, jax.tree.map(lambda x: x[0], items))
    return first, jax.tree.map(lambda x: x[None], out)


def state_values(log_kernel: Array, rewards: Array, temperature: Array, length: int) -> Array:
    """The soft values `[length, S]` at one temperature in [0, inf]."""
    log_kernel = _soft.normalized(log_kernel)
    rewards = jnp.where(log_kernel > -jnp.inf, rewards, 0.0)
    inner = _soft.interior_temperature(temperature, rewards)

    def step(after: Array, _: None) -> tuple[Array, Array]:
        future = rewards + after[None]
        best = _soft.on_support(log_kernel, future)[1]
        value = jnp.where(
            jnp.isposinf(temperature),
            mean_reward(log_kernel, future),
            jnp.where(temperature == 0, best, soft_maximum(log_kernel, future, inner)),
        )
        return value, after

    last = jnp.zeros_like(rewards[0])
    return _loops.scan(step, last, None, length=length, reverse=True)[1]


# The laws of every block -------------------------------------------------------------------------


def _flat(x: Array) -> Array:
    """Outcomes on one axis, the last."""
    return x.reshape(*x.shape[:-2], -1)


def _rowwise(function: Callable[..., Any], *rows: Array) -> Any:
    """`function` of one row `[K]`, for rows `[J, R, K]`."""
    return jax.vmap(jax.vmap(function))(*rows)


class Ahead(NamedTuple):
    """What is to come after each block, for each last state, `[J, S]`, under P*.

    Attributes:
      value: λ log E[e^{future/λ}] less a constant of the block.
      reward: the mean future reward.
    """

    value: Array
    reward: Array


def _ahead(blocks: Blocks, temperature: Array) -> tuple[Ahead, Array]:
    """`Ahead` for a temperature in (0, inf), and the mean reward `[R]` under P*."""

    def step(after: Ahead, kind: Array) -> tuple[Ahead, Ahead]:
        law, totals = _flat(blocks.laws[kind]), blocks.totals[kind]
        target = jax.vmap(lambda p, r: _soft.tilted_terms(Problem(p, r), temperature))(
            law, _flat(totals + after.value[None, None])
        )
        value = soft_maximum(law, _flat(totals + after.value[None, None]), temperature)
        reward = mean_reward(target.log_tilted, _flat(totals + after.reward[None, None]))
        # A constant for differentiation too: a maximum loses its slope where it is computed twice.
        return Ahead(value - jax.lax.stop_gradient(jnp.max(value)), reward), after

    first, ahead = backward(step, _nothing_ahead(blocks), blocks.kinds)
    return ahead, first.reward


def _nothing_ahead(blocks: Blocks) -> Ahead:
    zeros = jnp.zeros(blocks.laws.shape[-1], blocks.laws.dtype)
    return Ahead(zeros, zeros)


def _snapped(values: Array, soft: Array, scale: Array) -> Array:
    """The values `[J, S]`, the soft ones where the two are the same to rounding and up to a constant.

    Otherwise the rounding of values that are meant to be soft would be what is left of every divergence
    at large n.
    """
    apart = values - soft
    apart = apart - jnp.mean(apart, axis=-1, keepdims=True)
    size = jnp.max(jnp.abs(values), axis=-1, keepdims=True) + scale
    same = jnp.max(jnp.abs(apart), axis=-1, keepdims=True) <= (
        ROUNDING * jnp.finfo(values.dtype).eps * size
    )
    same = jax.lax.stop_gradient(same)
    return jnp.where(same, soft + (apart - jax.lax.stop_gradient(apart)), values)


def elements_at_once(blocks: Blocks, rows: int, nodes: int) -> int:
    """The array elements that so many laws of blocks need at a time."""
    outcomes = math.prod(blocks.laws.shape[-2:])
    together = max(1, _batching.CHUNK_ELEMENTS // (outcomes * nodes))
    return min(rows, together) * _soft.elements_at_once(outcomes, nodes)


def _soft_rows(
    blocks: Blocks, values: Array | None, ahead: Ahead, temperature: Array, log_n: Array, plan: Plan
) -> Rows:
    """The rows at a temperature in (0, inf)."""
    laws, totals = blocks.laws[blocks.kinds], blocks.totals[blocks.kinds]
    outcomes = math.prod(laws.shape[-2:])

    def select(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Any:
        terms = _soft.tilted_terms(Problem(log_probs, rewards), temperature)
        soft = _steep.soft_terms(terms, temperature, log_n[None], plan)
        return jax.tree.map(lambda x: x[0], soft)

    def selected(laws: Array, rewards: Array) -> _soft.SoftTerms:
        return _batching.over_batch(
            select,
            (_flat(laws), _flat(rewards)),
            (temperature, log_n),
            elements=outcomes * plan.nodes,
            least=_soft.elements_at_once(outcomes, plan.nodes),
        )

    if values is None:
        values = jnp.zeros_like(ahead.value)
        own = selected(blocks.laws, blocks.totals)
        own = jax.tree.map(lambda x: x[blocks.kinds], own)
    else:
        scale = jax.lax.stop_gradient(jnp.max(jnp.abs(totals)))
        values = _snapped(values, ahead.value, scale)
        own = selected(laws, totals + values[:, None, None, :])

    def one(law: Array, totals: Array, future: Array, value: Array, own: _soft.SoftTerms) -> Rows:
        target = _soft.tilted_terms(Problem(law, _flat(totals + future[None])), temperature)
        # From P* to the law that selection by these values tends to.
        apart = _flat(jnp.broadcast_to(value - future, totals.shape))
        between = _soft.tilted_terms(Problem(target.log_tilted, apart), temperature)
        log_between, excess = _special.refined(between.exponents - between.log_mean, between.excess)
        off = target.log_probs == -jnp.inf
        log_own = jnp.where(off, 0.0, own.log_ratio)
        log_ratio = log_own + jnp.where(off, 0.0, log_between)
        near = jnp.abs(log_ratio) < _special.NEAR
        both = near & (jnp.abs(log_own) < _special.NEAR) & (jnp.abs(log_between) < _special.NEAR)
        delta = jnp.where(
            both, excess + (1 + excess) * own.delta, jnp.expm1(jnp.where(near, log_ratio, 0.0))
        )
        log_ratio, delta = _special.refined(log_ratio, delta)
        return Rows(
            target.log_probs,
            target.log_tilted,
            jnp.where(off, 0.0, target.exponents - target.log_mean),
            target.excess,
            own.probs,
            log_ratio,
            delta,
            jnp.where(off, 0.0, own.log_base_ratio),
            own.eta,
        )

    over_starts = jax.vmap(one, in_axes=(0, 0, None, None, 0))
    return jax.vmap(over_starts)(_flat(laws), totals, ahead.value, values, own)


def _hard_rows(blocks: Blocks, values: Array | None, log_n: Array) -> tuple[Rows, Ahead, Array]:
    """The rows at temperature 0, `Ahead` with the largest future reward, and the mean reward."""
    laws, totals = blocks.laws[blocks.kinds], blocks.totals[blocks.kinds]
    eps = jnp.finfo(laws.dtype).eps
    size = jnp.max(jnp.where(laws > -jnp.inf, jnp.abs(totals), 0.0))
    slack = 8 * eps * size * laws.shape[0]

    def step(after: tuple[Array, Array], kind: Array) -> tuple[Any, Any]:
        value, log_chance = after  # of the largest future reward, and of attaining it
        law, futures = _flat(blocks.laws[kind]), _flat(blocks.totals[kind] + value[None, None])
        _, best = _soft.on_support(law, futures)
        attains = (futures >= best[:, None] - slack) & (law > -jnp.inf)
        chances = law + _flat(jnp.broadcast_to(log_chance, blocks.totals[kind].shape))
        log_target = jnp.where(attains, chances, -jnp.inf)
        log_best = jax.nn.logsumexp(log_target, axis=-1)
        return (best, log_best), (log_target - log_best[:, None], value)

    nothing = _nothing_ahead(blocks)
    first, (log_target, value) = backward(step, tuple(nothing), blocks.kinds)
    values = jnp.zeros_like(value) if values is None else values
    scores = _flat(totals + values[:, None, None, :])
    size = size + jnp.max(jnp.abs(values))

    def one(law: Array, scores: Array, log_target: Array) -> Rows:
        scores, _ = _soft.on_support(law, scores)
        order = jnp.argsort(scores)
        new = jnp.diff(scores[order]) > 8 * eps * size
        ranks = jnp.zeros_like(scores).at[order[1:]].set(jnp.cumsum(new).astype(scores.dtype))
        hard = _rules.hard_terms(law, ranks, log_n)
        on = log_target > -jnp.inf
        off = law == -jnp.inf
        log_tilt = jnp.where(on, log_target - jnp.where(on, law, 0.0), -FAR)
        log_base_ratio = jnp.where(off, 0.0, hard.log_base_ratio)
        log_ratio, delta = _near_or_log(
            jnp.where(off, 0.0, jnp.where(on, log_base_ratio - log_tilt, FAR))
        )
        log_tilt, tilt = _near_or_log(jnp.where(off, 0.0, log_tilt))
        q = jnp.exp(law + log_base_ratio)
        return Rows(law, log_target, log_tilt, tilt, q, log_ratio, delta, log_base_ratio, hard.eta)

    rows = _rowwise(one, _flat(laws), scores, log_target)
    return rows, Ahead(value, value), first[0]


def _base_rows(blocks: Blocks) -> tuple[Rows, Ahead, Array]:
    """The same at temperature inf: P itself."""

    def step(after: Array, kind: Array) -> tuple[Array, Array]:
        return mean_reward(
            _flat(blocks.laws[kind]), _flat(blocks.totals[kind] + after[None, None])
        ), after

    first, reward = backward(step, _nothing_ahead(blocks).reward, blocks.kinds)
    laws = _flat(blocks.laws[blocks.kinds])
    zero = jnp.zeros_like(laws)
    rows = Rows(laws, laws, zero, zero, jnp.exp(laws), zero, zero, zero, zero)
    return rows, Ahead(reward, reward), first


def _near_or_log(log_ratio: Array) -> tuple[Array, Array]:
    near = jnp.abs(log_ratio) < _special.NEAR
    return _special.refined(log_ratio, jnp.expm1(jnp.where(near, log_ratio, 0.0)))


# Metrics -----------------------------------------------------------------------------------------


class _Sums(NamedTuple):
    """Sums over what is ahead, for each state; of one block for each start, before that."""

    reward: Array
    gap: Array
    kl_tilted_soft: Array
    kl_soft_tilted: Array
    kl_soft_base: Array
    kl_tilted_base: Array
    chi2: Array
    missed: Array


def _accumulated(blocks: Blocks, rows: Rows, ahead: Ahead, tilted_reward: Array) -> Metrics:
    """Every metric of the whole sequence."""
    totals = blocks.totals[blocks.kinds]
    shape = totals.shape

    def of_block(totals: Array, future: Array, row: Rows) -> tuple[_Sums, Any]:
        chex.assert_rank(row.probs, 1)
        p, target = jnp.exp(row.log_probs), jnp.exp(row.log_target)
        change = _divergences.change(target, row.probs, row.delta, row.log_ratio)
        gain = jnp.where(row.log_probs.reshape(totals.shape) > -jnp.inf, totals + future[None], 0.0)
        gain = gain.ravel()
        centered = gain - gain[jnp.argmax(target)]
        centered = centered - target @ centered
        forward, back = _divergences.both_ways(target, row.probs, row.delta, row.log_ratio)
        sums = _Sums(
            reward=_divergences.mean(row.probs, totals.ravel()),
            gap=-(change @ jnp.where(p > 0, centered, 0.0)),
            kl_tilted_soft=forward,
            kl_soft_tilted=back,
            kl_soft_base=_divergences.both_ways(p, row.probs, row.eta, row.log_base_ratio)[1],
            kl_tilted_base=_divergences.both_ways(p, target, row.tilt, row.log_tilt)[1],
            chi2=_divergences.chi2(row.log_target, change, row.log_ratio, wide=True),
            missed=jnp.sum(jnp.where(row.log_target > -jnp.inf, 0.0, row.probs)),
        )
        squared = jnp.exp(row.log_target + 2 * row.log_ratio)
        ends = tuple(x.reshape(totals.shape).sum(0) for x in (row.probs, target, squared))
        return sums, ends

    over_starts = jax.vmap(of_block, in_axes=(0, None, 0))
    sums, ends = jax.vmap(over_starts)(totals, ahead.reward, rows)

    def step(after: _Sums, block: Any) -> tuple[_Sums, None]:
        own, (selected, target, squared) = block
        further = _Sums(*(selected @ x for x in after))._replace(
            kl_tilted_soft=target @ after.kl_tilted_soft,
            kl_tilted_base=target @ after.kl_tilted_base,
            chi2=jnp.sum(_product(squared, after.chi2[None]), axis=-1),
        )
        return jax.tree.map(jnp.add, own, further), None

    nothing = _Sums(*(jnp.zeros(shape[-1], totals.dtype) for _ in _Sums._fields))
    first, _ = backward(step, nothing, (sums, ends))
    whole = jax.tree.map(lambda x: x[0], first)
    unbounded = whole.missed > 0
    tv, win_rate = _of_one_block(totals, rows) if shape[:2] == (1, 1) else (jnp.nan, jnp.nan)
    return Metrics(
        reward=whole.reward,
        tilted_reward=tilted_reward[0],
        reward_gap=whole.gap,
        relative_reward_gap=whole.gap / tilted_reward[0],
        kl_tilted_soft=whole.kl_tilted_soft,
        kl_soft_tilted=jnp.where(unbounded, jnp.inf, whole.kl_soft_tilted),
        kl_soft_base=whole.kl_soft_base,
        kl_tilted_base=whole.kl_tilted_base,
        tv=jnp.asarray(tv, totals.dtype),
        chi2=jnp.where(unbounded, jnp.inf, whole.chi2),
        win_rate=jnp.asarray(win_rate, totals.dtype),
    )


def _product(x: Array, y: Array) -> Array:
    """The product of numbers >= 0, 0 where one is 0 and the other inf."""
    return jnp.where((x > 0) & (y > 0), x * y, 0.0)


def _of_one_block(totals: Array, rows: Rows) -> tuple[Array, Array]:
    """Total variation and win rate, where there is one block."""
    row = jax.tree.map(lambda x: x[0, 0], rows)
    target = jnp.exp(row.log_target)
    change = _divergences.change(target, row.probs, row.delta, row.log_ratio)
    wins = _divergences.win_chances(jnp.exp(row.log_probs), totals.ravel())
    return jnp.sum(jnp.abs(change)) / 2, row.probs @ wins


def soft_metrics(
    blocks: Blocks, values: Array | None, temperature: Array, log_n: Array, plan: Plan
) -> Metrics:
    """Metrics of the selected sequence, for a scalar temperature in (0, inf); values `[J, S]`."""
    chex.assert_rank([blocks.laws, blocks.kinds, temperature, log_n], [4, 1, 0, 0])
    ahead, tilted_reward = _ahead(blocks, temperature)
    rows = _soft_rows(blocks, values, ahead, temperature, log_n, plan)
    return _accumulated(blocks, rows, ahead, tilted_reward)


def limits(blocks: Blocks, values: Array | None, log_n: Array) -> tuple[Metrics, Metrics]:
    """The same at temperature 0 and at inf."""
    hard, base = _hard_rows(blocks, values, log_n), _base_rows(blocks)
    return _accumulated(blocks, *hard), _accumulated(blocks, *base)
