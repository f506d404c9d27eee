"""Advice from tables of estimates: budgets are kept, optimism is removed, verdicts are calibrated."""

import numpy as np
import pytest

from softbon_jax import leave_one_out_curve, pool_curve, pool_kl, scores
from softbon_jax.command import advice, report


def table(gold, n=(1, 2, 4)):
    """A table at two temperatures, the second half as strong."""
    gold = np.asarray(gold, float)
    both = np.stack([gold, gold / 2], axis=1)
    kl = np.broadcast_to(np.stack([np.log(n), np.log(n) / 2]), both.shape)
    temperature = np.array([0.0, 1.0])
    return advice.Table(temperature, np.array(n), both, both, kl, np.arange(len(gold)))


def test_verdicts_are_right_as_often_as_they_say():
    """No change: "turns down" in about 5% of the cases; a true fall is found, a true rise confirmed."""
    random = np.random.default_rng(1)
    flat = [table(random.normal(size=(60, 3))) for _ in range(200)]
    found = [advice.overoptimized(x, 0.0, samples=300).finding for x in flat]
    assert found.count("turns down") <= 22
    assert found.count("still rising") <= 22
    falls = random.normal(size=(60, 3)) + np.array([0, 1, 0])
    rises = random.normal(size=(60, 3)) + np.array([0, 1, 2])
    assert advice.overoptimized(table(falls), 0.0).finding == "turns down"
    assert advice.overoptimized(table(falls), 0.0).peak == 2
    assert advice.overoptimized(table(rises), 0.0).finding == "still rising"


def test_the_choice_keeps_to_its_budgets():
    rises = table(np.random.default_rng(2).normal(size=(60, 3)) + np.array([0, 2, 4]))
    free = advice.choose(rises)
    assert (free.n, free.temperature) == (4, 0.0)
    assert "the largest n that the pools allow" in free.reason
    assert advice.choose(rises, n=2).n == 2
    cheap = advice.choose(rises, kl=0.8)
    assert cheap.kl <= 0.8
    assert (cheap.n, cheap.temperature) == (4, 1.0) or cheap.n == 2
    nothing = advice.choose(rises._replace(kl=rises.kl + 1), kl=0.5)
    assert not nothing.ok
    assert "no point of the grid is within the budget" in nothing.reason
    flat = advice.choose(table(np.random.default_rng(3).normal(size=(60, 3))))
    assert not flat.ok
    assert "better than a single response beyond doubt" in flat.reason


def test_optimism_is_taken_off():
    """Nine equal points: the best looks better than it is, the corrected value less so."""
    random = np.random.default_rng(4)
    raw, corrected = [], []
    for _ in range(60):
        flat = table(random.normal(size=(40, 9)), n=tuple(range(1, 10)))
        raw.append(flat.objective.mean(0).max())
        corrected.append(advice.choose(flat, samples=200).value)
    assert np.mean(raw) > 0.1
    assert abs(np.mean(corrected)) < np.mean(raw) / 2


def test_what_a_table_cannot_answer_is_refused():
    rises = table(np.random.default_rng(2).normal(size=(60, 3)))
    with pytest.raises(ValueError, match="needs a table with a gold score"):
        advice.overoptimized(rises._replace(gold=None), 0.0)
    with pytest.raises(ValueError, match=r"temperature must be one of .* got 3"):
        advice.overoptimized(rises, 3.0)
    with pytest.raises(ValueError, match=r"n must be one of .* got 3"):
        advice.per_prompt_temperatures(rises, 3, 1.0)
    with pytest.raises(ValueError, match="samples must be an integer of at least 1, got 0"):
        advice.choose(rises, samples=0)


# The table ---------------------------------------------------------------------------------------


def ragged(seed=7):
    """Five prompts with 4 to 6 responses, gold and proxy independent."""
    random = np.random.default_rng(seed)
    proxy = {str(i): random.normal(size=4 + i % 3) for i in range(5)}
    return scores.padded(proxy, {name: random.normal(size=x.size) for name, x in proxy.items()})


@pytest.mark.slow
def test_the_table_holds_the_estimates_of_the_pools_that_are_large_enough():
    pools, told = ragged(), []
    temperature = np.array([0.0, np.inf])
    grid = advice.tabulate(pools, [5, 1, 5], temperature, tell=lambda *x: told.append(x))
    np.testing.assert_array_equal(grid.n, [1, 5])
    np.testing.assert_array_equal(grid.prompts, [1, 2, 4])
    assert told == [(0, 1), (1, 1)]
    rewards, gold, where = (x[grid.prompts] for x in (pools.rewards, pools.gold, pools.where))
    for found, values in ((grid.reward, rewards), (grid.gold, gold)):
        for row, t in enumerate(temperature):
            curve = pool_curve(rewards, grid.n, t, values=values, where=where)
            np.testing.assert_allclose(found[:, row], curve.per_prompt, rtol=1e-12, atol=1e-14)
    for row, t in enumerate(temperature):
        expected = pool_kl(rewards, grid.n, t, where=where).per_prompt
        np.testing.assert_allclose(grid.kl[:, row], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_a_table_in_float32_is_that_of_float64_to_what_it_says():
    """Pools far from 0 and from each other, of two judges, ragged, also in units float32 cannot hold."""
    random = np.random.default_rng(9)
    judges = random.normal(size=(20, 48, 2)) + 1e6 * random.normal(size=(20, 1, 2))
    where = np.arange(48) < random.integers(32, 49, size=(20, 1))
    pools = scores.padded(
        {str(i): x[kept, 0] for i, (x, kept) in enumerate(zip(judges, where, strict=True))}
    )
    for scale in (1.0, 2.0**600):
        given = pools._replace(judges=scale * np.where(where[..., None], judges, 0.0))
        grid = [1, 2, 7, 32], scale * np.array([0.0, 0.1, 0.5, 2.0, np.inf])
        wide, narrow = (advice.tabulate(given, *grid, float32=x) for x in (False, True))
        assert narrow.reward.dtype == narrow.kl.dtype == np.float64
        np.testing.assert_allclose(narrow.reward, wide.reward, rtol=1e-14, atol=6e-5 * scale)
        np.testing.assert_allclose(narrow.gold, wide.gold, rtol=1e-14, atol=6e-5 * scale)
        np.testing.assert_allclose(narrow.kl, wide.kl, rtol=0, atol=1e-5)
        assert np.abs(narrow.kl - wide.kl).max() > 1e-9  # it is float32


def test_judges_left_out_in_turn_are_averaged():
    judges = np.random.default_rng(8).normal(size=(4, 5, 3))
    pools = scores.padded({str(i): x.mean(1) for i, x in enumerate(judges)})
    grid = advice.tabulate(pools._replace(judges=judges), [1, 3], [0.0])
    expected = leave_one_out_curve(judges, np.array([1, 3]), 0.0).per_prompt
    np.testing.assert_allclose(grid.gold[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        ([7], "n must be at most 6, the largest pool, got 7"),
        ([0, 2], "n must be an integer of at least 1, got 0"),
        ([1.5], "n must be an integer of at least 1, got 1.5"),
    ],
)
def test_sizes_that_cannot_be_tabulated(n, message):
    with pytest.raises(ValueError, match=message):
        advice.tabulate(ragged(), n, [0.0])


def test_default_sizes_are_those_of_nearly_all_prompts():
    pools = scores.padded({str(i): np.zeros(20 - 11 * (i == 0)) for i in range(30)})
    np.testing.assert_array_equal(advice.default_n(pools), [1, 2, 4, 8, 16, 20])
    np.testing.assert_array_equal(advice.default_n(pools, share=1.0), [1, 2, 4, 8, 9])
    with pytest.raises(ValueError, match="share must be above 0"):
        advice.default_n(pools, share=0.0)


# Old calls ---------------------------------------------------------------------------------------


def test_old_names_and_positions_warn_and_work():
    pools = ragged()
    with pytest.warns(DeprecationWarning, match=r"default_n: pass share=\.\.\. by keyword"):
        np.testing.assert_array_equal(
            advice.default_n(pools, 1.0), advice.default_n(pools, share=1.0)
        )
    told = []
    with pytest.warns(DeprecationWarning, match=r"tabulate: pass tell=\.\.\. by keyword"):
        advice.tabulate(pools, [1, 2], [0.0], lambda *x: told.append(x))
    assert told == [(0, 1), (1, 1)]
    with pytest.warns(DeprecationWarning, match="overoptimised is now overoptimized"):
        old = advice.overoptimised
    assert old is advice.overoptimized
    with pytest.warns(DeprecationWarning, match="COLOURS is now COLORS"):
        assert report.COLOURS is report.COLORS
    for module in (advice, report):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            module.nothing  # noqa: B018


# The default grid --------------------------------------------------------------------------------


def normal(sentinel=None):
    """40 prompts of 16, in each of which one response may have failed."""
    rewards = np.random.default_rng(9).normal(size=(40, 16))
    if sentinel is not None:
        rewards[:, 3] = sentinel
    return scores.padded({str(i): x for i, x in enumerate(rewards)})


@pytest.mark.slow
def test_default_temperatures_spend_what_they_should():
    found = advice.default_temperatures(normal())
    assert found[0] == 0
    assert found[-1] == np.inf
    kl = np.asarray(pool_kl(normal().rewards, 16, found).plug_in).mean(0)
    np.testing.assert_allclose(kl[1:-1] / kl[0], (0.95, 0.85, 0.7, 0.5, 0.3, 0.15, 0.07), atol=0.02)


@pytest.mark.parametrize("sentinel", [-100.0, -1e9, -1e300, -np.inf])
def test_one_failed_response_sets_no_scale(sentinel):
    plain, failed = (advice.default_temperatures(x) for x in (normal(), normal(sentinel)))
    np.testing.assert_allclose(failed[1:6], plain[1:6], rtol=0.15)
    assert failed[7] < 2 * plain[7]


def test_equal_rewards_have_a_grid_too():
    pools = scores.padded({"a": np.zeros(4), "b": np.ones(4)})
    np.testing.assert_array_equal(advice.default_temperatures(pools)[[0, 5, -1]], [0, 1, np.inf])


# Many prompts ------------------------------------------------------------------------------------


def test_groups_of_prompts_keep_mean_and_error():
    """Neighbors that are alike fall into different groups; the means of groups are those of prompts."""
    random = np.random.default_rng(10)
    values = 5 + np.repeat(random.normal(size=(2500, 3)), 4, axis=0)
    (groups,), size = advice._in_groups(values)
    assert groups.shape == (4096, 3)
    assert size == 10_000 / 4096
    np.testing.assert_allclose(groups.mean(0), values.mean(0), rtol=1e-13)
    error = values.std(0) / 100
    np.testing.assert_allclose(groups.std(0) / 64, error, rtol=0.05)
    (same,), one = advice._in_groups(values[:4096])
    assert one == 1
    np.testing.assert_array_equal(same, values[:4096])
    another = advice._with_another(groups, np.array([7.0, 5.0, 0.0]), size)
    whole = np.vstack([values, [[7.0, 5.0, 0.0]]])
    np.testing.assert_allclose(
        another.sum(0) * size, whole.sum(0) + (size - 1) * values.mean(0), rtol=1e-12
    )


@pytest.mark.slow
def test_groups_tell_what_prompts_tell(monkeypatch):
    random = np.random.default_rng(11)
    many = table(random.normal(size=(3000, 3)) + np.array([0.0, 0.1, 0.05]))
    prompts = advice.choose(many), advice.overoptimized(many, 0.0)
    monkeypatch.setattr(advice, "MOST_RESAMPLED", 500)
    groups = advice.choose(many), advice.overoptimized(many, 0.0)
    assert groups[0].n == prompts[0].n == 2
    for field in ("value", "gain", "gain_low", "gain_high", "kl", "agreement"):
        found, want = (getattr(x[0], field) for x in (groups, prompts))
        assert abs(found - want) < 0.01, field
    assert groups[1].finding == prompts[1].finding
    assert groups[1].drop == prompts[1].drop
    assert abs(groups[1].p_value - prompts[1].p_value) < 0.02
