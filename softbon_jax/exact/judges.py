"""The law of the true outcome when a noisy judge selects: softly, or the best score."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _arguments, _batching, _checks, _memory, _special
from softbon_jax.exact import _rules, _soft
from softbon_jax.exact.laws import log_soft_bon
from softbon_jax.problem import Problem

Array = jax.Array
Kind = Literal["normal", "gumbel", "logistic"]

DEFAULT_NODES = 2048
"""Nodes of `log_noisy_best_of_n` where an argument is traced and none are asked for."""
MOST_NODES = 2**20
SPACING = 0.3
"""Of the nodes in units of the narrowest feature: the trapezoid rule then has about 14 digits."""
REACH = 40.0
"""Log of the density that is left out at both ends, in nats."""


class Noise(NamedTuple):
    """What a judge adds to a reward: `values[..., j]` with probability `weights[..., j]`.

    Attributes:
      values: `[..., J]`, reward units.
      weights: `[..., J]` probabilities, which sum to 1.
    """

    values: Array
    weights: Array


def normal_noise(scale: Any, *, nodes: int = 128, dtype: Any = None) -> Noise:
    """Normal noise as equally spaced values with weights, for `log_noisy_soft_bon`.

    Args:
      scale: `[...]` standard deviation σ, in reward units, positive, traced. `[K]` gives each outcome a
        noise of its own.
      nodes: static number of values, from -10 σ to 10 σ.
      dtype: static; float dtype of the result. Default: that of `scale`.

    Returns:
      `Noise` with values `[..., nodes]` and weights `[nodes]`, in the order of the arguments of
      `log_noisy_soft_bon`.

    Raises:
      TypeError: `scale` is not real, or `dtype` is not a floating dtype.
      ValueError: a scale that is not positive and finite (NaN where traced), or fewer than 2 nodes.

    Numerics: what is averaged over the noise varies on the scale of the temperature λ, so that the
    trapezoid rule has an error of about e^{-π² λ (nodes - 1)/20σ}: 128 nodes give 13 digits for
    λ >= σ/2, and the number that is needed grows like σ/λ. The tails that are left out are 1e-23.
    Source: derived here: the selection probabilities are analytic in the noise in a strip of half width
    πλ/2, like a logistic function of it over λ.

    Example:
      >>> noise = sb.normal_noise(0.5, nodes=5)
      >>> noise.values.tolist(), np.round(np.float64(noise.weights), 4).tolist()
      ([-5.0, -2.5, 0.0, 2.5, 5.0], [0.0, 0.0, 1.0, 0.0, 0.0])
    """
    nodes = _checks.positive_integer("nodes", nodes, least=2)
    dtype = None if dtype is None else _checks.float_dtype(dtype)
    scale = _checks.finite_positive("scale", scale, dtype)
    _memory.check(8 * nodes * (6 + 2 * scale.size))
    unit = np.linspace(-10.0, 10.0, nodes)
    weights = np.exp(-(unit**2) / 2)
    return Noise(
        _times(scale, np.asarray(unit, scale.dtype)),
        jnp.asarray(weights / weights.sum(), scale.dtype),
    )


@jax.jit
def _times(scale: Array, unit: Array) -> Array:
    return jnp.tensordot(scale, unit, 0)


def log_noisy_soft_bon(
    problem: Problem,
    n: Any = None,
    temperature: Any = None,
    noise: Any = None,
    weights: Any = None,
    *,
    log_n: Any = None,
    nodes: int | None = None,
) -> Array:
    """The exact law of the outcome that soft best-of-n returns when the judge's scores are noisy.

    Every draw is scored r(x) + ε, with ε = noise[j] with probability weights[j], independently, and soft
    best-of-n selects by the scores: the law of `log_soft_bon` on the pairs of outcome and noise, summed
    over the noise.

    Args:
      problem: `[..., K]` reference law and true rewards, traced.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      temperature: `[...]` λ of the selection by scores, reward units, traced; 0 gives hard best-of-n of
        the scores, with ties as there, inf gives P.
      noise: `[J]` what the judge adds, reward units, traced; with two axes or more `[..., K, J]` or
        `[..., 1, J]`, for noise that depends on the outcome or on the problem. A mean that is not 0 is a
        bias.
      weights: their probabilities, `[J]` or `[..., K, J]` or `[..., 1, J]`, traced; they sum to 1.
      log_n: `[...]` log n in nats instead of n, traced.
      nodes: static number of quadrature nodes, as in `log_soft_bon`.

    Returns:
      `[..., K]` log-probabilities in nats of the true outcome, -inf for outcomes of probability 0. The
      true reward, and any gold reward, are means under it; `law_metrics` gives the divergences.

    Raises:
      TypeError: an argument is missing or not real.
      ValueError: noise that is not finite, weights that are no law, and as `log_soft_bon`. Values are
        checked when concrete; traced bad values give NaN.

    Numerics: as `log_soft_bon` with K J outcomes. Noise with a density is that of its nodes:
    `normal_noise` says how many λ needs; for λ = 0 see `log_noisy_best_of_n`.
    Source: derived here: a draw and its score are one outcome of a larger law.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> for scale in (0.01, 1.0):
      ...     law = sb.log_noisy_soft_bon(problem, 16, 0.3, *sb.normal_noise(scale))
      ...     print(np.round(np.exp(np.float64(law)), 3).tolist())
      [0.132, 0.208, 0.173, 0.488]
      [0.294, 0.292, 0.153, 0.261]
    """
    problem, temperature, log_n = _arguments.broadcasting_arguments(problem, n, temperature, log_n)
    dtype = problem.rewards.dtype
    noise = _checks.finite("noise", noise, dtype)
    weights = _arguments.checked_weights("weights", weights, dtype)
    _checks.outcomes("noise", noise, "value")
    pairs = {"noise": _with_outcomes(noise), "weights": _with_outcomes(weights)}
    shapes = {"problem": (*problem.rewards.shape, 1)} | {x: y.shape for x, y in pairs.items()}
    shape = _checks.batch_shape(**shapes)
    if shape[-2] != problem.num_outcomes:
        raise ValueError(
            f"noise and weights must have K = {problem.num_outcomes} outcomes, or 1, on their last axis"
            f" but one, got shapes {noise.shape} and {weights.shape}"
        )
    _checks.batch_shape(problem=shape[:-2], temperature=temperature.shape, n=log_n.shape)
    joint = _joint(problem, *pairs.values())
    return _over_noise(
        log_soft_bon(joint, temperature=temperature, log_n=log_n, nodes=nodes),
        outcomes=problem.num_outcomes,
    )


def _with_outcomes(x: Array) -> Array:
    return x[None] if x.ndim == 1 else x


@jax.jit
def _joint(problem: Problem, noise: Array, weights: Array) -> Problem:
    """Pairs of outcome and noise as outcomes, `[..., K J]`."""
    parts = *(x[..., None] for x in problem), _special.safe_log(weights), noise
    shape = jnp.broadcast_shapes(*(x.shape for x in parts))
    _memory.check(4 * math.prod(shape) * problem.rewards.dtype.itemsize)
    log_probs, rewards, log_weights, noise = (jnp.broadcast_to(x, shape) for x in parts)
    joint = (x.reshape(*shape[:-2], -1) for x in (log_probs + log_weights, rewards + noise))
    return Problem(*joint)


@functools.partial(jax.jit, static_argnames="outcomes")
def _over_noise(log_law: Array, *, outcomes: int) -> Array:
    return jax.nn.logsumexp(log_law.reshape(*log_law.shape[:-1], outcomes, -1), axis=-1)


# Hard selection in noise with a density ----------------------------------------------------------


def log_noisy_best_of_n(
    problem: Problem,
    n: Any = None,
    scale: Any = None,
    *,
    noise: Kind = "normal",
    log_n: Any = None,
    nodes: int | None = None,
) -> Array:
    """The exact law of the outcome of hard best-of-n when the judge's scores have continuous noise.

    Every draw is scored r(x) + σ ε and the highest score wins. With g and G the density and distribution
    function of ε and F(s) = Σ P(x) G((s - r(x))/σ(x)),

      P_n(x) = P(x) ∫ n F(s)^{n-1} g((s - r(x))/σ(x)) ds/σ(x).

    With standard Gumbel noise of scale λ that is soft best-of-n at temperature λ.

    Args:
      problem: `[..., K]` reference law and true rewards, traced.
      n: `[...]` number of candidates, any real number >= 1, traced; left out when `log_n` is given.
      scale: σ, in reward units, positive, traced; broadcasts against the rewards `[..., K]`, so that one
        number serves all outcomes and `[..., 1]` all outcomes of a problem.
      noise: static; the law of ε: "normal", "gumbel" or "logistic", in its standard form.
      log_n: `[...]` log n in nats instead of n, traced.
      nodes: static number of nodes of the trapezoid rule. Default: enough if the arguments are concrete,
        in powers of 2, else 2048.

    Returns:
      `[..., K]` log-probabilities in nats of the true outcome, -inf for outcomes of probability 0. NaN
      where `nodes` is too small: it grows like (range of the rewards)/(least scale).

    Raises:
      TypeError: an argument is missing or not real.
      ValueError: n < 1, a scale that is not positive and finite, `noise` of another name, NaN or
        infinite rewards, a problem that is not a law, shapes that do not broadcast, or a range of more
        than 1e4 scales. Values are checked when concrete; traced bad values give NaN.

    Numerics: relative error of the probabilities about 1e-12 in float64 and 1e-4 in float32. Cost
    O(K · nodes). Differentiable in rewards, log-probabilities, n and scale.
    Source: derived here, the density of a maximum; for Gumbel noise the Gumbel-max trick.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> for noise in ("normal", "gumbel"):
      ...     law = sb.log_noisy_best_of_n(problem, 16, 0.3, noise=noise)
      ...     print(np.round(np.exp(np.float64(law)), 3).tolist())
      [0.026, 0.123, 0.186, 0.666]
      [0.132, 0.208, 0.173, 0.488]
    """
    _checks.one_of("noise", noise, get_args(Kind))
    problem, _, log_n = _arguments.broadcasting_arguments(problem, n, 0.0, log_n)
    scale = _checks.finite_positive("scale", scale, problem.rewards.dtype)
    shape = _checks.batch_shape(problem=problem.rewards.shape, scale=scale.shape)
    if shape[-1] != problem.num_outcomes:
        raise ValueError(
            f"scale must have K = {problem.num_outcomes} outcomes, or 1, on its last axis, got shape"
            f" {scale.shape}"
        )
    _checks.batch_shape(problem=shape[:-1], n=log_n.shape)
    if nodes is not None:
        nodes = _checks.positive_integer("nodes", nodes, least=2)
    else:
        nodes = _enough_nodes(problem, scale, log_n, noise)
    return _log_noisy_hard(problem, scale, log_n, noise=noise, nodes=nodes)


def _enough_nodes(problem: Problem, scale: Array, log_n: Array, noise: Kind) -> int:
    """As many as resolve the arguments, a power of 2, if all are concrete."""
    values = [_checks.concrete(x) for x in (*problem, scale, log_n)]
    if any(x is None for x in values):
        return DEFAULT_NODES
    log_probs, rewards, scales, log_ns = (np.asarray(x, np.float64) for x in values)
    rewards = np.where(log_probs > -np.inf, rewards, np.nan)
    spans = np.nanmax(rewards, -1) - np.nanmin(rewards, -1)
    scales = np.broadcast_to(scales, np.broadcast_shapes(scales.shape, rewards.shape))
    below, above = _reach(noise, log_ns.max(initial=0.0), np)
    length = spans.max() / scales.min() + (below + above) * (scales.max(-1) / scales.min(-1)).max()
    needed = length / _spacing(noise, log_ns.max(initial=0.0), np)
    if not needed < MOST_NODES:
        raise ValueError(
            f"scale must not be below 1e-4 of the range of the rewards, {spans.max():g}, or of another"
            f" scale, got {scales.min():g}"
        )
    return max(512, 2 ** math.ceil(math.log2(needed + 1)))


def _reach(noise: Kind, log_n: Any, xp: Any) -> tuple[Any, Any]:
    """How far the noise matters below and above, in scales, for the largest of n."""
    if noise == "gumbel":
        return math.log(REACH), REACH + log_n
    if noise == "logistic":
        return REACH, REACH + log_n
    return math.sqrt(2 * REACH), xp.sqrt(2 * (REACH + log_n))


def _spacing(noise: Kind, log_n: Any, xp: Any) -> Any:
    """Of the nodes, in scales: F^n rises within the inverse slope of log(1 - G) where n(1 - G) = 1."""
    return SPACING / xp.sqrt(1 + 2 * log_n) if noise == "normal" else SPACING


@functools.partial(jax.jit, static_argnames=("noise", "nodes"))
def _log_noisy_hard(
    problem: Problem, scale: Array, log_n: Array, *, noise: Kind, nodes: int
) -> Array:
    scale = jnp.broadcast_to(
        scale, (*scale.shape[:-1], problem.num_outcomes) if scale.ndim else problem.num_outcomes
    )

    def one(log_probs: Array, rewards: Array, scale: Array, log_n: Array) -> Array:
        log_probs = _soft.normalized(log_probs)
        support = log_probs > -jnp.inf
        rewards, top = _soft.on_support(log_probs, rewards)
        widest, narrowest = (
            jax.lax.stop_gradient(f(jnp.where(support, scale, scale[jnp.argmax(log_probs)])))
            for f in (jnp.max, jnp.min)
        )
        below, above = _reach(noise, jnp.maximum(log_n, 0.0), jnp)
        ends = jax.lax.stop_gradient(
            jnp.stack([jnp.min(rewards) - below * widest, top + above * widest])
        )
        step = (ends[1] - ends[0]) / (nodes - 1)
        s = ends[0] + step * jnp.arange(nodes, dtype=rewards.dtype)
        z = (s[:, None] - rewards[None]) / scale[None]
        log_density, log_below, log_above = _log_noise(noise, z)
        lost = jnp.exp(log_above) @ jnp.exp(log_probs)
        mostly = lost < 0.5
        log_f = jax.nn.logsumexp(log_below + log_probs[None], axis=1)
        rate = jnp.where(mostly, -jnp.log1p(-jnp.where(mostly, lost, 0.0)), -log_f)
        fall = -jnp.expm1(-log_n) * _rules.finite_n(log_n) * rate  # -(n-1) log F
        log_terms = log_n - fall[:, None] + log_density + jnp.log(step / scale)[None]
        log_law = log_probs + jax.nn.logsumexp(log_terms, axis=0)
        mass = jax.lax.stop_gradient(jnp.sum(jnp.exp(log_law)))
        resolved = step <= _spacing(noise, jnp.maximum(log_n, 0.0), jnp) * narrowest * (1 + 1e-3)
        resolved &= jnp.abs(mass - 1) < 1e6 * jnp.finfo(mass.dtype).eps
        return log_law + jnp.where(resolved & (log_n >= 0), 0.0, jnp.nan)

    elements = problem.num_outcomes * nodes
    return _batching.over_batch(
        one, (*problem, scale), (log_n,), elements=4 * elements, least=elements // 2
    )


def _log_noise(noise: Kind, z: Array) -> tuple[Array, Array, Array]:
    """Logarithms of the density of ε at z, of Pr(ε <= z) and of Pr(ε > z)."""
    if noise == "gumbel":
        y = jnp.exp(jnp.minimum(-z, 60.0))
        return -z - y, -y, _special.log1mexp(y)
    if noise == "logistic":
        below, above = -jax.nn.softplus(-z), -jax.nn.softplus(z)
        return below + above, below, above
    density = -(z**2) / 2 - math.log(2 * math.pi) / 2
    return density, jax.scipy.special.log_ndtr(z), jax.scipy.special.log_ndtr(-z)
