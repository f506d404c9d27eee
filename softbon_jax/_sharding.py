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
from jax.sharding import AxisType, NamedSharding, PartitionSpec

Array = jax.Array
Names = tuple[str, ...]


def over_shards(local: Callable[..., Any], arrays: Sequence[Array], ranks: Sequence[int]) -> Any:
    """`local(*arrays)`, on each device for its part of the leading axes.

    Args:
      local: takes the arrays, whose leading axes broadcast; its outputs have their broadcast in front.
      arrays: `[..., *own]`.
      ranks: static; how many axes of its own each array has, behind the leading ones.

    Returns:
      The outputs, divided as the leading axes of the arguments are. In automatic mode this is not
      known to a traced function: there the first axes that can be are divided over the mesh.
    """
    found = _mesh(arrays)
    if found is None:
        return local(*arrays)
    leading = [x.shape[: x.ndim - rank] for x, rank in zip(arrays, ranks, strict=True)]
    shape = np.broadcast_shapes(*leading)
    divided = _explicit(found, arrays, leading, len(shape)) or _automatic(found, shape)
    if not any(divided) and not _is_divided(arrays):
        return local(*arrays)
    specs = [_spec(divided, own) for own in leading]
    placed = [_placed(x, found, spec) for x, spec in zip(arrays, specs, strict=True)]
    return jax.shard_map(
        local,
        mesh=found,
        in_specs=tuple(specs),
        out_specs=PartitionSpec(*(names or None for names in divided)),
        check_vma=False,
    )(*placed)


def _mesh(arrays: Sequence[Array]) -> Any:
    """The mesh that arrays are on; None where there is one device, or they are parts already."""
    for x in arrays:
        mesh = getattr(jax.typeof(x).sharding, "mesh", None)
        if mesh is not None and not mesh.empty:
            manual = AxisType.Manual in mesh.axis_types
            return None if manual or mesh.size == 1 else mesh
    return None


def _names(entry: Any) -> Names:
    if entry is None or entry is PartitionSpec.UNCONSTRAINED:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def _is_divided(arrays: Sequence[Array]) -> bool:
    return any(any(map(_names, jax.typeof(x).sharding.spec)) for x in arrays)


def _explicit(
    mesh: Any, arrays: Sequence[Array], leading: Sequence[tuple[int, ...]], rank: int
) -> list[Names] | None:
    """What each leading axis is divided over, from the types of the arrays; None without any."""
    if AxisType.Explicit not in mesh.axis_types:
        return None
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
