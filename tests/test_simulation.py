"""Simulation: draws, estimates against exhaustive laws, standard errors and noise floor."""

import functools
import itertools
import math

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import softbon_jax as sb
from softbon_jax import _binomial, _draws
from softbon_jax import simulation as module
from softbon_jax.simulation import conditional_fluctuation, simulate
from tests import oracles

PROBS = np.array([0.5, 0.3, 0.1, 0.1])
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
TIED = np.array([0.0, 0.6, 0.6, -0.4])
T_95 = stats.t.ppf(0.975, module.LANES - 1)


def problem(rewards=REWARDS, dtype=np.float64):
    return sb.from_probs(PROBS.astype(dtype), np.asarray(rewards, dtype))


def race_law(rewards, n, temperature):
    """[K] law of the largest r/λ + Exp(1) over n draws, by the distribution of one score.

    With v = e^score, Pr(v of one draw <= v) = Σ_x P(x) (1 - w_x/v)_+; the winner's density follows.
    """
    weights = np.exp((rewards - rewards.max()) / temperature)
    s, ds = np.linspace(0, 1 / weights.min(), 2_000_001, retstep=True)  # s = 1/v
    below = sum(p * np.clip(1 - w * s, 0, None) for p, w in zip(PROBS, weights, strict=True))
    return np.array(
        [
            np.trapezoid(n * p * w * (w * s <= 1) * below ** (n - 1), dx=ds)
            for p, w in zip(PROBS, weights, strict=True)
        ]
    )


def assert_within(estimate, exact, trials=20_000):
    """Every probability within 5 standard errors; the never seen may have 10/trials."""
    probs, errors = np.asarray(estimate.probs), np.asarray(estimate.probs_se)
    slack = np.where(errors < 1e-12, 10 / trials, 1e-12)
    assert np.all(np.abs(probs - exact) <= 5 * errors + slack)


# The draws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1024, 1500])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_alias_table_holds_the_law(size, dtype):
    rng = np.random.default_rng(size)
    probs = rng.dirichlet(np.full(size, 0.3))
    if size > 3:
        probs[::3] = 0
        probs /= probs.sum()
    table = jax.jit(_draws.alias_table)(jnp.asarray(probs, dtype))
    columns = table.threshold.shape[0]
    keep = np.asarray(table.threshold) / 2.0 ** _draws._split_word(columns)[1]
    law = np.bincount(np.arange(columns), keep / columns, minlength=columns)
    law += np.bincount(np.asarray(table.other), (1 - keep) / columns, minlength=columns)
    tolerance = size * 2.0**-32 if dtype == np.float64 else 1e-6
    assert np.abs(law[:size] - probs).sum() / 2 < tolerance + 1e-12
    assert law[size:].sum() == 0
    assert np.all(law[:size][probs == 0] == 0)


@pytest.mark.parametrize("size", [1, 3, 64, 1500])
def test_draws_follow_the_table(size):
    """One word a draw up to 1024 outcomes, two above."""
    probs = np.random.default_rng(0).dirichlet(np.ones(size))
    table = _draws.alias_table(jnp.asarray(probs))
    draws = 200_000
    shape = (_draws.words_per_draw(table) * draws,)
    drawn = _draws.draw(table, jax.random.bits(jax.random.key(1), shape, jnp.uint32))
    assert drawn.shape == (draws,)
    counts = np.bincount(drawn, minlength=size)
    if size > 1:
        assert stats.chisquare(counts, draws * probs).pvalue > 1e-3


def test_threefry_is_the_generator_of_jax():
    seed = jnp.array([123, 456], jnp.uint32)
    counters = jnp.arange(10, dtype=jnp.uint32) * jnp.uint32(0x10000001)
    expected = jax.extend.random.threefry_2x32(seed, counters)
    assert np.array_equal(jnp.concatenate(_draws.threefry(seed, *jnp.split(counters, 2))), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("count", "prob"),
    [(1, 0.3), (16, 0.5), (1024, 0.995), (25, 0.45), (1024, 0.3), (10**7, 0.5), (10**7, 2e-6)],
)
def test_binomial_law(dtype, count, prob):
    """Both branches, and a count where float32 loses the digits of a plain acceptance test."""
    draws = 100_000
    prob = dtype(prob)
    drawn = jax.jit(_binomial.binomial)(
        jax.random.key(2), jnp.full(draws, count, dtype), jnp.full(draws, prob, dtype)
    )
    assert drawn.dtype == dtype
    law = stats.binom(count, float(prob))
    edges = np.unique(law.ppf(np.linspace(0, 1, 41)[1:-1]))
    observed = np.bincount(
        np.searchsorted(edges, np.asarray(drawn, np.float64)), minlength=edges.size + 1
    )
    expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]])) * draws
    enough = expected >= 5
    assert np.all(expected[~enough].sum() < 20)
    observed, expected = observed[enough], expected[enough]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_binomial_at_its_edges():
    count = jnp.array([0.0, 5.0, 5.0, 1e6, 1e6])
    prob = jnp.array([0.3, 0.0, 1.0, 0.0, 1.0])
    drawn = _binomial.binomial(jax.random.key(0), count, prob)
    assert drawn.tolist() == [0, 0, 5, 0, 1e6]


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_counts_are_multinomial(n):
    probs = np.array([0.2, 0.0, 0.05, 0.45, 0.3])
    keys = jax.random.split(jax.random.key(3), 200)
    with np.errstate(divide="ignore"):
        log_probs = jnp.asarray(np.log(probs))
    counts = jax.vmap(lambda key: _draws.counts(key, log_probs, jnp.float64(n)))(keys)
    counts = np.asarray(counts).reshape(-1, 5)
    assert np.all(counts.sum(-1) == n)
    assert np.all(counts[:, 1] == 0)
    covariance = n * (np.diag(probs) - np.outer(probs, probs))
    deviations = (counts.mean(0) - n * probs) / np.sqrt(
        np.maximum(np.diag(covariance), 1e-300) / len(counts)
    )
    assert np.all(np.abs(deviations) < 5)
    # Entries of a sample covariance have a standard error of about sqrt((v_i v_j + c_ij²) / N).
    spread = np.sqrt((np.outer(*2 * [np.diag(covariance)]) + covariance**2) / len(counts))
    extra = 3 if n == 1 else 1  # counts of 0 and 1 have heavier fourth moments
    assert np.all(np.abs(np.cov(counts.T) - covariance) <= 5 * extra * spread + 1e-12)


# The law -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["counts", "literal"])
@pytest.mark.parametrize("rewards", [REWARDS, TIED], ids=["distinct", "tied"])
def test_soft_and_hard_laws(method, rewards):
    for n, temperature in ((1, 0.3), (2, 0.2), (5, 0.3), (5, 0.01), (5, 0.0), (4, np.inf)):
        estimate = simulate(
            jax.random.key(4), problem(rewards), n, temperature, 20_000, method=method
        )
        exact = oracles.law_by_tuples(np.log(PROBS), rewards, n, temperature)
        assert_within(estimate, exact)
        hard = simulate(
            jax.random.key(5), problem(rewards), n, temperature, 20_000, rule="hard", method=method
        )
        assert_within(hard, oracles.law_by_tuples(np.log(PROBS), rewards, n, 0.0))


@pytest.mark.parametrize("method", ["counts", "literal"])
def test_race_law(method):
    for n, temperature in ((1, 0.3), (3, 0.3), (40, 0.5)):
        exact = race_law(REWARDS, n, temperature)
        assert exact.sum() == pytest.approx(1, abs=1e-4)
        estimate = simulate(
            jax.random.key(6), problem(), n, temperature, 20_000, rule="race", method=method
        )
        assert_within(estimate, exact)
    hard = simulate(jax.random.key(7), problem(TIED), 3, 0.0, 20_000, rule="race", method=method)
    assert_within(hard, oracles.law_by_tuples(np.log(PROBS), TIED, 3, 0.0))


@pytest.mark.parametrize("method", ["counts", "literal"])
def test_the_law_at_large_n_is_not_the_tilted_law(method):
    """N = 200, past one batch of the stream; the chi-squared tells P_n from P* for counts."""
    exact = np.array(
        [float(x) for x in oracles.exact_law(np.log(PROBS), REWARDS, 200, 0.2, digits=20)]
    )
    estimate = simulate(jax.random.key(8), problem(), 200, 0.2, 40_000, method=method)
    assert_within(estimate, exact, 40_000)
    if method == "counts":
        tilted = PROBS * np.exp(REWARDS / 0.2)
        away = (estimate.probs - tilted / tilted.sum()) / estimate.probs_se
        assert np.max(np.abs(away)) > 20


def test_a_stream_of_many_batches_weighs_the_last_draws_like_the_first():
    """Rewards that rise with rarity at λ near 0: the stream must rescale as better draws come."""
    probs = np.array([0.9, 0.09, 0.009, 0.0009, 0.0001])
    rewards = np.arange(5.0)
    rare = sb.from_probs(probs, rewards)
    estimate = simulate(jax.random.key(9), rare, 1000, 0.02, 20_000, method="literal")
    assert_within(estimate, oracles.hard_law(np.log(probs), rewards, 1000))


def test_float32_stays_float32():
    for method in ("counts", "literal"):
        estimate = simulate(
            jax.random.key(10), problem(dtype=np.float32), 5, 0.3, 20_000, method=method
        )
        assert {x.dtype for x in jax.tree.leaves(estimate)} == {np.dtype(np.float32)}
        assert_within(estimate, oracles.law_by_tuples(np.log(PROBS), REWARDS, 5, 0.3))


def test_outcomes_of_probability_zero_never_come_up():
    with_hole = sb.from_probs([0.5, 0.0, 0.25, 0.25], [0.0, 9.0, 1.0, 2.0])
    for rule, method in (("soft", "counts"), ("race", "counts"), ("soft", "literal")):
        estimate = simulate(jax.random.key(11), with_hole, 4, 0.5, 2_000, rule=rule, method=method)
        assert estimate.probs[1] == 0
        assert np.isfinite(estimate.metrics.reward)


# Standard errors, bias and floor -----------------------------------------------------------------


def test_grouped_jackknife_against_its_definition():
    """Sizes 3 and 2 in turn and two empty groups, on the square of a mean, in plain NumPy."""
    rng = np.random.default_rng(0)
    sizes = np.array([3, 2] * 63 + [0, 0])
    totals = np.where(sizes > 0, rng.normal(sizes, np.sqrt(sizes)), 0)
    mean, without = module._means(jnp.asarray(totals)[:, None], jnp.asarray(sizes, float))
    corrected, error = module._jackknife(
        mean[0] ** 2, without[:, 0] ** 2, jnp.asarray(sizes, float)
    )

    trials, full = sizes.sum(), (totals.sum() / sizes.sum()) ** 2
    groups = [(t, s) for t, s in zip(totals, sizes, strict=True) if s > 0]
    left = [((totals.sum() - t) / (trials - s)) ** 2 for t, s in groups]
    h = [trials / s for _, s in groups]
    expected = len(groups) * full - sum((1 - 1 / x) * y for x, y in zip(h, left, strict=True))
    pseudo = [x * full - (x - 1) * y for x, y in zip(h, left, strict=True)]
    variance = sum((y - expected) ** 2 / (x - 1) for x, y in zip(h, pseudo, strict=True)) / len(
        groups
    )
    assert corrected == pytest.approx(expected, rel=1e-12)
    assert error == pytest.approx(math.sqrt(variance), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "n", "temperature"), [("counts", 16, 0.3), ("literal", 8, 0.2)])
def test_intervals_cover_and_bias_is_corrected(method, n, temperature):
    """95 % intervals of every estimate cover in 93 to 97 % of 1,000 repetitions."""
    repetitions = np.full(1_000, n)
    estimate = simulate(
        jax.random.key(3), problem(), repetitions, temperature, 2_000, method=method
    )
    exact = oracles.exact_metrics(np.log(PROBS), REWARDS, n, temperature)
    values = {k: float(v) for k, v in exact.metrics.items()}
    law = np.array([float(p) for p in exact.law])
    probs, errors = np.asarray(estimate.probs), np.asarray(estimate.probs_se)
    covered = np.mean(np.abs(probs - law) < T_95 * errors, axis=0)
    assert np.all((covered > 0.93) & (covered < 0.97))
    for name in set(sb.Metrics._fields) - {"tilted_reward", "kl_tilted_base"}:
        value = np.asarray(getattr(estimate.metrics, name))
        error = np.asarray(getattr(estimate.metrics_se, name))
        covered = np.mean(np.abs(value - values[name]) < T_95 * error)
        assert 0.93 < covered < 0.97, (name, covered)
        bias = (value.mean() - values[name]) / (value.std() / math.sqrt(value.size))
        assert abs(bias) < 5, (name, bias)


def test_plug_in_bias_is_what_the_floor_says():
    """The law is P itself at n = 1, λ = inf: KL of a histogram of T is (K - 1)/2T on average."""
    trials = 1_000
    cells = np.ones(1_000)
    estimate = simulate(jax.random.key(12), problem(), cells, np.inf, trials, method="literal")
    probs = np.asarray(estimate.probs)
    floor = np.asarray(estimate.noise_floor.kl_soft_tilted)
    assert floor.mean() == pytest.approx(3 / (2 * trials), rel=0.02)
    plug_in = np.sum(probs * np.log(probs / PROBS), axis=-1)
    assert plug_in.mean() == pytest.approx(floor.mean(), rel=0.12)  # its error is 3 %
    chi2 = np.sum((probs - PROBS) ** 2 / PROBS, axis=-1)
    assert chi2.mean() == pytest.approx(float(jnp.mean(estimate.noise_floor.chi2)), rel=0.15)
    tv = np.sum(np.abs(probs - PROBS), axis=-1) / 2
    assert tv.mean() == pytest.approx(float(jnp.mean(estimate.noise_floor.tv)), rel=0.1)
    # Nothing is reported as a divergence but the few that noise carries over two standard errors.
    for name in ("kl_tilted_soft", "kl_soft_tilted", "kl_soft_base", "chi2", "tv"):
        assert np.mean(np.isnan(getattr(estimate.metrics, name))) > 0.95


def test_a_divergence_below_the_floor_is_nan_and_above_it_a_number():
    below = simulate(jax.random.key(13), problem(), 4096, 0.3, 2_000, method="literal")
    assert np.isnan(below.metrics.kl_tilted_soft)
    assert np.isfinite(below.metrics.reward)
    above = simulate(jax.random.key(13), problem(), 4, 0.3, 2_000, method="literal")
    assert above.metrics.kl_tilted_soft > above.noise_floor.kl_tilted_soft > 0
    # The control variate carries the same number of trials to where the literal one is blind.
    controlled = simulate(jax.random.key(13), problem(), 4096, 0.3, 2_000)
    exact = oracles.exact_metrics(np.log(PROBS), REWARDS, 4096, 0.3).metrics["kl_tilted_soft"]
    error = controlled.metrics_se.kl_tilted_soft
    assert abs(controlled.metrics.kl_tilted_soft - float(exact)) < 5 * error < float(exact)


def test_an_outcome_that_never_came_up_leaves_no_infinite_divergence():
    jackpot = sb.from_probs([0.5, 0.25, 0.25 - 1e-7, 1e-7], [0.0, 1.0, 1.0, 1.0])
    estimate = simulate(jax.random.key(14), jackpot, 2, 1.0, 500, method="literal")
    assert estimate.probs[3] == 0
    assert np.isnan(estimate.metrics.kl_tilted_soft)


def test_a_divergence_that_is_infinite_is_said_to_be():
    """At λ = 0 the law of n = 2 draws has mass where the tilted law has none."""
    estimate = simulate(jax.random.key(15), problem(), 2, 0.0, 2_000)
    assert estimate.metrics.kl_soft_tilted == np.inf
    assert np.isfinite(estimate.metrics.kl_tilted_soft)


def test_control_variate_makes_the_variance_fall_as_n_squared():
    errors = [
        np.linalg.norm(simulate(jax.random.key(16), problem(), n, 0.5, 20_000).probs_se)
        for n in (100, 10_000)
    ]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.15)


# Chunks, cells and memory ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["counts", "literal"])
def test_the_answer_does_not_depend_on_the_chunk(method):
    runs = [
        simulate(jax.random.key(17), problem(), 20, 0.3, 1_001, method=method, chunk=chunk)
        for chunk in (300, 4_096)
    ]
    for x, y in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13)


def test_more_trials_keep_the_earlier_blocks():
    """Totals of 256 trials are those of the first 128 and of the second: no trial is lost."""
    few = simulate(jax.random.key(18), problem(), 9, 0.3, 130, method="literal")
    assert np.sum(few.probs * 130) == pytest.approx(130)
    assert np.allclose(few.probs * 130, np.round(few.probs * 130))


def test_cells_have_their_own_random_numbers():
    n, temperature = np.array([[4], [4]]), np.array([0.3, 0.3, 1.0])
    grid = simulate(jax.random.key(19), problem(), n, temperature, 500)
    assert grid.probs.shape == (2, 3, 4)
    assert grid.metrics.reward.shape == (2, 3)
    same = np.asarray(grid.probs[:, :2]).reshape(-1, 4)
    assert len(np.unique(same, axis=0)) == 4
    alone = simulate(jax.random.key(19), problem(), 4, 0.3, 500)
    np.testing.assert_allclose(alone.probs, grid.probs[0, 0], rtol=1e-12)


def test_under_jit_with_traced_n_and_temperature():
    traces = []

    @jax.jit
    def traced(key, n, temperature):
        traces.append(1)
        return simulate(key, problem(), n, temperature, 500, method="literal").probs

    for n, temperature in ((3, 0.3), (50, 0.0)):
        eager = simulate(jax.random.key(20), problem(), n, temperature, 500, method="literal").probs
        again = traced(jax.random.key(20), n, temperature)
        np.testing.assert_allclose(again, eager, rtol=1e-14)
    assert len(traces) == 1


@pytest.mark.parametrize("method", ["counts", "literal"])
def test_memory_is_bounded_whatever_n(method):
    """N is traced, so one program serves every n: its buffers are all there is."""
    wide = sb.dirichlet(jax.random.key(0), 8)
    arguments = module._prepare(
        jax.random.key(1), wide, 10**7, 0.3, 10_000, literal=method == "literal"
    )
    blocks = module._blocks(None, 8, literal=method == "literal")
    program = module._estimate.lower(*arguments, rule="soft", method=method, blocks=blocks)
    memory = program.compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 2**28


def test_counts_at_huge_n():
    """N = 10^12 in float64, where only the counts can be simulated."""
    estimate = simulate(jax.random.key(21), problem(), 1e12, 0.3, 2_000)
    tilted = PROBS * np.exp(REWARDS / 0.3)
    np.testing.assert_allclose(estimate.probs, tilted / tilted.sum(), rtol=1e-10)


# Conditional fluctuation -------------------------------------------------------------------------


def test_conditional_fluctuation_by_all_tuples():
    temperature, n = 0.3, 4
    weights = np.exp(REWARDS / temperature)
    tilted = PROBS * weights / np.sum(PROBS * weights)
    expected = 0.0
    for draws in itertools.product(range(4), repeat=n):
        counts = np.bincount(draws, minlength=4)
        measure = counts * weights / np.sum(counts * weights)
        expected += np.prod(PROBS[list(draws)]) * np.abs(measure - tilted).sum() / 2
    estimate = conditional_fluctuation(jax.random.key(22), problem(), n, temperature, 20_000)
    assert abs(estimate.mean - expected) < 5 * estimate.standard_error < 0.02 * expected


def test_conditional_fluctuation_falls_as_one_over_root_n():
    n = np.array([1e2, 1e4, 1e6])
    estimate = conditional_fluctuation(jax.random.key(23), problem(), n, 0.3, 4_000)
    slope = np.polyfit(np.log(n), np.log(estimate.mean), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.01)
    assert np.all(estimate.standard_error < 0.02 * estimate.mean)


# What is refused ---------------------------------------------------------------------------------


def test_bad_arguments():
    key = functools.partial(jax.random.key, 0)
    with pytest.raises(ValueError, match=r"rule must be .* got 'best'"):
        simulate(key(), problem(), 4, 0.3, 100, rule="best")
    with pytest.raises(ValueError, match=r"method must be .* got 'exact'"):
        simulate(key(), problem(), 4, 0.3, 100, method="exact")
    with pytest.raises(ValueError, match=r"trials must be .* got 1"):
        simulate(key(), problem(), 4, 0.3, 1)
    with pytest.raises(ValueError, match=r"n must be an integer of at least 1, got 2.5"):
        simulate(key(), problem(), 2.5, 0.3, 100)
    with pytest.raises(ValueError, match=r"n must be an integer of at least 1, got 0"):
        simulate(key(), problem(), 0, 0.3, 100)
    with pytest.raises(ValueError, match=r"n must be below 2\^31"):
        simulate(key(), problem(), 2**31, 0.3, 100, method="literal")
    with pytest.raises(ValueError, match=r"n must be at most 16777216 for counts in float32"):
        simulate(key(), problem(dtype=np.float32), 2**25, 0.3, 100)
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        simulate(key(), problem(), 4, -0.3, 100)
    with pytest.raises(ValueError, match="chunk must be a positive integer, got 0"):
        simulate(key(), problem(), 4, 0.3, 100, chunk=0)
    with pytest.raises(ValueError, match="do not broadcast"):
        simulate(key(), problem(), np.ones(2), np.ones(3), 100)
    with pytest.raises(TypeError, match="typed PRNG key"):
        simulate(np.zeros(2, np.uint32), problem(), 4, 0.3, 100)
    with pytest.raises(ValueError, match="trials must be"):
        conditional_fluctuation(key(), problem(), 4, 0.3, 0)
