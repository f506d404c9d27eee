"""Curves beyond the pool: against SciPy's generalized Pareto law, and all pairs and triples."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import softbon_jax as sb
from softbon_jax.pools import _threshold

KEY = jax.random.key(3)


def pools(index, prompts=120, size=16, seed=0):
    """Generalized-Pareto scores, of another place and scale for each prompt."""
    random = np.random.default_rng(seed)
    scores = stats.genpareto(index).rvs(size=(prompts, size), random_state=random)
    return random.normal(size=(prompts, 1)) + random.uniform(0.5, 2, size=(prompts, 1)) * scores


def fitted(row, k, index):
    """The draws that are kept with their masses, the mass of the tail, and its law in SciPy."""
    ordered = np.sort(row)
    kept, over = ordered[:-k], ordered[-k:] - ordered[-k - 1]
    mass = np.full(kept.size, 1 / row.size)
    mass[-1] /= 2
    scale = (1 - index) * over.mean()
    return kept, mass, (k + 0.5) / row.size, stats.genpareto(index, kept[-1], scale)


def best_of(row, k, index, n):
    """The mean of the best of n under that law: by its distribution function."""
    kept, mass, above, tail = fitted(row, k, index)
    upto = np.append(0.0, np.cumsum(mass)) ** n
    level = np.geomspace(1e-14, 1.0, 20_001)  # of exceeding, given an excess
    x = tail.isf(level)
    return kept @ np.diff(upto) - np.trapezoid(x, (1 - above * level) ** n)


def soft_of(row, k, index, n, temperature):
    """The same under soft best-of-n: n ∫ E[r w e^{-tw}] E[e^{-tw}]^{n-1} dt, the tail by quantiles."""
    kept, mass, above, tail = fitted(row, k, index)
    s = (np.arange(10_000) + 0.5) / 400
    weight = np.exp(-s) / 400
    r = np.append(kept, tail.isf(np.exp(-s)))
    p = np.append(mass, above * weight / weight.sum())
    log_w = (r - kept[-1]) / temperature
    total = np.zeros(2)
    for u in np.arange(-log_w.max() - 30, -log_w.min() + 4, 0.5):
        z = np.exp(np.minimum(log_w + u, 50.0))
        phi, density = p @ np.exp(-z), p * z * np.exp(-z)
        total += n * phi ** (n - 1) * np.array([density.sum(), density @ r])
    return total[1] / total[0]


def test_l_moments_are_those_of_all_pairs_and_triples():
    rewards = -np.sort(-np.random.default_rng(1).normal(size=(3, 12)), axis=1)
    fit = _threshold.excesses(rewards, np.array([3, 5, 8]))
    for row, k, found in zip(rewards, fit.number, fit.moments.T, strict=True):
        over = row[:k] - row[k]
        pairs = [abs(a - b) / 2 for a, b in itertools.combinations(over, 2)]
        triples = [np.sort(x) @ [1, -2, 1] / 3 for x in itertools.combinations(over, 3)]
        expected = [over.mean(), np.mean(pairs), np.mean(triples)]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("index", [-0.4, 0.0, 0.25])
def test_the_index_is_that_of_the_law_however_few_exceed(index):
    model = sb.extrapolate_curve(KEY, pools(index, prompts=3000), 1, 0.0, exceedances=4)
    assert model.resolved
    assert not model.reason
    assert abs(model.tail_index - index) < 3 * model.tail_index_error < 0.1


@pytest.mark.parametrize("index", [-0.4, 0.0])
def test_curves_are_those_of_the_fitted_law(index):
    scores = pools(index, prompts=80, size=20)
    n, temperature = [2.5, 80.0], [0.0, 0.7]
    model = sb.extrapolate_curve(KEY, scores, n, temperature, exceedances=7)
    assert model.resolved
    xi, k = float(model.tail_index), int(model.exceedances[0])
    for p in (0, 7):
        for j, number in enumerate(n):
            hard = best_of(scores[p], k, xi, number)
            soft = soft_of(scores[p], k, xi, number, temperature[1])
            np.testing.assert_allclose(model.per_prompt[p, :, j], [hard, soft], rtol=1e-5)
    np.testing.assert_allclose(model.mean, model.per_prompt.mean(0), rtol=1e-12)


@pytest.mark.slow
def test_bands_hold_the_truth_and_are_those_of_refitting():
    scores = pools(0.1, prompts=150)
    model = sb.extrapolate_curve(KEY, scores, 64, 0.0, resamples=400)
    random, means = np.random.default_rng(0), []
    for _ in range(200):
        drawn = scores[random.integers(len(scores), size=len(scores))]
        again = sb.extrapolate_curve(KEY, drawn, 64, 0.0, resamples=1)
        means += [float(again.mean)]
    found, expected = (model.high - model.low) / 3.92, np.nanstd(means)
    assert 0.8 < found / expected < 1.25


def test_ragged_pools_and_masks():
    scores = pools(0.0)
    where = np.ones(scores.shape, bool)
    where[::2, [0, 5, 9]] = False
    masked = np.where(where, scores, np.nan)
    model = sb.extrapolate_curve(KEY, masked, [4, 40], 0.0, where=where)
    alone = sb.extrapolate_curve(KEY, scores[::2][:, where[0]], [4, 40], 0.0)
    index = float(model.tail_index)
    for row, k in ((scores[0][where[0]], 4), (scores[1], 4)):
        expected = [best_of(row, k, index, n) for n in (4, 40)]
        p = 0 if row.size == 13 else 1
        np.testing.assert_allclose(model.per_prompt[p], expected, rtol=1e-5)
    assert alone.exceedances.tolist() == [4] * 60


def test_what_is_not_resolved_is_refused_with_its_reason():
    random = np.random.default_rng(2)
    cases = {
        "fewer than 10 prompts": pools(0.0, prompts=9),
        "known to ±": pools(0.0, prompts=12),
        "too heavy": pools(0.6, prompts=2000),
        "tie": np.round(pools(0.0), 0),
        "not generalized-Pareto": random.normal(size=(500, 64)),
    }
    for reason, scores in cases.items():
        k = 40 if "Pareto" in reason else None
        model = sb.extrapolate_curve(KEY, scores, [2, 40], [0.0, 1.0], exceedances=k)
        assert reason in model.reason
        assert not model.resolved
        assert np.isnan(model.mean).all()
        assert np.isnan(model.per_prompt).all()
        assert model.per_prompt.shape == (len(scores), 2, 2)


def test_an_index_for_each_pool():
    scores = pools(0.0, prompts=12, size=12_000)
    model = sb.extrapolate_curve(KEY, scores, 50_000, 0.0, shared=False)
    assert model.resolved, model.reason
    few = sb.extrapolate_curve(KEY, pools(0.0), 64, 0.0, shared=False)
    assert not few.resolved


def test_bad_arguments():
    scores = pools(0.0, prompts=10)
    for wrong, match in (
        ({"n": 0.5}, "n must be"),
        ({"temperature": -1.0}, "temperature"),
        ({"exceedances": 16}, "above exceedances"),
        ({"exceedances": 2}, "exceedances"),
        ({"confidence": 1.0}, "confidence"),
        ({"rewards": np.full((10, 16), np.nan)}, "rewards"),
        ({"rewards": scores[0]}, "rewards must be"),
    ):
        with pytest.raises(ValueError, match=match):
            sb.extrapolate_curve(KEY, **({"rewards": scores, "n": 64, "temperature": 0.0} | wrong))
    with pytest.raises(ValueError, match="temperature must be 0, or high enough"):
        sb.extrapolate_curve(KEY, pools(0.0), 64, 1e-4)
    with pytest.raises(TypeError, match="concrete"):
        jax.jit(lambda x: sb.extrapolate_curve(KEY, x, 64, 0.0).mean)(jnp.asarray(scores))
