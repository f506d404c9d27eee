"""Work on arrays whose leading axes are divided among devices, each device on its own part.

What a device does is what it does for an array that is not divided, so that the numbers are the same.
Where nothing is divided, what is compiled is as if this file were not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Array = jax.Array
Names = tuple[str, ...]


def over_shards(local: Callable[..., Any], arguments: Sequence[Any], ranks: Sequence[int]) -> Any:
    """`local(*arguments)`, on each device for its part of the leading axes.

    Args:
      local: takes the arguments, whose leading axes broadcast; its outputs have their broadcast, or
        that of their parts, in front. What it closes over is not divided.
      arguments: arrays `[..., *own]`, or pytrees of such.
      ranks: static; how many axes of their own the arrays of each argument have.

    Returns:
      The outputs, divided as the leading axes of the arguments are. In automatic mode this is not
      known to a traced function: there the first axes that can be are divided over the mesh.
    """
    arrays, tree = jax.tree.flatten(tuple(arguments))
    mesh = _mesh(arrays)
    if mesh is None:
        return local(*arguments)
    own = [r for r, x in zip(ranks, arguments, strict=True) for _ in jax.tree.leaves(x)]
    leading = [x.shape[: x.ndim - rank] for x, rank in zip(arrays, own, strict=True)]
    shape = np.broadcast_shapes(*leading)
    if AxisType.Explicit in mesh.axis_types:
        divided = _explicit(arrays, leading, len(shape))
    else:
        divided = _automatic(mesh, shape)
    if not any(divided) and not any(map(_is_divided, arrays)):
        return local(*arguments)
    specs = [_spec(divided, x) for x in leading]
    placed = [_placed(x, mesh, spec) for x, spec in zip(arrays, specs, strict=True)]
    return jax.shard_map(
        lambda *parts: local(*jax.tree.unflatten(tree, parts)),
        mesh=mesh,
        in_specs=tuple(specs),
        out_specs=PartitionSpec(*(names or None for names in divided)),
        check_vma=False,
    )(*placed)


def on_every_device(local: Callable[..., Any], arguments: Sequence[Any], mesh: Mesh) -> Any:
    """`local(*arguments)` inside `shard_map` on all devices, which have the arguments in full."""
    whole = PartitionSpec()
    mapped = jax.shard_map(local, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    return mapped(*arguments)


def whole(tree: Any) -> Any:
    """The arrays in full on every device; where the axes of the mesh are automatic, as they come."""

    def one(x: Array) -> Array:
        mesh = _mesh([x])
        return x if mesh is None else _placed(x, mesh, PartitionSpec())

    return jax.tree.map(one, tree)


def _mesh(arrays: Sequence[Array]) -> Any:
    """The mesh that arrays are on; None where there is one device, or they are parts already."""
    for x in arrays:
        mesh = jax.typeof(x).sharding.mesh
        if not mesh.empty:
            if AxisType.Manual in mesh.axis_types:
                return None
            # Types have to agree however few the devices are.
            return mesh if mesh.size > 1 or AxisType.Explicit in mesh.axis_types else None
    return None


def _names(entry: Any) -> Names:
    if entry is None or entry is PartitionSpec.UNCONSTRAINED:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def _is_divided(x: Array) -> bool:
    return any(map(_names, jax.typeof(x).sharding.spec))


def _explicit(
    arrays: Sequence[Array], leading: Sequence[tuple[int, ...]], rank: int
) -> list[Names]:
    """What each leading axis is divided over, from the types of the arrays."""
    divided: list[Names] = [()] * rank
    for x, own in zip(arrays, leading, strict=True):
        spec = jax.typeof(x).sharding.spec
        for axis, entry in enumerate(spec[: len(own)], start=rank - len(own)):
            used = {name for names in divided for name in names}
            if not divided[axis] and used.isdisjoint(_names(entry)):
                divided[axis] = _names(entry)
    return divided


def _automatic(mesh: Any, shape: tuple[int, ...]) -> list[Names]:
    """Every axis of the mesh to the first of the leading axes that it divides."""
    divided: list[Names] = [()] * len(shape)
    for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True):
        if kind != AxisType.Auto:
            continue
        for axis, size in enumerate(shape):
            parts = math.prod(mesh.shape[x] for x in (*divided[axis], name))
            if size and size % parts == 0:
                divided[axis] = (*divided[axis], name)
                break
    return divided


def _spec(divided: Sequence[Names], own: tuple[int, ...]) -> PartitionSpec:
    """That of an array with the leading axes `own`, which broadcast against those divided."""
    behind = divided[len(divided) - len(own) :]
    pairs = zip(behind, own, strict=True)
    return PartitionSpec(*(names if names and size > 1 else None for names, size in pairs))


def _placed(x: Array, mesh: Any, spec: PartitionSpec) -> Array:
    """`x` divided as `spec` has it; for automatic axes `shard_map` sees to that."""
    if AxisType.Explicit not in mesh.axis_types:
        return x
    return jax.sharding.reshard(x, NamedSharding(mesh, spec))
