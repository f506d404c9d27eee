"""Weighted votes from random subsets: against all subsets, plain votes, and their own spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax.pools import _weighted
from tests import oracles

SUBSETS = 4000


@pytest.fixture(scope="module")
def ragged():
    """Pools of 9, 7, 1 and 9; integer weights, so that totals tie, and a pool with many of weight 0."""
    random = np.random.default_rng(0)
    answers = random.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=(4, 9))
    weights = random.integers(0, 4, size=(4, 9)).astype(float)
    weights[3, 2:] = 0
    where = np.ones((4, 9), bool)
    where[1, [0, 5]] = where[2, 1:] = False
    weights[~where] = np.nan
    return answers, weights, where


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_all_subsets(ragged, combine):
    answers, weights, where = ragged
    n, options = np.arange(1, 10), {"num_classes": 4, "subsets": SUBSETS, "combine": combine}
    got = sb.pool_weighted_votes(jax.random.key(0), answers, weights, n, where=where, **options)
    for p, kept in enumerate(where):
        for i, size in enumerate(n.tolist()):
            if size > kept.sum():
                assert np.isnan(got.estimate[p, i]).all()
                assert np.isnan(got.standard_error[p, i]).all()
                continue
            exact = oracles.weighted_votes_over_subsets(
                answers[p, kept], weights[p, kept], size, 4, combine
            )
            bound = np.sqrt(exact * (1 - exact) / (SUBSETS - 1))
            off = np.abs(got.estimate[p, i] - exact)
            assert (off <= 4.5 * bound + 1e-12).all(), (p, size)
            assert (got.standard_error[p, i] <= 1.2 * bound + 3 / SUBSETS).all(), (p, size)
    np.testing.assert_array_equal(got.standard_error[0, 8], 0)  # the whole pool


def test_its_error_is_its_spread():
    """Of many prompts that are the same; every one has subsets of its own."""
    random = np.random.default_rng(1)
    answers, weights = random.integers(0, 3, 12), random.integers(1, 4, 12)
    got = sb.pool_weighted_votes(
        jax.random.key(1), *(np.tile(x, (400, 1)) for x in (answers, weights)), [2, 6], subsets=50
    )
    spread = np.std(got.estimate, axis=0, ddof=1)
    np.testing.assert_allclose(got.standard_error.mean(axis=0), spread, rtol=0.15)
    exact = np.array([oracles.weighted_votes_over_subsets(answers, weights, n, 3) for n in (2, 6)])
    assert (np.abs(got.estimate.mean(axis=0) - exact) < 4.5 * spread / 20).all()


def test_equal_weights_are_plain_votes():
    answers = np.random.default_rng(2).choice(5, p=[0.3, 0.3, 0.2, 0.1, 0.1], size=(1, 64))
    n = [1, 8, 33]
    plain = sb.pool_votes(answers, n)
    got = sb.pool_weighted_votes(jax.random.key(2), answers, np.full((1, 64), 0.3), n, subsets=9999)
    assert (np.abs(got.estimate - plain) < 4.5 * got.standard_error + 1e-3).all()
    np.testing.assert_allclose(got.estimate.sum(axis=-1), 1, rtol=1e-12)


@pytest.mark.slow
def test_the_same_subsets_however_many_at_once(ragged, monkeypatch):
    answers, weights, _ = ragged
    given = jnp.asarray(answers[0]), jnp.asarray(weights[0]), jnp.ones(9, bool), jnp.array([2, 5])
    found = []
    for together in (1, 700, 10**6):
        monkeypatch.setattr(_weighted, "TOGETHER", together)
        key = jax.random.key(3)
        found.append(_weighted.weighted_votes(key, *given, subsets=100, num_classes=4))
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=1e-12)


def test_every_candidate_is_drawn_as_often():
    """Whatever its slot: each has an answer of its own, and the weights say who wins."""
    slots = 100
    answers = np.tile(np.arange(slots), (40, 1))
    got = sb.pool_weighted_votes(
        jax.random.key(4), answers, np.ones((40, slots)), [1, 99], subsets=200
    )
    for estimate in np.moveaxis(got.estimate, 1, 0):
        z = (estimate.mean(axis=0) * slots - 1) / np.sqrt(estimate.var() * slots**2 / 40)
        assert 0.6 < (z**2).mean() < 1.5


def test_traced_single_and_without_overflow(ragged):
    answers, weights, where = ragged
    keys = jax.random.split(jax.random.key(5), 4)

    @jax.jit
    def traced(key, answers, weights, n):
        return sb.pool_weighted_votes(
            key, answers, weights, n, where=where, num_classes=4, subsets=20
        ).estimate

    with jax.debug_key_reuse(False):
        first = traced(keys[0], answers, weights, 3)
        large = traced(keys[0], answers, weights * 5e307, 3)
        np.testing.assert_allclose(large, first, rtol=1e-12)
        bad = traced(keys[0], answers, np.where(answers == 2, -1.0, weights), 3)
        assert np.isnan(bad[0]).all()
        assert not np.isnan(first[np.array([0, 1, 3])]).any()
        other = traced(keys[1], answers, weights, 3)
        assert (other != first)[0].any()
    single = sb.pool_weighted_votes(
        keys[2], answers, weights.astype(np.float32), 3, where=where, num_classes=4, subsets=1
    )
    assert single.estimate.dtype == jnp.float32
    assert np.isnan(single.standard_error).all()


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (
            [[1.0, -1.0]],
            {},
            r"weights must be finite and at least 0 .*, got -1.0 at index \(0, 1\)",
        ),
        (
            [[1.0, np.inf]],
            {},
            r"weights must be finite and at least 0 .*, got inf at index \(0, 1\)",
        ),
        ([1.0, 1.0], {}, r"weights has shape \(2,\), answers has shape \(1, 2\)"),
        ([[1.0, 1.0]], {"subsets": 0}, "subsets must be an integer of at least 1, got 0"),
        ([[1.0, 1.0]], {"combine": "max"}, "combine must be 'sum' or 'mean', got 'max'"),
    ],
)
def test_bad_arguments_are_explained(weights, options, message):
    with pytest.raises(ValueError, match=message):
        sb.pool_weighted_votes(jax.random.key(0), [[0, 1]], weights, 1, **options)
