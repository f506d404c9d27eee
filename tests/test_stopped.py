"""Draws up to a threshold: against all counts, the formula for real n in mpmath, and the limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

import softbon_jax as sb
from tests import oracles
from tests.drawing_cases import (
    PROBLEMS,
    TEMPERATURES,
    gradient,
    stacked,
    worst_law_error,
    worst_metrics_error,
)

CASES = [
    *itertools.product(PROBLEMS, (0.3, 0.6), (2, 3), TEMPERATURES),
    *itertools.product(("plain", "rare worst"), (-np.inf, 1.0, 2.0), (1, 4), (0.0, 0.3, np.inf)),
]
P, R = PROBLEMS["plain"]
PROBLEM = sb.from_probs(P, R)
LOG_PROBS = np.asarray(PROBLEM.log_probs)


@pytest.fixture(scope="module")
def computed():
    """The laws, metrics and mean numbers of all cases, in one call each."""
    names, thresholds, n, temperatures = zip(*CASES, strict=True)
    problem, z, n = stacked(names), np.array(thresholds), np.array(n)
    given = problem, z, n, np.array(temperatures)
    return sb.log_stopped(*given), sb.stopped_metrics(*given), sb.mean_stopped_n(problem, z, n)


@pytest.mark.slow
def test_laws_metrics_and_costs_against_all_counts(computed):
    assert len(CASES) >= 40
    log_laws, metrics, means = computed
    for i, (name, threshold, n, temperature) in enumerate(CASES):
        probs, rewards = PROBLEMS[name]
        log_probs = np.asarray(sb.from_probs(probs, rewards).log_probs)
        exact = oracles.stopped_law(log_probs, rewards, threshold, n, temperature)
        assert worst_law_error(log_laws[i], exact) < 1e-11, CASES[i]
        got = jax.tree.map(lambda x, i=i: x[i], metrics)
        error, field = worst_metrics_error(got, log_probs, rewards, exact, temperature)
        assert error < 1e-11, (CASES[i], field, error)
        mean = float(oracles.mean_stopped_n(log_probs, rewards, threshold, n))
        np.testing.assert_allclose(means[i], mean, rtol=1e-14)


REAL = list(itertools.product((0.3, 0.6), (1 + 1e-6, 1.5, 7.25, 100.0, 1e9)))


@pytest.fixture(scope="module")
def at_real_n():
    """The laws and metrics of all `REAL`, in one call each."""
    given = PROBLEM, *np.array(REAL).T, 0.3
    return sb.log_stopped(*given), sb.stopped_metrics(*given)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(REAL)))
def test_any_real_n_against_the_formula(at_real_n, index):
    threshold, n = REAL[index]
    exact = oracles.law_by_integral(
        LOG_PROBS, R, oracles.stopped_factors(n), 0.3, threshold, reach=min(n, 20.0), digits=60
    )
    assert worst_law_error(at_real_n[0][index], exact) < 1e-11
    got = jax.tree.map(lambda x: x[index], at_real_n[1])
    error, field = worst_metrics_error(got, LOG_PROBS, R, exact, 0.3)
    assert error < 1e-11, field


@pytest.mark.slow
def test_the_ends_of_the_threshold():
    """At -inf the first draw is returned; above every reward it is soft best-of-n."""
    n, temperature = np.array([1.0, 8.5, 1e6]), np.array([0.0, 1e-13, 0.3, np.inf])[:, None]
    ends = np.array([-np.inf, 1.5, np.inf])[:, None, None]
    law = sb.log_stopped(PROBLEM, ends, n, temperature)
    stopped = sb.stopped_metrics(PROBLEM, ends, n, temperature)
    np.testing.assert_allclose(
        law[0, ..., :4], np.broadcast_to(LOG_PROBS[:4], (4, 3, 4)), atol=1e-15
    )
    np.testing.assert_array_equal(stopped.kl_soft_base[0], 0)
    means = sb.mean_stopped_n(PROBLEM, [-np.inf, np.inf], 8.5)
    np.testing.assert_allclose(means, [1.0, 8.5], rtol=1e-15)
    soft = sb.metrics(PROBLEM, n, temperature)
    for field in sb.Metrics._fields:
        x, y = getattr(stopped, field), getattr(soft, field)
        for k in (1, 2):
            np.testing.assert_allclose(x[k], y, rtol=1e-11, atol=1e-15, err_msg=field)
    np.testing.assert_allclose(
        law[2], sb.log_soft_bon(PROBLEM, n, temperature), rtol=1e-12, atol=1e-13
    )


def test_without_selection_a_stop_is_not_the_reference_law():
    """With Pr(A) = q and no limit to n, A is picked with probability E[1/N] = q log(1/q)/(1-q)."""
    coin = sb.from_probs([0.75, 0.25], [0.0, 1.0])
    picked = np.exp(sb.log_stopped(coin, 1.0, 1e6, np.inf))[1]
    assert picked == pytest.approx(0.25 / 0.75 * np.log(4), rel=1e-12)


@pytest.mark.slow
def test_too_large_n_is_nan():
    assert np.isnan(sb.log_stopped(PROBLEM, 0.5, 1e300, 0.3)).any()
    np.testing.assert_allclose(
        sb.log_stopped(PROBLEM, 0.5, 1e240, 0.3), sb.log_stopped(PROBLEM, 0.5, 1e9, 0.3), rtol=1e-12
    )


VALUES = np.array([0.3, -1.0, 0.7, 2.0, 5.0])


def mean_value(law):
    return mp.fsum(x * mpf(float(v)) for x, v in zip(law, VALUES, strict=True))


@pytest.mark.slow
def test_gradients_against_differences_of_mpmath():
    def value(log_probs, rewards, temperature):
        problem = sb.from_logits(log_probs, rewards)
        law = jnp.exp(sb.log_stopped(problem, 0.5, 4, temperature)) @ VALUES
        return law, sb.stopped_metrics(problem, 0.5, 4, temperature).kl_tilted_soft

    arguments = [jnp.asarray(LOG_PROBS), jnp.asarray(R), jnp.asarray(0.3)]
    got = jax.jacrev(value, argnums=(0, 1, 2))(*arguments)
    with mp.workdps(60):
        for i, argument in enumerate(arguments):
            some = np.asarray(argument).reshape(-1)
            finite = np.flatnonzero(np.isfinite(some))[1:4] if i < 2 else np.arange(1)

            def at(x, which, i=i, finite=finite, some=some):
                changed = np.array(some, object)
                changed[finite] = x
                given = [LOG_PROBS, R, 0.3]
                given[i] = changed if i < 2 else changed[0]
                law = oracles.stopped_law(given[0], given[1], 0.5, 4, given[2])
                if which == 0:
                    return mean_value(law)
                return oracles.metrics_of_law(given[0], given[1], law, given[2])["kl_tilted_soft"]

            for which in (0, 1):
                exact = gradient(lambda x, w=which, at=at: at(x, w), some[finite])
                mine = np.asarray(got[which][i]).reshape(-1)[finite]
                np.testing.assert_allclose(mine, exact, rtol=1e-8, atol=1e-10, err_msg=str(i))


@pytest.mark.slow
def test_the_gradient_in_n():
    @jax.jit
    def slope(n):
        return jax.grad(lambda n: jnp.exp(sb.log_stopped(PROBLEM, 0.5, n, 0.3)) @ VALUES)(n)

    for n in (1.0, 1.5, 4.0):

        def at(x):
            h = oracles.stopped_factors(x[0])
            law = oracles.law_by_integral(LOG_PROBS, R, h, 0.3, 0.5, reach=8.0, digits=40)
            return mean_value(law)

        with mp.workdps(60):
            exact = gradient(at, n, step=1e-10)
        np.testing.assert_allclose(slope(n), exact[0], rtol=1e-8)


@pytest.mark.slow
def test_gradients_at_the_limits_are_finite():
    @jax.jit
    def slopes(temperature):
        def value(problem, n, temperature):
            return sb.stopped_metrics(problem, 0.5, n, temperature).reward

        return jax.grad(value, argnums=(0, 1, 2))(PROBLEM, 4.0, temperature)

    for temperature in (0.0, 1e-13, np.inf):
        found = slopes(temperature)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
        assert found[2] == 0


@pytest.mark.slow
def test_jit_and_float32():
    z, n = jnp.array([0.3, 0.6, 1.5]), jnp.array([2.0, 8.0, 100.0])
    eager = sb.stopped_metrics(PROBLEM, z, n, 0.3)
    compiled = jax.jit(sb.stopped_metrics)(PROBLEM, z, n, 0.3)
    single = sb.Problem(*(x.astype(jnp.float32) for x in PROBLEM))
    rough = sb.stopped_metrics(single, z, n, 0.3)
    for field in sb.Metrics._fields:
        x = getattr(eager, field)
        np.testing.assert_allclose(getattr(compiled, field), x, rtol=1e-12, err_msg=field)
        assert getattr(rough, field).dtype == jnp.float32
        np.testing.assert_allclose(getattr(rough, field), x, rtol=2e-5, atol=1e-9, err_msg=field)
