"""Selection against `jax.random.categorical` and `jnp.argmax`, on 4096 pools of 256 candidates."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = False, 40
SHAPE = (4096, 256)
TEMPERATURE = 0.5


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race all contestants."""
    rewards = jax.random.normal(jax.random.key(0), SHAPE)
    temperature = jnp.float32(TEMPERATURE)
    keys = {name: jax.random.key(1, impl=name) for name in ("threefry2x32", "rbg", "philox2x32")}
    key = keys["threefry2x32"]

    select = jax.jit(sb.select)
    best = jax.jit(sb.select_best)
    race = jax.jit(sb.select_race)
    many = jax.jit(partial(sb.select_many, k=4))
    # Two gauges: the noise alone, and the plain argmax of the rewards.
    noise = jax.jit(lambda key: jax.random.gumbel(key, SHAPE))
    argmax = jax.jit(lambda rewards: jnp.argmax(rewards, axis=-1))

    def categorical(mode: str, key: jax.Array, rewards: jax.Array, t: jax.Array) -> jax.Array:
        return jax.random.categorical(key, rewards / t, mode=mode)

    low, high = (jax.jit(partial(categorical, mode)) for mode in ("low", "high"))
    calls = {
        "select": lambda: select(key, rewards, temperature),
        "select, called eagerly": lambda: sb.select(key, rewards, temperature),
        "select, rbg key": lambda: select(keys["rbg"], rewards, temperature),
        "select, philox key": lambda: select(keys["philox2x32"], rewards, temperature),
        "select_best": lambda: best(key, rewards),
        "select_race": lambda: race(key, rewards, temperature),
        "select_many, k = 4": lambda: many(key, rewards, temperature),
        "categorical": lambda: low(key, rewards, temperature),
        "categorical, mode high": lambda: high(key, rewards, temperature),
        "categorical, rbg key": lambda: low(keys["rbg"], rewards, temperature),
        "argmax of the rewards": lambda: argmax(rewards),
        "gumbel noise alone": lambda: noise(key),
    }
    times = _timing.race(calls, rounds)

    stream = jnp.ravel(rewards)
    empty = sb.reservoir_init(jnp.int32(0), dtype=jnp.float32)
    items = jnp.arange(stream.size, dtype=jnp.int32)
    update = jax.jit(sb.reservoir_update)
    long_calls = {
        "select, one pool": lambda: select(key, stream, temperature),
        "categorical, one pool": lambda: low(key, stream, temperature),
        "categorical, one pool, mode high": lambda: high(key, stream, temperature),
        "reservoir_update": lambda: update(key, empty, items, stream, temperature),
    }
    long_times = _timing.race(long_calls, rounds)

    ratios = {
        "select / categorical": _timing.ratio(times, ["select"], ["categorical"]),
        "select / (argmax + noise)": _timing.ratio(
            times, ["select"], ["argmax of the rewards", "gumbel noise alone"]
        ),
        "eager / categorical": _timing.ratio(times, ["select, called eagerly"], ["categorical"]),
        "rbg: select / categorical": _timing.ratio(
            times, ["select, rbg key"], ["categorical, rbg key"]
        ),
        "one pool: select / categorical high": _timing.ratio(
            long_times, ["select, one pool"], ["categorical, one pool, mode high"]
        ),
    }
    tables = {
        f"{SHAPE[0]} x {SHAPE[1]}, float32": times,
        f"one pool of {stream.size}, float32": long_times,
    }
    return _timing.Report(tables, ratios)
