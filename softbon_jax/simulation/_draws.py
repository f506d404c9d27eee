"""Random draws for simulation: candidates by alias table, selected in a stream, and their counts.

Everything here handles one block of `LANES` trials from one key; `_jackknife.accumulate` maps it over
blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from softbon_jax import _loops
from softbon_jax.problem import Problem
from softbon_jax.sampling import uniform
from softbon_jax.simulation._binomial import binomial

Array = jax.Array

# Trials in a block. A constant: it decides which random numbers a trial gets.
LANES = 128
# Candidates drawn and reduced at once by each trial of a literal simulation.
BATCH = 16
# Fewer, where that is all there are.
FEW = 4
# With more columns than 2 to this power the alias threshold gets a random word of its own.
ONE_WORD_BITS = 10


class Alias(NamedTuple):
    """Walker's alias table on C = 2^bits columns; the columns past K have probability 0.

    Column c gives outcome c if a uniform integer of `_split_word(C)[1]` bits is below
    `threshold[c]`, and `other[c]` if not.
    """

    threshold: Array  # [C] uint32
    other: Array  # [C] int32


def _split_word(columns: int) -> tuple[int, int]:
    """The number of bits that choose among `columns` (a power of two), and that of the threshold."""
    bits = columns.bit_length() - 1
    return bits, 31 - bits if bits <= ONE_WORD_BITS else 31


def alias_table(probs: Array) -> Alias:
    """The table of one law `[K]` (Walker 1977), by running sums instead of Vose's loop.

    Light columns, which hold less than their share, are filled from left to right by heavy ones, from
    left to right; a heavy column that has given too much is filled by the next. Two running sums, in
    whole units of probability, say which column fills which: rounding leaves nothing over.

    The law of the table is within K 2^-32 of `probs` in total variation (within 2^-31 in float64 if
    K > 1024), apart from the rounding of `probs`, and has no mass where `probs` has none.
    """
    columns = 1 << max(probs.shape[0] - 1, 0).bit_length()
    bits, level_bits = _split_word(columns)
    wide = bits > ONE_WORD_BITS and probs.dtype == jnp.float64
    word, unit_bits = (jnp.uint64, level_bits) if wide else (jnp.uint32, 31 - bits)
    share = jnp.asarray(1 << unit_bits, word)

    units = jnp.round(probs * 2.0 ** (bits + unit_bits)).astype(word)
    rest = jnp.asarray(1 << (bits + unit_bits), word) - jnp.sum(units, dtype=word)
    units = units.at[jnp.argmax(units)].add(rest)
    units = jnp.pad(units, (0, columns - probs.shape[0]))
    light, heavy = units < share, units > share
    lacks = jnp.where(light, share - units, 0)
    needed, offered = jnp.cumsum(lacks), jnp.cumsum(jnp.where(heavy, units - share, 0))
    # A light column is filled by the first heavy one that is not yet spent; a heavy one is spent by
    # the first light column whose running need reaches what has been offered so far.
    giver = jnp.searchsorted(offered, jnp.where(light, needed - lacks, offered), side="right")
    spent_by = needed[jnp.searchsorted(needed, offered, side="left")]
    kept = jnp.where(light, units, jnp.where(heavy, share + offered - spent_by, share))
    threshold = kept.astype(jnp.uint32) << jnp.uint32(level_bits - unit_bits)
    return Alias(threshold, jnp.minimum(giver, columns - 1).astype(jnp.int32))


def words_per_draw(table: Alias) -> int:
    """32-bit random words that one draw consumes."""
    return 1 if _split_word(table.threshold.shape[0])[0] <= ONE_WORD_BITS else 2


def draw(table: Alias, words: Array) -> Array:
    """Outcomes `[b, ...]` (int32) from random words `[words_per_draw * b, ...]` (uint32)."""
    bits, level_bits = _split_word(table.threshold.shape[0])
    low = jnp.uint32((1 << bits) - 1)
    if bits > ONE_WORD_BITS:
        column, level = jnp.split(words, 2)
        column = (column & low).astype(jnp.int32)
        level = level >> jnp.uint32(32 - level_bits)
        return jnp.where(level < table.threshold[column], column, table.other[column])
    # Threshold and other outcome fit in one word: a draw reads memory once and takes half the time.
    packed = (table.threshold << jnp.uint32(bits)) | table.other.astype(jnp.uint32)
    column, level = words & low, words >> jnp.uint32(32 - level_bits)
    entry = packed[column.astype(jnp.int32)]
    outcome = jnp.where(level < (entry >> jnp.uint32(bits)), column, entry & low)
    return outcome.astype(jnp.int32)


class Stream(NamedTuple):
    """What a literal simulation needs of one problem at one temperature."""

    table: Alias
    levels: Array  # [K] float32, rewards below the best (their ranks at temperature 0), finite
    inverse: Array  # () float32, 1 / temperature: inf at 0, 0 at inf


def stream(problem: Problem, temperature: Array) -> Stream:
    """The tables for one `[K]` problem."""
    chex.assert_rank([problem.rewards, temperature], [1, 0])
    rewards = problem.rewards
    support = problem.log_probs > -jnp.inf
    best = jnp.max(jnp.where(support, rewards, -jnp.inf))
    # Ranks, because rounding to float32 must not create ties where only the order matters.
    order = jnp.argsort(rewards)
    steps = jnp.diff(rewards[order]) > 0
    ranks = jnp.zeros(rewards.shape, jnp.float32)
    ranks = ranks.at[order[1:]].set(jnp.cumsum(steps).astype(jnp.float32))
    below = jnp.where(support, rewards - best, 0).astype(jnp.float32)
    return Stream(
        alias_table(jnp.exp(problem.log_probs)),
        jnp.where(temperature == 0, ranks, below),
        (1 / temperature).astype(jnp.float32),
    )


def threefry(key: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds: two random words for each pair of counters, all uint32.

    The generator behind `jax.random.key` (Salmon et al. 2011), with its rounds written out. JAX
    runs them as a loop over memory on CPU and keeps one of the two words; this takes a third of the
    time.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << jnp.uint32(turn)) | (x1 >> jnp.uint32(32 - turn)))
        x0, x1 = x0 + keys[(group + 1) % 3], x1 + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


def _over_batches(
    key: Array, rows: int, n: Array, step: Callable[[Array, Array, Any], Any], start: Any
) -> Any:
    """Run `step(words [rows, LANES], live [BATCH, 1], state)` over n draws, `BATCH` at a time.

    `live` marks the draws up to n. `rows` is even.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    lane = lax.iota(jnp.uint32, rows // 2 * LANES).reshape(rows // 2, LANES)

    def words(i: Array) -> tuple[Array, Array]:
        return threefry(seed, lane, jnp.broadcast_to(i.astype(jnp.uint32), lane.shape))

    # The words of the next batch are part of the loop's state, so that XLA computes them once and
    # stores them; otherwise it repeats the generator inside every operation that reads them.
    def body(i: Array, carry: tuple) -> tuple:
        state, current = carry
        live = (i * BATCH + jnp.arange(BATCH, dtype=jnp.int32) < n)[:, None]
        return step(jnp.concatenate(current), live, state), words(i + 1)

    return _loops.fori_loop(0, (n - 1) // BATCH + 1, body, (start, words(jnp.int32(0))))[0]


def _over_draws(
    key: Array, n: Array, layout: Callable[[int], list[range]], step: Callable[..., Any], start: Any
) -> Any:
    """`_over_batches`; the same result in less time if the draws are few.

    `layout(b)` lists the rows of words that `step` wants for the first b draws of a batch.
    """
    rows = sum(map(len, layout(BATCH)))

    def at_once(size: int) -> Any:
        words = _first_words(key, rows, list(itertools.chain(*layout(size))))
        return step(words, jnp.arange(size, dtype=jnp.int32)[:, None] < n, start)

    sizes = (FEW, BATCH)
    branches: list[Callable[[], Any]] = [partial(at_once, size) for size in sizes]
    branches.append(lambda: _over_batches(key, rows, n, step, start))
    return _loops.switch(jnp.sum(n > np.array(sizes, np.int32)), branches)


def _first_words(key: Array, rows: int, wanted: list[int]) -> Array:
    """The `wanted` rows of the first batch in `_over_batches`.

    Rows j and j + rows/2 come from one run of the generator; those of which none is wanted are left
    out.
    """
    half = rows // 2
    runs = sorted({row % half for row in wanted})
    lane = jnp.asarray(LANES * np.array(runs)[:, None] + np.arange(LANES), jnp.uint32)
    seed = jax.random.bits(key, (2,), jnp.uint32)
    both = jnp.concatenate(threefry(seed, lane, jnp.zeros_like(lane)))
    if len(wanted) == rows:
        return both
    return jnp.stack([both[runs.index(row % half) + row // half * len(runs)] for row in wanted])


def _scaled(gap: Array, inverse: Array) -> Array:
    """Divide: gap / λ for finite gap <= 0, with 0 at gap = 0 also for λ = 0."""
    return jnp.where(gap == 0, 0, gap * inverse)


def _uniform(words: Array) -> Array:
    return jnp.minimum((words.astype(jnp.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)


def select_soft(key: Array, tables: Stream, n: Array) -> Array:
    """The outcomes `[LANES]` that the soft rule selects among n (int32) draws of each trial.

    Batch by batch: a batch is taken over what came before with probability its share of the weight
    so far, and a draw within it by inversion.
    """
    # Weights relative to the best outcome come from a table. If they would underflow they are taken
    # relative to the best draw so far, at the price of one exponential per draw.
    in_range = jnp.min(_scaled(tables.levels - jnp.max(tables.levels), tables.inverse)) > -60
    by_table, by_exponential = partial(_soft, rescale=False), partial(_soft, rescale=True)
    return _loops.cond(in_range, by_table, by_exponential, key, tables, n)


def _soft(key: Array, tables: Stream, n: Array, *, rescale: bool) -> Array:
    table = jnp.exp(_scaled(tables.levels - jnp.max(tables.levels), tables.inverse))
    per_draw = words_per_draw(tables.table)

    def layout(size: int) -> list[range]:
        return [range(2), *(range(2 + k * BATCH, 2 + k * BATCH + size) for k in range(per_draw))]

    def step(words: Array, live: Array, state: tuple[Array, Array, Array]) -> tuple:
        best, total, selected = state
        take, within = _uniform(words[0]), _uniform(words[1])
        outcomes = draw(tables.table, words[2:])
        if rescale:
            levels = tables.levels[outcomes]
            top = jnp.maximum(best, jnp.max(jnp.where(live, levels, -jnp.inf), axis=0))
            weights = jnp.exp(_scaled(levels - top[None], tables.inverse))
            total = total * jnp.exp(_scaled(best - top, tables.inverse))
            best = top
        else:
            weights = table[outcomes]
        weights = jnp.where(live, weights, 0)
        # Running sums written out: each is one fused vector operation, a cumsum is many passes.
        sums = [weights[0]]
        for weight in weights[1:]:
            sums.append(sums[-1] + weight)
        target = within * sums[-1]  # < the last sum, so a draw of weight 0 is never met
        chosen = outcomes[0]
        for below, outcome in zip(sums[:-1], outcomes[1:], strict=True):
            chosen = jnp.where(below <= target, outcome, chosen)
        total = total + sums[-1]
        return best, total, jnp.where(take * total < sums[-1], chosen, selected)

    lowest = jnp.full((LANES,), jnp.min(tables.levels))
    start = (lowest, jnp.zeros_like(lowest), jnp.zeros((LANES,), jnp.int32))
    if rescale:  # Seldom needed: one program for all n, for the sake of what is compiled.
        return _over_batches(key, 2 + per_draw * BATCH, n, step, start)[2]
    return _over_draws(key, n, layout, step, start)[2]


def select_race(key: Array, tables: Stream, n: Array) -> Array:
    """The outcomes `[LANES]` of the largest r/λ + Exp(1) among n (int32) draws of each trial."""
    rows = words_per_draw(tables.table) + 1

    def layout(size: int) -> list[range]:
        return [range(k * BATCH, k * BATCH + size) for k in range(rows)]

    def step(words: Array, live: Array, state: tuple[Array, Array, Array]) -> tuple:
        best, score, selected = state
        size = live.shape[0]
        noise = -jnp.log(_uniform(words[:size]))
        outcomes = draw(tables.table, words[size:])
        levels = tables.levels[outcomes]
        top = jnp.maximum(best, jnp.max(jnp.where(live, levels, -jnp.inf), axis=0))
        scores = _scaled(levels - top[None], tables.inverse) + noise
        scores = jnp.where(live, scores, -jnp.inf)
        score = score + _scaled(best - top, tables.inverse)
        for j in range(size):
            selected = jnp.where(scores[j] > score, outcomes[j], selected)
            score = jnp.maximum(score, scores[j])
        return top, score, selected

    lowest = jnp.full((LANES,), jnp.min(tables.levels))
    start = (lowest, jnp.full_like(lowest, -jnp.inf), jnp.zeros((LANES,), jnp.int32))
    return _over_draws(key, n, layout, step, start)[2]


def counts(key: Array, log_probs: Array, n: Array) -> Array:
    """Multinomial counts `[LANES, K]` of n draws, in the dtype of `log_probs` and `n`."""
    return counts_by_outcome(key, log_probs, n).T


def counts_by_outcome(key: Array, log_probs: Array, n: Array) -> Array:
    """The same counts as `[K, LANES]`, as they are drawn.

    Outcome by outcome, each a binomial share of the draws that are left. All trials of a step have
    nearly the same mean, so that a step rarely runs both branches of the sampler.
    """
    probs = jnp.exp(log_probs)
    left_over = jnp.cumsum(probs[::-1])[::-1]  # the last positive share is exactly 1
    shares = jnp.where(left_over > 0, probs / jnp.where(left_over > 0, left_over, 1), 0)

    def step(left: Array, outcome: tuple[Array, Array]) -> tuple[Array, Array]:
        index, share = outcome
        share = jnp.broadcast_to(jnp.clip(share, 0, 1), left.shape)
        count = binomial(jax.random.fold_in(key, index), left, share)
        return left - count, count

    start = jnp.broadcast_to(n, (LANES,)).astype(log_probs.dtype)
    index = jnp.arange(shares.shape[0], dtype=jnp.int32)
    return _loops.scan(step, start, (index, shares))[1]


def largest_exponential(key: Array, counts: Array) -> Array:
    """The largest of N independent Exp(1) for each N in `counts`; meaningless where N is 0."""
    level = uniform(key, counts.shape, counts.dtype, one_word=True)
    # Pr(largest > t) = 1 - (1 - e^-t)^N, inverted: a small uniform is a large maximum.
    return -jnp.log(-jnp.expm1(jnp.log1p(-level) / jnp.maximum(counts, 1)))
