"""Votes of n of a pool: against all subsets, closed forms, and large pools by simulation."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles


@pytest.fixture(scope="module")
def ragged():
    """Pools of 9, 7 and 1 with holes, and one where all answers differ."""
    random = np.random.default_rng(0)
    answers = random.choice(5, p=[0.4, 0.3, 0.1, 0.1, 0.1], size=(4, 9))
    answers[3] = np.arange(9) % 5
    where = np.ones((4, 9), bool)
    where[1, [0, 5]] = where[2, 1:] = False
    return answers, where


def test_all_subsets(ragged):
    answers, where = ragged
    n = np.arange(1, 10)
    got = sb.pool_votes(np.where(where, answers, 99), n, where=where, num_classes=5)
    assert got.shape == (4, 9, 5)
    for p, size in itertools.product(range(4), n.tolist()):
        pool = answers[p, where[p]]
        if size > pool.size:
            assert np.isnan(got[p, size - 1]).all()
            continue
        exact = oracles.votes_over_subsets(pool, size, 5)
        np.testing.assert_allclose(got[p, size - 1], exact, rtol=1e-13, atol=1e-16)


@pytest.mark.slow
def test_one_n_and_traced_arguments(ragged):
    answers, where = ragged
    expected = sb.pool_votes(answers, [2, 3, 7], where=where, num_classes=5)
    one = sb.pool_votes(answers, 3, where=where)
    np.testing.assert_allclose(one, expected[:, 1], rtol=1e-13)
    traced = jax.jit(lambda *x: sb.pool_votes(x[0], x[1], where=x[2], num_classes=5))
    got = traced(jnp.asarray(answers), jnp.array([2, 3, 7]), where)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    bad = traced(jnp.asarray(answers).at[0, 0].set(7), jnp.array([2, 0, 12]), where)
    assert np.isnan(bad[0]).all()
    assert np.isnan(bad[:, 1:]).all()
    assert not np.isnan(bad[1, 0]).any()


def test_two_answers_are_a_hypergeometric_law():
    """Also where the rare answer wins with a small chance, to all digits."""
    size, ones = 100, 20
    answers = (np.arange(size) < ones).astype(int)[None]
    together = sb.pool_votes(answers, [1, 2, 21, 30])
    for i, n in enumerate((1, 2, 21, 30)):
        total = 0.0
        for c in range(n + 1):
            share = math.comb(ones, c) * math.comb(size - ones, n - c) / math.comb(size, n)
            total += share * (1.0 if 2 * c > n else 0.5 if 2 * c == n else 0.0)
        np.testing.assert_allclose(together[0, i], [1 - total, total], rtol=1e-11)


def test_the_smallest_and_the_largest_n_together():
    """No factor is too small for a float, though that of 1 in 200 among all 200 is 1e-460."""
    got = sb.pool_votes((np.arange(200) < 80).astype(int)[None], [1, 200])
    np.testing.assert_allclose(got[0], [[0.6, 0.4], [1, 0]], rtol=1e-11)


def test_many_answers_that_tie():
    """All different, every one is as likely: as many ties as there can be."""
    got = sb.pool_votes(np.arange(24)[None], [1, 5, 24])
    np.testing.assert_allclose(got, 1 / 24, rtol=1e-13)
    pairs = sb.pool_votes(np.repeat(np.arange(12), 2)[None], [2, 23])
    np.testing.assert_allclose(pairs, 1 / 12, rtol=1e-13)


@pytest.mark.slow
def test_a_large_pool_against_simulation():
    random = np.random.default_rng(1)
    answers = random.choice(6, p=[0.3, 0.25, 0.2, 0.15, 0.05, 0.05], size=64)
    got = sb.pool_votes(answers[None], 16)[0]
    trials = 20_000
    chosen = answers[random.random((trials, 64)).argpartition(15, axis=1)[:, :16]]
    counts = (chosen[:, :, None] == np.arange(6)).sum(1)
    most = counts == counts.max(1, keepdims=True)
    share = most / most.sum(1, keepdims=True)
    error = share.std(0) / math.sqrt(trials)
    assert (np.abs(share.mean(0) - got) < 4.5 * error + 1e-9).all()


@pytest.mark.slow
def test_float32(ragged):
    answers, where = ragged
    expected = sb.pool_votes(answers, [2, 5], where=where)
    with jax.enable_x64(False):
        got = sb.pool_votes(answers, [2, 5], where=where)
        assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-12)
    with jax.enable_x64(False):
        many = sb.pool_votes(np.arange(64)[None] % 7, [1, 8, 64])
    np.testing.assert_allclose(many.sum(-1), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        (np.zeros(3, int), {}, r"answers must be \[prompts, N\], got shape \(3,\)"),
        (np.zeros((0, 3), int), {}, r"answers must not be empty, got shape \(0, 3\)"),
        ([[0.5, 1.0]], {}, r"answers must be integers of at least 0, got 0.5 at index \(0, 0\)"),
        ([[0, -1]], {}, r"answers must be integers of at least 0, got -1 at index \(0, 1\)"),
        ([[0, 3]], {"num_classes": 3}, r"answers must be below num_classes = 3, got 3"),
        ([[0, 3]], {"num_classes": 0}, "num_classes must be an integer of at least 1, got 0"),
        ([[0, 3]], {"where": [[False, False]]}, "candidates in a pool must be at least 1"),
    ],
)
def test_bad_arguments_are_explained(answers, options, message):
    with pytest.raises(ValueError, match=message):
        sb.pool_votes(answers, 1, **options)


def test_classes_must_be_known():
    with pytest.raises(ValueError, match="num_classes must be given where answers"):
        jax.jit(lambda x: sb.pool_votes(x, 1))(np.zeros((1, 3), int))
    with pytest.raises(ValueError, match="n must be at most 2, the largest pool, got 3"):
        sb.pool_votes([[0, 1]], 3)
