"""Hedging: how hard to select by a proxy reward when a gold reward is what counts.

As n grows or λ falls the gold reward of the selected sample rises and may then fall. Its exact
derivative at finite n gives the best n, λ or ν; the condition on the tilted law is the limit n = inf of
that and misses it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, exact
from softbon_jax.problem import Problem
from softbon_jax.tuning._roots import bisected, for_any_n

Array = jax.Array
Rule = Literal["soft", "hard", "poisson", "race", "tilted"]
Unknown = Literal["temperature", "n", "mean_extra"]

GRID = 49
"""Points at which the gold reward is looked at before its highest one is refined."""


class Hedge(NamedTuple):
    """The best of one parameter, arrays of one batch shape.

    Attributes:
      value: the temperature (reward units), n or ν (real numbers) where the gold reward is largest; an
        end of its range (0, 1 or inf) if it is largest there.
      gold: E[gold] at `value`, in the units of the gold reward.
      proxy: E[r] at `value`, in reward units.
      kl_base: KL of the law at `value` to P, nats.
      interior: bool, whether `value` is a stationary point and not an end.
    """

    value: Array
    gold: Array
    proxy: Array
    kl_base: Array
    interior: Array


def hedge(
    problem: Problem,
    gold: Any,
    *,
    n: Any = None,
    temperature: Any = None,
    rule: Rule = "soft",
    nodes: int | None = None,
) -> Hedge:
    """The temperature, n or ν at which a rule that selects by the proxy earns the most gold reward.

    What is not given is chosen: λ for "soft" and "race" with `n` given and for "tilted"; n for "hard",
    and for "soft" and "race" with `temperature` given; ν for "poisson", which selects softly if a
    temperature is given and the largest reward if not.

    Args:
      problem: `[..., K]` reference law and proxy rewards; every problem of a batch (every prompt) gets
        its own answer.
      gold: `[..., K]` the reward that counts, finite, any units.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` reward units of the proxy, positive and finite, traced.
      rule: static.
      nodes: static number of quadrature points for "soft" and "poisson". Default: enough if the
        arguments are concrete, else `law.DEFAULT_NODES`.

    Returns:
      `Hedge` of the broadcast batch shape.

    Raises:
      ValueError: an unknown rule, arguments that it does not take or lacks, or bad values. Values are
        checked when concrete; traced bad values give NaN.

    Numerics: the best of 49 points, λ from range/256 to 64 ranges or n (or 1 + ν) from 1 to e^6 over the
    probability of what large n selects; then the root of the exact derivative around it, to about
    1e-10 relative in float64, and less where the maximum is flat. A narrower peak between two points is
    missed. Differentiable by the implicit function theorem where interior.
    Source: hedging is arXiv:2506.19248. Derived here: the derivative at finite n, by automatic
    differentiation of the exact law; for λ it is the mean over draws of Cov_softmax(gold, r).
    """
    problem = _arguments.checked_problem(problem)
    dtype = problem.rewards.dtype
    unknown = _unknown(rule, n, temperature)
    gold = _checks.as_float("gold", gold).astype(dtype)
    _checks.finite("gold", gold)
    if gold.ndim == 0 or gold.shape[-1] != problem.num_outcomes:
        raise ValueError(
            f"gold must have the problem's K = {problem.num_outcomes} outcomes on its last axis,"
            f" got shape {gold.shape}"
        )
    if temperature is not None:
        value = _checks.concrete(temperature)
        if value is not None:
            bad = ~((value > 0) & (value < math.inf))
            _checks.offending("temperature", value, bad, "positive and finite")
    log_n = _checks.log_candidates(1.0 if n is None else n, None, dtype)
    heat = _checks.as_float("temperature", 1.0 if temperature is None else temperature)
    heat = heat.astype(dtype)
    shape = _checks.batch_shape(
        problem=problem.batch_shape, gold=gold.shape[:-1], n=log_n.shape, temperature=heat.shape
    )
    log_n, heat = jnp.broadcast_to(log_n, shape), jnp.broadcast_to(heat, shape)
    soft = rule == "soft" or (rule == "poisson" and temperature is not None)
    lowest, most = _range(problem, log_n, heat, unknown, soft or rule == "race")
    plan = exact.quadrature_plan(problem, lowest, most, nodes)._replace(limits=False)
    if unknown != "temperature":
        plan = for_any_n(plan, nodes)
    if not soft:
        plan = plan._replace(nodes=1)
    return _hedge(problem, gold, log_n, heat, lowest, most, rule, unknown, soft, plan)


def _unknown(rule: str, n: Any, temperature: Any) -> Unknown:
    """What is to be chosen; ValueError where the arguments do not fit the rule."""
    given = (n is not None, temperature is not None)
    takes: dict[str, dict[tuple[bool, bool], Unknown]] = {
        "soft": {(True, False): "temperature", (False, True): "n"},
        "race": {(True, False): "temperature", (False, True): "n"},
        "hard": {(False, False): "n"},
        "poisson": {(False, False): "mean_extra", (False, True): "mean_extra"},
        "tilted": {(False, False): "temperature"},
    }
    if rule not in takes:
        raise ValueError(f"rule must be one of {', '.join(takes)}, got {rule!r}")
    if given not in takes[rule]:
        raise ValueError(
            f"rule {rule!r} takes "
            + {"soft": "n or temperature", "race": "n or temperature"}.get(
                rule, "neither n nor temperature" if rule != "poisson" else "no n"
            )
            + f", got n={n!r} and temperature={temperature!r}"
        )
    return takes[rule][given]


@functools.partial(jax.jit, static_argnames=("unknown", "tilts"))
def _range(
    problem: Problem, log_n: Array, temperature: Array, unknown: Unknown, tilts: bool
) -> tuple[Array, Array]:
    """The smallest temperature and the largest log n (or log(1 + ν)) that can come up."""

    def one(
        log_probs: Array, rewards: Array, log_n: Array, temperature: Array
    ) -> tuple[Array, Array]:
        terms = exact.tilted_terms(Problem(log_probs, rewards), temperature)
        span = jnp.max(terms.rewards) - jnp.min(terms.rewards)
        if unknown == "temperature":
            return jnp.where(span > 0, span, 1.0) / 256, log_n
        best = terms.rewards == jnp.max(terms.rewards)
        rare = jax.nn.logsumexp(jnp.where(best, terms.log_probs, -jnp.inf))
        return temperature, 6.0 - (terms.log_mean if tilts else rare)

    return _batching.over_batch(one, problem.num_outcomes, problem, (log_n, temperature))


@functools.partial(jax.jit, static_argnames=("rule", "unknown", "soft", "plan"))
def _hedge(
    problem: Problem,
    gold: Array,
    log_n: Array,
    temperature: Array,
    lowest: Array,
    most: Array,
    rule: Rule,
    unknown: Unknown,
    soft: bool,
    plan: exact.Plan,
) -> Hedge:
    def one(
        log_probs: Array,
        rewards: Array,
        gold: Array,
        log_n: Array,
        temperature: Array,
        lowest: Array,
        most: Array,
    ) -> Hedge:
        def at(x: Array) -> tuple[exact.TiltedTerms, Array]:
            """The terms and log law/P where the logarithm of the unknown (1 + ν for ν) is x."""
            heat = jnp.exp(x) if unknown == "temperature" else temperature
            size = log_n if unknown == "temperature" else x
            terms = exact.tilted_terms(Problem(log_probs, rewards), heat)
            if rule == "tilted":
                return terms, terms.exponents - terms.log_mean
            if rule == "hard":
                return terms, exact.hard_terms(terms.log_probs, terms.rewards, size).log_base_ratio
            if rule == "race":
                return terms, exact.race_terms(terms, size).log_base_ratio
            if rule == "poisson":
                return terms, exact.poisson_log_base_ratio(terms, jnp.expm1(size), soft, plan)
            return terms, exact.soft_terms(terms, heat, size[None], plan).log_base_ratio[0]

        def gain(x: Array, gold: Array) -> Array:
            terms, log_ratio = at(x)
            p = jnp.exp(terms.log_probs)
            return p @ (jnp.expm1(log_ratio) * (gold - p @ gold))

        if unknown == "temperature":
            first, last = jnp.log(lowest), jnp.log(lowest * (256 * 64))
        else:
            first, last = jnp.zeros_like(most), most
        share = jnp.linspace(0, 1, GRID, dtype=gold.dtype)
        grid = jax.lax.stop_gradient(first + (last - first) * share)
        gains = jax.lax.map(lambda x: gain(x, gold), grid)
        heat = lowest if unknown == "temperature" else temperature
        terms = exact.tilted_terms(Problem(log_probs, rewards), heat)
        # The ends: P itself, and what the rule selects at λ = 0 or n = inf.
        p, best = jnp.exp(terms.log_probs), terms.rewards == jnp.max(terms.rewards)
        best_ratio = jnp.where(best, -jnp.log(jnp.sum(jnp.where(best, p, 0.0))), -jnp.inf)
        if unknown == "temperature":
            at_first, at_last, ends = best_ratio, jnp.zeros_like(p), (0.0, jnp.inf)
            if rule != "tilted":
                at_first = exact.hard_terms(terms.log_probs, terms.rewards, log_n).log_base_ratio
        else:
            tilts = soft or rule == "race"
            sure = terms.exponents - terms.log_mean if tilts else best_ratio
            at_first, at_last, ends = jnp.zeros_like(p), sure, (1.0, jnp.inf)
        # An end that earns as much, to rounding, is the answer: there the curve has levelled off.
        limits = jnp.expm1(jnp.stack([at_first, at_last]))
        at_ends = (limits * p[None]) @ (gold - p @ gold)
        rounding = 100 * jnp.finfo(p.dtype).eps * (jnp.max(gold) - jnp.min(gold))
        top = jnp.argmax(gains)
        level = at_ends >= gains[top] - rounding
        interior = (top > 0) & (top < GRID - 1) & ~jnp.any(level)
        to_first = jnp.where(jnp.any(level), at_ends[0] >= at_ends[1], top == 0)
        middle = jnp.clip(top, 1, GRID - 2)
        low, high = grid[middle - 1], grid[middle + 1]
        root = bisected(jax.grad(gain), low, high, gold, 45)
        x = jnp.where(interior, root, grid[top])
        terms, log_ratio = at(x)
        value = jnp.exp(x)
        if unknown == "mean_extra":
            value, ends = jnp.expm1(x), (0.0, jnp.inf)
        value = jnp.where(interior, value, jnp.where(to_first, ends[0], ends[1]))
        end = jnp.where(to_first, at_first, at_last)
        log_law = terms.log_probs + jnp.where(interior, log_ratio, end)
        value = jnp.where(jnp.isnan(gains[top]), jnp.nan, value)
        q, kl = jnp.exp(log_law), exact.relative_entropy(log_law, terms.log_probs)
        return Hedge(value, q @ gold, q @ terms.rewards, kl, interior)

    elements = 8 * problem.num_outcomes * plan.nodes
    vectors = (*problem, gold)
    return _batching.over_batch(one, elements, vectors, (log_n, temperature, lowest, most))
