"""Simulation: draws, estimates against exhaustive laws, standard errors and noise floor."""

import functools
import importlib.util
import itertools
import math
import os
import subprocess
import sys

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import softbon_jax as sb
from softbon_jax.simulation import _binomial, _draws, _jackknife
from softbon_jax.simulation import monte_carlo as module
from softbon_jax.simulation.monte_carlo import conditional_fluctuation, simulate
from tests import oracles

PROBS = np.array([0.5, 0.3, 0.1, 0.1])
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
TIED = np.array([0.0, 0.6, 0.6, -0.4])
T_95 = stats.t.ppf(0.975, module.LANES - 1)


CELLS, OUTCOMES = 12, 5


def problem(rewards=REWARDS, probs=PROBS, dtype=np.float64):
    return sb.from_probs(np.asarray(probs, dtype), np.asarray(rewards, dtype))


def run(seed, cases, trials=20_000, *, dtype=np.float64, **options):
    """`simulate` in cells `(problem, n, temperature)`, always of one shape: one program a method.

    Outcomes of probability 0, and cells of n = 1, fill up what is missing.
    """
    cases = list(cases)
    problems, n, temperature = zip(
        *cases + [(problem(), 1, 1.0)] * (CELLS - len(cases)), strict=True
    )
    stacked = [
        np.stack([np.pad(y, (0, OUTCOMES - len(y)), constant_values=fill) for y in rows])
        for rows, fill in zip(zip(*problems, strict=True), (-np.inf, 0.0), strict=True)
    ]
    stacked = sb.Problem(*(jnp.asarray(x, dtype) for x in stacked))
    n, temperature = np.array(n, float), np.array(temperature)
    estimate = simulate(jax.random.key(seed), stacked, n, temperature, trials, **options)
    estimate = jax.tree.map(np.asarray, estimate)
    cells = [jax.tree.map(lambda x, i=i: x[i], estimate) for i in range(len(cases))]
    return [
        cell._replace(probs=cell.probs[: x.num_outcomes], probs_se=cell.probs_se[: x.num_outcomes])
        for cell, x in zip(cells, problems, strict=False)
    ]


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


make_table = jax.jit(_draws.alias_table)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 3, 64, 1500])
def test_alias_table_holds_the_law(size, dtype):
    """Laws with zeros, with one heavy outcome, with equal shares, and with one certain outcome."""
    rng = np.random.default_rng(size)
    holes = rng.dirichlet(np.full(size, 0.3)) * (np.arange(size) % 3 < 2)
    heavy = np.where(np.arange(size) == size // 2, 1, 1e-6)
    for weights in (holes, heavy, np.ones(size), np.arange(size) == size - 1):
        probs = (weights / weights.sum()).astype(dtype)
        table = make_table(jnp.asarray(probs))
        columns = table.threshold.shape[0]
        keep = np.asarray(table.threshold) / 2.0 ** _draws._split_word(columns)[1]
        assert keep.max() <= 1
        law = np.bincount(np.arange(columns), keep / columns, minlength=columns)
        law += np.bincount(np.asarray(table.other), (1 - keep) / columns, minlength=columns)
        exact = np.asarray(probs, np.float64) / np.sum(probs, dtype=np.float64)
        wide = size > 1024 and dtype == np.float64
        rounding = 1e-7 if dtype == np.float32 else 0
        tolerance = rounding + (2.0**-31 if wide else size * 2.0**-32)
        assert np.abs(law[:size] - exact).sum() / 2 < tolerance
        assert law.sum() == pytest.approx(1, abs=1e-12)
        assert np.all(law[size:] == 0)
        assert np.all(law[:size][probs == 0] == 0)


@pytest.mark.parametrize("size", [1, 64, 1500])
def test_draws_follow_the_table(size):
    """One word a draw up to 1024 outcomes, two above."""
    probs = np.random.default_rng(0).dirichlet(np.ones(size))
    draws = 200_000

    @jax.jit
    def sample(key, probs):
        table = _draws.alias_table(probs)
        shape = (_draws.words_per_draw(table) * draws,)
        return _draws.draw(table, jax.random.bits(key, shape, jnp.uint32))

    drawn = sample(jax.random.key(1), jnp.asarray(probs))
    assert drawn.shape == (draws,)
    counts = np.bincount(drawn, minlength=size)
    if size > 1:
        assert stats.chisquare(counts, draws * probs).pvalue > 1e-3


def test_threefry_is_the_generator_of_jax():
    seed = jnp.array([123, 456], jnp.uint32)
    counters = jnp.arange(10, dtype=jnp.uint32) * jnp.uint32(0x10000001)
    expected = jax.extend.random.threefry_2x32(seed, counters)
    assert np.array_equal(jnp.concatenate(_draws.threefry(seed, *jnp.split(counters, 2))), expected)


draw_binomial = jax.jit(_binomial.binomial)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("count", "prob"),
    [(1, 0.3), (16, 0.5), (1024, 0.995), (25, 0.45), (1024, 0.3), (10**7, 0.5), (10**7, 2e-6)],
)
def test_binomial_law(dtype, count, prob):
    """Both branches, and a count where float32 loses the digits of a plain acceptance test."""
    draws = 100_000
    prob = dtype(prob)
    drawn = draw_binomial(
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
    count = jnp.tile(jnp.array([0.0, 5.0, 5.0, 1e6, 1e6]), 20_000)
    prob = jnp.tile(jnp.array([0.3, 0.0, 1.0, 0.0, 1.0]), 20_000)
    drawn = draw_binomial(jax.random.key(0), count, prob)  # of the shape of the test above
    assert np.array_equal(drawn.reshape(-1, 5), np.tile([0, 0, 5, 0, 1e6], (20_000, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binomial_inversion_against_scipy(dtype):
    """Also at the smallest uniform there is, which must not be lost in the rounding of the tail."""
    least = 2.0**-33 if dtype == np.float32 else 2.0**-65
    uniform = np.concatenate([[least, 1e-8, 1e-6, 1e-4], np.linspace(0.01, 0.999, 100)])
    invert = jax.jit(_binomial.invert)
    for count, mean in ((1e5, 9.9), (1e5, 4.3), (1e7, 1e-4), (12, 3.0), (1, 0.2)):
        prob = dtype(mean / count)
        drawn = invert(
            *(jnp.asarray(np.broadcast_to(x, uniform.shape), dtype) for x in (uniform, count, prob))
        )
        law = stats.binom(count, float(prob))
        # Up to the rounding of the tail, which is relative to the chance of any success.
        slack = 2000 * np.finfo(dtype).eps * law.sf(0)
        drawn = np.asarray(drawn, np.float64)
        assert np.all(law.sf(drawn) <= uniform + slack)
        assert np.all((law.sf(drawn - 1) > uniform - slack) | (drawn == 0))
        assert drawn[0] < mean + 12 * np.sqrt(mean) + 8


@jax.jit
def draw_counts(keys, log_probs, n):
    return jax.vmap(lambda key: _draws.counts(key, log_probs, n))(keys)


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_counts_are_multinomial(n):
    probs = np.array([0.2, 0.0, 0.05, 0.45, 0.3])
    keys = jax.random.split(jax.random.key(3), 200)
    with np.errstate(divide="ignore"):
        log_probs = jnp.asarray(np.log(probs))
    counts = np.asarray(draw_counts(keys, log_probs, jnp.float64(n))).reshape(-1, 5)
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

POINTS = ((1, 0.3), (2, 0.2), (5, 0.3), (5, 0.01), (5, 0.0), (4, np.inf))
BOTH = [(x, n, t) for x in (REWARDS, TIED) for n, t in POINTS]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["counts", "literal"])
@pytest.mark.parametrize("rule", ["soft", "hard"])
def test_soft_and_hard_laws(method, rule):
    estimates = run(4, ((problem(x), n, t) for x, n, t in BOTH), method=method, rule=rule)
    for (rewards, n, temperature), estimate in zip(BOTH, estimates, strict=True):
        acting = 0.0 if rule == "hard" else temperature
        assert_within(estimate, oracles.law_by_tuples(np.log(PROBS), rewards, n, acting))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["counts", "literal"])
def test_race_law(method):
    points = ((1, 0.3), (3, 0.3), (40, 0.5))
    cases = [(problem(), n, t) for n, t in points] + [(problem(TIED), 3, 0.0)]
    *soft, hard = run(6, cases, rule="race", method=method)
    for (n, temperature), estimate in zip(points, soft, strict=True):
        exact = race_law(REWARDS, n, temperature)
        assert exact.sum() == pytest.approx(1, abs=1e-4)
        assert_within(estimate, exact)
    assert_within(hard, oracles.law_by_tuples(np.log(PROBS), TIED, 3, 0.0))


@pytest.mark.parametrize("method", ["counts", "literal"])
def test_laws_over_many_batches_of_a_stream(method):
    """N = 200; and rewards that rise with rarity at λ near 0, where the stream must rescale."""
    probs, rewards = np.array([0.9, 0.09, 0.009, 0.0009, 0.0001]), np.arange(5.0)
    cases = [(problem(), 200, 0.2), (problem(rewards, probs), 1000, 0.02)]
    wide, rare = run(8, cases, 40_000, method=method)
    exact = [float(x) for x in oracles.exact_law(np.log(PROBS), REWARDS, 200, 0.2, digits=20)]
    assert_within(wide, np.array(exact), 40_000)
    assert_within(rare, oracles.hard_law(np.log(probs), rewards, 1000), 40_000)
    if method == "counts":  # which tells P_n from P*
        tilted = PROBS * np.exp(REWARDS / 0.2)
        away = (wide.probs - tilted / tilted.sum()) / wide.probs_se
        assert np.max(np.abs(away)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("method", ["counts", "literal"])
def test_float32_stays_float32(method):
    (estimate,) = run(10, [(problem(), 5, 0.3)], method=method, dtype=np.float32)
    assert {x.dtype for x in jax.tree.leaves(estimate)} == {np.dtype(np.float32)}
    assert_within(estimate, oracles.law_by_tuples(np.log(PROBS), REWARDS, 5, 0.3))


def test_outcomes_of_probability_zero_never_come_up():
    with_hole = problem([0.0, 9.0, 1.0, 2.0], [0.5, 0.0, 0.25, 0.25])
    for rule, method in (("soft", "counts"), ("race", "counts"), ("soft", "literal")):
        (estimate,) = run(11, [(with_hole, 4, 0.5)], 2_000, rule=rule, method=method)
        assert estimate.probs[1] == 0
        assert np.isfinite(estimate.metrics.reward)


# Standard errors, bias and floor -----------------------------------------------------------------


def test_grouped_jackknife_against_its_definition():
    """Sizes 3 and 2 in turn and two empty groups, on the square of a mean, in plain NumPy."""
    rng = np.random.default_rng(0)
    sizes = np.array([3, 2] * 63 + [0, 0])
    totals = np.where(sizes > 0, rng.normal(sizes, np.sqrt(sizes)), 0)
    mean, without = _jackknife.means(jnp.asarray(totals)[:, None], jnp.asarray(sizes, float))
    corrected, error = _jackknife.jackknife(
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
    cells = [(problem(), n, temperature)] * CELLS
    batches = [run(seed, cells, 2_000, method=method) for seed in range(1_000, 1_084)]
    repetitions = itertools.chain.from_iterable(batches)
    estimate = jax.tree.map(lambda *x: np.array(x), *itertools.islice(repetitions, 1_000))
    exact = oracles.exact_metrics(np.log(PROBS), REWARDS, n, temperature)
    values = {k: float(v) for k, v in exact.metrics.items()}
    law = np.array([float(p) for p in exact.law])
    covered = np.mean(np.abs(estimate.probs - law) < T_95 * estimate.probs_se, axis=0)
    assert np.all((covered > 0.93) & (covered < 0.97))
    for name in set(sb.Metrics._fields) - {"tilted_reward", "kl_tilted_base"}:
        value, error = getattr(estimate.metrics, name), getattr(estimate.metrics_se, name)
        covered = np.mean(np.abs(value - values[name]) < T_95 * error)
        assert 0.93 < covered < 0.97, (name, covered)
        bias = (value.mean() - values[name]) / (value.std() / math.sqrt(value.size))
        assert abs(bias) < 5, (name, bias)


def test_plug_in_bias_is_what_the_floor_says():
    """The law is P itself at n = 1, λ = inf: KL of a histogram of T is (K - 1)/2T on average."""
    trials = 1_000
    cells = [(problem(), 1, np.inf)] * CELLS
    repeated = itertools.chain(*(run(s, cells, trials, method="literal") for s in range(84)))
    estimate = jax.tree.map(lambda *x: np.array(x), *repeated)
    probs, floor = estimate.probs, estimate.noise_floor.kl_soft_tilted
    assert floor.mean() == pytest.approx(3 / (2 * trials), rel=0.02)
    plug_in = np.sum(probs * np.log(probs / PROBS), axis=-1)
    assert plug_in.mean() == pytest.approx(floor.mean(), rel=0.12)  # its error is 3 %
    chi2 = np.sum((probs - PROBS) ** 2 / PROBS, axis=-1)
    assert chi2.mean() == pytest.approx(np.mean(estimate.noise_floor.chi2), rel=0.15)
    tv = np.sum(np.abs(probs - PROBS), axis=-1) / 2
    assert tv.mean() == pytest.approx(np.mean(estimate.noise_floor.tv), rel=0.1)
    # Nothing is reported as a divergence but the few that noise carries over two standard errors.
    for name in ("kl_tilted_soft", "kl_soft_tilted", "kl_soft_base", "chi2", "tv"):
        assert np.mean(np.isnan(getattr(estimate.metrics, name))) > 0.95


def test_a_divergence_below_the_floor_is_nan_and_above_it_a_number():
    cases = [(problem(), 4096, 0.3), (problem(), 4, 0.3)]
    below, above = run(13, cases, 2_000, method="literal")
    assert np.isnan(below.metrics.kl_tilted_soft)
    assert np.isfinite(below.metrics.reward)
    assert above.metrics.kl_tilted_soft > above.noise_floor.kl_tilted_soft > 0
    # The control variate carries the same number of trials to where the literal one is blind.
    controlled, _ = run(13, cases, 2_000)
    exact = oracles.exact_metrics(np.log(PROBS), REWARDS, 4096, 0.3).metrics["kl_tilted_soft"]
    error = controlled.metrics_se.kl_tilted_soft
    assert abs(controlled.metrics.kl_tilted_soft - float(exact)) < 5 * error < float(exact)


def test_an_outcome_that_never_came_up_leaves_no_infinite_divergence():
    jackpot = problem([0.0, 1.0, 1.0, 1.0], [0.5, 0.25, 0.25 - 1e-7, 1e-7])
    (estimate,) = run(14, [(jackpot, 2, 1.0)], 500, method="literal")
    assert estimate.probs[3] == 0
    assert np.isnan(estimate.metrics.kl_tilted_soft)


def test_an_estimate_below_zero_has_a_reward_and_no_divergence():
    """Four probabilities given to the summary, one of them negative: what is linear holds."""
    totals = jnp.full((module.LANES, 4), jnp.array([0.4, 0.5, -0.1, 0.2]))
    estimate = jax.jit(module._summary)(
        totals, problem(), jnp.float64(0.3), jnp.int32(module.LANES)
    )
    tilted = PROBS * np.exp(REWARDS / 0.3)
    tilted /= tilted.sum()
    probs = np.asarray(totals[0])
    assert estimate.metrics.reward == pytest.approx(probs @ REWARDS, rel=1e-12)
    assert estimate.metrics.reward_gap == pytest.approx((tilted - probs) @ REWARDS, rel=1e-12)
    assert estimate.metrics.tv == pytest.approx(np.abs(tilted - probs).sum() / 2, rel=1e-12)
    wins = np.cumsum(PROBS) - PROBS / 2
    assert estimate.metrics.win_rate == pytest.approx(probs @ wins, rel=1e-12)
    assert estimate.metrics.tilted_reward == pytest.approx(tilted @ REWARDS, rel=1e-12)
    for name in ("kl_tilted_soft", "kl_soft_tilted", "kl_soft_base", "chi2"):
        assert np.isnan(getattr(estimate.metrics, name))


def test_a_divergence_that_is_infinite_is_said_to_be():
    """At λ = 0 the law of n = 2 draws has mass where the tilted law has none."""
    (estimate,) = run(15, [(problem(), 2, 0.0)], 2_000)
    assert estimate.metrics.kl_soft_tilted == np.inf
    assert np.isfinite(estimate.metrics.kl_tilted_soft)


def test_control_variate_makes_the_variance_fall_as_n_squared():
    estimates = run(16, [(problem(), n, 0.5) for n in (100, 10_000)])
    few, many = (np.linalg.norm(x.probs_se) for x in estimates)
    assert few / many == pytest.approx(100, rel=0.15)


def test_control_variate_does_no_harm_at_small_n():
    """One draw in 150 has seven times the mean weight: to trust it in full would cost a factor 5."""
    skewed = problem([0.0, 1.0], [1 - 1 / 150, 1 / 150])
    cases = [(skewed, n, temperature) for n in (1, 2, 4, 16) for temperature in (0.5, 0.2)]
    counts, literal = (run(24, cases, method=method) for method in ("counts", "literal"))
    for x, y in zip(counts, literal, strict=True):
        assert np.linalg.norm(x.probs_se) < 1.2 * np.linalg.norm(y.probs_se)


# Chunks, cells and memory ------------------------------------------------------------------------


@pytest.mark.slow  # for the two programs that it alone compiles
@pytest.mark.parametrize("method", ["counts", "literal"])
def test_the_answer_does_not_depend_on_the_chunk(method):
    """1,001 trials: neither a whole number of chunks nor of blocks."""
    cases = [(problem(), 20, 0.3), (problem(TIED), 7, 0.0)]
    default, small = (run(17, cases, 1_001, method=method, **x) for x in ({}, {"chunk": 300}))
    for x, y in zip(*map(jax.tree.leaves, (default, small)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators(impl):
    """With rbg keys under `vmap` a rejection loop would never end."""
    key = jax.random.key(3, impl=impl)
    exact = np.exp(sb.log_soft_bon(problem(), 500, 0.3))
    (got, small) = (
        sb.simulate(jax.random.clone(key), problem(), 500, 0.3, 1_001, method="counts", chunk=chunk)
        for chunk in (None, 300)
    )
    np.testing.assert_allclose(got.probs, small.probs, rtol=1e-10)
    assert np.all(np.abs(got.probs - exact) < 5 * np.asarray(got.probs_se))


def test_no_trial_is_lost():
    """130 trials are one block and two more: the histogram adds up to them."""
    (few,) = run(18, [(problem(), 9, 0.3)], 130, method="literal")
    assert np.sum(few.probs * 130) == pytest.approx(130)
    assert np.allclose(few.probs * 130, np.round(few.probs * 130))


def test_cells_have_their_own_random_numbers():
    cells = run(19, [(problem(), 4, 0.3)] * CELLS, 500)
    assert len(np.unique([x.probs for x in cells], axis=0)) == CELLS
    few = run(19, [(problem(), 4, 0.3)] * 2, 500)
    np.testing.assert_allclose(cells[1].probs, few[1].probs, rtol=1e-12)


def test_batch_shapes_broadcast():
    n, temperature = np.array([[4], [5]]), np.array([0.3, 0.3, 1.0])
    shapes = jax.eval_shape(
        lambda key: sb.simulate(key, problem(), n, temperature, 500), jax.random.key(0)
    )
    assert shapes.probs.shape == shapes.probs_se.shape == (2, 3, 4)
    assert {x.shape for x in (*shapes.metrics, *shapes.metrics_se, *shapes.noise_floor)} == {(2, 3)}


@pytest.mark.slow
def test_traced_n_and_temperature_share_a_trace_and_bad_ones_give_nan():
    """A cell with a bad argument is NaN and ends; its neighbors are those of the eager call."""
    traces = []

    @jax.jit
    def traced(key, log_probs, n, temperature):
        traces.append(1)
        rewards = jnp.pad(jnp.asarray(REWARDS), (0, 1))
        cells = sb.Problem(log_probs, jnp.broadcast_to(rewards, log_probs.shape))
        return sb.simulate(key, cells, n, temperature, 500)

    n, temperature = np.full(CELLS, 6.0), np.array([0.3, 0.0, np.inf, *[0.3] * (CELLS - 3)])
    eager = run(20, [(problem(), *x) for x in zip(n, temperature, strict=True)], 500)
    log_probs = jnp.pad(jnp.log(PROBS), (0, 1), constant_values=-jnp.inf)
    log_probs = jnp.broadcast_to(log_probs, (CELLS, OUTCOMES))
    again = traced(jax.random.key(20), log_probs, n, temperature)
    expected = np.stack([x.probs for x in eager])
    np.testing.assert_allclose(again.probs[:, :4], expected, rtol=1e-12, atol=1e-15)
    bad = slice(3, 7)
    log_probs = log_probs.at[3].add(0.1)
    n[4:6], temperature[6] = [2.5, np.inf], -1.0
    spoiled = traced(jax.random.key(20), log_probs, n, temperature)
    good = np.delete(np.arange(CELLS), bad)
    np.testing.assert_array_equal(spoiled.probs[good], again.probs[good])
    for x in jax.tree.leaves(spoiled):
        assert np.all(np.isnan(x[bad]))
    assert len(traces) == 1


MEMORY = """
import pathlib
import jax, numpy as np
import softbon_jax as sb

problem = sb.from_probs(np.full(8, 1 / 8), np.linspace(0, 1, 8))
estimate = sb.simulate(jax.random.key(0), problem, 10**7, 0.3, 10_000)
assert abs(float(estimate.probs.sum()) - 1) < 1e-5
print(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read there")
def test_peak_memory_of_ten_million_candidates_and_ten_thousand_trials():
    """On counts, in a process of its own with Python and the compiler in it: below 1 GiB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**20  # KiB


@pytest.mark.slow
def test_buffers_of_literal_simulation_do_not_grow_with_n():
    """N and the trials are traced, so one program serves all: what it allocates is all there is."""
    arguments = module._prepare(jax.random.key(1), problem(), 10**7, 0.3, 10_000, literal=True)
    blocks = module._blocks(None, 4, literal=True)
    program = module._estimate.lower(
        *arguments, jnp.asarray(False), race=False, literal=True, blocks=blocks
    )
    memory = program.compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 2**27


def test_counts_at_huge_n():
    """N = 10^12 in float64, where only the counts can be simulated."""
    (estimate,) = run(21, [(problem(), 1e12, 0.3)], 2_000)
    tilted = PROBS * np.exp(REWARDS / 0.3)
    np.testing.assert_allclose(estimate.probs, tilted / tilted.sum(), rtol=1e-10)


# Conditional fluctuation -------------------------------------------------------------------------


def test_conditional_fluctuation():
    """By all tuples at n = 4; and at large n as n^-1/2, with the constant of its normal limit."""
    temperature, n = 0.3, np.array([4, 1e2, 1e4, 1e6])
    weights = np.exp(REWARDS / temperature)
    tilted = PROBS * weights / np.sum(PROBS * weights)
    expected = 0.0
    for draws in itertools.product(range(4), repeat=4):
        counts = np.bincount(draws, minlength=4)
        measure = counts * weights / np.sum(counts * weights)
        expected += np.prod(PROBS[list(draws)]) * np.abs(measure - tilted).sum() / 2
    mean, error = conditional_fluctuation(jax.random.key(22), problem(), n, temperature, 20_000)
    assert abs(mean[0] - expected) < 5 * error[0] < 0.02 * expected
    slope = np.polyfit(np.log(n[1:]), np.log(mean[1:]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.01)
    # √n (R - P*) is normal in the limit, with the variance of W (1_x - P*(x)) under P.
    relative = weights / np.sum(PROBS * weights)
    spread = [
        np.sqrt(PROBS @ (relative * (np.arange(4) == x) - relative * tilted[x]) ** 2)
        for x in range(4)
    ]
    limit = np.sum(spread) / np.sqrt(2 * np.pi * n[-1])
    assert abs(mean[-1] - limit) < 5 * error[-1] < 0.03 * limit


def test_the_public_name_is_the_function():
    """And no module is called so, which an import could put in its place."""
    assert sb.simulate is module.simulate
    assert importlib.util.find_spec("softbon_jax.simulate") is None


# What is refused ---------------------------------------------------------------------------------


def test_bad_arguments():
    key = functools.partial(jax.random.key, 0)
    with pytest.raises(ValueError, match=r"rule must be .* got 'best'"):
        simulate(key(), problem(), 4, 0.3, 100, rule="best")
    with pytest.raises(ValueError, match=r"method must be .* got 'exact'"):
        simulate(key(), problem(), 4, 0.3, 100, method="exact")
    with pytest.raises(ValueError, match=r"trials must be an integer from 2 .* got 1"):
        simulate(key(), problem(), 4, 0.3, 1)
    with pytest.raises(ValueError, match=r"n must be an integer of at least 1, got 2.5"):
        simulate(key(), problem(), 2.5, 0.3, 100)
    with pytest.raises(ValueError, match=r"n must be an integer of at least 1, got 0"):
        simulate(key(), problem(), 0, 0.3, 100)
    with pytest.raises(ValueError, match=r"n must be at most 134217728 for method 'literal'"):
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
