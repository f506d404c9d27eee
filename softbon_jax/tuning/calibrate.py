"""Choosing λ and n: the temperature or the number of candidates that meets a budget.

Each is one root in one unknown (`_roots`), in a bracket that bounds certify, and differentiable by the
implicit function theorem. A target that cannot be met is reported with the range that can.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _batching, _checks, _special, exact
from softbon_jax.bounds import log_n_for_kl_upper
from softbon_jax.exact.metrics import metrics
from softbon_jax.problem import Problem
from softbon_jax.tuning._roots import Goal, Question, Root, find

Array = jax.Array
Divergence = Literal["kl_soft_base", "kl_tilted_soft", "kl_soft_tilted"]

SPANS = (16.0, 64.0)
"""Range/temperature of the smallest temperatures that are tried, one after the other."""


class Calibration(NamedTuple):
    """The answer to one question, arrays of one batch shape.

    Attributes:
      value: the temperature (reward units) or the number of candidates (a real number) asked for. If
        the target cannot be met it is the end of the range that comes nearest to it (0, 1 or inf).
      achieved: the divergence (nats) or reward (reward units) at `value`.
      feasible: bool, whether the target is within [low, high].
      low: the least that can be reached, at either end of the range of `value`.
      high: the most that can be reached, at the other end.
    """

    value: Array
    achieved: Array
    feasible: Array
    low: Array
    high: Array


class Frontier(NamedTuple):
    """Soft best-of-n at fixed n along its temperature; `[..., B]` for B budgets.

    Attributes:
      kl: KL(P_n‖P) in nats, the budgets where they are feasible.
      reward: E_{P_n}[r], the most that n candidates earn at that KL by this rule.
      temperature: where it is earned, reward units.
      feasible: bool; an infeasible budget stands at hard best-of-n.
    """

    kl: Array
    reward: Array
    temperature: Array
    feasible: Array


# Public functions ---------------------------------------------------------------------------------


def temperature_for_kl(
    problem: Problem,
    n: Any,
    kl: Any,
    *,
    divergence: Divergence = "kl_soft_base",
    nodes: int | None = None,
) -> Calibration:
    """The temperature at which soft best-of-n has the given divergence.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced.
      kl: `[...]` the budget in nats, at least 0, traced.
      divergence: static: "kl_soft_base", KL(P_n‖P), what the selection costs; or, to the tilted law at
        the same temperature, "kl_tilted_soft", KL(P*‖P_n), or "kl_soft_tilted", KL(P_n‖P*).
      nodes: static number of quadrature points. Default: enough for the arguments if all are concrete,
        else `law.DEFAULT_NODES`.

    Returns:
      `Calibration` of the broadcast batch shape: `value` is the temperature. Budget 0 gives inf; one
      beyond hard best-of-n is infeasible and gives 0. The reachable range is [low, high] = [0, that of
      hard best-of-n] (inf for kl_soft_tilted).

    Raises:
      ValueError: kl is negative or NaN, an unknown divergence, and as `law.log_soft_bon`. Values are
        checked when concrete; traced bad values give NaN.

    Numerics: achieved = kl to 1e-10 relative in float64 (1e-5 in float32), down to a budget of about
    1e-12 and as long as that determines a temperature: towards hard best-of-n the divergence levels
    off. Under `jit` temperatures below range/64 are not searched, and a budget that needs one
    gives NaN. All three fall as λ grows in every case seen; where one does not, this is one of the
    temperatures that meet the budget. Differentiable in everything by the implicit function theorem;
    gradients mean nothing where infeasible.
    Source: derived here; the bracket is KL(P_n‖P) <= (Δ/λ)²/8, by Hoeffding's lemma.
    """
    if divergence not in ("kl_soft_base", "kl_tilted_soft", "kl_soft_tilted"):
        raise ValueError(f"divergence must be a KL of Metrics to or from P_n, got {divergence!r}")
    _at_least_zero("kl", kl)
    return _temperature(problem, n, kl, divergence, nodes)


def temperature_for_reward(
    problem: Problem, n: Any, reward: Any, *, nodes: int | None = None
) -> Calibration:
    """The temperature at which soft best-of-n has the given mean reward.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced.
      reward: `[...]` the target E_{P_n}[r] in reward units, finite, traced.
      nodes: as in `temperature_for_kl`.

    Returns:
      `Calibration` of the broadcast batch shape: `value` is the temperature, unique because E_{P_n}[r]
      falls as λ grows (its derivative in 1/λ is a mean of variances). The reachable range is
      [E_P[r], that of hard best-of-n]; below it `value` is inf, above it 0, and `feasible` False.

    Raises:
      ValueError: a target that is not finite, and as `law.log_soft_bon`.

    Numerics: as `temperature_for_kl`, relative to the gain E_{P_n}[r] - E_P[r].
    Source: derived here.
    """
    _checks.finite("reward", reward)
    return _temperature(problem, n, reward, "reward", nodes)


def n_for_kl(
    problem: Problem,
    kl: Any,
    temperature: Any,
    *,
    divergence: Divergence = "kl_soft_base",
    nodes: int | None = None,
) -> Calibration:
    """The number of candidates at which soft best-of-n has the given divergence.

    Args:
      problem: `[..., K]` reference law and rewards.
      kl: `[...]` the budget in nats, at least 0, traced.
      temperature: `[...]` reward units, positive and finite, traced.
      divergence: static, as in `temperature_for_kl`.
      nodes: as in `temperature_for_kl`.

    Returns:
      `Calibration` of the broadcast batch shape: `value` is n, a real number: round it down to stay
      within a budget of kl_soft_base, which grows with n, and up for the other two, which fall.
      The reachable range is [0, KL(P*‖P)] (for kl_soft_tilted [0, KL(P‖P*)]), one end at n = 1 and
      the other at n = inf.

    Raises:
      ValueError: kl is negative or NaN, a temperature is 0 or inf, and as `law.log_soft_bon`.

    Numerics: achieved = kl to 1e-10 relative in float64, as long as that determines n.
    Source: derived here; the bracket of the two to the tilted law is the bound log(1 + CV²/n) of
    `bounds.kl_upper`.
    """
    if divergence not in ("kl_soft_base", "kl_tilted_soft", "kl_soft_tilted"):
        raise ValueError(f"divergence must be a KL of Metrics to or from P_n, got {divergence!r}")
    _at_least_zero("kl", kl)
    value = _checks.concrete(temperature)
    if value is not None:
        bad = ~((value > 0) & np.isfinite(value))
        _checks.offending("temperature", value, bad, "positive and finite")
    return _candidates(problem, kl, temperature, divergence, nodes)


def frontier(problem: Problem, n: Any, kl: Any, *, nodes: int | None = None) -> Frontier:
    """What soft best-of-n earns at fixed n for each of some budgets of KL(P_n‖P).

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced.
      kl: `[B]` budgets in nats, at least 0, traced.
      nodes: as in `temperature_for_kl`.

    Returns:
      `Frontier` of shape `[..., B]`.

    Raises:
      ValueError: kl is not a vector, and as `temperature_for_kl`.

    Numerics: as `temperature_for_kl`.
    Source: derived here.
    """
    kl = _checks.as_float("kl", kl)
    if kl.ndim != 1 or kl.size == 0:
        raise ValueError(f"kl must be a vector with at least one entry, got shape {kl.shape}")
    problem = _arguments.checked_problem(problem)
    problem = Problem(*(x[..., None, :] for x in problem))
    n = _checks.as_float("n", n)[..., None]
    answer = temperature_for_kl(problem, n, kl.reshape((1,) * n.ndim + (-1,))[0], nodes=nodes)
    reward = metrics(problem, n, answer.value, nodes=nodes).reward
    return Frontier(answer.achieved, reward, answer.value, answer.feasible)


def _at_least_zero(name: str, x: Any) -> None:
    value = _checks.concrete(x)
    if value is not None:
        _checks.offending(name, value, ~(value >= 0), "at least 0")


# From arguments to brackets, and from roots to answers --------------------------------------------


def _temperature(
    problem: Problem, n: Any, target: Any, quantity: str, nodes: int | None
) -> Calibration:
    problem, _, log_n = _arguments.checked_arguments(problem, n, 1.0, None)
    target = _checks.as_float("target", target).astype(problem.rewards.dtype)
    shape = _checks.batch_shape(problem=problem.batch_shape, n=log_n.shape, target=target.shape)
    log_n, target = jnp.broadcast_to(log_n, shape), jnp.broadcast_to(target, shape)
    ends = _temperature_ends(problem, log_n, target, quantity)
    goal, between = Goal(quantity, "temperature"), _checks.concrete(ends.between)
    nowhere = jnp.full_like(target, jnp.nan)
    root = Root(nowhere, nowhere, jnp.zeros_like(ends.between))
    if between is not None and not between.any():  # nothing to search for
        return _temperature_answer(ends, root)
    # Few temperatures are low, and low ones cost more; last, one below which nothing changes.
    lows = [jnp.log(ends.span / x) for x in SPANS] + [ends.smallest]
    for low in lows[1:2] if between is None else lows:
        low = jnp.minimum(low, ends.bracket_high - 2)
        question = Question(*problem, log_n, ends.goal, low, ends.bracket_high)
        root = find(goal, question, nodes)
        short = _checks.concrete(root.short)
        if short is None or between is None or not (short & between).any():
            break
    return _temperature_answer(ends, root)


def _candidates(
    problem: Problem, kl: Any, temperature: Any, quantity: str, nodes: int | None
) -> Calibration:
    problem, temperature, _ = _arguments.checked_arguments(problem, None, temperature, 0.0)
    kl = _checks.as_float("kl", kl).astype(problem.rewards.dtype)
    shape = _checks.batch_shape(
        problem=problem.batch_shape, temperature=temperature.shape, kl=kl.shape
    )
    temperature, kl = jnp.broadcast_to(temperature, shape), jnp.broadcast_to(kl, shape)
    certified = jnp.zeros_like(kl)
    if quantity == "kl_tilted_soft":
        certified = log_n_for_kl_upper(problem, jnp.where(kl > 0, kl, 1.0), temperature)
    ends = _candidate_ends(problem, temperature, kl, certified, quantity)
    question = Question(*problem, temperature, kl, ends.bracket_low, ends.bracket_high)
    return _candidate_answer(ends, find(Goal(quantity, "n"), question, nodes), quantity)


class _Ends(NamedTuple):
    """The reachable range, the bracket in it, and what is asked for; arrays `[...]`."""

    low: Array
    high: Array
    target: Array
    goal: Array  # the target in the measure of `Goal`
    between: Array  # bool: strictly inside the range
    bracket_low: Array
    bracket_high: Array
    span: Array  # Δ, 1 if that is 0
    smallest: Array  # log of a temperature below which nothing changes


@functools.partial(jax.jit, static_argnames="quantity")
def _temperature_ends(problem: Problem, log_n: Array, target: Array, quantity: str) -> _Ends:
    def one(log_probs: Array, rewards: Array, log_n: Array, target: Array) -> _Ends:
        log_probs = exact.normalized(log_probs)
        rewards, top = exact.on_support(log_probs, rewards)
        p, hard = jnp.exp(log_probs), exact.hard_terms(log_probs, rewards, log_n)
        ratio = jnp.exp(hard.log_base_ratio)
        low, goal, span = jnp.zeros_like(target), target, top - jnp.min(rewards)
        missed = hard.log_miss > -jnp.inf
        if quantity == "reward":
            centered = rewards - p @ rewards
            low, goal = p @ rewards, p @ (rewards - target) * -1
            high = low + p @ ((ratio - 1) * centered)
        elif quantity == "kl_soft_base":
            high = exact.both_ways(p, p * ratio, hard.eta, hard.log_base_ratio)[1]
        elif quantity == "kl_tilted_soft":
            hit = _special.log1mexp(jnp.where(missed, -hard.log_miss, 1.0))
            high = jnp.where(missed, -hit, 0.0)
        else:
            high = jnp.where(missed, jnp.inf, 0.0).astype(p.dtype)
        between = (goal > 0) & (target < high)
        span = jax.lax.stop_gradient(jnp.where(span > 0, span, 1.0))
        safe = jax.lax.stop_gradient(jnp.where(between, goal, 1.0))
        # KL <= (Δ/λ)²/8, and the gain is at most Δ √(KL/2).
        above = span**2 / (4 * safe) if quantity == "reward" else span / jnp.sqrt(8 * safe)
        bracket_high = jnp.log(above) + 1e-3
        gaps = jnp.diff(jnp.sort(jax.lax.stop_gradient(rewards)))
        gap = jnp.min(jnp.where(gaps > 0, gaps, span), initial=span)
        smallest = jnp.log(jnp.maximum(gap / 40, span * 2.0**-38))
        return _Ends(low, high, target, goal, between, smallest, bracket_high, span, smallest)

    return _batching.over_batch(one, problem.num_outcomes, problem, (log_n, target))


@jax.jit
def _temperature_answer(ends: _Ends, root: Root) -> Calibration:
    under, value = ends.goal <= 0, jnp.exp(root.at)
    value = jnp.where(under, jnp.inf, jnp.where(ends.between, value, 0.0))
    value = jnp.where(jnp.isnan(ends.target), jnp.nan, value)
    measured = root.value + jnp.where(ends.goal == ends.target, 0.0, ends.low)
    achieved = jnp.where(under, ends.low, jnp.where(ends.between, measured, ends.high))
    feasible = (ends.goal >= 0) & (ends.target <= ends.high)
    return Calibration(value, achieved, feasible, ends.low, ends.high)


@functools.partial(jax.jit, static_argnames="quantity")
def _candidate_ends(
    problem: Problem, temperature: Array, kl: Array, certified: Array, quantity: str
) -> _Ends:
    def one(
        log_probs: Array, rewards: Array, temperature: Array, kl: Array, certified: Array
    ) -> _Ends:
        temperature = jnp.where((temperature > 0) & (temperature < jnp.inf), temperature, jnp.nan)
        terms = exact.tilted_terms(Problem(log_probs, rewards), temperature)
        p, log_w = jnp.exp(terms.log_probs), terms.exponents - terms.log_mean
        high = exact.both_ways(p, jnp.exp(terms.log_tilted), terms.excess, log_w)[
            0 if quantity == "kl_soft_tilted" else 1
        ]
        between = (kl > 0) & (kl < high)
        safe = jax.lax.stop_gradient(jnp.where(between, kl, 1.0))
        # Past e^36 w_max/μ candidates nothing changes in double precision; KL(P_n‖P) <= log n.
        above = 36.0 - jax.lax.stop_gradient(terms.log_mean)
        if quantity == "kl_tilted_soft":
            above = jnp.log(jnp.expm1(jnp.clip(certified, 1e-6, above))) + 1e-3
        below = -36.0 * jnp.ones_like(above)
        if quantity == "kl_soft_base":
            below = jnp.log(jnp.expm1(jnp.minimum(safe, above / 2))) - 1e-3
        return _Ends(jnp.zeros_like(kl), high, kl, kl, between, below, above, below, below)

    return _batching.over_batch(one, problem.num_outcomes, problem, (temperature, kl, certified))


@functools.partial(jax.jit, static_argnames="quantity")
def _candidate_answer(ends: _Ends, root: Root, quantity: str) -> Calibration:
    none, all_of_it = (1.0, jnp.inf) if quantity == "kl_soft_base" else (jnp.inf, 1.0)
    value = jnp.where(
        ends.between, 1 + jnp.exp(root.at), jnp.where(ends.target <= 0, none, all_of_it)
    )
    value = jnp.where(jnp.isnan(ends.target + ends.high), jnp.nan, value)
    achieved = jnp.where(ends.between, root.value, jnp.where(ends.target <= 0, ends.low, ends.high))
    return Calibration(value, achieved, ends.target <= ends.high, ends.low, ends.high)
