"""Curves from pools: against all subsets, closed forms, simulated pools and finite differences."""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles

TEMPERATURES = np.array([0.0, 1e-9, 1e-3, 0.03, 0.1, 0.5, 3.0, 100.0, np.inf])


def softmax(rewards, temperature):
    if temperature == 0:
        weights = (rewards == rewards.max()).astype(float)
    elif temperature == np.inf:
        weights = np.ones_like(rewards)
    else:
        weights = np.exp((rewards - rewards.max()) / temperature)
    return weights / weights.sum()


def over_subsets(rewards, values, n, temperature):
    """The mean over all subsets of n, one by one."""
    parts = [list(subset) for subset in itertools.combinations(range(len(rewards)), n)]
    return np.mean([softmax(rewards[part], temperature) @ values[part] for part in parts])


@pytest.fixture(scope="module")
def ragged():
    """Pools of 10, 7 and 1 with ties and near-ties, holes in the middle, and what they give."""
    random = np.random.default_rng(0)
    rewards, values = np.round(random.normal(size=(3, 10)), 1), random.normal(size=(3, 10))
    rewards[0, 1] = rewards[0, 0] + 1e-9
    where = np.ones((3, 10), bool)
    where[1, [2, 5, 9]] = where[2, 1:] = False
    expected = np.full((3, TEMPERATURES.size, 10), np.nan)
    for p, i, n in itertools.product(range(3), range(TEMPERATURES.size), range(1, 11)):
        r, v = rewards[p][where[p]], values[p][where[p]]
        if n <= r.size:
            expected[p, i, n - 1] = over_subsets(r, v, n, TEMPERATURES[i])
    rewards[~where] = np.nan  # what is left out must not matter
    return rewards, values, where, expected


def test_the_mean_over_all_subsets(ragged):
    rewards, values, where, expected = ragged
    curve = sb.pool_curve(rewards, np.arange(1, 11), TEMPERATURES, values, where)
    np.testing.assert_allclose(curve.per_prompt, expected, rtol=0, atol=2e-14)
    np.testing.assert_array_equal(curve.prompts, [3] + [2] * 6 + [1] * 3)
    np.testing.assert_allclose(curve.mean, np.nanmean(expected, axis=0), atol=1e-13)
    for n in (1, 2, 7):
        there = expected[~np.isnan(expected[:, 0, n - 1]), :, n - 1]
        error = there.std(0, ddof=1) / math.sqrt(len(there))
        np.testing.assert_allclose(curve.standard_error[:, n - 1], error, rtol=1e-10, atol=1e-14)
    assert np.isnan(curve.standard_error[:, 7:]).all()  # one prompt says nothing about the spread


def test_float32(ragged):
    rewards, values, where, expected = ragged
    single = (x.astype(np.float32) for x in (rewards, TEMPERATURES, values))
    rewards, temperature, values = single
    # In float32 the near-tie of 1e-9 is a tie.
    mine = slice(1, None)
    curve = sb.pool_curve(rewards[mine], np.arange(1, 8), temperature, values[mine], where[mine])
    assert curve.mean.dtype == curve.per_prompt.dtype == jnp.float32
    np.testing.assert_allclose(curve.per_prompt, expected[mine, :, :7], rtol=1e-5, atol=1e-5)


def test_traced_arguments_give_the_same_and_compile_once(ragged):
    rewards, values, where, expected = ragged

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(rewards, n, temperature, values, where):
        return sb.pool_curve(rewards, n, temperature, values, where).per_prompt

    for chosen in ([0, 4], [5, 8]):
        t = jnp.asarray(TEMPERATURES[chosen])
        got = traced(rewards, jnp.arange(1, 11), t, values, where)
        np.testing.assert_allclose(got, expected[:, chosen], rtol=0, atol=2e-14)
    # Too few points, and a temperature that makes no sense.
    assert np.isnan(
        traced(rewards, jnp.arange(1, 11), jnp.asarray([1e-3, -1.0]), values, where)[0, :, 1]
    ).all()


def test_scalar_arguments_drop_their_axis(ragged):
    rewards, values, where, expected = ragged
    curve = sb.pool_curve(rewards, 3, 0.5, values, where)
    assert curve.mean.shape == curve.standard_error.shape == curve.prompts.shape == ()
    np.testing.assert_allclose(curve.per_prompt, expected[:, 5, 2], rtol=0, atol=2e-14)


@pytest.mark.slow
def test_gradients_against_differences(ragged):
    rewards, values, where, _ = ragged
    rewards = np.where(where, rewards, 0.0)
    random = np.random.default_rng(1)
    direction, step = random.normal(size=rewards.shape), 1e-5

    def mean(rewards, temperature, values):
        return sb.pool_curve(rewards, 4, temperature, values, where).mean

    at = (jnp.asarray(rewards), jnp.asarray(0.3), jnp.asarray(values))
    by_rewards, by_temperature, by_values = jax.grad(mean, argnums=(0, 1, 2))(*at)
    up, down = (mean(rewards + s * direction, 0.3, values) for s in (step, -step))
    assert np.sum(by_rewards * direction) == pytest.approx(float(up - down) / (2 * step), rel=1e-5)
    up, down = (mean(rewards, 0.3 + s, values) for s in (step, -step))
    assert float(by_temperature) == pytest.approx(float(up - down) / (2 * step), rel=1e-5)
    assert np.sum(by_values * values) == pytest.approx(float(mean(*at)), rel=1e-10)


def test_hard_limit_is_the_closed_form_and_pass_at_k():
    random = np.random.default_rng(2)
    size = 1000
    rewards = random.permutation(size).astype(float)
    n = np.array([1, 2, 10, 500, 999, 1000])
    curve = sb.pool_curve(rewards[None], n, 0.0)
    exact = [
        sum(math.comb(i, k - 1) * i for i in range(k - 1, size)) / math.comb(size, k)
        for k in n.tolist()
    ]
    np.testing.assert_allclose(curve.mean, exact, rtol=1e-12)
    solved = (random.random((1, size)) < 0.05).astype(float)
    failed = size - int(solved.sum())
    at_k = [1 - math.comb(failed, k) / math.comb(size, k) for k in n.tolist()]
    np.testing.assert_allclose(sb.pool_curve(solved, n, 0.0).mean, at_k, rtol=1e-12)


def test_large_pools_and_low_temperatures_are_safe():
    """N = 1000, λ down to where nothing but ranks matters: finite, and in order."""
    rewards = np.random.default_rng(3).normal(size=(1, 1000))
    n = np.array([1, 2, 32])
    hard = sb.pool_curve(rewards, n, 0.0).per_prompt
    soft = sb.pool_curve(rewards, n, np.array([1e-300, 0.3])).per_prompt
    np.testing.assert_allclose(soft[:, 0], hard, rtol=1e-12)
    assert (np.diff(soft, axis=-1) > 0).all()
    assert (soft[:, 1, 1:] < hard[:, 1:]).all()
    # With replacement the law is exact; without, the difference is of order n/N.
    plug_in = sb.plug_in_curve(rewards, n, 0.3).per_prompt
    np.testing.assert_allclose(soft[:, 1], plug_in, atol=0.05)


@pytest.mark.slow
def test_unbiased_over_simulated_pools():
    """The mean over pools from a known law is that of the exact law; the plug-in's is not."""
    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    random = np.random.default_rng(4)
    pools = np.asarray(problem.rewards)[random.choice(4, p=[0.5, 0.3, 0.1, 0.1], size=(1500, 32))]
    for temperature in (0.0, 0.2):
        n = np.array([2, 8, 31, 32])
        curve = sb.pool_curve(pools, n, temperature)
        exact = sb.metrics(problem, n.astype(float), temperature).reward
        assert (np.abs(curve.mean - exact) < 4 * curve.standard_error).all()
    biased = sb.plug_in_curve(pools, 16, 0.2)
    exact = sb.metrics(problem, 16.0, 0.2).reward
    assert np.abs(biased.mean - exact) > 5 * biased.standard_error


# Several judges ----------------------------------------------------------------------------------


def test_leaving_one_judge_out_by_hand():
    judges = np.array(
        [[[1.0, 2, 6], [4, 4, 1], [0, 3, 3], [5, 0, 7]], [[2, 2, 2], [1, 3, 5], [9] * 3, [8] * 3]]
    )
    where = np.array([[True] * 4, [True, True, False, False]])
    selecting, valuing = sb.leave_one_out(judges)
    np.testing.assert_array_equal(selecting[:, 0, 0], [4, 3.5, 1.5])
    np.testing.assert_array_equal(valuing[:, 0, 0], [1, 2, 6])
    n, temperature = np.array([1, 2, 3]), np.array([0.0, 0.7])
    curve = sb.leave_one_out_curve(judges, n, temperature, where)
    for p, i, k in itertools.product(range(2), range(2), range(3)):
        row = judges[p][where[p]]
        if n[k] > len(row):
            assert np.isnan(curve.per_prompt[p, i, k])
            continue
        parts = [
            over_subsets(np.delete(row, j, 1).mean(1), row[:, j], n[k], temperature[i])
            for j in range(3)
        ]
        np.testing.assert_allclose(curve.per_prompt[p, i, k], np.mean(parts), rtol=1e-12)
    np.testing.assert_array_equal(curve.prompts, [2, 2, 1])
    np.testing.assert_allclose(curve.mean[:, 2], curve.per_prompt[0, :, 2])
    one = sb.leave_one_out_curve(judges, 2, 0.7, where)
    np.testing.assert_allclose(one.mean, curve.mean[1, 1], rtol=1e-12)


def test_the_noise_of_judges_does_not_pass_for_gain():
    """Truth and the noise of three judges standard normal; the largest of four is 1.02938 on average.

    Selecting by two judges, the truth is that over √(1 + 1/2); selecting and valuing by all three
    claims that times √(1 + 1/3), where the truth is that over √(1 + 1/3).
    """
    random = np.random.default_rng(8)
    truth = random.normal(size=(3000, 8, 1))
    judges = truth + random.normal(size=(3000, 8, 3))
    largest = 1.0293753730
    fair = sb.leave_one_out_curve(judges, 4, 0.0)
    assert abs(fair.mean - largest / 1.5**0.5) < 3 * fair.standard_error
    naive = sb.pool_curve(judges.mean(2), 4, 0.0)
    assert abs(naive.mean - largest * (4 / 3) ** 0.5) < 3 * naive.standard_error
    assert naive.mean - largest / (4 / 3) ** 0.5 > 20 * naive.standard_error


@pytest.mark.parametrize(
    ("judges", "where", "message"),
    [
        (np.ones((2, 3, 1)), None, r"J >= 2, got shape \(2, 3, 1\)"),
        (np.ones((3, 2)), None, r"judges must be \[prompts, N, J\], got shape \(3, 2\)"),
        (np.ones((2, 3, 2)), np.ones((2, 2), bool), r"where has shape \(2, 2\), must be \(2, 3\)"),
        (np.full((2, 3, 2), np.nan), None, "rewards must be finite"),
    ],
)
def test_bad_judges_are_explained(judges, where, message):
    with pytest.raises(ValueError, match=message):
        sb.leave_one_out_curve(judges, 1, 0.0, where)


# KL ----------------------------------------------------------------------------------------------


def kl_of_law(rewards, n, temperature):
    """KL(P_n‖P) of the empirical law, tied candidates being one outcome."""
    values, counts = np.unique(rewards, return_counts=True)
    log_probs = np.log(counts / counts.sum())
    law = oracles.hard_law(log_probs, values, n)
    if temperature > 0:
        law = oracles.law_by_counts(log_probs, values, n, temperature)
    return np.sum(law[law > 0] * (np.log(law[law > 0]) - log_probs[law > 0]))


RAGGED = (
    np.array([[0.0, 0.3, 0.3, 1.2, 0.9], [0.1, -2.0, 0.4, 0.0, 0.0]]),
    np.array([[True] * 5, [True, True, True, True, False]]),
    np.array([1, 2, 4, 5]),
)
"""Rewards, which of them are there, and n."""


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_kl_and_its_jackknife(temperature):
    rewards, where, n = RAGGED
    estimate = sb.pool_kl(rewards, n, temperature, where)
    for p, (row, kept) in enumerate(zip(rewards, where, strict=True)):
        pool = row[kept]
        for i, k in enumerate(n[n <= pool.size]):
            whole = kl_of_law(pool, int(k), temperature)
            less = [kl_of_law(np.delete(pool, j), int(k), temperature) for j in range(pool.size)]
            reduced = pool.size * whole - (pool.size - 1) * np.mean(less)
            np.testing.assert_allclose(estimate.plug_in[p, i], whole, rtol=1e-11, atol=1e-14)
            np.testing.assert_allclose(estimate.per_prompt[p, i], reduced, rtol=1e-10, atol=1e-13)
    assert np.isnan(estimate.per_prompt[1, 3])


def test_the_jackknife_reduces_the_bias():
    """Pools of 16 from a law of four outcomes: the plug-in is off by many standard errors."""
    probs, rewards = [0.5, 0.3, 0.1, 0.1], np.array([0.0, 0.3, 0.6, 1.0])
    pools = rewards[np.random.default_rng(5).choice(4, p=probs, size=(2000, 16))]
    estimate = sb.pool_kl(pools, np.array([2, 4]), 0.2)
    law = [oracles.law_by_counts(np.log(probs), rewards, n, 0.2) for n in (2, 4)]
    exact = [np.sum(q * np.log(q / probs)) for q in law]
    off, reduced = (np.abs(x - np.array(exact)) for x in (estimate.plug_in.mean(0), estimate.mean))
    assert (off > 8 * estimate.standard_error).all()
    assert (reduced < off / 4).all()


def tilted_of_law(rewards, n, temperature):
    """KL(P*‖P_n) and KL(P*‖P) of the empirical law."""
    values, counts = np.unique(rewards, return_counts=True)
    probs = counts / counts.sum()
    if temperature == 0:
        law, tilted = (
            oracles.hard_law(np.log(probs), values, n),
            (values == values.max()).astype(float),
        )
    else:
        law = oracles.law_by_counts(np.log(probs), values, n, temperature)
        tilted = probs * np.exp((values - values.max()) / temperature)
        tilted /= tilted.sum()
    on = tilted > 0
    return np.array([np.sum(tilted[on] * np.log(tilted[on] / other[on])) for other in (law, probs)])


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_divergences_of_the_tilted_law_and_their_jackknife(temperature, monkeypatch):
    monkeypatch.setattr("softbon_jax.pools.divergences.FEWEST_EFFECTIVE", 0.0)
    rewards, where, n = RAGGED
    estimate = sb.pool_kl(rewards, n, temperature, where)
    for p, (row, kept) in enumerate(zip(rewards, where, strict=True)):
        pool = row[kept]
        for i, k in enumerate(n[n <= pool.size].tolist()):
            whole = tilted_of_law(pool, k, temperature)
            less = [tilted_of_law(np.delete(pool, j), k, temperature) for j in range(pool.size)]
            reduced = pool.size * whole - (pool.size - 1) * np.mean(less, axis=0)
            soft, base = estimate.tilted_soft, estimate.tilted_base
            close = {"rtol": 1e-10, "atol": 1e-13}
            np.testing.assert_allclose([soft.plug_in[p, i], base.plug_in[p]], whole, **close)
            np.testing.assert_allclose(
                [soft.per_prompt[p, i], base.per_prompt[p]], reduced, **close
            )
    assert np.isnan(estimate.tilted_soft.per_prompt[1, 3])
    assert estimate.tilted_base.mean.shape == ()


@pytest.mark.slow
def test_the_tilted_law_of_simulated_pools():
    """Normal rewards, 4,000 pools of 32: the jackknife is within the noise of the exact law.

    And at least five times as near as the plug-in, whose bias is the one that is documented.
    """
    ranks = sb.uniform_quantiles(128)
    rewards = np.asarray(jax.scipy.special.ndtri(ranks.rewards))
    pools = rewards[np.random.default_rng(6).integers(128, size=(4000, 32))]
    n = np.array([1, 4, 16])
    estimate = sb.pool_kl(pools, n, 1.5)
    exact = sb.metrics(sb.Problem(ranks.log_probs, jnp.asarray(rewards)), n.astype(float), 1.5)
    for kl, truth in (
        (estimate.tilted_soft, exact.kl_tilted_soft),
        (estimate.tilted_base, exact.kl_tilted_base[0]),
    ):
        plug_in = np.abs(kl.plug_in.mean(0) - truth)
        assert (np.abs(kl.mean - truth) < 3 * kl.standard_error).all()
        assert (plug_in > 4 * kl.standard_error).all()
        assert (np.abs(kl.mean - truth) < plug_in / 5).all()
    tilt = np.exp(rewards / 1.5) / np.exp(rewards / 1.5).mean()
    target, squared = np.mean(tilt * np.log(tilt)), np.mean(tilt**2)
    bias = (target + 0.5) * (squared - 1) + target - np.mean(tilt**2 * np.log(tilt))
    found = estimate.tilted_base.plug_in.mean() - target
    assert found == pytest.approx(bias / 32, rel=0.2)


@pytest.mark.slow
def test_pools_too_small_for_the_tilted_law_say_so():
    rewards, where = np.random.default_rng(7).normal(size=(6, 20)), np.ones((6, 20), bool)
    n = np.array([2, 20])
    estimate = sb.pool_kl(rewards, n, np.array([0.0, 5.0, np.inf]))
    assert (estimate.effective_size[:, 0] < 10).all()
    assert (estimate.effective_size[:, 1:] > 10).all()
    for kl in (estimate.tilted_soft, estimate.tilted_base):
        assert np.isnan(kl.mean[0]).all()
        assert np.isnan(kl.per_prompt[:, 0]).all()
        assert np.isfinite(kl.plug_in).all()
        assert (kl.mean[1] > 0).all()
        np.testing.assert_array_equal(kl.mean[2], 0)
    assert np.isfinite(estimate.mean).all()
    # One prompt of eight alike candidates: by itself too small, but the mean is over all.
    rewards[0], where[0, 8:] = 0.0, False
    few = sb.pool_kl(rewards, n, 5.0, where)
    assert np.isnan(few.tilted_base.per_prompt[0])
    each = np.concatenate([[0.0], few.tilted_base.per_prompt[1:]])
    assert few.tilted_base.mean == pytest.approx(each.mean(), rel=1e-12)
    assert few.tilted_soft.mean[1] == pytest.approx(few.tilted_soft.per_prompt[1:, 1].mean())
    # Ten of twenty tied for the best: hard best-of-n can be told too.
    tied = sb.pool_kl(np.repeat([[0.0, 1.0]], 60, axis=0).reshape(6, 20), n, 0.0)
    share = np.array([10 / 20, 9 / 19, 10 / 19])
    soft, base = -np.log(1 - (1 - share) ** 2), -np.log(share)
    weights = [20, -19 / 2, -19 / 2]
    assert tied.tilted_soft.mean[0] == pytest.approx(soft @ weights, rel=1e-10)
    assert tied.tilted_base.mean == pytest.approx(base @ weights, rel=1e-10)


@pytest.mark.slow
def test_kl_under_tracing_and_in_single_precision():
    rewards, n = np.random.default_rng(9).normal(size=(2, 20)), np.array([1, 4, 20])
    exact = sb.pool_kl(rewards, n, 2.0)
    traced = jax.jit(sb.pool_kl)(rewards, jnp.asarray(n), jnp.asarray(2.0))
    chex.assert_trees_all_close(traced, exact, rtol=1e-9, atol=1e-12)
    single = sb.pool_kl(rewards.astype(np.float32), n, np.float32(2.0))
    assert single.tilted_soft.mean.dtype == single.tilted_base.mean.dtype == jnp.float32
    for got, expected in zip(
        (single.mean, *single.tilted_soft, *single.tilted_base),
        (exact.mean, *exact.tilted_soft, *exact.tilted_base),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def test_effective_size():
    rewards = np.array([[0.0, 1.0, 1.0, -1.0], [5.0, 0.0, 0.0, 0.0]])
    where = np.array([[True] * 4, [True, True, False, False]])
    size = sb.pool_effective_size(rewards, np.array([0.0, 0.7, np.inf]), where)
    for p in range(2):
        w = np.exp(rewards[p][where[p]] / 0.7)
        np.testing.assert_allclose(size[p, 1], w.sum() ** 2 / (w**2).sum(), rtol=1e-13)
    np.testing.assert_array_equal(size[:, 0], [2, 1])
    np.testing.assert_array_equal(size[:, 2], [4, 2])


def test_plug_in_is_the_empirical_law(ragged):
    rewards, values, where, _ = ragged
    curve = sb.plug_in_curve(rewards, np.array([1, 3]), np.array([0.0, 0.5, np.inf]), values, where)
    r, v = rewards[1][where[1]], values[1][where[1]]
    for i, temperature in enumerate((0.0, 0.5)):
        law = oracles.law_by_tuples(np.zeros(7), r, 3, temperature)
        np.testing.assert_allclose(curve.per_prompt[1, i, 1], law @ v, rtol=0, atol=1e-13)
    np.testing.assert_allclose(
        curve.per_prompt[:, 2, 0], np.nanmean(np.where(where, values, np.nan), 1)
    )


# What is refused ---------------------------------------------------------------------------------

GOOD = np.array([[0.0, 1.0, 2.0], [1.0, 0.5, 0.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD[0], 1, 0.0), r"rewards must be \[prompts, N\].*\(3,\)"),
        ((GOOD, 0, 0.0), "n must be an integer of at least 1, got 0"),
        ((GOOD, 1.5, 0.0), "n must be an integer of at least 1, got 1.5"),
        ((GOOD, [1, 4], 0.0), "n must be at most 3, the largest pool, got 4 at index 1"),
        ((GOOD, 1, -1.0), "temperature must be at least 0"),
        ((GOOD, 1, np.ones((1, 1))), "temperature must be a scalar or a vector"),
        ((GOOD, 1, 0.0, GOOD[:, :2]), r"values has shape \(2, 2\)"),
        (
            (GOOD, 1, 0.0, np.full((2, 3), np.nan)),
            r"values must be finite.* got nan at index \(0, 0\)",
        ),
        (
            (np.where(GOOD > 1, np.inf, GOOD), 1, 0.0),
            r"rewards must be finite.* inf at index \(0, 2\)",
        ),
        ((GOOD, 1, 0.0, None, np.ones((2, 3))), "where must be bool"),
        (
            (GOOD, 1, 0.0, None, GOOD > 1.5),
            "candidates in a pool must be at least 1, got 0 at index 1",
        ),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        sb.pool_curve(*arguments)


def test_bad_nodes_are_explained():
    with pytest.raises(ValueError, match="nodes must be a positive integer, got 0"):
        sb.pool_curve(GOOD, 1, 0.3, nodes=0)
