"""Metrics of soft best-of-n for a continuous law of the reward, on its nodes."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _checks
from softbon_jax.continuous import Continuous
from softbon_jax.exact import _divergences, _plan, _rules, _soft, _steep
from softbon_jax.exact._measures import (
    Metrics,
    base_metrics,
    by_regime,
    soft_metrics,
    tilt_metrics,
)
from softbon_jax.problem import Problem

Array = jax.Array

STEEPEST = 1500.0
"""Range of the nodes over temperature from which the exponents of both tails are capped."""
BEYOND = 1e-7
"""Expected number of candidates beyond a cap. The cap matters where there are two: half its square."""
FAR = 40.0
"""Temperatures between a cap and the candidates that it may not touch."""
EDGE = 1e-10
"""Mass of P* at the last node from which P* counts as not resolved, or as not existing."""


def metrics(
    law: Continuous, n: Any, temperature: Any, log_n: Any, nodes: int | None, *, grid: bool
) -> Metrics:
    """`metrics` of a continuous law, or with `grid` its `sweep`."""
    problem, temperature, log_n = _arguments.checked_arguments(law, n, temperature, log_n)
    if grid:
        _checks.vector("temperature", temperature)
        _checks.vector("n", log_n)
    else:
        shapes = {"temperature": temperature.shape, "n": log_n.shape}
        _checks.batch_shape(problem=problem.batch_shape, **shapes)
    scores = _scores(law, problem, temperature, log_n)
    selected = Problem(problem.log_probs, scores)
    plan = _plan.quadrature_plan(selected, temperature, log_n, nodes, grid=grid)
    return _metrics(law, scores, temperature, log_n, plan, grid=grid)


def as_selected(law: Continuous, n: Any, temperature: Any, log_n: Any) -> tuple[Problem, Array]:
    """The nodes as an alphabet whose rewards serve for selection and nothing else; temperatures.

    Traced temperatures that the nodes do not resolve, or all for such an n, are NaN.
    """
    problem, temperature, log_n = _arguments.broadcasting_arguments(law, n, temperature, log_n)
    scores = _scores(law, problem, temperature, log_n)
    if _checks.concrete(temperature) is None or _checks.concrete(log_n) is None:
        soft = temperature > 0
        coarse = temperature < law.least_temperature * (1 - 1e-6)
        many = log_n > jnp.log(law.most_n) * (1 + 1e-6)
        temperature = jnp.where(soft & (coarse | many), jnp.nan, temperature)
    return Problem(problem.log_probs, scores), temperature


def _scores(law: Continuous, problem: Problem, temperature: Array, log_n: Array) -> Array:
    """The rewards by which candidates are selected, for arguments that the nodes resolve."""
    limits = law.least_temperature, law.most_n
    values = [_checks.concrete(x) for x in (temperature, log_n, *limits, problem.rewards)]
    if any(x is None for x in values):
        return problem.rewards
    temperatures, log_ns, least, most, _ = (np.asarray(x, np.float64) for x in values)
    _checks.offending(
        "temperature",
        temperatures,
        (temperatures > 0) & (temperatures < least * (1 - 1e-6)),
        f"0, or at least the least_temperature of the law, {least:g}",
    )
    _checks.offending(
        "log n",
        log_ns,
        (log_ns > np.log(most) * (1 + 1e-6)) & (temperatures > 0).any(),
        f"at most the log of the most_n of the law, {most:g}",
    )
    return _capped(problem, law, temperatures, log_ns)


def _capped(
    problem: Problem, law: Continuous, temperatures: np.ndarray, log_n: np.ndarray
) -> Array:
    """The rewards by which candidates are selected: those of a tail that hardly matters are one."""
    interior = temperatures[(temperatures > 0) & np.isfinite(temperatures)]
    rewards = np.asarray(problem.rewards, np.float64)
    if not interior.size or rewards[-1] - rewards[0] <= STEEPEST * interior.min():
        return problem.rewards
    beyond = math.log(BEYOND) - log_n.max(initial=0.0)
    far = FAR * interior.max()
    below, above = (np.asarray(x, np.float64) for x in (law.log_below, law.log_above))
    high = rewards[min(np.searchsorted(-above, -beyond), rewards.size - 1)] + far
    low = rewards[max(np.searchsorted(below, beyond, side="right") - 1, 0)] - far
    return jnp.asarray(np.clip(rewards, low, high), problem.rewards.dtype)


@functools.partial(jax.jit, static_argnames="grid")
def _metrics(
    law: Continuous,
    scores: Array,
    temperature: Array,
    log_n: Array,
    plan: _plan.Plan,
    *,
    grid: bool,
) -> Metrics:
    top, least, log_most = law.top, law.least_temperature, jnp.log(law.most_n)

    def curve(
        log_probs: Array,
        rewards: Array,
        scores: Array,
        log_below: Array,
        log_above: Array,
        temperature: Array,
        log_n: Array,
    ) -> Metrics:
        interior = _soft.interior_temperature(temperature, scores)
        terms = _soft.tilted_terms(Problem(log_probs, scores), interior)
        soft = _steep.soft_terms(terms, interior, log_n, plan)
        terms = terms._replace(rewards=rewards)
        wins = jnp.exp(log_below)
        tilt, base = tilt_metrics(terms), base_metrics(terms, wins)
        edge = jnp.sum(jnp.where(scores == scores[-1], jnp.exp(terms.log_tilted), 0.0))
        without = jnp.where(edge < EDGE, 0.0, jnp.nan)

        def at(soft: _soft.SoftTerms, log_n: Array) -> Metrics:
            result = soft_metrics(terms, tilt, soft, wins, wide=True)
            within = (temperature >= least * (1 - 1e-6)) & (log_n <= log_most * (1 + 1e-6))
            resolved = jnp.where(within, 0.0, jnp.nan)
            of_draws = {"reward", "kl_soft_base", "win_rate"}
            result = Metrics(
                *(
                    x + resolved + (0.0 if name in of_draws else without)
                    for name, x in result._asdict().items()
                )
            )
            hard = _hard(terms, log_below, log_above, log_n, top)
            return by_regime(temperature, log_n, result, hard, base)

        return jax.vmap(at)(soft, log_n)

    vectors = (law.log_probs, law.rewards, scores, law.log_below, law.log_above)
    over = _soft.over_grid if grid else _soft.over_points
    return over(curve, vectors, temperature, log_n, plan)


def _hard(
    terms: _soft.TiltedTerms, log_below: Array, log_above: Array, log_n: Array, top: Array
) -> Metrics:
    """Hard best-of-n of a continuous reward: density n F^{n-1}, and what its rank alone decides."""
    mostly = log_above < -math.log(2)
    rate = jnp.where(mostly, -jnp.log1p(-jnp.exp(jnp.where(mostly, log_above, -1.0))), -log_below)
    fewer = -jnp.expm1(-log_n)  # (n - 1)/n
    n = _rules.finite_n(log_n)
    q = jnp.exp(terms.log_probs + log_n - fewer * n * rate)
    sound = jnp.abs(jnp.sum(q) - 1) < 1e4 * jnp.finfo(q.dtype).eps ** 0.75
    reward = jnp.where(sound, _divergences.mean(q, terms.rewards), jnp.nan)
    infinite = jnp.full_like(reward, jnp.inf)
    return Metrics(
        reward=reward,
        tilted_reward=top,
        reward_gap=top - reward,
        relative_reward_gap=(top - reward) / top,
        kl_tilted_soft=infinite,
        kl_soft_tilted=infinite,
        kl_soft_base=log_n - fewer,
        kl_tilted_base=infinite,
        tv=jnp.ones_like(reward),
        chi2=infinite,
        win_rate=1 / (1 + jnp.exp(-log_n)),
    )
