"""What holds of every selection rule, on the problems of `tests.test_invariances`."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given

import softbon_jax as sb
from tests.test_invariances import (
    ALONE,
    NUMBERS,
    POOL,
    SIZE,
    UPPER,
    assert_same,
    cases,
    laws,
    limits_of,
    measured,
    pools,
)

RISING = ("soft", "hard", "race", "poisson", "rejection, any")
RULES = (*RISING, "tilted", "rejection, best")


@pytest.mark.slow
@given(cases(), NUMBERS)
def test_more_candidates_give_a_higher_reward_in_distribution(case, more):
    """Pr(reward >= r) rises with n for every r, also under the rules that have no metrics."""
    low, high = sorted((case.n, more))
    less, more = (laws(case.given(), n, case.temperature) for n in (low, high))
    above = (case.rewards[None] >= case.rewards[:, None]).astype(float)
    for rule in RISING:
        assert (above @ more[rule] >= above @ less[rule] - 1e-12).all(), rule


def eager(problem, n, temperature):
    return laws.__wrapped__(problem, n, temperature)


MAPPED = jax.jit(jax.vmap(laws.__wrapped__, in_axes=(None, 0, 0)))


@pytest.mark.slow
@given(cases())
def test_every_law_is_the_same_eagerly_compiled_and_mapped(case):
    compiled = laws(case.given(), case.n, case.temperature)
    assert_same(eager(case.given(), case.n, case.temperature), compiled)
    n, temperature = jnp.array([case.n, 1.0, 2.5]), jnp.array([case.temperature, 0.0, np.inf])
    mapped = MAPPED(case.given(), n, temperature)
    assert_same({rule: x[0] for rule, x in mapped.items()}, compiled)


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1, 2, 3))
def slopes(log_probs, rewards, n, temperature, weights):
    """Of weighted probabilities under all rules."""
    found = laws(sb.Problem(log_probs, rewards), n, temperature)
    return jnp.sum(weights * jnp.stack([found[rule] for rule in RULES]))


@pytest.mark.slow
@given(cases(), st.sampled_from(RULES), st.integers(0, SIZE - 1))
@example(ALONE, "rejection, best", 0)
def test_probabilities_have_finite_slopes(case, rule, outcome):
    """And those by the rewards sum to 0, with no part of what is impossible."""
    weights = np.zeros((len(RULES), SIZE))
    weights[RULES.index(rule), outcome] = 1.0
    got = slopes(*case.given(), case.n, case.temperature, weights)
    for name, value in zip(("log_probs", "rewards", "n", "temperature"), got, strict=True):
        assert np.isfinite(value).all(), name
    by_rewards = got[1]
    assert abs(by_rewards.sum()) <= 1e-11 * (1 + abs(by_rewards).max())
    assert not by_rewards[case.probs == 0].any()


@given(cases(limits=False), st.integers(9, 300))
def test_the_lowest_temperatures_are_the_hard_limit(case, digits):
    """A reward is a multiple of 2^-10, so that e^{-gap/λ} is nothing at λ = 1e-9 already."""
    at = (case.given(), case.n)
    if case.n <= 1e3 or digits > 14:  # else the rarest outcome of the hard rule is rarer still
        got, limit = laws(*at, 10.0**-digits), laws(*at, 0.0)
        rules = ("soft", "poisson", "tilted", "race", "rejection, any", "rejection, best")
        assert_same({x: got[x] for x in rules}, {x: limit[x] for x in rules})


@given(cases(), st.permutations(range(SIZE)), st.sampled_from([2.0**-20, 0.75, 3.0, 2.0**30]))
def test_bounds_know_neither_order_nor_unit(case, order, unit):
    case = case._replace(rewards=case.rewards - case.rewards.min())
    order = np.array(order)
    moved = case.given(probs=case.probs[order], rewards=unit * case.rewards[order])
    upper = limits_of(case.given(), case.n, case.temperature)
    got = limits_of(moved, case.n, unit * case.temperature)
    assert set(upper) == {*UPPER, "race"}
    for name, value in upper.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-10, atol=1e-14, err_msg=name)


@pytest.mark.slow
@given(cases(), st.floats(0.0, 1.0))
def test_the_laws_of_a_mixture_of_two_temperatures_are_between(case, share):
    """The tilted law gains with 1/λ, and what it costs is what it gains at most (Gibbs)."""
    warm = case.temperature * (1 + share)
    low, high = (measured(case.given(), case.n, t)["soft"] for t in (case.temperature, warm))
    assert low.tilted_reward >= high.tilted_reward - 1e-12 * (1 + abs(case.rewards).max())
    assert low.kl_tilted_base >= high.kl_tilted_base - 1e-12


CHOSEN = jax.jit(lambda *args: jnp.exp(sb.pessimism_log_probs(*args)))


@given(pools(), st.integers(-(2**20), 2**20), st.permutations(range(POOL)), st.just(3.0))
def test_the_pessimist_knows_neither_origin_nor_order_nor_unit(pool, k, order, unit):
    rewards, regularization, _ = pool
    law = CHOSEN(rewards, regularization)
    near = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(law.sum(), 1, rtol=1e-13)
    np.testing.assert_allclose(CHOSEN(rewards + k / 1024, regularization), law, **near)
    np.testing.assert_allclose(CHOSEN(unit * rewards, unit * regularization), law, **near)
    order = np.array(order)
    np.testing.assert_allclose(CHOSEN(rewards[order], regularization), law[order], **near)
