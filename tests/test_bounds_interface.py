"""What all bounds have in common: broadcasting, tracing, the two ways to give n, and bad arguments."""

import inspect
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softbon_jax import bounds
from softbon_jax.problem import Problem, from_probs
from tests import oracles
from tests.bound_cases import ESSENTIAL, FOUR, NEEDS_NO_NEGATIVE_REWARD, NEGATIVE, call


def test_every_public_function_is_tested() -> None:
    elsewhere = {  # test_sequence_bounds.py, test_bounds_rules.py and test_rivals.py
        name
        for name in bounds.__all__
        if getattr(bounds, name).__module__.endswith((".sequences", ".rules"))
    }
    assert set(bounds.__all__) - elsewhere == set(oracles.BOUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["n_for_kl_upper", "tv_asymptote"])
def test_jit_vmap_and_broadcasting_agree(name: str) -> None:
    log_probs = jnp.stack([FOUR.log_probs, FOUR.log_probs[::-1]])
    batch = Problem(log_probs[:, None, None, :], FOUR.rewards)
    temperature = jnp.array([[0.0], [0.2], [jnp.inf]])
    log_n = jnp.log(jnp.array([1.0, 3.0, 50.0, 1e9]))
    together = jnp.broadcast_to(call(name, batch, log_n, temperature), (2, 3, 4))

    def one(log_probs: Any, temperature: Any, log_n: Any) -> jax.Array:
        return call(name, Problem(log_probs, FOUR.rewards), log_n, temperature)

    mapped = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
    np.testing.assert_allclose(mapped(log_probs, temperature[:, 0], log_n), together, rtol=1e-13)
    compiled = jax.jit(one)(log_probs[1], 0.2, log_n[1])
    np.testing.assert_allclose(compiled, together[1, 1, 1], rtol=1e-13)
    single = call(name, FOUR, jnp.log(3.0), 0.2)
    assert single.shape == ()
    np.testing.assert_allclose(single, together[0, 1, 1], rtol=1e-13)


def test_n_and_log_n_are_the_same_argument() -> None:
    log_n = np.log([1.0, 5, 1000])
    by_n = bounds.kl_upper(FOUR, [1, 5, 1000], 0.3)
    by_log_n = bounds.kl_upper(FOUR, temperature=0.3, log_n=log_n)
    np.testing.assert_allclose(by_n, by_log_n, rtol=1e-14)
    np.testing.assert_array_equal(bounds.kl_upper(FOUR, None, 0.3, log_n=log_n), by_log_n)


@pytest.mark.parametrize("name", bounds.__all__)
def test_n_need_not_be_passed_beside_log_n(name: str) -> None:
    parameters = inspect.signature(getattr(bounds, name)).parameters
    if "n" not in parameters:
        return
    others = {"problem": FOUR, "temperature": 0.3, "m": 5, "selected": 0.1}
    others = {k: v for k, v in others.items() if k in parameters}
    by_n = getattr(bounds, name)(n=3.0, **others)
    by_log_n = getattr(bounds, name)(log_n=math.log(3.0), **others)
    np.testing.assert_allclose(by_n, by_log_n, rtol=1e-12)
    if "temperature" in parameters:
        del others["temperature"]
        with pytest.raises(TypeError, match="temperature must be real numbers, got None"):
            getattr(bounds, name)(n=3.0, **others)


def test_half_precision_is_promoted_and_what_is_not_a_number_is_refused() -> None:
    log_probs = FOUR.log_probs.astype(jnp.float32)
    half = Problem(log_probs, FOUR.rewards.astype(jnp.bfloat16))
    single = Problem(log_probs, half.rewards.astype(jnp.float32))
    got = bounds.effective_sample_size(half, 8, jnp.bfloat16(0.5))
    assert got.dtype == jnp.float32
    assert got == bounds.effective_sample_size(single, 8, jnp.float32(0.5))
    for n, temperature in ((True, 0.3), (2, "hot"), (2, 1j)):
        with pytest.raises(TypeError, match="must be real numbers"):
            bounds.kl_upper(FOUR, n, temperature)


def test_new_values_do_not_compile_again(caplog: pytest.LogCaptureFixture) -> None:
    counted = chex.assert_max_traces(lambda t, n: bounds.kl_upper(FOUR, n, t), n=1)
    compiled = jax.jit(counted)
    for t in (0.0, 0.1, 3.0, math.inf):
        compiled(jnp.float64(t), jnp.float64(2.0 + t if t < 5 else 9.0))
    functions = {
        "kl_upper": lambda x: bounds.kl_upper(FOUR, 4.0 + x, x),
        "relative_gap_upper": lambda x: bounds.relative_gap_upper(FOUR, 4.0 + x, x),
        "kl_asymptote": lambda x: bounds.kl_asymptote(FOUR, 4.0 + x, x),
        "n_for_kl_upper": lambda x: bounds.n_for_kl_upper(FOUR, x, x),
        "block_kl_upper": lambda x: bounds.block_kl_upper(FOUR, 5.0 + x, 4.0 + x, x),
        "best_of_n_kl_estimate": lambda x: bounds.best_of_n_kl_estimate(4.0 + x, x),
        "best_of_poisson_kl": bounds.best_of_poisson_kl,
        "least_kl_for_win_rate": bounds.least_kl_for_win_rate,
    }
    for function in functions.values():
        function(0.123)
    with jax.log_compiles():
        for name, function in functions.items():
            caplog.clear()
            function(0.456)
            assert "Compiling" not in caplog.text, name
        bounds.kl_upper(FOUR, np.full((2, 3), 4.0), 0.5)
    assert "Compiling" in caplog.text  # a new shape does


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FOUR, 0.5, 1.0), "n must be finite and at least 1, got 0.5"),
        ((FOUR, math.nan, 1.0), "n must be"),
        ((FOUR, 2.0, -1.0), "temperature must be at least 0 .*got -1.0"),
        ((FOUR, 2.0, math.nan), "temperature must be"),
        ((FOUR, None, 1.0), "exactly one of n and log_n"),
        ((FOUR, [1.0, 2.0], [1.0, 2.0, 3.0]), "do not broadcast"),
        ((Problem(FOUR.log_probs, FOUR.rewards[:3]), 2.0, 1.0), "K >= 1 outcomes"),
        ((Problem(FOUR.log_probs, FOUR.rewards.at[1].set(jnp.nan)), 2.0, 1.0), "problem.rewards"),
        ((Problem(FOUR.log_probs + 1, FOUR.rewards), 2.0, 1.0), "the sum of exp"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, message: str) -> None:
    for function in (bounds.kl_upper, bounds.kl_asymptote, bounds.relative_gap_upper):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def test_bad_rewards_budgets_and_n_of_single_functions() -> None:
    for function in (bounds.relative_gap_upper, bounds.relative_gap_upper_crude):
        with pytest.raises(
            ValueError, match=r"at least 0 where P is positive, got -3\.0 at index 0"
        ):
            function(NEGATIVE, 2.0, 1.0)
    impossible = from_probs([0.5, 0.5, 0.0], [1.0, 2.0, -1.0])
    assert jnp.isfinite(bounds.relative_gap_upper(impossible, 2.0, 1.0))
    with pytest.raises(ValueError, match=r"kl must be at least 0, got -0\.5"):
        bounds.n_for_kl_upper(FOUR, -0.5, 1.0)
    for function in (bounds.best_of_n_kl, bounds.best_of_n_win_rate):
        with pytest.raises(ValueError, match="n must be finite and at least 1, got 0"):
            function(0)
        with pytest.raises(ValueError, match="exactly one"):
            function(None)


@pytest.mark.parametrize("name", ESSENTIAL)
def test_traced_bad_values_give_nan(name: str) -> None:
    traced = jax.jit(lambda p, x, t: call(name, p, x, t))
    assert jnp.isfinite(traced(FOUR, 1.0, 0.5))
    assert jnp.isnan(traced(FOUR, 1.0, -0.5))
    assert jnp.isnan(traced(FOUR, 1.0, jnp.nan))
    assert jnp.isnan(traced(Problem(FOUR.log_probs + 1, FOUR.rewards), 1.0, 0.5))
    for bad in (jnp.nan, jnp.inf):
        assert jnp.isnan(traced(Problem(FOUR.log_probs, FOUR.rewards.at[2].set(bad)), 1.0, 0.5))
    if "log_n" in inspect.signature(getattr(bounds, name)).parameters:
        assert jnp.isnan(traced(FOUR, -1.0, 0.5))
    if name in NEEDS_NO_NEGATIVE_REWARD:
        assert jnp.isnan(traced(Problem(FOUR.log_probs, FOUR.rewards - 0.1), 1.0, 0.5))
