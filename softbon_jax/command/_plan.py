"""`softbon plan`: the exact trade-off for a law that is known."""

from __future__ import annotations

import argparse
from statistics import NormalDist

import numpy as np

from softbon_jax import _checks, problem
from softbon_jax.command import _options, _terminal
from softbon_jax.exact.metrics import metrics
from softbon_jax.tuning.calibrate import temperature_for_kl


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    _options.positive("--kl", options.kl)
    _checks.finite_at_least("--n", options.n, 1)
    if options.temperature is not None:
        _checks.temperature(options.temperature, name="--temperature")
    if options.rewards is None:
        if options.probs is not None:
            raise ValueError("--probs needs --rewards")
        rewards = np.array([NormalDist().inv_cdf((k + 0.5) / 64) for k in range(64)])
    else:
        _checks.finite("--rewards", options.rewards)
        rewards = np.array(options.rewards)
    probs = (
        np.full(len(rewards), 1 / len(rewards))
        if options.probs is None
        else np.array(options.probs)
    )
    # The range of rewards of the largest or the smallest numbers is not finite, or is rounded.
    largest = np.abs(rewards).max()
    unit = 1.0 if largest == 0 or 1 / _options.LARGEST < largest < _options.LARGEST else largest
    with np.errstate(over="ignore"):  # a sum that is infinite is refused because it is not 1
        known = problem.from_probs(probs, rewards / unit)
    n = np.array(options.n, float)
    if options.kl is None:
        temperature = np.full(n.shape, (options.temperature or 0.0) / unit)
        reached = np.ones(n.shape, bool)
    else:
        # A budget that hard best-of-n cannot spend is infeasible, and the temperature is then 0.
        answer = temperature_for_kl(known, n, options.kl)
        temperature, reached = np.asarray(answer.value), np.asarray(answer.feasible)
    exact = metrics(known, n, temperature)
    lines = [f"{'n':>8} {'λ':>10} {'reward':>10} {'KL(nats)':>10} {'win rate':>10}"]
    reward = np.asarray(exact.reward) * unit
    reward = np.where(np.abs(reward) < 1e-12 * largest, 0.0, reward)  # rounding
    columns = (n, temperature * unit, reward, exact.kl_soft_base, exact.win_rate, reached)
    for size, t, reward, kl, win, enough in zip(*map(np.asarray, columns), strict=True):
        note = "" if enough else "   (spends less: hard best-of-n)"
        lines.append(f"{size:8g} {t:10.4g} {reward:10.4g} {kl:10.4g} {win:10.4g}{note}")
    _terminal.say("\n".join(lines))
