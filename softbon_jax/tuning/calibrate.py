"""Choosing λ and n: the temperature or the number of candidates that meets a budget.

Each is one root in one unknown (`_roots`), in a bracket that bounds certify (`_brackets`), and
differentiable by the implicit function theorem. A target that cannot be met is reported with the range
that can.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _checks, exact
from softbon_jax.exact.metrics import metrics_with_limits
from softbon_jax.problem import Problem
from softbon_jax.tuning._brackets import Reach, n_bracket, temperature_bracket
from softbon_jax.tuning._roots import Goal, Question, Root, find, nowhere
from softbon_jax.tuning._search import CLOSED_FORM

Array = jax.Array
Divergence = Literal["kl_soft_base", "kl_tilted_soft", "kl_soft_tilted"]


class Calibration(NamedTuple):
    """The answer to one question, arrays of one batch shape.

    Attributes:
      value: the temperature (reward units) or the number of candidates (a real number) asked for. If
        the target cannot be met it is the end of the range that comes nearest to it (0, 1 or inf).
      achieved: the divergence (nats) or reward (reward units) at `value`.
      feasible: bool, whether the target can be met: whether it is within [low, high].
      low: the least that can be reached, at either end of the range of `value`.
      high: the most that can be reached, at the other end or, for a divergence that rises and falls,
        between.
    """

    value: Array
    achieved: Array
    feasible: Array
    low: Array
    high: Array


class Frontier(NamedTuple):
    """Soft best-of-n at fixed n along its temperature; `[..., B]` for B budgets.

    Attributes:
      kl_base: KL(P_n‖P) in nats, the budgets where they are feasible. Also called `kl`.
      reward: E_{P_n}[r], the most that n candidates earn at that KL by this rule.
      temperature: where it is earned, reward units.
      feasible: bool; an infeasible budget stands at hard best-of-n.
    """

    kl_base: Array
    reward: Array
    temperature: Array
    feasible: Array

    @property
    def kl(self) -> Array:
        """`kl_base` under its former name."""
        return self.kl_base


# Public functions ---------------------------------------------------------------------------------


def temperature_for_kl(
    problem: Problem,
    n: Any = None,
    kl: Any = None,
    *,
    log_n: Any = None,
    divergence: Divergence = "kl_soft_base",
    nodes: int | None = None,
) -> Calibration:
    """The temperature at which soft best-of-n has the given divergence.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      kl: `[...]` the budget in nats, in [0, inf], traced.
      log_n: `[...]` log n instead of n, for n that overflows; traced.
      divergence: static: "kl_soft_base", KL(P_n‖P), what the selection costs; or, to the tilted law at
        the same temperature, "kl_tilted_soft", KL(P*‖P_n), or "kl_soft_tilted", KL(P_n‖P*).
      nodes: static number of quadrature nodes. Default: enough for the arguments if all are concrete,
        else 2048.

    Returns:
      `Calibration` of the broadcast batch shape: `value` is the temperature from which on the budget
      holds, so that every higher one is within it. Budget 0 gives inf; one that no temperature exceeds
      is infeasible and gives 0. `low` is 0; `high` is the divergence of hard best-of-n for
      kl_soft_base, and for the other two the supremum over all temperatures, which may lie between.

    Raises:
      TypeError: an argument that does not hold real numbers, or is missing.
      ValueError: kl is negative or NaN, an unknown divergence, n below 1 or not finite, both or none of
        n and log_n, a bad problem, or shapes that do not broadcast. Values are checked when concrete;
        traced bad values give NaN.

    Numerics: achieved = kl to 1e-10 relative in float64 (1e-5 in float32), down to a budget of about
    1e-12 and as long as that determines a temperature: towards hard best-of-n the divergence levels
    off. Under `jit` temperatures below range/64 are not searched, and a budget that needs one gives
    NaN. KL(P_n‖P) falls as λ grows. The other two need not: at large n they are exponentially small
    near λ = 0, of order 1/n² between, and 0 again at inf. Their maximum and their last fall to the
    budget are looked for on 64 temperatures, the maximum is refined to 1e-7 of itself, and a fall
    between two of those temperatures that a rise follows may be missed. Differentiable in every
    traced argument by the implicit function theorem, where feasible.
    Source: derived here; the bracket is KL(P_n‖P) <= (Δ/λ)²/8, by Hoeffding's lemma, which bounds
    the other two as well.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> answer = sb.temperature_for_kl(problem, 16, [0.1, 0.5, 3.0])
      >>> np.round(np.float64(answer.value), 4).tolist(), answer.feasible.tolist()
      ([0.7431, 0.3379, 0.0], [True, True, False])
    """
    _checks.one_of("divergence", divergence, get_args(Divergence))
    problem = _arguments.checked_problem(problem)
    kl = _checks.not_negative("kl", kl, problem.rewards.dtype)
    log_n = _checks.log_candidates(n, log_n, problem.rewards.dtype)
    reach, root, _ = _temperature(problem, log_n, kl, divergence, nodes)
    return _temperature_answer(reach, root)


def temperature_for_reward(
    problem: Problem,
    n: Any = None,
    reward: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Calibration:
    """The temperature at which soft best-of-n has the given mean reward.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      reward: `[...]` the target E_{P_n}[r] in reward units, finite, traced.
      log_n: `[...]` log n instead of n, traced.
      nodes: static, as in `temperature_for_kl`.

    Returns:
      `Calibration` of the broadcast batch shape: `value` is the temperature, unique because E_{P_n}[r]
      falls as λ grows (its derivative in 1/λ is a mean of variances). The reachable range is
      [E_P[r], that of hard best-of-n]; below it `value` is inf, above it 0, and `feasible` False.

    Raises:
      TypeError: an argument that does not hold real numbers, or is missing.
      ValueError: a target that is not finite, n below 1 or not finite, both or none of n and log_n, a
        bad problem, or shapes that do not broadcast. Values are checked when concrete; traced bad
        values give NaN.

    Numerics: as `temperature_for_kl`, relative to the gain E_{P_n}[r] - E_P[r].
    Source: derived here, from d E_{P_n}[r]/d(1/λ) >= 0.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> answer = sb.temperature_for_reward(problem, 16, 0.6)
      >>> round(float(answer.value), 4), [round(float(x), 4) for x in (answer.low, answer.high)]
      (0.3492, [0.25, 0.9174])
    """
    problem = _arguments.checked_problem(problem)
    reward = _checks.finite("reward", reward, problem.rewards.dtype)
    log_n = _checks.log_candidates(n, log_n, problem.rewards.dtype)
    reach, root, _ = _temperature(problem, log_n, reward, "reward", nodes)
    return _temperature_answer(reach, root)


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
      problem: `[..., K]` reference law and rewards, traced.
      kl: `[...]` the budget in nats, in [0, inf], traced.
      temperature: `[...]` reward units, traced; positive and finite, for at 0 and inf the tilted law is
        no end of the range.
      divergence: static, as in `temperature_for_kl`.
      nodes: static, as in `temperature_for_kl`.

    Returns:
      `Calibration` of the broadcast batch shape: `value` is n, a real number: round it down to stay
      within a budget of kl_soft_base, which grows with n, and up for the other two, which fall.
      The reachable range is [0, KL(P*‖P)] (for kl_soft_tilted [0, KL(P‖P*)]), one end at n = 1 and
      the other at n = inf.

    Raises:
      TypeError: an argument that does not hold real numbers.
      ValueError: kl is negative or NaN, an unknown divergence, a temperature that is not positive and
        finite, a bad problem, or shapes that do not broadcast. Values are checked when concrete;
        traced bad values give NaN.

    Numerics: achieved = kl to 1e-10 relative in float64, as long as that determines n. Differentiable
    in every traced argument by the implicit function theorem, where feasible.
    Source: derived here; the bracket of the two to the tilted law is the bound log(1 + CV²/n) (rate:
    arXiv:2505.03156; form: derived here) of `bounds.kl_upper`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> answer = sb.n_for_kl(problem, 1e-3, 0.3, divergence="kl_tilted_soft")
      >>> round(float(answer.value), 2)
      58.44
    """
    _checks.one_of("divergence", divergence, get_args(Divergence))
    problem = _arguments.checked_problem(problem)
    kl = _checks.not_negative("kl", kl, problem.rewards.dtype)
    temperature = _checks.finite_positive("temperature", temperature, problem.rewards.dtype)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape, kl=kl.shape)
    reach, low, high = n_bracket(problem, temperature, kl, divergence)
    question = Question(problem, temperature, kl, low, high)
    root, _ = find(Goal(divergence, "n"), question, nodes)
    return _n_answer(reach, root, divergence)


def frontier(
    problem: Problem, n: Any = None, kl: Any = None, *, log_n: Any = None, nodes: int | None = None
) -> Frontier:
    """What soft best-of-n earns at fixed n for each of some budgets of KL(P_n‖P).

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      kl: `[B]` budgets in nats, in [0, inf], traced.
      log_n: `[...]` log n instead of n, traced.
      nodes: static, as in `temperature_for_kl`.

    Returns:
      `Frontier` of shape `[..., B]`.

    Raises:
      TypeError: an argument that does not hold real numbers, or is missing.
      ValueError: kl is not a vector, and as `temperature_for_kl`.

    Numerics: as `temperature_for_kl`.
    Source: derived here: one root per budget, and the exact law there.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> np.round(np.float64(sb.frontier(problem, 16, [0.1, 0.5, 3.0]).reward), 3).tolist()
      [0.403, 0.612, 0.917]
    """
    problem = _arguments.checked_problem(problem)
    kl = _checks.not_negative("kl", kl, problem.rewards.dtype)
    _checks.vector("kl", kl)
    log_n = _checks.log_candidates(n, log_n, problem.rewards.dtype)
    # An axis of budgets.
    problem, log_n = Problem(*(_with_axis(x, -2) for x in problem)), _with_axis(log_n, -1)
    return _frontier(problem, log_n, *_temperature(problem, log_n, kl, "kl_soft_base", nodes))


# From arguments to roots, and from roots to answers -----------------------------------------------


def _with_axis(x: Array, axis: int) -> Any:
    """`x` with one more axis; NumPy compiles nothing, but knows neither tracers nor many devices."""
    known = None if _checks.is_divided(x) else _checks.concrete(x)
    return jnp.expand_dims(x, axis) if known is None else np.expand_dims(known, axis)


def _temperature(
    problem: Problem, log_n: Array, target: Array, quantity: str, nodes: int | None
) -> tuple[Reach, Root, exact.Plan]:
    _checks.batch_shape(problem=problem.batch_shape, n=log_n.shape, target=target.shape)
    reach, lows, high = temperature_bracket(problem, log_n, target, quantity)
    goal, inside = Goal(quantity, "temperature"), _checks.concrete(reach.inside)
    if inside is not None and not inside.any() and not goal.scanned:
        return reach, nowhere(inside.shape, target.dtype), CLOSED_FORM
    if inside is None:
        # One search, and what is only known below it is known where it reaches that far.
        reach = reach._replace(limit=jnp.where(lows[1] <= lows[2], reach.limit, jnp.nan))
        lows = lows[1:2]
    elif goal.scanned:
        lows = lows[1:]
    for low in lows:
        question = Question(problem, log_n, reach.goal, low, high)
        root, plan = find(goal, question, nodes)
        missed = _checks.concrete(root.under)
        if missed is None or inside is None or not (missed & inside).any():
            break
    return reach, root, plan


@jax.jit
def _temperature_answer(reach: Reach, root: Root) -> Calibration:
    under, found = reach.goal <= 0, ~jnp.isnan(root.at)
    high = jnp.maximum(reach.high, root.most)
    met = found | reach.inside
    value = jnp.exp(jnp.where(found, root.at, reach.limit))
    value = jnp.where(under, jnp.inf, jnp.where(met, value, 0.0))
    value = jnp.where(jnp.isnan(reach.target + reach.high), jnp.nan, value)
    measured = jnp.where(found, root.value, reach.goal)
    measured = measured + jnp.where(reach.goal == reach.target, 0.0, reach.low)
    achieved = jnp.where(under, reach.low, jnp.where(met, measured, reach.high))
    achieved = jnp.where(jnp.isnan(value), jnp.nan, achieved)
    feasible = (reach.goal >= 0) & (reach.target <= high) & ~jnp.isnan(value)
    return Calibration(value, achieved, feasible, reach.low, high)


@jax.jit
def _frontier(
    problem: Problem, log_n: Array, reach: Reach, root: Root, plan: exact.Plan
) -> Frontier:
    answer = _temperature_answer(reach, root)
    reward = metrics_with_limits(problem, answer.value, log_n, plan).reward
    return Frontier(answer.achieved, reward, answer.value, answer.feasible)


@functools.partial(jax.jit, static_argnames="quantity")
def _n_answer(reach: Reach, root: Root, quantity: str) -> Calibration:
    none, all_of_it = (1.0, jnp.inf) if quantity == "kl_soft_base" else (jnp.inf, 1.0)
    empty = reach.target <= 0
    value = jnp.where(reach.inside, 1 + jnp.exp(root.at), jnp.where(empty, none, all_of_it))
    value = jnp.where(jnp.isnan(reach.target + reach.high), jnp.nan, value)
    achieved = jnp.where(reach.inside, root.value, jnp.where(empty, reach.low, reach.high))
    return Calibration(value, achieved, reach.target <= reach.high, reach.low, reach.high)
