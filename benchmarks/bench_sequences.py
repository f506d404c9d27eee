"""Decoding beside the model steps it has to take, and the exact law of a thousand symbols."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = True, 20
WIDTH, LENGTH, CANDIDATES = 256, 64, 64


def run(rounds: int, quick: bool) -> _timing.Report:
    """Time a recurrent model decoded by blocks beside its bare steps, and the law of long blocks."""
    weights = jax.random.normal(jax.random.key(0), (WIDTH, WIDTH), jnp.float32) / WIDTH**0.5
    direction = jax.random.normal(jax.random.key(1), (WIDTH,), jnp.float32) / WIDTH**0.5

    def step(key: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        state = jnp.tanh(weights @ state)
        token = jax.random.categorical(key, state)
        return state.at[token].add(1), token, direction @ state

    start = jnp.zeros(WIDTH, jnp.float32)

    @jax.jit
    def bare(key: jax.Array) -> Any:
        """The steps of all candidates, without selection."""

        def one(key: jax.Array) -> Any:
            def advance(state: jax.Array, i: jax.Array) -> Any:
                state, token, reward = step(jax.random.fold_in(key, i), state)
                return state, (token, reward)

            return jax.lax.scan(advance, start, jnp.arange(LENGTH))

        return jax.vmap(one)(jax.random.split(key, CANDIDATES))

    def decode(block_size: int, chunk: int | None = None) -> Any:
        return sb.decode(
            jax.random.key(2), start, step, length=LENGTH, block_size=block_size, n=CANDIDATES,
            temperature=0.5, chunk=chunk,
        )  # fmt: skip

    calls = {
        f"{CANDIDATES * LENGTH} bare steps": lambda: bare(jax.random.key(2)),
        "by symbols": lambda: decode(1),
        "blocks of 8": lambda: decode(8),
        "whole": lambda: decode(LENGTH),
        "whole, 16 candidates at once": lambda: decode(LENGTH, 16),
    }
    times = _timing.race(calls, rounds)
    bare_name = next(iter(calls))
    ratios = {
        f"{name} / bare steps": _timing.ratio(times, [name], [bare_name])
        for name in list(calls)[1:]
    }

    symbol = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 1 / 3, 2 / 3, 1.0])
    log_n = np.array([200.0, 600.0, 1400.0])
    laws = {
        "block_problem, m = 1000": lambda: sb.block_problem(symbol, 1000),
        "blockwise_metrics, m = 1000, 3 n": lambda: sb.blockwise_metrics(
            symbol, 1000, None, 0.3, log_n=log_n
        ),
        "blockwise_metrics, m = 64, 3 n": lambda: sb.blockwise_metrics(
            symbol, 64, None, 0.3, log_n=0.064 * log_n
        ),
    }
    law_times = _timing.race(laws, max(3, rounds // 4))
    tables = {
        f"{CANDIDATES} candidates, {LENGTH} tokens, width {WIDTH}, float32": times,
        "exact laws, float64": law_times,
    }
    return _timing.Report(tables, ratios)
