"""Win rates from pools: against all subsets with all that is left out, closed forms, exact laws."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles

TEMPERATURES = np.array([0.0, 1e-3, 0.1, 0.5, 100.0, np.inf])


@pytest.fixture(scope="module")
def ragged():
    """Pools of 9, 7, 2 and 1 with ties, one with two scores only, and holes."""
    random = np.random.default_rng(0)
    rewards = np.round(random.normal(size=(5, 9)), 1)
    rewards[0, 1:3], rewards[1], rewards[1, 4] = rewards[0, 0], 0.3, 0.5
    where = np.ones((5, 9), bool)
    where[2, [1, 5]] = where[3, 2:] = where[4, 1:] = False
    expected = np.full((5, TEMPERATURES.size, 8), np.nan)
    for p, (i, t), n in itertools.product(range(5), enumerate(TEMPERATURES), range(1, 9)):
        pool = rewards[p, where[p]]
        if n < pool.size:
            expected[p, i, n - 1] = oracles.win_rate_over_subsets(pool, n, t)
    return np.where(where, rewards, np.nan), where, expected


def test_all_subsets_and_all_that_is_left_out(ragged):
    rewards, where, expected = ragged
    rate = sb.pool_win_rate(rewards, np.arange(1, 9), TEMPERATURES, where=where)
    np.testing.assert_allclose(rate.per_prompt, expected, rtol=1e-13)
    np.testing.assert_array_equal(rate.prompts, [4] + [3] * 5 + [2] * 2)
    np.testing.assert_allclose(rate.mean, np.nanmean(expected, axis=0), rtol=1e-13)
    spread = np.nanstd(expected[:, :, 1], axis=0, ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(rate.standard_error[:, 1], spread, rtol=1e-10, atol=1e-15)


def test_traced_and_single(ragged):
    rewards, where, expected = ragged
    n, few = np.array([1, 6]), TEMPERATURES[[0, 3]]
    traced = jax.jit(lambda *x: sb.pool_win_rate(x[0], x[1], x[2], where=where).per_prompt)
    got = traced(rewards, jnp.asarray(n), few)
    np.testing.assert_allclose(got, expected[:, [0, 3]][:, :, n - 1], rtol=1e-13)
    kept = slice(0, 1)
    single = sb.pool_win_rate(
        rewards[kept].astype(np.float32), n, few.astype(np.float32), where=where[kept]
    )
    assert single.mean.dtype == jnp.float32
    np.testing.assert_allclose(single.per_prompt, expected[kept][:, [0, 3]][:, :, n - 1], rtol=1e-5)


def test_closed_forms_in_a_large_pool():
    scores = np.random.default_rng(1).permutation(300).astype(float)[None]
    n = np.array([1, 2, 30, 299])
    rate = sb.pool_win_rate(scores, n, [0.0, 1e-300, np.inf])
    np.testing.assert_allclose(rate.mean[:2], [n / (n + 1.0)] * 2, rtol=1e-12)
    np.testing.assert_allclose(rate.mean[2], 0.5)


def test_unbiased_for_the_exact_law():
    """The mean over all pools of a small alphabet, ties among them, is the exact win rate."""
    probs, size, n, temperature = np.array([0.5, 0.3, 0.2]), 5, 3, 0.3
    rewards = np.array([0.0, 0.3, 1.0])
    pools = np.array(list(itertools.product(range(3), repeat=size)))
    chance = np.prod(probs[pools], axis=1)
    rate = sb.pool_win_rate(rewards[pools], n, [0.0, temperature])
    for i, t in enumerate((0.0, temperature)):
        law = oracles.law_by_tuples(np.log(probs), rewards, n, t)
        beaten = (rewards[:, None] > rewards) + 0.5 * (rewards[:, None] == rewards)
        assert math.isclose(chance @ rate.per_prompt[:, i], law @ beaten @ probs, rel_tol=1e-12)


@pytest.mark.slow
def test_its_derivative_by_the_temperature():
    scores = np.random.default_rng(2).normal(size=(3, 8))

    def mean(t):
        return sb.pool_win_rate(scores, 3, t, nodes=256).mean

    step = 1e-5
    slope = float(mean(0.4 + step) - mean(0.4 - step)) / (2 * step)
    assert float(jax.grad(mean)(0.4)) == pytest.approx(slope, rel=1e-6)


def test_a_fresh_draw_must_be_left():
    with pytest.raises(ValueError, match="n must be at most 2, the largest pool less 1, got 3"):
        sb.pool_win_rate(np.ones((2, 3)), 3, 0.5)
