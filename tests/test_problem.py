"""Problems: what the builders promise, and what bad input is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax import bounds


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sb.from_probs([], []), "probs must have at least one outcome"),
        (lambda: sb.from_probs([0.5, 0.5], [1.0]), r"same last axis.*\(2,\) and \(1,\)"),
        (lambda: sb.from_probs([1.5, -0.5], [0.0, 1.0]), r"probs must be.*got -0\.5 at index 1"),
        (lambda: sb.from_probs([0.5, 0.4], [0.0, 1.0]), r"sum of probs must be 1, got 0\.9"),
        (lambda: sb.from_probs([np.nan, 1.0], [0.0, 1.0]), "probs must be.*got nan at index 0"),
        (lambda: sb.from_probs([0.5, 0.5], [0.0, np.nan]), "rewards must be finite, got nan"),
        (lambda: sb.from_probs([0.5, 0.5], [0.0, np.inf]), "rewards must be finite, got inf"),
        (lambda: sb.from_logits([np.inf, 0.0], [0.0, 1.0]), "logits must be.*got inf at index 0"),
        (lambda: sb.from_logits([-np.inf] * 2, [0.0, 1.0]), "largest of logits"),
        (lambda: sb.bernoulli(1.0), r"p must be strictly between 0 and 1, got 1\.0"),
        (lambda: sb.jackpot(1), "num_outcomes must be an integer of at least 2, got 1"),
        (lambda: sb.worst_case(-1.0), "range_over_temperature must be"),
        (lambda: sb.empirical([[1.0], [2.0]], np.array([[True], [False]])), "number of candidates"),
        (lambda: sb.empirical([1.0, np.nan]), "rewards must be finite.*got nan at index 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_complex_and_boolean_input_is_a_type_error():
    with pytest.raises(TypeError, match="rewards must be real"):
        sb.from_probs([0.5, 0.5], [1j, 0])


@pytest.mark.parametrize(
    "problem",
    [
        sb.bernoulli(0.2),
        sb.zipf(7, 1.3),
        sb.uniform_quantiles(9),
        sb.jackpot(5, 1e-6, 3.0),
        sb.worst_case(4.0),
        sb.dirichlet(jax.random.key(1), 12, 0.1),
        sb.empirical([3.0, 1.0, 1.0]),
    ],
)
def test_builders_give_laws(problem):
    np.testing.assert_allclose(np.exp(problem.log_probs).sum(), 1.0, rtol=1e-14)
    assert np.isfinite(problem.rewards).all()


def test_worst_case_attains_the_sinh_bound():
    for span in (0.5, 3.0, 20.0):
        got = bounds.cv_squared(sb.worst_case(span), 1.0)
        np.testing.assert_allclose(got, np.sinh(span / 2) ** 2, rtol=1e-12)


def test_ragged_pools_are_equal_to_their_own_laws():
    where = np.array([[True, True, True], [True, False, True]])
    pools = sb.empirical([[1.0, 2.0, 3.0], [5.0, np.nan, 7.0]], where)
    got = sb.metrics(pools, 4, 0.5)
    alone = sb.metrics(sb.empirical([5.0, 7.0]), 4, 0.5)
    np.testing.assert_allclose(got.reward[1], alone.reward, rtol=1e-13)


def test_integers_and_float32_follow_jax_numpy():
    assert sb.from_probs([0.5, 0.5], [0, 1]).rewards.dtype == jnp.float64
    single = np.array([0.5, 0.5], np.float32)
    assert sb.from_probs(single, single).log_probs.dtype == jnp.float32
    with jax.enable_x64(False):
        large = sb.metrics(sb.from_probs([0.5, 0.5], [0, 1]), 10**12, 1.0)
    assert large.reward.dtype == jnp.float32
    assert np.isfinite(large.kl_soft_base)


def test_gradient_through_from_probs_is_finite_at_zero():
    rewards = jnp.array([0.0, 1.0, 2.0])
    got = jax.grad(lambda p: sb.metrics(sb.from_probs(p, rewards), 3, 0.5).reward)(
        jnp.array([0.5, 0.5, 0.0])
    )
    assert np.isfinite(got).all()
