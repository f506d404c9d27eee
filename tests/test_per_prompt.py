"""A temperature for every prompt is valued on responses that did not choose it; intervals."""

import numpy as np
import pytest
from scipy import stats

from softbon_jax import scores
from softbon_jax.command import advice
from softbon_jax.command._intervals import means, student

TEMPERATURE = np.array([0.0, 0.3, 1.0, np.inf])
PROMPTS, SIZE, N = 40, 8, 4
NOTHING = np.zeros((PROMPTS, TEMPERATURE.size, 2))
GRID = advice.Table(TEMPERATURE, np.array([1, N]), NOTHING, NOTHING, NOTHING, np.arange(PROMPTS))
"""Of the whole pools, without what was found there."""


def drawn(seed, scale=1.0, temperature=TEMPERATURE):
    """Pools of normal rewards, and gold with noise of its own; a KL between those of .3 and 1."""
    random = np.random.default_rng(seed)
    rewards = random.normal(size=(PROMPTS, SIZE)) * scale
    pools = named(rewards, rewards + random.normal(size=rewards.shape))
    table = advice.tabulate(pools, [1, N], temperature)
    return pools, table, float(table.kl[:, 1:3, 1].mean())


def named(*pools):
    names = [str(i) for i in range(PROMPTS)]
    return scores.padded(*(dict(zip(names, x, strict=True)) for x in pools))


@pytest.mark.slow
def test_prompts_that_are_alike_gain_nothing():
    """On the responses that chose, all 10 data sets gain beyond doubt; on others, none need to."""
    flattered, gained, claimed = 0, [], 0
    for seed in range(10):
        pools, table, kl = drawn(seed)
        apart = advice.halves(pools, table, N, seed=seed)
        each = advice.per_prompt_temperatures(table, N, kl, halves=apart)
        same = advice.per_prompt_temperatures(table, N, kl, halves=(apart[0], apart[0]))
        assert each.n == N
        flattered += same.gain_low > 0
        gained.append((each.gain, each.objective_gain))
        claimed += (each.gain_low > 0) + (each.objective_gain_low > 0)
    assert flattered == 10
    assert claimed <= 2  # of 20, at .025 each
    mean, error = means(np.array(gained))
    assert (mean < 3 * error).all()


def test_prompts_that_differ_gain():
    """With λ = 0 and inf only, and KL for half of the prompts: those of ten times the spread get it."""
    scale = np.where(np.arange(PROMPTS)[:, None] % 2, 10.0, 1.0)
    pools, table, _ = drawn(3, scale, TEMPERATURE[[0, -1]])
    apart = advice.halves(pools, table, N)
    kl = float(table.kl[:, 0, 1].mean()) / 2
    each = advice.per_prompt_temperatures(table, N, kl, halves=apart)
    assert 0 < each.gain_low < each.gain < each.gain_high
    assert 0 < each.objective_gain_low < each.objective_gain < each.objective_gain_high
    assert np.mean(each.temperature[1::2] == 0) > 0.8
    assert np.mean(each.temperature[::2] == 0) < 0.2
    # 1.03 is the mean of the best of four: 10 · 1.03/2, where sharing gets (10 · 1.03 + 1.03)/4.
    assert abs(each.gain - 1.03 * (5 - 11 / 4)) < 3 * each.gain_se


def test_without_halves_no_gain_is_told():
    _, table, kl = drawn(4)
    each = advice.per_prompt_temperatures(table, N, kl)
    assert np.isfinite(each.temperature[each.temperature < 9]).all()
    numbers = (each.reward, each.gain, each.gain_low, each.objective_gain, each.objective_gain_high)
    assert np.isnan(numbers).all()


# The halves --------------------------------------------------------------------------------------


def test_halves_share_no_response_and_leave_none_out():
    """Of all there are (n = 4 of 4): at λ = 0 the best, at λ = inf the mean; odd pools lose one."""
    random = np.random.default_rng(0)
    pools = named([random.normal(size=SIZE + i % 2) for i in range(PROMPTS)])
    first, second = advice.halves(pools, GRID, N + 1, seed=1)
    assert first.n.tolist() == second.n.tolist() == [N]
    even, both = pools.rewards[::2, :SIZE], (first.reward[..., 0], second.reward[..., 0])
    np.testing.assert_allclose(np.max([x[::2, 0] for x in both], axis=0), even.max(1), rtol=1e-12)
    np.testing.assert_allclose(np.mean([x[::2, -1] for x in both], axis=0), even.mean(1), rtol=1e-9)
    lost = pools.rewards[1::2].sum(1) - N * np.sum([x[1::2, -1] for x in both], axis=0)
    assert np.abs(pools.rewards[1::2] - lost[:, None]).min(1).max() < 1e-9
    assert not np.allclose(*both)
    again, other = (advice.halves(pools, GRID, N, seed=seed)[0] for seed in (1, 2))
    np.testing.assert_array_equal(first.reward, again.reward)
    assert not np.allclose(first.reward, other.reward)


def test_a_half_is_tabulated_as_a_pool_is():
    """Of k ones and 4 - k zeros, a one is selected with chance k e^(1/λ)/(k e^(1/λ) + 4 - k)."""
    pools = named(np.arange(SIZE) % 2 * np.ones((PROMPTS, 1)))
    for half in advice.halves(pools, GRID, N):
        ones = np.round(half.reward[:, -1, 0] * N)
        for row in (1, 2):
            weight = ones * np.exp(1 / TEMPERATURE[row])
            chance = weight / (weight + N - ones)
            np.testing.assert_allclose(half.reward[:, row, 0], chance, rtol=1e-10)


@pytest.mark.slow
def test_judges_are_halved_too_and_small_pools_are_not():
    judges = np.random.default_rng(8).normal(size=(4, 6, 3))
    pools = scores.padded({str(i): x.mean(1) for i, x in enumerate(judges)})
    pools = pools._replace(judges=judges)
    table = advice.tabulate(pools, [1, 2], [0.0])
    first, second = advice.halves(pools, table, 1)
    np.testing.assert_allclose(
        (first.gold + second.gold)[:, 0, 0] / 2, judges.mean((1, 2)), rtol=1e-12
    )
    with pytest.raises(ValueError, match="n must be an integer of at least 1, got 0"):
        advice.halves(pools, table, 0)
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to .*, got -1"):
        advice.halves(pools, table, 1, seed=-1)
    small = scores.padded({"a": [0.0, 1.0, 2.0], "b": [1.0, 2.0, 3.0, 4.0]})
    assert advice.halves(small, table._replace(prompts=np.arange(2)), 2) is None


# Intervals ---------------------------------------------------------------------------------------


def test_quantiles_are_those_of_student():
    for degrees in (1, 2, 3, 9, 19, 99, 1000, 100_000, 10**7):
        assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-6)
    assert np.isnan(student(0))


def test_bands_cover_at_few_prompts():
    """Of 5 and 20 normal prompts, 20,000 times: .95, where 1.96 standard errors cover .88 and .935."""
    random = np.random.default_rng(2)
    for prompts, short in ((5, 0.89), (20, 0.94)):
        mean, error = means(random.normal(size=(prompts, 20_000)))
        assert np.mean(np.abs(mean) <= student(prompts - 1) * error) == pytest.approx(
            0.95, abs=0.006
        )
        assert np.mean(np.abs(mean) <= 1.96 * error) < short
