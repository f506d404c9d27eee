"""Distillation lands on the tilted law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles


def test_training_lands_on_the_tilted_law():
    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1, 0.0], [0.0, 0.3, 0.6, 1.0, 2.0])
    temperature = np.array([0.2, 0.5])
    got = sb.distill(problem, temperature, steps=800)
    log_probs, rewards = (np.asarray(x) for x in problem)
    exact = [oracles.exact_tilted(log_probs, rewards, t) for t in temperature]
    exact = np.array(exact, np.float64)
    np.testing.assert_allclose(np.exp(got.log_probs), exact, atol=1e-6)
    # The first value is KL(P‖P*), from its definition.
    p = np.exp(np.asarray(problem.log_probs)[:4])
    start = (p * np.log(p / exact[:, :4])).sum(-1)
    np.testing.assert_allclose(got.kl_to_tilted[:, 0], start, rtol=1e-12)
    assert np.all(got.kl_to_tilted[:, -1] < 1e-10)


def test_bad_arguments_are_named():
    problem = sb.from_probs([0.5, 0.5], [0.0, 1.0])
    with pytest.raises(ValueError, match="temperature must be positive"):
        sb.distill(problem, 0.0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        sb.distill(problem, np.inf)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
        sb.distill(problem, jnp.ones(()), steps=0)
    with pytest.raises(TypeError, match="temperature must be real numbers"):
        sb.distill(problem, True)


def test_traced_bad_values_give_nan():
    problem = sb.from_probs([0.5, 0.5], [0.0, 1.0])
    trained = jax.jit(lambda t: sb.distill(problem, t, steps=3).log_probs)
    assert np.isfinite(trained(0.5)).all()
    for bad in (0.0, -1.0, np.inf, np.nan):
        assert np.isnan(trained(bad)).all()
