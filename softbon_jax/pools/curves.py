"""From pools of scored candidates to curves against n: no likelihoods are needed.

A pool holds N responses to one prompt, drawn independently from the policy, with the rewards that
select and perhaps other values to be averaged (a gold reward, a length, correctness as 0 or 1).
`pool_curve` averages over all subsets of n of them, which is unbiased for the policy; `plug_in_curve`
and the first part of `pool_kl` take the pool for the policy, which is biased by O(1/N).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.pools import _common, _plug_in, _unbiased
from softbon_jax.pools._common import Curve as Curve

Array = jax.Array


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
    pools, n, temperature = _common.arguments(rewards, n, temperature, values, where)
    if nodes is not None and (not isinstance(nodes, (int, np.integer)) or nodes < 1):
        raise ValueError(f"nodes must be a positive integer, got {nodes!r}")
    columns = [
        _unbiased_at(
            pools, n.reshape(-1), t, _common.rule_of(t), _common.plan_of(pools, n, t, nodes)
        )
        for t in temperature.reshape(-1)
    ]
    return _common.curve_of(jnp.stack(columns, 1), pools, n, temperature)


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
    pools, n, temperature = _common.arguments(rewards[0], n, temperature, None, kept)
    per_prompt = jnp.mean(each.reshape(count, prompts, *each.shape[1:]), axis=0)
    return _common.curve_of(
        per_prompt.reshape(prompts, temperature.size, n.size), pools, n, temperature
    )


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
    pools, n, temperature = _common.arguments(rewards, n, temperature, values, where)
    log_n = np.log(n.max()) if isinstance(n, np.ndarray) else jnp.log(jnp.max(n))
    columns = [
        _plug_in_at(
            pools, n.reshape(-1), t, _common.rule_of(t), _common.kl_nodes(pools, log_n, t, nodes)
        )
        for t in temperature.reshape(-1)
    ]
    return _common.curve_of(jnp.stack(columns, 1), pools, n, temperature)


# The compiled workers ----------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("rule", "plan"))
def _unbiased_at(
    pools: _common.Pools, n: Any, temperature: Array, rule: str, plan: _unbiased.Plan
) -> Array:
    """`[prompts, M]` at one temperature."""

    def one(pool: _unbiased.Pool, proper: Array, center: Array, n: Array) -> Array:
        base = jnp.zeros_like(n)
        if rule == "base":
            return center + base
        hard = _unbiased.hard(pool, n) if rule != "soft" else base
        if rule == "hard":
            return center + hard
        soft = _unbiased.soft(pool, n, proper, plan)
        limit = jnp.where(temperature == 0, hard, base)
        usual = (temperature > 0) & (temperature < jnp.inf)
        return center + jnp.where(usual, soft, limit)

    return _common.over_prompts(one, pools, n, temperature, rule)


@partial(jax.jit, static_argnames=("rule", "nodes"))
def _plug_in_at(pools: _common.Pools, n: Any, temperature: Array, rule: str, nodes: int) -> Array:
    """`[prompts, M]` at one temperature."""

    def one(pool: _unbiased.Pool, proper: Array, center: Array, n: Array) -> Array:
        base = jnp.zeros_like(n)
        if rule == "base":
            return center + base
        hard = _plug_in.hard_plug_in(pool, n) if rule != "soft" else base
        if rule == "hard":
            return center + hard
        soft = _plug_in.soft_plug_in(pool, n, proper, nodes)
        usual = (temperature > 0) & (temperature < jnp.inf)
        return center + jnp.where(usual, soft, jnp.where(temperature == 0, hard, base))

    return _common.over_prompts(one, pools, n, temperature, rule)
