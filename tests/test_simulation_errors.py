"""Standard errors, bias and noise floor of simulated laws and metrics."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import softbon_jax as sb
from softbon_jax.simulation import _jackknife
from tests import oracles
from tests.cells import CELLS, PROBS, REWARDS, problem, run

T_95 = stats.t.ppf(0.975, _jackknife.LANES - 1)


def test_grouped_jackknife_against_its_definition():
    """Sizes 3 and 2 in turn and two empty groups, on the square of a mean, in plain NumPy."""
    rng = np.random.default_rng(0)
    sizes = np.array([3, 2] * 63 + [0, 0])
    totals = np.where(sizes > 0, rng.normal(sizes, np.sqrt(sizes)), 0)
    mean, without = _jackknife.means(jnp.asarray(totals)[:, None], jnp.asarray(sizes, float))
    corrected, error = _jackknife.jackknife(
        mean[0] ** 2, without[:, 0] ** 2, jnp.asarray(sizes, float)
    )

    expected, deviation = oracles.grouped_jackknife(totals, sizes, lambda x: x**2)
    assert corrected == pytest.approx(expected, rel=1e-12)
    assert error == pytest.approx(deviation, rel=1e-12)


@pytest.mark.slow
@pytest.mark.computes
@pytest.mark.parametrize(("method", "n", "temperature"), [("counts", 16, 0.3), ("literal", 8, 0.2)])
def test_intervals_cover_and_bias_is_corrected(method, n, temperature):
    """95 % intervals of every estimate cover in 93 to 97 % of 1,000 repetitions."""
    cells = [(problem(), n, temperature)] * CELLS
    batches = [run(seed, cells, 2_000, method=method) for seed in range(1_000, 1_084)]
    repetitions = itertools.chain.from_iterable(batches)
    estimate = jax.tree.map(lambda *x: np.array(x), *itertools.islice(repetitions, 1_000))
    exact = oracles.exact_metrics(np.log(PROBS), REWARDS, n, temperature)
    values = {k: float(v) for k, v in exact.metrics.items()}
    law = np.array([float(p) for p in exact.law])
    covered = np.mean(np.abs(estimate.probs - law) < T_95 * estimate.probs_se, axis=0)
    assert np.all((covered > 0.93) & (covered < 0.97))
    for name in set(sb.Metrics._fields) - {"tilted_reward", "kl_tilted_base"}:
        value, error = getattr(estimate.metrics, name), getattr(estimate.metrics_se, name)
        covered = np.mean(np.abs(value - values[name]) < T_95 * error)
        assert 0.93 < covered < 0.97, (name, covered)
        bias = (value.mean() - values[name]) / (value.std() / math.sqrt(value.size))
        assert abs(bias) < 5, (name, bias)


@pytest.mark.slow
def test_plug_in_bias_is_what_the_floor_says():
    """The law is P itself at n = 1, λ = inf: KL of a histogram of T is (K - 1)/2T on average."""
    trials = 1_000
    cells = [(problem(), 1, np.inf)] * CELLS
    repeated = itertools.chain(*(run(s, cells, trials, method="literal") for s in range(84)))
    estimate = jax.tree.map(lambda *x: np.array(x), *repeated)
    probs, floor = estimate.probs, estimate.noise_floor.kl_soft_tilted
    assert floor.mean() == pytest.approx(3 / (2 * trials), rel=0.02)
    plug_in = np.sum(probs * np.log(probs / PROBS), axis=-1)
    assert plug_in.mean() == pytest.approx(floor.mean(), rel=0.12)  # its error is 3 %
    chi2 = np.sum((probs - PROBS) ** 2 / PROBS, axis=-1)
    assert chi2.mean() == pytest.approx(np.mean(estimate.noise_floor.chi2), rel=0.15)
    tv = np.sum(np.abs(probs - PROBS), axis=-1) / 2
    assert tv.mean() == pytest.approx(np.mean(estimate.noise_floor.tv), rel=0.1)
    # A divergence is reported only where noise carries it over two standard errors.
    for name in ("kl_tilted_soft", "kl_soft_tilted", "kl_soft_base", "chi2", "tv"):
        assert np.mean(np.isnan(getattr(estimate.metrics, name))) > 0.95


@pytest.mark.slow
def test_a_divergence_below_the_floor_is_nan_and_above_it_a_number():
    cases = [(problem(), 4096, 0.3), (problem(), 4, 0.3)]
    below, above = run(13, cases, 2_000, method="literal")
    assert np.isnan(below.metrics.kl_tilted_soft)
    assert np.isfinite(below.metrics.reward)
    assert above.metrics.kl_tilted_soft > above.noise_floor.kl_tilted_soft > 0
    # The control variate carries the same number of trials to where the literal one is blind.
    controlled, _ = run(13, cases, 2_000)
    exact = oracles.exact_metrics(np.log(PROBS), REWARDS, 4096, 0.3).metrics["kl_tilted_soft"]
    error = controlled.metrics_se.kl_tilted_soft
    assert abs(controlled.metrics.kl_tilted_soft - float(exact)) < 5 * error < float(exact)


def test_an_outcome_that_never_came_up_leaves_no_infinite_divergence():
    jackpot = problem([0.0, 1.0, 1.0, 1.0], [0.5, 0.25, 0.25 - 1e-7, 1e-7])
    (estimate,) = run(14, [(jackpot, 2, 1.0)], 500, method="literal")
    assert estimate.probs[3] == 0
    assert np.isnan(estimate.metrics.kl_tilted_soft)


def test_an_estimate_below_zero_has_a_reward_and_no_divergence():
    """16 trials of two draws, one in a hundred with 55 times the weight of most others."""
    probs, rewards, temperature = np.array([0.9, 0.09, 0.01]), np.array([0.0, 1.0, 2.0]), 0.5
    cells = [(problem(rewards, probs), 2, temperature)] * CELLS
    estimates = [x for x in run(25, cells, 16) if x.probs.min() < 0]
    assert estimates, "none strays below 0"
    tilted = probs * np.exp(rewards / temperature)
    tilted /= tilted.sum()
    wins = np.cumsum(probs) - probs / 2
    for estimate in estimates:
        got, law = estimate.metrics, estimate.probs
        assert law.sum() == pytest.approx(1, rel=1e-12)
        assert got.reward == pytest.approx(law @ rewards, rel=1e-12)
        assert got.reward_gap == pytest.approx((tilted - law) @ rewards, rel=1e-12)
        assert got.win_rate == pytest.approx(law @ wins, rel=1e-12)
        assert got.tilted_reward == pytest.approx(tilted @ rewards, rel=1e-12)
        for name in ("kl_tilted_soft", "kl_soft_tilted", "kl_soft_base", "chi2"):
            assert np.isnan(getattr(got, name))
        # The standard error of the total variation is that of a number, not NaN.
        assert estimate.metrics_se.tv > 0


def test_an_infinite_divergence_is_reported():
    """At λ = 0 the law of n = 2 draws has mass where the tilted law has none."""
    (estimate,) = run(15, [(problem(), 2, 0.0)], 2_000)
    assert estimate.metrics.kl_soft_tilted == np.inf
    assert np.isfinite(estimate.metrics.kl_tilted_soft)


def test_control_variate_makes_the_variance_fall_as_n_squared():
    estimates = run(16, [(problem(), n, 0.5) for n in (100, 10_000)])
    few, many = (np.linalg.norm(x.probs_se) for x in estimates)
    assert few / many == pytest.approx(100, rel=0.15)


def test_control_variate_does_no_harm_at_small_n():
    """One draw in 150 has seven times the mean weight: to trust it in full would cost a factor 5."""
    skewed = problem([0.0, 1.0], [1 - 1 / 150, 1 / 150])
    cases = [(skewed, n, temperature) for n in (1, 2, 4, 16) for temperature in (0.5, 0.2)]
    counts, literal = (run(24, cases, method=method) for method in ("counts", "literal"))
    for x, y in zip(counts, literal, strict=True):
        assert np.linalg.norm(x.probs_se) < 1.2 * np.linalg.norm(y.probs_se)
