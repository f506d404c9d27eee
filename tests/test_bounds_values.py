"""Bounds and asymptotes of soft best-of-n against their definitions in mpmath."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

from softbon_jax import bounds
from softbon_jax.problem import Problem, from_probs, worst_case
from tests import oracles
from tests.bound_cases import (
    CERTAIN,
    CERTAIN_TIED,
    CONSTANT,
    ESSENTIAL,
    FOUR,
    NEEDS_NO_NEGATIVE_REWARD,
    PROBLEMS,
    TIED,
    TINY,
    batched,
    call,
    width,
)


@functools.cache
def moments_of(which: str, temperature: float) -> oracles.Moments:
    """The moments of one of PROBLEMS, in the working precision of the first call."""
    problem = PROBLEMS[which]
    return oracles.moments(np.asarray(problem.log_probs), np.asarray(problem.rewards), temperature)


@pytest.mark.parametrize("name", oracles.BOUNDS)
def test_every_function_is_its_definition(name: str) -> None:
    names = [k for k in PROBLEMS if k != "negative" or name not in NEEDS_NO_NEGATIVE_REWARD]
    batch = jax.tree.map(lambda x: x[:, None, None, :], batched(*(PROBLEMS[k] for k in names)))
    log_n = np.append(np.log([1.0, 2.0, 37.5, 1e6]), 300.0)
    scale = np.array([0.0, 1 / 600, 1 / 50, 0.3, 1.0, 20.0, 1e3, np.inf])
    temperature = np.stack([width(PROBLEMS[k]) * scale for k in names])
    got = np.asarray(call(name, batch, log_n, temperature[:, :, None]))
    got = np.broadcast_to(got, (*temperature.shape, len(log_n)))
    with mp.workdps(
        400
    ):  # the deviation of a nearly certain outcome from its mean cancels 260 digits
        for i, j, k in np.ndindex(got.shape):
            t, n = float(temperature[i, j]), mp.exp(mpf(log_n[k]))
            want = oracles.BOUNDS[name](moments_of(names[i], t), n, t)
            if want > 1e308:
                assert got[i, j, k] == math.inf
            else:
                case = f"{names[i]}, temperature {t}, log n {log_n[k]}"
                np.testing.assert_allclose(
                    got[i, j, k], float(want), rtol=1e-11, atol=1e-300, err_msg=case
                )


@pytest.mark.parametrize("name", [x for x in ESSENTIAL if x != "kl_upper_linear"])
def test_float32_is_close_to_the_definition(name: str) -> None:
    log_n = np.log([1.0, 16.0, 1e8]).astype(np.float32)
    temperature = np.array([[0.02], [0.3], [1.0], [50.0]], np.float32)
    single = Problem(FOUR.log_probs.astype(np.float32), FOUR.rewards.astype(np.float32))
    got = call(name, single, log_n, temperature)
    assert got.dtype == np.float32
    for i, j in np.ndindex(4, 3):
        t, n = float(temperature[i, 0]), mp.exp(float(log_n[j]))
        m = oracles.moments(*(np.asarray(x, np.float64) for x in single), t)
        want = oracles.BOUNDS[name](m, n, t)
        if want > 3e38:
            assert got[i, j] == math.inf
        else:  # an exponent of 50 has rounding errors of 50 eps, and b^-4 has four such exponents
            rtol = 1e-4 if "quadratic" in name else 3e-5
            np.testing.assert_allclose(got[i, j], float(want), rtol=rtol, atol=1e-37)


def test_what_overflows_is_infinite_and_what_need_not_does_not() -> None:
    problem = worst_case(2000.0)
    assert float(bounds.cv_squared(problem, 1.0)) == math.inf
    assert float(bounds.kl_upper_sinh(problem, 1e9, 1.0)) == math.inf
    # log CV² = 2000 - 2 log 2
    log_cv_squared = 2000 - 2 * math.log(2)
    assert float(bounds.kl_upper(problem, 1.0, 1.0)) == pytest.approx(log_cv_squared, rel=1e-13)
    got = bounds.kl_upper(problem, None, 1.0, log_n=2010.0)
    want = math.log1p(math.exp(log_cv_squared - 2010))
    assert float(got) == pytest.approx(want, rel=1e-11)
    assert float(bounds.log_n_for_kl_upper(problem, math.log(2), 1.0)) == pytest.approx(
        log_cv_squared
    )
    assert float(bounds.n_for_kl_upper(problem, 1.0, 1.0)) == math.inf
    assert float(bounds.effective_sample_size(problem, None, 1.0, log_n=2010.0)) == pytest.approx(
        math.exp(2010 - log_cv_squared), rel=1e-11
    )


# Gradients ---------------------------------------------------------------------------------------


# No reward twice at the top or the bottom, where the range and max W have kinks.
TIED_INSIDE = from_probs([0.2, 0.0, 0.3, 0.3, 0.2], [0.5, 9.0, 0.0, 0.5, 2.0])
DIFFERENTIATED = batched(FOUR, TIED_INSIDE, CERTAIN, CONSTANT, TIED, TINY, CERTAIN_TIED)
AT_LOG_N = math.log(6.5)
AT_TEMPERATURE = [0.7, 0.0, 1e-3, 1.0, 1e6, math.inf]


@functools.cache
def values_and_gradients(name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values and gradients at all of DIFFERENTIATED and, on the second axis, AT_TEMPERATURE."""

    def value(log_probs: Any, rewards: Any, log_n: Any, temperature: Any) -> jax.Array:
        return call(name, Problem(log_probs, rewards), log_n, temperature)

    at = jax.value_and_grad(value, argnums=(0, 1, 2, 3))
    over_temperature = jax.vmap(at, (None, None, None, 0))
    everywhere = jax.jit(jax.vmap(over_temperature, (0, 0, None, None)))
    values, gradients = everywhere(*DIFFERENTIATED, AT_LOG_N, jnp.array(AT_TEMPERATURE))
    return np.asarray(values), [np.asarray(x) for x in gradients]


@pytest.mark.slow
@pytest.mark.parametrize("name", ESSENTIAL)
def test_gradients_are_those_of_the_definition(name: str) -> None:
    _, gradients = values_and_gradients(name)

    def definition(x: list) -> mpf:
        return oracles.BOUNDS[name](oracles.moments(x[:6], x[6:12], x[13]), mp.exp(x[12]), x[13])

    with mp.workdps(100):
        step = mpf(10) ** -40
        for row in range(3):
            at = [float(y) for x in DIFFERENTIATED for y in x[row]]
            at += [AT_LOG_N, AT_TEMPERATURE[0]]
            slope = np.concatenate([x[row, 0].reshape(-1) for x in gradients])
            for i in range(14):
                if at[i % 6 if i < 12 else i] == -math.inf:
                    assert slope[i] == 0
                    continue
                up, down = ([mpf(x) for x in at] for _ in range(2))
                up[i] += step
                down[i] -= step
                want = float((definition(up) - definition(down)) / (2 * step))
                case = f"problem {row}, parameter {i}"
                np.testing.assert_allclose(slope[i], want, rtol=1e-8, atol=1e-14, err_msg=case)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESSENTIAL)
def test_gradients_are_finite_where_something_degenerates(name: str) -> None:
    values, gradients = values_and_gradients(name)
    assert not np.any(np.isnan(values))
    finite = np.isfinite(values)
    assert finite.sum() >= 21
    for x in gradients:
        assert np.all(np.isfinite(x[finite]))
