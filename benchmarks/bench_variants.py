"""Choices made in literal simulation, each exchanged alone: K = 64 outcomes, n = 1024, float32.

Every variant is the simulator of the library with one part replaced while it is traced: how an
outcome is drawn, how one draw is selected, the random bits, the loop, the bits a draw takes. What
the law of a variant is off by in the simulation is printed too, and for the one variant whose law is
not exact by construction, what it is off by without simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import softbon_jax as sb
from benchmarks import _timing
from benchmarks.bench_simulation import OUTCOMES, PROBS, REWARDS, TEMPERATURE, N
from softbon_jax.simulation import _draws, _jackknife

DOUBLE, ROUNDS = True, 9
TRIALS = 20_000
SHIPPED, SHIPPED_RACE = "as shipped", "race rule, as shipped"

Array = jax.Array

# The number of bits of a half word that choose the column, and of those that are left.
COLUMN_BITS = OUTCOMES.bit_length() - 1
LEVEL_BITS = 16 - COLUMN_BITS


class Variant(NamedTuple):
    """Names of `_draws` with what to put in their place, and the key.

    `jax.random.bits` of some generators is slow under `vmap` over keys: they get all the trials in
    flight from one key, in one long block.
    """

    parts: Mapping[str, Any] = {}
    impl: str = "threefry2x32"
    one_block: bool = False


# How an outcome is drawn --------------------------------------------------------------------------


def draw_two_reads(table: _draws.Alias, words: Array) -> Array:
    """The alias table with threshold and other outcome read apart."""
    bits, level_bits = _draws._split_word(table.threshold.shape[0])
    column = (words & jnp.uint32((1 << bits) - 1)).astype(jnp.int32)
    level = words >> jnp.uint32(32 - level_bits)
    return jnp.where(level < table.threshold[column], column, table.other[column])


def cumulative() -> Array:
    """The distribution function [K], with 1 last."""
    return jnp.asarray(np.append(np.cumsum(PROBS)[:-1], 1), jnp.float32)


def draw_searchsorted(table: _draws.Alias, words: Array) -> Array:
    """Inversion by `jnp.searchsorted`."""
    at = jnp.searchsorted(cumulative(), _draws._uniform(words), side="right")
    return at.astype(jnp.int32)


def draw_bisection(table: _draws.Alias, words: Array) -> Array:
    """Inversion by log2 K halvings, written out and without branches."""
    cdf, uniform = cumulative(), _draws._uniform(words)
    at = jnp.zeros(words.shape, jnp.int32)
    for half in (OUTCOMES >> i for i in range(1, COLUMN_BITS + 1)):
        at = jnp.where(cdf[at + (half - 1)] <= uniform, at + half, at)
    return at


def draw_comparisons(table: _draws.Alias, words: Array) -> Array:
    """Inversion by comparing with every value of the distribution function; reads no memory."""
    cdf, uniform = cumulative(), _draws._uniform(words)
    at = jnp.zeros(words.shape, jnp.int32)
    for k in range(OUTCOMES - 1):
        at = at + (cdf[k] <= uniform).astype(jnp.int32)
    return at


# How one draw is selected -------------------------------------------------------------------------


def select_largest(
    key: Array, tables: _draws.Stream, n: Array, *, score: Callable[[Array, Array, Array], Array]
) -> Array:
    """The draw of the largest score; takes a random word more for each draw."""
    logits = _draws._scaled(tables.levels - jnp.max(tables.levels), tables.inverse)

    def step(words: Array, live: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        largest, selected = state
        uniform = _draws._uniform(words[: _draws.BATCH])
        outcomes = _draws.draw(tables.table, words[_draws.BATCH :])
        scores = jnp.where(live, score(logits, outcomes, uniform), -jnp.inf)
        for j in range(_draws.BATCH):
            selected = jnp.where(scores[j] > largest, outcomes[j], selected)
            largest = jnp.maximum(largest, scores[j])
        return largest, selected

    start = (jnp.full((_draws.LANES,), -jnp.inf, jnp.float32), jnp.zeros(_draws.LANES, jnp.int32))
    return _draws._over_batches(key, 2 * _draws.BATCH, n, step, start)[1]


def gumbel(logits: Array, outcomes: Array, uniform: Array) -> Array:
    """Logits plus Gumbel noise."""
    return logits[outcomes] - jnp.log(-jnp.log1p(-uniform))


def first_to_ring(logits: Array, outcomes: Array, uniform: Array) -> Array:
    """The same choice with one logarithm less: the smallest Exp(1)/w."""
    return jnp.log1p(-uniform) * jnp.exp(-logits)[outcomes]


# The random bits and the loop ---------------------------------------------------------------------


def threefry_13(key: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Threefry with 13 rounds of the 20: not the generator of JAX."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for done in range(13):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[done % 8]
        x0 = x0 + x1
        x1 = x0 ^ ((x1 << jnp.uint32(turn)) | (x1 >> jnp.uint32(32 - turn)))
        if done % 4 == 3:
            group = done // 4
            x0, x1 = x0 + keys[(group + 1) % 3], x1 + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


def hash_words(key: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Two words by a hash of a few operations: what is left when random bits are nearly free."""
    mixed = x0 * jnp.uint32(2654435761) + x1 * jnp.uint32(40503) + key[0]
    mixed = (mixed ^ (mixed >> jnp.uint32(15))) * jnp.uint32(0x85EBCA6B)
    mixed = mixed ^ (mixed >> jnp.uint32(13))
    return mixed, mixed * jnp.uint32(0xC2B2AE35) ^ key[1]


def bits_of_jax(key: Array, rows: int, n: Array, step: Callable, start: Any) -> Any:
    """The loop of the library on `jax.random.bits`, with a key for each batch."""

    def words(i: Array) -> Array:
        return jax.random.bits(jax.random.fold_in(key, i), (rows, _draws.LANES), jnp.uint32)

    def body(i: Array, carry: tuple) -> tuple:
        state, current = carry
        return step(current, alive(i, n), state), words(i + 1)

    return lax.fori_loop(0, batches(n), body, (start, words(jnp.int32(0))))[0]


def words_in_body(key: Array, rows: int, n: Array, step: Callable, start: Any) -> Any:
    """The plain loop: the words of a batch are computed in its own turn."""
    seed = jax.random.bits(key, (2,), jnp.uint32)
    lane = lax.iota(jnp.uint32, rows // 2 * _draws.LANES).reshape(rows // 2, _draws.LANES)

    def body(i: Array, state: Any) -> Any:
        counter = jnp.broadcast_to(i.astype(jnp.uint32), lane.shape)
        return step(jnp.concatenate(_draws.threefry(seed, lane, counter)), alive(i, n), state)

    return lax.fori_loop(0, batches(n), body, start)


def batches(n: Array) -> Array:
    """How many batches there are in n draws."""
    return (n - 1) // _draws.BATCH + 1


def alive(i: Array, n: Array) -> Array:
    """The draws [BATCH, 1] of batch i that are among the first n."""
    return (i * _draws.BATCH + jnp.arange(_draws.BATCH, dtype=jnp.int32) < n)[:, None]


# Two draws from one word --------------------------------------------------------------------------


def words_in_halves(key: Array, rows: int, n: Array, step: Callable, start: Any) -> Any:
    """Half the words for the draws, each read as two of 16 bits; those for selection are whole."""

    def halves(words: Array, live: Array, state: Any) -> Any:
        low, high = words[2:] & jnp.uint32(0xFFFF), words[2:] >> jnp.uint32(16)
        return step(jnp.concatenate([words[:2], low, high]), live, state)

    return LOOP(key, 2 + _draws.BATCH // 2, n, halves, start)


def coarse(table: _draws.Alias) -> Array:
    """The thresholds rounded to `LEVEL_BITS` bits."""
    fewer = _draws._split_word(OUTCOMES)[1] - LEVEL_BITS
    return (table.threshold + jnp.uint32(1 << (fewer - 1))) >> jnp.uint32(fewer)


def draw_half(table: _draws.Alias, words: Array) -> Array:
    """The alias table read with 16 bits."""
    low = jnp.uint32(OUTCOMES - 1)
    packed = (coarse(table) << jnp.uint32(COLUMN_BITS)) | table.other.astype(jnp.uint32)
    column, level = words & low, words >> jnp.uint32(COLUMN_BITS)
    entry = packed[column.astype(jnp.int32)]
    kept = level < (entry >> jnp.uint32(COLUMN_BITS))
    return jnp.where(kept, column, entry & low).astype(jnp.int32)


def error_of_halves(exact: np.ndarray) -> tuple[float, float]:
    """What 16 bits do to the law: the largest |difference| of P_n, and the total variation."""
    table = _draws.alias_table(jnp.asarray(PROBS, jnp.float32))
    kept = np.asarray(coarse(table)) / 2.0**LEVEL_BITS
    drawn = kept.copy()
    np.add.at(drawn, np.asarray(table.other), 1 - kept)
    law = np.exp(sb.log_soft_bon(sb.from_probs(drawn / OUTCOMES, REWARDS), N, TEMPERATURE))
    return float(np.max(np.abs(law - exact))), float(np.sum(np.abs(law - exact))) / 2


# The race -----------------------------------------------------------------------------------------

LOOP = _draws._over_batches
RACE = {"select_soft": _draws.select_race}
VARIANTS = {
    SHIPPED: Variant(),
    "draw: two reads of the table": Variant({"draw": draw_two_reads}),
    "draw: searchsorted": Variant({"draw": draw_searchsorted}),
    "draw: bisection written out": Variant({"draw": draw_bisection}),
    "draw: 63 comparisons": Variant({"draw": draw_comparisons}),
    "select: Gumbel argmax": Variant({"select_soft": partial(select_largest, score=gumbel)}),
    "select: smallest Exp(1)/w": Variant(
        {"select_soft": partial(select_largest, score=first_to_ring)}
    ),
    **{
        f"bits: jax.random, {impl}": Variant({"_over_batches": bits_of_jax}, impl, one_block=True)
        for impl in ("threefry2x32", "rbg", "unsafe_rbg", "philox2x32")
    },
    "bits: Threefry of 13 rounds": Variant({"threefry": threefry_13}),
    "bits: a hash, nearly free": Variant({"threefry": hash_words}),
    "loop: words computed in the body": Variant({"_over_batches": words_in_body}),
    **{f"loop: batches of {size}": Variant({"BATCH": size}) for size in (8, 32, 64)},
    "two draws a word, not exact": Variant({"_over_batches": words_in_halves, "draw": draw_half}),
    SHIPPED_RACE: Variant(RACE),
    "race rule, words computed in the body": Variant(RACE | {"_over_batches": words_in_body}),
}


def contestant(variant: Variant, trials: int) -> Callable[[], Array]:
    """The compiled simulation: a call gives the estimated law [K]."""
    lanes, blocks = (8 * _draws.LANES, 1) if variant.one_block else (_draws.LANES, 8)
    problem = sb.from_probs(PROBS.astype(np.float32), REWARDS.astype(np.float32))

    def simulated(key: Array) -> Array:
        tables = _draws.stream(problem, jnp.float32(TEMPERATURE))

        def selected(key: Array) -> Array:
            return _draws.select_soft(key, tables, jnp.int32(N))

        start = jnp.zeros((lanes, OUTCOMES), jnp.int32)
        counts = _jackknife.accumulate(
            key,
            jnp.int32(trials),
            simulate=selected,
            add=_jackknife.add_selected,
            start=start,
            blocks=blocks,
        )
        return jnp.sum(counts, axis=0) / trials

    key = jax.random.key(1, impl=variant.impl)
    parts = {**variant.parts, "LANES": lanes}
    with mock.patch.multiple(_draws, **parts), mock.patch.object(_jackknife, "LANES", lanes):
        compiled = jax.jit(simulated).lower(key).compile()
    return lambda: compiled(key)


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race all variants, and find how far the law of each is from the exact one."""
    calls = {name: contestant(variant, TRIALS) for name, variant in VARIANTS.items()}
    times = _timing.race(calls, rounds)
    values = {}
    for name in calls:
        shipped = SHIPPED_RACE if name.startswith("race") else SHIPPED
        values[f"{name} / {shipped}"] = _timing.ratio(times, [name], [shipped])

    problem = sb.from_probs(PROBS, REWARDS)
    soft = np.exp(np.asarray(sb.log_soft_bon(problem, N, TEMPERATURE)))
    race = np.exp(np.asarray(sb.log_uniform_race(problem, N, TEMPERATURE)))
    remarks = [
        "\nlargest distance of each estimated law from the exact one, and in standard errors"
    ]
    for name, call in calls.items():
        exact = race if name.startswith("race") else soft
        distance = np.abs(np.asarray(call()) - exact)
        # Standard errors, of what should come up ten times at least: rarer counts are not normal.
        error = np.sqrt(np.maximum(exact, 10 / TRIALS) * (1 - exact) / TRIALS)
        deviation = np.max(distance / error)
        remarks.append(f"{name:40}{np.max(distance):10.1e}{deviation:8.1f}")
    largest, tv = error_of_halves(soft)
    remarks.append(f"two draws a word: P_n off by up to {largest:.1e}, TV {tv:.1e}, by computation")
    return _timing.Report({f"literal, K = {OUTCOMES}, n = {N}": times}, values, remarks)
