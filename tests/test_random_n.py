"""A random number of candidates: against all counts, closed forms, and the limits."""

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

WEIGHTS = {
    "one": [1.0, 0.0, 0.0, 0.0],
    "four": [0.0, 0.0, 0.0, 1.0],
    "few": [0.5, 0.25, 0.0, 0.25],
    "nearly one": [1 - 1e-6, 0.0, 1e-6, 0.0],
}
CASES = list(itertools.product(PROBLEMS, WEIGHTS, TEMPERATURES))
P, R = PROBLEMS["plain"]
PROBLEM = sb.from_probs(P, R)
LOG_PROBS = np.asarray(PROBLEM.log_probs)
NUMBERS = {  # a law of N, its G', the largest N that counts, and its mean
    "poisson": (sb.OnePlusPoisson(2.5), lambda s: (1 + 2.5 * s) * mp.exp(2.5 * (s - 1)), 3.5, 3.5),
    "poisson, none": (sb.OnePlusPoisson(0.0), lambda s: mpf(1), 1, 1.0),
    "poisson, many": (
        sb.OnePlusPoisson(1e4),
        lambda s: (1 + 10000 * s) * mp.exp(10000 * (s - 1)),
        1e4,
        10001.0,
    ),
    "binomial": (
        sb.PositiveBinomial(8, 0.25),
        lambda s: 2 * (mpf(3) / 4 + s / 4) ** 7 / (1 - (mpf(3) / 4) ** 8),
        8,
        2 / (1 - 0.75**8),
    ),
    "binomial, all": (sb.PositiveBinomial(8, 1.0), lambda s: 8 * s**7, 8, 8.0),
    "binomial, one": (sb.PositiveBinomial(1, 0.25), lambda s: mpf(1), 1, 1.0),
    "geometric": (sb.Geometric(0.125), lambda s: (1 - s * 7 / 8) ** -2 / 8, 8, 8.0),
    "geometric, one": (sb.Geometric(1.0), lambda s: mpf(1), 1, 1.0),
    "geometric, many": (
        sb.Geometric(2.0**-20),
        lambda s: (1 - s * (1 - mpf(2) ** -20)) ** -2 / 2**20,
        2**20,
        2.0**20,
    ),
    "generating": (
        sb.Generating(lambda s: (s + s**3) / 2, 3.0),
        lambda s: (1 + 3 * s**2) / 2,
        3,
        2.0,
    ),
    "generating, with its derivative": (
        sb.Generating(lambda s: s * (2 + s) / 3, 2.0, lambda s: 2 * (1 + s) / 3),
        lambda s: 2 * (1 + s) / 3,
        2,
        4 / 3,
    ),
}


@pytest.fixture(scope="module")
def computed():
    """The laws and metrics of all cases, in one call each."""
    names, weights, temperatures = zip(*CASES, strict=True)
    given = stacked(names), np.array([WEIGHTS[x] for x in weights]), np.array(temperatures)
    return sb.log_random_n(*given), sb.random_n_metrics(*given)


def test_laws_and_metrics_of_weights_against_all_counts(computed):
    assert len(CASES) >= 40
    log_laws, metrics = computed
    for i, (name, weights, temperature) in enumerate(CASES):
        probs, rewards = PROBLEMS[name]
        log_probs = np.asarray(sb.from_probs(probs, rewards).log_probs)
        exact = oracles.random_n_law(log_probs, rewards, WEIGHTS[weights], temperature)
        assert worst_law_error(log_laws[i], exact) < 1e-11, CASES[i]
        got = jax.tree.map(lambda x, i=i: x[i], metrics)
        error, field = worst_metrics_error(got, log_probs, rewards, exact, temperature)
        assert error < 1e-11, (CASES[i], field, error)


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_laws_of_a_name_against_the_integral(name):
    number, slope, reach, mean = NUMBERS[name]

    def h(s, a):
        return slope(s), mpf(0)

    temperatures = np.array([0.05, 0.3, 4.0])
    laws = sb.log_random_n(PROBLEM, number, temperatures)
    metrics = sb.random_n_metrics(PROBLEM, number, temperatures)
    for i, temperature in enumerate(temperatures):
        exact = oracles.law_by_integral(LOG_PROBS, R, h, temperature, reach=reach)
        assert worst_law_error(laws[i], exact) < 1e-11
        got = jax.tree.map(lambda x, i=i: x[i], metrics)
        error, field = worst_metrics_error(got, LOG_PROBS, R, exact, temperature)
        # Of a plain generating function G'(φ) has the rounding of φ.
        assert error < (1e-10 if "generating" in name else 1e-11), (temperature, field)
    assert float(sb.mean_random_n(number)) == pytest.approx(mean, rel=1e-14)


@pytest.mark.slow
def test_laws_of_a_name_are_those_of_their_weights():
    binomial = np.array(
        [np.exp(_log_choose(8, k)) * 0.25**k * 0.75 ** (8 - k) for k in range(1, 9)]
    )
    pairs = {
        "binomial": binomial / binomial.sum(),
        "geometric": 0.125 * 0.875 ** np.arange(256),
        "generating": np.array([0.5, 0.0, 0.5]),
    }
    padded = np.zeros((3, 256))
    for row, weights in zip(padded, pairs.values(), strict=True):
        row[: weights.size] = weights / weights.sum()
    temperatures = np.array(TEMPERATURES)
    of_weights = sb.random_n_metrics(PROBLEM, padded[:, None], temperatures)
    for k, name in enumerate(pairs):
        a = sb.random_n_metrics(PROBLEM, NUMBERS[name][0], temperatures)
        for field in sb.Metrics._fields:
            x, y = getattr(a, field), getattr(of_weights, field)[k]
            np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-15, err_msg=f"{name} {field}")


def _log_choose(n, k):
    from math import lgamma

    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


@pytest.mark.slow
def test_a_certain_number_is_soft_best_of_n():
    temperature = np.array([0.0, 1e-13, 0.3, np.inf])[:, None]
    n, points = np.array([1, 4]), np.eye(4)[[0, 3]]
    got = sb.log_random_n(PROBLEM, points, temperature)
    np.testing.assert_allclose(
        got, sb.log_soft_bon(PROBLEM, n, temperature), rtol=1e-13, atol=1e-14
    )
    a, b = sb.random_n_metrics(PROBLEM, points, temperature), sb.metrics(PROBLEM, n, temperature)
    for field in sb.Metrics._fields:
        x, y = getattr(a, field), getattr(b, field)
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-16, err_msg=field)


def test_best_of_poisson_is_a_case():
    law = sb.log_random_n(PROBLEM, sb.OnePlusPoisson(2.5), 0.3)
    np.testing.assert_array_equal(law, sb.log_best_of_poisson(PROBLEM, 2.5, 0.3))


def test_mean_of_weights():
    np.testing.assert_allclose(
        sb.mean_random_n([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]), [2.0, 3.0], rtol=1e-15
    )


VALUES = np.array([0.3, -1.0, 0.7, 2.0, 5.0])


def mean_value(log_law):
    return jnp.exp(log_law) @ VALUES


def exact_mean(law):
    return mp.fsum(x * mpf(float(v)) for x, v in zip(law, VALUES, strict=True))


@pytest.mark.slow
def test_gradients_with_weights_against_differences_of_mpmath():
    weights, t = np.array(WEIGHTS["few"]), 0.3

    def value(log_probs, rewards, pmf, temperature):
        problem = sb.from_logits(log_probs, rewards)
        law = mean_value(sb.log_random_n(problem, pmf / pmf.sum(), temperature))
        return law, sb.random_n_metrics(problem, pmf / pmf.sum(), temperature).kl_soft_base

    arguments = [jnp.asarray(LOG_PROBS), jnp.asarray(R), jnp.asarray(weights), jnp.asarray(t)]
    got = jax.jacrev(value, argnums=(0, 1, 2, 3))(*arguments)
    with mp.workdps(60):
        for i, argument in enumerate(arguments):
            some = np.asarray(argument).reshape(-1)
            finite = np.flatnonzero(np.isfinite(some))[:3] if i < 2 else np.arange(some.size)

            def at(x, i=i, finite=finite, some=some, which=0):
                changed = np.array(some, object)
                changed[finite] = x
                given = [LOG_PROBS, R, weights, t]
                given[i] = changed if i < 3 else changed[0]
                law = oracles.random_n_law(*given)
                if which == 0:
                    return exact_mean(law)
                return oracles.metrics_of_law(*given[:2], law, given[3])["kl_soft_base"]

            for which in (0, 1):
                exact = gradient(lambda x, w=which, at=at: at(x, which=w), some[finite])
                mine = np.asarray(got[which][i]).reshape(-1)[finite]
                np.testing.assert_allclose(mine, exact, rtol=1e-8, atol=1e-10, err_msg=str(i))


@pytest.mark.slow
def test_gradients_with_laws_of_a_name():
    """By central differences in float64, the step a power of 2."""

    @jax.jit
    def value(temperature, mean_extra, p, q):
        numbers = sb.OnePlusPoisson(mean_extra), sb.Geometric(p), sb.PositiveBinomial(8, q)
        laws = [sb.log_random_n(PROBLEM, x, temperature) for x in numbers]
        return jnp.stack([mean_value(x) for x in laws])

    slopes = jax.jit(jax.jacfwd(value, argnums=(1, 2, 3)))
    at = [jnp.asarray(2.5), jnp.asarray(0.125), jnp.asarray(0.25)]
    h = 2.0**-12
    for temperature in (0.0, 0.3):
        got = slopes(temperature, *at)
        for i in range(3):
            d = []
            for scale in (1, 2):  # Richardson's extrapolation
                up, down = (
                    [x + s * scale * h * (i == j) for j, x in enumerate(at)] for s in (1, -1)
                )
                rise = value(temperature, *up) - value(temperature, *down)
                d.append(rise / (2 * scale * h))
            np.testing.assert_allclose(got[i], (4 * d[0] - d[1]) / 3, rtol=1e-8, atol=1e-9)
        assert np.isfinite(slopes(temperature, *map(jnp.asarray, (0.0, 1.0, 1.0)))).all()


@pytest.mark.slow
def test_jit_and_float32():
    number = sb.Geometric(jnp.array([0.125, 0.5]))
    eager = sb.random_n_metrics(PROBLEM, number, 0.3)
    compiled = jax.jit(sb.random_n_metrics)(PROBLEM, number, 0.3)
    single = sb.Problem(*(x.astype(jnp.float32) for x in PROBLEM))
    rough = sb.random_n_metrics(single, number, 0.3)
    for field in sb.Metrics._fields:
        x = getattr(eager, field)
        np.testing.assert_allclose(getattr(compiled, field), x, rtol=1e-12, err_msg=field)
        assert getattr(rough, field).dtype == jnp.float32
        np.testing.assert_allclose(getattr(rough, field), x, rtol=2e-5, err_msg=field)


@pytest.mark.parametrize(
    ("pmf", "message"),
    [
        ([0.5, 0.4], "the sum of pmf must be 1"),
        ([1.5, -0.5], "pmf must be finite and not negative"),
        (sb.OnePlusPoisson(-1.0), "mean_extra must be finite"),
        (sb.Geometric(0.0), r"pmf\.p must be in"),
        (sb.PositiveBinomial(2.5, 0.5), r"pmf\.trials must be an integer"),
        (sb.PositiveBinomial(2, 1.5), r"pmf\.p must be in"),
        (sb.Generating(lambda s: s, 0.5), r"pmf\.most must be"),
        ([[0.5, 0.5]] * 3, "do not broadcast: .*pmf"),
    ],
)
def test_what_is_no_law_of_a_number_is_named(pmf, message):
    problem = sb.Problem(*(jnp.broadcast_to(x, (2, 5)) for x in PROBLEM))
    with pytest.raises(ValueError, match=message):
        sb.log_random_n(problem, pmf, 0.3)


def test_what_is_no_function_is_named_and_what_generates_no_law_is_nan():
    with pytest.raises(TypeError, match=r"pmf\.function must be a function"):
        sb.log_random_n(PROBLEM, sb.Generating(3.0, 2.0), 0.3)
    for function in (lambda s: s**2 / 2, lambda s: (1 + s) / 2):
        number = sb.Generating(function, 2.0)
        assert np.isnan(sb.log_random_n(PROBLEM, number, 0.3)[:4]).all()
        assert np.isnan(sb.mean_random_n(number))


@pytest.mark.slow
def test_traced_nonsense_in_a_law_of_a_name_is_nan():
    for number in (sb.OnePlusPoisson(-1.0), sb.Geometric(2.0), sb.PositiveBinomial(2.5, 0.5)):
        traced = jax.tree.map(jnp.asarray, number)
        assert np.isnan(jax.jit(sb.log_random_n)(PROBLEM, traced, 0.3)).all()
        assert np.isnan(jax.jit(sb.mean_random_n)(traced))
