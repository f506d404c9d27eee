"""`jax.lax`'s loops and branches, also inside `jax.shard_map`.

There what a loop carries must vary over the same axes of the mesh from its first step on, and what the
branches return over the same ones as each other. Elsewhere these are `jax.lax`'s own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType

Array = jax.Array


def scan(step: Callable[..., Any], init: Any, xs: Any = None, **options: Any) -> Any:
    """`jax.lax.scan`."""
    if inside():
        item = jax.tree.map(lambda x: x[0], xs)
        init = _steady(lambda carry: step(carry, item)[0], init)
    return lax.scan(step, init, xs, **options)


def while_loop(goes_on: Callable[[Any], Array], step: Callable[[Any], Any], init: Any) -> Any:
    """`jax.lax.while_loop`."""
    return lax.while_loop(goes_on, step, _steady(step, init) if inside() else init)


def fori_loop(low: Any, high: Any, step: Callable[[Any, Any], Any], init: Any) -> Any:
    """`jax.lax.fori_loop`."""
    if inside():
        start = lax.convert_element_type(low, "int32")
        init = _steady(lambda carry: step(start, carry), init)
    return lax.fori_loop(low, high, step, init)


def cond(test: Array, yes: Callable[..., Any], no: Callable[..., Any], *operands: Any) -> Any:
    """`jax.lax.cond`."""
    return lax.cond(test, *(_agreeing([yes, no], operands) if inside() else (yes, no)), *operands)


def switch(index: Array, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`jax.lax.switch`."""
    return lax.switch(index, _agreeing(branches, operands) if inside() else branches, *operands)


def inside() -> bool:
    """Whether this is traced inside `shard_map`."""
    return AxisType.Manual in jax.sharding.get_abstract_mesh().axis_types


def _varying(x: Any) -> frozenset[str]:
    """The axes of the mesh over which an array, or the type of one, varies."""
    kind = x if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(x)
    axes = getattr(kind, "vma", None)  # the name of later and of earlier versions of JAX
    if axes is None:
        axes = getattr(getattr(kind, "manual_axis_type", None), "varying", None)
    return frozenset(axes or ())


def _spread(x: Any, axes: frozenset[str]) -> Any:
    """`x` varying over `axes` too."""
    more = tuple(sorted(axes - _varying(x)))
    return lax.pcast(x, more, to="varying") if more else x


def _steady(step: Callable[[Any], Any], carry: Any) -> Any:
    """`carry` varying over all the axes that it comes to vary over."""
    while True:
        later = jax.tree.map(_varying, jax.eval_shape(step, carry))
        wider = jax.tree.map(_spread, carry, later)
        if jax.tree.map(_varying, wider) == jax.tree.map(_varying, carry):
            return carry
        carry = wider


def _agreeing(branches: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> list[Any]:
    """The branches with outputs that vary over the same axes."""
    each = [jax.tree.map(_varying, jax.eval_shape(branch, *operands)) for branch in branches]
    both = jax.tree.map(lambda *axes: frozenset().union(*axes), *each)

    def widened(branch: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *operands: jax.tree.map(_spread, branch(*operands), both)

    return [widened(branch) for branch in branches]
