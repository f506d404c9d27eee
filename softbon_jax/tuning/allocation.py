"""Allocation: n and λ for many prompts at once, under budgets of draws and of KL that they share.

The Lagrangian of the exact laws is climbed by optax (L-BFGS); its multipliers are the prices of a nat
and of a draw.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from softbon_jax import _arguments, _batching, _checks, exact
from softbon_jax.problem import Problem
from softbon_jax.tuning._roots import for_any_n

Array = jax.Array

PENALTY = 10.0
"""Weight of a relative overdraft, squared and halved, against the gold reward in units of its range."""


class Allocation(NamedTuple):
    """What every prompt is served with; arrays `[...]` over the prompts, or scalars.

    Attributes:
      n: `[...]` numbers of candidates, real numbers.
      temperature: `[...]` λ, reward units.
      gold: `[...]` E[gold], in the units of the gold reward.
      proxy: `[...]` E[r], reward units.
      kl_base: `[...]` KL(P_n‖P), nats.
      price_kl: the mean gold reward that one more nat of the budget would earn; 0 if it does not bind.
      price_draws: the same for one more draw a prompt.
      kl_binds: bool, whether the KL budget is spent and more of it would help.
      draws_bind: bool, the same for the draws.
      residual: how far from stationary: the largest of the derivatives of the Lagrangian, in units of
        the gold range, and of the relative overdrafts. Below 1e-6 where the search has converged.
    """

    n: Array
    temperature: Array
    gold: Array
    proxy: Array
    kl_base: Array
    price_kl: Array
    price_draws: Array
    kl_binds: Array
    draws_bind: Array
    residual: Array


def allocate(
    problem: Problem,
    gold: Any = None,
    *,
    n: Any = None,
    draws: Any = None,
    kl: Any = None,
    shared: bool = False,
    rounds: int = 20,
    steps: int = 60,
    nodes: int | None = None,
) -> Allocation:
    """The λ, or n and λ, with which soft best-of-n earns the most gold reward within budgets.

    Maximises the mean over prompts of E_{P_n}[gold] subject to mean KL(P_n‖P) <= `kl` and, where n is
    chosen, mean n <= `draws`.

    Args:
      problem: `[..., K]` reference law and proxy rewards; all leading axes are prompts.
      gold: `[..., K]` the reward that counts, finite, any units. Default: the proxy itself.
      n: `[...]` real >= 1, traced: the candidates of each prompt, and λ alone is chosen.
      draws: scalar > 1, traced: the mean number of candidates; needed where `n` is not given,
        because candidates without end would be the answer else.
      kl: scalar > 0 in nats, traced: the mean KL(P_n‖P). Default: no such budget.
      shared: whether all prompts get the same λ (and n), or each its own.
      rounds: static; how often the prices are corrected at most.
      steps: static; most steps of L-BFGS between two corrections.
      nodes: static number of quadrature points. Default: enough if the arguments are concrete, else
        `law.DEFAULT_NODES`.

    Returns:
      `Allocation`. A budget that no choice can use up, or that is better left, does not bind: its
      price is 0. Every positive budget can be kept.

    Raises:
      ValueError: both or none of `n` and `draws`, a budget that is not positive (draws: above 1) and
        finite, `gold` or `n` that do not fit the prompts, bad values, rounds or steps below 1. Values
        are checked when concrete; traced bad values give NaN.

    Numerics: λ from range/256 to 64 ranges of the rewards (further up for a small `kl`), so that an
    optimum at λ = 0 or inf is met at the end of that range. A local maximum, climbed to from the best
    of a grid of common choices, to about 1e-6 relative in float64 where `residual` says so.
    Source: derived here: the exact law at finite n, its derivatives by automatic differentiation, in an
    augmented Lagrangian. Prices follow from the envelope theorem.
    """
    problem = _arguments.checked_problem(problem)
    dtype = problem.rewards.dtype
    gold = problem.rewards if gold is None else _checks.as_float("gold", gold).astype(dtype)
    _checks.finite("gold", gold)
    if gold.ndim == 0 or gold.shape[-1] != problem.num_outcomes:
        raise ValueError(
            f"gold must have the problem's K = {problem.num_outcomes} outcomes on its last axis,"
            f" got shape {gold.shape}"
        )
    if (n is None) == (draws is None):
        raise ValueError(f"give exactly one of n and draws, got n={n!r} and draws={draws!r}")
    for name, count in (("rounds", rounds), ("steps", steps)):
        if not isinstance(count, (int, np.integer)) or count < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {count!r}")
    budget_kl = _budget("kl", kl, 0.0, dtype)
    budget_draws = _budget("draws", draws, 1.0, dtype)
    log_n = _checks.log_candidates(1.0 if n is None else n, None, dtype)
    shape = _checks.batch_shape(problem=problem.batch_shape, gold=gold.shape[:-1], n=log_n.shape)
    size = math.prod(shape)
    problem = Problem(*(_rows(x, shape) for x in problem))
    gold, log_n = _rows(gold, shape), jnp.broadcast_to(log_n, shape).reshape(-1)
    if draws is not None:
        log_n = jnp.log(2 * budget_draws * (1 if shared else size)) * jnp.ones_like(log_n)
    low, high = _range(problem, budget_kl)
    if shared:
        low, high = jnp.full_like(low, jnp.min(low)), jnp.full_like(high, jnp.max(high))
    plan = exact.quadrature_plan(problem, jnp.exp(low), log_n, nodes)._replace(limits=False)
    if n is None:
        plan = for_any_n(plan, nodes)
    # optax 0.2.8 mixes dtypes, which the strict setting of a caller would refuse.
    with jax.numpy_dtype_promotion("standard"):
        found = _allocate(
            problem, gold, log_n, low, high, budget_kl, budget_draws,
            jnp.asarray(shared), n is None, plan, int(rounds), int(steps),
        )  # fmt: skip
    return Allocation(*(x.reshape(shape) for x in found[:5]), *found[5:])


def _budget(name: str, x: Any, least: float, dtype: Any) -> Array:
    """A scalar budget above `least`; inf where there is none."""
    if x is None:
        return jnp.asarray(jnp.inf, dtype)
    x = _checks.as_float(name, x).astype(dtype)
    if x.ndim:
        raise ValueError(f"{name} must be one number for all prompts, got shape {x.shape}")
    value = _checks.concrete(x)
    if value is not None:
        legal = (value > least) & np.isfinite(value)
        _checks.offending(name, value, ~legal, f"finite and above {least:g}")
    return jnp.where((x > least) & (x < jnp.inf), x, jnp.nan)


def _rows(x: Array, shape: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1])


@jax.jit
def _range(problem: Problem, kl: Array) -> tuple[Array, Array]:
    """The least and the largest log λ of each prompt."""
    rewards, top = exact.on_support(*problem)
    span = top - jnp.min(rewards, axis=-1)
    span = jnp.where(span > 0, span, 1.0)
    # KL <= (Δ/λ)²/8: that λ keeps any budget.
    return jnp.log(span / 256), jnp.log(span * jnp.maximum(64.0, 1 / jnp.sqrt(8 * kl)))


@functools.partial(jax.jit, static_argnames=("chooses_n", "plan", "rounds", "steps"))
def _allocate(
    problem: Problem,
    gold: Array,
    log_n: Array,
    low: Array,
    high: Array,
    kl: Array,
    draws: Array,
    shared: Array,
    chooses_n: bool,
    plan: exact.Plan,
    rounds: int,
    steps: int,
) -> Allocation:
    """For `[I, K]` problems; `log_n` is the largest where n is chosen."""
    gold_range = jnp.mean(jnp.max(gold, axis=-1) - jnp.min(gold, axis=-1))
    scale = jnp.where(gold_range > 0, gold_range, 1.0)

    def served(x: Array) -> tuple[Array, ...]:
        """(n, λ, E gold, E r, KL) of every prompt; x in [0, 1] is where in their ranges the logs are."""
        x = jnp.where(shared, jnp.mean(x, axis=1, keepdims=True), x)
        log_t = low + (high - low) * x[0]
        log_size = log_n * x[1] if chooses_n else log_n

        def one(log_probs: Array, r: Array, gold: Array, log_t: Array, log_n: Array) -> tuple:
            heat = jnp.exp(log_t)
            terms = exact.tilted_terms(Problem(log_probs, r), heat)
            soft = jax.tree.map(lambda x: x[0], exact.soft_terms(terms, heat, log_n[None], plan))
            p = jnp.exp(terms.log_probs)
            change = exact.change(p, soft.probs, soft.eta, soft.log_base_ratio)
            means = (p @ y + change @ (y - p @ y) for y in (gold, terms.rewards))
            return *means, exact.both_ways(p, soft.probs, soft.eta, soft.log_base_ratio)[1]

        elements = 8 * plan.nodes * gold.shape[-1]
        means = _batching.over_batch(one, elements, (*problem, gold), (log_t, log_size))
        return jnp.exp(log_size), jnp.exp(log_t), *means

    def over(served: tuple[Array, ...]) -> Array:
        """By how much each budget is overdrawn, relative to it."""
        return jnp.stack([jnp.mean(served[4]) / kl, jnp.mean(served[0]) / draws]) - 1

    def loss(z: Array, prices: Array) -> Array:
        """The augmented Lagrangian, gold in units of its range, at x = sigmoid(z)."""
        each = served(jax.nn.sigmoid(z))
        due = jnp.maximum(prices + PENALTY * over(each), 0.0)
        return -jnp.mean(each[2]) / scale + jnp.sum(due**2 - prices**2) / (2 * PENALTY)

    solver = optax.lbfgs()
    enough = max(1e-9, 10 * float(jnp.finfo(gold.dtype).eps))

    def descend(z: Array, prices: Array) -> Array:
        value_and_grad = optax.value_and_grad_from_state(functools.partial(loss, prices=prices))

        def step(state: tuple) -> tuple:
            z, memory, _, count = state
            value, slope = value_and_grad(z, state=memory)
            change, memory = solver.update(
                slope, memory, z, value=value, grad=slope, value_fn=loss, prices=prices
            )
            return optax.apply_updates(z, change), memory, jnp.max(jnp.abs(slope)), count + 1

        def goes_on(state: tuple) -> Array:
            return (state[2] > enough) & (state[3] < steps)

        start = (z, solver.init(z), jnp.asarray(jnp.inf, z.dtype), 0)
        return jax.lax.while_loop(goes_on, step, start)[0]

    def correct(state: tuple) -> tuple:
        z, prices, _, count = state
        z = descend(z, prices)
        due = jnp.maximum(prices + PENALTY * over(served(jax.nn.sigmoid(z))), 0.0)
        return z, due, jnp.max(jnp.abs(due - prices)), count + 1

    # The best of a grid of choices in common: of λ itself, and of λ over the range of the rewards.
    shares = jnp.linspace(0.04, 0.96, 24, dtype=gold.dtype)
    sizes = jnp.linspace(0.1, 0.9, 5, dtype=gold.dtype) if chooses_n else shares[11:12]
    common = jnp.min(low) + (jnp.max(high) - jnp.min(low)) * shares[:, None]
    alike = jnp.clip((common - low[None]) / (high - low)[None], 0.01, 0.99)
    heats = jnp.concatenate([alike, jnp.broadcast_to(shares[:, None], alike.shape)])
    grid = jnp.stack(jnp.broadcast_arrays(heats[:, None, :], sizes[None, :, None]), axis=2).reshape(
        -1, 2, low.shape[0]
    )

    def merit(x: Array) -> Array:
        each = served(x)
        return jnp.mean(each[2]) / scale - PENALTY * jnp.sum(jnp.maximum(over(each), 0.0))

    start = jax.scipy.special.logit(grid[jnp.argmax(jax.lax.map(merit, grid))])
    z, prices, *_ = jax.lax.while_loop(
        lambda state: (state[2] > enough) & (state[3] < rounds),
        correct,
        (start, jnp.zeros(2, gold.dtype), jnp.asarray(jnp.inf, gold.dtype), 0),
    )
    each = served(jax.nn.sigmoid(z))
    overdraft = jnp.max(jnp.maximum(over(each), 0.0))
    slopes = jax.grad(loss)(z, prices)
    slopes = jnp.where(shared, jnp.sum(slopes, axis=1, keepdims=True), slopes)
    residual = jnp.maximum(jnp.max(jnp.abs(slopes)), overdraft)
    price_kl, price_draws = scale * prices / jnp.stack([kl, draws])
    sizes, heats, golds, proxies, kls = each
    binds = prices[0] > 0, prices[1] > 0
    return Allocation(sizes, heats, golds, proxies, kls, price_kl, price_draws, *binds, residual)
