"""Random draws of the simulation: alias tables, Threefry, binomials and multinomial counts."""

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import softbon_jax as sb
from softbon_jax.simulation import _binomial, _draws

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("select", "size"),
    [(_draws.select_soft, 5), (_draws.select_soft, 1500), (_draws.select_race, 5)],
)
def test_few_draws_take_the_random_words_of_many(select, size, monkeypatch):
    """Up to 16 draws at once select what the loop over batches selects; 1 and 2 words a draw."""
    rng = np.random.default_rng(size)
    problem = sb.from_probs(*np.float32([rng.dirichlet(np.ones(size)), rng.normal(size=size)]))
    numbers = jnp.array([1, 2, 3, 4, 5, 15, 16, 17], jnp.int32)

    def selected(keys):
        tables = _draws.stream(problem, jnp.float32(0.3))
        return jax.lax.map(lambda x: select(x[0], tables, x[1]), (keys, numbers))

    def loop(key, n, layout, step, start):
        return _draws._over_batches(key, sum(map(len, layout(_draws.BATCH))), n, step, start)

    keys = jax.random.split(jax.random.key(4), numbers.size)
    at_once = jax.jit(selected)(jax.random.clone(keys))
    monkeypatch.setattr(_draws, "_over_draws", loop)
    np.testing.assert_array_equal(at_once, jax.jit(lambda keys: selected(keys))(keys))


def test_few_draws_run_the_generator_seldom(monkeypatch):
    """Up to four draws take fewer runs of the generator than 16, and those a single batch."""
    runs = []

    def counted(key, x0, x1):
        runs.append(x0.shape[0])
        return x0, x1

    monkeypatch.setattr(_draws, "threefry", counted)
    tables = _draws.Stream(
        _draws.Alias(jnp.zeros(8, jnp.uint32), jnp.zeros(8, jnp.int32)),
        jnp.zeros(8, jnp.float32),
        jnp.float32(1),
    )
    jax.eval_shape(_draws.select_race, jax.random.key(0), tables, jnp.int32(1))
    assert runs[:2] == [4, 16]
    runs.clear()
    jax.eval_shape(_draws.select_soft, jax.random.key(0), tables, jnp.int32(1))
    assert runs[:2] == [6, 9]


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


@pytest.mark.slow
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
