"""Quantiles, tail means and tail probabilities against exact fractions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests.oracles.orders import ascending, cvar, quantile

RANDOM = np.random.default_rng(0)
LEVELS = (0.0, 1e-6, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0)


def laws():
    """Dyadic laws, so that nothing rounds, with ties and impossible outcomes."""
    for size in (1, 2, 5, 9):
        for _ in range(4):
            counts = RANDOM.multinomial(64, RANDOM.dirichlet(np.ones(size)))
            yield counts / 64, RANDOM.integers(-3, 4, size) / 2


CASES = list(laws())


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_against_fractions(size):
    chosen = [(p, r) for p, r in CASES if len(p) == size]
    problem = sb.from_probs(*(np.array(x) for x in zip(*chosen, strict=True)))
    levels = np.array(LEVELS)[:, None]
    got = sb.quantile(problem, levels), sb.cvar(problem, levels)
    below = sb.tail_probability(problem, np.arange(-3.0, 4.0)[:, None])
    for j, (p, r) in enumerate(chosen):
        for i, level in enumerate(LEVELS):
            assert float(got[0][i, j]) == quantile(p, r, level)
            np.testing.assert_allclose(
                got[1][i, j], float(cvar(p, r, level)), rtol=1e-13, atol=1e-14
            )
        for i, z in enumerate(range(-3, 4)):
            np.testing.assert_allclose(
                below[i, j], float(sum(q for q, v in ascending(p, r) if v <= z)), rtol=1e-14
            )


def test_small_probabilities_keep_their_digits():
    problem = sb.Problem(jnp.array([-600.0, jnp.log1p(-0.25), jnp.log(0.25)]), jnp.arange(3.0))
    np.testing.assert_allclose(sb.tail_probability(problem, 0.5), np.exp(-600.0), rtol=1e-13)
    np.testing.assert_allclose(sb.cvar(problem, 1.0), 1.25, rtol=1e-15)
    assert float(sb.quantile(problem, 0.0)) == 0


def test_of_a_selected_gold_reward():
    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    gold = jnp.array([0.1, 0.7, 0.4, 0.0])
    selected = sb.Problem(sb.log_soft_bon(problem, 8, [0.1, 1.0]), gold)
    law = np.exp(np.asarray(selected.log_probs))
    np.testing.assert_allclose(
        sb.tail_probability(selected, 0.1), law[:, [0, 3]].sum(1), rtol=1e-13
    )
    np.testing.assert_allclose(sb.cvar(selected, 1.0), law @ gold, rtol=1e-13)


def test_gradients():
    """The slope of CVaR in a reward is the share of its outcome in the tail."""
    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    slopes = jax.grad(lambda r: sb.cvar(problem._replace(rewards=r), 0.75))(problem.rewards)
    np.testing.assert_allclose(slopes, [2 / 3, 1 / 3, 0, 0], atol=1e-15)
    slope = jax.grad(lambda level: sb.cvar(problem, level))(0.75)
    tail = 0.25 * 0.3  # level · CVaR = ∫ quantile
    np.testing.assert_allclose(slope, (0.3 - tail / 0.75) / 0.75, rtol=1e-12)
    slopes = jax.grad(lambda r: sb.quantile(problem._replace(rewards=r), 0.75))(problem.rewards)
    np.testing.assert_allclose(slopes, [0, 1, 0, 0])


def test_levels_are_checked():
    problem = sb.bernoulli(0.25)
    for f in (sb.quantile, sb.cvar):
        with pytest.raises(ValueError, match=r"level must be from 0 to 1, got 1.5"):
            f(problem, 1.5)
        assert np.isnan(jax.jit(f)(problem, 1.5))
    with pytest.raises(ValueError, match="threshold"):
        sb.tail_probability(problem, np.nan)
