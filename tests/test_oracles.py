"""The oracles against each other, against closed forms, and against what they stored."""

import itertools

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.special import expit, rel_entr

from tests import oracles
from tests.oracles import precise

LOG_PROBS = np.log(np.array([0.5, 0.3, 0.1, 0.1]))
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
TIED = np.array([0.7, -0.2, 0.7, 0.1])


def _log(*probs: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probs))


def _largest_relative_error(found: list, expected: list, digits: int = 80) -> float:
    with mp.workdps(digits):
        pairs = zip(found, expected, strict=True)
        return float(max(abs(a - b) / b if b else abs(a) for a, b in pairs))


# --- the law -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewards", [REWARDS, TIED], ids=["distinct", "tied"])
@pytest.mark.parametrize("log_probs", [LOG_PROBS, _log(0.5, 0.2, 0.0, 0.3)], ids=["all", "zero"])
@pytest.mark.parametrize("temperature", [0.0, 1e-3, 0.3, 50.0, np.inf])
def test_tuples_and_counts_give_the_same_law(log_probs, rewards, temperature):
    for n in (1, 2, 5):
        by_tuples = oracles.law_by_tuples(log_probs, rewards, n, temperature)
        by_counts = oracles.law_by_counts(log_probs, rewards, n, temperature)
        np.testing.assert_allclose(by_counts, by_tuples, rtol=1e-13, atol=0)
        np.testing.assert_allclose(by_tuples.sum(), 1, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("rewards", [REWARDS, TIED], ids=["distinct", "tied"])
@pytest.mark.parametrize("temperature", [0.02, 0.3, 700.0])
@pytest.mark.parametrize("n", [2, 7])
def test_quadrature_has_fifty_digits_at_integer_n(rewards, temperature, n):
    by_counts = oracles.exact_law_by_counts(LOG_PROBS, rewards, n, temperature)
    law = oracles.exact_law(LOG_PROBS, rewards, n, temperature)
    assert _largest_relative_error(law, by_counts) < 1e-50
    in_floats = oracles.law_by_counts(LOG_PROBS, rewards, n, temperature)
    np.testing.assert_allclose(in_floats, [float(x) for x in by_counts], rtol=1e-13)


def test_quadrature_has_fifty_digits_of_tiny_probabilities():
    """Range / temperature = 300: the worst outcome is selected only if it is drawn each time."""
    log_probs, rewards = _log(0.2, 0.8), [0.0, 1.0]
    by_counts = oracles.exact_law_by_counts(log_probs, rewards, 40, 1 / 300)
    assert by_counts[0] < 2e-28
    law = oracles.exact_law(log_probs, rewards, 40, 1 / 300)
    assert _largest_relative_error(law, by_counts) < 1e-50


@pytest.mark.parametrize("n", [1.0001, 1.5, 2.7])
def test_quadrature_at_real_n_against_tanh_sinh(n):
    """The tanh-sinh rule of mpmath on the integral over t, cut at the scales of the two weights."""
    with mp.workdps(45):
        p = [mpf(3) / 10, mpf(7) / 10]
        w = [mp.exp(-3), mpf(1)]

        def integrand(t, k):
            phi = p[0] * mp.exp(-t * w[0]) + p[1] * mp.exp(-t * w[1])
            return n * p[k] * w[k] * mp.exp(-t * w[k]) * phi ** (mpf(n) - 1)

        cuts = [0, 1, 3, 10, 30, 100, 300, mp.inf]
        expected = [mp.quad(lambda t, k=k: integrand(t, k), cuts, maxdegree=9) for k in (0, 1)]
        law = oracles.exact_law([mp.log(x) for x in p], [0, 3], n, 1)
    assert _largest_relative_error(law, expected) < 1e-32


def test_fewer_nodes_are_made_up_for_by_more_intervals(monkeypatch):
    law = oracles.exact_law(LOG_PROBS, REWARDS, 2.7, 0.3)
    monkeypatch.setattr(precise, "_node_count", lambda digits: 16)
    again = oracles.exact_law(LOG_PROBS, REWARDS, 2.7, 0.3)
    assert law != again
    assert _largest_relative_error(again, law) < 1e-50


def test_a_wrong_integral_is_noticed(monkeypatch):
    nodes = precise._gauss_legendre
    spoiled = lambda count, dps: [(x, w * (1 + mpf(10) ** -30)) for x, w in nodes(count, dps)]  # noqa: E731
    monkeypatch.setattr(precise, "_gauss_legendre", spoiled)
    with pytest.raises(ArithmeticError, match="the law sums to 1"):
        oracles.exact_law(LOG_PROBS, REWARDS, 2.7, 0.3)


def test_published_law():
    """Multinomial enumeration at 60 digits: a regression on the oracle."""
    expected = [0.31013952955209207, 0.34797660813155585, 0.15669593969430429, 0.18518792262204778]
    for law in (
        oracles.law_by_tuples(LOG_PROBS, REWARDS, 2, 0.2),
        oracles.law_by_counts(LOG_PROBS, REWARDS, 2, 0.2),
        [float(x) for x in oracles.exact_law(LOG_PROBS, REWARDS, 2, 0.2)],
    ):
        np.testing.assert_allclose(law, expected, rtol=4e-15)


@pytest.mark.slow
@pytest.mark.parametrize("rewards", [REWARDS, TIED], ids=["distinct", "tied"])
def test_limits_of_the_law(rewards):
    log_probs = _log(0.5, 0.2, 0.0, 0.3)
    probs = np.exp(log_probs)
    for n, temperature in ((1, 0.3), (1, 0.0), (16, np.inf), (2.7, np.inf)):
        law = oracles.exact_law(log_probs, rewards, n, temperature)
        np.testing.assert_allclose([float(x) for x in law], probs, rtol=1e-15)
    for n in (2, 5):
        hard = oracles.hard_law(log_probs, rewards, n)
        tuples = oracles.law_by_tuples(log_probs, rewards, n, 0.0)
        np.testing.assert_allclose(hard, tuples, rtol=1e-13)
    for n, temperature in ((2, 0.0), (2.7, 0.0), (2.7, 2e-3)):
        law = oracles.exact_law(log_probs, rewards, n, temperature)
        hard = oracles.hard_law(log_probs, rewards, n)
        np.testing.assert_allclose([float(x) for x in law], hard, rtol=1e-13)


# --- the metrics ---------------------------------------------------------------------------------


def test_metrics_of_two_outcomes_and_two_draws():
    """Closed form: P_2(high) = p^2 + 2 p (1 - p) s, s the logistic function of r / temperature."""
    p, temperature = 0.3, 0.4
    high = p**2 + 2 * p * (1 - p) * expit(1 / temperature)
    tilted = p * np.exp(1 / temperature) / (p * np.exp(1 / temperature) + 1 - p)
    base, law, target = (np.array([1 - x, x]) for x in (p, high, tilted))
    expected = {
        "reward": -1 + 1.0 * high,
        "tilted_reward": -1 + 1.0 * tilted,
        "reward_gap": tilted - high,
        "relative_reward_gap": (tilted - high) / (tilted - 1),
        "kl_tilted_soft": rel_entr(target, law).sum(),
        "kl_soft_tilted": rel_entr(law, target).sum(),
        "kl_soft_base": rel_entr(law, base).sum(),
        "kl_tilted_base": rel_entr(target, base).sum(),
        "tv": tilted - high,
        "chi2": (law**2 / target).sum() - 1,
        "win_rate": high * (1 - p) + (high * p + (1 - high) * (1 - p)) / 2,
    }
    found = oracles.exact_metrics(np.log(base), [-1.0, 0.0], 2, temperature)
    of_law = oracles.metrics_of_law(np.log(base), [-1.0, 0.0], law, temperature)
    assert tuple(found.metrics) == tuple(of_law) == oracles.METRICS
    for name, value in expected.items():
        np.testing.assert_allclose(float(found.metrics[name]), value, rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(float(of_law[name]), value, rtol=1e-13, err_msg=name)
    np.testing.assert_allclose([float(x) for x in found.law], law, rtol=1e-15)
    np.testing.assert_allclose([float(x) for x in found.log_law], np.log(law), rtol=1e-14)
    np.testing.assert_allclose(
        [float(x) for x in found.log_ratio], np.log(law / target), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("n", "kl", "gap"),
    [
        (1, 0.81515123, 0.46870579),
        (16, 0.016380995, 0.064738314),
        (1024, 2.9314903e-6, 8.3777408e-4),
    ],
)
def test_published_metrics(n, kl, gap):
    """Quadrature at 60 digits by another program: a regression on the oracle."""
    metrics = oracles.exact_metrics(LOG_PROBS, REWARDS, n, 0.3).metrics
    np.testing.assert_allclose(float(metrics["kl_tilted_soft"]), kl, rtol=1e-7)
    np.testing.assert_allclose(float(metrics["reward_gap"]), gap, rtol=1e-7)


@pytest.mark.parametrize(("n", "kl"), [(10, 1.3611), (100, 2.30228)])
def test_published_hard_best_of_n(n, kl):
    """Uniform alphabet of ten: 1.3611 and 2.30228, where log n - (n-1)/n is 1.4026 and 3.6152."""
    metrics = oracles.exact_metrics(np.full(10, -1.0), np.arange(10.0), n, 0.0).metrics
    np.testing.assert_allclose(float(metrics["kl_soft_base"]), kl, atol=5e-5)
    assert metrics["chi2"] == metrics["kl_soft_tilted"] == mp.inf


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1e-3, 3.3, 300.0])
def test_leading_terms_at_large_n(ratio):
    """KL = Var(W) / 2n^2, gap = Cov(r, W) / n, chi2 = Var(W) / n^2 under P*, up to O(1/n)."""
    n, temperature = 1e12, 1 / ratio
    metrics = oracles.exact_metrics(LOG_PROBS, REWARDS, n, temperature).metrics
    with mp.workdps(160):
        p = [mp.exp(mpf(x)) for x in LOG_PROBS]
        w = [mp.exp((mpf(x) - 1) / mpf(temperature)) for x in REWARDS]
        relative = [x * mp.fsum(p) / mp.fdot(p, w) for x in w]
        tilted = [a * b / mp.fsum(p) for a, b in zip(p, relative, strict=True)]
        mean = mp.fdot(tilted, relative)
        variance = mp.fsum(q * (x - mean) ** 2 for q, x in zip(tilted, relative, strict=True))
        rewards = [mpf(x) for x in REWARDS]
        covariance = mp.fsum(
            q * r * (x - mean) for q, r, x in zip(tilted, rewards, relative, strict=True)
        )
        expected = {
            "kl_tilted_soft": variance / (2 * mpf(n) ** 2),
            "kl_soft_tilted": variance / (2 * mpf(n) ** 2),
            "chi2": variance / mpf(n) ** 2,
            "reward_gap": covariance / mpf(n),
        }
        for name, value in expected.items():
            assert abs(metrics[name] / value - 1) < 1e-10, name


def test_metrics_that_vanish_are_exactly_zero():
    divergences = ("reward_gap", "kl_tilted_soft", "kl_soft_tilted", "tv", "chi2")
    for metrics in (
        oracles.exact_metrics(LOG_PROBS, [0.7] * 4, 16, 0.3).metrics,
        oracles.exact_metrics(LOG_PROBS, REWARDS, 16, np.inf).metrics,
    ):
        assert all(metrics[name] == 0 for name in (*divergences, "kl_soft_base"))
        assert abs(metrics["win_rate"] - 0.5) < 1e-30
    assert oracles.exact_metrics(LOG_PROBS, REWARDS, 1, 0.3).metrics["kl_soft_base"] == 0


def test_impossible_outcomes_change_nothing():
    """Even one with the highest reward."""
    without = oracles.exact_metrics(_log(0.5, 0.2, 0.3), [0.1, 0.4, 0.7], 2.7, 0.1)
    with_it = oracles.exact_metrics(_log(0.5, 0.2, 0.0, 0.3), [0.1, 0.4, 5.0, 0.7], 2.7, 0.1)
    assert with_it.metrics == without.metrics
    assert with_it.law[2] == 0
    assert with_it.log_law[2] == -mp.inf
    assert mp.isnan(with_it.log_ratio[2])


def test_decimals_read_back():
    for x in (mpf("1e868"), mpf("-1.25e-880"), mpf(2) ** 20000, mpf(0), mp.inf, -mp.inf, mpf(-7)):
        assert mpf(oracles.decimal(x, 30)) == pytest.approx(x, rel=1e-14) or x - x != 0
    assert oracles.decimal(mp.mpf(10) ** 144763, 5) == "1.0e144763"
    assert float(oracles.decimal(mpf("1e868"), 30)) == np.inf
    assert float(oracles.decimal(-mp.inf, 30)) == -np.inf


# --- the derivatives -----------------------------------------------------------------------------


@pytest.mark.slow
def test_derivatives_against_those_of_the_multinomial_sum():
    """Expected reward at n = 3 differentiated by mpmath through the sum over counts."""
    log_probs, rewards, temperature = _log(0.5, 0.3, 0.2), [0.0, 0.4, 1.0], 0.3
    gradients = oracles.exact_gradients(log_probs, rewards, 3, temperature)

    def reward(logits, values, temperature):
        law = oracles.exact_law_by_counts(logits, values, 3, temperature, digits=mp.dps + 20)
        return mp.fdot(law, values)

    for i in range(3):

        def moved(start, x, i=i):
            return [mpf(v) + (x if k == i else 0) for k, v in enumerate(start)]

        with mp.workdps(30):
            expected = {
                "rewards": mp.diff(lambda x: reward(log_probs, moved(rewards, x), temperature), 0),
                "logits": mp.diff(lambda x: reward(moved(log_probs, x), rewards, temperature), 0),
            }
            for name, value in expected.items():
                assert abs(gradients[name]["reward"][i] / value - 1) < 1e-20
    with mp.workdps(30):
        value = mp.diff(lambda x: reward(log_probs, rewards, temperature + x), 0)
        assert abs(gradients["temperature"]["reward"] / value - 1) < 1e-20


@pytest.mark.slow
def test_derivative_in_n_against_wide_differences():
    """Sixth-order differences at steps of 1/512 in n."""
    gradients = oracles.exact_gradients(_log(0.4, 0.6), [0.0, 1.0], 2.7, 0.5)["n"]
    offsets, weights = (-3, -2, -1, 1, 2, 3), (-1, 9, -45, 45, -9, 1)
    h = 2.0**-9
    points = [
        oracles.exact_metrics(_log(0.4, 0.6), [0.0, 1.0], 2.7 + h * k, 0.5).metrics for k in offsets
    ]
    for name in oracles.METRICS:
        with mp.workdps(30):
            slope = sum(w * m[name] for w, m in zip(weights, points, strict=True)) / (60 * h)
        np.testing.assert_allclose(
            float(gradients[name]), float(slope), rtol=1e-10, atol=1e-14, err_msg=name
        )


@pytest.mark.slow
def test_derivative_of_the_win_rate_at_a_tie():
    """The kink where two rewards cross leaves no trace, to more digits than the step has."""
    log_probs, rewards = _log(0.2, 0.4, 0.4), [1.0, 1.0, 0.0]
    gradients = oracles.exact_gradients(log_probs, rewards, 2, 0.5)
    with mp.workdps(50):
        # win rate = (1 + P_2(top) - P(top)) / 2, P_2(top) = p^2 + 2 p (1 - p) s(1 / temperature)
        p = [mp.exp(mpf(x)) for x in log_probs]
        low, s = p[2] / mp.fsum(p), 1 / (1 + mp.exp(-2))
        slope = (1 - low) * low * s * (1 - s) / mpf(0.5)
        found = gradients["rewards"]["win_rate"]
        assert abs((found[0] + found[1]) / slope - 1) < 1e-35
        assert abs(found[2] / slope + 1) < 1e-35
        assert abs(gradients["temperature"]["win_rate"] / slope + 2) < 1e-35
        # of each tied outcome: against the other one of them with P_2 / P, which is the same
        assert abs(found[0] * p[1] / (found[1] * p[0]) - 1) < 1e-35


@pytest.mark.parametrize("temperature", [0.0, np.inf])
def test_no_derivatives_at_the_ends(temperature):
    with pytest.raises(ValueError, match="temperature"):
        oracles.exact_gradients(LOG_PROBS, REWARDS, 2, temperature)


# --- what is stored ------------------------------------------------------------------------------


def test_stored_metrics_are_laws_and_consistent():
    cases = list(oracles.load_reference("metrics"))
    assert len({case.name for case in cases}) == len(cases) > 250
    assert {len(case.rewards) for case in cases} >= {2, 3, 4, 10, 64, 200}
    for case in cases:
        metrics = case.metrics
        assert tuple(metrics) == oracles.METRICS
        law = None if case.log_law is None else np.exp(case.log_law)
        if law is not None:
            possible = np.isfinite(case.log_probs)
            np.testing.assert_allclose(law.sum(), 1, rtol=1e-13, err_msg=case.name)
            np.testing.assert_array_equal(np.isnan(case.log_ratio), ~possible)
            reward = law @ np.where(possible, case.rewards, 0)
            np.testing.assert_allclose(metrics["reward"], reward, rtol=1e-9, atol=1e-13)
        assert min(metrics[m] for m in oracles.METRICS if m.startswith(("kl", "tv", "chi"))) >= 0
        # E r - temperature KL is largest at P*, and short of that by temperature KL(P_n, P*)
        if 0 < case.temperature < np.inf:
            short = metrics["kl_soft_base"] + metrics["reward_gap"] / case.temperature
            np.testing.assert_allclose(
                short - metrics["kl_tilted_base"], metrics["kl_soft_tilted"], rtol=1e-6, atol=1e-12
            )


def test_stored_gradients_obey_the_symmetries():
    """Shift of the rewards, of the logits, and a common scale of rewards and temperature."""
    cases = list(oracles.load_reference("gradients"))
    assert len({case.name for case in cases}) == len(cases) >= 60
    for case, name in itertools.product(cases, oracles.METRICS):
        by = {variable: case.gradients[variable][name] for variable in case.gradients}
        assert by["rewards"].shape == by["logits"].shape == case.rewards.shape
        if np.isnan(by["n"]):
            assert name == "tv"
            assert len(set(case.rewards)) == 1
            continue
        scale = np.abs(by["rewards"]).max()
        np.testing.assert_allclose(by["logits"].sum(), 0, atol=1e-14 * np.abs(by["logits"]).max())
        if name != "relative_reward_gap":
            shift = 1.0 if name in ("reward", "tilted_reward") else 0.0
            np.testing.assert_allclose(by["rewards"].sum(), shift, atol=1e-13 * max(scale, shift))
        degree = 1 if name in ("reward", "tilted_reward", "reward_gap") else 0
        terms = np.append(by["rewards"] * case.rewards, case.temperature * by["temperature"])
        np.testing.assert_allclose(
            terms.sum(), degree * case.metrics[name], rtol=1e-12, atol=1e-13 * np.abs(terms).max()
        )


@pytest.mark.slow
def test_stored_numbers_are_what_the_oracle_gives():
    metrics = list(oracles.load_reference("metrics"))
    for case in metrics[5::60]:
        exact = oracles.exact_metrics(*case[1:5])
        for name in oracles.METRICS:
            assert float(exact.metrics[name]) == case.metrics[name], (case.name, name)
    for case in list(oracles.load_reference("gradients"))[1::40]:
        gradients = oracles.exact_gradients(*case[1:5])
        for variable, name in itertools.product(case.gradients, oracles.METRICS):
            again = np.array(gradients[variable][name], np.float64)
            np.testing.assert_array_equal(again, case.gradients[variable][name], err_msg=case.name)


def test_trapezoid_at_real_n():
    probs, rewards = [0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0]
    for n, temperature in ((2.7, 0.2), (40.5, 0.05)):
        exact = oracles.exact_law(np.log(probs), rewards, n, temperature, digits=20)
        got = oracles.law_by_trapezoid(probs, rewards, n, temperature)
        np.testing.assert_allclose(got, [float(x) for x in exact], rtol=1e-11)
