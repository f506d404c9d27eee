"""The other rules: exact laws against their oracles and simulation; closed forms in mpmath."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf
from scipy import stats

import softbon_jax as sb
from softbon_jax import bounds
from softbon_jax.sampling import select as selection
from tests import oracles

PROBS, REWARDS = [0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0]
TIED_PROBS, TIED_REWARDS = [0.2, 0.25, 0.1, 0.3, 0.1, 0.05, 0.0], [0, 0, 0.5, 0.5, 1, 1, 3]
PROBLEM = sb.from_probs(PROBS, REWARDS)
TIED = sb.from_probs(TIED_PROBS, TIED_REWARDS)


@pytest.mark.parametrize(
    ("n", "temperature"), [(1, 0.3), (2, 0.2), (7.5, 0.3), (100, 0.1), (16, 0.02), (3, 5.0)]
)
def test_race_matches_its_oracle(n, temperature):
    for problem, probs, rewards in ((PROBLEM, PROBS, REWARDS), (TIED, TIED_PROBS, TIED_REWARDS)):
        exact = oracles.uniform_race_law(probs, rewards, n, temperature)
        got = np.exp(sb.log_uniform_race(problem, n, temperature))
        np.testing.assert_allclose(got, exact, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(got.sum(), 1, rtol=1e-13)


def test_race_matches_simulation():
    n, temperature, trials = 5, 0.3, 100_000
    rng = np.random.default_rng(0)
    drawn = rng.choice(4, p=PROBS, size=(trials, n))
    scores = np.exp(np.asarray(REWARDS)[drawn] / temperature) / rng.random((trials, n))
    picked = drawn[np.arange(trials), scores.argmax(1)]
    law = np.exp(sb.log_uniform_race(PROBLEM, n, temperature))
    assert stats.chisquare(np.bincount(picked, minlength=4), law * trials).pvalue > 1e-3
    soft = np.exp(sb.log_soft_bon(PROBLEM, n, temperature))  # the test can tell them apart
    assert stats.chisquare(np.bincount(picked, minlength=4), soft * trials).pvalue < 1e-10


def test_limits_of_the_race():
    np.testing.assert_allclose(
        sb.log_uniform_race(TIED, 7, 0.0)[:6], sb.log_best_of_n(TIED, 7)[:6], rtol=1e-13
    )
    np.testing.assert_allclose(
        sb.log_uniform_race(TIED, 7, 1e-4)[:6], sb.log_best_of_n(TIED, 7)[:6], rtol=1e-10
    )
    np.testing.assert_allclose(
        np.exp(sb.log_uniform_race(TIED, 7, jnp.inf)), TIED_PROBS, rtol=1e-14
    )
    far = sb.log_uniform_race(PROBLEM, temperature=0.3, log_n=900.0)
    np.testing.assert_allclose(far, sb.log_tilted(PROBLEM, 0.3), rtol=1e-14)
    one = sb.from_probs([1.0], [2.0])
    np.testing.assert_array_equal(sb.log_uniform_race(one, 3, 0.5), [0.0])


def test_race_with_weights_of_e_minus_2000():
    """w(x) is 0 in floats; the law is still right relative to itself."""
    temperature = 1 / 2000
    exact = oracles.uniform_race_law(PROBS, REWARDS, 3, temperature)
    got = np.asarray(sb.log_uniform_race(PROBLEM, 3, temperature))
    np.testing.assert_allclose(got, np.log(exact), rtol=1e-12, atol=1e-12)


def test_race_metrics_keep_their_digits_while_the_bound_holds():
    n = np.array([1.0, 4.0, 16.0, 64.0, 1024.0])
    got = sb.race_metrics(PROBLEM, n, 0.3)
    upper = bounds.race_tv_upper(PROBLEM, n, 0.3)
    assert np.all(got.tv <= upper * (1 + 1e-12))
    log_probs, rewards = (np.asarray(x) for x in PROBLEM)
    with mp.workdps(300):
        mean = mp.fsum(
            mp.exp(mpf(x) + (mpf(r) - 1) / mpf(0.3))
            for x, r in zip(log_probs, rewards, strict=True)
        )
        for i, size in enumerate(n):
            law = oracles.exact_race_law(log_probs, rewards, size, 0.3, digits=300)
            exact = oracles.metrics_of_law(log_probs, rewards, law, 0.3, digits=300)
            np.testing.assert_allclose(float(got.tv[i]), float(exact["tv"]), rtol=1e-11)
            kl = float(exact["kl_tilted_soft"])
            np.testing.assert_allclose(float(got.kl_tilted_soft[i]), kl, rtol=1e-10)
            miss = float((1 - mean) ** mpf(size))
            np.testing.assert_allclose(float(upper[i]), miss, rtol=1e-11)


def test_race_metrics_are_those_of_the_law():
    for temperature in (0.0, 0.3, jnp.inf):
        exact = sb.law_metrics(PROBLEM, sb.log_uniform_race(PROBLEM, 6, temperature), temperature)
        got = sb.race_metrics(PROBLEM, 6, temperature)
        for field in sb.Metrics._fields:
            np.testing.assert_allclose(
                getattr(got, field), getattr(exact, field), rtol=1e-10, atol=1e-14, err_msg=field
            )


@pytest.mark.slow
def test_gradients_of_the_race_also_at_ties():
    def law(rewards, log_probs, temperature, n):
        return jnp.exp(sb.log_uniform_race(sb.from_logits(log_probs, rewards), n, temperature))

    arguments = [TIED.rewards, TIED.log_probs, jnp.float64(0.3), jnp.float64(3.0)]
    got = jax.jacrev(law, argnums=(0, 1, 2, 3))(*arguments)
    for i, argument in enumerate(arguments):
        for k in np.ndindex(argument.shape):
            if not np.isfinite(argument[k]):
                continue
            h = 1e-5
            up, down = (
                [x if j != i else x.at[k].add(s) for j, x in enumerate(arguments)] for s in (h, -h)
            )
            slope = (law(*up) - law(*down)) / (2 * h)
            np.testing.assert_allclose(got[i][(slice(None), *k)], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.02, 0.3, np.inf])
@pytest.mark.parametrize("mean_extra", [0.0, 0.5, 3.39])
def test_best_of_poisson_is_the_average_over_n(temperature, mean_extra):
    n = np.arange(1, 30)
    weights = stats.poisson.pmf(n - 1, mean_extra)
    assert stats.poisson.sf(n[-1] - 1, mean_extra) < 1e-16
    if temperature in (0.0, np.inf):
        rule = oracles.hard_law if temperature == 0 else lambda p, r, n: np.exp(p)
        laws = [rule(PROBLEM.log_probs, PROBLEM.rewards, k) for k in n]
    else:
        laws = np.exp(sb.log_soft_bon(PROBLEM, n, temperature))
    got = np.exp(sb.log_best_of_poisson(PROBLEM, mean_extra, temperature))
    np.testing.assert_allclose(got, weights @ np.asarray(laws), rtol=1e-12)


def test_rejection_where_nearly_all_is_accepted():
    """One draw is P itself, however seldom it is rejected."""
    rare = 10.0 ** -np.arange(3, 16)
    problem = sb.from_probs(np.stack([1 - rare, rare], -1), [1.0, 0.0])
    law = np.exp(sb.log_rejection(problem, 1, 0.3))
    np.testing.assert_allclose(law, np.exp(problem.log_probs), rtol=1e-13)


def test_rejection_is_what_it_does():
    """Enumeration: the first accepted draw, otherwise one of the rejected or the best of them."""
    n, temperature = 3, 0.3
    for fallback in ("any", "best"):
        law = oracles.rejection_law_by_tuples(PROBS, REWARDS, n, temperature, fallback)
        got = np.exp(sb.log_rejection(PROBLEM, n, temperature, fallback=fallback))
        np.testing.assert_allclose(got, law, rtol=1e-12)
        np.testing.assert_allclose(
            np.exp(sb.log_rejection(TIED, n, jnp.inf, fallback=fallback)), TIED_PROBS, rtol=1e-14
        )
    np.testing.assert_allclose(
        np.exp(sb.log_rejection(TIED, n, 0.0, fallback="best")),
        np.exp(sb.log_best_of_n(TIED, n)),
        rtol=1e-12,
    )


# Selection kernels --------------------------------------------------------------------------------

TRIALS = 40_000


def pools(n, seed=0):
    drawn = np.random.default_rng(seed).choice(4, p=PROBS, size=(TRIALS, n))
    return drawn, np.asarray(REWARDS)[drawn]


def agrees(drawn, index, law):
    counts = np.bincount(drawn[np.arange(TRIALS), np.asarray(index)], minlength=4)
    return stats.chisquare(counts, np.asarray(law) * TRIALS).pvalue > 1e-3


@pytest.mark.parametrize("fallback", ["any", "best"])
def test_select_rejection_has_its_law(fallback):
    drawn, rewards = pools(5)
    for temperature in (0.0, 0.3):
        index = sb.select_rejection(jax.random.key(1), rewards, temperature, 1.0, fallback=fallback)
        law = np.exp(sb.log_rejection(PROBLEM, 5, temperature, fallback=fallback))
        assert agrees(drawn, index, law)


def test_poisson_mask_gives_best_of_poisson():
    drawn, rewards = pools(20)
    where = sb.poisson_mask(jax.random.key(2), rewards.shape, 2.5)
    size = np.asarray(where.sum(-1))
    assert abs(size.mean() - 3.5) < 5 * np.sqrt(2.5 / TRIALS)
    assert np.array_equal(where, np.arange(20) < size[:, None])
    index = selection.select(jax.random.key(3), rewards, 0.3, where=where)
    assert agrees(drawn, index, np.exp(sb.log_best_of_poisson(PROBLEM, 2.5, 0.3)))


def test_pessimism_solves_its_own_problem():
    """Weights relu((r - τ)/β) with mean 1, by bisection on τ; and the maximum they stand for."""
    rewards = np.random.default_rng(3).normal(size=7)
    for beta in (0.05, 0.3, 2.0):
        low, high = rewards.min() - beta - 1, rewards.max()
        for _ in range(200):
            middle = (low + high) / 2
            above = np.maximum((rewards - middle) / beta, 0).mean() > 1
            low, high = (middle, high) if above else (low, middle)
        exact = np.maximum((rewards - low) / beta, 0) / 7
        got = np.exp(sb.pessimism_log_probs(rewards, beta))
        np.testing.assert_allclose(got, exact, atol=1e-13)
    assert np.array_equal(
        np.exp(sb.pessimism_log_probs(np.array([0.0, 1.0, 1.0]), 0.0)), [0, 0.5, 0.5]
    )
    np.testing.assert_allclose(
        np.exp(sb.pessimism_log_probs(rewards, np.inf, where=rewards > 0)),
        (rewards > 0) / (rewards > 0).sum(),
    )


def test_select_pessimist_and_its_simulated_law():
    drawn, rewards = pools(8)
    index = sb.select_pessimist(jax.random.key(4), rewards, 0.2)
    law = sb.simulate_pessimism(jax.random.key(5), PROBLEM, 8, 0.2, trials=4_000)
    counts = np.bincount(drawn[np.arange(TRIALS), np.asarray(index)], minlength=4) / TRIALS
    error = np.sqrt(counts * (1 - counts) / TRIALS + np.asarray(law.standard_error) ** 2)
    assert np.all(np.abs(counts - law.probs) < 5 * error)
    np.testing.assert_allclose(law.probs.sum(), 1, rtol=1e-12)
    assert np.all(law.standard_error > 0)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_kernels_refuse_what_select_refuses(bad):
    rewards, key = jnp.asarray(bad), jax.random.key
    for pick in (
        lambda r: sb.select_rejection(key(0), r, 0.3, 1.0),
        lambda r: sb.select_pessimist(key(0), r, 0.3),
        lambda r: sb.pessimism_log_probs(r, 0.3),
    ):
        with pytest.raises(ValueError, match=r"rewards must be|number of candidates"):
            pick(rewards)
    assert jax.jit(lambda r: sb.select_pessimist(key(0), r, 0.3))(rewards) == -1


# Closed forms -------------------------------------------------------------------------------------


def test_best_of_poisson_closed_forms():
    extra = np.array([1e-6, 0.01, 0.3, 0.999, 1.0, 3.39, 39.0, 41.0, 1e5])
    kl, win = bounds.best_of_poisson_kl(extra), bounds.best_of_poisson_win_rate(extra)
    with mp.workdps(40):
        for x, a, b in zip(map(mpf, extra), kl, win, strict=True):
            exact = mp.log(1 + x) - 1 + mp.exp(-1 - x) * (mp.ei(1 + x) - mp.ei(1)) / x
            np.testing.assert_allclose(float(a), float(exact), rtol=1e-12)
            np.testing.assert_allclose(float(b), float(1 - (x - 1 + mp.exp(-x)) / x**2), rtol=1e-13)
    assert bounds.best_of_poisson_kl(0.0) == 0


def test_least_kl_is_that_of_the_tilted_law():
    means = np.array([0.51, 0.6, 0.75, 0.99, 0.9999, 0.1])
    got = bounds.least_kl_for_win_rate(means)
    slopes = jax.vmap(jax.grad(bounds.least_kl_for_win_rate))(means)
    with mp.workdps(40):
        for m, value, slope in zip(means, got, slopes, strict=True):
            m, start = (
                mpf(m),
                (12 * (m - 0.5) if abs(m - 0.5) < 0.3 else np.sign(m - 0.5) / min(m, 1 - m)),
            )
            beta = mp.findroot(lambda b, m=m: 1 / (1 - mp.exp(-b)) - 1 / b - m, start)
            exact = beta * m - mp.log((mp.exp(beta) - 1) / beta)
            np.testing.assert_allclose(float(value), float(exact), rtol=1e-11)
            np.testing.assert_allclose(float(slope), float(beta), rtol=1e-11)


def test_gaps_to_the_tilt_are_the_published_ones():
    """arXiv:2506.19248: the gap of best-of-Poisson is below 1e-3, that of best-of-n 35 times larger."""
    extra, n = np.linspace(0.1, 20, 2001), np.linspace(1.0, 20, 2001)
    poisson = bounds.best_of_poisson_kl(extra) - bounds.least_kl_for_win_rate(
        bounds.best_of_poisson_win_rate(extra)
    )
    plain = bounds.best_of_n_kl(n) - bounds.least_kl_for_win_rate(bounds.best_of_n_win_rate(n))
    assert poisson.max() == pytest.approx(6.75e-4, abs=5e-7)
    assert plain.max() == pytest.approx(0.0237, abs=5e-5)
    assert extra[poisson.argmax()] == pytest.approx(3.39, abs=0.05)
    assert n[plain.argmax()] == pytest.approx(2.69, abs=0.05)


def test_beirami_estimator():
    for epsilon, n in ((0.1, 10.0), (1e-9, 5.0), (0.3, 1.0), (1.0, 4.0)):
        with mp.workdps(40):
            e, m = mpf(epsilon), mpf(n)
            stay = (1 - e) ** m
            exact = mpf(0)
            if stay > 0:
                exact += stay * (mp.log(m) + (m - 1) * mp.log(1 - e) - (m - 1) / m)
            if stay < 1:
                exact += (1 - stay) * mp.log((1 - stay) / e)
        got = bounds.best_of_n_kl_estimate(n, epsilon)
        np.testing.assert_allclose(float(got), float(exact), rtol=1e-12, atol=1e-15)
    law = oracles.hard_law(np.log(PROBS), np.array(REWARDS), 6)
    each = np.array([float(bounds.best_of_n_kl_estimate(6.0, x)) for x in PROBS])
    np.testing.assert_allclose(
        bounds.expected_best_of_n_kl_estimate(PROBLEM, 6), law @ each, rtol=1e-13
    )
    # Ties count as one outcome.
    merged = sb.from_probs([0.45, 0.4, 0.15], [0.0, 0.5, 1.0])
    np.testing.assert_allclose(
        bounds.expected_best_of_n_kl_estimate(TIED, 6),
        bounds.expected_best_of_n_kl_estimate(merged, 6),
        rtol=1e-13,
    )


def test_uniform_alphabet_at_n_100():
    assert float(sb.metrics(sb.uniform_quantiles(10), 100, 0.0).kl_soft_base) == pytest.approx(
        2.30228, abs=5e-6
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sb.log_uniform_race(PROBLEM, 0.5, 0.3), r"n must be.*0\.5"),
        (lambda: sb.log_best_of_poisson(PROBLEM, -1.0, 0.3), r"mean_extra must be.*-1\.0"),
        (lambda: sb.log_rejection(PROBLEM, 2, 0.3, fallback="none"), "'any' or 'best', got 'none'"),
        (lambda: sb.select_rejection(jax.random.key(0), jnp.ones(2), 0.3, np.inf), "envelope must"),
        (
            lambda: sb.simulate_pessimism(jax.random.key(0), PROBLEM, 0, 0.3, trials=9),
            "n must be an integer",
        ),
        (lambda: sb.poisson_mask(jax.random.key(0), (0,), 1.0), "shape must have"),
        (lambda: bounds.best_of_n_kl_estimate(3, 0.0), "selected must be in"),
        (lambda: bounds.least_kl_for_win_rate(1.0), "win_rate must be strictly"),
        (lambda: bounds.best_of_poisson_kl(math.inf), "mean_extra must be finite"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_float32_and_traced_bad_values():
    single = sb.Problem(*(x.astype(jnp.float32) for x in TIED))
    for law in (
        lambda p: sb.log_uniform_race(p, 9, 0.3),
        lambda p: sb.log_best_of_poisson(p, 3.0, 0.3),
        lambda p: sb.log_rejection(p, 9, 0.3),
    ):
        got = law(single)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(np.exp(got), np.exp(law(TIED)), rtol=1e-5, atol=1e-6)
    bad = jax.jit(lambda n, t: sb.log_uniform_race(PROBLEM, n, t))
    assert np.isnan(bad(0.5, 0.3)).all()
    assert np.isnan(bad(2.0, -1.0)).all()


@pytest.mark.slow
def test_the_slope_of_rejection_is_that_of_its_envelope_too():
    """Against differences: the envelope moves with the best reward."""
    problem, h = sb.from_probs([0.5, 0.3, 0.2], [0.0, 0.4, 1.0]), 1e-6

    def chance(rewards, fallback="any"):
        return jnp.exp(
            sb.log_rejection(problem._replace(rewards=rewards), 3.0, 0.5, fallback=fallback)
        )

    for fallback in ("any", "best"):
        slopes = jax.jacobian(chance)(problem.rewards, fallback)
        for i, step in enumerate(h * np.eye(3)):
            up, down = (chance(problem.rewards + s * step, fallback) for s in (1.0, -1.0))
            np.testing.assert_allclose(slopes[:, i], (up - down) / (2 * h), rtol=1e-6, atol=1e-9)
