"""From pools of scored candidates to curves against n: no likelihoods are needed.

A pool holds N responses to one prompt, drawn independently from the policy, with the rewards that
select and perhaps other values to be averaged (a gold reward, a length, correctness as 0 or 1).
`pool_curve` averages over all subsets of n of them, which is unbiased for the policy; `plug_in_curve`
and the first part of `pool_kl` take the pool for the policy, which is biased by O(1/N).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _jackknife, _subsets, _terms

Array = jax.Array

FEWEST_EFFECTIVE = 10.0
"""Estimates about the tilted law need pools with at least this `pool_effective_size`."""

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


class TiltedKl(NamedTuple):
    """A divergence of the tilted law P* in nats; `[..]` is `[T]` or empty, and M may be absent.

    Attributes:
      mean: `[.., M]` over all prompts whose pool has at least n candidates, those too small to tell
        included: they are the ones of large divergence, so to leave them out would be a bias. NaN
        where the harmonic mean of their effective sizes is below `FEWEST_EFFECTIVE`.
      standard_error: `[.., M]` of that mean, from the spread between prompts.
      per_prompt: `[prompts, .., M]` after the jackknife; NaN where the effective size of the pool is
        below `FEWEST_EFFECTIVE`.
      plug_in: `[prompts, .., M]` before, wherever n is not above the size of the pool.
    """

    mean: Array
    standard_error: Array
    per_prompt: Array
    plug_in: Array


class KlCurve(NamedTuple):
    """KL(P_n‖P) in nats against n, and the divergences of the tilted law; fields as in `Curve`.

    Attributes:
      mean: `[.., M]` of `per_prompt`.
      standard_error: `[.., M]`.
      per_prompt: `[prompts, .., M]` after the jackknife; may be slightly negative where KL is near 0.
      plug_in: `[prompts, .., M]` before: the KL of the empirical law, biased by O(1/N).
      prompts: `[M]`.
      tilted_soft: KL(P*‖P_n), `[.., M]`.
      tilted_base: KL(P*‖P), `[..]`: what KL(P_n‖P) tends to.
      effective_size: `[prompts, ..]`, `pool_effective_size`.
    """

    mean: Array
    standard_error: Array
    per_prompt: Array
    plug_in: Array
    prompts: Array
    tilted_soft: TiltedKl
    tilted_base: TiltedKl
    effective_size: Array


def pool_curve(
    rewards: Any,
    n: Any,
    temperature: Any,
    values: Any = None,
    where: Any = None,
    *,
    nodes: int | None = None,
) -> Curve:
    """The expected value of what soft best-of-n selects, unbiased, for every n up to the pool's size.

    For each prompt, the complete U-statistic: the mean over all subsets S of n of its N candidates of

      Σ_{i in S} v_i e^{r_i/λ} / Σ_{i in S} e^{r_i/λ},

    r = `rewards`, v = `values`, λ = `temperature`. With 0/1 values it is a soft pass@k; at λ = 0 with
    values = rewards of 0 and 1 it is pass@k.

    Args:
      rewards: `[prompts, N]` scores that select, in the units of `temperature`.
      n: `[M]` or scalar, integers >= 1. Concrete if possible: the largest one below N sets the cost.
      temperature: `[T]` or scalar, at least 0, traced. 0 is hard best-of-n, exact ties sharing
        equally; `inf` a candidate at random.
      values: `[prompts, N]` what is averaged; the rewards if None. Selecting and averaging the same
        noisy score is optimistic about what the score stands for: give a second score here.
      where: `[prompts, N]` bool; False leaves a candidate out (ragged pools).
      nodes: static number of quadrature points. Default: enough, where rewards, `where` and
        temperature are concrete; else 512, which resolves range/temperature up to about 120.

    Returns:
      `Curve` in the common dtype of rewards and values, without the axis of a scalar n or
      temperature. NaN where n is above a pool's size, and under tracing where `nodes` are too few or
      an argument is bad.

    Raises:
      ValueError: shapes do not match, a pool without candidates, rewards or values that are not
        finite where they count, n not an integer >= 1 or above the size of every pool, a negative
        temperature. Values are checked when they are concrete.

    Numerics: error below 1e-13 of the spread of the values in float64 (1e-6 in float32), plus machine
      epsilon times range/temperature, where rewards that are less than that apart are concerned. Cost
      O(prompts · N · n · log(N e^{range/λ})), independent of λ once range/λ is above 40; memory is that
      of one prompt and the result. Differentiable in rewards, values and temperature.
    Source: derived here: 1/Σw = ∫ e^{-tΣw} dt, and a recursion for means over subsets; at λ = 0 the
      weight of the i-th worst is C(i-1, n-1)/C(N, n), as for pass@k (arXiv:2107.03374).
    """
    pools, n, temperature = _arguments(rewards, n, temperature, values, where)
    if nodes is not None and (not isinstance(nodes, (int, np.integer)) or nodes < 1):
        raise ValueError(f"nodes must be a positive integer, got {nodes!r}")
    columns = [
        _unbiased(pools, n.reshape(-1), t, _rule(t), _plan(pools, n, t, nodes))
        for t in temperature.reshape(-1)
    ]
    return _curve(jnp.stack(columns, 1), pools, n, temperature)


def leave_one_out(judges: Any) -> tuple[Array, Array]:
    """Every judge in turn as the one that values what the others select.

    Args:
      judges: `[..., N, J]` scores of J >= 2 judges, on one scale.

    Returns:
      `[J, ..., N]` the averages of all but one, which select, and `[J, ..., N]` the one left out, which
      values, in the dtype of `judges`.

    Raises:
      ValueError: fewer than two judges.

    Source: cross-fitting. Where the noise of the judges is independent, what the one left out thinks
      of what the others select is an unbiased estimate of its true score.
    """
    judges = _checks.as_float("judges", judges)
    if judges.ndim < 2 or judges.shape[-1] < 2:
        raise ValueError(f"judges must be [..., N, J] with J >= 2, got shape {judges.shape}")
    count = judges.shape[-1]
    # Sums before the division, so that integer scores that tie still tie.
    sums = [jnp.sum(jnp.delete(judges, j, axis=-1), axis=-1) for j in range(count)]
    return jnp.stack(sums) / (count - 1), jnp.moveaxis(judges, -1, 0)


def leave_one_out_curve(
    judges: Any, n: Any, temperature: Any, where: Any = None, *, nodes: int | None = None
) -> Curve:
    """The expected score of what soft best-of-n selects by J - 1 of J noisy judges, unbiased.

    The mean over the judges j of `pool_curve` with the average of the others as the rewards that
    select and judge j as the value. To select and value by the same judges counts their noise as
    gain; here, where it is independent, it averages out. What is estimated is selection by J - 1
    judges; by all J it would be slightly better.

    Args:
      judges: `[prompts, N, J]` scores of J >= 2 judges, exchangeable and on one scale.
      n: `[M]` or scalar, integers >= 1.
      temperature: `[T]` or scalar, at least 0, in units of the scores, traced.
      where: `[prompts, N]` bool; False leaves a candidate out.
      nodes: as in `pool_curve`.

    Returns:
      `Curve`, as `pool_curve`; the errors are over prompts.

    Raises:
      ValueError: fewer than two judges, or as `pool_curve`.

    Numerics: that of `pool_curve`, J times its cost.
    Source: cross-fitting, see `leave_one_out`.
    """
    rewards, values = leave_one_out(judges)
    if rewards.ndim != 3:
        raise ValueError(f"judges must be [prompts, N, J], got shape {jnp.shape(judges)}")
    count, prompts, slots = rewards.shape
    kept = jnp.ones((prompts, slots), bool) if where is None else jnp.asarray(where)
    if kept.shape != (prompts, slots):
        raise ValueError(f"where has shape {kept.shape}, must be {(prompts, slots)}")
    flat = (x.reshape(-1, slots) for x in (rewards, values, jnp.tile(kept, (count, 1))))
    selecting, valuing, there = flat
    each = pool_curve(selecting, n, temperature, valuing, there, nodes=nodes).per_prompt
    pools, n, temperature = _arguments(rewards[0], n, temperature, None, kept)
    per_prompt = jnp.mean(each.reshape(count, prompts, *each.shape[1:]), axis=0)
    return _curve(per_prompt.reshape(prompts, temperature.size, n.size), pools, n, temperature)


def plug_in_curve(
    rewards: Any,
    n: Any,
    temperature: Any,
    values: Any = None,
    where: Any = None,
    *,
    nodes: int | None = None,
) -> Curve:
    """The expected value of what soft best-of-n selects from the empirical law of each pool.

    That is, n draws *with* replacement: biased by O(1/N) for the policy that the candidates came from,
    and meant to stand beside `pool_curve`.

    Args:
      rewards: `[prompts, N]` scores that select.
      n: `[M]` or scalar, integers >= 1.
      temperature: `[T]` or scalar, at least 0, traced.
      values: `[prompts, N]` what is averaged; the rewards if None.
      where: `[prompts, N]` bool.
      nodes: as in `pool_curve`.

    Returns:
      `Curve`, as `pool_curve`.

    Raises:
      ValueError: as `pool_curve`.

    Source: the law of arXiv:2505.03156's sampler on the empirical distribution, see `log_soft_bon`.
    """
    pools, n, temperature = _arguments(rewards, n, temperature, values, where)
    log_n = np.log(n.max()) if isinstance(n, np.ndarray) else jnp.log(jnp.max(n))
    columns = [
        _plug_in(pools, n.reshape(-1), t, _rule(t), _kl_nodes(pools, log_n, t, nodes))
        for t in temperature.reshape(-1)
    ]
    return _curve(jnp.stack(columns, 1), pools, n, temperature)


def pool_kl(
    rewards: Any, n: Any, temperature: Any, where: Any = None, *, nodes: int | None = None
) -> KlCurve:
    """KL(P_n‖P), KL(P*‖P_n) and KL(P*‖P) of soft best-of-n, estimated from rewards alone.

    The divergences of the empirical law (`plug_in`), and the same less their O(1/N) bias by leaving
    out every candidate in turn: N θ - (N-1) mean θ_{-i} (`per_prompt`).

    Args:
      rewards: `[prompts, N]` in the units of `temperature`.
      n: `[M]` or scalar, integers >= 1.
      temperature: `[T]` or scalar, at least 0, traced.
      where: `[prompts, N]` bool; False leaves a candidate out.
      nodes: as in `pool_curve`.

    Returns:
      `KlCurve` in the dtype of rewards, NaN where n is above a pool's size.

    Raises:
      ValueError: as `pool_curve`.

    Numerics: O(N² · nodes) a prompt, n and λ. What is left of the bias is O(1/N²) and grows with n. At
      λ = 0 and continuous rewards the plug-in of KL(P_n‖P) is no worse than that; ties count as one
      outcome.
    Of the tilted law: with W = P*/P the plug-in of K = KL(P*‖P) = E[W log W] is off by
      ((K + 1/2) CV² + K - E[W² log W])/N + O(1/N²), CV² = E[W²] - 1. At large n, KL(P*‖P_n) is
      Var_{P*}(W)/2n², a ratio of moments of W up to the third, so that its bias does not grow with n
      for ever, but is larger. Both are too low, and both are governed by the effective size
      N/(1 + CV²). The jackknife leaves an error of order 1/N², at least five times smaller for pools of
      32 normal rewards at λ = 1.5 (tests/test_pool.py); where few candidates are effective it is too
      low itself, hence `FEWEST_EFFECTIVE`. The size that a pool shows is too large where the true one
      is small, and no pool can tell of an outcome so rare and so good that it has not come up. The
      standard errors know nothing of the bias. At λ = 0 P* is P given the best reward,
      and the effective size the number of tied best.
    Source: the law is that of `log_soft_bon`; the jackknife is Quenouille's; the bias by the delta
      method, derived here.
    """
    pools, n, temperature = _arguments(rewards, n, temperature, None, where)
    log_n = np.log(n.max()) if isinstance(n, np.ndarray) else jnp.log(jnp.max(n))
    parts = [
        _kl(pools, n.reshape(-1), t, _rule(t), _kl_nodes(pools, log_n, t, nodes))
        for t in temperature.reshape(-1)
    ]
    base, tilted_soft = jax.tree.map(lambda *x: jnp.stack(x, 1), *parts)
    of_target = [_tilted_kl(pools, t, _rule(t)) for t in temperature.reshape(-1)]
    target = jax.tree.map(lambda *x: jnp.stack(x, 1), *of_target)
    effective = _effective_size(pools, temperature)
    curve = _curve(base.reduced, pools, n, temperature)
    plug_in = _curve(base.plain, pools, n, temperature).per_prompt
    return KlCurve(
        *curve[:3],
        plug_in,
        curve.prompts,
        _about_tilted(tilted_soft, effective, pools, n, temperature),
        _about_tilted(target, effective, pools, np.array(1), temperature),
        effective,
    )


def pool_effective_size(rewards: Any, temperature: Any, where: Any = None) -> Array:
    """How many of a prompt's N candidates carry the softmax weight: (Σw)²/Σw², w = e^{r/λ}.

    Divided by N it is the plug-in estimate of 1/(1 + CV²), and n times that the effective sample size
    of soft best-of-n: above it the KL from the tilted law falls as 1/n², below it not yet.

    Args:
      rewards: `[prompts, N]` in the units of `temperature`.
      temperature: `[T]` or scalar, at least 0, traced; at 0 the number of tied best, at inf N.
      where: `[prompts, N]` bool.

    Returns:
      `[prompts, T]` or `[prompts]`, between 1 and N.

    Raises:
      ValueError: as `pool_curve`.

    Source: Kish's effective sample size; 1 + CV² = E[w²]/E[w]².
    """
    pools, _, temperature = _arguments(rewards, 1, temperature, None, where)
    return _effective_size(pools, temperature)


# Arguments ---------------------------------------------------------------------------------------


class _Pools(NamedTuple):
    """Checked arrays `[prompts, N]` of one dtype, and sizes `[prompts]`."""

    rewards: Array
    values: Array
    where: Array
    size: Array


def _arguments(
    rewards: Any, n: Any, temperature: Any, values: Any, where: Any
) -> tuple[_Pools, Any, Array]:
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
    return _Pools(rewards, values, where, size), n, temperature


def _rule(temperature: Array) -> str:
    value = _checks.concrete(temperature)
    if value is None:
        return "any"
    return "hard" if value == 0 else "base" if np.isposinf(value) else "soft"


def _sorted(rewards: Any, where: Any, xp: Any) -> tuple[Any, Any]:
    """The order, best first and empty slots last, and rewards so, the worst in the empty slots."""
    order = xp.argsort(xp.where(where, -rewards, xp.inf), axis=-1)
    worst = xp.min(xp.where(where, rewards, xp.inf), axis=-1, keepdims=True)
    filled = xp.where(where, rewards, worst)
    return order, xp.take_along_axis(filled, order, axis=-1)


def _plan(pools: _Pools, n: Any, temperature: Array, nodes: int | None) -> _subsets.Plan:
    slots = pools.rewards.shape[1]
    if _rule(temperature) in ("hard", "base"):
        return _subsets.Plan(1, 1, 1)
    rewards, where, number, t = (
        _checks.concrete(x) for x in (pools.rewards, pools.where, n, temperature)
    )
    if rewards is None or where is None or number is None or t is None:
        largest = slots if number is None else min(int(number.max()), slots)
        return _subsets.Plan(nodes or DEFAULT_NODES, slots, largest)
    plan = _subsets.plan_for(_sorted(rewards, where, np)[1], where.sum(1), number, float(t))
    return plan if nodes is None else plan._replace(nodes=nodes)


def _kl_nodes(pools: _Pools, log_n: Any, temperature: Array, nodes: int | None) -> int:
    if _rule(temperature) in ("hard", "base"):
        return 1
    rewards, where, most, t = (
        _checks.concrete(x) for x in (pools.rewards, pools.where, log_n, temperature)
    )
    if nodes is not None or rewards is None or where is None or most is None or t is None:
        return nodes or DEFAULT_NODES
    ordered = _sorted(rewards, where, np)[1]
    return _subsets.nodes_needed(ordered, float(t), float(most))


# The compiled workers ----------------------------------------------------------------------------


def _over_prompts(one: Any, pools: _Pools, n: Any, temperature: Array, rule: str) -> Any:
    """`one(pool, proper temperature)` prompt by prompt, NaN for n above its size."""
    dtype = pools.rewards.dtype
    n = jnp.asarray(n).astype(dtype)

    def prompt(part: _Pools) -> Any:
        order, rewards = _sorted(part.rewards, part.where, jnp)
        there = part.where[order]
        values = jnp.where(there, part.values[order], 0.0)
        centre = jnp.sum(values) / part.size.astype(dtype)
        pool = _subsets.Pool(rewards, jnp.where(there, values - centre, 0.0), part.size)
        proper = temperature
        if rule == "any":
            proper = _terms.proper_temperature(temperature, rewards)
        poison = jnp.where((n >= 1) & (n <= pool.slots_used) & (temperature >= 0), 0.0, jnp.nan)
        return jax.tree.map(lambda x: x + poison.astype(dtype), one(pool, proper, centre, n))

    return jax.lax.map(prompt, pools)


@partial(jax.jit, static_argnames=("rule", "plan"))
def _unbiased(pools: _Pools, n: Any, temperature: Array, rule: str, plan: _subsets.Plan) -> Array:
    """`[prompts, M]` at one temperature."""

    def one(pool: _subsets.Pool, proper: Array, centre: Array, n: Array) -> Array:
        base = jnp.zeros_like(n)
        if rule == "base":
            return centre + base
        hard = _subsets.hard(pool, n) if rule != "soft" else base
        if rule == "hard":
            return centre + hard
        soft = _subsets.soft(pool, n, proper, plan)
        limit = jnp.where(temperature == 0, hard, base)
        usual = (temperature > 0) & (temperature < jnp.inf)
        return centre + jnp.where(usual, soft, limit)

    return _over_prompts(one, pools, n, temperature, rule)


@partial(jax.jit, static_argnames=("rule", "nodes"))
def _plug_in(pools: _Pools, n: Any, temperature: Array, rule: str, nodes: int) -> Array:
    """`[prompts, M]` at one temperature."""

    def one(pool: _subsets.Pool, proper: Array, centre: Array, n: Array) -> Array:
        base = jnp.zeros_like(n)
        if rule == "base":
            return centre + base
        hard = _jackknife.hard_plug_in(pool, n) if rule != "soft" else base
        if rule == "hard":
            return centre + hard
        soft = _jackknife.soft_plug_in(pool, n, proper, nodes)
        usual = (temperature > 0) & (temperature < jnp.inf)
        return centre + jnp.where(usual, soft, jnp.where(temperature == 0, hard, base))

    return _over_prompts(one, pools, n, temperature, rule)


@partial(jax.jit, static_argnames=("rule", "nodes"))
def _kl(
    pools: _Pools, n: Any, temperature: Array, rule: str, nodes: int
) -> tuple[_jackknife.Reduced, _jackknife.Reduced]:
    """KL(P_n‖P) and KL(P*‖P_n), `[prompts, M]` at one temperature."""

    def one(pool: _subsets.Pool, proper: Array, centre: Array, n: Array) -> Any:
        nothing = (_jackknife.Reduced(jnp.zeros_like(n), jnp.zeros_like(n)),) * 2
        if rule == "base":
            return nothing
        hard = _jackknife.hard_kl(pool, n) if rule != "soft" else nothing
        if rule == "hard":
            return hard
        return _by_temperature(temperature, _jackknife.soft_kl(pool, n, proper, nodes), hard)

    return _over_prompts(one, pools, n, temperature, rule)


@partial(jax.jit, static_argnames=("rule",))
def _tilted_kl(pools: _Pools, temperature: Array, rule: str) -> _jackknife.Reduced:
    """KL(P*‖P), `[prompts, 1]` at one temperature."""

    def one(pool: _subsets.Pool, proper: Array, centre: Array, n: Array) -> Any:
        nothing = _jackknife.Reduced(jnp.zeros_like(centre), jnp.zeros_like(centre))
        if rule == "base":
            return nothing
        hard = _jackknife.tilted_kl(pool, None) if rule != "soft" else nothing
        if rule == "hard":
            return hard
        return _by_temperature(temperature, _jackknife.tilted_kl(pool, proper), hard)

    return _over_prompts(one, pools, jnp.ones(1), temperature, rule)


def _by_temperature(temperature: Array, soft: Any, hard: Any) -> Any:
    """`soft`; at temperature 0 `hard`, at inf 0."""
    usual = (temperature > 0) & (temperature < jnp.inf)
    return jax.tree.map(
        lambda s, h: jnp.where(usual, s, jnp.where(temperature == 0, h, 0.0)), soft, hard
    )


def _effective_size(pools: _Pools, temperature: Array) -> Array:
    masked = jnp.where(pools.where, pools.rewards, -jnp.inf)[:, None]
    below = masked - jnp.max(masked, axis=-1, keepdims=True)
    t = temperature.reshape(1, -1, 1)
    usual = (t > 0) & (t < jnp.inf)
    scaled = jnp.where(jnp.isfinite(below), below, 0.0) / jnp.where(usual, t, 1.0)
    limit = jnp.where(t == 0, (below == 0).astype(below.dtype), 1.0)
    w = jnp.where(jnp.isfinite(below), jnp.where(usual, jnp.exp(scaled), limit), 0.0)
    size = jnp.sum(w, -1) ** 2 / jnp.sum(w**2, -1)
    return size.reshape(len(pools.size), *temperature.shape)


def _about_tilted(
    parts: _jackknife.Reduced, effective: Array, pools: _Pools, n: Any, temperature: Array
) -> TiltedKl:
    """From `[prompts, T, M]`: NaN where the effective sizes `[prompts, ..]` are too small."""
    curve = _curve(parts.reduced, pools, n, temperature)
    plug_in = _curve(parts.plain, pools, n, temperature).per_prompt
    # Without selection all is known, however few the candidates.
    inverse = jnp.where(temperature == jnp.inf, 0.0, 1 / effective).reshape(len(effective), -1, 1)
    there = pools.size[:, None, None] >= jnp.asarray(n).astype(pools.size.dtype).reshape(1, 1, -1)
    kept = jnp.broadcast_to(there, parts.plain.shape)
    count = jnp.maximum(jnp.sum(kept, axis=0, dtype=inverse.dtype), 1)
    average = jnp.sum(jnp.where(kept, inverse, 0.0), axis=0) / count
    enough, each = (x * FEWEST_EFFECTIVE <= 1 for x in (average, inverse))
    each = jnp.broadcast_to(each, parts.plain.shape).reshape(curve.per_prompt.shape)
    mean, error = (
        jnp.where(enough.reshape(x.shape), x, jnp.nan) for x in (curve.mean, curve.standard_error)
    )
    return TiltedKl(mean, error, jnp.where(each, curve.per_prompt, jnp.nan), plug_in)


def _curve(per_prompt: Array, pools: _Pools, n: Any, temperature: Array) -> Curve:
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
