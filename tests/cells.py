"""Cells of a simulation that share a shape, so that a method compiles once for many tests."""

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb

PROBS = np.array([0.5, 0.3, 0.1, 0.1])
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
TIED = np.array([0.0, 0.6, 0.6, -0.4])
CELLS, OUTCOMES = 12, 5


def problem(rewards=REWARDS, probs=PROBS, dtype=np.float64):
    return sb.from_probs(np.asarray(probs, dtype), np.asarray(rewards, dtype))


def run(seed, cases, trials=20_000, *, dtype=np.float64, **options):
    """`simulate` in cells `(problem, n, temperature)`, always of one shape.

    Outcomes of probability 0 and cells of n = 1 are added to fill the shape.
    """
    cases = list(cases)
    problems, n, temperature = zip(
        *cases + [(problem(), 1, 1.0)] * (CELLS - len(cases)), strict=True
    )
    stacked = [
        np.stack([np.pad(y, (0, OUTCOMES - len(y)), constant_values=fill) for y in rows])
        for rows, fill in zip(zip(*problems, strict=True), (-np.inf, 0.0), strict=True)
    ]
    stacked = sb.Problem(*(jnp.asarray(x, dtype) for x in stacked))
    n, temperature = np.array(n, float), np.array(temperature)
    estimate = sb.simulate(jax.random.key(seed), stacked, n, temperature, trials=trials, **options)
    estimate = jax.tree.map(np.asarray, estimate)
    cells = [jax.tree.map(lambda x, i=i: x[i], estimate) for i in range(len(cases))]
    return [
        cell._replace(probs=cell.probs[: x.num_outcomes], probs_se=cell.probs_se[: x.num_outcomes])
        for cell, x in zip(cells, problems, strict=False)
    ]


def assert_within(estimate, exact, trials=20_000):
    """Every probability within 5 standard errors; an outcome never seen may have 10/trials."""
    probs, errors = np.asarray(estimate.probs), np.asarray(estimate.probs_se)
    slack = np.where(errors < 1e-12, 10 / trials, 1e-12)
    assert np.all(np.abs(probs - exact) <= 5 * errors + slack)
