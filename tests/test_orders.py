"""Rényi and f-divergences against their definitions in mpmath, and against the metrics."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

import softbon_jax as sb
from tests import oracles
from tests.drawing_cases import PROBLEMS, stacked
from tests.oracles.orders import f_divergence, renyi

PAIRS = ("soft_tilted", "tilted_soft", "soft_base", "base_soft", "tilted_base", "base_tilted")
ORDERS = (0.0, 1e-9, 0.3, 0.5, 0.75, 1 - 1e-9, 1.0, 1 + 1e-7, 1.5, 2.0, 9.0, 1e4, 1e12, np.inf)
CASES = [
    ("plain", 2.5, 0.3),
    ("plain", 1e6, 0.3),
    ("plain", 1e12, 2.0),
    ("plain", 16.0, 0.02),
    ("tied", 16.0, 0.1),
    ("tied", 1e3, 5.0),
    ("rare best", 1e3, 0.05),
    ("rare worst", 3.0, 1.0),
    ("plain", 4.0, 0.0),
    ("plain", 1e3, 0.0),
    ("tied", 16.0, np.inf),
    ("plain", 1.0, 0.3),
]


def exact_laws(name, n, temperature):
    """The three laws on the possible outcomes."""
    probs, rewards = PROBLEMS[name]
    log_probs = np.asarray(stacked([name]).log_probs)[0]
    kept = np.array(probs) > 0
    given = log_probs[kept], np.array(rewards)[kept]
    return {
        "base": [mp.exp(mpf(float(x))) for x in given[0]],
        "tilted": oracles.exact_tilted(*given, temperature),
        "soft": oracles.exact_law(*given, n, temperature),
    }


@pytest.fixture(scope="module")
def exact():
    with mp.workdps(80):
        found = {case: exact_laws(*case) for case in CASES}
        for laws in found.values():
            total = mp.fsum(laws["base"])
            laws["base"] = [x / total for x in laws["base"]]
        return found


@pytest.mark.slow
@pytest.mark.parametrize("between", PAIRS)
def test_renyi_of_every_order(exact, between):
    names, n, temperatures = zip(*CASES, strict=True)
    got = sb.renyi(
        stacked(names),
        np.array(n),
        np.array(temperatures),
        np.array(ORDERS)[:, None],
        between,
    )
    first, second = between.split("_")
    with mp.workdps(80):
        for (i, order), (j, case) in itertools.product(enumerate(ORDERS), enumerate(CASES)):
            right = renyi(exact[case][first], exact[case][second], order)
            if abs(right) < mpf(10) ** -45:
                right = mpf(0)  # what the digits of the oracle leave of 0
            message = f"{between} of order {order} at {case}: {float(right)}"
            np.testing.assert_allclose(  # the oracle's 0 is 1e-49
                float(got[i, j]), float(right), rtol=2e-12, atol=1e-45, err_msg=message
            )


@pytest.mark.slow
def test_the_metrics_are_cases():
    problem = stacked(["plain", "tied", "rare best"])
    n, temperature = np.array([[3.0], [1e5]]), 0.2
    metrics = sb.metrics(problem, n, temperature)
    for order, field in ((1.0, metrics.kl_soft_tilted), (2.0, np.log1p(metrics.chi2))):
        got = sb.renyi(problem, n, temperature, order)
        np.testing.assert_allclose(got, np.broadcast_to(field, got.shape), rtol=1e-12)


GENERATORS = {
    "squared Hellinger": (
        lambda x: (x / (1 + jnp.sqrt(1 + x))) ** 2,
        lambda r: (mp.sqrt(r) - 1) ** 2,
    ),
    "chi2": (lambda x: x**2, lambda r: (r - 1) ** 2),
    "total variation": (lambda x: jnp.abs(x) / 2, lambda r: abs(r - 1) / 2),
    "triangular": (lambda x: x**2 / (2 + x), lambda r: (r - 1) ** 2 / (r + 1)),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_f_divergences(exact, name):
    f, of_ratio = GENERATORS[name]
    cases = [case for case in CASES if 0 < case[2] < np.inf and case[1] > 1]
    names, n, temperatures = zip(*cases, strict=True)
    got = sb.f_divergence(stacked(names), np.array(n), np.array(temperatures), f)
    with mp.workdps(80):
        right = [float(f_divergence(exact[x]["soft"], exact[x]["tilted"], of_ratio)) for x in cases]
    np.testing.assert_allclose(got, right, rtol=2e-12)


def test_f_divergence_that_the_floats_do_not_hold_is_nan():
    problem = sb.from_probs([0.5, 0.5], [0.0, 1.0])
    temperature = np.array([0.0, 1e-3, np.inf])  # at 1e-3 P* of the worse is e^-1000
    got = sb.f_divergence(problem, 1.0, temperature, jnp.square)
    np.testing.assert_array_equal(got, [np.nan, np.nan, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("order", [0.3, 0.75, 1.0, 3.0, 200.0])
def test_gradients(order):
    """With respect to temperature, order and log n, by central differences in mpmath."""
    probs, rewards = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.4, 1.0])
    problem = sb.from_probs(probs, rewards)
    at = (0.3, order, np.log(6.0))
    got = jax.grad(lambda x: sb.renyi(problem, temperature=x[0], order=x[1], log_n=x[2]))(
        jnp.array(at)
    )

    def exactly(temperature, order, log_n):
        logs = np.asarray(problem.log_probs)
        law = oracles.exact_law(logs, rewards, mp.exp(log_n), temperature)
        return renyi(law, oracles.exact_tilted(logs, rewards, temperature), order)

    with mp.workdps(60):
        step = mpf(10) ** -12
        for i, x in enumerate(got):
            up, down = ([mpf(y) for y in at] for _ in range(2))
            up[i] += step
            down[i] -= step
            right = (exactly(*up) - exactly(*down)) / (2 * step)
            np.testing.assert_allclose(float(x), float(right), rtol=1e-8)


@pytest.mark.slow
def test_gradients_are_finite_everywhere():
    problem = sb.Problem(*(x[:, None] for x in stacked(PROBLEMS)))
    grid = itertools.product((1.0, 8.0), (0.05, 3.0), (0.0, 0.5, 1.0, 40.0, np.inf))
    given = [jnp.array(x) for x in zip(*grid, strict=True)]

    def total(problem, n, temperature, order):
        return sb.renyi(problem, n, temperature, order, nodes=1024).sum()

    of_problem, *others = jax.grad(total, (0, 1, 2, 3))(problem, *given)
    assert np.isfinite(of_problem.rewards).all()
    assert np.isfinite(np.asarray(of_problem.log_probs)[np.isfinite(problem.log_probs)]).all()
    assert np.isfinite(np.array(others)).all()


@pytest.mark.slow
def test_single_precision():
    problem = sb.from_probs(np.float32([0.5, 0.3, 0.1, 0.1]), np.float32([0.0, 0.3, 0.6, 1.0]))
    orders = np.float32([0.3, 0.75, 1.0, 2.0, 100.0, np.inf])
    for n in (4.0, 1e6):
        got = sb.renyi(problem, np.float32(n), np.float32(0.3), orders)
        assert got.dtype == np.float32
        same = sb.from_logits(*(np.float64(x) for x in problem))
        right = sb.renyi(same, n, float(np.float32(0.3)), np.float64(orders))
        np.testing.assert_allclose(got, right, rtol=1e-4)


def test_bad_arguments_are_named():
    problem = stacked(["plain"])
    with pytest.raises(ValueError, match=r"order must be at least 0, got -1"):
        sb.renyi(problem, 4, 0.3, -1.0)
    with pytest.raises(ValueError, match="between"):
        sb.renyi(problem, 4, 0.3, 2.0, "soft_gold")
    with pytest.raises(TypeError, match="generator must be a function, got 2"):
        sb.f_divergence(problem, 4, 0.3, 2)
