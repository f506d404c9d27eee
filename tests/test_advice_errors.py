"""How often the advice errs: on gold that is independent of the proxy, and on gold that turns down."""

from math import comb

import numpy as np
import pytest

from softbon_jax.command import advice

N, SIZES = 16, np.array([1, 2, 4, 8, 16])
WEIGHTS = np.array([[comb(N - 1 - i, n - 1) / comb(N, n) for i in range(N)] for n in SIZES])
"""Of the i-th best of a pool in the hard curve."""


def table(gold):
    """Of pools `[prompts, N]`, sorted by the proxy."""
    curve = (gold @ WEIGHTS.T)[:, None, :]
    kl = np.broadcast_to(np.log(SIZES) - (SIZES - 1) / SIZES, curve.shape)
    grid = (np.zeros(1), SIZES)
    return advice.Table(
        *grid,
        curve,
        curve,
        kl,
        np.arange(len(gold)),
        (gold.min(), gold.max()),
        len(np.unique(gold)) <= 2,
    )


KINDS = {
    "0/1 at .5": lambda random, shape: random.random(shape) < 0.5,
    "0/1 at .1": lambda random, shape: random.random(shape) < 0.1,
    "0/1 at .03": lambda random, shape: random.random(shape) < 0.03,
    "0/1 at .95": lambda random, shape: random.random(shape) < 0.95,
    "log-normal": lambda random, shape: np.exp(random.normal(size=shape)),
    "normal": lambda random, shape: random.normal(size=shape),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_gold_that_is_independent_of_the_proxy(kind):
    """At most the nominal rate, up to three standard errors of 150 data sets."""
    random = np.random.default_rng(5)
    for prompts in (10, 20, 100):
        down, covered, claimed = 0, 0, 0
        for seed in range(150):
            data = table(KINDS[kind](random, (prompts, N)).astype(float))
            verdict = advice.overoptimized(data, 0.0, seed=seed, samples=300)
            down += verdict.finding == "turns down"
            choice = advice.choose(data, seed=seed, samples=300)
            claimed += choice.ok
            covered += choice.gain_low <= 0 <= choice.gain_high
        assert down <= 150 * 0.05 + 3 * (150 * 0.05 * 0.95) ** 0.5
        assert claimed <= 150 * 0.07 + 3 * (150 * 0.07 * 0.93) ** 0.5
        assert covered >= 150 * 0.93 - 3 * (150 * 0.07 * 0.93) ** 0.5


def test_gold_that_turns_down_is_found():
    random = np.random.default_rng(6)
    found = 0
    for seed in range(20):
        proxy = -np.sort(-random.normal(size=(60, N)), axis=1)
        chance = np.clip(0.5 + 0.2 * proxy - 0.5 * np.maximum(proxy - 0.7, 0), 0.02, 0.98)
        data = table((random.random(proxy.shape) < chance).astype(float))
        found += advice.overoptimized(data, 0.0, seed=seed, samples=300).finding == "turns down"
    assert found >= 12


def test_one_response_is_one_point_and_no_gain():
    """Gold is the opposite of the proxy, so nothing beats one response, at any λ."""
    random = np.random.default_rng(7)
    for seed in range(10):
        proxy = -np.sort(-random.normal(size=(20, N)), axis=1)
        curve = ((-proxy + 0.1 * random.normal(size=proxy.shape)) @ WEIGHTS.T)[:, None, :]
        noise = 1e-3 * random.normal(size=(20, 3, 1)) * (SIZES == 1)
        values = np.repeat(curve, 3, axis=1) + noise
        kl = np.ones_like(values) * np.log(SIZES)
        grid = (np.array([0.0, 1.0, np.inf]), SIZES)
        choice = advice.choose(advice.Table(*grid, values, values, kl, np.arange(20)), seed=seed)
        assert not choice.ok
        assert choice.gain == choice.gain_low == choice.gain_high == 0
        assert "earns more than a single response" in choice.reason
