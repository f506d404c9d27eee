"""Credits: against all subsets, exact gradients over all pools, the known weights of the hard case."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles

TEMPERATURES = (0.0, 1e-3, 0.1, 0.5, 3.0, np.inf)


@pytest.fixture(scope="module")
def ragged():
    """Pools of 9, 7 and 1 with ties, among them a pool of two scores only, and holes."""
    random = np.random.default_rng(0)
    rewards, values = np.round(random.normal(size=(4, 9)), 1), random.normal(size=(4, 9))
    rewards[0, 1:3], rewards[1], rewards[1, 4] = rewards[0, 0], 0.3, 0.5
    where = np.ones((4, 9), bool)
    where[2, [1, 5]] = where[3, 1:] = False
    return np.where(where, rewards, np.nan), values, where


def expected(ragged, n, temperature, baseline):
    rewards, values, where = ragged
    out = np.zeros(rewards.shape)
    for p, kept in enumerate(where):
        if n > kept.sum():
            out[p, kept] = np.nan
        else:
            pool = rewards[p, kept], values[p, kept]
            out[p, kept] = oracles.credits_over_subsets(*pool, n, temperature, baseline)
    return out


@pytest.mark.parametrize(
    "baseline", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["less", "whole"]
)
def test_the_mean_over_all_subsets(ragged, baseline):
    """At every n: n = N among them, where the only subset is the pool."""
    rewards, values, where = ragged

    @jax.jit
    def traced(n, temperature):
        return sb.pool_credits(
            rewards, n, temperature, values=values, baseline=baseline, where=where, nodes=2048
        )

    for n, temperature in itertools.product((1, 2, 4, 7, 8, 9), TEMPERATURES):
        exact = expected(ragged, n, temperature, baseline)
        got = traced(n, temperature)
        np.testing.assert_allclose(got, exact, rtol=0, atol=1e-13, err_msg=f"{n} {temperature}")


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1e-3])
def test_the_mean_where_n_and_the_temperature_are_known(baseline, temperature):
    """At a low temperature few candidates take part at a node; the others are idle or gone."""
    random = np.random.default_rng(5)
    rewards, values = random.normal(size=(2, 2, 8))
    where = np.ones((2, 8), bool)
    where[1, 3] = False
    pools = rewards, values, where
    got = sb.pool_credits(rewards, 3, temperature, values=values, baseline=baseline, where=where)
    exact = expected(pools, 3, temperature, baseline)
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-13)


@pytest.mark.slow
def test_without_a_baseline_they_add_up_to_the_curve(ragged):
    rewards, values, where = ragged
    credit = sb.pool_credits(rewards, 3, 0.2, values=values, where=where, baseline=False)
    curve = sb.pool_curve(rewards, 3, 0.2, values=values, where=where)
    np.testing.assert_allclose(credit.sum(1), 3 * curve.per_prompt, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 0.3, np.inf])
def test_unbiased_for_the_gradient(temperature):
    """The mean over all pools, not over a sample of them; and the baseline takes out noise."""
    probs, size, n = np.array([0.5, 0.3, 0.2]), 6, 3
    rewards, values = np.array([0.0, 0.3, 1.0]), np.array([2.0, 5.0, 3.5])
    pools = np.array(list(itertools.product(range(3), repeat=size)))
    chance = np.prod(probs[pools], axis=1)
    score = np.eye(3)[pools] - probs  # of the logits
    exact = oracles.policy_gradient(probs, rewards, values, n, temperature)
    spread = []
    for baseline in (True, False):
        credit = sb.pool_credits(
            rewards[pools], n, temperature, values=values[pools], baseline=baseline
        )
        gradient = np.einsum("pi,pik->pk", credit, score)
        np.testing.assert_allclose(chance @ gradient, exact, rtol=0, atol=1e-13)
        spread.append(chance @ np.sum((gradient - exact) ** 2, axis=1))
    assert spread[0] < 0.1 * spread[1]


def test_the_known_weights_of_the_hard_case():
    """arXiv:2505.15201: m_ii = C(i-1, n-1) and m_ij = C(j-2, n-2) for j > i, from the worst up."""
    random = np.random.default_rng(1)
    size, n = 60, 7
    scores = np.sort(random.normal(size=size))
    weight = np.zeros((size, size))
    for i in range(size):
        weight[i, i] = math.comb(i, n - 1)
        weight[i, i + 1 :] = [math.comb(j - 1, n - 2) for j in range(i + 1, size)]
    order = random.permutation(size)
    got = sb.pool_credits(scores[order][None], n, 0.0, baseline=False)
    known = (weight @ scores / math.comb(size, n))[order]
    np.testing.assert_allclose(got[0], known, rtol=1e-11)


@pytest.mark.slow
def test_limits_of_the_temperature():
    """Near 0 as at 0; at infinity the mean with the others as the baseline; larger pools too."""
    scores = np.random.default_rng(2).normal(size=(2, 130))
    for baseline in (True, False):
        hard = sb.pool_credits(scores, 8, 0.0, baseline=baseline)
        cold = sb.pool_credits(scores, 8, 1e-300, baseline=baseline)
        np.testing.assert_allclose(cold, hard, rtol=1e-10, atol=1e-14)
    others = (scores.sum(1, keepdims=True) - scores) / 129
    for temperature in (np.inf, 1e15):
        got = sb.pool_credits(scores, 8, temperature)
        np.testing.assert_allclose(got, (scores - others) / 130, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_shifting_the_values_changes_nothing_with_a_baseline():
    scores = np.random.default_rng(3).normal(size=(3, 16))
    at = sb.pool_credits(scores, 5, 0.4)
    np.testing.assert_allclose(sb.pool_credits(scores, 5, 0.4, values=scores + 50), at, atol=1e-13)


@pytest.mark.slow
def test_float32(ragged):
    rewards, values, where = ragged
    for n, temperature in ((2, 0.0), (2, 0.5), (9, 0.5), (2, np.inf)):
        got = sb.pool_credits(
            rewards.astype(np.float32),
            n,
            np.float32(temperature),
            values=values.astype(np.float32),
            where=where,
        )
        assert got.dtype == jnp.float32
        exact = expected(ragged, n, temperature, True)
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
def test_traced_nonsense_is_nan(ragged):
    rewards, values, where = ragged
    traced = jax.jit(lambda n, t: sb.pool_credits(rewards, n, t, values=values, where=where))
    for n, temperature in ((0, 0.5), (2, -1.0), (2, np.nan), (12, 0.5)):
        assert np.isnan(np.asarray(traced(n, temperature))[where]).all()


@pytest.mark.slow
def test_they_have_derivatives_and_batch(ragged):
    """By the values they are linear; by the rewards against differences."""
    _, values, where = ragged
    random = np.random.default_rng(4)
    rewards, direction = random.normal(size=(2, 4, 9))

    def total(rewards, values):
        credit = sb.pool_credits(rewards, 3, 0.4, values=values, where=where, nodes=256)
        return jnp.sum(jnp.where(where & ~jnp.isnan(credit), credit, 0.0) ** 2)

    by_rewards = jax.grad(total)(jnp.asarray(rewards), values)
    step = 1e-5
    up, down = (total(rewards + s * direction, values) for s in (step, -step))
    kept = np.where(where & (where.sum(1, keepdims=True) >= 3), by_rewards, 0.0)
    assert np.sum(kept * direction) == pytest.approx(float(up - down) / (2 * step), rel=1e-5)
    stacked = np.stack([rewards, rewards + direction])
    batched = jax.vmap(lambda x: sb.pool_credits(x, 3, 0.4, where=where))(stacked)
    single = sb.pool_credits(stacked[1], 3, 0.4, where=where)
    np.testing.assert_allclose(batched[1], single, atol=1e-13)


# Weights ------------------------------------------------------------------------------------------


def test_weights_are_how_often_each_is_selected(ragged):
    rewards, _, where = ragged
    n, temperature = np.array([1, 4, 9]), np.array([0.0, 0.1, 2.0, np.inf])
    got = np.asarray(sb.pool_weights(rewards, n, temperature, where=where))
    assert got.shape == (4, 4, 3, 9)
    for p, (i, t), (m, size) in itertools.product(
        range(4), enumerate(temperature), enumerate(n.tolist())
    ):
        pool = rewards[p, where[p]]
        if size > pool.size:
            assert np.isnan(got[p, i, m, where[p]]).all()
            continue
        unit = np.eye(pool.size)
        exact = [oracles.mean_over_subsets(pool, row, size, t) for row in unit]
        np.testing.assert_allclose(got[p, i, m, where[p]], exact, rtol=0, atol=1e-14)
    assert (got[~np.broadcast_to(where[:, None, None], got.shape)] == 0).all()


GOOD = np.array([[0.0, 1.0, 2.0], [1.0, 0.5, 0.0]])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((GOOD, [1, 2], 0.0), {}, ValueError, r"n must be a scalar, got shape \(2,\)"),
        ((GOOD, 1, [0.5]), {}, ValueError, r"temperature must be a scalar, got shape \(1,\)"),
        ((GOOD, 4, 0.5), {}, ValueError, "n must be at most 3, the largest pool, got 4"),
        ((GOOD, 2, 0.5), {"baseline": 1}, TypeError, "baseline must be True or False, got 1"),
        ((GOOD, 2, 0.5), {"values": GOOD[:1]}, ValueError, r"values has shape \(1, 3\)"),
    ],
)
def test_bad_arguments_are_explained(arguments, options, error, message):
    with pytest.raises(error, match=message):
        sb.pool_credits(*arguments, **options)
