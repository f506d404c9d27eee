"""Simulation against NumPy, PyTorch and plain JAX: K = 64 outcomes, n = 1024 candidates.

Literal contestants draw n candidates, select one of them, and count what is selected; what compares
is trials per second. Contestants on counts draw multinomial counts and average the softmax
measures; what compares is the variance of the estimated law times the time. PyTorch takes part if
it is installed; it need not be in the environment of the project: `pip install --target FOLDER torch`
and `PYTHONPATH=FOLDER` before the command will do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import softbon_jax as sb
from benchmarks import _timing

DOUBLE, ROUNDS = True, 7
OUTCOMES, N, TEMPERATURE = 64, 1024, 0.5
OURS, THEIRS = 100_000, 2_000  # trials per call
COUNTS = 20_000

_rng = np.random.default_rng(0)
PROBS = _rng.dirichlet(np.ones(OUTCOMES))
REWARDS = _rng.normal(size=OUTCOMES)
LOGITS = ((REWARDS - REWARDS.max()) / TEMPERATURE).astype(np.float32)
WEIGHTS = np.exp(LOGITS)
CDF = np.cumsum(PROBS)


# Rivals ------------------------------------------------------------------------------------------


def numpy_draws(rng: np.random.Generator, trials: int) -> np.ndarray:
    """Candidates [trials, n] by inversion of the distribution function."""
    drawn = np.searchsorted(CDF, rng.random((trials, N)), side="right")
    return np.minimum(drawn, OUTCOMES - 1)


def numpy_gumbel(trials: int, part: int = 200) -> np.ndarray:
    """Argmax of logits plus Gumbel noise, vectorized, in parts that fit the cache."""
    rng = np.random.default_rng(1)
    total = np.zeros(OUTCOMES, np.int64)
    for _ in range(trials // part):
        drawn = numpy_draws(rng, part)
        noise = -np.log(rng.standard_exponential((part, N), dtype=np.float32))
        best = np.argmax(LOGITS[drawn] + noise, axis=1)
        total += np.bincount(drawn[np.arange(part), best], minlength=OUTCOMES)
    return total / trials


def numpy_inversion(trials: int, part: int = 200) -> np.ndarray:
    """Selection by one uniform against the running sum of the weights."""
    rng = np.random.default_rng(1)
    total = np.zeros(OUTCOMES, np.int64)
    for _ in range(trials // part):
        drawn = numpy_draws(rng, part)
        sums = np.cumsum(WEIGHTS[drawn], axis=1)
        target = rng.random(part, dtype=np.float32) * sums[:, -1]
        at = np.minimum((sums <= target[:, None]).sum(axis=1), N - 1)
        total += np.bincount(drawn[np.arange(part), at], minlength=OUTCOMES)
    return total / trials


def torch_literal() -> dict[str, Callable[[int], Any]]:
    """Multinomial twice, and inversion twice; none if PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    torch: Any = importlib.import_module("torch")
    probs = torch.tensor(PROBS, dtype=torch.float32)
    logits, weights = torch.tensor(LOGITS), torch.tensor(WEIGHTS)
    cdf = torch.tensor(np.append(CDF[:-1], 1), dtype=torch.float32)

    def multinomial(part: int, generator: Any) -> tuple[Any, Any]:
        drawn = torch.multinomial(probs, part * N, True, generator=generator).view(part, N)
        chosen = torch.softmax(logits[drawn], dim=1)
        return drawn, torch.multinomial(chosen, 1, generator=generator)

    def inversion(part: int, generator: Any) -> tuple[Any, Any]:
        uniform = torch.rand((part, N), generator=generator)
        drawn = torch.searchsorted(cdf, uniform, right=True, out_int32=True)
        sums = torch.cumsum(weights[drawn], dim=1)
        target = torch.rand((part, 1), generator=generator) * sums[:, -1:]
        return drawn, torch.searchsorted(sums, target, right=True).clamp(max=N - 1)

    def run(select: Callable[..., Any], part: int, trials: int) -> Any:
        generator = torch.Generator().manual_seed(1)
        total = torch.zeros(OUTCOMES, dtype=torch.int64)
        for _ in range(trials // part):
            drawn, at = select(part, generator)
            total += torch.bincount(drawn.gather(1, at).ravel(), minlength=OUTCOMES)
        return total / trials

    return {
        "PyTorch, multinomial": partial(run, multinomial, 1_000),
        "PyTorch, cumulative sums": partial(run, inversion, 200),
    }


@partial(jax.jit, static_argnames=("trials", "part"))
def jax_literal(key: jax.Array, trials: int, part: int = 500) -> jax.Array:
    """`jax.random.choice` and `jax.random.categorical`, in parts."""

    def step(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        draw_key, select_key = jax.random.split(key)
        probs = jnp.asarray(PROBS, jnp.float32)
        drawn = jax.random.choice(draw_key, OUTCOMES, (part, N), p=probs)
        at = jax.random.categorical(select_key, jnp.asarray(LOGITS)[drawn])
        selected = jnp.take_along_axis(drawn, at[:, None], axis=1)[:, 0]
        return total.at[selected].add(1), None

    keys = jax.random.split(key, trials // part)
    total = jax.lax.scan(step, jnp.zeros(OUTCOMES, jnp.int32), keys)[0]
    return total.astype(jnp.float32) / trials


def numpy_counts(trials: int) -> tuple[np.ndarray, float]:
    """The mean softmax measure, and its variance summed over the outcomes."""
    rng = np.random.default_rng(1)
    weighted = rng.multinomial(N, PROBS, trials) * WEIGHTS.astype(np.float64)
    measures = weighted / weighted.sum(axis=1, keepdims=True)
    return measures.mean(axis=0), float(measures.var(axis=0).sum()) / trials


# The race ----------------------------------------------------------------------------------------


def run(rounds: int, quick: bool) -> _timing.Report:
    """Race all contestants, and find how far each estimated law is from the exact one."""
    single = sb.from_probs(PROBS.astype(np.float32), REWARDS.astype(np.float32))
    double = sb.from_probs(PROBS, REWARDS)

    def ours(problem: sb.Problem, trials: int, method: Any) -> sb.Estimate:
        return sb.simulate(jax.random.key(1), problem, N, TEMPERATURE, trials=trials, method=method)

    literal: dict[str, Callable[[], Any]] = {
        "softbon_jax literal": lambda: ours(single, OURS, "literal"),
        "softbon_jax literal, float64": lambda: ours(double, OURS, "literal"),
        "NumPy, Gumbel": lambda: numpy_gumbel(THEIRS),
        "NumPy, cumulative sums": lambda: numpy_inversion(THEIRS),
        "JAX choice + categorical": lambda: jax_literal(jax.random.key(1), THEIRS),
    }
    rivals = torch_literal()
    literal |= {name: partial(call, THEIRS) for name, call in rivals.items()}
    counts: dict[str, Callable[[], Any]] = {
        "softbon_jax counts": lambda: ours(double, COUNTS, "counts"),
        "softbon_jax counts, float32": lambda: ours(single, COUNTS, "counts"),
        "NumPy multinomial": lambda: numpy_counts(COUNTS),
    }
    times, counts_times = _timing.race(literal, rounds), _timing.race(counts, rounds)

    first = "softbon_jax literal"
    trials = {name: OURS if name.startswith("softbon") else THEIRS for name in literal}
    values = {
        f"{name}, trials/s": _timing.per_second(times[name], trials[name]) for name in literal
    }
    values |= {
        f"{name} / {first}, time a trial": _timing.ratio(times, [name], [first], OURS / THEIRS)
        for name in literal
        if not name.startswith("softbon")
    }
    numpy_variance = numpy_counts(COUNTS)[1]
    for name in list(counts)[:-1]:
        variance = float(np.sum(np.asarray(counts[name]().probs_se, np.float64) ** 2))
        gain = numpy_variance / variance
        values[f"NumPy multinomial / {name}, variance"] = _timing.spread([gain])
        values[f"NumPy multinomial / {name}, variance x time"] = _timing.ratio(
            counts_times, ["NumPy multinomial"], [name], gain
        )

    exact = np.exp(np.asarray(sb.log_soft_bon(double, N, TEMPERATURE)))
    remarks = [] if rivals else ["PyTorch is not installed: its contestants are left out"]
    remarks.append("\nlargest distance of each estimated law from the exact one")
    for name, call in (literal | counts).items():
        result = call()
        if isinstance(result, sb.Estimate):
            result = result.probs
        elif isinstance(result, tuple):
            result = result[0]
        remarks.append(f"{name:34}{np.max(np.abs(np.asarray(result) - exact)):10.1e}")
    title = f"K = {OUTCOMES}, n = {N}"
    return _timing.Report(
        {f"literal, {title}": times, f"counts, {title}": counts_times}, values, remarks
    )
