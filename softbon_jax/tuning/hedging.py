"""Hedging: how hard to select by a proxy reward when a gold reward is what counts.

As n grows or λ falls the gold reward of the selected sample rises and may then fall. Its exact
derivative at finite n gives the best n, λ or ν; the condition on the tilted law is the limit n = inf of
that and misses it.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _batching, _checks, exact
from softbon_jax.problem import Problem
from softbon_jax.tuning._search import CLOSED_FORM, on_host, search_plan
from softbon_jax.tuning._solver import crossing

Array = jax.Array
Rule = Literal["soft", "hard", "poisson", "race", "tilted"]
Unknown = Literal["temperature", "n", "mean_extra"]

GRID = 49
"""Points at which the gold reward is evaluated before its highest one is refined."""


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
    log_n: Any = None,
    temperature: Any = None,
    rule: Rule = "soft",
    nodes: int | None = None,
) -> Hedge:
    """The temperature, n or ν at which a rule that selects by the proxy earns the most gold reward.

    What is not given is chosen: λ for "soft" and "race" with n given and for "tilted"; n for "hard",
    and for "soft" and "race" with `temperature` given; ν for "poisson", which selects softly if a
    temperature is given and the largest reward if not.

    Args:
      problem: `[..., K]` reference law and proxy rewards, traced; every problem of a batch (every
        prompt) gets its own answer.
      gold: `[..., K]` the reward that counts, finite, any units, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      log_n: `[...]` log n instead of n, for n that overflows; traced.
      temperature: `[...]` reward units of the proxy, traced; positive and finite, for 0 is the rule
        "hard" and at inf nothing is selected.
      rule: static.
      nodes: static number of quadrature nodes for "soft", and for "poisson" with a temperature.
        Default: enough if the arguments are concrete, else 2048.

    Returns:
      `Hedge` of the broadcast batch shape.

    Raises:
      TypeError: an argument that does not hold real numbers.
      ValueError: an unknown rule, arguments that it does not take or lacks, or bad values. Values are
        checked when concrete; traced bad values give NaN.

    Numerics: the best of 49 points, λ from range/256 to 64 ranges or n (or 1 + ν) from 1 to e^6 over the
    probability of what large n selects; then the root of the exact derivative around it, to about
    1e-10 relative in float64, and less where the maximum is flat. A narrower peak between two points is
    missed. NaN where `nodes` are too few. Differentiable by the implicit function theorem where
    interior.
    Source: hedging is arXiv:2506.19248. Derived here: the derivative at finite n, by automatic
    differentiation of the exact law; for λ it is the mean over draws of Cov_softmax(gold, r).

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> best = sb.hedge(problem, [0.0, 0.9, 1.0, 0.1], n=16)
      >>> round(float(best.value), 3), round(float(best.gold), 4), bool(best.interior)
      (0.525, 0.4351, True)
    """
    given_n = n is not None or log_n is not None
    choice = _choice(rule, given_n, temperature is not None)
    problem = _arguments.checked_problem(problem)
    dtype = problem.rewards.dtype
    gold = _checks.finite("gold", gold, dtype)
    _checks.same_outcomes("gold", gold, problem.num_outcomes)
    known: dict[str, Array] = {}
    if given_n:
        known["n"] = _checks.log_candidates(n, log_n, dtype)
    if temperature is not None:
        known["temperature"] = _checks.finite_positive("temperature", temperature, dtype)
    shapes = {name: x.shape for name, x in known.items()}
    _checks.batch_shape(problem=problem.batch_shape, gold=gold.shape[:-1], **shapes)
    at = tuple(known.values())  # one array, or none
    low, high = _bracket(choice, problem, at)
    plan = CLOSED_FORM
    if choice.by_quadrature:
        lowest, most = (on_host(np.exp, low), *at) if given_n else (*at, high)
        any_n = choice.unknown != "temperature"
        plan = search_plan(problem, lowest, most, nodes, any_n=any_n)
    return _hedge(choice, plan, problem, gold, (low, high), at)


# What is chosen -----------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """What is chosen, and for which rule; static."""

    rule: Rule
    unknown: Unknown
    by_temperature: bool  # whether the rule has a temperature, given or chosen

    @property
    def by_quadrature(self) -> bool:
        """Whether the law is an integral; the others are closed forms."""
        return self.rule == "soft" or (self.rule == "poisson" and self.by_temperature)


def _choice(rule: Rule, given_n: bool, given_temperature: bool) -> _Choice:
    """`ValueError` for an unknown rule and for arguments that do not fit the rule."""
    _checks.one_of("rule", rule, get_args(Rule))
    either: dict[tuple[bool, bool], Unknown] = {
        (True, False): "temperature",
        (False, True): "n",
    }
    takes: dict[Rule, tuple[str, dict[tuple[bool, bool], Unknown]]] = {
        "soft": ("n or temperature", either),
        "race": ("n or temperature", either),
        "hard": ("neither n nor temperature", {(False, False): "n"}),
        "poisson": ("no n", {(False, False): "mean_extra", (False, True): "mean_extra"}),
        "tilted": ("neither n nor temperature", {(False, False): "temperature"}),
    }
    legal, unknowns = takes[rule]
    given = (given_n, given_temperature)
    if given not in unknowns:
        names = [
            name for name, is_given in zip(("n", "temperature"), given, strict=True) if is_given
        ]
        raise ValueError(f"rule {rule!r} takes {legal}, got {' and '.join(names) or 'neither'}")
    by_temperature = given_temperature or unknowns[given] == "temperature"
    return _Choice(rule, unknowns[given], by_temperature)


class _Prompt(NamedTuple):
    """One `[K]` problem with its gold reward, and what is known: log n, a temperature or nothing."""

    problem: Problem
    gold: Array
    known: Any = None  # a scalar array, or None


# The law along the choice -------------------------------------------------------------------------


def _terms(problem: Problem, temperature: Array | None) -> exact.TiltedTerms:
    """The terms of a problem; without a temperature only P and the rewards in them have a meaning."""
    one = jnp.ones((), problem.rewards.dtype)
    return exact.tilted_terms(problem, one if temperature is None else temperature)


@functools.partial(jax.jit, static_argnames="choice")
def _bracket(choice: _Choice, problem: Problem, known: tuple[Array, ...]) -> tuple[Array, Array]:
    """The least and the largest logarithm of the temperature, of n or of 1 + ν that is tried."""

    def one(log_probs: Array, rewards: Array, *known: Array) -> tuple[Array, Array]:
        problem = Problem(log_probs, rewards)
        if choice.unknown == "temperature":
            terms = _terms(problem, None)
            span = jnp.max(terms.rewards) - jnp.min(terms.rewards)
            lowest = jnp.where(span > 0, span, 1.0) / 256
            return jnp.log(lowest), jnp.log(lowest * (256 * 64))
        terms = _terms(problem, *known or (None,))
        if choice.by_temperature:
            most = 6.0 - terms.log_mean
        else:
            best = terms.rewards == jnp.max(terms.rewards)
            most = 6.0 - jax.nn.logsumexp(jnp.where(best, terms.log_probs, -jnp.inf))
        return jnp.zeros_like(most), most

    return _batching.over_batch(one, problem, known, elements=problem.num_outcomes)


def _law(
    choice: _Choice, plan: exact.Plan, x: Array, prompt: _Prompt
) -> tuple[exact.TiltedTerms, Array]:
    """The terms and log law/P where the logarithm of the unknown (of 1 + ν for ν) is x."""
    if choice.unknown == "temperature":
        temperature, log_n = jnp.exp(x), prompt.known
    else:
        temperature, log_n = prompt.known, x
    terms = _terms(prompt.problem, temperature)
    if choice.rule == "tilted":
        return terms, terms.exponents - terms.log_mean
    if choice.rule == "hard":
        return terms, exact.hard_terms(terms.log_probs, terms.rewards, log_n).log_base_ratio
    if choice.rule == "race":
        return terms, exact.race_terms(terms, log_n).log_base_ratio
    if choice.rule == "poisson":
        number, soft = exact.OnePlusPoisson(jnp.expm1(log_n)), choice.by_temperature
        return terms, exact.random_log_base_ratio(terms, number, soft, plan)
    return terms, exact.soft_terms(terms, temperature, log_n[None], plan).log_base_ratio[0]


def _gain(choice: _Choice, x: Array, arguments: tuple[exact.Plan, _Prompt]) -> Array:
    """E[gold] under the law at x less that under P."""
    plan, prompt = arguments
    terms, log_ratio = _law(choice, plan, x, prompt)
    p = jnp.exp(terms.log_probs)
    return p @ (jnp.expm1(log_ratio) * (prompt.gold - p @ prompt.gold))


class _Ends(NamedTuple):
    """The two limits of the choice: log law/P `[2, K]`, and the values (0, 1 or inf) they are met at."""

    log_ratios: Array
    values: tuple[float, float]


def _ends(choice: _Choice, terms: exact.TiltedTerms, log_n: Array | None) -> _Ends:
    """P itself at one end, and what the rule selects at λ = 0 or n = inf at the other."""
    p, best = jnp.exp(terms.log_probs), terms.rewards == jnp.max(terms.rewards)
    base = jnp.zeros_like(p)
    log_ratio = jnp.where(best, -jnp.log(jnp.sum(jnp.where(best, p, 0.0))), -jnp.inf)
    if choice.unknown == "temperature":
        if log_n is not None:
            log_ratio = exact.hard_terms(terms.log_probs, terms.rewards, log_n).log_base_ratio
        return _Ends(jnp.stack([log_ratio, base]), (0.0, jnp.inf))
    if choice.by_temperature:
        log_ratio = terms.exponents - terms.log_mean
    first = 0.0 if choice.unknown == "mean_extra" else 1.0
    return _Ends(jnp.stack([base, log_ratio]), (first, jnp.inf))


# The search ---------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="choice")
def _hedge(
    choice: _Choice,
    plan: exact.Plan,
    problem: Problem,
    gold: Array,
    bracket: tuple[Array, Array],
    known: tuple[Array, ...],
) -> Hedge:
    def one(
        log_probs: Array, rewards: Array, gold: Array, low: Array, high: Array, *known: Array
    ) -> Hedge:
        chex.assert_equal_shape([log_probs, rewards, gold])
        chex.assert_type([log_probs, rewards, gold, low, high, *known], gold.dtype)
        if choice.unknown != "temperature":
            known = tuple(jnp.where((t > 0) & (t < jnp.inf), t, jnp.nan) for t in known)
        return _best(choice, plan, _Prompt(Problem(log_probs, rewards), gold, *known), low, high)

    elements = 8 * problem.num_outcomes * plan.nodes
    least = 4 * exact.elements_at_once(problem.num_outcomes, plan.nodes)
    return _batching.over_batch(
        one, (*problem, gold), (*bracket, *known), elements=elements, least=least
    )


def _best(choice: _Choice, plan: exact.Plan, prompt: _Prompt, low: Array, high: Array) -> Hedge:
    """The highest point of a grid, refined unless an end of the range is as high."""
    gain, gold = functools.partial(_gain, choice), prompt.gold
    share = jnp.linspace(0, 1, GRID, dtype=gold.dtype)
    grid = jax.lax.stop_gradient(low + (high - low) * share)
    gains = jax.lax.map(lambda x: gain(x, (plan, prompt)), grid)
    top = jnp.argmax(gains)
    by_temperature = choice.unknown == "temperature"
    terms = _terms(prompt.problem, None if by_temperature else prompt.known)
    ends = _ends(choice, terms, prompt.known if by_temperature else None)

    # An end that earns as much, to rounding, is the answer: there the curve has levelled off.
    p = jnp.exp(terms.log_probs)
    at_ends = (jnp.expm1(ends.log_ratios) * p[None]) @ (gold - p @ gold)
    rounding = 100 * jnp.finfo(p.dtype).eps * (jnp.max(gold) - jnp.min(gold))
    level = at_ends >= gains[top] - rounding
    interior = (top > 0) & (top < GRID - 1) & ~jnp.any(level)
    to_first = jnp.where(jnp.any(level), at_ends[0] >= at_ends[1], top == 0)

    middle = jnp.clip(top, 1, GRID - 2)
    root = crossing(jax.grad(gain), grid[middle - 1], grid[middle + 1], (plan, prompt)).at
    x = jnp.where(interior, root, grid[top])
    terms, log_ratio = _law(choice, plan, x, prompt)
    value = jnp.expm1(x) if choice.unknown == "mean_extra" else jnp.exp(x)
    value = jnp.where(interior, value, jnp.where(to_first, ends.values[0], ends.values[1]))
    value = jnp.where(jnp.isnan(gains[top]), jnp.nan, value)
    end = jnp.where(to_first, ends.log_ratios[0], ends.log_ratios[1])
    log_law = terms.log_probs + jnp.where(interior, log_ratio, end)
    q, kl = jnp.exp(log_law), exact.relative_entropy(log_law, terms.log_probs)
    best = Hedge(value, q @ gold, q @ terms.rewards, kl, interior)
    # The barrier keeps the sums apart from what follows, and so their last digit.
    best = jax.lax.optimization_barrier(best)
    missing = jnp.isnan(best.value)
    numbers = ("gold", "proxy", "kl_base")
    return best._replace(
        **{name: jnp.where(missing, jnp.nan, getattr(best, name)) for name in numbers}
    )
