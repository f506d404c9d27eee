"""Joint choices of n and λ against SciPy on an oracle, and the conditions of an optimum."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import softbon_jax as sb
from tests import oracles

PROBS = np.array([[0.5, 0.3, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])
REWARDS = np.array([[0.0, 0.3, 0.6, 1.0], [0.0, 1.0, 0.5, 0.2], [0.0, 0.1, 0.9, 2.0]])
GOLD = np.array([[0.0, 0.9, 1.0, 0.1], [0.0, 1.0, 0.5, 0.1], [0.1, 0.2, 0.8, 0.9]])
PROMPTS = sb.from_probs(PROBS, REWARDS)


def earned(n, temperature, gold):
    """(E gold, KL to P) of every prompt."""
    laws = [
        oracles.law_by_trapezoid(p, r, *x)
        for p, r, *x in zip(PROBS, REWARDS, n, temperature, strict=True)
    ]
    kl = [np.sum(q * np.log(q / p)) for q, p in zip(laws, PROBS, strict=True)]
    return np.array([q @ g for q, g in zip(laws, gold, strict=True)]), np.array(kl)


def best(gold, shared, *, n=None, draws=None, kl=None):
    """The largest mean gold reward within the budgets: SLSQP from three points."""
    size = 1 if shared else 3

    def choice(x):
        sizes = np.broadcast_to(np.exp(x[size:]) if n is None else n, 3)
        return sizes, np.broadcast_to(np.exp(x[:size]), 3)

    limits = []
    if kl is not None:
        limits.append({"type": "ineq", "fun": lambda x: kl - earned(*choice(x), gold)[1].mean()})
    if n is None:
        limits.append({"type": "ineq", "fun": lambda x: draws - choice(x)[0].mean()})
    found = []
    for start in (-2.0, -1.0, 0.0):
        begin, ends = np.full(size, start), [(-5.0, 4.0)] * size
        if n is None:
            begin, ends = np.append(begin, np.full(size, np.log(draws))), ends + [(0, 4)] * size
        answer = optimize.minimize(
            lambda x: -earned(*choice(x), gold)[0].mean(),
            begin, bounds=ends, constraints=limits, method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 300},
        )  # fmt: skip
        # SLSQP creeps along the budgets: what it overdraws is worth less than the tolerances.
        if all(limit["fun"](answer.x) > -1e-7 for limit in limits):
            found.append(-answer.fun)
    return max(found)


def conditions(got, gold, *, n=None, draws=None, kl=None, rtol=1e-6):
    """Budgets kept, prices only of what is spent, and the Lagrangian flat along log λ and log n."""
    sizes, temperatures = np.asarray(got.n), np.asarray(got.temperature)
    value, divergence = earned(sizes, temperatures, gold)
    np.testing.assert_allclose(got.gold, value, rtol=1e-10)
    np.testing.assert_allclose(got.kl_base, divergence, rtol=1e-9)
    for price, binds, spent, budget in (
        (got.price_kl, got.kl_binds, divergence.mean(), kl),
        (got.price_draws, got.draws_bind, sizes.mean(), draws),
    ):
        assert price >= 0
        assert bool(binds) == (price > 0)
        if binds:
            np.testing.assert_allclose(spent, budget, rtol=rtol)
        elif budget is not None:
            assert spent <= budget
    assert got.residual < 1e-6
    assert got.converged

    def lagrangian(sizes, temperatures):
        value, divergence = earned(sizes, temperatures, gold)
        return value - float(got.price_kl) * divergence - float(got.price_draws) * sizes

    step = 1e-4
    by_temperature = lagrangian(sizes, temperatures * (1 + step)) - lagrangian(
        sizes, temperatures * (1 - step)
    )
    by_size = lagrangian(sizes * (1 + step), temperatures) - lagrangian(
        sizes * (1 - step), temperatures
    )
    return by_temperature / (2 * step), by_size / (2 * step)


@pytest.mark.slow
def test_each_prompt_its_temperature_under_one_kl_budget():
    got = sb.allocate(PROMPTS, GOLD, n=8, kl=0.3)
    by_temperature, _ = conditions(got, GOLD, kl=0.3)
    np.testing.assert_allclose(by_temperature, 0, atol=1e-6)
    assert got.gold.mean() > best(GOLD, False, n=8, kl=0.3) * (1 - 1e-7)
    assert got.price_draws == 0


@pytest.mark.slow
def test_one_temperature_for_all_under_a_kl_budget():
    got = sb.allocate(PROMPTS, GOLD, n=[4, 8, 16], kl=0.3, shared=True)
    assert np.ptp(got.temperature) == 0
    by_temperature, _ = conditions(got, GOLD, kl=0.3)
    np.testing.assert_allclose(by_temperature.mean(), 0, atol=1e-6)
    assert got.gold.mean() > best(GOLD, True, n=[4, 8, 16], kl=0.3) * (1 - 1e-7)
    each = sb.allocate(PROMPTS, GOLD, n=[4, 8, 16], kl=0.3)
    assert each.gold.mean() > got.gold.mean() + 1e-3


@pytest.mark.parametrize(
    ("gold", "shared"),
    [
        pytest.param(GOLD, False, marks=pytest.mark.slow, id="gold, each"),
        pytest.param(REWARDS, False, marks=pytest.mark.long, id="proxy, each"),
        pytest.param(GOLD, True, marks=pytest.mark.slow, id="gold, shared"),
        pytest.param(REWARDS, True, marks=pytest.mark.slow, id="proxy, shared"),
    ],
)
def test_n_and_temperature_under_both_budgets(gold, shared):
    got = sb.allocate(PROMPTS, gold, draws=6, kl=0.3, shared=shared)
    by_temperature, by_size = conditions(got, gold, draws=6, kl=0.3)
    if shared:
        by_temperature, by_size = by_temperature.mean(), by_size.mean()
    np.testing.assert_allclose(by_temperature, 0, atol=2e-6)
    np.testing.assert_allclose(by_size, 0, atol=2e-6)
    # SciPy may be content with less.
    assert got.gold.mean() > best(gold, shared, draws=6, kl=0.3) * (1 - 1e-7)


@pytest.mark.slow
def test_prices_are_the_slopes_of_what_is_earned():
    at = [sb.allocate(PROMPTS, draws=n, kl=kl) for n, kl in ((4, 0.3), (4.01, 0.3), (4, 0.301))]
    gold = [float(x.gold.mean()) for x in at]
    middle = [(float(a.price_kl), float(a.price_draws)) for a in at]
    np.testing.assert_allclose(
        (gold[1] - gold[0]) / 0.01, (middle[0][1] + middle[1][1]) / 2, rtol=1e-3
    )
    np.testing.assert_allclose(
        (gold[2] - gold[0]) / 0.001, (middle[0][0] + middle[2][0]) / 2, rtol=1e-3
    )


@pytest.mark.slow
def test_a_budget_that_cannot_be_spent_has_no_price():
    """Maximising the proxy, n draws earn the most at λ = 0, whatever KL is left over."""
    got = sb.allocate(PROMPTS, n=8, kl=5.0)
    assert not got.kl_binds
    assert got.price_kl == 0
    hard = sb.metrics(PROMPTS, 8, 0.0)
    # The search ends at λ = range/256, where a gap of a twentieth of the range is not yet sure to win.
    np.testing.assert_allclose(got.gold, hard.reward, rtol=1e-5)
    np.testing.assert_allclose(got.kl_base, hard.kl_soft_base, rtol=1e-4)


@pytest.mark.slow
def test_a_search_that_is_cut_short_has_not_converged():
    got = sb.allocate(PROMPTS, GOLD, n=8, kl=0.3, rounds=1, steps=1)
    assert got.residual > 1e-6
    assert not got.converged


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 2, "kl": 0.0}, r"kl must be finite and above 0, got 0\.0"),
        ({"draws": 1.0}, r"draws must be finite and above 1, got 1\.0"),
        ({"n": 2, "kl": [0.1, 0.2]}, r"kl must be one number.*\(2,\)"),
        ({"n": 2, "draws": 3}, "exactly one of n and draws, got n=2 and draws=3"),
        ({"kl": 0.1}, "exactly one of n and draws"),
        ({"n": 0.5}, r"n must be finite and at least 1, got 0\.5"),
        ({"n": 2, "gold": [1.0]}, "gold must have the problem's K = 4"),
        ({"n": 2, "gold": jnp.full(4, jnp.nan)}, "gold must be finite"),
        ({"n": 2, "rounds": 0}, "rounds must be an integer of at least 1, got 0"),
        ({"n": 2, "steps": True}, "steps must be an integer of at least 1, got True"),
    ],
)
def test_bad_arguments_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        sb.allocate(PROMPTS, **given)


def brute_force(probs, rewards, gold, n, kl):
    """The largest mean gold reward of two prompts over all pairs of λ on a grid."""
    tables = []
    for p, r, g, size in zip(probs, rewards, gold, n, strict=True):
        laws = np.array(
            [
                oracles.law_by_trapezoid(p, r, size, np.ptp(r) * x)
                for x in np.geomspace(1 / 200, 64, 200)
            ]
        )
        tables.append((laws @ g, np.sum(laws * np.log(np.maximum(laws, 1e-300) / p), axis=1)))
    (gold0, kl0), (gold1, kl1) = tables
    pairs = np.add.outer(gold0, gold1) / 2
    return np.max(pairs[np.add.outer(kl0, kl1) / 2 <= kl])


@pytest.mark.parametrize(
    "looked_at",
    [
        pytest.param((27, 47), marks=pytest.mark.slow),
        pytest.param(tuple(range(3, 48, 4)), marks=pytest.mark.long),
    ],
    ids=["traps", "all"],
)
def test_gold_that_rises_and_falls_sets_no_traps(looked_at):
    """Random problems, in two of which the best common choice leads to a local maximum: 27 and 47."""
    rng, loss = np.random.default_rng(3), []
    for k in range(48):
        probs, rewards = rng.dirichlet(np.ones(4), 2), rng.uniform(0, 1, (2, 4))
        gold, kl = rng.normal(size=(2, 4)), rng.uniform(0.03, 0.6)
        rng.uniform()
        n = rng.integers(3, 24, 2).astype(float)
        if k in looked_at:
            got = sb.allocate(sb.from_probs(probs, rewards), gold, n=n, kl=kl, nodes=1024)
            assert got.converged
            assert got.kl_base.mean() <= kl * (1 + 1e-9)
            best_of_grid = brute_force(probs, rewards, gold, n, kl)
            loss.append((best_of_grid - got.gold.mean()) / np.ptp(gold, axis=1).mean())
    assert len(loss) == len(looked_at)
    assert max(loss) < 1e-3
