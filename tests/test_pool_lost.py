"""Draws of reward -inf are kept and lose to any other; sentinels round nothing away; averages tie."""

import itertools

import jax
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax._averages import mean_last

REWARDS = np.array([[1.0, -np.inf, 0.5, 2.0, -np.inf, 0.0], [3.0, 3.0, -1.0, 0.0, 7.0, 2.0]])
VALUES = np.array([[1.0, 0.25, 0.0, 1.0, 0.0, 0.5], [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]])


def selected(rewards, values, n, temperature):
    """The mean over all subsets, by enumeration."""
    total = []
    for chosen in itertools.combinations(range(rewards.size), n):
        r, v = rewards[list(chosen)], values[list(chosen)]
        if np.isneginf(r).all() or np.isinf(temperature):
            w = np.isfinite(r) if np.isfinite(r).any() else np.ones(n)
        else:
            w = r == r.max() if temperature == 0 else np.exp((r - r.max()) / temperature)
        total.append(np.sum(w * v) / np.sum(w))
    return np.mean(total)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lost_draws_lose_to_any_other(dtype):
    n, temperature = [1, 2, 3, 6], [0.0, 1e-2, 0.5, 30.0, np.inf]
    with jax.enable_x64(dtype == np.float64):
        curve = sb.pool_curve(
            REWARDS.astype(dtype), n, temperature, values=VALUES.astype(dtype)
        ).per_prompt
    expected = [
        [[selected(r, v, k, t) for k in n] for t in temperature]
        for r, v in zip(REWARDS, VALUES, strict=True)
    ]
    np.testing.assert_allclose(curve, expected, atol=1e-13 if dtype == np.float64 else 1e-6)


@pytest.mark.slow
def test_their_divergence_is_that_of_a_very_low_score():
    n = [1, 2, 5]
    with jax.enable_x64(True):
        low = np.where(np.isfinite(REWARDS), REWARDS, -1e4)
        for t in (0.0, 0.5, 3.0):
            kl, expected = sb.pool_kl(REWARDS, n, t), sb.pool_kl(low, n, t)
            np.testing.assert_allclose(kl.per_prompt, expected.per_prompt, rtol=1e-9, atol=1e-14)
            size = sb.pool_effective_size(REWARDS, t)
            np.testing.assert_allclose(size, sb.pool_effective_size(low, t), rtol=1e-12)
        np.testing.assert_allclose(sb.pool_effective_size(REWARDS, np.inf), [4, 6], rtol=1e-12)


def test_lost_draws_need_a_value():
    with pytest.raises(ValueError, match=r"values must be finite where they count, got -inf"):
        sb.pool_curve(REWARDS, [1, 2], 0.5)
    for bad in (np.inf, np.nan):
        with pytest.raises(ValueError, match="rewards must be finite or -inf where they count"):
            sb.pool_kl(np.where(np.isfinite(REWARDS), REWARDS, bad), [1, 2], 0.5)


def test_a_sentinel_rounds_nothing_away():
    low = np.where(np.isfinite(REWARDS[:1]), REWARDS[:1], -1e9)
    for t, expected in ((0.0, 1.6333333), (0.5, 1.4930)):
        curve = sb.pool_curve(low.astype(np.float32), [1, 4], t).mean
        assert float(curve[1]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_half_precision_is_used_as_single():
    rewards = np.random.default_rng(1).normal(size=(2, 300)) * 3 + 5
    for dtype in (np.float16, jax.numpy.bfloat16):
        half = jax.numpy.asarray(rewards).astype(dtype)
        single = half.astype(np.float32)
        for t in (0.0, 0.5):
            kl, expected = (sb.pool_kl(x, [2, 8, 257], t) for x in (half, single))
            np.testing.assert_array_equal(kl.mean, expected.mean)
        curve = sb.pool_curve(half, [256, 257], 0.0).per_prompt
        assert curve.dtype == np.float32


# Averages ----------------------------------------------------------------------------------------


def test_averages_tie_where_they_tie_exactly():
    marks = [[0.1, 0.7], [0.4, 0.4], [0.3, 0.5], [0.35, 0.45], [0.799, 0.001]]
    assert len({sum(row) for row in marks}) > 1
    for dtype in (np.float64, np.float32):
        assert len(set(mean_last(np.array(marks, dtype)))) == 1
    three = np.array(list(itertools.permutations([1 / 3, 0.1, 2**0.5])))
    assert len(set(mean_last(three))) == 1
    np.testing.assert_allclose(mean_last(three), three.mean(1), rtol=1e-15)
    extreme = np.array([[-np.inf, 1.0], [1e308, 1e308]])
    np.testing.assert_array_equal(mean_last(extreme), [-np.inf, 1e308])


def test_judges_that_are_left_out_leave_ties():
    """Three marks in any order, and a fourth judge."""
    with jax.enable_x64(True):
        judges = np.array([[[*row, 0.5] for row in itertools.permutations([0.1, 0.2, 0.3])]])
        for turns in (sb.leave_one_out(judges), jax.jit(sb.leave_one_out)(judges)):
            assert np.unique(turns.rewards[3]).size == 1
        curve = sb.leave_one_out_curve(judges, [1, 2, 6], 0.0).mean
        sums = [np.delete(judges[0], j, 1).sum(1).round(6) for j in range(4)]
        expected = [
            np.mean([selected(sums[j], judges[0, :, j], n, 0.0) for j in range(4)])
            for n in (1, 2, 6)
        ]
        np.testing.assert_allclose(curve, expected, rtol=1e-13)
