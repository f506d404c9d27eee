"""Monte Carlo estimates of the law of the selected sample, with standard errors.

The exact law needs no simulation; this is what checks it. Standard errors and the correction of bias
come from a grouped jackknife over the trials (`_jackknife`), so that they hold for every metric alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from softbon_jax import _arguments, _checks, exact
from softbon_jax.exact.laws import log_tilted
from softbon_jax.exact.metrics import Metrics, law_metrics
from softbon_jax.problem import Problem
from softbon_jax.sampling.select import scaled
from softbon_jax.simulation import _draws, _jackknife
from softbon_jax.simulation._draws import LANES

Array = jax.Array
Rule = Literal["soft", "hard", "race"]
Method = Literal["counts", "literal"]

# The largest n whose counts are all exact integers in float32 and in float64; the largest n over
# which the weight of a stream can grow batch by batch in float32; and the most trials that fit the
# counters.
FLOAT32_COUNTS_LIMIT, FLOAT64_COUNTS_LIMIT = 2**24, 2**53
LITERAL_LIMIT = 2**27
TRIALS_LIMIT = 2**30


class Estimate(NamedTuple):
    """A simulated law and its metrics; `[...]` is the batch shape.

    Attributes:
      probs: `[..., K]` unbiased estimate of P_n. From `method="counts"` it sums to 1 but may stray
        below 0 where P_n is small and trials are few.
      probs_se: `[..., K]` its standard error.
      metrics: `Metrics` of `[...]`, corrected for bias. NaN means "below the noise": a divergence
        less than two standard errors above its `noise_floor`, or one that the estimated law does not
        have, because an outcome has not come up or its estimate is below 0.
      metrics_se: `Metrics` of `[...]`, standard errors, also of what is below the floor; 0 for
        tilted_reward and kl_tilted_base, which do not depend on P_n and are exact. That of tv holds
        while no P_n(x) is within its noise of P*(x), where tv has a kink.
      noise_floor: `Metrics` of `[...]`: what the uncorrected estimate of each divergence and of tv
        would come to by sampling noise alone if it were 0; about (K - 1)/(2 trials) for KL and
        `method="literal"`. 0 for the rest.
    """

    probs: Array
    probs_se: Array
    metrics: Metrics
    metrics_se: Metrics
    noise_floor: Metrics


class Fluctuation(NamedTuple):
    """E TV(softmax measure, tilted law) and the standard error of its estimate, `[...]`."""

    mean: Array
    standard_error: Array


def simulate(
    key: Array,
    problem: Problem,
    n: Any,
    temperature: Any,
    trials: int,
    *,
    rule: Rule = "soft",
    method: Method = "counts",
    chunk: int | None = None,
) -> Estimate:
    """Estimate the law of the selected sample, and every metric of it, by simulation.

    Args:
      key: a typed PRNG key; consumed. Every cell of the batch has random numbers of its own. One that
        is not for Threefry seeds a key that is.
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, integers >= 1, traced; at most 2^27 for "literal", 2^53 (2^24
        in float32) for "counts".
      temperature: `[...]` in reward units, at least 0, traced; 0 and `inf` are legal.
      trials: how many simulated selections for each cell, from 2 to 2^30.
      rule: "soft", "hard" (the largest reward, ties uniform) or "race" (r/λ + Exp(1)); static.
        Metrics compare with the tilted law at `temperature` under every rule.
      method: static. "literal" draws n candidates and selects one of them, trial by trial, in a
        stream: time proportional to n, memory independent of it. "counts" draws the
        multinomial counts of the K outcomes, in a time that does not grow with n, and under "soft"
        and "hard" averages over the selection (Rao-Blackwell); under "soft" the counts, whose
        expectation is known, also serve as control variate, which makes the variance O(1/n²)
        instead of O(1).
      chunk: static; trials in flight, in multiples of 128. Default: 1024 for "literal"; 4096 for
        "counts", fewer with more than 256 outcomes. Sets memory and speed; the answer is the same.

    Returns:
      `Estimate` of the broadcast batch shape, in the problem's dtype.

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: unknown rule or method, n or trials not an integer in its range, a bad temperature
        or problem, or shapes that do not broadcast. Values are checked when concrete; a cell with a
        traced bad one is NaN.

    Numerics: literal selection is computed in float32 and draws from P to within K 2^-32 in total
    variation. For a seed the answer does not depend on `chunk`, up to rounding.
    Source: arXiv:2505.03156 (the sampler), arXiv:2609.21899 (the race). Derived here: with R the
    softmax measure and s = Σ N w/(n μ), E[s (R - P*)] = 0, so P* + (1 - c s)(R - P*) is unbiased
    for every c; c = n/(n - 1 + E_{P*}[W|1_x - P*|²]/E_{P*}|1_x - P*|²), the best at n = 1 and near
    it at large n. Bias and standard errors: grouped jackknife (Busing, Meijer and van der Leeden
    1999, for groups of unequal size).
    """
    if rule not in ("soft", "hard", "race"):
        raise ValueError(f"rule must be 'soft', 'hard' or 'race', got {rule!r}")
    if method not in ("counts", "literal"):
        raise ValueError(f"method must be 'counts' or 'literal', got {method!r}")
    literal = method == "literal"
    arguments = _prepare(key, problem, n, temperature, trials, literal=literal)
    blocks = _blocks(chunk, problem.num_outcomes, literal=literal)
    hard = jnp.asarray(rule == "hard")  # traced: the hard rule is the soft one at temperature 0
    return _estimate(*arguments, hard, race=rule == "race", literal=literal, blocks=blocks)


def conditional_fluctuation(
    key: Array,
    problem: Problem,
    n: Any,
    temperature: Any,
    trials: int,
    *,
    chunk: int | None = None,
) -> Fluctuation:
    """How far the softmax measure over n draws is from the tilted law: E[TV(R, P*)].

    R(x) = N_x w_x / Σ_y N_y w_y is the law of the selected sample *given* the draws. Its average
    over draws is P_n, at a distance of order 1/n from P*; itself it fluctuates at order n^(-1/2).

    Args:
      key: as for `simulate`.
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, integers >= 1, traced.
      temperature: `[...]` in reward units, at least 0, traced.
      trials: sets of n draws for each cell, from 2 to 2^30.
      chunk: as in `simulate`.

    Returns:
      `Fluctuation` of the broadcast batch shape.

    Raises:
      TypeError, ValueError: as `simulate` with `method="counts"`.

    Numerics: counts are sampled, so that the time does not grow with n.
    Source: derived here (the definition); arXiv:2505.03156 for the sampler.
    """
    return _fluctuation(
        *_prepare(key, problem, n, temperature, trials, literal=False),
        blocks=_blocks(chunk, problem.num_outcomes, literal=False),
    )


# Arguments and batching ---------------------------------------------------------------------------


def _prepare(
    key: Array, problem: Problem, n: Any, temperature: Any, trials: int, *, literal: bool
) -> tuple[Array, Problem, Array, Array, Array]:
    """The checked arguments, all of one batch shape; n as int32 or in the problem's dtype.

    A traced n that is no legal number of candidates becomes 0.
    """
    _checks.key(key)
    problem = _arguments.checked_problem(problem)
    dtype = problem.rewards.dtype
    if not isinstance(trials, (int, np.integer)) or not 2 <= trials <= TRIALS_LIMIT:
        raise ValueError(f"trials must be an integer from 2 to {TRIALS_LIMIT}, got {trials!r}")
    counts_limit = FLOAT64_COUNTS_LIMIT if dtype == jnp.float64 else FLOAT32_COUNTS_LIMIT
    largest = LITERAL_LIMIT if literal else counts_limit
    value = _checks.concrete(n)
    if value is not None:
        whole = (value >= 1) & (value == np.floor(value)) & np.isfinite(value)
        _checks.offending("n", value, ~whole, "an integer of at least 1")
        method = "method 'literal'" if literal else f"counts in {dtype}"
        _checks.offending("n", value, value > largest, f"at most {largest} for {method}")
    n = jnp.asarray(n)
    if jnp.issubdtype(n.dtype, jnp.floating):
        legal = (n >= 1) & (n <= largest) & (n == jnp.floor(n))
    else:
        legal = (n >= 1) & (n <= min(largest, jnp.iinfo(n.dtype).max))
    n = jnp.where(legal, n, 0).astype(jnp.int32 if literal else dtype)
    _checks.temperature(temperature)
    temperature = _checks.as_float("temperature", temperature, dtype)
    shape = _checks.batch_shape(
        problem=problem.batch_shape, n=n.shape, temperature=temperature.shape
    )
    problem = Problem(*(jnp.broadcast_to(x, (*shape, problem.num_outcomes)) for x in problem))
    n, temperature = (jnp.broadcast_to(x, shape) for x in (n, temperature))
    return _threefry(key), problem, n, temperature, jnp.asarray(trials, jnp.int32)


def _threefry(key: Array) -> Array:
    """The key itself, or one for Threefry that a key of another generator seeds.

    Under `vmap` an rbg key draws for all keys from the first alone. In a loop that ends for one block
    and not for another it would then draw the same numbers for ever.
    """
    if str(jax.random.key_impl(key)) == "threefry2x32":
        return key
    words = jax.random.bits(key, (2,), jnp.uint32)
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def _blocks(chunk: int | None, num_outcomes: int, *, literal: bool) -> int:
    """Blocks of `LANES` trials in flight."""
    if chunk is None:
        # A literal batch should stay in the cache; counts want long vectors.
        return 8 if literal else max(1, min(32, 2**20 // (LANES * num_outcomes)))
    if not isinstance(chunk, (int, np.integer)) or chunk < 1:
        raise ValueError(f"chunk must be a positive integer, got {chunk!r}")
    return max(1, int(chunk) // LANES)


def _over_cells(
    one: Callable[..., Any], key: Array, problem: Problem, n: Array, temperature: Array
) -> Any:
    """`one(key, problem [K], n, temperature)` for every cell in turn, NaN where one is not legal."""
    shape, outcomes = n.shape, problem.num_outcomes

    def cell(arguments: tuple) -> Any:
        index, problem, n, temperature = arguments
        log_probs = exact.normalized(problem.log_probs)
        finite = jnp.all(jnp.isfinite(problem.rewards)) & ~jnp.any(jnp.isnan(log_probs))
        legal = finite & (temperature >= 0) & (n >= 1)
        # Harmless numbers where something is wrong: a loop that looks at NaN may never end.
        log_probs = jnp.where(legal, log_probs, -math.log(outcomes))
        harmless = Problem(log_probs, jnp.where(legal, problem.rewards, 0))
        n, temperature = (jnp.where(legal, x, 1) for x in (n, temperature))
        result = one(jax.random.fold_in(key, index), harmless, n, temperature)
        return jax.tree.map(lambda x: jnp.where(legal, x, jnp.nan), result)

    flat = Problem(*(x.reshape(-1, outcomes) for x in problem))
    cells = (jnp.arange(n.size, dtype=jnp.int32), flat, n.reshape(-1), temperature.reshape(-1))
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), lax.map(cell, cells))


# The workers --------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("race", "literal", "blocks"))
def _estimate(
    key: Array,
    problem: Problem,
    n: Array,
    temperature: Array,
    trials: Array,
    hard: Array,
    *,
    race: bool,
    literal: bool,
    blocks: int,
) -> Estimate:
    def one(key: Array, problem: Problem, n: Array, temperature: Array) -> Estimate:
        acting = jnp.where(hard, 0, temperature)
        zeros = jnp.zeros((LANES, problem.num_outcomes), jnp.int32)

        def selected(key: Array) -> Array:
            pick = _draws.select_race if race else _draws.select_soft
            return pick(key, tables, n)

        def law_given_counts(key: Array) -> Array:
            value = _race_law if race else _controlled_law
            return value(key, problem, n, acting)

        block: tuple[Callable[[Array], Array], Callable[..., Array], Array]
        if literal:
            tables = _draws.stream(problem, acting)
            block = (selected, _jackknife.add_selected, zeros)
        else:
            block = (law_given_counts, _jackknife.add_rows, zeros.astype(problem.rewards.dtype))
        totals = _jackknife.accumulate(*block, key, trials, blocks)
        return _summary(totals.astype(problem.rewards.dtype), problem, temperature, trials)

    return _over_cells(one, key, problem, n, temperature)


@partial(jax.jit, static_argnames="blocks")
def _fluctuation(
    key: Array, problem: Problem, n: Array, temperature: Array, trials: Array, *, blocks: int
) -> Fluctuation:
    def one(key: Array, problem: Problem, n: Array, temperature: Array) -> Fluctuation:
        target = jnp.exp(log_tilted(problem, temperature))

        def distance(key: Array) -> Array:
            measure = _softmax_measure(
                _draws.counts(key, problem.log_probs, n), problem, temperature
            )
            return jnp.sum(jnp.abs(measure - target[None]), axis=-1) / 2

        start = jnp.zeros((LANES,), target.dtype)
        totals = _jackknife.accumulate(distance, _jackknife.add_rows, start, key, trials, blocks)
        sizes = _jackknife.group_sizes(trials).astype(target.dtype)
        mean, without = _jackknife.means(totals[:, None], sizes)
        return Fluctuation(mean[0], _jackknife.jackknife(mean, without, sizes)[1][0])

    return _over_cells(one, key, problem, n, temperature)


def _softmax_measure(counts: Array, problem: Problem, temperature: Array) -> Array:
    """R, the law of the selected sample given the counts `[LANES, K]`; hard at λ = 0."""
    rewards = jnp.broadcast_to(problem.rewards, counts.shape)
    logits, can_win, _ = scaled(rewards, temperature[None, None], counts > 0)
    weights = jnp.where(can_win, counts * jnp.exp(logits), 0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _controlled_law(key: Array, problem: Problem, n: Array, temperature: Array) -> Array:
    """Unbiased estimates `[LANES, K]` of P_n: P* + (1 - c s)(R - P*), see `simulate`."""
    counts = _draws.counts(key, problem.log_probs, n)
    measure = _softmax_measure(counts, problem, temperature)
    target = jnp.exp(log_tilted(problem, temperature))
    logits, _, _ = scaled(problem.rewards, temperature[None], problem.log_probs > -jnp.inf)
    log_weights = logits - jax.nn.logsumexp(logits + problem.log_probs)
    # In logs, because W overflows at small temperatures, and then s is useless and c is 0.
    log_away = jnp.log(jnp.maximum(1 - 2 * target + target @ target, 0))  # |1_x - P*|²
    log_terms = problem.log_probs + log_weights + log_away
    log_ratio = jax.nn.logsumexp(log_terms + log_weights) - jax.nn.logsumexp(log_terms)
    log_control = -jnp.logaddexp(jnp.log(n - 1), log_ratio)  # of c/n
    shares = counts * jnp.exp(log_weights + log_control)[None]
    useful = (temperature > 0) & jnp.isfinite(log_ratio)  # not if P* is on one outcome
    control = jnp.where(useful, jnp.sum(shares, axis=-1, keepdims=True), 0)
    return target[None] + (1 - control) * (measure - target[None])


def _race_law(key: Array, problem: Problem, n: Array, temperature: Array) -> Array:
    """One-hot rows `[LANES, K]` of the outcome that wins the race, given the counts."""
    counts_key, noise_key = jax.random.split(key)
    counts = _draws.counts(counts_key, problem.log_probs, n)
    rewards = jnp.broadcast_to(problem.rewards, counts.shape)
    logits, can_win, _ = scaled(rewards, temperature[None, None], counts > 0)
    # Of the draws of one outcome only the one with the largest noise can win.
    scores = jnp.where(can_win, logits + _draws.largest_exponential(noise_key, counts), -jnp.inf)
    return jax.nn.one_hot(jnp.argmax(scores, axis=-1), counts.shape[-1], dtype=counts.dtype)


# From totals by group to estimates ----------------------------------------------------------------


def _summary(totals: Array, problem: Problem, temperature: Array, trials: Array) -> Estimate:
    sizes = _jackknife.group_sizes(trials).astype(totals.dtype)
    probs, without = _jackknife.means(totals, sizes)
    _, probs_se = _jackknife.jackknife(probs, without, sizes)
    # One call for the law and for those with a group left out; one row a metric.
    laws = jnp.concatenate([probs[None], without])
    rows = jnp.stack(_metrics_of(laws, problem, temperature))
    plain = rows[:, 0]
    corrected, errors = _jackknife.jackknife(plain, rows[:, 1:].T, sizes)
    floor = _noise_floor(problem, temperature, probs, probs_se)

    clear = (jnp.stack(floor) == 0) | (corrected >= jnp.stack(floor) + 2 * errors)
    clear = clear & jnp.isfinite(corrected)
    # An infinite value has no corrections (inf - inf) and needs none.
    reported = jnp.where(jnp.isposinf(plain), plain, jnp.where(clear, corrected, jnp.nan))
    metrics = Metrics(*reported)
    # P_n > 0 wherever P > 0: an infinite KL(P*‖P_n) says only that an outcome has not come up.
    missed = jnp.isposinf(metrics.kl_tilted_soft)
    metrics = metrics._replace(kl_tilted_soft=jnp.where(missed, jnp.nan, metrics.kl_tilted_soft))
    return Estimate(probs, probs_se, metrics, Metrics(*errors), floor)


def _metrics_of(laws: Array, problem: Problem, temperature: Array) -> Metrics:
    """Metrics `[B]` of estimates `[B, K]`; of one that strays below 0, no divergence but TV."""
    positive, negative = jnp.maximum(laws, 0), jnp.maximum(-laws, 0)
    both = law_metrics(problem, jnp.log(jnp.stack([positive, negative])), temperature)
    value = Metrics(*(x[0] for x in both))
    below = jnp.sum(negative, axis=-1)
    linear = ("reward", "reward_gap", "relative_reward_gap", "win_rate")
    divergences = ("kl_tilted_soft", "kl_soft_tilted", "kl_soft_base", "chi2")
    return value._replace(
        **{name: getattr(value, name) - getattr(both, name)[1] for name in linear},
        **{name: jnp.where(below > 0, jnp.nan, getattr(value, name)) for name in divergences},
        tv=value.tv + below / 2,
    )


def _noise_floor(problem: Problem, temperature: Array, probs: Array, se: Array) -> Metrics:
    """What noise of standard deviation `se` alone adds to each divergence, to second order."""
    target = jnp.exp(log_tilted(problem, temperature))

    def expected(weight: Array) -> Array:
        seen = (weight > 0) & (se > 0)
        return jnp.sum(jnp.where(seen, se**2 / jnp.where(seen, weight, 1), 0))

    zero = jnp.zeros((), probs.dtype)
    return Metrics(
        reward=zero,
        tilted_reward=zero,
        reward_gap=zero,
        relative_reward_gap=zero,
        kl_tilted_soft=expected(probs**2 / jnp.where(target > 0, target, 1)) / 2,
        kl_soft_tilted=expected(probs) / 2,
        kl_soft_base=expected(probs) / 2,
        kl_tilted_base=zero,
        tv=jnp.sum(se) / jnp.sqrt(2 * jnp.pi).astype(probs.dtype),
        chi2=expected(target),
        win_rate=zero,
    )
