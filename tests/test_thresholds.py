"""The best threshold: against all thresholds, Weitzman's equation, and a dense alphabet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb

P, R = [0.5, 0.3, 0.1, 0.1, 0.0], [0.0, 0.3, 0.6, 1.0, 2.0]
PROBLEM = sb.from_probs(P, R)
PRICES = np.array([1e-3, 0.02, 0.05, 0.11, 0.3, 0.8])
ALL = np.array([-np.inf, 0.3, 0.6, 1.0, np.inf])


N = np.array([2.0, 16.0, 1e6])
TEMPERATURES = np.array([0.0, 0.01, 0.1, 0.5, 5.0, np.inf])[:, None]


@pytest.fixture(scope="module")
def best():
    """`[price, temperature, n]`."""
    return sb.best_threshold(PROBLEM, PRICES[:, None, None], N, TEMPERATURES)


@pytest.mark.slow
def test_no_threshold_earns_more(best):
    z = ALL[:, None, None]
    reward = sb.stopped_metrics(PROBLEM, z, N, TEMPERATURES).reward
    spent = PRICES[:, None, None, None] * sb.mean_stopped_n(PROBLEM, z, N)[None]
    net = (reward[None] - spent).max(1)
    np.testing.assert_allclose(best.net, net, rtol=1e-12, atol=1e-12)
    at = sb.stopped_metrics(PROBLEM, best.value, N, TEMPERATURES).reward
    np.testing.assert_allclose(best.reward, at, rtol=1e-12)
    np.testing.assert_allclose(best.mean_n, sb.mean_stopped_n(PROBLEM, best.value, N), rtol=1e-14)
    paid = best.reward - PRICES[:, None, None] * best.mean_n
    np.testing.assert_allclose(best.net, paid, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_hard_selection_is_weitzmans_whatever_n_is(best):
    hard = np.asarray(best.value)[:, 0]
    over = np.maximum(np.array(R) - hard[..., None], 0) @ np.array(P)
    np.testing.assert_allclose(over, np.broadcast_to(PRICES[:, None], over.shape), rtol=1e-12)
    assert best.interior[:, 0].all()
    cold = sb.best_threshold(PROBLEM, PRICES, 16.0, 1e-4).value
    np.testing.assert_allclose(cold, hard[:, 1], atol=1e-6)


@pytest.mark.slow
def test_on_a_dense_alphabet_the_root_is_where_the_net_reward_is_stationary():
    """Moving one of many outcomes across the threshold changes next to nothing."""
    problem = sb.uniform_quantiles(1000)
    best = sb.best_threshold(problem, 0.01, 20.0, 0.2)
    assert best.interior
    z = float(best.value) + np.linspace(-0.1, 0.1, 81)
    net = sb.stopped_metrics(problem, z, 20.0, 0.2).reward - 0.01 * sb.mean_stopped_n(
        problem, z, 20.0
    )
    crest = np.polynomial.Polynomial.fit(z, np.asarray(net), 6).deriv().roots()
    value = float(best.value)
    crest = crest[(np.abs(crest.imag) < 1e-9) & (np.abs(crest - value) < 0.05)].real
    np.testing.assert_allclose(crest, [value], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.1, 0.5])
def test_the_gradient_is_implicit(temperature):
    price = 0.05 if temperature < 0.5 else 0.02

    def value(price, n, probs, rewards):
        problem = sb.from_probs(probs / probs.sum(), rewards)
        return sb.best_threshold(problem, price, n, temperature).value

    at = [jnp.asarray(price), jnp.asarray(16.0), PROBLEM.log_probs, PROBLEM.rewards]
    at[2] = jnp.exp(at[2])
    got = jax.grad(value, argnums=(0, 1, 2, 3))(*at)
    value = jax.jit(value)
    for i, x in enumerate(at):
        some = list(np.ndindex(x.shape))[:2]
        for k in some:
            h, d = 1e-4 * max(price if i == 0 else 0.1, 0.01), []
            for scale in (1, 2):
                up, down = (
                    [y if j != i else y.at[k].add(s * scale * h) for j, y in enumerate(at)]
                    for s in (1, -1)
                )
                d.append((value(*up) - value(*down)) / (2 * scale * h))
            slope = (4 * d[0] - d[1]) / 3
            np.testing.assert_allclose(np.asarray(got[i])[k], slope, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_one_draw_and_one_outcome():
    best = sb.best_threshold(PROBLEM, 0.05, 1.0, 0.3)
    assert float(best.mean_n) == pytest.approx(1)
    assert not best.interior
    only = sb.best_threshold(sb.from_probs([1.0], [2.0]), 0.05, 8.0, 0.3)
    np.testing.assert_allclose([only.reward, only.mean_n], [2.0, 1.0], rtol=1e-12)


@pytest.mark.slow
def test_float32_and_jit():
    args = (PRICES, 16.0, 0.1)
    eager = sb.best_threshold(PROBLEM, *args)
    compiled = jax.jit(sb.best_threshold)(PROBLEM, *args)
    single = sb.Problem(*(x.astype(jnp.float32) for x in PROBLEM))
    rough = sb.best_threshold(single, *args)
    for a, b, c in zip(eager, compiled, rough, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5)
        assert c.dtype in (jnp.float32, bool)
