"""Blocks against enumeration of all sequences, exact integers, mpmath and each other."""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax.exact import sequences
from tests import oracles

FOUR = ([0.5, 0.3, 0.1, 0.1], [0.0, 1 / 3, 2 / 3, 1.0])
UNEVEN = ([0.5, 0.3, 0.2], [0.0, 0.4142, 1.0 / math.pi])
# One number of nodes for all small blocks, so that one kernel serves them.
NODES = 6144
EXACT = {"rtol": 1e-12, "atol": 1e-14}


def problem(which=UNEVEN):
    return sb.from_probs(*which)


def plain_metrics(log_probs, totals, n, temperature):
    """Every metric by its definition, of the law that a sum over multinomial counts gives."""
    law = oracles.law_by_counts(log_probs, totals, n, temperature)
    exact = oracles.metrics_of_law(log_probs, totals, law, temperature)
    return sb.Metrics(**{name: float(x) for name, x in exact.items()})


def assert_metrics(got, expected, rtol=1e-12, atol=1e-14):
    for field in sb.Metrics._fields:
        np.testing.assert_allclose(
            getattr(got, field), getattr(expected, field), rtol, atol, err_msg=field
        )


# The law of the total -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", [FOUR, UNEVEN], ids=["lattice", "types"])
@pytest.mark.parametrize("m", [1, 2, 6])
def test_block_law_matches_enumeration(which, m):
    log_probs, totals = oracles.law_of_totals(*[which] * m)
    block = sb.block_problem(problem(which), m)
    assert block.num_outcomes == len(totals)
    np.testing.assert_allclose(block.rewards, totals, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.expm1(block.log_probs - log_probs), 0, atol=1e-13)


def test_positions_with_laws_of_their_own_match_enumeration():
    shifted = ([0.2, 0.8], [-0.25, 0.5])
    for one, other in ((FOUR, shifted), (UNEVEN, shifted)):
        a, b = problem(one), problem(shifted)
        log_probs, totals = oracles.law_of_totals(one, other, one, other)
        block = sb.block_problem([a, b, a, b])
        np.testing.assert_allclose(block.rewards, totals, atol=1e-11)
        np.testing.assert_allclose(np.expm1(block.log_probs - log_probs), 0, atol=1e-13)


def test_far_tail_matches_exact_integers():
    """(5 + 3x + x² + x³)^300 in integers: probabilities down to e^-690."""
    m, weights = 300, [5, 3, 1, 1]
    coefficients = [1]
    for _ in range(m):
        padded = [0] * 3 + coefficients + [0] * 3
        coefficients = [
            sum(w * padded[3 + i - k] for k, w in enumerate(weights))
            for i in range(len(coefficients) + 3)
        ]
    exact = np.array([math.log(c) for c in coefficients]) - m * math.log(10)
    block = sb.block_problem(problem(FOUR), m)
    assert exact.min() < -690
    np.testing.assert_allclose(block.log_probs, exact, rtol=0, atol=1e-12)


def test_levels_of_very_different_size_are_not_lost():
    """A symbol of probability e^-500: two of them are below the range of float64."""
    symbol = sb.from_logits(np.array([0.0, -500.0, 0.0]), np.array([0.0, 1.0, 10.0]))
    block = sb.block_problem(symbol, 3)
    counts = [c for c in itertools.product(range(4), repeat=3) if sum(c) == 3]
    counts.sort(key=lambda c: c[1] + 10 * c[2])
    exact = [
        math.log(6 // math.prod(map(math.factorial, c))) - 3 * math.log(2) - 500 * c[1]
        for c in counts
    ]
    np.testing.assert_allclose(block.rewards, [c[1] + 10 * c[2] for c in counts], atol=1e-13)
    np.testing.assert_allclose(block.log_probs, exact, rtol=1e-14)


def test_lattice_is_found_up_to_rounding():
    tenths = sb.from_probs([0.25] * 4, [0.1, 0.3, 0.7, 1.1])
    # In steps of 0.2 from the lowest, the best but 1 and the best but 3 cannot be had.
    assert sb.block_problem(tenths, 50).num_outcomes == 5 * 50 + 1 - 2
    single = sb.from_probs(np.full(4, 0.25, np.float32), np.float32([0.1, 0.3, 0.7, 1.1]))
    block = sb.block_problem(single, 50)
    assert block.num_outcomes == 249
    assert block.rewards.dtype == block.log_probs.dtype == jnp.float32
    constant = sb.block_problem(sb.from_probs([0.5, 0.5], [0.3, 0.3]), 9)
    np.testing.assert_allclose([constant.rewards[0], constant.log_probs[0]], [2.7, 0], atol=1e-14)


def test_impossible_symbols_do_not_count():
    block = sb.block_problem(sb.from_probs([0.5, 0.5, 0.0], [0.0, 1.0, math.e]), 4)
    np.testing.assert_allclose(block.rewards, np.arange(5))


def test_rounding_moves_laws_by_no_more_than_its_bound():
    m, n, temperature, step = 4, 3, 0.4, 0.05
    rounded = sb.round_to_lattice(problem(), step)
    rewards = np.asarray(rounded.problem.rewards)
    error = np.abs(rewards - UNEVEN[1]).max()
    np.testing.assert_allclose(rounded.error, error, rtol=1e-14)
    assert 0 < error <= step / 2
    np.testing.assert_allclose(rewards / step, np.rint(rewards / step), atol=1e-13)
    counts = np.array([c for c in itertools.product(range(m + 1), repeat=3) if sum(c) == m])
    ways = [math.factorial(m) // math.prod(map(math.factorial, c)) for c in counts.tolist()]
    log_probs = np.log(ways) + counts @ np.log(UNEVEN[0])
    before, after = (
        oracles.law_by_counts(log_probs, counts @ r, n, temperature) for r in (UNEVEN[1], rewards)
    )
    change = np.abs(np.log(after / before)).max()
    assert 0.1 < change / (2 * m * error / temperature) <= 1


# Metrics of blocks --------------------------------------------------------------------------------

N = np.array([1.0, 2.0, 7.0, 1e3, 1e26])


@pytest.mark.parametrize("temperature", [0.3, 3.0])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_whole_blocks_match_enumeration(n, temperature):
    """All 3^6 sequences of rewards without a lattice, and all sets of n candidates."""
    got = sb.blockwise_metrics(problem(), 6, n, temperature, nodes=NODES)
    assert_metrics(got, plain_metrics(*oracles.law_of_totals(*[UNEVEN] * 6), n, temperature))


@pytest.mark.slow
def test_whole_blocks_match_the_dense_law():
    every = sb.from_logits(*oracles.law_of_totals(*[UNEVEN] * 6))
    for temperature in (0.3, 3.0, 0.01):
        got = sb.blockwise_metrics(problem(), 6, N, temperature, nodes=NODES)
        expected = sb.metrics(every, N, temperature, nodes=NODES)
        assert_metrics(got, expected, rtol=2e-12)  # exponents of 600 are good to 1e-13
        # At n = 1e26 every node that counts lies before every band.
        last = (jax.tree.map(lambda x: x[-1], x) for x in (got, expected))
        assert_metrics(*last, rtol=1e-10, atol=0)


@pytest.mark.parametrize("case", [(12, 0.3, 1e4), (2, 0.008, 37.0)],
    ids=["mild", "gaps"])  # fmt: skip
@pytest.mark.slow
def test_whole_blocks_match_mpmath(case):
    """The second with outcomes so far apart that their bands of nodes do not touch."""
    m, temperature, n = case
    k = np.arange(m + 1)
    log_probs = [
        math.log(math.comb(m, i)) + (m - i) * math.log(0.75) + i * math.log(0.25) for i in k
    ]
    exact = oracles.exact_metrics(log_probs, 0.5 * k, n, temperature).metrics
    coin = sb.from_probs([0.75, 0.25], [0.0, 0.5])
    got = sb.blockwise_metrics(coin, m, n, temperature, nodes=NODES)
    assert_metrics(
        got, sb.Metrics(**{name: float(x) for name, x in exact.items()}), rtol=1e-11, atol=0
    )


@pytest.mark.slow
def test_what_lies_between_two_bands_counts():
    """A rare best outcome: φ^n falls where no outcome has its band of nodes."""
    log_probs, rewards, n = (
        np.array([-39.0, -0.5, -1.0]),
        np.array([1.0, 0.5, 0.0]),
        5 * math.exp(39),
    )
    log_probs -= np.logaddexp.reduce(log_probs)
    exact = oracles.exact_metrics(log_probs, rewards, n, 0.008).metrics
    got = sb.blockwise_metrics(sb.from_logits(log_probs, rewards), 1, n, 0.008, nodes=NODES)
    assert 1e-3 < float(exact["kl_tilted_soft"]) < 2e-2
    assert_metrics(got, sb.Metrics(**{x: float(y) for x, y in exact.items()}), rtol=1e-11, atol=0)


def test_limits_of_the_temperature():
    log_probs, totals = oracles.law_of_totals(*[UNEVEN] * 6)
    block = sb.block_problem(problem(), 6)
    expected = oracles.hard_law(log_probs, totals, 7)
    got = sb.log_block_law(block, 7.0, np.array([0.0, 1e-7, np.inf]), nodes=NODES)
    np.testing.assert_allclose(np.exp(got[0]), expected, rtol=1e-12)
    np.testing.assert_allclose(np.exp(got[1]), expected, rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(got[2], log_probs, rtol=1e-13)
    hard = sb.blockwise_metrics(problem(), 6, 7.0, 0.0, nodes=NODES)
    p, best = np.exp(log_probs), expected[-1]
    np.testing.assert_allclose(hard.reward, expected @ totals, **EXACT)
    np.testing.assert_allclose(hard.kl_soft_base, expected @ np.log(expected / p), **EXACT)
    np.testing.assert_allclose(hard.kl_tilted_soft, -np.log(best), **EXACT)
    np.testing.assert_allclose(hard.tv, 1 - best, **EXACT)
    np.testing.assert_allclose(hard.win_rate, expected @ (np.cumsum(p) - p / 2), **EXACT)
    assert np.isinf([hard.chi2, hard.kl_soft_tilted]).all()


def test_hard_block_whose_best_total_underflows():
    """The best of all sequences has probability 1e-800, and n = 1e800 draws have it or not."""
    m, log_best = 200, 200 * math.log(1e-4)
    hard = sb.blockwise_metrics(
        sb.bernoulli(1e-4), m, temperature=0.0, log_n=-log_best, nodes=NODES
    )
    np.testing.assert_allclose(hard.kl_tilted_base, -log_best, rtol=1e-12)
    np.testing.assert_allclose(hard.tv, math.exp(-1), rtol=1e-10)  # (1 - 1/n)^n
    np.testing.assert_allclose(hard.kl_tilted_soft, -math.log(1 - math.exp(-1)), rtol=1e-10)


@pytest.mark.slow
def test_published_check_values():
    """MATH: four symbols at λ = 0.3, KL_block/m where n = e^{mR}; and twenty fair coins at λ = 1."""
    for m, rate, value in ((256, 0.2, 0.57859), (256, 0.4, 0.37859), (256, 0.6, 0.17867),
                           (256, 0.8, 0.01824), (16, 0.8, 0.09025)):  # fmt: skip
        got = sb.blockwise_metrics(problem(FOUR), m, temperature=0.3, log_n=m * rate, nodes=NODES)
        assert float(got.kl_tilted_soft) / m == pytest.approx(value, abs=5e-6)
    coins = sb.from_probs([0.5, 0.5, 0.0], [0.0, 1.0, 0.0])
    for n, block, symbols in ((4, 1.130, 0.132), (256, 0.02707, 2.57e-5)):
        assert float(sb.blockwise_metrics(coins, 20, n, 1.0, nodes=NODES).kl_tilted_soft) == (
            pytest.approx(block, rel=1e-3)
        )
        assert float(sb.symbolwise_metrics(coins, 20, n, 1.0, nodes=NODES).kl_tilted_soft) == (
            pytest.approx(symbols, rel=3e-3)
        )


@pytest.mark.slow
def test_a_thousand_symbols():
    """Mass 1 and KL/m within 1e-3 of (D - R)₊ away from the corner, for n up to e^1400."""
    m, temperature = 1000, 0.3
    rates = np.array([0.2, 0.6, 0.9, 1.4])
    p, r = (np.array(x) for x in FOUR)
    target = p * np.exp(r / temperature)
    target /= target.sum()
    divergence = target @ np.log(target / p)
    got = sb.blockwise_metrics(problem(FOUR), m, None, temperature, log_n=m * rates)
    for field in sb.Metrics._fields:
        assert np.isfinite(getattr(got, field)).all(), field
    error = np.asarray(got.kl_tilted_soft) / m - np.maximum(divergence - rates, 0)
    assert np.abs(error).max() < 1e-3
    np.testing.assert_allclose(got.kl_tilted_base, m * divergence, rtol=1e-12)
    np.testing.assert_allclose(got.tilted_reward, m * target @ r, rtol=1e-12)
    block = sb.block_problem(problem(FOUR), m)
    assert float(jax.nn.logsumexp(block.log_probs)) == pytest.approx(0, abs=1e-12)
    log_law = sb.log_block_law(block, None, temperature, log_n=m * rates)
    np.testing.assert_allclose(jax.nn.logsumexp(log_law, axis=-1), 0, atol=1e-11)
    arguments = (problem(FOUR), m, None, temperature)
    assert (got.kl_tilted_soft >= sb.bounds.block_kl_lower(*arguments, log_n=m * rates)).all()
    assert (got.kl_tilted_soft <= sb.bounds.block_kl_upper(*arguments, log_n=m * rates)).all()
    assert 0 < got.kl_tilted_soft[-1] < 1e-70  # log n = 1400 is past m log(1 + CV²) = 1231


@pytest.mark.slow
def test_gradients_match_finite_differences():
    def fields(temperature, log_n):
        x = sb.blockwise_metrics(problem(), 6, None, temperature, log_n=log_n, nodes=NODES)
        return jnp.stack([x.kl_tilted_soft, x.kl_soft_base, x.reward_gap])

    def slopes(temperature, log_n, direction):
        return np.asarray(jax.jvp(fields, (temperature, log_n), direction)[1])

    for temperature, log_n in ((0.3, 4.0), (2.0, 0.5), (0.01, 2.0)):
        for step in ((1e-5 * temperature, 0.0), (0.0, 1e-5)):
            up, down = (fields(temperature + s * step[0], log_n + s * step[1]) for s in (1, -1))
            slope = slopes(temperature, log_n, step)
            scale = np.abs(slope).max() + 1e-11
            np.testing.assert_allclose(slope, (up - down) / 2, rtol=1e-5, atol=1e-6 * scale)
    for temperature in (0.0, np.inf):
        assert np.isfinite(slopes(temperature, 1.0, (1.0, 1.0))).all()
    # d/dλ of the reward gap at n = 1, that is of E_{P*}[r]: -Var_{P*}(r)/λ²
    slope = slopes(0.3, 0.0, (1.0, 0.0))[2]
    log_probs, totals = oracles.law_of_totals(*[UNEVEN] * 6)
    target = np.exp(log_probs + totals / 0.3)
    target /= target.sum()
    variance = target @ (totals - target @ totals) ** 2
    np.testing.assert_allclose(slope, -variance / 0.3**2, rtol=1e-10)


@pytest.mark.slow
def test_traced_arguments_and_too_few_nodes():
    symbol = problem()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def kl(n, temperature):
        return sb.blockwise_metrics(symbol, 6, n, temperature).kl_tilted_soft

    chex.clear_trace_counter()
    for n, temperature in ((2.0, 0.3), (50.0, 1.0)):
        expected = sb.blockwise_metrics(symbol, 6, n, temperature, nodes=NODES).kl_tilted_soft
        np.testing.assert_allclose(kl(n, temperature), expected, rtol=1e-12)
    assert np.isnan(kl(50.0, 1e-3))
    assert np.isnan(kl(0.5, 0.3))
    assert np.isnan(kl(2.0, -0.3))


# Blocks between one symbol and all ----------------------------------------------------------------


ADDITIVE = ("reward", "tilted_reward", "reward_gap", "kl_tilted_soft", "kl_soft_tilted",
            "kl_soft_base", "kl_tilted_base")  # fmt: skip


def assert_product(got, parts):
    """`got` is of the product of independent laws, each a pair of metrics and a count."""
    sums = {x: math.fsum(getattr(one, x) * count for one, count in parts) for x in ADDITIVE}
    for field, value in sums.items():
        np.testing.assert_allclose(getattr(got, field), value, **EXACT, err_msg=field)
    chi2 = math.prod((1 + one.chi2) ** count for one, count in parts) - 1
    np.testing.assert_allclose(got.chi2, chi2, rtol=1e-11)
    relative = sums["reward_gap"] / sums["tilted_reward"]
    np.testing.assert_allclose(got.relative_reward_gap, relative, **EXACT)
    assert np.isnan([got.tv, got.win_rate]).all()


@pytest.mark.parametrize("cut", [(1, {1: 5}), (2, {2: 2, 1: 1}), (3, {3: 1, 2: 1})], ids=str)
def test_blocks_of_every_size_are_products(cut):
    size, blocks = cut
    parts = [
        (plain_metrics(*oracles.law_of_totals(*[UNEVEN] * b), 4, 0.3), count)
        for b, count in blocks.items()
    ]
    assert_product(sb.blockwise_metrics(problem(), 5, 4, 0.3, block_size=size, nodes=NODES), parts)


def test_symbolwise_is_blocks_of_one():
    symbols = sb.symbolwise_metrics(problem(), 7, N, 0.3, nodes=NODES)
    blocks = sb.blockwise_metrics(problem(), 7, N, 0.3, block_size=1, nodes=NODES)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **EXACT), symbols, blocks)
    single = sb.symbolwise_metrics(problem(), 1, N, 0.3, nodes=NODES)
    jax.tree.map(np.testing.assert_array_equal, single, sb.metrics(problem(), N, 0.3, nodes=NODES))


def test_positions_with_laws_of_their_own():
    other = ([0.2, 0.8, 0.0], [-0.25, 0.5, 0.0])
    a, b = problem(), problem(other)
    got = sb.blockwise_metrics([a, a, b, a, b], None, 3, 0.3, block_size=2, nodes=NODES)
    kept = (other[0][:2], other[1][:2])
    laws = [
        oracles.law_of_totals(UNEVEN, UNEVEN),
        oracles.law_of_totals(UNEVEN, kept),
        oracles.law_of_totals(kept),
    ]
    assert_product(got, [(plain_metrics(*x, 3, 0.3), 1) for x in laws])
    symbols = sb.symbolwise_metrics([a, b, a], 3, 3, 0.3, nodes=NODES)
    parts = [
        (plain_metrics(*oracles.law_of_totals(x), 3, 0.3), count)
        for x, count in ((UNEVEN, 2), (kept, 1))
    ]
    assert_product(symbols, parts)


@pytest.mark.slow
def test_float32_blocks_agree_with_float64():
    double = sb.blockwise_metrics(problem(FOUR), 40, N, 0.3, nodes=NODES)
    as_single = sb.Problem(*(x.astype(jnp.float32) for x in problem(FOUR)))
    single = sb.blockwise_metrics(as_single, 40, N.astype(np.float32), np.float32(0.3))
    for field in ("reward", "kl_soft_base", "kl_tilted_soft"):
        assert getattr(single, field).dtype == jnp.float32
        np.testing.assert_allclose(getattr(single, field), getattr(double, field), rtol=1e-3)


def test_costs():
    costs = sb.sequence_costs(10, np.array([3.0, 8.0]))
    np.testing.assert_allclose(costs.symbol_draws, [30, 80])
    np.testing.assert_allclose(costs.reward_calls, [3, 8])
    by_four = sb.sequence_costs(10, None, block_size=4, log_n=math.log(3))
    np.testing.assert_allclose([by_four.symbol_draws, by_four.reward_calls], [30, 9])
    assert float(sb.sequence_costs(10, 3, block_size=1).reward_calls) == 30


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: sb.block_problem(p, 0), "m must be an integer of at least 1, got 0"),
        (lambda p: sb.block_problem(p, 2.5), r"m must be an integer.*got 2\.5"),
        (lambda p: sb.block_problem(p), "m must be given"),
        (lambda p: sb.block_problem([p, p], 3), "m must be the number of problems 2 >= 1, got 3"),
        (lambda p: sb.block_problem([]), "number of problems 0"),
        (lambda p: sb.block_problem(sb.Problem(*(x[None] for x in p)), 2), r"batch shape \(1,\)"),
        (lambda p: sb.block_problem(p, 5000), "round_to_lattice"),
        (lambda p: sb.blockwise_metrics(p, 4, 2, 1.0, block_size=5), "at most m = 4, got 5"),
        (lambda p: sb.blockwise_metrics(p, 4, 0.5, 1.0), r"n must be.*got 0\.5"),
        (lambda p: sb.blockwise_metrics(p, 4, 2, -1.0), r"temperature must be.*got -1\.0"),
        (lambda p: sb.symbolwise_metrics(p, 0, 2, 1.0), "m must be an integer"),
        (lambda p: sb.sequence_costs(4, 2, block_size=9), "at most m = 4, got 9"),
        (lambda p: sb.round_to_lattice(p, 0.0), r"step must be positive and finite, got 0\.0"),
        (lambda p: sb.log_block_law(sb.from_probs([0.5, 0.5], [1.0, 0.0]), 2, 1.0), "rising"),
        (lambda p: sb.log_block_law(sb.from_probs([1.0, 0.0], [0.0, 1.0]), 2, 1.0), "finite"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(problem())


def test_traced_symbols_are_refused():
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda p: sb.block_problem(p, 3))(problem())


def test_limit_on_the_number_of_totals_names_a_step_that_works():
    with pytest.raises(ValueError, match="round_to_lattice") as message:
        sb.block_problem(problem(), 5000)
    step = float(str(message.value).split("above ")[1].split(";")[0])
    rounded = sb.round_to_lattice(problem(), 1.01 * step).problem
    assert sb.block_problem(rounded, 500).num_outcomes <= sequences.MAX_TOTALS


def test_rounding_is_to_the_nearest():
    rounded = sb.round_to_lattice(sb.from_probs([0.5, 0.3, 0.2], [0.0, 0.4, 1.0]), 0.25)
    np.testing.assert_allclose(rounded.problem.rewards, [0.0, 0.5, 1.0], rtol=1e-14)
    np.testing.assert_allclose(rounded.error, 0.1, rtol=1e-13)
