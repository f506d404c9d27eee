"""Win rates from pools: against all subsets with all that is left out, closed forms, exact laws."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles

TEMPERATURES = np.array([0.0, 1e-3, 0.1, 0.5, 100.0, np.inf])
AGAINST = (1, 3)


@pytest.fixture(scope="module")
def ragged():
    """Pools of 9, 7, 2 and 1 with ties, one with two scores only, and holes."""
    random = np.random.default_rng(0)
    rewards = np.round(random.normal(size=(5, 9)), 1)
    rewards[0, 1:3], rewards[1], rewards[1, 4] = rewards[0, 0], 0.3, 0.5
    where = np.ones((5, 9), bool)
    where[2, [1, 5]] = where[3, 2:] = where[4, 1:] = False
    expected = {}
    for others in AGAINST:
        expected[others] = np.full((5, TEMPERATURES.size, 8), np.nan)
        for p, (i, t), n in itertools.product(range(5), enumerate(TEMPERATURES), range(1, 9)):
            pool = rewards[p, where[p]]
            if n + others <= pool.size:
                expected[others][p, i, n - 1] = oracles.win_rate_over_subsets(pool, n, t, others)
    return np.where(where, rewards, np.nan), where, expected


def test_all_subsets_and_all_that_is_left_out(ragged):
    rewards, where, expected = ragged[0], ragged[1], ragged[2][1]
    rate = sb.pool_win_rate(rewards, np.arange(1, 9), TEMPERATURES, where=where)
    np.testing.assert_allclose(rate.per_prompt, expected, rtol=1e-13)
    np.testing.assert_array_equal(rate.prompts, [4] + [3] * 5 + [2] * 2)
    np.testing.assert_allclose(rate.mean, np.nanmean(expected, axis=0), rtol=1e-13)
    spread = np.nanstd(expected[:, :, 1], axis=0, ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(rate.standard_error[:, 1], spread, rtol=1e-10, atol=1e-15)


def test_all_subsets_and_all_sets_of_three_others(ragged):
    rewards, where, expected = ragged[0], ragged[1], ragged[2][3]
    rate = sb.pool_win_rate(rewards, np.arange(1, 7), TEMPERATURES, where=where, against=3)
    np.testing.assert_allclose(rate.per_prompt, expected[:, :, :6], rtol=1e-13)
    np.testing.assert_array_equal(rate.prompts, [3, 3, 3, 3, 2, 2])


@pytest.mark.slow
@pytest.mark.parametrize("others", AGAINST)
def test_traced_and_single(ragged, others):
    rewards, where, expected = ragged[0], ragged[1], ragged[2][others]
    n, few = np.array([1, 6]), TEMPERATURES[[0, 3]]

    @jax.jit
    def traced(rewards, n, temperature):
        return sb.pool_win_rate(rewards, n, temperature, where=where, against=others).per_prompt

    got = traced(rewards, jnp.asarray(n), few)
    np.testing.assert_allclose(got, expected[:, [0, 3]][:, :, n - 1], rtol=1e-13)
    kept = slice(0, 1)
    single = sb.pool_win_rate(
        rewards[kept].astype(np.float32),
        n,
        few.astype(np.float32),
        where=where[kept],
        against=others,
    )
    assert single.mean.dtype == jnp.float32
    np.testing.assert_allclose(single.per_prompt, expected[kept][:, [0, 3]][:, :, n - 1], rtol=1e-5)


@pytest.mark.parametrize("others", [1, 200])
def test_closed_forms_in_a_large_pool(others):
    """Also where C(N - n, `against`) is above 1e80, and where it is 1."""
    scores = np.random.default_rng(1).permutation(300).astype(float)[None]
    n = np.array([1, 2, 30, 300 - others])
    rate = sb.pool_win_rate(scores, n, [0.0, 1e-300, np.inf], against=others)
    np.testing.assert_allclose(rate.mean[:2], [n / (n + others)] * 2, rtol=1e-12)
    np.testing.assert_allclose(rate.mean[2], 1 / (1 + others), rtol=1e-15)


def test_ties_in_a_large_pool():
    """All tied it is 1/(1 + `against`); two scores give a sum over hypergeometric laws."""
    size, good, n, others = 200, 60, 20, 30
    scores = (np.arange(size) < good).astype(float)
    rate = sb.pool_win_rate(np.stack([np.zeros(size), scores]), n, 0.0, against=others)
    assert float(rate.per_prompt[0]) == pytest.approx(1 / (1 + others), rel=1e-12)
    bad, ways = size - good, math.comb
    none = ways(bad, n) * ways(bad - n, others)  # of the good: all of these tie
    total = Fraction(none, 1 + others)
    for own, tied in itertools.product(range(1, n + 1), range(others + 1)):
        chosen = ways(good, own) * ways(bad, n - own)
        drawn = ways(good - own, tied) * ways(bad - n + own, others - tied)
        total += Fraction(chosen * drawn, 1 + tied)
    total /= ways(size, n) * ways(size - n, others)
    assert float(rate.per_prompt[1]) == pytest.approx(float(total), rel=1e-12)


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
@pytest.mark.parametrize("others", AGAINST)
def test_its_derivative_by_the_temperature(others):
    scores = np.random.default_rng(2).normal(size=(3, 8))

    def mean(t):
        return sb.pool_win_rate(scores, 3, t, nodes=256, against=others).mean

    step = 1e-5
    slope = float(mean(0.4 + step) - mean(0.4 - step)) / (2 * step)
    assert float(jax.grad(mean)(0.4)) == pytest.approx(slope, rel=1e-6)


def test_a_fresh_draw_must_be_left():
    with pytest.raises(ValueError, match="n must be at most 2, the largest pool less 1, got 3"):
        sb.pool_win_rate(np.ones((2, 3)), 3, 0.5)
    with pytest.raises(ValueError, match="n must be at most 1, the largest pool less 2, got 2"):
        sb.pool_win_rate(np.ones((2, 3)), 2, 0.5, against=2)
    with pytest.raises(ValueError, match="against must be below 3, the largest pool, got 3"):
        sb.pool_win_rate(np.ones((2, 3)), 1, 0.5, against=3)
    with pytest.raises(ValueError, match="against must be an integer of at least 1, got 0"):
        sb.pool_win_rate(np.ones((2, 3)), 1, 0.5, against=0)
