"""Continuous laws of the reward: against composite quadrature, closed forms and SciPy's laws."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp
from scipy import integrate, stats

import softbon_jax as sb
from softbon_jax import _batching
from tests.oracles.continuous import metrics as exact_metrics

LOG_2PI = np.log(2 * np.pi)


def two_logpdf(r):
    return np.logaddexp(stats.norm.logpdf(r), stats.norm.logpdf(r, 4, 0.5)) - np.log(2)


LAWS = {  # arguments, SciPy's law, cuts of the oracle
    "normal": (
        {"logpdf": lambda r: -(r**2) / 2 - LOG_2PI / 2},
        stats.norm(),
        np.linspace(-12, 14, 27),
    ),
    "normal by quantiles": (
        {"ppf": lambda u: stats.norm.ppf(u)},
        stats.norm(),
        np.linspace(-12, 14, 27),
    ),
    "uniform": (
        {"logpdf": np.zeros_like, "support": (0.0, 1.0)},
        stats.uniform(),
        np.linspace(0, 1, 9),
    ),
    "exponential": (
        {"logpdf": lambda r: -r, "support": (0.0, np.inf), "temperature": 0.5},
        stats.expon(),
        np.append(np.linspace(0, 60, 61), 120),
    ),
    "reflected": (
        {"logpdf": lambda r: r, "support": (-np.inf, 0.0), "temperature": 0.5},
        None,
        np.linspace(-60, 0, 61),
    ),
    "two parts": (
        {"logpdf": lambda r: two_logpdf(r)},
        None,
        np.linspace(-12, 14, 53),
    ),
}  # fmt: skip
N = np.array([1.0, 2.5, 100.0])
TEMPERATURES = np.array([0.5, 2.0])


def two_cdf(r):
    return (stats.norm.cdf(r) + stats.norm.cdf(r, 4, 0.5)) / 2


CDF = {"reflected": lambda r: np.exp(np.minimum(r, 0)), "two parts": two_cdf}


@pytest.fixture(scope="module")
def made():
    return {name: sb.from_distribution(**given) for name, (given, _, _) in LAWS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_metrics_against_composite_quadrature(made, name):
    given, law, cuts = LAWS[name]
    pdf = law.pdf if law else lambda r: np.exp(given["logpdf"](r))
    cdf = CDF.get(name) or law.cdf
    got = sb.sweep(made[name], N, TEMPERATURES)
    heavy = name == "exponential"
    for i, temperature in enumerate(TEMPERATURES):
        reward, kl, win, tilted = exact_metrics(pdf, cdf, cuts, N, temperature)
        at = f"{name}, λ = {temperature}"
        np.testing.assert_allclose(got.reward[i], reward, rtol=1e-10, atol=1e-11, err_msg=at)
        np.testing.assert_allclose(got.kl_soft_base[i], kl, rtol=1e-9, atol=1e-12, err_msg=at)
        np.testing.assert_allclose(got.win_rate[i], win, rtol=1e-10, err_msg=at)
        if heavy and temperature <= 1:  # E e^{r/λ} is infinite
            assert np.isnan(got.tilted_reward[i]).all()
        elif name != "normal by quantiles":
            np.testing.assert_allclose(got.tilted_reward[i], tilted, rtol=1e-9, err_msg=at)


@pytest.mark.slow
def test_the_normal_law_in_mpmath(made):
    """E_{P_n}[r] by a double integral."""
    with mp.workdps(20):

        def phi(t):
            return mp.quad(lambda r: mp.npdf(r) * mp.exp(-t * mp.exp(r)), [-9, -3, 0, 3, 9])

        def drawn(u):
            t = mp.exp(u)
            inner = mp.quad(lambda r: r * mp.npdf(r) * mp.exp(r - t * mp.exp(r)), [-9, -3, 0, 3, 9])
            return 3 * t * phi(t) ** 2 * inner

        steps = [mp.mpf(k) / 4 for k in range(-160, 33)]
        right = float(mp.fsum(drawn(u) for u in steps) / 4)
    np.testing.assert_allclose(sb.metrics(made["normal"], 3.0, 1.0).reward, right, rtol=1e-11)


def mean_of_best(law, n):
    """By SciPy's quadrature, below the median over rewards and above it over probabilities."""
    options = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 300}
    below = integrate.quad(
        lambda r: r * n * law.cdf(r) ** (n - 1) * law.pdf(r),
        max(law.ppf(1e-300), -40), law.median(), **options,
    )[0]  # fmt: skip
    above = integrate.quad(
        lambda u: law.isf(u) * n * np.exp((n - 1) * np.log1p(-u)), 0, 0.5,
        points=(1e-3 / n, 1 / n, min(0.4, 20 / n)), **options,
    )[0]  # fmt: skip
    return below + above


@pytest.mark.slow
def test_hard_selection_is_by_the_distribution_function(made):
    n = np.array([1.0, 2.5, 8.0, 1e3])
    for name in ("normal", "uniform", "exponential"):
        law = LAWS[name][1]
        got = sb.metrics(made[name], n, 0.0)
        np.testing.assert_allclose(got.win_rate, n / (n + 1), rtol=1e-14)
        np.testing.assert_allclose(
            got.kl_soft_base, np.log(n) - (n - 1) / n, rtol=1e-12, atol=1e-15
        )
        for x, size in zip(got.reward, n, strict=True):
            np.testing.assert_allclose(x, mean_of_best(law, size), rtol=1e-8, atol=1e-9)
    assert (np.asarray(sb.metrics(made["uniform"], n, 0.0).tilted_reward) == 1).all()
    uniform = sb.metrics(made["uniform"], n, 0.0).reward
    np.testing.assert_allclose(uniform, n / (n + 1), rtol=1e-12)


@pytest.mark.slow
def test_a_heavy_tail_has_a_law_and_no_tilt():
    pareto = sb.from_distribution(
        logpdf=lambda r: np.log(3) - 4 * np.log(r), support=(1.0, np.inf), n=8, temperature=1.0
    )
    got = sb.metrics(pareto, np.array([2.0, 8.0]), 1.0)
    cuts = np.concatenate([np.linspace(1, 300, 200), np.geomspace(310, 1e6, 40)])
    for x, kl, n in zip(got.reward, got.kl_soft_base, (2.0, 8.0), strict=True):
        # Beyond 300 a candidate wins whatever it is against others, up to 1e-7 squared.
        r, w = _nodes(cuts)
        p = 3 * r**-4.0 * w
        law = sb.log_soft_bon(sb.Problem(jnp.log(p / p.sum()), jnp.minimum(r, 300.0)), n, 1.0)
        law = np.exp(np.asarray(law))
        np.testing.assert_allclose(x, law @ r, rtol=1e-8)
        np.testing.assert_allclose(kl, law @ np.log(law / p), rtol=1e-7)
    for field in ("tilted_reward", "reward_gap", "kl_tilted_soft", "kl_tilted_base", "tv", "chi2"):
        assert np.isnan(getattr(got, field)).all(), field


def _nodes(cuts):
    from tests.oracles.continuous import nodes

    return nodes(cuts)


@pytest.mark.slow
def test_the_nodes_are_an_alphabet_for_every_other_function(made):
    beta = 1 / TEMPERATURES
    got = sb.bounds.cv_squared(made["uniform"], TEMPERATURES)
    np.testing.assert_allclose(got, beta / 2 / np.tanh(beta / 2) - 1, rtol=1e-10)
    assert sb.log_soft_bon(made["uniform"], 4.0, 1.0).shape == made["uniform"].rewards.shape
    found = sb.temperature_for_kl(made["normal"], 16.0, 0.5).value
    np.testing.assert_allclose(sb.metrics(made["normal"], 16.0, found).kl_soft_base, 0.5, rtol=1e-9)


@pytest.mark.slow
def test_under_jit(made):
    law = made["normal"]
    eager = sb.metrics(law, N, 1.0)
    jitted = jax.jit(sb.metrics)(law, N, 1.0)
    for x, y in zip(eager, jitted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("together", [None, 2])
def test_a_sweep_is_the_metrics_point_by_point(made, together, monkeypatch):
    law, temperatures = made["two parts"], np.array([0.0, 0.7, 1.0, np.inf])
    n = np.append(N, [1.5, 2.0] if together else [7.0])
    if together:  # so many n at once
        monkeypatch.setattr(_batching, "CHUNK_ELEMENTS", together * law.rewards.size)
    grid = sb.sweep(law, n, temperatures)
    points = sb.metrics(law, n, temperatures[:, None])
    for name, x, y in zip(grid._fields, grid, points, strict=True):
        assert x.shape == (4, n.size)
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-14, err_msg=name)


@pytest.mark.slow
def test_a_sweep_of_unknown_n_and_temperature_is_nan_where_they_are_not_resolved(made):
    grid = jax.jit(sb.sweep)(made["normal"], jnp.array([0.5, 4.0, 1e9]), jnp.array([1e-6, 1.0]))
    assert np.isnan(grid.reward).tolist() == [[True] * 3, [True, False, True]]
    expected = sb.metrics(made["normal"], 4.0, 1.0).reward
    np.testing.assert_allclose(grid.reward[1, 1], expected, rtol=1e-9)


@pytest.mark.slow
def test_slope_in_the_temperature(made):
    slope = jax.grad(lambda t: sb.metrics(made["normal"], 8.0, t).reward)(1.0)
    cuts = LAWS["normal"][2]
    up, down = (
        exact_metrics(stats.norm.pdf, stats.norm.cdf, cuts, 8.0, 1 + x)[0] for x in (1e-4, -1e-4)
    )
    np.testing.assert_allclose(slope, (up - down) / 2e-4, rtol=1e-7)


@pytest.mark.slow
def test_what_the_nodes_do_not_resolve_is_refused(made):
    law = made["exponential"]
    with pytest.raises(
        ValueError, match="temperature must be 0, or at least the least_temperature"
    ):
        sb.metrics(law, 4.0, 0.1)
    with pytest.raises(ValueError, match="log n must be at most the log of the most_n"):
        sb.metrics(law, 1e5, 1.0)
    assert np.isnan(jax.jit(sb.metrics)(law, 4.0, 0.1).reward)
    assert np.isnan(jax.jit(sb.metrics)(law, 1e5, 1.0).reward)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "ppf or logpdf must be given"),
        ({"ppf": 3}, "ppf must be a function, got 3"),
        ({"logpdf": lambda r: -(r**2)}, "integrates to 1, got 1.77"),
        ({"logpdf": lambda r: r * np.nan}, "logpdf at"),
        ({"logpdf": lambda r: 0.0}, "logpdf must take arrays"),
        ({"logpdf": np.zeros_like, "support": (1, 0)}, "support must be"),
        ({"logpdf": np.zeros_like, "support": (0, 1), "temperature": -1}, "temperature must be"),
        ({"ppf": lambda u: np.floor(4 * u)}, "not resolved by"),
    ],
)
def test_bad_laws_are_named(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sb.from_distribution(**given)


STORED = json.loads((Path(__file__).parent / "reference" / "continuous.json").read_text())
STORED_LAWS = {
    "normal": {"logpdf": LAWS["normal"][0]["logpdf"]},
    "uniform": LAWS["uniform"][0],
    "exponential": LAWS["exponential"][0],
    "mixture": LAWS["two parts"][0],
    "pareto": {
        "logpdf": lambda r: np.log(3) - 4 * np.log(r),
        "support": (1.0, np.inf),
        "temperature": 20.0,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED_LAWS)
def test_against_stored_results_of_mpmath(name):
    cases = [x[1:] for x in STORED["cases"] if x[0] == name]
    n, temperature, reward, kl, _ = np.array(cases, float).T
    law = sb.from_distribution(**STORED_LAWS[name])
    numbers, column = np.unique(n, return_inverse=True)
    temperatures, row = np.unique(temperature, return_inverse=True)
    got = sb.sweep(law, numbers, temperatures)
    np.testing.assert_allclose(got.reward[row, column], reward, rtol=1e-10)
    np.testing.assert_allclose(got.kl_soft_base[row, column], kl, rtol=1e-10)


def test_the_stored_cases_are_many_and_proved():
    assert len(STORED["cases"]) >= 40
    assert max(float(x[-1]) for x in STORED["cases"]) < 1e-12
