"""Rényi divergences of every order and f-divergences between the selected, tilted and reference law."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, _special
from softbon_jax.exact import _orders, _plan, _rules, _soft, _steep
from softbon_jax.exact._measures import log_best, nan_below_one, tilted_or_limit
from softbon_jax.problem import Problem

Array = jax.Array
Pair = Literal["soft_tilted", "tilted_soft", "soft_base", "base_soft", "tilted_base", "base_tilted"]


def renyi(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    order: Any = None,
    between: Pair = "soft_tilted",
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Array:
    """The Rényi divergence of any order between the law of soft best-of-n, its target and P.

    D_α(Q‖P) = log(Σ P (Q/P)^α)/(α - 1), which is KL(Q‖P) at α = 1, log max Q/P at α = inf, and
    log(1 + χ²(Q‖P)) at α = 2.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` real number of candidates >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` λ, in reward units, traced; 0 and inf are the limits of `metrics`.
      order: `[...]` α, from 0 to inf, both included, traced.
      between: static; the two laws in the order of the divergence, "soft_tilted" for D_α(P_n‖P*):
        any two of "soft", "tilted" and "base", which is P.
      log_n: `[...]` log n in nats instead of n, traced.
      nodes: static; as in `log_soft_bon`.

    Returns:
      `[...]` nats, of the broadcast batch shape. At temperature 0 it is inf for an order >= 1 from a
      law that is not confined to the best outcomes to P*.

    Raises:
      TypeError: an argument is missing or not real.
      ValueError: an order that is negative or NaN, a `between` of another name, and as `metrics`.
        Values are checked when concrete; traced bad values give NaN.

    Numerics: accurate relative to itself as it vanishes, to about 1e-12 in float64, since all summands
    are of one sign; also for orders that overflow each power of the ratio. Probabilities below the
    range of the float type count through their logarithms. Differentiable in all but `between` and
    `nodes`; at order 1/2 and at inf from one side.
    Source: A. Rényi (1961), definition; the cancellation-free form is derived here: with Σ P (Q/P - 1)
    = 0 the summand P [(Q/P)^α - 1 - α (Q/P - 1)]/(α - 1) is not negative.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> order = jnp.array([0.5, 1.0, 2.0, jnp.inf])
      >>> np.round(np.float64(sb.renyi(problem, 16, 0.3, order)), 4).tolist()
      [0.0083, 0.0166, 0.0333, 0.2464]
      >>> [round(float(sb.renyi(problem, 16, 0.3, jnp.inf, x)), 3) for x in ("soft_base", "base_soft")]
      [1.585, 1.334]
    """
    _checks.one_of("between", between, get_args(Pair))
    problem, temperature, log_n = _arguments.checked_arguments(problem, n, temperature, log_n)
    order = _checks.not_negative("order", order, problem.rewards.dtype)
    _checks.batch_shape(
        problem=problem.batch_shape,
        temperature=temperature.shape,
        n=log_n.shape,
        order=order.shape,
    )
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return _renyi(problem, temperature, log_n, order, plan, between=between)


def f_divergence(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    generator: Callable[[Array], Array] | None = None,
    between: Pair = "soft_tilted",
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Array:
    """Any f-divergence D_f(Q‖P) = Σ P f(Q/P - 1) between the law of soft best-of-n, its target and P.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` real number of candidates >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` λ, in reward units, traced; 0 and inf are the limits of `metrics`.
      generator: static; f as a function of x = Q/P - 1 >= -1, element by element in `jax.numpy`. It is
        convex with f(0) = 0. Adding a multiple of x changes nothing but the rounding, so leave it out:
        (sqrt(1 + x) - 1)² for the squared Hellinger distance, x² for χ², |x|/2 for total variation.
        Another function object compiles again.
      between: static; the two laws in the order of the divergence, as in `renyi`.
      log_n: `[...]` log n in nats instead of n, traced.
      nodes: static; as in `log_soft_bon`.

    Returns:
      `[...]`, of the broadcast batch shape. NaN where an outcome of positive probability under the first
      law has none under the second, as at temperature 0, or one below the range of the float type.

    Raises:
      TypeError: an argument is missing or not real, or `generator` is not a function.
      ValueError: a `between` of another name, and as `metrics`. Values are checked when concrete; traced
        bad values give NaN.

    Numerics: x is relatively accurate as it vanishes, so the result is as accurate as f(x) near 0.
    Differentiable where f is.
    Source: definition (Csiszár 1963).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> def squared_hellinger(x):
      ...     return (x / (1 + jnp.sqrt(1 + x))) ** 2
      >>> round(float(sb.f_divergence(problem, 16, 0.3, squared_hellinger)), 4)
      0.0082
    """
    _checks.one_of("between", between, get_args(Pair))
    if not callable(generator):
        raise TypeError(f"generator must be a function, got {_checks.shown(generator)}")
    problem, temperature, log_n = _arguments.broadcasting_arguments(problem, n, temperature, log_n)
    plan = _plan.quadrature_plan(problem, temperature, log_n, nodes)
    return _f_divergence(problem, temperature, log_n, plan, generator=generator, between=between)


@functools.partial(jax.jit, static_argnames="between")
def _renyi(
    problem: Problem,
    temperature: Array,
    log_n: Array,
    order: Array,
    plan: _plan.Plan,
    *,
    between: Pair,
) -> Array:
    first, second = between.split("_")

    def one(
        log_probs: Array, rewards: Array, temperature: Array, log_n: Array, order: Array
    ) -> Array:
        laws = _laws(Problem(log_probs, rewards), temperature, log_n, plan)
        found = _orders.renyi(*_pair(laws, first, second), order)
        if "tilted" in (first, second):
            # At temperature 0 P* is the other law, given the best reward.
            missed = laws.soft_missed if "soft" in (first, second) else laws.base_missed
            below = jnp.where(order < 1, order, 0.0)
            to_best = jnp.where(order < 1, below / (1 - below) * missed, jnp.inf)
            to_best = jnp.where(missed > 0, to_best, 0.0)
            found = jnp.where(temperature == 0, missed if first == "tilted" else to_best, found)
        return nan_below_one(log_n, found)

    elements = problem.num_outcomes * plan.nodes
    least = _soft.elements_at_once(problem.num_outcomes, plan.nodes)
    return _batching.over_batch(
        one, problem, (temperature, log_n, order), elements=elements, least=least
    )


@functools.partial(jax.jit, static_argnames=("generator", "between"))
def _f_divergence(
    problem: Problem,
    temperature: Array,
    log_n: Array,
    plan: _plan.Plan,
    *,
    generator: Callable[[Array], Array],
    between: Pair,
) -> Array:
    first, second = between.split("_")

    def one(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        laws = _laws(Problem(log_probs, rewards), temperature, log_n, plan)
        log_p, log_q, log_ratio = _pair(laws, first, second)
        p = jnp.exp(log_p)
        excess = jnp.expm1(jnp.where(p > 0, log_ratio, 0.0))
        total = jnp.sum(jnp.where(p > 0, p * generator(excess), 0.0))
        lost = jnp.any((p == 0) & (jnp.exp(log_q) > 0))
        return nan_below_one(log_n, jnp.where(lost, jnp.nan, total))

    elements = problem.num_outcomes * plan.nodes
    least = _soft.elements_at_once(problem.num_outcomes, plan.nodes)
    return _batching.over_batch(one, problem, (temperature, log_n), elements=elements, least=least)


class _Laws(NamedTuple):
    """The three laws of one problem as logarithms `[K]`, and the logarithms of their ratios.

    Attributes:
      base: log P.
      tilted: log P*.
      soft: log P_n.
      soft_base: log P_n/P, relatively accurate near 0 like the other two; 0 off the support.
      soft_tilted: log P_n/P*.
      tilted_base: log P*/P.
      soft_missed: scalar, -log P_n(best reward) at temperature 0.
      base_missed: scalar, -log P(best reward).
    """

    base: Array
    tilted: Array
    soft: Array
    soft_base: Array
    soft_tilted: Array
    tilted_base: Array
    soft_missed: Array
    base_missed: Array


def _laws(problem: Problem, temperature: Array, log_n: Array, plan: _plan.Plan) -> _Laws:
    """The laws of one `[K]` problem; at temperature 0 and inf their limits."""
    interior = _soft.interior_temperature(temperature, problem.rewards)
    terms = _soft.tilted_terms(problem, interior)
    soft = jax.tree.map(lambda x: x[0], _steep.soft_terms(terms, interior, log_n[None], plan))
    hard = _rules.hard_terms(terms.log_probs, terms.rewards, log_n)
    target = tilted_or_limit(terms, temperature)
    is_hard, is_base = temperature == 0, jnp.isposinf(temperature)
    support = terms.log_probs > -jnp.inf
    best = target.log_probs > -jnp.inf

    def limited(interior: Array, hard: Array) -> Array:
        ratio = jnp.where(is_hard, hard, jnp.where(is_base, 0.0, interior))
        return jnp.where(support, ratio, 0.0)

    weight, _ = _special.refined(terms.exponents - terms.log_mean, terms.excess)
    soft_base = limited(soft.log_base_ratio, hard.log_base_ratio)
    to_best = jnp.where(best, hard.log_base_ratio + hard.log_top, jnp.inf)
    return _Laws(
        base=terms.log_probs,
        tilted=target.log_probs,
        soft=terms.log_probs + soft_base,
        soft_base=soft_base,
        soft_tilted=limited(soft.log_ratio, to_best),
        tilted_base=limited(weight, jnp.where(best, -hard.log_top, -jnp.inf)),
        soft_missed=-log_best(hard, terms.rewards),
        base_missed=-hard.log_top,
    )


def _pair(laws: _Laws, first: str, second: str) -> tuple[Array, Array, Array]:
    """(log p, log q, log q/p) for a divergence of q = `first` from p = `second`."""
    law = {"base": laws.base, "tilted": laws.tilted, "soft": laws.soft}
    ratio = {
        ("soft", "base"): laws.soft_base,
        ("soft", "tilted"): laws.soft_tilted,
        ("tilted", "base"): laws.tilted_base,
    }
    known = (first, second) in ratio
    return law[second], law[first], ratio[first, second] if known else -ratio[second, first]
