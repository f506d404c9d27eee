"""Bounds over sequences against their definitions in mpmath and against exact block laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

import softbon_jax as sb
from softbon_jax import bounds
from tests import oracles

PROBS, REWARDS = [0.5, 0.3, 0.1, 0.1, 0.0], [0.0, 1 / 3, 2 / 3, 1.0, 7.0]
PROBLEM = sb.from_probs(PROBS, REWARDS)
M = np.array([1.0, 6.0, 1000.0])[:, None, None]
LOG_N = np.array([0.0, 2.5, 1400.0])[:, None]
TEMPERATURE = np.array([0.02, 0.3, 1.0, 1e4])


def exponents(temperature):
    """D and log(1 + CV²) of one symbol, as exact numbers."""
    log_probs = [mp.log(mpf(x)) if x > 0 else -mp.inf for x in PROBS]
    m = oracles.moments(log_probs, REWARDS, temperature)
    return oracles.kl_tilted_base(m), mp.log1p(oracles.cv_squared(m))


def on_grid(formula):
    """The formula of (D, log(1 + CV²), m, log n) on the grid above, in 60 digits."""
    with mp.workdps(60):
        rows = [
            [
                [formula(*exponents(float(t)), m, x) for t in TEMPERATURE]
                for x in map(mpf, LOG_N[:, 0])
            ]
            for m in map(mpf, M[:, 0, 0])
        ]
        return np.array(rows, float)


def test_definitions():
    got = bounds.block_kl_lower(PROBLEM, M, temperature=TEMPERATURE, log_n=LOG_N)
    np.testing.assert_allclose(got, on_grid(lambda d, c, m, x: max(m * d - x, 0)), rtol=1e-11)
    got = bounds.block_kl_upper(PROBLEM, M, temperature=TEMPERATURE, log_n=LOG_N)
    expected = on_grid(lambda d, c, m, x: mp.log1p(mp.expm1(m * c) / mp.exp(x)))
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-300)
    kl = np.array([1e-3, 0.7, 30.0])[:, None]
    got = bounds.log_n_for_block_kl_lower(PROBLEM, M, kl, TEMPERATURE)
    log_n = np.log(np.expm1(kl))
    lower = on_grid(lambda d, c, m, x: m * d)[:, :1] - kl
    np.testing.assert_allclose(got, np.maximum(lower, 0), rtol=1e-11, atol=1e-14)
    got = bounds.log_n_for_block_kl_upper(PROBLEM, M, kl, TEMPERATURE)
    upper = on_grid(lambda d, c, m, x: mp.log(mp.expm1(m * c)))[:, :1] - log_n
    np.testing.assert_allclose(got, np.maximum(upper, 0), rtol=1e-11, atol=1e-14)
    got = bounds.threshold_exponent(PROBLEM, TEMPERATURE)
    np.testing.assert_allclose(got, on_grid(lambda d, c, m, x: d)[0, 0], rtol=1e-11)
    got = bounds.threshold_exponent_upper(PROBLEM, TEMPERATURE)
    np.testing.assert_allclose(got, on_grid(lambda d, c, m, x: c)[0, 0], rtol=1e-11)


def test_small_and_limiting_exponents():
    with mp.workdps(60):
        exact = float(exponents(1e7)[0])
    np.testing.assert_allclose(bounds.threshold_exponent(PROBLEM, 1e7), exact, rtol=1e-11)
    limits = bounds.threshold_exponent(PROBLEM, np.array([0.0, np.inf]))
    np.testing.assert_allclose(limits, [-math.log(0.1), 0], rtol=1e-14)
    limits = bounds.threshold_exponent_upper(PROBLEM, np.array([0.0, np.inf]))
    np.testing.assert_allclose(limits, [-math.log(0.1), 0], rtol=1e-14)


def test_exact_values_are_between_the_bounds():
    """KL over whole sequences of a two-letter alphabet, by sums over counts of candidates."""
    p, r, m = np.array([0.7, 0.3]), np.array([0.0, 1.0]), 5
    k = np.arange(m + 1)
    log_probs = np.array([math.log(math.comb(m, i)) for i in k])
    log_probs += k * np.log(p[1]) + (m - k) * np.log(p[0])
    symbol, mean = sb.from_probs(p, r), 0.3
    for temperature in (0.2, 1.0):
        target = np.exp(log_probs + k / temperature)
        target /= target.sum()
        for n in (1, 2, 6):
            law = oracles.law_by_counts(log_probs, 1.0 * k, n, temperature)
            kl = target @ np.log(target / law)
            lower = float(bounds.block_kl_lower(symbol, m, n, temperature))
            upper = float(bounds.block_kl_upper(symbol, m, n, temperature))
            assert lower - 1e-12 <= kl <= upper
            assert n == 1 or lower < kl < 0.98 * upper
            enough = float(bounds.log_n_for_block_kl_upper(symbol, m, kl, temperature))
            necessary = float(bounds.log_n_for_block_kl_lower(symbol, m, kl, temperature))
            assert necessary - 1e-12 <= math.log(n) <= enough
            gain = law @ k / m - mean
            assert gain <= float(bounds.block_gain_upper(symbol, m, n)) + 1e-12
            assert float(bounds.log_n_for_block_gain(symbol, m, abs(gain))) <= math.log(n) + 1e-12


def test_gain_and_its_inverse():
    log_n = np.array([0.0, 1.0, 700.0])
    cap = bounds.block_gain_upper(PROBLEM, 50, log_n=log_n)
    np.testing.assert_allclose(cap, np.sqrt(log_n / 100), rtol=1e-14)
    np.testing.assert_allclose(bounds.log_n_for_block_gain(PROBLEM, 50, cap), log_n, rtol=1e-13)
    doubled = sb.Problem(PROBLEM.log_probs, 2 * PROBLEM.rewards)
    twice = 2 * math.sqrt(math.log(9.0) / 100)
    np.testing.assert_allclose(bounds.block_gain_upper(doubled, 50, 9.0), twice, rtol=1e-14)
    constant = sb.from_probs([0.5, 0.5], [1.0, 1.0])
    never = bounds.log_n_for_block_gain(constant, 3, np.array([0.0, 0.1]))
    np.testing.assert_array_equal(never, [0, np.inf])


def test_float32_and_gradients():
    single = sb.Problem(*(x.astype(jnp.float32) for x in PROBLEM))
    got = bounds.block_kl_upper(single, 20, 8, np.float32(0.3))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, bounds.block_kl_upper(PROBLEM, 20, 8, 0.3), rtol=1e-5)
    slope = jax.grad(lambda t: bounds.block_kl_lower(PROBLEM, 20, 8, t))(0.3)
    up, down = (bounds.block_kl_lower(PROBLEM, 20, 8, 0.3 + h) for h in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-6)
    at_one = jax.grad(lambda x: bounds.block_gain_upper(PROBLEM, 5, log_n=x))(0.0)
    np.testing.assert_array_equal(at_one, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.block_kl_lower(PROBLEM, 0.5, 2, 1.0), r"m must be.*got 0\.5"),
        (lambda: bounds.block_gain_upper(PROBLEM, math.inf, 2), r"m must be finite.*got inf"),
        (lambda: bounds.block_kl_upper(PROBLEM, 5, 0.5, 1.0), r"n must be.*got 0\.5"),
        (lambda: bounds.log_n_for_block_kl_upper(PROBLEM, 5, -1.0, 1.0), r"kl must be.*got -1\.0"),
        (lambda: bounds.log_n_for_block_gain(PROBLEM, 5, -0.5), r"gain must be.*got -0\.5"),
        (lambda: bounds.threshold_exponent(PROBLEM, -1.0), r"temperature must be.*got -1\.0"),
        (lambda: bounds.block_kl_upper(PROBLEM, np.ones(2), np.ones(3), 1.0), "do not broadcast"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_bad_values_are_nan():
    traced = jax.jit(lambda m, n, t: bounds.block_kl_lower(PROBLEM, m, n, t))
    assert np.isnan([traced(0.5, 2.0, 0.3), traced(5.0, 0.5, 0.3), traced(5.0, 2.0, -1.0)]).all()
    assert np.isnan(jax.jit(lambda x: bounds.log_n_for_block_gain(PROBLEM, 5, x))(-0.5))


def test_a_result_does_not_depend_on_which_arguments_are_arrays():
    m, n, t = np.array([6.0, 37.0])[:, None], np.array([2.0, 1e4]), 0.3
    together = np.asarray(bounds.block_gain_upper(PROBLEM, m, n))
    each = [[float(bounds.block_gain_upper(PROBLEM, x, y)) for y in n] for x in m[:, 0]]
    np.testing.assert_array_equal(together, each)
    together = np.asarray(bounds.block_kl_lower(PROBLEM, m, n, t))
    each = [[float(bounds.block_kl_lower(PROBLEM, x, y, t)) for y in n] for x in m[:, 0]]
    np.testing.assert_array_equal(together, each)
