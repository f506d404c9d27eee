"""Continuous laws of the reward, as nodes and weights that stand for an alphabet."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks
from softbon_jax.problem import Problem

Array = jax.Array
Function = Callable[[Any], Any]

MOST_NODES = 2**13
"""More are refused."""
TOLERANCE = 1e-12
"""Relative change of every test integral from one spacing of the nodes to half of it."""
FAINTEST = -200.0
"""Log of the density, per node, below which nodes are left out; n and a tilt may lift the others."""
FAR = -80.0
"""The same of the density times the distance, for nodes a thousand scales away."""
BEYOND = 1e-6
"""Expected number of candidates in a tail from which on it is not resolved."""
EDGE = 6.5
"""Of the variable of a double-exponential map; beyond it a bounded end is reached to every digit."""


@jax.tree_util.register_pytree_node_class
class Continuous(Problem):
    """A continuous law of the reward: a `Problem` of its quadrature nodes, and what nodes do not know.

    `metrics` and `sweep` use the distribution function at the nodes for win rates and for temperature 0.
    Every other function takes the nodes as outcomes: means and divergences are as accurate, but hard
    selection and win rates there depend on the spacing of the nodes.

    Attributes:
      log_probs: `[K]` log-weights of the nodes, nats.
      rewards: `[K]` the nodes, increasing, reward units.
      log_below: `[K]` log F at the nodes, nats.
      log_above: `[K]` log(1 - F).
      top: scalar, the upper end of the support, inf where there is none.
      least_temperature: scalar, the smallest temperature above 0 that the nodes resolve.
      most_n: scalar, the largest number of candidates for which they do.
    """

    log_below: Array
    log_above: Array
    top: Array
    least_temperature: Array
    most_n: Array

    def __new__(
        cls,
        log_probs: Array,
        rewards: Array,
        log_below: Array,
        log_above: Array,
        top: Array,
        least_temperature: Array,
        most_n: Array,
    ) -> Continuous:
        """A problem with five more attributes."""
        new = super().__new__(cls, log_probs, rewards)
        new.log_below, new.log_above = log_below, log_above
        new.top, new.least_temperature, new.most_n = top, least_temperature, most_n
        return new

    @classmethod
    def _make(cls, iterable: Any) -> Any:  # type: ignore[override]  # of `_replace`: other rewards have another law
        return Problem(*iterable)

    def tree_flatten(self) -> tuple[tuple[Array, ...], None]:
        """For JAX."""
        return (
            *self,
            self.log_below,
            self.log_above,
            self.top,
            self.least_temperature,
            self.most_n,
        ), None

    @classmethod
    def tree_unflatten(cls, _: None, children: Any) -> Continuous:
        """For JAX."""
        return cls(*children)


def from_distribution(
    ppf: Function | None = None,
    logpdf: Function | None = None,
    support: tuple[float, float] | None = None,
    dtype: Any = None,
    *,
    temperature: float | None = None,
    n: float = 1024.0,
) -> Continuous:
    """A continuous law of the reward as a problem that `metrics` and `sweep` accept.

    The nodes are those of the trapezoid rule after a change of variable, refined until the mass, the
    mean distance and E[exp(-e^{(r - q)/λ})], at quantiles q far into both tails, change by less than
    1e-12 of what matters with n candidates.

    Args:
      ppf: the quantile function, of a NumPy array in (0, 1), or
      logpdf: the logarithm of the density, nats, of a NumPy array of rewards; one of the two. Analytic
        inside the support, and normalized.
      support: (low, high) of a `logpdf`; either may be infinite. Default: the whole line.
      dtype: static; float dtype of the result. Default: the default float.
      temperature: static; the smallest λ > 0 that the nodes are to resolve, reward units. Default:
        a tenth of the distance between the quartiles, or where the tail is too heavy for that twice it,
        four times, and so on; the result says so.
      n: static; the largest number of candidates that they are to resolve at λ > 0.

    Returns:
      A `Continuous`: a `Problem` of shape `[K]`, K from about 100 to 2^13.

    Raises:
      TypeError: `ppf` or `logpdf` is not a function of arrays, both or neither is given, or `dtype` is
        not a floating dtype.
      ValueError: a density that does not integrate to 1, values that are NaN or of another shape, a
        support that is empty, a temperature that is not positive, or what 2^13 nodes do not resolve.

    Numerics: all of it runs on the host in float64; nothing is traced. Metrics come out to about 1e-11
    for temperatures from `least_temperature` on, and at 0 by the distribution function. With `ppf` the
    1e-15 of the largest rewards are left out, which a number of candidates of 1e3 and more, a tilt far
    into the tail and a mean of a heavy tail notice: `logpdf` keeps the tail.
    Source: derived here; the maps are those of Takahasi and Mori (1974).

    Example:
      >>> normal = sb.from_distribution(logpdf=lambda r: -(r**2) / 2 - np.log(2 * np.pi) / 2)
      >>> found = sb.metrics(normal, 8, 1.0)
      >>> round(float(found.reward), 4), round(float(found.kl_soft_base), 4)
      (0.7677, 0.2994)
    """
    dtype = _checks.float_dtype(dtype)
    if (ppf is None) == (logpdf is None):
        raise TypeError("ppf or logpdf must be given, and not both")
    for name, f in (("ppf", ppf), ("logpdf", logpdf)):
        if f is not None and not callable(f):
            raise TypeError(f"{name} must be a function, got {_checks.shown(f)}")
    if temperature is not None:
        temperature = _checks.number("temperature", temperature)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
    most = _checks.number("n", n)
    if not 1 <= most < math.inf:
        raise ValueError(f"n must be finite and at least 1, got {n}")
    grids: list[_Grid]
    if logpdf is not None:
        first = _Density(logpdf, *_ends(support))
        grids = [first, *first.wider()]
    else:
        if support is not None:
            raise TypeError("support belongs to logpdf, and ppf is given")
        assert ppf is not None
        grids = [_Quantiles(ppf)]
    nodes = _best(grids, temperature, most)
    below, above = nodes.grid.log_cdf(nodes)
    total = np.logaddexp.reduce(nodes.log_weights)
    if not abs(total) < 1e-8:
        raise ValueError(
            f"logpdf must be the log of a density that integrates to 1, got {math.exp(total):.9g}"
        )
    ends = nodes.grid.top, nodes.temperature, most
    arrays = (nodes.log_weights - total, nodes.rewards, below, above, *ends)
    return Continuous(*(jnp.asarray(np.asarray(x, np.float64), dtype) for x in arrays))


def _ends(support: Any) -> tuple[float, float]:
    if support is None:
        return -math.inf, math.inf
    try:
        low, high = (float(x) for x in support)
    except (TypeError, ValueError):
        raise TypeError(
            f"support must be a pair of numbers, got {_checks.shown(support)}"
        ) from None
    if not low < high:
        raise ValueError(f"support must be (low, high) with low < high, got ({low}, {high})")
    return low, high


def _evaluated(name: str, f: Function, x: np.ndarray) -> np.ndarray:
    """The values of a function of the user at the nodes."""
    with np.errstate(all="ignore"):
        values = np.asarray(f(x))
    if values.shape != x.shape:
        raise ValueError(
            f"{name} must take arrays of any shape, got shape {values.shape} for {x.shape}"
        )
    values = values.astype(np.float64)
    _checks.offending(f"{name} at {x.shape[0]} nodes", values, np.isnan(values), "not NaN")
    return values


# Nodes --------------------------------------------------------------------------------------------


class _Nodes:
    """Nodes of one spacing in x: rewards and log-weights, increasing."""

    def __init__(self, grid: _Grid, x: np.ndarray, spacing: float):
        self.grid, self.spacing = grid, spacing
        rewards, log_density = grid.at(x)
        with np.errstate(all="ignore"):
            away = np.abs(rewards - grid.center) / grid.scale
            kept = (log_density > FAINTEST) & ((away < 1e3) | (log_density + np.log(away) > FAR))
        kept[1:] &= rewards[1:] > rewards[:-1]
        self.x, self.rewards = x[kept], rewards[kept]
        self.log_weights = log_density[kept] + math.log(spacing)
        self.temperature = math.nan

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Integrals over the law of the rows of `values`, which are taken at the nodes."""
        return values @ np.exp(self.log_weights)


class _Grid:
    """A change of variable from x on the line to rewards."""

    top: float
    reach: tuple[float, float]
    center = 0.0
    scale = math.inf

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rewards, and the log-density in x."""
        raise NotImplementedError

    def log_cdf(self, nodes: _Nodes) -> tuple[np.ndarray, np.ndarray]:
        """Log F and log(1 - F) at the nodes."""
        raise NotImplementedError

    def nodes(self, spacing: float) -> _Nodes:
        low, high = self.reach
        first, last = math.ceil(low / spacing), math.floor(high / spacing)
        return _Nodes(self, spacing * np.arange(first, last + 1), spacing)


def _best(grids: Sequence[_Grid], temperature: float | None, n: float) -> _Nodes:
    """The nodes of the change of variable that needs the fewest."""
    tried = [temperature] if temperature is not None else _temperatures(grids[0])
    for at in tried:
        best, most = None, MOST_NODES
        for grid in grids:
            found = _refined(grid, at, n, most)
            if found is not None:
                best, most = found, found.x.size - 1
        if best is not None:
            best.temperature = at
            return best
    raise ValueError(
        f"the law is not resolved by {MOST_NODES:,} nodes at temperature {tried[-1]:g} and n = {n:g}:"
        " it has narrow parts, a heavy tail, or a density that is not smooth"
    )


def _temperatures(grid: _Grid) -> list[float]:
    """A tenth of the distance between the quartiles, and a few doublings of it."""
    fine = grid.nodes(2**-8)
    share = np.cumsum(np.exp(fine.log_weights))
    low, high = (fine.rewards[_first(share, q * share[-1])] for q in (0.25, 0.75))
    if not 0 < high - low < math.inf:
        raise ValueError("temperature must be given where the quartiles of the law agree")
    return [(high - low) / 10 * 2**k for k in range(6)]


def _refined(grid: _Grid, temperature: float, n: float, most: int) -> _Nodes | None:
    """The coarsest nodes that agree with those of twice their number; None if they are too many."""
    spacing, coarse = 0.5, grid.nodes(0.5)
    while coarse.x.size <= most and spacing > 2.0**-16:
        spacing /= 2
        fine = grid.nodes(spacing)
        if coarse.x.size > 8 and _agree(coarse, fine, temperature, n):
            return coarse
        coarse = fine
    return None


def _first(sorted_values: np.ndarray, value: float) -> int:
    return min(int(np.searchsorted(sorted_values, value)), sorted_values.size - 1)


def _agree(coarse: _Nodes, fine: _Nodes, temperature: float, n: float) -> bool:
    """Whether the test integrals agree, each as far as it matters.

    φ(e^{-q/λ}) counts n times, and only if some candidate is beyond q: in the upper tail with n times
    the probability of that, in the lower tail with that of a pair. The other candidates bring φ^{n-2}.
    What matters for some number of candidates up to n, matters.
    """
    weights = np.exp(fine.log_weights)
    below, above = np.cumsum(weights), np.cumsum(weights[::-1])[::-1]
    rare = np.geomspace(0.5, BEYOND, 12)
    upper = [_first(-above, -level / n) for level in rare] + [_first(-above, -x) for x in rare[:4]]
    lower = [_first(below, level) for level in rare]
    at = np.unique(np.array(upper + lower))
    centers = fine.rewards[at]
    sums = []
    for nodes in (coarse, fine):
        lead = (nodes.rewards[None] - centers[:, None]) / temperature
        spread = np.hypot(1.0, (nodes.rewards - centers[centers.size // 2]) / temperature)
        lost = -np.expm1(-np.exp(np.minimum(lead, 30.0)))
        values = [lost, np.ones((1, nodes.x.size)), spread[None]]
        sums.append(nodes.mean(np.concatenate(values)))
    sizes = np.append(2.0 ** np.arange(math.ceil(math.log2(n))), n)[:, None]
    others = np.maximum(sizes - 2, 0.0) * np.log1p(-np.minimum(sums[1][:-2], 1.0 - 1e-16))
    matters = sizes * np.minimum(1.0, sizes * above[at]) * np.minimum(1.0, 2 * below[at])
    matters = np.max(matters * np.exp(others), axis=0)
    change = np.abs(sums[0] - sums[1]) * np.append(matters, [1.0, 1 / sums[1][-1]])
    rounding = 100 * np.finfo(float).eps * np.abs(centers).max() / temperature
    return bool((change <= TOLERANCE + rounding).all())


# Densities ----------------------------------------------------------------------------------------


class _Density(_Grid):
    """By the density: sinh towards infinite ends, exp and tanh-sinh towards finite ones."""

    def __init__(self, logpdf: Function, low: float, high: float):
        self.logpdf, self.low, self.top = logpdf, low, high
        self.reach = (
            -690.0 if math.isinf(low) else -EDGE,
            690.0 if math.isinf(high) else EDGE,
        )
        self.center, self.scale = self._located()
        self._narrowed()

    def _narrowed(self) -> None:
        """Leaves out of the reach what no node can come from."""
        found = self.nodes(2.0**-6).x
        if found.size > 1:
            low, high = self.reach
            self.reach = max(low, found[0] - 0.1), min(high, found[-1] + 0.1)

    def wider(self) -> Iterator[_Density]:
        """Of larger scales, on which a tail has evenly spaced nodes for longer."""
        for factor in (16.0, 256.0) if math.inf in (-self.low, self.top) else ():
            other = copy.copy(self)
            other.scale *= factor
            other._narrowed()
            yield other

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(over="ignore", invalid="ignore"):
            rewards, log_slope = self._mapped(x)
        inside = np.isfinite(rewards) & (rewards > self.low) & (rewards < self.top)
        density = np.full(x.shape, -np.inf)
        density[inside] = _evaluated("logpdf", self.logpdf, rewards[inside]) + log_slope[inside]
        if np.isposinf(density).any():
            raise ValueError(
                f"logpdf must not be inf, got inf at {rewards[np.isposinf(density)][0]:g}"
            )
        return np.where(inside, rewards, np.nan), density

    def _mapped(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rewards that rise with x, and the log of their derivative."""
        low, high, log_scale = self.low, self.top, math.log(self.scale)
        if math.isinf(low) and math.isinf(high):
            return self.center + self.scale * np.sinh(x), log_scale + _log_cosh(x)
        if math.isinf(high):
            step = x - np.exp(-x)
            return low + np.exp(log_scale + step), log_scale + step + np.logaddexp(0, -x)
        if math.isinf(low):
            step = -x - np.exp(x)
            return high - np.exp(log_scale + step), log_scale + step + np.logaddexp(0, x)
        y = math.pi * np.sinh(x)  # the share of the support below is 1/(1 + e^-y)
        smaller = (high - low) * np.exp(-np.logaddexp(0, np.abs(y)))
        slope = math.log(math.pi * (high - low)) + _log_cosh(x)
        slope -= np.abs(y) + 2 * np.log1p(np.exp(-np.abs(y)))
        return np.where(y < 0, low + smaller, high - smaller), slope

    def _located(self) -> tuple[float, float]:
        """A center and a scale of the density; of its logarithm where the support has one end."""
        powers = 10.0 ** np.arange(-12, 12.25, 0.25)
        finite = [x for x in (self.low, self.top) if math.isfinite(x)]
        if len(finite) == 2:
            return 0.0, 1.0
        if finite:
            grid = finite[0] + (powers if math.isinf(self.top) else -powers)
            mass = _evaluated("logpdf", self.logpdf, grid) + np.log(powers)
            return finite[0], float(powers[np.argmax(mass)])
        grid = np.concatenate([-powers[::-1], [0.0], powers])
        for _ in range(60):  # towards the largest density
            values = _evaluated("logpdf", self.logpdf, grid)
            best = int(np.argmax(values))
            center, height = float(grid[best]), float(values[best])
            grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)], 33)
            if not (np.diff(grid) > 0).all():
                break
        if not math.isfinite(height):
            raise ValueError(f"logpdf must be finite somewhere in its support, got {height}")
        far = [
            powers[
                np.argmax(_evaluated("logpdf", self.logpdf, center + sign * powers) < height - 2)
            ]
            for sign in (-1, 1)
        ]
        return center, float(min(far))

    def log_cdf(self, nodes: _Nodes) -> tuple[np.ndarray, np.ndarray]:
        """By Gauss-Legendre quadrature between neighboring nodes, from both ends."""
        points, weights = np.polynomial.legendre.leggauss(12)
        tail = nodes.spacing * np.arange(1, 25)
        x = np.concatenate([nodes.x[0] - tail[::-1], nodes.x, nodes.x[-1] + tail])
        middles, halves = (x[1:] + x[:-1]) / 2, np.diff(x) / 2
        _, log_density = self.at((middles[:, None] + halves[:, None] * points).ravel())
        log_pieces = log_density.reshape(-1, points.size) + np.log(weights * halves[:, None])
        pieces = np.logaddexp.reduce(log_pieces, axis=1)
        below = np.logaddexp.accumulate(pieces)[tail.size - 1 : -tail.size]
        above = np.logaddexp.accumulate(pieces[::-1])[::-1][tail.size : -tail.size + 1]
        return np.minimum(below, 0.0), np.minimum(above, 0.0)


def _log_cosh(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, -x) - math.log(2)


class _Quantiles(_Grid):
    """By the quantile function: F = 1/(1 + e^{-π sinh x})."""

    def __init__(self, ppf: Function):
        self.ppf, self.reach = ppf, (-5.0, math.asinh(34.5 / math.pi))
        ends = np.array([0.25, 0.75])
        _evaluated("ppf", ppf, ends)
        last = float(_evaluated("ppf", ppf, np.array([1.0 - 2.0**-53, 1.0]))[1])
        self.top = last

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = math.pi * np.sinh(x)
        level = 1 / (1 + np.exp(-y))
        rewards = _evaluated("ppf", self.ppf, level)
        slope = np.log(math.pi * np.cosh(x)) - np.abs(y) - 2 * np.log1p(np.exp(-np.abs(y)))
        return rewards, slope

    def log_cdf(self, nodes: _Nodes) -> tuple[np.ndarray, np.ndarray]:
        y = math.pi * np.sinh(nodes.x)
        return -np.logaddexp(0, -y), -np.logaddexp(0, y)
