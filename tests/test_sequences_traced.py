"""Blocks of symbols whose probabilities and temperature are traced, on rewards that are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb

REWARDS = np.array([0.0, 0.25, 0.5, 1.25])
PROBS = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.0, 0.0]])
LENGTH, SIZE, N, TEMPERATURE = 5, 2, 4.0, 0.4


def traced(log_probs, temperature):
    problem = sb.Problem(log_probs, REWARDS)
    return sb.blockwise_metrics(problem, LENGTH, N, temperature, block_size=SIZE)


def concrete(log_probs, temperature):
    problem = sb.from_probs(np.exp(np.asarray(log_probs)), REWARDS)
    return sb.blockwise_metrics(problem, LENGTH, N, temperature, block_size=SIZE)


@pytest.mark.slow
def test_as_concrete_ones_and_over_a_batch_of_laws():
    with np.errstate(divide="ignore"):
        log_probs = jnp.asarray(np.log(PROBS))
    got = jax.jit(jax.vmap(traced, in_axes=(0, None)))(log_probs, jnp.asarray(TEMPERATURE))
    for row, one in enumerate(log_probs):
        want = concrete(one, TEMPERATURE)
        for field, value in want._asdict().items():
            np.testing.assert_allclose(getattr(got, field)[row], value, rtol=1e-12, err_msg=field)


@pytest.mark.slow
def test_derivatives_are_finite_differences():
    start, step = jnp.log(jnp.asarray(PROBS[0])), 1e-5

    def value(of, logits, temperature):
        m = of(jax.nn.log_softmax(logits), temperature)
        return m.kl_soft_base + m.reward + m.kl_tilted_soft

    slope = jax.jit(jax.grad(lambda x, t: value(traced, x, t), (0, 1)))
    by_probs, by_temperature = slope(start, jnp.asarray(TEMPERATURE))
    for i in range(4):
        ends = [value(concrete, start.at[i].add(s * step), TEMPERATURE) for s in (1, -1)]
        assert by_probs[i] == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-6)
    ends = [value(concrete, start, TEMPERATURE + s * step) for s in (1, -1)]
    assert by_temperature == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_law_of_the_total_is_that_of_all_sequences():
    probs = np.array([0.2, 0.0, 0.8])
    rewards = np.array([0.0, 1.0, 3.0])

    @jax.jit
    def block(log_probs):
        return sb.block_problem(sb.Problem(log_probs, jnp.zeros(3)), 3, rewards=rewards)

    with np.errstate(divide="ignore"):
        got = block(jnp.asarray(np.log(probs)))
    chance = {}
    for i, j, k in np.ndindex(3, 3, 3):
        total = rewards[i] + rewards[j] + rewards[k]
        chance[total] = chance.get(total, 0.0) + probs[i] * probs[j] * probs[k]
    assert got.rewards.tolist() == sorted(chance)
    np.testing.assert_allclose(
        np.exp(got.log_probs), [chance[x] for x in sorted(chance)], rtol=1e-13
    )
    assert jnp.isneginf(got.log_probs[1])


def test_traced_rewards_that_are_illegal_give_nan_though_others_stand_in_for_them():
    @jax.jit
    def block(own):
        return sb.block_problem(sb.Problem(jnp.log(PROBS[0]), own), 2, rewards=REWARDS)

    assert not np.isnan(block(jnp.asarray(REWARDS)).log_probs).any()
    for bad in (np.nan, -np.inf, np.inf):
        assert np.isnan(block(jnp.asarray(REWARDS).at[1].set(bad)).log_probs).all(), bad


def test_different_problems_in_one_block():
    rows = jnp.log(jnp.asarray(PROBS[:2]))

    def total(rows):
        return sb.block_problem([sb.Problem(rows[0], REWARDS), sb.Problem(rows[1], REWARDS)])

    got, want = jax.jit(total)(rows), total(rows)
    np.testing.assert_allclose(got.rewards, want.rewards, rtol=1e-15)
    np.testing.assert_allclose(got.log_probs, want.log_probs, rtol=1e-13)


@pytest.mark.slow
def test_what_cannot_be_is_said_or_nan():
    log_probs = jnp.log(jnp.asarray(PROBS[0]))
    problem = sb.Problem(log_probs, REWARDS)
    with pytest.raises(TypeError, match="rewards of a block must be concrete"):
        jax.jit(lambda p: sb.block_problem(p, 3))(problem)
    with pytest.raises(TypeError, match="rewards must be concrete"):
        jax.jit(lambda p: sb.block_problem(p, 3, rewards=p.rewards))(problem)
    odd = np.array([0.0, 1.0, np.sqrt(2), np.pi])
    with pytest.raises(ValueError, match="they must be on a lattice"):
        jax.jit(lambda x: sb.block_problem(sb.Problem(x, odd), 3))(log_probs)
    assert jnp.isnan(jax.jit(traced)(log_probs + 1, jnp.asarray(TEMPERATURE)).reward)
