"""The oracles of other rules, of pools and of sequences: against each other and closed forms."""

import numpy as np
import pytest
from mpmath import mp
from scipy.stats import poisson

from tests import oracles

LOG_PROBS = np.log(np.array([0.5, 0.3, 0.1, 0.1]))
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
PROBS = [0.5, 0.2, 0.0, 0.2, 0.1]
TIED_BEST = np.array([0.0, 0.4, 3.0, 1.0, 1.0])


def log_of(*probs):
    with np.errstate(divide="ignore"):
        return np.log(np.array(probs))


@pytest.mark.parametrize("temperature", [0.0, 0.02, 0.3, 5.0, np.inf])
def test_race_at_integer_n_is_that_of_every_tuple(temperature):
    for n in (1, 2, 4):
        tuples = oracles.law_by_tuples(
            log_of(*PROBS), TIED_BEST, n, temperature, oracles.race_selection
        )
        law = oracles.uniform_race_law(PROBS, TIED_BEST, n, temperature)
        np.testing.assert_allclose(law, tuples, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("n", "temperature"), [(2.7, 0.2), (100.0, 0.1), (40.5, 3.0)])
def test_race_at_real_n_against_quadrature(n, temperature):
    """By n P w ∫ F(s)^{n-1} ds, cut where F has its corners."""
    w = [np.exp((r - 1) / temperature) for r in REWARDS]
    p = np.exp(LOG_PROBS)

    def below(s):
        return mp.fsum(a * max(1 - b * s, 0) for a, b in zip(p, w, strict=True))

    expected = []
    for a, b in zip(p, w, strict=True):
        cuts = [0, *sorted(1 / x for x in w if x >= b)]
        expected.append(n * a * b * mp.quad(lambda s: below(s) ** (n - 1), cuts))
    law = oracles.uniform_race_law(p, REWARDS, n, temperature)
    np.testing.assert_allclose(law, np.array(expected, float), rtol=1e-12)
    np.testing.assert_allclose(law.sum(), 1, rtol=1e-14)


def test_race_of_two_candidates():
    """The better one of weights 1 and w wins unless U_1 > U_2/w: 1 - w/2."""
    law = oracles.race_selection([0.0, -0.5], 0.4)
    w = np.exp(-0.5 / 0.4)
    np.testing.assert_allclose(law, [1 - w / 2, w / 2], rtol=1e-14)
    excluded = oracles.race_selection([0.0, -np.inf, -0.5], 0.4)
    np.testing.assert_allclose(excluded, [1 - w / 2, 0, w / 2], rtol=1e-14)


@pytest.mark.parametrize("mean_extra", [0.0, 0.5, 3.39])
def test_poisson_is_the_average_over_n(mean_extra):
    weights = poisson.pmf(np.arange(12), mean_extra)
    laws = [oracles.law_by_counts(LOG_PROBS, REWARDS, n, 0.3) for n in range(1, 13)]
    law = oracles.poisson_law(np.exp(LOG_PROBS), REWARDS, mean_extra, 0.3)
    left = poisson.sf(11, mean_extra)
    np.testing.assert_allclose(law, weights @ np.array(laws), rtol=1e-12, atol=left)


def test_rejection_of_two_draws():
    """Closed form for rewards (0, r), P(r) = p: the better draw is always accepted."""
    p, w = 0.3, np.exp(-1 / 0.4)
    for fallback in ("any", "best"):
        law = oracles.rejection_law_by_tuples([1 - p, p], [0.0, 1.0], 2, 0.4, fallback)
        low = (1 - p) * w + (1 - p) * (1 - w) * (1 - p)
        np.testing.assert_allclose(law, [low, 1 - low], rtol=1e-14)
    either = oracles.rejection_law_by_tuples([0.2, 0.3, 0.5], [1.0, 0.0, -1.0], 3, 0.0, "best")
    np.testing.assert_allclose(
        either, oracles.hard_law(log_of(0.2, 0.3, 0.5), [1.0, 0.0, -1.0], 3), rtol=1e-13
    )


def test_several_from_three():
    w = np.exp(np.array([0.0, 0.5, 1.0]))
    law = oracles.plackett_luce([0.0, 0.5, 1.0], 1.0, 2)
    assert len(law) == 6
    assert sum(law.values()) == pytest.approx(1)
    assert law[2, 0] == pytest.approx(w[2] / w.sum() * w[0] / (w[0] + w[1]))


def test_pools_and_totals():
    rewards, values = np.array([0.3, -1.0, 0.3, 0.9]), np.array([2.0, -1.0, 5.0, 7.0])
    assert oracles.mean_over_subsets(rewards, values, 1, 0.2) == pytest.approx(values.mean())
    whole = oracles.softmax(rewards, 0.2) @ values
    assert oracles.mean_over_subsets(rewards, values, 4, 0.2) == pytest.approx(whole)
    # the last is the best of three pairs, the two at 0.3 share one and have one each with the worst
    hard = (3 * 7.0 + (2.0 + 5.0) / 2 + 2.0 + 5.0) / 6
    assert oracles.mean_over_subsets(rewards, values, 2, 0.0) == pytest.approx(hard)
    for temperature in (0.0, 0.3):
        found = oracles.empirical_divergences(rewards, 2, temperature)
        log_probs, outcomes = log_of(0.25, 0.5, 0.25), [-1.0, 0.3, 0.9]
        metrics = oracles.exact_metrics(log_probs, outcomes, 2, temperature).metrics
        for name, value in found.items():
            assert value == pytest.approx(float(metrics[name]), rel=1e-12)
    log_probs, totals = oracles.law_of_totals(([0.7, 0.3], [0.0, 0.1]), ([0.6, 0.4], [0.2, 0.1]))
    np.testing.assert_allclose(totals, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(np.exp(log_probs), [0.28, 0.54, 0.18])


def test_tilted_law_in_floats():
    for temperature in (0.0, 0.02, 0.3, np.inf):
        exact = oracles.exact_tilted(log_of(*PROBS), TIED_BEST, temperature)
        law = oracles.tilted_law(log_of(*PROBS), TIED_BEST, temperature)
        np.testing.assert_allclose(law, [float(x) for x in exact], rtol=1e-13)
