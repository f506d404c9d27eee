"""Simulated laws against exhaustive ones; cells, chunks and memory; and what is refused."""

import functools
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax import conditional_fluctuation, simulate
from softbon_jax.simulation import _draws
from tests import oracles
from tests.cells import CELLS, OUTCOMES, PROBS, REWARDS, TIED, assert_within, problem, run

# The law -----------------------------------------------------------------------------------------

POINTS = ((1, 0.3), (2, 0.2), (5, 0.3), (5, 0.01), (5, 0.0), (4, np.inf))
BOTH = [(x, n, t) for x in (REWARDS, TIED) for n, t in POINTS]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["counts", "literal"])
@pytest.mark.parametrize("rule", ["soft", "hard"])
def test_soft_and_hard_laws(method, rule):
    estimates = run(4, ((problem(x), n, t) for x, n, t in BOTH), method=method, rule=rule)
    for (rewards, n, temperature), estimate in zip(BOTH, estimates, strict=True):
        selecting = 0.0 if rule == "hard" else temperature
        assert_within(estimate, oracles.law_by_tuples(np.log(PROBS), rewards, n, selecting))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["counts", "literal"])
def test_race_law(method):
    points = ((1, 0.3), (3, 0.3), (40, 0.5))
    cases = [(problem(), n, t) for n, t in points] + [(problem(TIED), 3, 0.0)]
    *soft, hard = run(6, cases, rule="race", method=method)
    for (n, temperature), estimate in zip(points, soft, strict=True):
        exact = oracles.uniform_race_law(PROBS, REWARDS, n, temperature)
        assert_within(estimate, exact)
    assert_within(hard, oracles.law_by_tuples(np.log(PROBS), TIED, 3, 0.0))


@pytest.mark.slow
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


@pytest.mark.slow
def test_outcomes_of_probability_zero_never_come_up():
    with_hole = problem([0.0, 9.0, 1.0, 2.0], [0.5, 0.0, 0.25, 0.25])
    for rule, method in (("soft", "counts"), ("race", "counts"), ("soft", "literal")):
        (estimate,) = run(11, [(with_hole, 4, 0.5)], 2_000, rule=rule, method=method)
        assert estimate.probs[1] == 0
        assert np.isfinite(estimate.metrics.reward)


# Chunks, cells and memory ------------------------------------------------------------------------


@pytest.mark.slow  # for the two programs that it alone compiles
@pytest.mark.parametrize("method", ["counts", "literal"])
def test_the_answer_does_not_depend_on_the_chunk(method):
    """1,001 trials: neither a whole number of chunks nor of blocks."""
    cases = [(problem(), 20, 0.3), (problem(TIED), 7, 0.0)]
    default, small = (run(17, cases, 1_001, method=method, **x) for x in ({}, {"chunk": 300}))
    for x, y in zip(*map(jax.tree.leaves, (default, small)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators(impl):
    """With rbg keys under `vmap` a rejection loop would never end."""
    key = jax.random.key(3, impl=impl)
    exact = np.exp(sb.log_soft_bon(problem(), 500, 0.3))
    (got, small) = (
        sb.simulate(jax.random.clone(key), problem(), 500, 0.3, trials=1_001, chunk=chunk)
        for chunk in (None, 300)
    )
    np.testing.assert_allclose(got.probs, small.probs, rtol=1e-10)
    assert np.all(np.abs(got.probs - exact) < 5 * np.asarray(got.probs_se))


@pytest.mark.slow
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
        lambda key: sb.simulate(key, problem(), n, temperature, trials=500), jax.random.key(0)
    )
    assert shapes.probs.shape == shapes.probs_se.shape == (2, 3, 4)
    assert {x.shape for x in (*shapes.metrics, *shapes.metrics_se, *shapes.noise_floor)} == {(2, 3)}


@pytest.mark.slow
def test_traced_n_and_temperature_share_a_trace_and_bad_ones_give_nan():
    """A cell with a bad argument is NaN and ends; its neighbors are those of the eager call."""
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(key, log_probs, n, temperature):
        rewards = jnp.pad(jnp.asarray(REWARDS), (0, 1))
        cells = sb.Problem(log_probs, jnp.broadcast_to(rewards, log_probs.shape))
        return sb.simulate(key, cells, n, temperature, trials=500)

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


@pytest.mark.slow
def test_trials_do_not_compile_again(monkeypatch):
    """Nor do n, the temperature, or the hard rule after the soft one."""
    chex.clear_trace_counter()
    stream = chex.assert_max_traces(_draws.stream, n=1)  # called once in every trace of the worker
    monkeypatch.setattr(_draws, "stream", stream)
    three = problem([0.0, 1.0, 2.0], [0.5, 0.25, 0.25])  # a shape that no other test compiles
    for trials, n, rule in ((200, 4, "soft"), (300, 9, "soft"), (200, 9, "hard")):
        estimate = simulate(
            jax.random.key(23), three, n, 0.3, trials=trials, rule=rule, method="literal"
        )
        assert np.sum(estimate.probs) == pytest.approx(1, rel=1e-12)


MEMORY = """
import pathlib
import jax, numpy as np
import softbon_jax as sb

problem = sb.from_probs(np.full(8, 1 / 8), np.linspace(0, 1, 8))
estimate = sb.simulate(jax.random.key(0), problem, 10**7, 0.3, trials=10_000)
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
    """One program serves every n, which is traced: what it allocates is all there is."""

    @jax.jit
    def simulated(key, n):
        return simulate(key, problem(), n, 0.3, trials=10_000, method="literal")

    memory = simulated.lower(jax.random.key(1), 10**7).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 2**27


def test_counts_at_huge_n():
    """N = 10^12 in float64, where only the counts can be simulated."""
    (estimate,) = run(21, [(problem(), 1e12, 0.3)], 2_000)
    tilted = PROBS * np.exp(REWARDS / 0.3)
    np.testing.assert_allclose(estimate.probs, tilted / tilted.sum(), rtol=1e-10)


# Conditional fluctuation -------------------------------------------------------------------------


@pytest.mark.slow
def test_conditional_fluctuation():
    """By all tuples at n = 4; and at large n as n^-1/2, with the constant of its normal limit."""
    temperature, n = 0.3, np.array([4, 1e2, 1e4, 1e6])
    expected = oracles.expected_fluctuation(np.log(PROBS), REWARDS, 4, temperature)
    mean, error = conditional_fluctuation(
        jax.random.key(22), problem(), n, temperature, trials=20_000
    )
    assert abs(mean[0] - expected) < 5 * error[0] < 0.02 * expected
    slope = np.polyfit(np.log(n[1:]), np.log(mean[1:]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.01)
    # √n (R - P*) is normal in the limit, with the variance of W (1_x - P*(x)) under P.
    weights = np.exp(REWARDS / temperature)
    relative = weights / np.sum(PROBS * weights)
    tilted = PROBS * relative
    spread = [
        np.sqrt(PROBS @ (relative * (np.arange(4) == x) - relative * tilted[x]) ** 2)
        for x in range(4)
    ]
    limit = np.sum(spread) / np.sqrt(2 * np.pi * n[-1])
    assert abs(mean[-1] - limit) < 5 * error[-1] < 0.03 * limit


# What is refused ---------------------------------------------------------------------------------


def test_bad_arguments():
    key = functools.partial(jax.random.key, 0)
    with pytest.raises(ValueError, match=r"rule must be .* got 'best'"):
        simulate(key(), problem(), 4, 0.3, trials=100, rule="best")
    with pytest.raises(ValueError, match=r"method must be .* got 'exact'"):
        simulate(key(), problem(), 4, 0.3, trials=100, method="exact")
    with pytest.raises(ValueError, match=r"trials must be an integer from 2 .* got 1"):
        simulate(key(), problem(), 4, 0.3, trials=1)
    with pytest.raises(ValueError, match=r"n must be an integer of at least 1, got 2.5"):
        simulate(key(), problem(), 2.5, 0.3, trials=100)
    with pytest.raises(ValueError, match=r"n must be an integer of at least 1, got 0"):
        simulate(key(), problem(), 0, 0.3, trials=100)
    with pytest.raises(ValueError, match=r"n must be at most 134217728 for method 'literal'"):
        simulate(key(), problem(), 2**31, 0.3, trials=100, method="literal")
    with pytest.raises(ValueError, match=r"n must be at most 16777216 for counts in float32"):
        simulate(key(), problem(dtype=np.float32), 2**25, 0.3, trials=100)
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        simulate(key(), problem(), 4, -0.3, trials=100)
    with pytest.raises(ValueError, match="chunk must be an integer of at least 1, got 0"):
        simulate(key(), problem(), 4, 0.3, trials=100, chunk=0)
    with pytest.raises(TypeError, match="n must be real numbers"):
        simulate(key(), problem(), "4", 0.3, trials=100)
    with pytest.raises(ValueError, match=r"trials must be an integer from 2 .* got True"):
        simulate(key(), problem(), 4, 0.3, trials=True)
    with pytest.raises(ValueError, match="do not broadcast"):
        simulate(key(), problem(), np.ones(2), np.ones(3), trials=100)
    with pytest.raises(TypeError, match="typed PRNG key"):
        simulate(np.zeros(2, np.uint32), problem(), 4, 0.3, trials=100)
    with pytest.raises(ValueError, match="trials must be"):
        conditional_fluctuation(key(), problem(), 4, 0.3, trials=0)


@pytest.mark.parametrize("function", [simulate, conditional_fluctuation])
def test_trials_by_position_warn_and_give_the_same_answer(function):
    key = functools.partial(jax.random.key, 26)
    with pytest.warns(DeprecationWarning, match="pass trials="):
        old = function(key(), problem(), 4, 0.3, 500)
    chex.assert_trees_all_equal(old, function(key(), problem(), 4, 0.3, trials=500))


# Pessimism ---------------------------------------------------------------------------------------


def test_simulated_pessimism_is_the_average_over_tuples():
    """All sets of three draws, each with its selection probabilities."""
    regularization, n = np.array([0.0, 0.3, np.inf]), 3
    drawn = np.array(list(np.ndindex(*n * (4,))))
    chance = np.prod(PROBS[drawn], axis=1)
    got = sb.simulate_pessimism(jax.random.key(27), problem(), n, regularization, trials=20_000)
    assert got.probs.shape == got.standard_error.shape == (3, 4)
    for i, beta in enumerate(regularization):
        given = np.exp(sb.pessimism_log_probs(REWARDS[drawn], beta))
        exact = np.bincount(drawn.ravel(), (chance[:, None] * given).ravel())
        deviation = np.abs(got.probs[i] - exact)
        assert np.all(deviation < 5 * got.standard_error[i])
        assert np.all(got.standard_error[i] < 0.01)


def test_the_old_name_of_simulate_pessimism_warns():
    key = functools.partial(jax.random.key, 28)
    new = sb.simulate_pessimism(key(), problem(), 3, 0.3, trials=50)
    assert isinstance(new, sb.PessimismLaw)
    for old in (
        lambda: sb.pessimism_law(key(), problem(), 3, 0.3, 50),
        lambda: sb.pessimism_law(key(), problem(), 3, 0.3, trials=50),
    ):
        with pytest.warns(DeprecationWarning, match="is now simulate_pessimism"):
            chex.assert_trees_all_equal(old(), new)


@pytest.mark.parametrize(("name", "value"), [("n", 0), ("n", 2.0), ("n", True), ("trials", 1)])
def test_sizes_of_simulate_pessimism(name, value):
    sizes = {"n": 2, "trials": 10} | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least .* got {value}"):
        sb.simulate_pessimism(jax.random.key(0), problem(), regularization=0.3, **sizes)
