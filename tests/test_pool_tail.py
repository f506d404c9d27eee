"""Quantiles, means of the worst and paired differences: against weights summed by hand, and coverage."""

import math

import jax
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles


@pytest.fixture(scope="module")
def ragged():
    """Pools of 7, 5 and 2 with ties and holes, and what is selected at n = 3: (values, chances)."""
    random = np.random.default_rng(0)
    rewards, values = np.round(random.normal(size=(2, 4, 7)), 1)
    where = np.ones((4, 7), bool)
    where[1, [1, 4]] = where[2, 2:] = False
    atoms = []
    for p in (0, 1, 3):
        v, r = values[p, where[p]], rewards[p, where[p]]
        chances = [oracles.mean_over_subsets(r, row, 3, 0.4) for row in np.eye(v.size)]
        atoms.append((v, np.array(chances)))
    return rewards, values, where, atoms


def test_against_the_weights(ragged):
    rewards, values, where, atoms = ragged
    levels = np.array([0.05, 0.3, 0.9])
    tail = sb.pool_tail(rewards, levels, 3, 0.4, values=values, where=where)
    assert int(tail.prompts) == 3
    v, chance = (np.concatenate(x) for x in zip(*atoms, strict=True))
    order = np.argsort(v, kind="stable")
    v, chance = v[order], chance[order] / 3
    for i, level in enumerate(levels):
        quantile = v[np.searchsorted(np.cumsum(chance), level)]
        assert tail.quantile[i] == quantile
        below = np.minimum(np.cumsum(chance), level)
        worst = np.diff(below, prepend=0) @ v / level
        assert float(tail.mean_below[i]) == pytest.approx(worst, rel=1e-12)
        each = [c @ np.minimum(x - quantile, 0) / level for x, c in atoms]
        error = np.std(each, ddof=1) / math.sqrt(3)
        assert float(tail.standard_error[i]) == pytest.approx(error, rel=1e-10)
    assert (tail.low <= tail.quantile).all()
    assert (tail.quantile <= tail.high).all()


@pytest.mark.slow
def test_shapes_and_a_bar(ragged):
    rewards, values, where, _ = ragged
    options = {"values": values, "where": where}
    tail = sb.pool_tail(rewards, [0.2, 0.5], [1, 3, 7], [0.0, 0.4], **options)
    assert tail.quantile.shape == tail.high.shape == (2, 3, 2)
    np.testing.assert_array_equal(tail.prompts, [4, 3, 2])
    one = sb.pool_tail(rewards, 0.5, 3, 0.4, **options)
    assert one.quantile.shape == ()
    np.testing.assert_allclose(one.mean_below, tail.mean_below[1, 1, 1], rtol=1e-12)
    at_most, less = (1.0 * (x <= float(one.quantile)) for x in (values, values + 1e-9))
    reached = sb.pool_curve(rewards, 3, 0.4, values=at_most, where=where)
    before = sb.pool_curve(rewards, 3, 0.4, values=less, where=where)
    assert before.mean < 0.5 <= reached.mean


@pytest.mark.slow
@pytest.mark.computes
def test_intervals_cover():
    """Prompts of different quality; the truth from a very large sample of them."""
    random = np.random.default_rng(1)

    def drawn(prompts):
        quality = random.normal(size=(prompts, 1))
        return quality + random.normal(size=(prompts, 8))

    truth = sb.pool_tail(drawn(100_000), 0.2, 4, 0.5)
    covered, means = 0, []
    for _ in range(200):
        tail = sb.pool_tail(drawn(100), 0.2, 4, 0.5, confidence=0.9)
        covered += bool((tail.low <= truth.quantile) & (truth.quantile <= tail.high))
        means.append(abs(tail.mean_below - truth.mean_below) < 1.645 * tail.standard_error)
    assert 165 <= covered <= 195
    assert 165 <= sum(map(bool, means)) <= 195


def test_bad_levels_are_explained():
    for level in (0.0, 1.0, [0.5, 2.0]):
        with pytest.raises(ValueError, match="level must be strictly between 0 and 1"):
            sb.pool_tail(np.ones((2, 3)), level, 1, 0.5)
    with pytest.raises(ValueError, match=r"confidence must be a scalar, got shape \(1,\)"):
        sb.pool_tail(np.ones((2, 3)), 0.5, 1, 0.5, confidence=[0.9])


# Differences --------------------------------------------------------------------------------------


def test_paired_differences():
    random = np.random.default_rng(2)
    first, second = random.normal(size=(6, 3, 2)), random.normal(size=(6, 2))
    first[0, 1, 0], second[2, 0] = np.nan, np.nan
    got = sb.curve_difference(first, second)
    each = first - second[:, None]
    np.testing.assert_array_equal(got.prompts, (~np.isnan(each)).sum(0))
    np.testing.assert_allclose(got.mean, np.nanmean(each, axis=0), rtol=1e-13)
    error = np.nanstd(each, axis=0, ddof=1) / np.sqrt((~np.isnan(each)).sum(0))
    np.testing.assert_allclose(got.standard_error, error, rtol=1e-12)
    np.testing.assert_array_equal(got.per_prompt, each)
    traced = jax.jit(sb.curve_difference)(first, second)
    np.testing.assert_allclose(traced.mean, got.mean, rtol=1e-13)


def test_it_is_much_better_known_than_either():
    quality = np.random.default_rng(3).normal(size=(50, 1))
    scores = 5 * quality + np.random.default_rng(4).normal(size=(50, 8))
    curve = sb.pool_curve(scores, [2, 4], 0.5)
    gain = sb.curve_difference(curve.per_prompt[:, 1], curve.per_prompt[:, 0])
    assert float(gain.mean) == pytest.approx(float(curve.mean[1] - curve.mean[0]), rel=1e-10)
    assert gain.standard_error < 0.1 * curve.standard_error.min()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (1.0, [1.0], r"first must be \[prompts, ...\], got shape \(\)"),
        ([1.0], np.ones((0, 2)), r"second must be \[prompts, ...\], got shape \(0, 2\)"),
        ([1.0, 2.0], [1.0], "first has 2 prompts, second has 1"),
        (np.ones((2, 3)), np.ones((2, 2)), r"must broadcast, got shapes \(2, 3\) and \(2, 2\)"),
    ],
)
def test_bad_pairs_are_explained(first, second, message):
    with pytest.raises(ValueError, match=message):
        sb.curve_difference(first, second)
