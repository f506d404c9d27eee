"""Argument checks that name the argument and the offending value.

Shapes are always checked. Values are checked when they are concrete; under `jit` or `vmap` they are
not known, and the functions that call these checks document what they return instead (NaN).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def concrete(x: Any) -> np.ndarray | None:
    """The value of `x` as a NumPy array, or None if it is being traced by `jit` or `vmap`.

    Under an eager `jax.grad` the primal value is known and is returned.
    """
    try:
        # A Python or NumPy integer may be too large for the integers of `jax.numpy`.
        return np.asarray(jax.lax.stop_gradient(x) if isinstance(x, jax.Array) else x)
    except jax.errors.TracerArrayConversionError:
        return None


def offending(name: str, x: np.ndarray, bad: np.ndarray, requirement: str) -> None:
    """Raise `ValueError` quoting the first entry of `x` where `bad` holds, if there is one."""
    if not bad.any():
        return
    if x.ndim == 0:
        raise ValueError(f"{name} must be {requirement}, got {x}")
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    label = index[0] if len(index) == 1 else index
    raise ValueError(f"{name} must be {requirement}, got {x[index]} at index {label}")


def as_float(name: str, x: Any, dtype: Any = None) -> Array:
    """`x` as a real floating array in `dtype`; `TypeError` for anything else.

    Without a `dtype` floats keep theirs and integers become the default float of `jax.numpy`,
    without passing through a narrower integer type.
    """
    if not isinstance(x, jax.Array):
        try:
            x = np.asarray(x)
        except jax.errors.TracerArrayConversionError:
            x = jnp.asarray(x)  # a list that holds a tracer
    _real(name, x)
    if dtype is None:
        integer = jnp.issubdtype(x.dtype, jnp.integer)
        dtype = jax.dtypes.canonicalize_dtype(float if integer else x.dtype)
    return jnp.asarray(x.astype(dtype))


def _real(name: str, x: Any) -> None:
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")


def finite(name: str, x: Any) -> None:
    """Every entry of a concrete `x` is finite."""
    value = concrete(x)
    if value is not None:
        offending(name, value, ~np.isfinite(value), "finite")


def temperature(x: Any, name: str = "temperature") -> None:
    """Every entry of a concrete temperature is in [0, inf]."""
    value = concrete(x)
    if value is not None:
        offending(name, value, ~(value >= 0), "at least 0 (0 and inf are legal)")


def batch_shape(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The broadcast of named batch shapes; `ValueError` quoting them all if there is none."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"batch shapes do not broadcast: {listed}") from None


def log_candidates(n: Any, log_n: Any, dtype: Any) -> Array:
    """Log n in `dtype`, from exactly one of `n` and `log_n`; `n` is a finite real number >= 1."""
    if (n is None) == (log_n is None):
        raise ValueError(f"give exactly one of n and log_n, got n={n!r} and log_n={log_n!r}")
    name, given, least = ("n", n, 1) if log_n is None else ("log_n", log_n, 0)
    value = concrete(given)
    if value is not None:
        legal = (value >= least) & np.isfinite(value)
        offending(name, value, ~legal, f"finite and at least {least}")
    if value is not None and not isinstance(given, jax.core.Tracer):
        _real(name, value)
        value = value.astype(np.float64)  # log n of a large integer keeps its digits
        return jnp.asarray(np.log(value) if log_n is None else value, dtype)
    given = as_float(name, given)
    given = jnp.where(given >= least, given, jnp.nan)
    return (jnp.log(given) if log_n is None else given).astype(dtype)
