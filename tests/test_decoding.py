"""Decoding against the exact law of its output, by chi-squared, and its bookkeeping."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import softbon_jax as sb
from tests import oracles
from tests.frequencies import chi_squared_p

# Two states, the token is the next one; rewards depend on where a token comes from.
TRANSITIONS = np.array([[0.7, 0.3], [0.4, 0.6]])
REWARDS = np.array([[0.0, 1.0], [0.5, -0.3]])
LENGTH, N, TEMPERATURE, RUNS = 3, 5, 0.4, 20_000


def markov(key, state):
    symbol, history, position = state
    logits = jnp.log(jnp.asarray(TRANSITIONS))[symbol]
    token = jax.random.categorical(key, logits).astype(jnp.int32)
    reward = jnp.asarray(REWARDS)[symbol, token]
    return (token, history.at[position].set(token), position + 1), token, reward


def independent(key, state):
    """The first row of the chain, whatever came before."""
    after, token, _ = markov(key, (jnp.int32(0), *state[1:]))
    return after, token, jnp.asarray(REWARDS)[0, token]


START = (jnp.int32(0), jnp.full(LENGTH, -1, jnp.int32), jnp.int32(0))


def exact_law(rule, block_size, n, temperature):
    """The probability of every sequence."""
    chain = (TRANSITIONS, REWARDS)
    if rule is independent:
        chain = tuple(np.stack([x[0], x[0]]) for x in chain)
    return oracles.blockwise_law(*chain, LENGTH, block_size, n, temperature)


@functools.partial(jax.jit, static_argnames=("rule", "block_size", "n", "chunk"))
def decoded(key, temperature, rule=markov, block_size=None, n=N, chunk=None):
    def one(key):
        return sb.decode(
            key,
            START,
            rule,
            length=LENGTH,
            block_size=block_size,
            n=n,
            temperature=temperature,
            chunk=chunk,
        )

    return jax.vmap(one)(jax.random.split(key, RUNS))


def assert_law(tokens, law):
    codes = 2 ** np.arange(LENGTH)
    by_code = np.zeros(2**LENGTH)
    for sequence, probability in law.items():
        by_code[np.array(sequence) @ codes] = probability
    assert chi_squared_p(np.asarray(tokens) @ codes, by_code) > 1e-3


@pytest.mark.parametrize(
    ("rule", "block_size"),
    [
        *((markov, size) for size in (1, 2, LENGTH)),
        *((independent, size) for size in (1, 2, LENGTH)),
    ],
)
def test_output_has_the_exact_law(rule, block_size):
    out = decoded(jax.random.key(block_size), TEMPERATURE, rule=rule, block_size=block_size)
    assert_law(out.tokens, exact_law(rule, block_size, N, TEMPERATURE))
    # The state and the rewards are those of the tokens.
    np.testing.assert_array_equal(out.state[1], out.tokens)
    np.testing.assert_array_equal(out.state[2], LENGTH)
    before = np.pad(np.asarray(out.tokens), ((0, 0), (1, 0)))[:, :-1]
    before = np.zeros_like(before) if rule is independent else before
    np.testing.assert_array_equal(out.rewards, REWARDS[before, np.asarray(out.tokens)])
    assert out.log_weights.shape == (RUNS, -(-LENGTH // block_size))


@pytest.mark.slow
def test_streaming_has_the_same_law():
    """Five candidates two at a time: two full batches and a rest."""
    out = decoded(jax.random.key(7), TEMPERATURE, block_size=2, chunk=2)
    assert_law(out.tokens, exact_law(markov, 2, N, TEMPERATURE))


@pytest.mark.slow
def test_independent_symbols_have_the_law_of_sequences():
    """The mean reward of decoding is that of `blockwise_metrics`."""
    symbol = sb.from_probs(TRANSITIONS[0], REWARDS[0])
    for block_size in (1, LENGTH):
        out = decoded(
            jax.random.key(block_size), TEMPERATURE, rule=independent, block_size=block_size
        )
        exact = sb.blockwise_metrics(
            symbol, LENGTH, N, TEMPERATURE, block_size=block_size, nodes=6144
        )
        totals = np.asarray(out.rewards).sum(1)
        error = totals.std() / math.sqrt(RUNS)
        assert abs(totals.mean() - float(exact.reward)) < 5 * error


def test_limits_of_the_temperature():
    hard = decoded(jax.random.key(8), 0.0, block_size=2)
    assert_law(hard.tokens, exact_law(markov, 2, N, 0.0))
    any_of_them = decoded(jax.random.key(9), np.inf, block_size=2)
    assert_law(any_of_them.tokens, exact_law(markov, 2, 1, 1.0))
    np.testing.assert_array_equal(any_of_them.log_weights, 0)
    assert np.asarray(hard.log_weights).min() >= 0
    assert np.asarray(hard.log_weights).max() <= math.log(N) + 1e-12


def test_log_weights_are_those_of_the_selection():
    """Their mean over all tuples of candidates of a block is E Σ p_i log(n p_i)."""
    n = 3
    out = decoded(jax.random.key(10), TEMPERATURE, block_size=LENGTH, n=n, chunk=2)
    _, log_probs, totals = oracles.markov_blocks(TRANSITIONS, REWARDS, 0, LENGTH)
    expected = oracles.expected_log_weight(log_probs, totals, n, TEMPERATURE)
    got = np.asarray(out.log_weights)[:, 0]
    assert abs(got.mean() - expected) < 5 * got.std() / math.sqrt(RUNS)
    law = exact_law(markov, LENGTH, n, TEMPERATURE)
    base = exact_law(markov, LENGTH, 1, TEMPERATURE)
    assert sum(q * math.log(q / base[x]) for x, q in law.items()) < expected


def test_one_candidate_is_the_model():
    key = jax.random.key(11)
    out = sb.decode(key, START, markov, length=LENGTH, n=1, temperature=0.3)
    np.testing.assert_array_equal(out.log_weights, 0)
    assert out.tokens.shape == out.rewards.shape == (LENGTH,)


def test_every_argument_may_be_a_keyword():
    options = {"length": LENGTH, "n": N, "temperature": TEMPERATURE}
    by_position = sb.decode(jax.random.key(12), START, markov, **options)
    by_name = sb.decode(key=jax.random.key(12), step=markov, init_state=START, **options)
    chex.assert_trees_all_equal(by_name, by_position)


def test_pytrees_dtypes_and_one_trace():
    @chex.assert_max_traces(n=4)  # two checks of shapes and two scans
    def step(key, state):
        noise = jax.random.normal(key, (3,), jnp.float32)
        cache = jax.lax.dynamic_update_slice(
            state["cache"], noise[None], (state["at"], jnp.int32(0))
        )
        token = {"vector": noise, "label": state["at"]}
        return {"cache": cache, "at": state["at"] + 1}, token, noise[0].astype(jnp.bfloat16)

    chex.clear_trace_counter()
    state = {"cache": jnp.zeros((5, 3), jnp.float32), "at": jnp.int32(0)}
    for temperature in (0.1, 1.0, 3.0):
        out = sb.decode(
            jax.random.key(0), state, step, length=4, block_size=2, n=6, temperature=temperature
        )
    np.testing.assert_array_equal(out.state["cache"][:4], out.tokens["vector"])
    np.testing.assert_array_equal(out.tokens["label"], np.arange(4))
    assert out.rewards.dtype == jnp.bfloat16
    assert out.log_weights.dtype == jnp.float32


def test_excluded_candidates_and_blocks_without_any():
    def step(key, state):
        token = jax.random.bernoulli(key, 0.5)
        return state, token, jnp.where(token, 0.0, -jnp.inf)

    keys = jax.random.split(jax.random.key(1), 500)
    run = jax.vmap(lambda key: sb.decode(key, (), step, length=1, n=2, temperature=1.0))
    out = run(keys)
    none = np.isnan(np.asarray(out.log_weights)[:, 0])
    np.testing.assert_array_equal(np.asarray(out.tokens)[:, 0], ~none)
    assert stats.binomtest(int(none.sum()), 500, 0.25).pvalue > 1e-3
    # One candidate of two was left, or both were: log 2 or 0.
    weights = np.round(np.asarray(out.log_weights)[~none, 0], 12)
    assert set(weights) == {0.0, round(math.log(2), 12)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"block_size": 4}, "block_size must be an integer from 1 to 3, got 4"),
        ({"n": 0}, "n must be an integer of at least 1, got 0"),
        ({"n": 2.0}, r"n must be an integer of at least 1, got 2\.0"),
        ({"chunk": 9}, "chunk must be an integer from 1 to 2, got 9"),
        ({"temperature": -1.0}, r"temperature must be.*got -1\.0"),
        ({"temperature": np.ones(2)}, r"temperature must be a scalar, got shape \(2,\)"),
        ({"step": lambda key, state: (state[:1], 0, jnp.float32(0))}, "step must keep the dtypes"),
        ({"step": lambda key, state: (state, 0, jnp.zeros(2))}, r"scalar float.*\(2,\)"),
        ({"step": lambda key, state: (state, 0, 1)}, "scalar float reward, got int"),
    ],
)
def test_bad_arguments_are_named(options, message):
    options = {"step": markov, "length": LENGTH, "n": 2, "temperature": 1.0} | options
    step = options.pop("step")
    with pytest.raises(ValueError, match=message):
        sb.decode(jax.random.key(0), START, step, **options)


def test_untyped_keys_are_refused():
    with pytest.raises(TypeError, match="typed PRNG key"):
        sb.decode(jnp.zeros(2, jnp.uint32), START, markov, length=2, n=2, temperature=1.0)
