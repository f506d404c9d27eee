"""The law of soft best-of-n for very many outcomes, in time and memory O(K).

`_soft.soft_terms` evaluates every outcome at every quadrature node. But e^{-tw} is 1 - tw to rounding
where tw is small and 0 where it is large. So each outcome is evaluated on a band of nodes around
t = 1/w, and running sums give what lies outside its band. For a thousand symbols that is 170 nodes per
outcome instead of 16,000.

All sums are of non-negative terms and are carried as logarithms, so that neither tails of
e^{-thousands} nor an n of e^{hundreds} leaves the float range.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _loops, _memory, _special
from softbon_jax.exact import _divergences, _plan, _quadrature, _soft
from softbon_jax.exact._measures import (
    Metrics,
    base_metrics,
    by_regime,
    soft_metrics,
    tilt_metrics,
)
from softbon_jax.problem import Problem

Array = jax.Array

NOTHING = -1e30
"""The logarithm of 0: finite, so that gradients are 0 where -inf - (-inf) would make them NaN."""

FILLING = -1e5
"""log P of the outcomes that `sorted_problem` pads with: never selected for log n far below 1e5."""

FILLING_STEP = -60.0
"""The log of the reward step between them, in temperatures."""


@jax.jit
def sorted_problem(problem: Problem) -> Problem:
    """The outcomes by falling reward, padded to one of few sizes, so that few kernels compile."""
    missing = max(256, _quadrature.node_bucket(problem.num_outcomes)) - problem.num_outcomes
    return Problem(
        jnp.pad(problem.log_probs[::-1], (0, missing), constant_values=FILLING),
        jnp.pad(problem.rewards[::-1], (0, missing), mode="edge"),
    )


def metrics_and_law(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan
) -> tuple[Metrics, Array]:
    """Metrics `[...]` and log P_n `[..., K]` for every temperature and log n, both `[...]`.

    One (temperature, n) after the other, since none of the work is shared. Where the arguments are
    known this is a Python loop over one compiled kernel, and their number costs no compilation.
    """
    shape = temperature.shape
    pairs: Any = (temperature.ravel(), log_n.ravel())
    if not any(isinstance(x, jax.core.Tracer) for x in pairs):
        pairs = tuple(map(np.asarray, pairs))  # whose entries are read without a program
    width = band_width(plan.spacing, problem.rewards.dtype)
    _memory.check(3 * math.prod(shape) * _memory.size_of(problem.rewards))
    if any(_checks.concrete(x) is None for x in (*problem, *pairs)):
        out = jax.lax.map(lambda x: one_metrics_and_law(problem, *x, plan, width), pairs)
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), out)
    each = [one_metrics_and_law(problem, *x, plan, width) for x in zip(*pairs, strict=True)]
    return each[0] if shape == () else _stacked(each, shape=shape)


@functools.partial(jax.jit, static_argnames="shape")
def _stacked(each: list[Any], *, shape: tuple[int, ...]) -> Any:
    """The pytrees `each` as one, with the axes `shape` in front."""
    return jax.tree.map(lambda *x: jnp.stack(x).reshape(*shape, *x[0].shape), *each)


@functools.partial(jax.jit, static_argnames="width")
def one_metrics_and_law(
    problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan, width: int
) -> tuple[Metrics, Array]:
    """Every metric of soft best-of-n and its log-probabilities.

    Args:
      problem: `[K]`, K >= 2, as `sorted_problem` makes it.
      temperature: scalar, 0 and inf included.
      log_n: scalar.
      plan: its `nodes` and `spacing` count.
      width: static, of the bands (`band_width`).
    """
    chex.assert_rank([*problem, temperature, log_n], [1, 1, 0, 0])
    _memory.check((12 * width + 64) * _memory.size_of(problem.rewards))
    rewards = problem.rewards
    interior = _soft.interior_temperature(temperature, rewards)
    terms = _soft.tilted_terms(problem, interior)
    step = -jnp.diff(rewards)
    filling = step == 0
    log_steps = jnp.where(filling, FILLING_STEP, jnp.log(jnp.where(filling, 1.0, step) / interior))
    wins = _divergences.win_chances(jnp.exp(terms.log_probs), rewards)
    soft, excess = soft_terms(terms, log_n, log_steps, plan, width)
    hard, hard_ratio = _hard_metrics(terms, log_n, wins)
    near = jnp.abs(terms.exponents - terms.log_mean) < _special.NEAR
    terms = terms._replace(excess=jnp.where(near, excess, 0.0))
    of_soft = soft_metrics(terms, tilt_metrics(terms), soft, wins, wide=True)
    return by_regime(
        temperature,
        log_n,
        soft=(of_soft, terms.log_probs + soft.log_base_ratio),
        hard=(hard, terms.log_probs + hard_ratio),
        base=(base_metrics(terms, wins), terms.log_probs),
    )


def _hard_metrics(terms: _soft.TiltedTerms, log_n: Array, wins: Array) -> tuple[Metrics, Array]:
    """As `_measures.hard_metrics` where P may underflow, and log P_n/P: F(k)^n - F(k+1)^n in logs."""
    log_p, rewards = terms.log_probs, terms.rewards
    from_above, from_below = jax.vmap(_running)(jnp.stack([log_p, log_p[::-1]]))
    log_above, from_below = from_above[:-1], from_below[::-1]
    log_up_to, log_below = from_below[:-1], from_below[1:]
    log_rate = _log_neg_log(log_above, log_up_to)  # log(-log F)
    log_drop = _log_neg_log(log_p - log_up_to, log_below - log_up_to)  # log(-log F(k+1)/F(k))
    log_miss = jnp.minimum(log_drop + log_n, 30.0)  # nothing is left of e^-e^30
    rare = log_miss < -30.0
    log_step = jnp.where(rare, log_miss, _special.log1mexp(jnp.exp(jnp.where(rare, 0.0, log_miss))))
    log_base_ratio = log_step - jnp.exp(jnp.minimum(log_rate + log_n, 30.0)) - log_p
    p, q = jnp.exp(log_p), jnp.exp(log_p + log_base_ratio)
    near = jnp.abs(log_base_ratio) < _special.NEAR
    eta = jnp.expm1(jnp.where(near, log_base_ratio, 0.0))
    _, kl_base = _divergences.both_ways(p, q, eta, log_base_ratio)
    gap = q @ (rewards[0] - rewards)
    unbounded = jnp.full((), jnp.inf, q.dtype)
    result = Metrics(
        reward=q @ rewards,
        tilted_reward=rewards[0],
        reward_gap=gap,
        relative_reward_gap=gap / rewards[0],
        kl_tilted_soft=-log_step[0],
        kl_soft_tilted=unbounded,
        kl_soft_base=kl_base,
        kl_tilted_base=-log_p[0],
        tv=jnp.exp(-jnp.exp(log_miss[0])),
        chi2=unbounded,
        win_rate=q @ wins,
    )
    return result, log_base_ratio


def _log_neg_log(log_missing: Array, log_x: Array) -> Array:
    """log(-log x) for x = e^log_x = 1 - e^log_missing, from the smaller of the two."""
    small = log_missing < -math.log(2)
    missing = jnp.exp(jnp.where(small, log_missing, -1.0))
    missing = jnp.maximum(missing, jnp.finfo(missing.dtype).eps)
    return jnp.where(
        small,
        log_missing + jnp.log(-jnp.log1p(-missing) / missing),
        jnp.log(-jnp.where(small, -1.0, log_x)),
    )


class _Bands(NamedTuple):
    """Which of Q quadrature nodes belong to which of K outcomes, at most B to each.

    Outcomes are by falling reward.

    Attributes:
      u: `[Q]` log t, not decreasing.
      start: `[K]` the first node of each band: before it, tw is below rounding.
      stop: `[K]` the first node past it: from there on, e^{-tw} is below rounding.
      node: `[K, B]` indices of the nodes of the band.
      inside: `[K, B]` whether there is such a node.
      begun: `[Q]` how many bands begin at a node or before.
      passed: `[Q]` how many end before it.
    """

    u: Array
    start: Array
    stop: Array
    node: Array
    inside: Array
    begun: Array
    passed: Array


def band_width(spacing: Any, dtype: Any) -> int:
    """Nodes in the band of an outcome, from tw = eps/4 to tw = e^right: one of three, so static."""
    rule, value = _quadrature.rule_for(dtype), _checks.concrete(spacing)
    parts = 4 if value is None else next(x for x in (1, 2, 4) if rule.spacing / x <= value * 1.001)
    return math.ceil((_linear_below(dtype) + rule.right) / rule.spacing * parts) + 2


def _linear_below(dtype: Any) -> float:
    """The -log of eps/4: below that, 1 - e^{-z} is z and e^{-z} is 1."""
    return math.log(4 / float(jnp.finfo(dtype).eps))


def soft_terms(
    terms: _soft.TiltedTerms, log_n: Array, log_steps: Array, plan: _plan.Plan, width: int
) -> tuple[_soft.SoftTerms, Array]:
    """As `_soft.soft_terms`, for one n and sorted outcomes of positive probability.

    With outcomes k = 0, 1, ... by falling reward, the differences of neighbors

      ρ(k+1) - ρ(k) = n μ ∫ (e^{-t w(k+1)} - e^{-t w(k)}) φ^{n-1} dt >= 0, ρ = P_n/P*,
      η(k) - η(k+1) = n(n-1) ∫ (e^{-t w(k+1)} - e^{-t w(k)}) E_P[w e^{-tw}] φ^{n-2} dt >= 0, η = P_n/P-1,

    are summed from the likeliest outcome of P* and of P, and E_{P*}[ρ] = 1 and E_P[η] = 0 fix the
    constants.

    Args:
      terms: of a `[K]` problem as `sorted_problem` makes it: P > 0 everywhere.
      log_n: scalar.
      log_steps: `[K - 1]` log of (r(k) - r(k+1))/λ.
      plan: its `nodes` and `spacing` count.
      width: static, of the bands (`band_width`).

    Returns:
      `SoftTerms` of `[K]` arrays, and W - 1 `[K]`, relatively accurate where it is small. NaN where
      `nodes` is too small.
    """
    log_p, offsets = terms.log_probs, -terms.exponents
    u, log_h, resolved = _quadrature.nodes_for(
        _quadrature.rule_for(log_p.dtype),
        plan.spacing,
        offsets,
        jnp.where(log_n >= 0, log_n, 0.0),
        terms.log_mean,
        plan.nodes,
    )
    bands = _bands(u, log_h, offsets, width)
    log_h = jnp.maximum(log_h, NOTHING)
    log_z = bands.u[bands.node] - offsets[:, None]
    z = jnp.exp(jnp.minimum(log_z, 30.0))
    log_rate, log_density = _at_nodes(bands, log_p, offsets, log_z, z)

    one_less = -jnp.expm1(-log_n)  # (n-1)/n
    # (n-1)(-log φ), formed in logs. Where it exceeds e^30 nothing is left of φ^{n-1}.
    fall = one_less * jnp.exp(jnp.minimum(log_rate + log_n, 30.0))
    rows = log_n + terms.log_mean + log_h + bands.u - fall  # n μ t φ^{n-1}
    # n² E_P[wt e^{-tw}] φ^{n-2}; the factor (n-1)/n is left for later, being 0 at n = 1
    base_rows = 2 * log_n + log_h + log_density + jnp.exp(log_rate) - fall

    so_far = jax.vmap(_running)(jnp.stack([rows, rows + bands.u, base_rows + bands.u]))[
        :, bands.start
    ]
    log_ratio = jnp.logaddexp(so_far[0], _log_sum(_on_band(rows, bands) - z))
    kernels = _step_kernels(bands, offsets, log_steps, z)
    log_apart = _log_apart(log_steps)  # log(1 - w(k+1)/w(k))
    steps = jax.vmap(lambda rows, before: _steps(rows, before, bands, kernels))(
        jnp.stack([rows, base_rows]), so_far[1:, :-1] + (log_apart - offsets[:-1])[None]
    )
    log_w = terms.exponents - terms.log_mean
    delta, eta, excess = jax.vmap(_centered)(
        jnp.concatenate([steps, (log_w[:-1] + log_apart)[None]]),
        jnp.stack([terms.log_tilted, log_p, log_p]),
    )

    poison = jnp.where(resolved, 0.0, jnp.nan).astype(log_p.dtype)
    probs = jnp.exp(terms.log_tilted + log_ratio)
    parts = (
        probs,
        *_special.refined(log_ratio, delta),
        *_special.refined(log_ratio + log_w, -one_less * eta),
    )
    return _soft.SoftTerms(*(x + poison for x in parts)), -excess


def _bands(u: Array, log_h: Array, offsets: Array, width: int) -> _Bands:
    size = u.shape[0]
    # Unused nodes have weight 0, wherever they are.
    u = jnp.where(log_h > -jnp.inf, u, jnp.max(u))
    offsets = jax.lax.stop_gradient(offsets)
    start = jnp.searchsorted(u, offsets - _linear_below(u.dtype)).astype(jnp.int32)
    stop = start + width
    node = start[:, None] + jnp.arange(width, dtype=jnp.int32)[None]
    position = jnp.arange(size, dtype=jnp.int32)
    begun, passed = (jnp.searchsorted(x, position, side="right") for x in (start, stop))
    return _Bands(u, start, stop, jnp.minimum(node, size - 1), node < size, begun, passed)


def _on_band(values: Array, bands: _Bands) -> Array:
    """Logarithms at the nodes `[Q]` spread to the bands `[K, B]`, NOTHING where there is no node."""
    return jnp.where(bands.inside, values[bands.node], NOTHING)


def _running(values: Array) -> Array:
    """The log of Σ_{i < k} e^values(i) for k = 0, 1, ... up to all of them.

    A sequential scan: the parallel `cumlogsumexp` is five times slower on CPU, and takes longer to
    compile than everything else here.
    """

    def add(total: Array, value: Array) -> tuple[Array, Array]:
        total = jnp.logaddexp(total, value)
        return total, total

    nothing = jnp.full((), NOTHING, values.dtype)
    return jnp.append(nothing, _loops.scan(add, nothing, values)[1])


def _log_sum(values: Array) -> Array:
    """The log of Σ e^values over the last axis."""
    top = jax.lax.stop_gradient(jnp.max(values, axis=-1))
    return jnp.log(jnp.sum(jnp.exp(values - top[..., None]), axis=-1)) + top


def _segment_log_sum(values: Array, segment: Array, count: int) -> Array:
    """The log of Σ e^values over the entries of each of `count` segments."""
    top = jax.ops.segment_max(jax.lax.stop_gradient(values), segment, count)
    top = jnp.maximum(top, NOTHING)
    total = jax.ops.segment_sum(jnp.exp(values - top[segment]), segment, count)
    return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1.0)) + top, NOTHING)


def _at_nodes(
    bands: _Bands, log_p: Array, offsets: Array, log_z: Array, z: Array
) -> tuple[Array, Array]:
    """log(-log φ) and log E_P[w t e^{-tw}] at the nodes."""
    size, count = bands.u.shape[0], log_p.shape[0]
    node = jnp.where(bands.inside, bands.node, size).ravel()
    log_pw = log_p - offsets
    passed, *ahead = jax.vmap(_running)(jnp.stack([log_p, log_p[::-1], log_pw[::-1]]))
    passed = passed[bands.passed]
    ahead, linear = (x[count - bands.begun] for x in ahead)
    linear = bands.u + linear
    pairs = jnp.stack([jnp.log(-jnp.expm1(-z)), -z, log_z - z]) + log_p[None, :, None]
    lost, phi, density = jax.vmap(lambda x: _segment_log_sum(x.ravel(), node, size + 1)[:size])(
        pairs
    )
    log_lost = jnp.logaddexp(jnp.logaddexp(passed, linear), lost)  # 1 - φ
    log_phi = jnp.logaddexp(ahead, phi)
    log_density = jnp.logaddexp(linear, density)
    return _log_neg_log(log_lost, log_phi), log_density


def _log_apart(log_steps: Array) -> Array:
    """log(1 - e^-step)."""
    return _special.log1mexp(jnp.exp(log_steps))


def _step_kernels(bands: _Bands, offsets: Array, log_steps: Array, z: Array) -> tuple[Array, Array]:
    """log(e^{-t w(k+1)} - e^{-t w(k)}) on the band of k, and past that on the band of k+1."""
    lower = jnp.exp(jnp.minimum(bands.u[bands.node[:-1]] - offsets[1:, None], 30.0))  # t w(k+1)
    apart = -jnp.expm1(-jnp.exp(log_steps))  # 1 - w(k+1)/w(k)
    own = jnp.log(-jnp.expm1(-z[:-1] * apart[:, None])) - lower
    past = bands.node[1:] >= bands.stop[:-1, None]
    return own, jnp.where(past, -z[1:], NOTHING)


def _steps(log_rows: Array, before: Array, bands: _Bands, kernels: tuple[Array, Array]) -> Array:
    """The log of Σ rows (e^{-t w(k+1)} - e^{-t w(k)}), `[K - 1]`.

    `before` is the log of what the nodes before the band of k contribute.
    """
    on_bands = _on_band(log_rows, bands)
    own, following = _log_sum(on_bands[:-1] + kernels[0]), _log_sum(on_bands[1:] + kernels[1])
    # At a node between the bands of k and k+1, e^{-tw} is 0 for k and 1 for k+1.
    between = (
        (bands.passed > 0) & (bands.begun == bands.passed) & (bands.passed < bands.start.shape[0])
    )
    segment = jnp.where(between, bands.passed - 1, 0)
    gap = _segment_log_sum(jnp.where(between, log_rows, NOTHING), segment, before.shape[0])
    return jnp.logaddexp(jnp.logaddexp(before, own), jnp.logaddexp(following, gap))


def _centered(log_rises: Array, log_q: Array) -> Array:
    """The x with x(k+1) - x(k) = e^log_rises(k) and E_q[x] = 0."""
    after = jnp.arange(log_rises.shape[0]) >= jnp.argmax(log_q)
    directions = jnp.stack(
        [jnp.where(after, log_rises, NOTHING), jnp.where(after, NOTHING, log_rises)[::-1]]
    )
    above, below = jax.vmap(_running)(directions)
    below = below[::-1]
    mean = jnp.sum(jnp.exp(log_q + above)) - jnp.sum(jnp.exp(log_q + below))
    most = math.log(jnp.finfo(log_q.dtype).max) - 1
    return jnp.exp(jnp.minimum(above, most)) - jnp.exp(jnp.minimum(below, most)) - mean
