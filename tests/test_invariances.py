"""What no law, metric or pool may depend on, on problems that hypothesis looks for.

Every shape is fixed and every function compiled once: five outcomes, one of which is free to be the
other half of a tie. Rewards are multiples of 2**-10, so that to shift them, to multiply them by 3 and
to hold them in float32 is exact.
"""

import functools
import math
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given

import softbon_jax as sb
from softbon_jax import bounds
from tests import oracles

SIZE = 5
NODES = 4096  # more than range/temperature = 100 at n = 1e6 needs
POOL = 6


# What is drawn -----------------------------------------------------------------------------------


class Case(NamedTuple):
    """One problem with n and a temperature."""

    probs: np.ndarray
    rewards: np.ndarray
    n: float
    temperature: float

    def span(self):
        """The range of the rewards that can happen."""
        return float(np.ptp(self.rewards[self.probs > 0]))

    def given(self, dtype=np.float64, probs=None, rewards=None):
        """The problem, its parts replaced by those that are given."""
        probs = self.probs if probs is None else probs
        rewards = self.rewards if rewards is None else rewards
        with np.errstate(divide="ignore"):
            return sb.Problem(np.log(probs).astype(dtype), rewards.astype(dtype))


REWARDS = st.one_of(st.integers(-3, 3), st.integers(-4096, 4096)).map(lambda k: k / 1024)
# No outcome is rarer than about 1e-6. Where the best one is, the range wide and n large, soft best-of-n
# loses digits at any number of nodes: of P = (1 - 1e-9, 1e-9), a range of 100 temperatures and n = 1e6,
# the law under `jit` sums to 1 - 8e-11.
WEIGHTS = st.one_of(st.just(0.0), st.floats(math.log(1e-5), 0.0).map(math.exp))
NUMBERS = st.one_of(
    st.sampled_from([1.0, 2.0, 3.0, 1e6]), st.floats(0.0, math.log(1e6)).map(math.exp)
)


@st.composite
def temperatures(draw, span, limits=True):
    """From a hundredth of the range to a hundred times it; 0 and inf."""
    finite = st.floats(-2.0, 2.0).map(lambda x: 10.0**x * (span or 1.0))
    return draw(
        st.one_of(finite, finite, finite, st.sampled_from([0.0, np.inf])) if limits else finite
    )


@st.composite
def cases(draw, limits=True, free=False):
    """A `Case`; `free` leaves the last outcome without probability."""
    weights = np.array(draw(st.tuples(*[WEIGHTS] * SIZE)))
    if free:
        weights[-1] = 0.0
    assume(weights.sum() > 0)
    rewards = np.array(draw(st.tuples(*[REWARDS] * SIZE)))
    case = Case(weights / weights.sum(), rewards, draw(NUMBERS), 1.0)
    return case._replace(temperature=draw(temperatures(case.span(), limits)))


# What is computed --------------------------------------------------------------------------------


@jax.jit
def laws(problem, n, temperature):
    """The law of every rule; best of Poisson with the same mean number of candidates."""
    log_laws = {
        "tilted": sb.log_tilted(problem, temperature),
        "soft": sb.log_soft_bon(problem, n, temperature, nodes=NODES),
        "hard": sb.log_best_of_n(problem, n),
        "race": sb.log_uniform_race(problem, n, temperature),
        "poisson": sb.log_best_of_poisson(problem, n - 1, temperature, nodes=NODES),
        "rejection, any": sb.log_rejection(problem, n, temperature),
        "rejection, best": sb.log_rejection(problem, n, temperature, fallback="best"),
    }
    return {rule: jnp.exp(log_law) for rule, log_law in log_laws.items()}


@jax.jit
def measured(problem, n, temperature):
    """The metrics of the rules that have them."""
    return {
        "soft": sb.metrics(problem, n, temperature, nodes=NODES),
        "race": sb.race_metrics(problem, n, temperature),
    }


UPPER = {
    "kl_upper": "kl_tilted_soft",
    "kl_upper_linear": "kl_tilted_soft",
    "kl_upper_sinh": "kl_tilted_soft",
    "kl_upper_quadratic": "kl_tilted_soft",
    "kl_base_upper": "kl_soft_base",
    "relative_gap_upper": "relative_reward_gap",
    "relative_gap_upper_crude": "relative_reward_gap",
}


@jax.jit
def limits_of(problem, n, temperature):
    """The upper bounds of the metrics of soft best-of-n, and that of the race."""
    upper = {name: getattr(bounds, name)(problem, n, temperature) for name in UPPER}
    return upper | {"race": bounds.race_tv_upper(problem, n, temperature)}


def assert_same(got, expected, rtol=1e-11, atol=1e-13, scale=1.0):
    """Two dicts of laws or of metrics agree; `scale` is that of what has the unit of a reward."""
    for rule, values in expected.items():
        fields = values._asdict() if isinstance(values, tuple) else {"law": values}
        for name, value in fields.items():
            found = getattr(got[rule], name) if isinstance(values, tuple) else got[rule]
            floor = atol * scale if "reward" in name else atol
            label = f"{rule}: {name}"
            if name == "relative_reward_gap" and abs(values.tilted_reward) < 1e-3 * scale:
                continue  # a quotient by what is nearly 0
            np.testing.assert_allclose(found, value, rtol=rtol, atol=floor, err_msg=label)


# Laws and metrics --------------------------------------------------------------------------------


@pytest.mark.slow
@given(cases(), st.integers(-(2**20), 2**20))
def test_a_shift_of_the_rewards_changes_no_law(case, k):
    shift = k / 1024
    moved = case.given(rewards=case.rewards + shift)
    at = (case.n, case.temperature)
    assert_same(laws(moved, *at), laws(case.given(), *at))
    expected = {
        rule: x._replace(
            reward=x.reward + shift,
            tilted_reward=x.tilted_reward + shift,
            relative_reward_gap=x.reward_gap / (x.tilted_reward + shift),
        )
        for rule, x in measured(case.given(), *at).items()
    }
    assert_same(measured(moved, *at), expected, scale=1 + abs(shift))


@pytest.mark.slow
@given(cases(), st.sampled_from([2.0**-20, 0.75, 3.0, 2.0**30]))
def test_rewards_and_temperature_have_one_unit(case, unit):
    scaled = case.given(rewards=unit * case.rewards)
    at = (case.n, unit * case.temperature)
    assert_same(laws(scaled, *at), laws(case.given(), case.n, case.temperature))
    expected = {
        rule: x._replace(
            reward=unit * x.reward,
            tilted_reward=unit * x.tilted_reward,
            reward_gap=unit * x.reward_gap,
        )
        for rule, x in measured(case.given(), case.n, case.temperature).items()
    }
    assert_same(measured(scaled, *at), expected, scale=unit)


@given(cases(), st.permutations(range(SIZE)))
def test_the_order_of_the_outcomes_does_not_matter(case, order):
    order = np.array(order)
    moved = case.given(probs=case.probs[order], rewards=case.rewards[order])
    at = (case.n, case.temperature)
    expected = {rule: law[order] for rule, law in laws(case.given(), *at).items()}
    assert_same(laws(moved, *at), expected)
    assert_same(measured(moved, *at), measured(case.given(), *at))


@pytest.mark.slow
@given(cases(free=True), st.floats(0.0, 1.0))
def test_an_outcome_may_be_split_in_two(case, share):
    """The first outcome gives a share to the last, which has the same reward."""
    probs, rewards = case.probs.copy(), case.rewards.copy()
    probs[[0, -1]] = (1 - share) * probs[0], share * probs[0]
    assume(all(x == 0 or x >= 1e-6 for x in probs))  # as in WEIGHTS
    rewards[-1] = rewards[0]
    at = (case.n, case.temperature)
    split = laws(case.given(probs=probs, rewards=rewards), *at)
    whole = laws(case.given(), *at)
    joined = {rule: law.at[0].add(law[-1]).at[-1].set(0.0) for rule, law in split.items()}
    assert_same(joined, whole)
    for rule, law in split.items():
        np.testing.assert_allclose(
            law[-1], share * whole[rule][0], rtol=1e-11, atol=1e-13, err_msg=rule
        )
    assert_same(
        measured(case.given(probs=probs, rewards=rewards), *at), measured(case.given(), *at)
    )


# probabilities of tied outcomes whose sum rounds to less than 1
ROUNDED = Case(np.array([0.7, 0.2, 0.1, 0.0, 0.0]), np.zeros(SIZE), 2.0, 1.0)


@given(cases())
@example(ROUNDED)
@example(ROUNDED._replace(temperature=0.0))
def test_laws_sum_to_one_on_the_support(case):
    for rule, law in laws(case.given(), case.n, case.temperature).items():
        np.testing.assert_allclose(law.sum(), 1, rtol=1e-12, err_msg=rule)
        assert (law >= 0).all(), rule
        assert not law[case.probs == 0].any(), rule


@given(cases(), NUMBERS)
def test_more_candidates_select_better_and_go_farther(case, more):
    """E r and KL(P_n‖P) grow with n, and KL(P*‖P_n) falls."""
    low, high = sorted((case.n, more))
    less, more = (measured(case.given(), n, case.temperature) for n in (low, high))
    for rule in ("soft", "race"):
        slack = 1e-13 * (1 + abs(case.rewards).max())
        assert more[rule].reward >= less[rule].reward - slack, rule
        assert more[rule].kl_soft_base >= less[rule].kl_soft_base - 1e-13, rule
        assert not more[rule].kl_tilted_soft > less[rule].kl_tilted_soft + 1e-13, rule
        assert more[rule].win_rate >= less[rule].win_rate - 1e-13, rule
        assert less[rule].win_rate >= 0.5 - 1e-13, rule


@pytest.mark.slow
@given(cases())
def test_bounds_are_above_what_they_bound(case):
    case = case._replace(rewards=case.rewards - case.rewards.min())
    exact = measured(case.given(), case.n, case.temperature)
    upper = limits_of(case.given(), case.n, case.temperature)
    for name, field in UPPER.items():
        value = getattr(exact["soft"], field)
        if case.span() == 0 and field == "relative_reward_gap":
            continue  # 0/0 where every reward is 0
        assert value <= upper[name] * (1 + 1e-11) + 1e-14, name
    assert exact["race"].tv <= upper["race"] * (1 + 1e-11) + 1e-14


@given(cases(limits=False), st.sampled_from([1, 2, 3]))
def test_laws_at_few_candidates_are_those_of_the_oracles(case, n):
    got = laws(case.given(), float(n), case.temperature)
    log_probs = case.given().log_probs
    at = (case.rewards, n, case.temperature)
    expected = {
        "tilted": oracles.tilted_law(log_probs, case.rewards, case.temperature),
        "soft": oracles.law_by_counts(log_probs, *at),
        "hard": oracles.hard_law(log_probs, case.rewards, n),
        "race": oracles.uniform_race_law(case.probs, *at),
        "rejection, any": oracles.rejection_law_by_tuples(case.probs, *at, "any"),
        "rejection, best": oracles.rejection_law_by_tuples(case.probs, *at, "best"),
    }
    assert_same(got, expected, atol=1e-14)


@given(cases(limits=False))
def test_the_race_is_that_of_the_oracle_at_any_n(case):
    law = laws(case.given(), case.n, case.temperature)["race"]
    expected = oracles.uniform_race_law(case.probs, case.rewards, case.n, case.temperature)
    np.testing.assert_allclose(law, expected, rtol=1e-11, atol=1e-300)


@given(cases(), st.sampled_from(["n = 1", "inf", "0"]))
def test_limits(case, limit):
    n = 1.0 if limit == "n = 1" else case.n
    temperature = {"n = 1": case.temperature, "inf": np.inf, "0": 0.0}[limit]
    got = laws(case.given(), n, temperature)
    expected = got["hard"] if limit == "0" else case.probs
    for rule in ("soft", "race"):
        np.testing.assert_allclose(got[rule], expected, rtol=1e-11, atol=1e-300, err_msg=rule)
    # a draw that is nearly sure to be accepted leaves few digits of the chance that it is not
    np.testing.assert_allclose(got["rejection, best"], expected, rtol=1e-11, atol=1e-14)


# Transformations and precision --------------------------------------------------------------------


@functools.partial(jax.vmap, in_axes=(None, 0, None))
def over_n(problem, n, temperature):
    return sb.metrics(problem, n, temperature, nodes=NODES)


@given(cases())
def test_eager_jit_and_vmap_agree(case):
    at = (case.given(), case.n, case.temperature)
    compiled = measured(*at)
    eager = {
        "soft": sb.metrics(*at, nodes=NODES),
        "race": sb.race_metrics(*at),
    }
    assert_same(eager, compiled)
    mapped = over_n(case.given(), jnp.array([case.n, 1.0, 2.5]), case.temperature)
    assert_same({"soft": jax.tree.map(lambda x: x[0], mapped)}, {"soft": compiled["soft"]})


@pytest.mark.slow
@given(cases())
def test_float32_is_near_float64(case):
    at32 = (np.float32(case.n), np.float32(case.temperature))
    # the same numbers in both, but for the normalization
    case = case._replace(n=float(at32[0]), temperature=float(at32[1]))
    problem, near = case.given(np.float32), {"rtol": 1e-4, "atol": 1e-5}
    probs = np.exp(problem.log_probs.astype(np.float64))
    exact = case.given(probs=probs / probs.sum())
    single, double = laws(problem, *at32), laws(exact, case.n, case.temperature)
    assert all(law.dtype == np.float32 for law in single.values())
    assert_same(single, double, **near)
    # chi2 may be above all of float32
    expected = jax.tree.map(
        lambda x: np.where(x > float(np.finfo(np.float32).max), np.inf, x),
        measured(exact, case.n, case.temperature),
    )
    assert_same(measured(problem, *at32), expected, **near)


FIELDS = ("reward", "reward_gap", "kl_tilted_soft", "kl_soft_base", "kl_tilted_base", "tv")


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1, 2, 3))
def slopes(log_probs, rewards, n, temperature, weights):
    """Of a weighted sum of the metrics that are finite at every temperature, of both rules."""
    found = measured(sb.Problem(log_probs, rewards), n, temperature)
    return weights @ jnp.stack([getattr(x, field) for x in found.values() for field in FIELDS])


# where the only outcome that can happen shares its reward with others
ALONE = Case(np.eye(SIZE)[0], np.zeros(SIZE), 2.0, 0.0)


@pytest.mark.slow
@given(cases(), st.sampled_from(range(2 * len(FIELDS))))
@example(ALONE, FIELDS.index("reward_gap"))
def test_gradients_are_finite(case, which):
    """And those by the rewards sum to 1 for a mean, to 0 for a gap, with no part of the impossible."""
    weights = np.eye(2 * len(FIELDS))[which]
    got = slopes(*case.given(), case.n, case.temperature, weights)
    for name, value in zip(("log_probs", "rewards", "n", "temperature"), got, strict=True):
        assert np.isfinite(value).all(), name
    _, by_rewards, *_ = got
    scale = 1 + abs(by_rewards).max()
    shifted = float(FIELDS[which % len(FIELDS)] == "reward")
    np.testing.assert_allclose(by_rewards.sum() / scale, shifted / scale, atol=1e-11)
    assert not by_rewards[case.probs == 0].any()


SWEPT = jax.jit(functools.partial(sb.sweep, nodes=NODES))


@pytest.mark.slow
@given(cases(), NUMBERS, st.sampled_from([0.0, 0.3, np.inf]))
def test_a_sweep_is_the_metrics_cell_by_cell(case, n, temperature):
    ns, temperatures = np.array([case.n, n]), np.array([case.temperature, temperature])
    grid = SWEPT(case.given(), ns, temperatures)
    for i, j in np.ndindex(2, 2):
        cell = measured(case.given(), ns[j], temperatures[i])["soft"]
        assert_same({"soft": jax.tree.map(lambda x, i=i, j=j: x[i, j], grid)}, {"soft": cell})


# Selection and pools ------------------------------------------------------------------------------


@st.composite
def pools(draw):
    """(rewards, temperature, values) of one pool."""
    rewards = np.array(draw(st.tuples(*[REWARDS] * POOL)))
    values = np.array(draw(st.tuples(*[REWARDS] * POOL)))
    return rewards, draw(temperatures(float(np.ptp(rewards)))), values


CHOSEN = jax.jit(lambda *args: jnp.exp(sb.selection_log_probs(*args)))


@given(pools(), st.integers(-(2**20), 2**20), st.permutations(range(POOL)), st.just(3.0))
def test_selection_from_a_pool(pool, k, order, unit):
    rewards, temperature, _ = pool
    law = CHOSEN(rewards, temperature)
    np.testing.assert_allclose(law, oracles.softmax(rewards, temperature), rtol=1e-13)
    np.testing.assert_allclose(CHOSEN(rewards + k / 1024, temperature), law, rtol=1e-13)
    np.testing.assert_allclose(CHOSEN(unit * rewards, unit * temperature), law, rtol=1e-12)
    order = np.array(order)
    np.testing.assert_allclose(CHOSEN(rewards[order], temperature), law[order], rtol=1e-13)


@jax.jit
def curves(rewards, temperature, values):
    """The unbiased curve and the plug-in curve of one pool at every n up to its size."""
    at = (rewards[None], np.arange(1, POOL + 1), temperature)
    return jnp.stack([
        sb.pool_curve(*at, values=values[None], nodes=512).mean,
        sb.plug_in_curve(*at, values=values[None], nodes=2048).mean,
    ])  # fmt: skip


@pytest.mark.slow
@given(pools(), st.integers(-(2**20), 2**20), st.permutations(range(POOL)), st.just(3.0))
def test_curves_of_a_pool(pool, k, order, unit):
    rewards, temperature, values = pool
    curve = curves(*pool)
    near = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(curves(rewards + k / 1024, temperature, values), curve, **near)
    np.testing.assert_allclose(curves(unit * rewards, unit * temperature, values), curve, **near)
    order = np.array(order)
    np.testing.assert_allclose(curves(rewards[order], temperature, values[order]), curve, **near)
    shifted = curves(rewards, temperature, 3 * values + k / 1024)
    np.testing.assert_allclose(shifted, 3 * curve + k / 1024, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(curve[:, 0], values.mean(), **near)
    # the whole pool is its only subset of that size
    whole = oracles.softmax(rewards, temperature) @ values
    np.testing.assert_allclose(curve[0, -1], whole, **near)
    if np.array_equal(rewards, values):
        assert (np.diff(curve) >= -1e-12).all()


@given(pools())
def test_the_curve_of_the_selecting_reward_rises(pool):
    rewards, temperature, _ = pool
    curve = curves(rewards, temperature, rewards)
    assert (np.diff(curve) >= -1e-12).all()
    assert (curve <= rewards.max() + 1e-12).all()
