"""The optimum of every rule that hedging knows, against SciPy on closed forms written here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize

import softbon_jax as sb
from tests import oracles
from tests.public import programs

PROBS, REWARDS = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.0, 0.3, 0.6, 1.0])
GOLD = np.array([0.0, 0.9, 1.0, 0.1])
PROBLEM = sb.from_probs(PROBS, REWARDS)


# What is given, the law against what is chosen, and a range with one maximum in it.
CASES = {
    "soft, n": (
        "soft",
        {"temperature": 0.1},
        lambda x: oracles.law_by_trapezoid(PROBS, REWARDS, x, 0.1),
        (1, 100),
    ),
    "poisson, mean_extra": (
        "poisson",
        {"temperature": 0.1},
        lambda x: oracles.poisson_law(PROBS, REWARDS, x, 0.1),
        (0.01, 100),
    ),
    "race, n": (
        "race",
        {"temperature": 0.1},
        lambda x: oracles.uniform_race_law(PROBS, REWARDS, x, 0.1),
        (1, 100),
    ),
    "race, λ": (
        "race",
        {"n": 16},
        lambda x: oracles.uniform_race_law(PROBS, REWARDS, 16, x),
        (0.02, 5),
    ),
    "soft, λ": (
        "soft",
        {"log_n": np.log(16)},
        lambda x: oracles.law_by_trapezoid(PROBS, REWARDS, 16, x),
        (0.02, 5),
    ),
}


@pytest.mark.slow
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
        alike = sb.hedge(PROBLEM, np.stack([GOLD, GOLD]), rule="race", **given)
        np.testing.assert_allclose(got.value[1], alike.value, rtol=1e-9)


@pytest.mark.slow
def test_gradients_are_those_of_the_optimum():
    def value(gold, n):
        return sb.hedge(PROBLEM, gold, rule="race", n=n).value

    by_gold, by_n = jax.jit(jax.grad(value, argnums=(0, 1)))(jnp.asarray(GOLD), 16.0)
    step = 1e-4
    apart = np.pad(step * np.eye(4), ((0, 1), (0, 0)))  # and, in the last row, along n
    along_n = np.array([0.0, 0.0, 0.0, 0.0, 0.01])
    gold, n = np.stack([GOLD + apart, GOLD - apart]), np.stack([16 + along_n, 16 - along_n])
    moved = sb.hedge(PROBLEM, gold, rule="race", n=n).value
    np.testing.assert_allclose(by_gold, (moved[0] - moved[1])[:4] / (2 * step), rtol=1e-5)
    np.testing.assert_allclose(by_n, (moved[0] - moved[1])[4] / 0.02, rtol=1e-4)


# Rewards that are uniform: E[u^12 (1 - u)] of the selected u, by SciPy from densities -------------

POWER = 12
UNIFORM = sb.uniform_quantiles(128)
GOLD_OF_UNIFORM = UNIFORM.rewards**POWER * (1 - UNIFORM.rewards)
PUBLISHED = {"hard": 12.490, "poisson": 12.400, "tilted": 13.529}  # n, ν and 1/λ


def best(rule, low, high):
    """The parameter in [low, high] at which the rule earns the most of u^12 (1 - u)."""

    def loss(x):
        def earned(u):
            return u**POWER * (1 - u) * oracles.hedging_uniform_density(rule, u, x)

        return -integrate.quad(earned, 0, 1, epsabs=1e-14, limit=200)[0]

    return optimize.minimize_scalar(
        loss, (low, high), bounds=(low, high), options={"xatol": 1e-6}
    ).x


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("hard", marks=pytest.mark.slow),
        pytest.param("tilted", marks=pytest.mark.slow),
        pytest.param("poisson", marks=pytest.mark.long),  # its optimum is among the cases above
    ],
)
def test_hedging_a_uniform_reward(rule):
    got = sb.hedge(UNIFORM, GOLD_OF_UNIFORM, rule=rule)
    value = 1 / got.value if rule == "tilted" else got.value
    exact = best(rule, 5, 30)
    assert exact == pytest.approx(PUBLISHED[rule], abs=1e-3)
    # The alphabet is that far from a continuous reward.
    np.testing.assert_allclose(value, exact, rtol=8e-3)
    assert got.interior


@pytest.mark.slow
def test_hedging_soft_is_stationary_and_the_tilt_condition_misses_it():
    problem = sb.uniform_quantiles(48)
    gold = problem.rewards**POWER * (1 - problem.rewards)
    got = sb.hedge(problem, gold, n=16)
    tilted = sb.hedge(problem, gold, rule="tilted")

    def earned(temperature):
        return float(np.exp(sb.log_soft_bon(problem, 16, temperature)) @ gold)

    value = float(got.value)
    np.testing.assert_allclose(got.gold, earned(value), rtol=1e-10)
    assert earned(value) > max(earned(value * 1.01), earned(value / 1.01))
    assert earned(value) > 1.02 * earned(float(tilted.value))
    assert 1 / value > 1.5 / float(tilted.value)


# Ends, batches and arguments ----------------------------------------------------------------------


@pytest.mark.slow
def test_hedging_where_gold_is_the_proxy_goes_to_the_end():
    either = np.stack([REWARDS, -REWARDS])
    for rule, given in (("soft", {"n": 4}), ("tilted", {})):
        got = sb.hedge(PROBLEM, either, rule=rule, **given)
        np.testing.assert_array_equal(got.value, [0.0, np.inf])
        assert not got.interior.any()
        np.testing.assert_allclose(got.proxy[1], 0.25, rtol=1e-12)
    got = sb.hedge(PROBLEM, REWARDS, rule="hard")
    assert got.value == np.inf
    np.testing.assert_allclose(got.gold, 1.0, rtol=1e-12)


@pytest.mark.slow
def test_hedging_gives_each_prompt_its_own_temperature():
    gold = np.array([[0.0, 0.9, 1.0, 0.1], [0.0, 1.0, 0.5, 0.1]])
    both = sb.hedge(PROBLEM, gold, n=64)
    assert both.interior.all()
    assert both.value[0] < both.value[1] / 1.1
    for i in range(2):
        around = both.value[i] * np.array([0.999, 1.0, 1.001])
        earned = np.exp(sb.log_soft_bon(PROBLEM, 64, around)) @ gold[i]
        assert earned.argmax() == 1
        np.testing.assert_allclose(both.gold[i], earned[1], rtol=1e-10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'soft' takes n or temperature, got neither"),
        ({"rule": "race", "n": 2, "temperature": 0.3}, "takes n or temperature, got n and temp"),
        ({"rule": "hard", "log_n": 1.0}, "takes neither n nor temperature, got n"),
        ({"rule": "poisson", "n": 3}, "takes no n, got n"),
        ({"rule": "lucky", "n": 3}, "rule must be 'soft', 'hard'.*got 'lucky'"),
        ({"n": 3, "log_n": 1.0}, "exactly one of n and log_n"),
        ({"temperature": 0.0}, r"temperature must be positive and finite, got 0\.0"),
        ({"temperature": np.inf}, "temperature must be positive and finite, got inf"),
        ({"n": 3, "gold": [1.0]}, r"gold must have the problem's K = 4.*\(1,\)"),
        ({"n": 3, "gold": [1.0, 2.0, np.nan, 0.0]}, "gold must be finite, got nan at index 2"),
    ],
)
def test_bad_arguments_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        sb.hedge(PROBLEM, given.pop("gold", GOLD), **given)


@pytest.mark.slow
def test_a_call_compiles_two_programs_and_other_values_none(caplog):
    n = np.array([[16.0], [17.0], [18.0]])  # a shape that nothing else here has
    first = programs(caplog, lambda: sb.hedge(PROBLEM, GOLD, rule="race", n=n))
    assert first == ["_bracket", "_hedge"]
    assert programs(caplog, lambda: sb.hedge(PROBLEM, GOLD / 2, rule="race", n=n + 1)) == []


@pytest.mark.slow
def test_traced_bad_values_give_nan():
    traced = jax.jit(lambda t: sb.hedge(PROBLEM, GOLD, rule="race", temperature=t))
    exact = sb.hedge(PROBLEM, GOLD, rule="race", temperature=0.1)
    np.testing.assert_allclose(traced(0.1).value, exact.value, rtol=1e-9)
    for bad in (0.0, -1.0, np.inf, np.nan):
        got = traced(bad)
        assert np.isnan([got.value, got.gold, got.proxy, got.kl_base]).all()
        assert not got.interior
