"""Monte Carlo estimates of the law of the selected sample, with standard errors.

The exact law needs no simulation; this is what checks it. Standard errors and bias corrections come
from a grouped jackknife over the trials, which serves every metric alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from softbon_jax import _checks, _memory
from softbon_jax._batching import over_batch
from softbon_jax.exact.laws import log_tilted
from softbon_jax.exact.metrics import Metrics, against_tilted
from softbon_jax.problem import Problem
from softbon_jax.simulation import _draws, _given_counts, _jackknife
from softbon_jax.simulation._cells import Cells, over_cells, prepare
from softbon_jax.simulation._draws import LANES

Array = jax.Array
Rule = Literal["soft", "hard", "race"]
Method = Literal["counts", "literal"]

TRIALS_LIMIT = 2**30  # the most that fit the counters


class Estimate(NamedTuple):
    """A simulated law and its metrics; `[...]` is the batch shape.

    Attributes:
      probs: `[..., K]` unbiased estimate of P_n. From `method="counts"` it sums to 1 but may stray
        below 0 where P_n is small and trials are few.
      probs_se: `[..., K]` its standard error.
      metrics: `Metrics` of `[...]`, corrected for bias. NaN means "below the noise": a divergence
        less than two standard errors above its `noise_floor`, or one that the estimated law does not
        have, because an outcome was never selected or its estimate is below 0.
      metrics_se: `Metrics` of `[...]`, standard errors, also of metrics below the floor; 0 for
        tilted_reward and kl_tilted_base, which do not depend on P_n and are exact. That of tv holds
        while no P_n(x) is within its noise of P*(x), where tv has a kink.
      noise_floor: `Metrics` of `[...]`: the expected value of the uncorrected estimate of each
        divergence and of tv if the true value were 0, by sampling noise alone; about
        (K - 1)/(2 trials) for KL and `method="literal"`. 0 for the rest.
    """

    probs: Array
    probs_se: Array
    metrics: Metrics
    metrics_se: Metrics
    noise_floor: Metrics


class Fluctuation(NamedTuple):
    """How far the softmax measure is from the tilted law on average; `[...]` is the batch shape.

    Attributes:
      mean: `[...]` unbiased estimate of E TV(softmax measure, tilted law).
      standard_error: `[...]` its standard error.
    """

    mean: Array
    standard_error: Array


@_checks.keyword_only("trials")
def simulate(
    key: Array,
    problem: Problem,
    n: Any,
    temperature: Any,
    *,
    trials: int,
    rule: Rule = "soft",
    method: Method = "counts",
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Estimate:
    """Estimate the law of the selected sample, and every metric of it, by simulation.

    Args:
      key: a typed PRNG key, traced; consumed. Every cell of the batch has random numbers of its own.
        Other key types seed a Threefry key.
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, integers >= 1, traced; at most 2^27 for "literal", 2^53 (2^24
        in float32) for "counts".
      temperature: `[...]` in reward units, at least 0, traced; 0 and `inf` are legal.
      trials: simulated selections for each cell, a Python integer from 2 to 2^30. It cannot be a
        tracer, but another value does not compile again (for "literal", up to 1024 and above it).
      rule: "soft", "hard" (the largest reward, ties uniform) or "race" (r/λ + Exp(1)); static.
        Metrics compare with the tilted law at `temperature` under every rule.
      method: static. "literal" draws n candidates and selects one of them, trial by trial, in a
        stream: time proportional to n, memory independent of it. "counts" draws the
        multinomial counts of the K outcomes, in a time that does not grow with n, and under "soft"
        and "hard" averages over the selection (Rao-Blackwell); under "soft" the counts, whose
        expectation is known, also serve as control variate, which makes the variance O(1/n²)
        instead of O(1).
      chunk: trials in flight, in multiples of 128, static. Default: 4096, fewer for "counts" with
        more than 256 outcomes, 1024 for at most 1024 trials of "literal". Sets memory and speed; the
        answer is the same.
      mesh: static; a mesh, the devices of which share the trials of every cell. The random numbers are
        the same, and so is the answer up to rounding. Batches that are divided among devices already
        need none: each device simulates its own cells.

    Returns:
      `Estimate` of the broadcast batch shape, in the problem's dtype.

    Raises:
      TypeError: `key` is not a typed key, `mesh` is not a mesh, or an argument is not real.
      ValueError: unknown rule or method, n or trials not an integer in its range, a bad temperature
        or problem, or shapes that do not broadcast. Values are checked when concrete; a cell with a
        bad traced value is NaN.

    Numerics: literal selection is computed in float32 and draws from P to within K 2^-32 in total
    variation. For a given key the answer does not depend on `chunk`, up to rounding.
    Source: arXiv:2505.03156 (the sampler), arXiv:2609.21899 (the race). Derived here: with R the
    softmax measure and s = Σ N w/(n μ), E[s (R - P*)] = 0, so P* + (1 - c s)(R - P*) is unbiased
    for every c; c = n/(n - 1 + E_{P*}[W|1_x - P*|²]/E_{P*}|1_x - P*|²), the best at n = 1 and near
    it at large n. Bias and standard errors: grouped jackknife (Busing, Meijer and van der Leeden
    1999, for groups of unequal size).

    Example:
      >>> problem = sb.from_probs(np.float32([0.5, 0.3, 0.2]), np.float32([0.0, 0.3, 1.0]))
      >>> estimate = sb.simulate(jax.random.key(0), problem, 16, 0.3, trials=2000)
      >>> np.round(np.float64(estimate.probs), 2).tolist()
      [0.09, 0.15, 0.76]
      >>> exact = np.exp(sb.log_soft_bon(problem, 16, 0.3))
      >>> bool(np.all(np.abs(estimate.probs - exact) < 5 * estimate.probs_se))
      True
    """
    _checks.one_of("rule", rule, ("soft", "hard", "race"))
    _checks.one_of("method", method, ("counts", "literal"))
    literal = method == "literal"
    cells = prepare(key, problem, n, temperature, literal=literal)
    trials = _checks.positive_integer("trials", trials, 2, TRIALS_LIMIT)
    return _estimate(
        cells,
        np.int32(trials),
        np.bool_(rule == "hard"),  # traced: the hard rule is the soft one at temperature 0
        race=rule == "race",
        literal=literal,
        blocks=_blocks(chunk, trials, cells.problem, literal=literal),
        mesh=_checked_mesh(mesh),
    )


@_checks.keyword_only("trials")
def conditional_fluctuation(
    key: Array,
    problem: Problem,
    n: Any,
    temperature: Any,
    *,
    trials: int,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Fluctuation:
    """How far the softmax measure over n draws is from the tilted law: E[TV(R, P*)].

    R(x) = N_x w_x / Σ_y N_y w_y is the law of the selected sample *given* the draws. Its average
    over draws is P_n, at a distance of order 1/n from P*; R itself fluctuates at order n^(-1/2).

    Args:
      key: a typed PRNG key, traced; consumed, as by `simulate`.
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, integers >= 1, traced; at most 2^53 (2^24 in float32).
      temperature: `[...]` in reward units, at least 0, traced; 0 and `inf` are legal.
      trials: sets of n draws for each cell, a Python integer from 2 to 2^30; another value does not
        compile again.
      chunk: trials in flight, static; as in `simulate`.
      mesh: static; as in `simulate`.

    Returns:
      `Fluctuation` of the broadcast batch shape, in the problem's dtype.

    Raises:
      TypeError: as `simulate`.
      ValueError: as `simulate` with `method="counts"`.

    Numerics: counts are sampled, so the time does not grow with n.
    Source: derived here (the definition); arXiv:2505.03156 for the sampler.

    Example:
      >>> problem = sb.from_probs(np.float32([0.5, 0.3, 0.2]), np.float32([0.0, 0.3, 1.0]))
      >>> n = np.array([100.0, 400.0])
      >>> few, many = sb.conditional_fluctuation(jax.random.key(0), problem, n, 0.3, trials=2000).mean
      >>> round(float(few / many), 1)  # four times the draws, half the distance
      2.0
    """
    cells = prepare(key, problem, n, temperature, literal=False)
    trials = _checks.positive_integer("trials", trials, 2, TRIALS_LIMIT)
    blocks = _blocks(chunk, trials, cells.problem, literal=False)
    return _fluctuation(cells, np.int32(trials), blocks=blocks, mesh=_checked_mesh(mesh))


def _checked_mesh(mesh: Mesh | None) -> Mesh | None:
    """The mesh itself; None where there is nothing to share."""
    if mesh is None:
        return None
    _checks.instance("mesh", mesh, Mesh)
    return mesh if mesh.size > 1 else None


def _blocks(chunk: int | None, trials: int, problem: Problem, *, literal: bool) -> int:
    """Blocks of `LANES` trials in flight."""
    num_outcomes, of_block = problem.num_outcomes, _of_block(problem, literal)
    if chunk is not None:
        return max(1, _checks.positive_integer("chunk", chunk) // LANES)
    if literal:
        # Vectors long enough for every core, in the cache of each; few trials fill no such vector.
        return _memory.at_once(32 if trials > 8 * LANES else 8, of_block)
    return _memory.at_once(max(1, min(32, 2**20 // (LANES * num_outcomes))), of_block)


def _of_block(problem: Problem, literal: bool) -> int:
    """The bytes that a block of trials needs: its counts, or its words and draws."""
    if literal:
        return 4 * LANES * 16 * _draws.BATCH
    return 4 * LANES * problem.num_outcomes * problem.rewards.dtype.itemsize


def _check(cells: Cells, literal: bool, blocks: int) -> None:
    """`MemoryError` where the blocks in flight, the totals of groups or the results do not fit."""
    row = cells.problem.num_outcomes * cells.problem.rewards.dtype.itemsize
    in_flight = blocks * _of_block(cells.problem, literal)
    _memory.check(in_flight + 6 * LANES * row + 4 * _memory.size_of(cells.problem))


# The workers --------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("race", "literal", "blocks", "mesh"))
def _estimate(
    cells: Cells,
    trials: Array,
    hard: Array,
    *,
    race: bool,
    literal: bool,
    blocks: int,
    mesh: Mesh | None,
) -> Estimate:
    axes = mesh.axis_names if mesh is not None else ()
    _check(cells, literal, blocks)

    def one(key: Array, problem: Problem, n: Array, temperature: Array) -> Estimate:
        dtype = problem.rewards.dtype
        selecting = jnp.where(hard, 0, temperature)  # the temperature of the rule, not of P*
        zeros = jnp.zeros((LANES, problem.num_outcomes), jnp.int32 if literal else dtype)
        add: Callable[..., Array] = _jackknife.add_rows
        if literal:
            tables = _draws.stream(problem, selecting)
            select = _draws.select_race if race else _draws.select_soft
            simulated: Callable[[Array], Array] = partial(select, tables=tables, n=n)
            add = _jackknife.add_selected
        elif race:
            simulated = partial(
                _given_counts.race_winner, problem=problem, n=n, temperature=selecting
            )
        else:
            law = _given_counts.controlled_law(problem, n, selecting)
            simulated, add = _given_counts.averaged(law, problem, n)
        totals = _jackknife.accumulate(
            key, trials, simulate=simulated, add=add, start=zeros, blocks=blocks, axes=axes
        )
        return _summary(totals, problem, temperature, trials)

    return over_cells(one, cells, mesh)


@partial(jax.jit, static_argnames=("blocks", "mesh"))
def _fluctuation(cells: Cells, trials: Array, *, blocks: int, mesh: Mesh | None) -> Fluctuation:
    axes = mesh.axis_names if mesh is not None else ()
    _check(cells, False, blocks)

    def one(key: Array, problem: Problem, n: Array, temperature: Array) -> Fluctuation:
        target = jnp.exp(log_tilted(problem, temperature))

        def distance(counts: Array) -> Array:
            measure = _given_counts.softmax_measure(counts, problem, temperature)
            return jnp.sum(jnp.abs(measure - target[None]), axis=-1) / 2

        simulated, add = _given_counts.averaged(distance, problem, n)
        start = jnp.zeros((LANES,), target.dtype)
        totals = _jackknife.accumulate(
            key, trials, simulate=simulated, add=add, start=start, blocks=blocks, axes=axes
        )
        sizes = _jackknife.group_sizes(trials).astype(target.dtype)
        mean, without = _jackknife.means(totals[:, None], sizes)
        return Fluctuation(mean[0], _jackknife.jackknife(mean, without, sizes)[1][0])

    return over_cells(one, cells, mesh)


# From totals by group to estimates ----------------------------------------------------------------


def _summary(totals: Array, problem: Problem, temperature: Array, trials: Array) -> Estimate:
    dtype = problem.rewards.dtype
    sizes = _jackknife.group_sizes(trials).astype(dtype)
    probs, probs_se = _jackknife.mean_and_error(totals, trials, dtype)
    measure = against_tilted(problem, temperature)
    total = jnp.sum(totals.astype(dtype), axis=0)

    def without(left_out: Array, size: Array) -> Array:
        """Metrics with the trials of one group left out."""
        law = (total - left_out.astype(dtype)) / (trials.astype(dtype) - size)
        value = measure(law, jnp.log(jnp.maximum(law, 0)))
        below = jnp.any(law < 0)
        divergences = ("kl_tilted_soft", "kl_soft_tilted", "kl_soft_base", "chi2")
        value = value._replace(
            **{name: jnp.where(below, jnp.nan, getattr(value, name)) for name in divergences}
        )
        return jnp.stack(value)

    # The last row leaves out nothing. Of one program with the others: the correction of the bias is 127
    # times a mean difference to them, and so would be a rounding that they do not share.
    left_out = jnp.concatenate([totals, jnp.zeros_like(totals[:1])])
    left_sizes = jnp.concatenate([sizes, jnp.zeros_like(sizes[:1])])
    size = problem.num_outcomes
    rows = over_batch(without, (left_out,), (left_sizes,), elements=4 * size, least=0)
    plain, rows = rows[LANES], rows[:LANES]
    corrected, errors = _jackknife.jackknife(plain, rows, sizes)
    floor = _noise_floor(problem, temperature, probs, probs_se)

    clear = (jnp.stack(floor) == 0) | (corrected >= jnp.stack(floor) + 2 * errors)
    clear = clear & jnp.isfinite(corrected)
    # An infinite value has no corrections (inf - inf) and needs none.
    reported = jnp.where(jnp.isposinf(plain), plain, jnp.where(clear, corrected, jnp.nan))
    metrics = Metrics(*reported)
    # P_n > 0 wherever P > 0: an infinite KL(P*‖P_n) says only that an outcome was never selected.
    missed = jnp.isposinf(metrics.kl_tilted_soft)
    metrics = metrics._replace(kl_tilted_soft=jnp.where(missed, jnp.nan, metrics.kl_tilted_soft))
    return Estimate(probs, probs_se, metrics, Metrics(*errors), floor)


def _noise_floor(problem: Problem, temperature: Array, probs: Array, se: Array) -> Metrics:
    """What noise of standard deviation `se` adds to each divergence, to second order."""
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
