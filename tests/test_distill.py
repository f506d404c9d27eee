"""Distillation lands on the tilted law."""

import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax.tuning.distillation import distill


def test_training_lands_on_the_tilted_law():
    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1, 0.0], [0.0, 0.3, 0.6, 1.0, 2.0])
    temperature = np.array([0.2, 0.5])
    got = distill(problem, temperature, steps=800)
    weights = np.exp(problem.log_probs) * np.exp(np.asarray(problem.rewards) / temperature[:, None])
    exact = weights / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(got.log_probs), exact, atol=1e-6)
    # The first value is KL(P‖P*), from its definition.
    p = np.exp(np.asarray(problem.log_probs)[:4])
    start = (p * np.log(p / exact[:, :4])).sum(-1)
    np.testing.assert_allclose(got.kl_to_tilted[:, 0], start, rtol=1e-12)
    assert np.all(got.kl_to_tilted[:, -1] < 1e-10)


def test_bad_arguments_are_named():
    problem = sb.from_probs([0.5, 0.5], [0.0, 1.0])
    with pytest.raises(ValueError, match="temperature must be positive"):
        distill(problem, 0.0)
    with pytest.raises(ValueError, match="steps must be an integer"):
        distill(problem, jnp.ones(()), steps=0)
