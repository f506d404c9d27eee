"""Enclosures hold what mpmath and enumeration give, and notice an error below what a claim allows."""

import mpmath
import numpy as np
import pytest
from flint import arb

from experiments import certified, enclosures
from tests.oracles.laws import counts_of

PROBS, REWARDS = certified.EXAMPLE


def ball_of(x):
    """An mpmath number as a ball that surely holds it."""
    return arb(mpmath.nstr(x, 60), mpmath.nstr(abs(x) * mpmath.mpf(10) ** -55, 5))


@pytest.mark.parametrize("n", [2, 5])
def test_the_law_is_that_of_enumeration(n):
    with enclosures.precise(), mpmath.workdps(80):
        exact = enclosures.laws(PROBS, REWARDS, 0.3)
        ratios = enclosures.soft_ratios(exact, n)
        total = sum(map(mpmath.mpf, PROBS))
        p = [mpmath.mpf(x) / total for x in PROBS]
        w = [mpmath.exp(mpmath.mpf(r) / mpmath.mpf(0.3)) for r in REWARDS]
        for k, (base, ratio) in enumerate(zip(exact.tilted, ratios, strict=True)):
            law = mpmath.mpf(0)
            for counts in counts_of(n, len(p)):
                chance = mpmath.factorial(n)
                for x, m in zip(p, counts, strict=True):
                    chance *= x**m / mpmath.factorial(m)
                law += (
                    chance * counts[k] * w[k] / sum(a * b for a, b in zip(w, counts, strict=True))
                )
            assert (base * ratio).overlaps(ball_of(law))
            assert float((base * ratio).rad()) < 1e-80


def test_many_candidates_by_the_leading_terms():
    """ρ - 1 = (1 + CV² - W)/n + O(1/n²), and a law sums to 1."""
    with enclosures.precise():
        exact = enclosures.laws(PROBS, REWARDS, 0.3)
        ratios = enclosures.soft_ratios(exact, 10**12)
        mean = exact.expect(lambda w, r: w)
        for ratio, w in zip(ratios, exact.weights, strict=True):
            np.testing.assert_allclose(float((ratio - 1) * 10**12), float(mean - w), rtol=1e-9)
        total = sum((p * x for p, x in zip(exact.tilted, ratios, strict=True)), arb(0))
        assert total.overlaps(arb(1))
        assert float(total.rad()) < 1e-80


def test_a_distance_covers_the_truth_and_notices_an_error():
    with enclosures.precise():
        third = arb(1) / 3
        assert 0 < enclosures.distance(1 / 3, third) < 1e-16
        assert enclosures.distance(1 / 3 * (1 + 1e-12), third) > 0.99e-12
        assert enclosures.distance(0.0, third) >= 1.0
