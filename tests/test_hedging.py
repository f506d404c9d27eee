"""The optimum of every rule that hedging knows, against SciPy on closed forms written here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import softbon_jax as sb
from tests import oracles

PROBS, REWARDS = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.0, 0.3, 0.6, 1.0])
GOLD = np.array([0.0, 0.9, 1.0, 0.1])
PROBLEM = sb.from_probs(PROBS, REWARDS)


def soft(n, temperature):
    return oracles.law_by_trapezoid(PROBS, REWARDS, n, temperature)


def poisson(mean_extra, temperature):
    """P w ∫ e^{-tw} (1 + νφ) e^{-ν(1-φ)} dt, by the trapezoid rule in log t."""
    w = np.exp((REWARDS - 1) / temperature)
    log_t = np.linspace(-45, 5 + 1 / temperature, 4001)
    decay = np.exp(-np.exp(log_t)[:, None] * w)
    phi = (decay @ PROBS)[:, None]
    draws = (1 + mean_extra * phi) * np.exp(-mean_extra * (1 - phi))
    integrand = np.exp(log_t)[:, None] * decay * draws
    return PROBS * w * integrand.sum(0) * (log_t[1] - log_t[0])


def race(n, temperature):
    """P w Σ_{j: w_j >= w} [F(w_{j+1})^n - F(w_j)^n]/B_j; the outcomes are in order of w."""
    w = np.exp((REWARDS - 1) / temperature)
    mass, weighted = np.cumsum(PROBS), np.cumsum(PROBS * w)
    left = mass - weighted / w
    right = np.append(left[1:], 1.0)
    pieces = (right**n - left**n) / weighted
    return PROBS * w * np.cumsum(pieces[::-1])[::-1]


# What is given, the law against what is chosen, and a range with one maximum in it.
CASES = {
    "soft, n": ("soft", {"temperature": 0.1}, lambda x: soft(x, 0.1), (1, 100)),
    "poisson, mean_extra": (
        "poisson",
        {"temperature": 0.1},
        lambda x: poisson(x, 0.1),
        (0.01, 100),
    ),
    "race, n": ("race", {"temperature": 0.1}, lambda x: race(x, 0.1), (1, 100)),
    "race, λ": ("race", {"n": 16}, lambda x: race(16, x), (0.02, 5)),
    "soft, λ": ("soft", {"n": 16}, lambda x: soft(16, x), (0.02, 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_optimum_is_that_of_the_closed_form(case):
    rule, given, law, (low, high) = CASES[case]
    exact = optimize.minimize_scalar(
        lambda x: -(law(np.exp(x)) @ GOLD),
        bounds=(np.log(low), np.log(high)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert low * 1.1 < np.exp(exact.x) < high / 1.1
    got = sb.hedge(PROBLEM, GOLD, rule=rule, **given)
    assert got.interior
    # SciPy sees a maximum to the root of the rounding, which its curvature magnifies.
    np.testing.assert_allclose(got.value, np.exp(exact.x), rtol=1e-5)
    law = law(float(got.value))
    np.testing.assert_allclose(got.gold, law @ GOLD, rtol=1e-11)
    np.testing.assert_allclose(got.proxy, law @ REWARDS, rtol=1e-11)
    np.testing.assert_allclose(got.kl_base, law @ np.log(law / PROBS), rtol=1e-10)


@pytest.mark.slow
def test_the_race_at_its_ends_and_in_batches():
    """Where gold is the proxy λ goes to 0 and n to inf; each row of a batch gets its own answer."""
    for given, end in (({"n": 4}, 0.0), ({"temperature": 0.3}, np.inf)):
        got = sb.hedge(PROBLEM, np.stack([REWARDS, GOLD]), rule="race", **given)
        assert got.value[0] == end
        assert not got.interior[0]
        alone = sb.hedge(PROBLEM, GOLD, rule="race", **given)
        np.testing.assert_allclose(got.value[1], alone.value, rtol=1e-9)
    with pytest.raises(ValueError, match=r"takes n or temperature, got n=2 and temperature=0\.3"):
        sb.hedge(PROBLEM, GOLD, rule="race", n=2, temperature=0.3)


@pytest.mark.slow
def test_gradients_are_those_of_the_optimum():
    def value(gold, n):
        return sb.hedge(PROBLEM, gold, rule="race", n=n).value

    by_gold, by_n = jax.grad(value, argnums=(0, 1))(jnp.asarray(GOLD), 16.0)
    step = 1e-4
    apart = np.stack([GOLD + step * np.eye(4), GOLD - step * np.eye(4)])
    moved = sb.hedge(PROBLEM, apart, rule="race", n=16.0).value
    np.testing.assert_allclose(by_gold, (moved[0] - moved[1]) / (2 * step), rtol=1e-5)
    more = sb.hedge(PROBLEM, GOLD, rule="race", n=np.array([16.01, 15.99])).value
    np.testing.assert_allclose(by_n, (more[0] - more[1]) / 0.02, rtol=1e-4)
