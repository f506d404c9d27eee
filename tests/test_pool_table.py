"""Tables of pools: one pass gives what the separate functions give, and blocks what one loop gives."""

import jax
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax.pools import _blocks

N, T = np.array([1, 2, 5, 9]), np.array([0.0, 0.1, 0.7, np.inf])


@pytest.fixture(scope="module")
def pools():
    """Ragged, with ties, gold of another kind, and a pool of one."""
    random = np.random.default_rng(0)
    rewards = np.round(random.normal(size=(6, 9)), 1)
    where = np.arange(9) < np.array([9, 9, 7, 4, 2, 1])[:, None]
    return rewards, np.stack([rewards, random.random((6, 9)) * 3], axis=1), where


def test_one_pass_is_the_separate_functions(pools):
    """Those are checked against enumeration in tests/test_pool.py and tests/test_pool_kl.py."""
    rewards, values, where = pools
    table = sb.pool_table(rewards, N, T, values=values, where=where)
    for kind in range(2):
        curve = sb.pool_curve(rewards, N, T, values=values[:, kind], where=where)
        of_kind = table.values.per_prompt[:, kind]
        np.testing.assert_allclose(of_kind, curve.per_prompt, rtol=1e-14, atol=1e-14)
        for name in ("mean", "standard_error"):
            np.testing.assert_allclose(
                getattr(table.values, name)[kind], getattr(curve, name), rtol=1e-13
            )
        np.testing.assert_array_equal(table.values.prompts, curve.prompts)
    kl = sb.pool_kl(rewards, N, T, where=where)
    np.testing.assert_allclose(table.kl.per_prompt, kl.per_prompt, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(table.kl.standard_error, kl.standard_error, rtol=1e-13, atol=1e-25)
    np.testing.assert_array_equal(table.kl.prompts, [6, 5, 3, 2])
    assert table.win_rate is None


@pytest.mark.slow
@pytest.mark.parametrize("against", [1, 3])
def test_win_rates_share_the_pass(pools, against):
    rewards, values, where = pools
    table = sb.pool_table(rewards, N, T, values=values, where=where, against=against)
    few = N[N + against <= 9]
    rate = sb.pool_win_rate(rewards, few, T, where=where, against=against)
    shown = table.win_rate.per_prompt[..., : few.size]
    np.testing.assert_allclose(shown, rate.per_prompt, rtol=1e-13)
    np.testing.assert_allclose(table.win_rate.mean[..., : few.size], rate.mean, rtol=1e-13)
    assert np.isnan(table.win_rate.per_prompt[..., few.size :]).all()
    np.testing.assert_array_equal(table.win_rate.prompts[: few.size], rate.prompts)
    alone = sb.pool_table(rewards, N, T, values=values, where=where)
    for curve, other in zip(table[:2], alone[:2], strict=True):
        np.testing.assert_allclose(curve.per_prompt, other.per_prompt, rtol=1e-13, atol=1e-15)


@pytest.mark.slow
def test_one_kind_of_values_has_no_axis(pools):
    rewards, values, where = pools
    one = sb.pool_table(rewards, 2, 0.7, values=values[:, 1], where=where)
    own = sb.pool_table(rewards, 2, 0.7, where=where)
    both = sb.pool_table(rewards, 2, 0.7, values=values, where=where)
    assert one.values.mean.shape == one.kl.mean.shape == ()
    assert one.values.per_prompt.shape == (6,)
    for kind, table in enumerate((own, one)):
        np.testing.assert_allclose(
            table.values.per_prompt, both.values.per_prompt[:, kind], rtol=1e-14
        )


@pytest.mark.slow
def test_lost_draws_and_shapes(pools):
    rewards, values, where = pools
    rewards = np.where(np.arange(9) == 3, -np.inf, rewards)
    table = sb.pool_table(rewards, N, T, values=values, where=where)
    curve = sb.pool_curve(rewards, N, T, values=values[:, 1], where=where)
    np.testing.assert_allclose(table.values.per_prompt[:, 1], curve.per_prompt, rtol=1e-13)
    with pytest.raises(ValueError, match="against must be an integer of at least 1, got 0"):
        sb.pool_table(rewards, N, T, against=0)
    with pytest.raises(ValueError, match=r"values has shape \(6, 2, 8\), rewards has shape"):
        sb.pool_table(rewards, N, T, values=values[..., 1:], where=where)
    values[2, 1, 4] = np.nan
    with pytest.raises(ValueError, match=r"finite where they count, got nan at index \(2, 1, 4\)"):
        sb.pool_table(rewards, N, T, values=values, where=where)
    values[2, 1, 4] = 0.0


FUNCTIONS = {
    "pool_curve": lambda r, w: sb.pool_curve(r, N, T, where=w),
    "pool_kl": lambda r, w: sb.pool_kl(r, N, T, where=w),
    "pool_table": lambda r, w: sb.pool_table(r, N, T, where=w),
    "pool_win_rate": lambda r, w: sb.pool_win_rate(r, N[:-1], T, where=w),
    "pool_credits": lambda r, w: sb.pool_credits(r, 2, 0.7, where=w),
    "pool_votes": lambda r, w: sb.pool_votes(np.round(np.abs(r)), N, where=w),
    "pool_weighted_votes": lambda r, w: sb.pool_weighted_votes(
        jax.random.key(0), np.round(np.abs(r)), np.exp(r), N, where=w, subsets=20
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_blocks_change_no_bit_of_any_pool(pools, name, monkeypatch):
    """No pool depends on its block, nor counts the overlap of the last two twice; float64 here alone."""
    random = np.random.default_rng(1)
    rewards, where = random.normal(size=(23, 9)), np.tile(pools[2], (4, 1))[:23]
    want = FUNCTIONS[name](rewards, where)
    monkeypatch.setattr(_blocks, "BLOCK", 5)
    monkeypatch.setattr(_blocks, "FEWEST", 23)
    blocks = []
    in_blocks = _blocks.in_blocks
    monkeypatch.setattr(
        _blocks, "in_blocks", lambda *x, **y: blocks.append(x) or in_blocks(*x, **y)
    )
    jax.config.update("jax_enable_x64", False)
    try:
        with jax.enable_x64(True):
            got = FUNCTIONS[name](rewards, where)
            turned = FUNCTIONS[name](np.roll(rewards, 3, axis=0), np.roll(where, 3, axis=0))
    finally:
        jax.config.update("jax_enable_x64", True)
    assert blocks
    for a, b, c in zip(*map(jax.tree.leaves, (want, got, turned)), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)
        if a.ndim and len(a) == 23 and name != "pool_weighted_votes":  # whose keys are of positions
            np.testing.assert_array_equal(np.roll(b, 3, axis=0), c)


def test_what_is_traced_divided_or_few_is_not_cut():
    rows = np.zeros((_blocks.FEWEST, 3))
    assert _blocks.can_be_cut((rows, None))
    assert _blocks.can_be_cut(jax.numpy.asarray(rows))
    assert not _blocks.can_be_cut(rows[1:])
    seen = []
    jax.jit(lambda x: seen.append(_blocks.can_be_cut(x)))(rows)
    jax.grad(lambda x: seen.append(_blocks.can_be_cut(x)) or x.sum())(rows)
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    placed = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    seen.append(_blocks.can_be_cut(jax.device_put(rows, placed)))
    assert seen == [False] * 3
