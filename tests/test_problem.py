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
        (lambda: sb.empirical([[1.0], [2.0]], where=[[True], [False]]), "number of candidates"),
        (lambda: sb.empirical([1.0, 2.0], where=[1, 0]), "where must be bool, got dtype int"),
        (lambda: sb.empirical([1.0, 2.0], where=[True] * 3), r"broadcast against rewards \(2,\)"),
        (lambda: sb.zipf(True), "num_outcomes must be an integer of at least 1, got True"),
        (lambda: sb.empirical([1.0, np.nan]), "rewards must be finite.*got nan at index 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("bad", [[1j, 0], [True, False], ["a", "b"]])
def test_what_is_not_real_is_a_type_error(bad):
    with pytest.raises(TypeError, match="rewards must be real"):
        sb.from_probs([0.5, 0.5], bad)


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


@pytest.mark.slow
def test_ragged_pools_are_equal_to_their_own_laws():
    where = np.array([[True, True, True], [True, False, True]])
    pools = sb.empirical([[1.0, 2.0, 3.0], [5.0, np.nan, 7.0]], where=where)
    got = sb.metrics(pools, 4, 0.5)
    alone = sb.metrics(sb.empirical([5.0, 7.0]), 4, 0.5)
    np.testing.assert_allclose(got.reward[1], alone.reward, rtol=1e-13)


@pytest.mark.slow
def test_integers_and_float32_follow_jax_numpy():
    assert sb.from_probs([0.5, 0.5], [0, 1]).rewards.dtype == jnp.float64
    single = np.array([0.5, 0.5], np.float32)
    assert sb.from_probs(single, single).log_probs.dtype == jnp.float32
    with jax.enable_x64(False):
        large = sb.metrics(sb.from_probs([0.5, 0.5], [0, 1]), 10**12, 1.0)
    assert large.reward.dtype == jnp.float32
    assert np.isfinite(large.kl_soft_base)


BUILDERS = [
    lambda **x: sb.from_probs([0.5, 0.25, 0.25], [0, 1, 2], **x),
    lambda **x: sb.from_logits([0.0, -np.inf], [0, 1], **x),
    lambda **x: sb.bernoulli(0.25, **x),
    lambda **x: sb.dirichlet(jax.random.key(2), 4, **x),
    lambda **x: sb.zipf(4, **x),
    lambda **x: sb.uniform_quantiles(4, **x),
    lambda **x: sb.jackpot(4, **x),
    lambda **x: sb.worst_case(2.0, **x),
    lambda **x: sb.empirical([1, 2], **x),
]


@pytest.mark.parametrize("build", BUILDERS)
def test_builders_take_a_dtype(build):
    default = build()
    for dtype, result in (
        (float, jnp.float64), (np.float32, jnp.float32), ("bfloat16", jnp.float32)
    ):  # fmt: skip
        problem = build(dtype=dtype)
        assert problem.log_probs.dtype == problem.rewards.dtype == result
        if build is not BUILDERS[3]:  # another dtype is another draw
            for got, expected in zip(problem, default, strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
    for bad in (int, "bool", "no dtype"):
        with pytest.raises(TypeError, match="dtype must be a floating dtype"):
            build(dtype=bad)


def test_half_precision_is_promoted():
    half = sb.from_probs(jnp.array([0.25, 0.75], jnp.bfloat16), jnp.array([0.5, 1.5], jnp.float16))
    assert half.log_probs.dtype == half.rewards.dtype == jnp.float32
    np.testing.assert_array_equal(half.rewards, [0.5, 1.5])
    np.testing.assert_allclose(np.exp(half.log_probs), [0.25, 0.75], rtol=1e-6)


def test_mask_broadcasts():
    rewards = np.arange(6.0).reshape(2, 3)
    one = sb.empirical(rewards, where=np.array([True, False, True]))
    both = sb.empirical(rewards, where=np.array([[True, False, True]] * 2))
    jax.tree.map(np.testing.assert_array_equal, one, both)
    np.testing.assert_allclose(np.exp(one.log_probs), [[0.5, 0, 0.5]] * 2, rtol=1e-15)


def test_options_by_position_still_work_and_warn():
    mask = np.array([True, False, True])
    with pytest.warns(DeprecationWarning, match=r"empirical: pass where=\.\.\. by keyword"):
        old = sb.empirical([1.0, 2.0, 3.0], mask)
    jax.tree.map(np.testing.assert_array_equal, old, sb.empirical([1.0, 2.0, 3.0], where=mask))
    with pytest.warns(DeprecationWarning, match=r"uniform_quantiles: pass dtype=\.\.\. by keyword"):
        old = sb.uniform_quantiles(3, jnp.float32)
    expected = sb.uniform_quantiles(3, dtype=jnp.float32)
    jax.tree.map(np.testing.assert_array_equal, old, expected)
    assert old.rewards.dtype == jnp.float32


@pytest.mark.slow
def test_gradient_through_from_probs_is_finite_at_zero():
    rewards = jnp.array([0.0, 1.0, 2.0])
    got = jax.grad(lambda p: sb.metrics(sb.from_probs(p, rewards), 3, 0.5).reward)(
        jnp.array([0.5, 0.5, 0.0])
    )
    assert np.isfinite(got).all()
