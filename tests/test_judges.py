"""A noisy judge: against all counts, quadrature in mpmath, and the Gumbel-max identity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

import softbon_jax as sb
from tests.oracles.judges import noisy_best_law, noisy_law

P, R = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.4, 1.0])
PROBLEM = sb.from_probs(P, R)
VALUES, WEIGHTS = np.array([-0.5, 0.0, 0.7]), np.array([0.2, 0.5, 0.3])
OWN = np.array([[-0.5, 0.0, 0.7], [0.1, 0.2, 0.3], [-1.0, 0.0, 1.0]])
OWN_WEIGHTS = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.25, 0.5, 0.25]])
CASES = list(itertools.product((1, 2, 5), (0.0, 0.1, 0.5, 4.0), ("shared", "own")))


def test_discrete_noise_against_all_counts():
    with np.errstate(divide="ignore"):
        logs = np.log(OWN_WEIGHTS)
    for n, temperature, kind in CASES:
        noise, weights = (OWN, OWN_WEIGHTS) if kind == "own" else (VALUES, WEIGHTS)
        got = sb.log_noisy_soft_bon(PROBLEM, n, temperature, noise, weights, nodes=1024)
        own = (OWN, logs) if kind == "own" else (np.tile(VALUES, (3, 1)), np.log([WEIGHTS] * 3))
        right = noisy_law(np.log(P), R, n, temperature, *own)
        np.testing.assert_allclose(
            np.exp(got), right, rtol=1e-12, err_msg=f"{n} {temperature} {kind}"
        )


@pytest.mark.slow
def test_batches_of_problems_and_of_noise():
    problem = sb.Problem(PROBLEM.log_probs, np.stack([R, 2 * R]))
    noise = np.stack([VALUES, 2 * VALUES])[:, None]
    got = sb.log_noisy_soft_bon(problem, 4.0, 0.3, noise, WEIGHTS)
    assert got.shape == (2, 3)
    for i in range(2):
        one = sb.Problem(problem.log_probs, problem.rewards[i])
        right = sb.log_noisy_soft_bon(one, 4.0, 0.3, noise[i, 0], WEIGHTS)
        np.testing.assert_allclose(got[i], right, rtol=1e-12)


BEST = list(itertools.product(("normal", "gumbel", "logistic"), (1.0, 2.5, 40.0), (0.1, 1.5)))


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "gumbel", "logistic"])
def test_the_best_score_against_quadrature(noise):
    cases = [(n, scale) for kind, n, scale in BEST if kind == noise]
    n, scales = (np.array(x) for x in zip(*cases, strict=True))
    shape = np.array([1.0, 1.5, 0.75])
    got = sb.log_noisy_best_of_n(PROBLEM, n, scales[:, None] * shape, noise=noise)
    with mp.workdps(25):
        for (n, scale), law in zip(cases, np.exp(got), strict=True):
            right = [float(x) for x in noisy_best_law(P, R, n, scale * shape, noise)]
            np.testing.assert_allclose(law, right, rtol=1e-11, err_msg=f"{noise} {n} {scale}")


def test_gumbel_noise_and_the_best_score_is_soft_best_of_n():
    temperature = np.array([0.05, 0.3, 2.0])
    n = np.array([1.0, 3.5, 1e3, 1e12])[:, None]
    got = sb.log_noisy_best_of_n(PROBLEM, n, temperature[:, None], noise="gumbel")
    np.testing.assert_allclose(
        got, sb.log_soft_bon(PROBLEM, n, temperature), rtol=1e-11, atol=1e-11
    )


@pytest.mark.slow
def test_soft_selection_in_normal_noise_tends_to_the_best_score():
    best = np.exp(sb.log_noisy_best_of_n(PROBLEM, 8.0, 0.5))
    noise = sb.normal_noise(0.5, nodes=256)
    laws = np.exp(sb.log_noisy_soft_bon(PROBLEM, 8.0, np.array([0.16, 0.08]), *noise, nodes=1024))
    gaps = np.abs(laws - best).max(-1)
    np.testing.assert_allclose(gaps[0] / gaps[1], 4, rtol=0.1)  # of order λ²


@pytest.mark.slow
def test_nodes_of_normal_noise_converge():
    laws = [
        sb.log_noisy_soft_bon(PROBLEM, 8.0, 0.25, *sb.normal_noise(0.5, nodes=x))
        for x in (128, 300)
    ]
    np.testing.assert_allclose(*laws, rtol=1e-12)
    noise = sb.normal_noise(0.5)
    for power, moment in enumerate((1, 0, 0.25, 0, 3 / 16)):
        total = float(noise.weights @ noise.values**power)
        np.testing.assert_allclose(total, moment, rtol=1e-13, atol=1e-15)


def test_a_better_judge_selects_better():
    scales = np.geomspace(0.1, 10, 7)
    noise = sb.normal_noise(scales, nodes=32)
    for law in (
        sb.log_noisy_best_of_n(PROBLEM, 8.0, scales[:, None]),
        sb.log_noisy_soft_bon(PROBLEM, 8.0, 20.0, noise.values[:, None], noise.weights),
    ):
        assert (np.diff(np.exp(law) @ R) < 0).all()


@pytest.mark.slow
def test_gradients():
    """The slopes in scale and rewards, by central differences of the oracle."""

    def reward(scale, rewards):
        law = sb.log_noisy_best_of_n(PROBLEM._replace(rewards=rewards), 4.0, scale)
        return jnp.exp(law) @ R

    slopes = jax.grad(reward, (0, 1))(0.3, PROBLEM.rewards)
    step = 1e-6

    def exactly(scale, rewards):
        with mp.workdps(20):
            law = noisy_best_law(P, rewards, 4, [scale] * 3, "normal")
            return float(mp.fdot(law, R))

    right = (exactly(0.3 + step, R) - exactly(0.3 - step, R)) / (2 * step)
    np.testing.assert_allclose(slopes[0], right, rtol=1e-8)
    for k in (0, 2):
        up, down = R.copy(), R.copy()
        up[k] += step
        down[k] -= step
        right = (exactly(0.3, up) - exactly(0.3, down)) / (2 * step)
        np.testing.assert_allclose(slopes[1][k], right, rtol=1e-8)


def test_too_few_nodes_are_nan():
    assert np.isnan(sb.log_noisy_best_of_n(PROBLEM, 8.0, 0.01, nodes=64)).all()
    traced = jax.jit(lambda x: sb.log_noisy_best_of_n(PROBLEM, 8.0, x))(jnp.array([[0.3], [1e-3]]))
    assert np.isfinite(traced[0]).all()
    assert np.isnan(traced[1]).all()
    with pytest.raises(ValueError, match=r"scale must not be below 1e-4 of the range"):
        sb.log_noisy_best_of_n(PROBLEM, 8.0, 1e-9)


def test_single_precision():
    problem = sb.Problem(*(jnp.float32(x) for x in PROBLEM))
    for noise in ("normal", "gumbel", "logistic"):
        got = sb.log_noisy_best_of_n(problem, 8.0, 0.3, noise=noise)
        assert got.dtype == jnp.float32
        right = sb.log_noisy_best_of_n(PROBLEM, 8.0, 0.3, noise=noise)
        np.testing.assert_allclose(np.exp(got), np.exp(right), rtol=1e-4)


def test_shapes_are_named():
    with pytest.raises(ValueError, match="weights"):
        sb.log_noisy_soft_bon(PROBLEM, 4, 0.3, [0.0, 1.0], [0.5, 0.6])
    with pytest.raises(ValueError, match="noise and weights must have K = 1 outcomes"):
        sb.log_noisy_soft_bon(sb.from_probs([1.0], [0.0]), 4, 0.3, np.zeros((3, 2)), [0.5, 0.5])
