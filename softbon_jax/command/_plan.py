"""`softbon plan`: the exact trade-off for a law that is known."""

from __future__ import annotations

import argparse
from statistics import NormalDist

import numpy as np

from softbon_jax import _checks, problem
from softbon_jax.command import _options, _terminal
from softbon_jax.exact.laws import log_soft_bon
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
    law = np.asarray(log_soft_bon(known, n, temperature))
    earned, kl, wins = _measured(np.asarray(known.log_probs), np.asarray(known.rewards), law)
    lines = [f"{'n':>8} {'λ':>10} {'reward':>10} {'KL(nats)':>10} {'win rate':>10}"]
    reward = earned * unit
    reward = np.where(np.abs(reward) < 1e-12 * largest, 0.0, reward)  # rounding
    for *row, enough in zip(n, temperature * unit, reward, kl, wins, reached, strict=True):
        note = "" if enough else "   (spends less: hard best-of-n)"
        lines.append(f"{row[0]:8g} " + " ".join(f"{x:10.4g}" for x in row[1:]) + note)
    _terminal.say("\n".join(lines))


def _measured(
    log_p: np.ndarray, rewards: np.ndarray, log_law: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[r], KL(P_n‖P) and win rate, `[N]` each, of laws `[N, K]`.

    In NumPy, since `metrics` has two more programs to trace and to load, most of which is not shown.
    """
    possible = log_p > -np.inf
    log_p, rewards, log_law = log_p[possible], rewards[possible], log_law[:, possible]
    p, law, step = np.exp(log_p), np.exp(log_law), log_law - log_p
    # P (e^s s - (e^s - 1)), none of which is negative.
    kl = law * np.where(law > 0, step, 0.0) - p * np.expm1(step)
    beaten = np.sign(rewards[:, None] - rewards) @ p  # Pr(lower) - Pr(higher)
    return law @ rewards, kl.sum(-1), law @ (1 + beaten) / 2
