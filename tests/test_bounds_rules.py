"""Closed forms of hard best-of-n, and the least divergence for a win rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

from softbon_jax import bounds
from tests import oracles


def test_best_of_n_forms() -> None:
    n = np.array([1.0, 1 + 1e-9, 1.001, 1.05, 1.06, 2.0, 10.0, 1e6, 1e300])
    with mp.workdps(60):
        exact_n = [mpf(float(x)) for x in n]
        want_kl = [float(mp.log(x) - (x - 1) / x) for x in exact_n]
        want_win = [float(x / (x + 1)) for x in exact_n]
    np.testing.assert_allclose(bounds.best_of_n_kl(n), want_kl, rtol=1e-12)
    np.testing.assert_allclose(bounds.best_of_n_win_rate(n), want_win, rtol=1e-14)
    np.testing.assert_allclose(bounds.best_of_n_kl(None, log_n=1e4), 1e4 - 1, rtol=1e-14)
    assert bounds.best_of_n_kl(np.float32(3)).dtype == np.float32
    slope = jax.vmap(jax.grad(bounds.best_of_n_kl))(jnp.asarray(n[:-1]))
    np.testing.assert_allclose(slope, (n[:-1] - 1) / n[:-1] ** 2, rtol=1e-6, atol=1e-15)


def test_best_of_n_formulas_bound_discrete_laws_and_are_their_limit() -> None:
    def hard(size: int, n: int) -> tuple[float, float]:
        edges = (np.arange(size + 1) / size) ** n
        law = np.diff(edges)
        win = law @ ((np.arange(size) + 0.5) / size)
        return float(np.sum(law * np.log(np.maximum(law * size, 1e-300)))), float(win)

    for n in (1, 2, 10, 100):
        limit_kl, limit_win = float(bounds.best_of_n_kl(n)), float(bounds.best_of_n_win_rate(n))
        for size in (2, 10, 1000):
            value_kl, value_win = hard(size, n)
            assert value_kl <= limit_kl + 1e-12
            assert value_win <= limit_win + 1e-12
        fine_kl, fine_win = hard(1_000_000, n)
        assert fine_kl == pytest.approx(limit_kl, rel=1e-3)
        assert fine_win == pytest.approx(limit_win, rel=1e-5)
    assert hard(10, 10)[0] == pytest.approx(1.3611, abs=1e-4)


# The least divergence for a win rate -------------------------------------------------------------

TAILS = np.geomspace(1e-12, 0.5, 40)
NEAR_HALF = np.geomspace(1e-9, 0.1, 20)
WIN_RATES = np.concatenate([TAILS, 1 - TAILS, 0.5 - NEAR_HALF, 0.5 + NEAR_HALF])


@pytest.mark.slow
def test_least_kl_keeps_its_digits_at_every_win_rate() -> None:
    with mp.workdps(60):
        want = [float(oracles.least_kl(float(x))[0]) for x in WIN_RATES]
    np.testing.assert_allclose(bounds.least_kl_for_win_rate(WIN_RATES), want, rtol=3e-14)
    assert float(bounds.least_kl_for_win_rate(1e-6)) == pytest.approx(12.815510557964274, rel=1e-15)


def test_least_kl_in_float32_keeps_its_digits_near_0() -> None:
    rates = np.float32([1e-20, 1e-6, 0.3, 0.5, 0.7, 1 - 1e-6])
    with mp.workdps(60):
        want = [float(oracles.least_kl(float(x))[0]) for x in rates]
    got = bounds.least_kl_for_win_rate(rates)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-12)


@pytest.mark.slow
def test_derivatives_of_the_least_kl_are_those_of_the_dual() -> None:
    """The first is β, the second the reciprocal of the variance of the tilted law."""
    slope = jax.grad(bounds.least_kl_for_win_rate)
    slopes, bends = (jax.vmap(f)(WIN_RATES) for f in (slope, jax.grad(slope)))
    for rate, got, bend in zip(WIN_RATES, slopes, bends, strict=True):
        with mp.workdps(60):
            beta = oracles.least_kl(float(rate))[1]
            variance = 1 / beta**2 - 1 / (2 * mp.sinh(beta / 2)) ** 2 if beta else 1 / mpf(12)
            want = float(beta), float(1 / variance)
        np.testing.assert_allclose((got, bend), want, rtol=1e-11, atol=1e-14, err_msg=str(rate))
