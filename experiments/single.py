"""What float32 is good for: metrics, gradients, calibration and pools in float32 beside float64.

An accelerator without float64 has nothing else. Inputs are rounded to float32 first, so both compute the
same problem. Errors are relative: to the value, down to the least normal float32, or where it may have
either sign, as rewards, slopes and credits have, to their scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import softbon_jax as sb
from experiments.dataset import assemble, variable

Array = jax.Array
DIMS = ("quantity", "size", "ratio")
GRADIENT_NODES = {np.float32: 640, np.float64: 1152}
"""Of the integrals that are differentiated; with a tenth fewer some are NaN at n = 1e8, not resolved."""
CALIBRATION_NODES = 384
"""Of calibrations: enough for λ down to range/64, so that one program serves all low ends."""
POOL_NODES = 1024
"""Of the integrals over a pool at every ratio, which cost what they need: one program serves all."""
FAINTEST = 1e-19
"""Slopes of less are not compared: their factors underflow, as this is the root of the least float32."""
TINY = float(np.finfo(np.float32).tiny)
"""The least normal number of float32, below which there are no more digits."""
FEW = (1, 4)
"""Problems for what takes long: an uneven law, and one of two possible outcomes."""
POSSIBLE = {2: 64, 4: 2}
"""Of every five problems, those in which so many outcomes are possible, and how many."""
MOST_CALIBRATED = 512
"""Outcomes of a calibration, whose cost grows like the square of that number."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Attributes:
      sizes: numbers of outcomes; problems of fewer are among them (`POSSIBLE`).
      numbers: of candidates.
      ratios: range of the rewards over temperature.
      pool_sizes: of pools, one for each of `sizes`.
      problems: for each size, and pools.
    """

    sizes: tuple[int, ...] = (4096,)
    numbers: tuple[float, ...] = (1.0, 1.5, 10.0, 1e3, 1e6, 1e8)
    ratios: tuple[float, ...] = (0.1, 1.0, 10.0, 50.0)
    pool_sizes: tuple[int, ...] = (1024,)
    problems: int = 8


PAPER = Config()
SMOKE = Config(sizes=(16,), pool_sizes=(16,), numbers=(1.0, 1.5, 10.0, 1e6), problems=5)


def cells(config: Config) -> list[str]:
    """One cell a kind of quantity."""
    return list(COMPUTED)


def compute(config: Config, cell: str) -> xr.Dataset:
    """Worst errors over problems and n, and the share that float32 flags as NaN."""
    function = COMPUTED[cell]
    sizes = config.pool_sizes if cell == "pools" else config.sizes
    found = [_compared(*(function(config, size, x) for x in (np.float32, np.float64)))
             for size in sizes]  # fmt: skip
    names = [f"{cell}: {name}" for name in found[0]]
    errors, flagged = (np.stack([[x[name][k] for x in found] for name in found[0]]) for k in (0, 1))
    return xr.Dataset(
        {
            "error": variable(errors, DIMS, "largest error of float32", "1"),
            "flagged": variable(flagged, DIMS, "share of values that are NaN in float32", "1"),
        },
        coords={
            "quantity": names,
            "size": variable(list(config.sizes), ["size"], "number of outcomes K", "1"),
            "ratio": variable(
                list(config.ratios), ["ratio"], "range of the rewards over temperature", "1"
            ),
        },
    )


def _compared(
    low: dict[str, tuple[Array, Any]], high: dict[str, tuple[Array, Any]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The largest error and the share of NaN by ratio, of values `[problem, ratio, ...]`."""
    result = {}
    for name, (value, _) in low.items():
        exact, scale = (np.asarray(x, float) for x in high[name])
        assert value.dtype == np.float32
        if np.isnan(exact).any():
            raise ValueError(f"{name} is NaN in float64 too: nothing to compare float32 with")
        got = np.asarray(value, float)
        lost = np.isnan(got)
        with np.errstate(all="ignore"):
            error = np.abs(got - exact) / scale
        # Of what is too small for float32 the digits are lost, and 0 is right.
        known = (got == exact) | (np.maximum(np.abs(exact), np.abs(got)) < TINY)
        error = np.where(lost | known, 0.0, error)
        axes = (0, *range(2, error.ndim))
        result[name] = error.max(axes), lost.mean(axes)
    return result


# Problems -----------------------------------------------------------------------------------------


def _problems(config: Config, size: int, dtype: Any) -> tuple[sb.Problem, np.ndarray]:
    """`[problem, 1, 1, K]`: even and uneven laws, rare best outcomes; and temperatures, by ratio.

    In some only a few outcomes are possible, from the worst to the best (`POSSIBLE`).
    """
    random = np.random.default_rng(size)
    logits, rewards = np.empty((2, config.problems, size), np.float32)
    for i in range(config.problems):
        logits[i] = random.normal(size=size) * (0, 1, 3)[i % 3]
        rewards[i] = np.sort(random.uniform(size=size) if i % 2 else random.normal(size=size))
        logits[i, -1] -= 12 * (i % 4 == 3)
        some = np.linspace(0, size - 1, POSSIBLE.get(i % 5, size)).astype(int)
        logits[i, ~np.isin(np.arange(size), some)] = -np.inf
    temperature = np.ptp(rewards, axis=1)[:, None, None] / np.array(config.ratios)[:, None]
    problem = sb.from_logits(
        jnp.asarray(logits[:, None, None], dtype), jnp.asarray(rewards[:, None, None], dtype)
    )
    return problem, temperature.astype(np.float32).astype(dtype)


def _few(config: Config, size: int, dtype: Any) -> tuple[sb.Problem, np.ndarray]:
    """The problems of `FEW`, counted around if there are fewer."""
    few = np.array(FEW) % config.problems
    return jax.tree.map(lambda x: x[few], _problems(config, size, dtype))


def _of_metrics(config: Config, size: int, dtype: Any) -> dict[str, tuple[Array, Any]]:
    problem, temperature = _problems(config, size, dtype)
    found = sb.metrics(problem, jnp.asarray(config.numbers, dtype), temperature)
    reach = jnp.ptp(problem.rewards, axis=-1)
    signed: dict[str, Any] = {
        "reward": reach,
        "tilted_reward": reach,
        "relative_reward_gap": 1.0,
    }
    return {name: (x, jnp.abs(x) + signed.get(name, 0.0)) for name, x in found._asdict().items()}


def _of_gradients(config: Config, size: int, dtype: Any) -> dict[str, tuple[Array, Any]]:
    """Of four metrics, beside the largest slope or the metric itself, a unit of λ or of log n.

    At every other n, which keeps the ends.
    """
    problem, temperature = _few(config, size, dtype)
    log_n = jnp.log(jnp.asarray(config.numbers[1::2], dtype))
    shape = (len(temperature), len(config.ratios), log_n.size)
    full = [
        jnp.broadcast_to(x, (*shape, *x.shape[3:]))
        for x in (problem.log_probs, problem.rewards, jnp.asarray(temperature), log_n)
    ]
    fields = ("reward", "kl_soft_base", "kl_tilted_soft", "tv")

    def chosen(log_probs: Array, rewards: Array, temperature: Array, log_n: Array) -> Array:
        found = sb.metrics(
            sb.Problem(log_probs, rewards),
            temperature=temperature,
            log_n=log_n,
            nodes=GRADIENT_NODES[dtype],
        )
        return jnp.stack([getattr(found, name) for name in fields])

    @jax.jit
    def slopes(*arguments: Array) -> tuple[Array, tuple[Array, ...]]:
        values, back = jax.vjp(chosen, *arguments)
        one = jnp.eye(len(fields), dtype=values.dtype)[:, :, None, None, None]
        return values, jax.vmap(back)(jnp.broadcast_to(one, (len(fields), *values.shape)))

    values, found = slopes(*full)
    reach = jnp.ptp(problem.rewards, axis=-1)
    result = {}
    for name, slope in zip(("log P", "r", "λ", "log n"), found, strict=True):
        unit = full[2] if name in ("r", "λ") else 1.0
        for field, value, x in zip(fields, values, slope, strict=True):
            own = (reach if field == "reward" else value) / unit
            vector = x.ndim == 4
            scale = jnp.abs(x).max(-1) if vector else jnp.abs(x)
            scale = jnp.maximum(scale, own)
            scale = jnp.where(scale > FAINTEST, scale, jnp.inf)
            result[f"{field} by {name}"] = x, scale[..., None] if vector else scale
    return result


def _of_calibration(config: Config, size: int, dtype: Any) -> dict[str, tuple[Array, Any]]:
    """What is spent and earned at the λ for it, beside what a known λ spends and earns."""
    problem, temperature = _few(config, min(size, MOST_CALIBRATED), np.float64)
    n = np.asarray(config.numbers[2:])
    # Every λ at every n, as below, so that one program serves both.
    spent = sb.metrics(problem, n, np.broadcast_to(temperature, (*temperature.shape[:2], n.size)))
    problem = sb.Problem(*(jnp.asarray(x, dtype) for x in problem))
    at = jnp.asarray(n, dtype)
    kl, reward = (
        jnp.asarray(np.asarray(x, np.float32), dtype) for x in (spent.kl_soft_base, spent.reward)
    )
    by_kl = sb.temperature_for_kl(problem, at, kl, nodes=CALIBRATION_NODES)
    by_reward = sb.temperature_for_reward(problem, at, reward, nodes=CALIBRATION_NODES)
    reach = jnp.ptp(problem.rewards, axis=-1)
    achieved = {
        "KL at the λ for it": (sb.metrics(problem, at, by_kl.value).kl_soft_base, kl),
        "reward at the λ for it": (sb.metrics(problem, at, by_reward.value).reward, reach),
    }
    return {name: (x, jnp.broadcast_to(s, x.shape)) for name, (x, s) in achieved.items()}


def _of_pools(config: Config, size: int, dtype: Any) -> dict[str, tuple[Array, Any]]:
    """Estimates of each of `problems` pools, at the same ratios."""
    random = np.random.default_rng(size)
    rewards = np.float32(random.normal(size=(config.problems, size)))
    n = 2 ** np.arange(int(np.log2(size)) + 1)
    temperature = jnp.asarray(np.float32(np.ptp(rewards) / np.array(config.ratios)), dtype)
    given = jnp.asarray(rewards, dtype), n, temperature
    reward = sb.pool_curve(*given, nodes=POOL_NODES).per_prompt
    wins = sb.pool_win_rate(given[0], n[:-1], temperature, nodes=POOL_NODES)
    found = {
        "win rate": wins.per_prompt,
        "KL(P_n‖P)": sb.pool_kl(*given).per_prompt,
        "credits of n = 4": jnp.stack(
            [sb.pool_credits(given[0], 4, x, nodes=POOL_NODES) for x in temperature], axis=1
        ),
    }
    result = {
        name: (x, jnp.broadcast_to(jnp.nanmax(jnp.abs(x), axis=-1, keepdims=True), x.shape))
        for name, x in found.items()
    }
    reach = jnp.ptp(given[0], axis=-1)[:, None, None]
    return {"reward": (reward, jnp.broadcast_to(reach, reward.shape)), **result}


COMPUTED: dict[str, Callable[[Config, int, Any], dict[str, tuple[Array, Any]]]] = {
    "metrics": _of_metrics,
    "gradients": _of_gradients,
    "calibration": _of_calibration,
    "pools": _of_pools,
}


def assemble_cells(config: Config, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The whole result from the pieces of `cells(config)`, in order."""
    return assemble(parts, "quantity", {"title": "errors of float32", "pools": config.pool_sizes})
