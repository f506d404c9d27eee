"""Curves from pools: against all subsets, closed forms, simulated pools and finite differences."""

import contextlib
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import monitoring

import softbon_jax as sb
from tests import oracles

TEMPERATURES = np.array([0.0, 1e-9, 1e-3, 0.03, 0.1, 0.5, 3.0, 100.0, np.inf])


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
            expected[p, i, n - 1] = oracles.mean_over_subsets(r, v, n, TEMPERATURES[i])
    rewards[~where] = np.nan  # what is left out must not matter
    return rewards, values, where, expected


def test_the_mean_over_all_subsets(ragged):
    rewards, values, where, expected = ragged
    curve = sb.pool_curve(rewards, np.arange(1, 11), TEMPERATURES, values=values, where=where)
    np.testing.assert_allclose(curve.per_prompt, expected, rtol=0, atol=2e-14)
    np.testing.assert_array_equal(curve.prompts, [3] + [2] * 6 + [1] * 3)
    np.testing.assert_allclose(curve.mean, np.nanmean(expected, axis=0), atol=1e-13)
    for n in (1, 2, 7):
        present = expected[~np.isnan(expected[:, 0, n - 1]), :, n - 1]
        error = present.std(0, ddof=1) / math.sqrt(len(present))
        np.testing.assert_allclose(curve.standard_error[:, n - 1], error, rtol=1e-10, atol=1e-14)
    assert np.isnan(curve.standard_error[:, 7:]).all()  # one prompt says nothing about the spread


def test_float32(ragged):
    rewards, values, where, expected = ragged
    single = (x.astype(np.float32) for x in (rewards, TEMPERATURES, values))
    rewards, temperature, values = single
    # In float32 the near-tie of 1e-9 is a tie.
    mine = slice(1, None)
    curve = sb.pool_curve(
        rewards[mine], np.arange(1, 8), temperature, values=values[mine], where=where[mine]
    )
    assert curve.mean.dtype == curve.per_prompt.dtype == jnp.float32
    np.testing.assert_allclose(curve.per_prompt, expected[mine, :, :7], rtol=1e-5, atol=1e-5)


def test_traced_arguments_give_the_same_and_compile_once(ragged):
    rewards, values, where, expected = ragged

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(rewards, n, temperature, values, where):
        return sb.pool_curve(rewards, n, temperature, values=values, where=where).per_prompt

    for chosen in ([0, 4], [5, 8]):
        t = jnp.asarray(TEMPERATURES[chosen])
        got = traced(rewards, jnp.arange(1, 11), t, values, where)
        np.testing.assert_allclose(got, expected[:, chosen], rtol=0, atol=2e-14)
    # Too few nodes, and a temperature below 0.
    assert np.isnan(
        traced(rewards, jnp.arange(1, 11), jnp.asarray([1e-3, -1.0]), values, where)[0, :, 1]
    ).all()


def test_scalar_arguments_drop_their_axis(ragged):
    rewards, values, where, expected = ragged
    curve = sb.pool_curve(rewards, 3, 0.5, values=values, where=where)
    assert curve.mean.shape == curve.standard_error.shape == curve.prompts.shape == ()
    np.testing.assert_allclose(curve.per_prompt, expected[:, 5, 2], rtol=0, atol=2e-14)


def test_old_positions_warn_and_give_the_same(ragged):
    rewards, values, where, _ = ragged
    for function in (sb.pool_curve, sb.plug_in_curve):
        expected = function(rewards, [1, 3], 0.5, values=values, where=where)
        with pytest.warns(DeprecationWarning, match=r"pass values=\.\.\., where=\.\.\. by keyword"):
            chex.assert_trees_all_equal(function(rewards, [1, 3], 0.5, values, where), expected)
    judges = np.stack([values, values[::-1], values + 1], axis=-1)
    expected = sb.leave_one_out_curve(judges, 2, 0.5, where=where[:1])
    with pytest.warns(DeprecationWarning, match=r"leave_one_out_curve: pass where=\.\.\."):
        chex.assert_trees_all_equal(sb.leave_one_out_curve(judges, 2, 0.5, where[:1]), expected)


def test_a_mask_broadcasts(ragged):
    _, values, where, _ = ragged
    rows, row = np.broadcast_to(where[1], where.shape), where[1]
    whole = sb.pool_curve(values, 3, 0.5, where=rows)
    chex.assert_trees_all_equal(sb.pool_curve(values, 3, 0.5, where=row), whole)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_single(ragged, dtype):
    _, values, where, _ = ragged
    half = jnp.asarray(values).astype(dtype)
    single = half.astype(jnp.float32)
    for function in (sb.pool_curve, sb.plug_in_curve):
        curve = function(half, [1, 5], [0.0, 0.5], values=half[::-1], where=where)
        chex.assert_type([curve.mean, curve.standard_error, curve.per_prompt], jnp.float32)
        expected = function(single, [1, 5], [0.0, 0.5], values=single[::-1], where=where)
        chex.assert_trees_all_equal(curve, expected)
    judged = sb.leave_one_out(jnp.stack([half, half[::-1]], axis=-1))
    chex.assert_type(list(judged), jnp.float32)


def test_judges_in_turn_known_and_traced():
    judges = np.random.default_rng(6).normal(size=(2, 5, 4))
    others = np.stack([np.delete(judges, j, axis=-1).mean(-1) for j in range(4)])
    for function in (sb.leave_one_out, jax.jit(sb.leave_one_out)):
        turns = function(judges)
        np.testing.assert_allclose(turns.rewards, others, rtol=1e-14)
        np.testing.assert_array_equal(turns.values, np.moveaxis(judges, -1, 0))


@contextlib.contextmanager
def programs():
    """A list that grows by one with every program that is compiled, or read from the cache."""
    event, found = "/jax/core/compile/backend_compile_duration", []

    def listen(name, duration, **_):
        if name == event:
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_an_eager_call_compiles_one_worker_for_all_temperatures(ragged):
    """And at most two small programs beside it; nothing for other values of the same kind."""
    rewards, values, where, _ = ragged
    rewards, where = rewards[:, :9], where[:, :9]
    judges = np.stack([values, values[::-1]], axis=-1)[:, :9]
    calls = {
        "curve": lambda t: sb.pool_curve(rewards, [1, 2], t, values=values[:, :9], where=where),
        "plug-in": lambda t: sb.plug_in_curve(rewards, [1, 2], t, where=where),
        "judges": lambda t: sb.leave_one_out_curve(judges, [1, 2], t, where=where),
        "kl": lambda t: sb.pool_kl(rewards, [1, 2], t, where=where),
        "size": lambda t: sb.pool_effective_size(rewards, t, where=where),
    }
    for name, call in calls.items():
        jax.clear_caches()
        with programs() as compiled:
            call([0.0, 0.3, 0.5, np.inf])
        assert 1 <= len(compiled) <= 3, name
        with programs() as compiled:
            call([0.0, 0.31, 0.49, np.inf])
        assert not compiled, name


@pytest.mark.slow
def test_gradients_against_differences(ragged):
    rewards, values, where, _ = ragged
    rewards = np.where(where, rewards, 0.0)
    random = np.random.default_rng(1)
    direction, step = random.normal(size=rewards.shape), 1e-5

    def mean(rewards, temperature, values):
        return sb.pool_curve(rewards, 4, temperature, values=values, where=where).mean

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


@pytest.mark.slow
def test_large_pools_and_low_temperatures_are_safe():
    """N = 1000, λ down to where nothing but ranks matters: finite, and rising with n."""
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


@pytest.mark.slow
def test_leaving_one_judge_out_by_hand():
    judges = np.array(
        [[[1.0, 2, 6], [4, 4, 1], [0, 3, 3], [5, 0, 7]], [[2, 2, 2], [1, 3, 5], [9] * 3, [8] * 3]]
    )
    where = np.array([[True] * 4, [True, True, False, False]])
    selecting, valuing = sb.leave_one_out(judges)
    np.testing.assert_array_equal(selecting[:, 0, 0], [4, 3.5, 1.5])
    np.testing.assert_array_equal(valuing[:, 0, 0], [1, 2, 6])
    n, temperature = np.array([1, 2, 3]), np.array([0.0, 0.7])
    curve = sb.leave_one_out_curve(judges, n, temperature, where=where)
    for p, i, k in itertools.product(range(2), range(2), range(3)):
        row = judges[p][where[p]]
        if n[k] > len(row):
            assert np.isnan(curve.per_prompt[p, i, k])
            continue
        parts = [
            oracles.mean_over_subsets(np.delete(row, j, 1).mean(1), row[:, j], n[k], temperature[i])
            for j in range(3)
        ]
        np.testing.assert_allclose(curve.per_prompt[p, i, k], np.mean(parts), rtol=1e-12)
    np.testing.assert_array_equal(curve.prompts, [2, 2, 1])
    np.testing.assert_allclose(curve.mean[:, 2], curve.per_prompt[0, :, 2])
    one = sb.leave_one_out_curve(judges, 2, 0.7, where=where)
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
        (
            np.ones((2, 3, 2)),
            np.ones((2, 2), bool),
            r"where must broadcast against rewards \(2, 3\), got shape \(2, 2\)",
        ),
        (np.full((2, 3, 2), np.nan), None, "judges must be finite"),
    ],
)
def test_bad_judges_are_explained(judges, where, message):
    with pytest.raises(ValueError, match=message):
        sb.leave_one_out_curve(judges, 1, 0.0, where=where)


# With replacement ---------------------------------------------------------------------------------


def test_plug_in_is_the_empirical_law(ragged):
    rewards, values, where, _ = ragged
    curve = sb.plug_in_curve(
        rewards, np.array([1, 3]), np.array([0.0, 0.5, np.inf]), values=values, where=where
    )
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
    ("arguments", "options", "message"),
    [
        ((GOOD[0], 1, 0.0), {}, r"rewards must be \[prompts, N\].*\(3,\)"),
        ((GOOD[:0], 1, 0.0), {}, r"rewards must not be empty, got shape \(0, 3\)"),
        ((GOOD, 0, 0.0), {}, "n must be an integer of at least 1, got 0"),
        ((GOOD, 1.5, 0.0), {}, "n must be an integer of at least 1, got 1.5"),
        ((GOOD, [1, 4], 0.0), {}, "n must be at most 3, the largest pool, got 4 at index 1"),
        ((GOOD, 1, -1.0), {}, "temperature must be at least 0"),
        ((GOOD, 1, np.ones((1, 1))), {}, "temperature must be a scalar or a vector"),
        ((GOOD, 1, 0.0), {"values": GOOD[:, :2]}, r"values has shape \(2, 2\)"),
        (
            (GOOD, 1, 0.0),
            {"values": np.full((2, 3), np.nan)},
            r"values must be finite.* got nan at index \(0, 0\)",
        ),
        (
            (np.where(GOOD > 1, np.inf, GOOD), 1, 0.0),
            {},
            r"rewards must be finite.* inf at index \(0, 2\)",
        ),
        ((GOOD, 1, 0.0), {"where": np.ones((2, 3))}, "where must be bool"),
        (
            (GOOD, 1, 0.0),
            {"where": np.ones((3, 2), bool)},
            r"where must broadcast against rewards \(2, 3\), got shape \(3, 2\)",
        ),
        (
            (GOOD, 1, 0.0),
            {"where": GOOD > 1.5},
            "candidates in a pool must be at least 1, got 0 at index 1",
        ),
        ((GOOD, 1, 0.3), {"nodes": 0}, "nodes must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments_are_explained(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        sb.pool_curve(*arguments, **options)


def test_the_divergences_check_their_nodes_too():
    for function in (sb.plug_in_curve, sb.pool_kl):
        with pytest.raises(ValueError, match="nodes must be an integer of at least 1, got 0"):
            function(GOOD, 1, 0.3, nodes=0)


def test_what_is_no_real_number_is_refused():
    for arguments in ((GOOD > 1, 1, 0.3), (GOOD, True, 0.3), (GOOD, 1, None)):
        with pytest.raises(TypeError, match="must be real numbers"):
            sb.pool_curve(*arguments)
