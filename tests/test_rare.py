"""Rare best outcomes and wide ranges: every metric to full accuracy, or NaN, over the domain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests import oracles

CASES = {case.name: case for case in oracles.load_reference("rare")}
SCALED = ("reward", "tilted_reward")  # accurate relative to the largest reward, not to themselves
NODES = 4096


@functools.cache
def computed(dtype, traced):
    """{name: Metrics} of all cases: those of K outcomes as one batch."""
    found = {}
    for few in (True, False):
        cases = [case for case in CASES.values() if (len(case.rewards) <= 8) == few]
        size = max(len(case.rewards) for case in cases)
        pad = [size - len(case.rewards) for case in cases]
        log_probs = np.stack(
            [
                np.pad(c.log_probs, (0, p), constant_values=-np.inf)
                for c, p in zip(cases, pad, strict=True)
            ]
        )
        rewards = np.stack([np.pad(c.rewards, (0, p)) for c, p in zip(cases, pad, strict=True)])
        log_n = np.log([case.n for case in cases])
        temperature = np.array([case.temperature for case in cases])
        problem = sb.from_logits(log_probs.astype(dtype), rewards.astype(dtype))
        call = functools.partial(sb.metrics, nodes=NODES if traced else None)
        call = jax.jit(call) if traced else call
        result = call(problem, temperature=temperature.astype(dtype), log_n=log_n.astype(dtype))
        for i, case in enumerate(cases):
            found[case.name] = jax.tree.map(lambda x, i=i: float(x[i]), result)
    return found


def faults(case, got, tolerance, dtype):
    """Fields that are wrong; NaN and what leaves the range of the dtype are not."""
    largest, smallest = (float(x) for x in (np.finfo(dtype).max, np.finfo(dtype).tiny))
    wrong = {}
    for field in sb.Metrics._fields:
        exact, value = case.metrics[field], getattr(got, field)
        scale = np.abs(case.rewards).max() if field in SCALED else abs(exact)
        if np.isnan(value) or (abs(exact) > largest / 10 and value > largest / 100):
            continue
        if abs(exact) < 1e3 * smallest and abs(value) < 1e4 * smallest:
            continue
        error = abs(value - exact) / scale
        if not error <= tolerance:
            wrong[field] = (error, value, exact)
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("name", CASES)
def test_float64(name, traced):
    got = computed(np.float64, traced)[name]
    assert not faults(CASES[name], got, 1e-11, np.float64)
    assert not np.isnan(np.array(got)).any()  # none of the domain is given up in float64


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_float32_is_right_or_flagged(name):
    got = computed(np.float32, False)[name]
    case = CASES[name]
    # The exponents (r - max r)/λ themselves are rounded.
    span = np.ptp(case.rewards) / case.temperature
    assert not faults(case, got, 1e-4 + 4 * span * np.finfo(np.float32).eps, np.float32)
    assert not np.isnan(got.reward)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_law_sums_to_one(dtype):
    for p, n, temperature in ((1e-8, 1e7, 1 / 400), (1e-17, 1e12, 1e-3), (1e-16, 1e15, 0.01)):
        problem = sb.from_logits([np.log1p(-p), np.log(p)], [0.0, 1.0], dtype=dtype)
        mass = float(jnp.sum(jnp.exp(sb.log_soft_bon(problem, n, temperature))))
        assert abs(mass - 1) < 1e4 * jnp.finfo(dtype).eps
