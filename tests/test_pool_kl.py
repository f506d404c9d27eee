"""KL from pools of scores: against the empirical law by enumeration, and against the exact law."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax import _special
from tests import oracles


def ragged():
    """Pools of 21 and 19 candidates with three outcomes each, two slots left empty in the second."""
    first = np.repeat([0.3, 1.2, 0.0], [4, 12, 5])
    second = np.insert(np.repeat([0.4, -2.0, 0.1], [14, 3, 2]), [0, 9], 7.0)
    where = np.ones((2, 21), bool)
    where[1, [0, 10]] = False
    return np.stack([first, second]), where, np.array([1, 2, 4, 20])


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_all_three_divergences_and_their_jackknife(temperature):
    rewards, where, n = ragged()
    estimate = sb.pool_kl(rewards, n, temperature, where=where)
    soft, base = estimate.kl_tilted_soft, estimate.kl_tilted_base
    for p, (row, kept) in enumerate(zip(rewards, where, strict=True)):
        for i, k in enumerate(n[n <= kept.sum()].tolist()):
            found = {"kl_soft_base": estimate, "kl_tilted_soft": soft}
            for name, x in found.items():
                found[name] = (x.plug_in[p, i], x.per_prompt[p, i])
            found["kl_tilted_base"] = (base.plug_in[p], base.per_prompt[p])
            plug_in = oracles.empirical_divergences(row[kept], k, temperature)
            jackknifed = oracles.jackknifed_divergences(row[kept], k, temperature)
            for name, got in found.items():
                expected = (plug_in[name], jackknifed[name])
                np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-13, err_msg=name)
    assert np.isnan(estimate.per_prompt[1, 3])
    assert np.isnan(soft.per_prompt[1, 3])
    assert base.mean.shape == ()


def large():
    """Pools of 600: dense, sparse and far apart, clumps, ties, one that is far better, one far worse.

    In the last one the best alone has nearly half of the weight, too much for its cell to be condensed.
    """
    rng = np.random.default_rng(13)
    normal = rng.normal(size=600)
    clumps = np.append(rng.uniform(size=500), 60 + 0.3 * normal[:100])
    rows = [normal, normal / 0.03, clumps, np.round(2 * normal, 1)]
    rows += [np.append(normal[:-1], 9.0), np.append(normal[:-1], -50.0)]
    rows += [np.concatenate([np.zeros(1), np.linspace(-2.9, -2.7, 22), np.linspace(-61, -60, 577)])]
    return np.stack(rows)


@pytest.mark.slow
def test_large_pools_against_all_pools_without_one(monkeypatch):
    monkeypatch.setattr("softbon_jax.pools.divergences.FEWEST_EFFECTIVE", 0.0)
    rewards, n = large(), np.array([2, 40])
    estimate = sb.pool_kl(rewards, n, 1.0)
    soft, base = estimate.kl_tilted_soft, estimate.kl_tilted_base
    for p, row in enumerate(rewards):
        for i, k in enumerate(n.tolist()):
            got = {
                "kl_soft_base": (estimate.plug_in[p, i], estimate.per_prompt[p, i]),
                "kl_tilted_soft": (soft.plug_in[p, i], soft.per_prompt[p, i]),
                "kl_tilted_base": (base.plug_in[p], base.per_prompt[p]),
            }
            for name, expected in oracles.all_jackknifed_divergences(row, k, 1.0).items():
                np.testing.assert_allclose(got[name], expected, 1e-11, 1e-13, err_msg=f"{p} {name}")


@pytest.mark.long  # `make slow` looks at small pools so
def test_large_pools_in_single_precision_and_under_tracing():
    rewards, n = large(), np.array([2, 40])
    exact = sb.pool_kl(rewards, n, 1.0)
    traced = jax.jit(partial(sb.pool_kl, nodes=1024))(rewards, jnp.asarray(n), jnp.asarray(1.0))
    single = sb.pool_kl(rewards.astype(np.float32), n, np.float32(1.0))
    chex.assert_trees_all_close(traced, exact, rtol=1e-10, atol=1e-13)
    chex.assert_trees_all_close(single, exact, rtol=2e-5, atol=1e-6)
    few = jax.jit(partial(sb.pool_kl, nodes=64))(rewards, jnp.asarray(n), jnp.asarray(1.0))
    assert np.isnan(few.per_prompt[1]).all()


def test_old_names_and_positions_still_work():
    rewards, where, n = ragged()
    estimate = sb.pool_kl(rewards, n, 0.3, where=where)
    chex.assert_trees_all_equal(estimate.tilted_soft, estimate.kl_tilted_soft)
    chex.assert_trees_all_equal(estimate.tilted_base, estimate.kl_tilted_base)
    with pytest.warns(DeprecationWarning, match=r"pool_kl: pass where=\.\.\. by keyword"):
        chex.assert_trees_all_equal(sb.pool_kl(rewards, n, 0.3, where), estimate)
    with pytest.warns(DeprecationWarning, match=r"pool_effective_size: pass where=\.\.\."):
        size = sb.pool_effective_size(rewards, 0.3, where)
    np.testing.assert_array_equal(size, sb.pool_effective_size(rewards, 0.3, where=where))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_single(dtype):
    """300 candidates: bfloat16 has no 257, so that n and sizes must not be in it either."""
    half = jnp.asarray(np.random.default_rng(12).normal(size=(2, 300)) + 5).astype(dtype)
    single, n = half.astype(jnp.float32), np.array([1, 8, 257])
    estimate = sb.pool_kl(half, n, 2.0)
    chex.assert_type(jax.tree.leaves(estimate._replace(prompts=estimate.mean)), jnp.float32)
    chex.assert_trees_all_equal(estimate, sb.pool_kl(single, n, 2.0))
    chex.assert_trees_all_equal(sb.pool_kl(half, n, 0.0), sb.pool_kl(single, n, 0.0))
    pools = np.asarray(single, float)
    expected = [oracles.empirical_divergences(row, 8, 0.0)["kl_soft_base"] for row in pools]
    np.testing.assert_allclose(sb.pool_kl(half, n, 0.0).plug_in[:, 1], expected, rtol=1e-5)


@pytest.mark.slow
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
        (estimate.kl_tilted_soft, exact.kl_tilted_soft),
        (estimate.kl_tilted_base, exact.kl_tilted_base[0]),
    ):
        plug_in = np.abs(kl.plug_in.mean(0) - truth)
        assert (np.abs(kl.mean - truth) < 3 * kl.standard_error).all()
        assert (plug_in > 4 * kl.standard_error).all()
        assert (np.abs(kl.mean - truth) < plug_in / 5).all()
    tilt = np.exp(rewards / 1.5) / np.exp(rewards / 1.5).mean()
    target, squared = np.mean(tilt * np.log(tilt)), np.mean(tilt**2)
    bias = (target + 0.5) * (squared - 1) + target - np.mean(tilt**2 * np.log(tilt))
    found = estimate.kl_tilted_base.plug_in.mean() - target
    assert found == pytest.approx(bias / 32, rel=0.2)


@pytest.mark.slow
def test_pools_too_small_for_the_tilted_law_say_so():
    rewards, where = np.random.default_rng(7).normal(size=(6, 20)), np.ones((6, 20), bool)
    n = np.array([2, 20])
    estimate = sb.pool_kl(rewards, n, np.array([0.0, 5.0, np.inf]))
    assert (estimate.effective_size[:, 0] < 10).all()
    assert (estimate.effective_size[:, 1:] > 10).all()
    for kl in (estimate.kl_tilted_soft, estimate.kl_tilted_base):
        assert np.isnan(kl.mean[0]).all()
        assert np.isnan(kl.per_prompt[:, 0]).all()
        assert np.isfinite(kl.plug_in).all()
        assert (kl.mean[1] > 0).all()
        np.testing.assert_array_equal(kl.mean[2], 0)
    assert np.isfinite(estimate.mean).all()
    # One prompt of eight alike candidates: by itself too small, but the mean is over all.
    rewards[0], where[0, 8:] = 0.0, False
    few = sb.pool_kl(rewards, n, 5.0, where=where)
    assert np.isnan(few.kl_tilted_base.per_prompt[0])
    each = np.concatenate([[0.0], few.kl_tilted_base.per_prompt[1:]])
    assert few.kl_tilted_base.mean == pytest.approx(each.mean(), rel=1e-12)
    assert few.kl_tilted_soft.mean[1] == pytest.approx(few.kl_tilted_soft.per_prompt[1:, 1].mean())
    # Ten of twenty tied for the best: hard best-of-n can be told too.
    tied = sb.pool_kl(np.repeat([[0.0, 1.0]], 60, axis=0).reshape(6, 20), n, 0.0)
    share = np.array([10 / 20, 9 / 19, 10 / 19])
    soft, base = -np.log(1 - (1 - share) ** 2), -np.log(share)
    weights = [20, -19 / 2, -19 / 2]
    assert tied.kl_tilted_soft.mean[0] == pytest.approx(soft @ weights, rel=1e-10)
    assert tied.kl_tilted_base.mean == pytest.approx(base @ weights, rel=1e-10)


@pytest.mark.slow
def test_kl_under_tracing_and_in_single_precision():
    rewards, n = np.random.default_rng(9).normal(size=(2, 20)), np.array([1, 4, 20])
    exact = sb.pool_kl(rewards, n, 2.0)
    traced = jax.jit(sb.pool_kl)(rewards, jnp.asarray(n), jnp.asarray(2.0))
    chex.assert_trees_all_close(traced, exact, rtol=1e-9, atol=1e-12)
    single = sb.pool_kl(rewards.astype(np.float32), n, np.float32(2.0))
    assert single.kl_tilted_soft.mean.dtype == single.kl_tilted_base.mean.dtype == jnp.float32
    for got, expected in zip(
        (single.mean, *single.kl_tilted_soft, *single.kl_tilted_base),
        (exact.mean, *exact.kl_tilted_soft, *exact.kl_tilted_base),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)


def test_effective_size():
    rewards = np.array([[0.0, 1.0, 1.0, -1.0], [5.0, 0.0, 0.0, 0.0]])
    where = np.array([[True] * 4, [True, True, False, False]])
    size = sb.pool_effective_size(rewards, np.array([0.0, 0.7, np.inf]), where=where)
    for p in range(2):
        w = np.exp(rewards[p][where[p]] / 0.7)
        np.testing.assert_allclose(size[p, 1], w.sum() ** 2 / (w**2).sum(), rtol=1e-13)
    np.testing.assert_array_equal(size[:, 0], [2, 1])
    np.testing.assert_array_equal(size[:, 2], [4, 2])
    traced = jax.jit(sb.pool_effective_size)(rewards, jnp.array([0.7, -1.0, jnp.nan]))
    np.testing.assert_array_equal(np.isnan(traced), [[False, True, True]] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_excess_against_mpmath(dtype):
    """δ - log(1+δ) from the smallest δ to the largest that a jackknife meets, and at both ends."""
    sizes = np.concatenate([np.geomspace(1e-9, 0.9, 60), np.geomspace(1.0, 1e6, 20)])
    delta = np.concatenate([sizes, -sizes[:60], -1 + np.geomspace(1e-6, 0.1, 10)]).astype(dtype)
    with mp.workdps(50):
        exact = [float(mp.mpf(x) - mp.log(1 + mp.mpf(x))) for x in map(float, delta)]
    found = np.asarray(_special.excess(jnp.asarray(delta)))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.array(exact), rtol=40 * np.finfo(dtype).eps)
    assert np.asarray(_special.excess(jnp.asarray([0.0, -1.0], dtype))).tolist() == [0.0, -1.0]
