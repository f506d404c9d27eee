"""The root of a scalar function in a bracket, differentiable by the implicit function theorem."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softbon_jax import _loops

Array = jax.Array

_STEPS = 100
"""Enough for bisection alone to exhaust a float64; a smooth function takes about a dozen."""


class Crossing(NamedTuple):
    """Where a function that falls across a bracket is 0; scalars.

    Attributes:
      at: the root; NaN where the bracket holds none.
      residual: the function at `at`, or where there is no root the nearer of its values at the ends;
        a constant to differentiation.
    """

    at: Array
    residual: Array

    @property
    def under(self) -> Array:
        """Whether the function begins below 0, so that its root, if any, is under the bracket."""
        return jnp.isnan(self.at) & (self.residual < 0)


class _State(NamedTuple):
    """Chandrupatla's three points, the newest first: the root is between a and b."""

    step: Array
    x: Array  # to be tried next
    points: tuple[Array, Array, Array]
    values: tuple[Array, Array, Array]
    done: Array


def crossing(f: Callable[[Array, Any], Array], low: Array, high: Array, arguments: Any) -> Crossing:
    """The root of f(·, arguments) between `low` and `high`, where f(low) >= 0 >= f(high).

    Chandrupatla's method: inverse quadratic interpolation where it can be trusted, bisection where
    not. f stands in the compiled program once, which is why this is not a library's: those take
    several copies of what may be the exact law of a large problem, and a second to import.

    Args:
      f: differentiable; closes over no traced array.
      low: scalar, a constant to differentiation.
      high: scalar, likewise.
      arguments: pytree of arrays; the root is differentiable in them.
    """
    low, high = jax.lax.stop_gradient((low, high))
    at, residual = _solved(f, low, high, arguments)
    return Crossing(at, jax.lax.stop_gradient(residual))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solved(
    f: Callable[[Array, Any], Array], low: Array, high: Array, arguments: Any
) -> tuple[Array, Array]:
    nothing = low * jnp.nan
    start = _State(
        jnp.zeros_like(low, jnp.int32), low, (low,) * 3, (nothing,) * 3, jnp.isnan(low + high)
    )
    end = _loops.while_loop(
        lambda state: ~state.done & (state.step < _STEPS),
        lambda state: _advance(state, f(state.x, arguments), high),
        start,
    )
    nearer = jnp.abs(end.values[0]) <= jnp.abs(end.values[1])
    at = jnp.where(nearer, end.points[0], end.points[1])
    residual = jnp.where(nearer, end.values[0], end.values[1])
    # Both values have one sign where the bracket holds no root.
    inside = jnp.sign(end.values[0]) * jnp.sign(end.values[1]) <= 0
    return jnp.where(inside, at, jnp.nan), residual


@_solved.defjvp
def _implicit(f: Any, primals: Any, tangents: Any) -> Any:
    low, high, arguments = primals
    at, residual = _solved(f, low, high, arguments)
    _, change = jax.jvp(lambda x: f(at, x), (arguments,), (tangents[2],))
    _, slope = jax.jvp(lambda x: f(x, arguments), (at,), (jnp.ones_like(at),))
    return (at, residual), (-change / slope, jnp.zeros_like(residual))


def _advance(state: _State, value: Array, high: Array) -> _State:
    """The state once f(state.x) is known: first at both ends, then between them."""
    (a, b, c), (fa, fb, fc) = state.points, state.values
    x, first, second = state.x, state.step == 0, state.step == 1
    kept = jnp.sign(value) == jnp.sign(fa)
    swapped = ~kept | second  # the second value makes the bracket, whatever its sign
    b, c = jnp.where(swapped, a, b), jnp.where(swapped, b, a)
    fb, fc = jnp.where(swapped, fa, fb), jnp.where(swapped, fb, fa)
    a, fa = x, value
    b, fb = jnp.where(first, a, b), jnp.where(first, fa, fb)

    width = b - a
    best = jnp.where(jnp.abs(fa) < jnp.abs(fb), a, b)
    tolerance = 2 * jnp.finfo(a.dtype).eps * jnp.maximum(jnp.abs(best), 1)
    least = tolerance / jnp.maximum(jnp.abs(width), tolerance)
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    trusted = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)  # False where one of them is NaN
    quadratic = fa / (fb - fa) * fc / (fb - fc) + (c - a) / width * fa / (fc - fa) * fb / (fc - fb)
    share = jnp.clip(jnp.where(trusted, quadratic, 0.5), least, 1 - least)

    no_root = jnp.where(first, ~(value >= 0), second & ~(fa * fb <= 0))
    met = (value == 0) | (~first & (least > 0.5))
    return _State(
        state.step + 1,
        jnp.where(first, high, a + share * width),
        (a, b, c),
        (fa, fb, fc),
        no_root | met | jnp.isnan(value),
    )
