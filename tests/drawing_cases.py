"""Problems and cases that the tests of random and of stopped numbers share, of one shape each."""

import numpy as np

import softbon_jax as sb
from tests import oracles

# Padded with impossible outcomes, so that one program serves all.
PROBLEMS = {
    "plain": ([0.5, 0.3, 0.1, 0.1, 0.0], [0.0, 0.3, 0.6, 1.0, 2.0]),
    "tied": ([0.2, 0.25, 0.1, 0.3, 0.15], [0.0, 0.0, 0.5, 0.5, 1.0]),
    "rare best": ([1 - 1e-9 - 1e-6, 1e-6, 1e-9, 0.0, 0.0], [0.0, 0.5, 1.0, 0.0, 0.0]),
    "rare worst": ([1e-9, 0.6, 0.4 - 1e-9, 0.0, 0.0], [-2.0, 0.5, 1.0, 3.0, 3.0]),
}
TEMPERATURES = (0.0, 0.02, 0.3, 5.0, 100.0, np.inf)


def stacked(names):
    """The problems of these names, one row each."""
    probs, rewards = zip(*(PROBLEMS[name] for name in names), strict=True)
    return sb.from_probs(np.array(probs), np.array(rewards))


def worst_law_error(log_law, exact):
    """The largest relative error of a law where it is positive; it must be 0 elsewhere."""
    exact = np.array([float(x) for x in exact])
    got = np.exp(np.asarray(log_law, np.float64))
    assert not got[exact == 0].any()
    return np.max(np.abs(got[exact > 0] / exact[exact > 0] - 1))


def worst_metrics_error(got, log_probs, rewards, law, temperature):
    """The largest relative error of the metrics of a law, and of which one.

    A gap may cancel between outcomes: it is compared with the total variation times the range.
    """
    exact = oracles.metrics_of_law(log_probs, rewards, law, temperature)
    possible = np.asarray(rewards)[np.isfinite(log_probs)]
    of_gap = float(exact["tv"]) * np.ptp(possible)
    scales = {
        "reward_gap": of_gap,
        "relative_reward_gap": of_gap / abs(float(exact["tilted_reward"])),
    }
    worst = (0.0, "")
    for name in sb.Metrics._fields:
        x, y = float(getattr(got, name)), float(exact[name])
        if (
            x == y or max(abs(x), abs(y)) < 1e-40
        ):  # what is 0 comes out so, or in the oracle as 1e-60
            continue
        worst = max(worst, (abs(x - y) / max(abs(y), scales.get(name, 0.0)), name))
    return worst


def gradient(f, x, step=1e-20):
    """The derivatives of f at each entry of x, mpmath's numbers, by central differences."""
    from mpmath import mpf

    x = np.array([mpf(float(y)) for y in np.atleast_1d(x)], object)
    out = []
    for k in range(x.size):
        up, down = x.copy(), x.copy()
        up[k] += mpf(step)
        down[k] -= mpf(step)
        out.append(float((f(up) - f(down)) / (2 * mpf(step))))
    return np.array(out)
