"""Argument checks that name the argument and the offending value, before any work is done.

Types and shapes are always checked. Values are checked when they are concrete; under `jit` or `vmap`
they are unknown, and the functions that call these checks document what they return instead (NaN).
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
P = ParamSpec("P")
R = TypeVar("R")


# Values ------------------------------------------------------------------------------------------


def concrete(x: Any) -> np.ndarray | None:
    """The value of `x` as a NumPy array, or None if it is being traced by `jit` or `vmap`.

    Under an eager `jax.grad` the primal value is known and is returned.
    """
    try:
        # A Python or NumPy integer may be too large for the integers of `jax.numpy`.
        return np.asarray(jax.lax.stop_gradient(x) if isinstance(x, jax.core.Tracer) else x)
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


def _values(name: str, x: Any, legal: Callable[[np.ndarray], np.ndarray], requirement: str) -> None:
    value = concrete(x)
    if value is not None:
        real(name, value)
        offending(name, value, ~legal(value), requirement)


def finite(name: str, x: Any) -> None:
    """Every entry of a concrete `x` is finite."""
    _values(name, x, np.isfinite, "finite")


def finite_positive(name: str, x: Any) -> None:
    """Every entry of a concrete `x` is positive and finite."""
    _values(name, x, lambda v: (v > 0) & np.isfinite(v), "positive and finite")


def not_negative(name: str, x: Any) -> None:
    """Every entry of a concrete `x` is in [0, inf]."""
    _values(name, x, lambda v: v >= 0, "at least 0")


def finite_not_negative(name: str, x: Any) -> None:
    """Every entry of a concrete `x` is in [0, inf)."""
    _values(name, x, lambda v: (v >= 0) & np.isfinite(v), "finite and at least 0")


def finite_at_least(name: str, x: Any, least: float) -> None:
    """Every entry of a concrete `x` is in [least, inf)."""
    _values(name, x, lambda v: (v >= least) & np.isfinite(v), f"finite and at least {least}")


def inside_unit_interval(name: str, x: Any) -> None:
    """Every entry of a concrete `x` is in (0, 1)."""
    _values(name, x, lambda v: (v > 0) & (v < 1), "strictly between 0 and 1")


def integers_at_least(name: str, x: Any, least: int) -> None:
    """Every entry of a concrete `x` is an integer, of any real type, of at least `least`."""

    def legal(v: np.ndarray) -> np.ndarray:
        return (v >= least) & (v == np.floor(v)) & np.isfinite(v)

    _values(name, x, legal, f"an integer of at least {least}")


def positive_probability(name: str, x: Any) -> None:
    """Every entry of a concrete `x` is in (0, 1]."""
    _values(name, x, lambda v: (v > 0) & (v <= 1), "in (0, 1]")


def temperature(x: Any, name: str = "temperature") -> None:
    """Every entry of a concrete temperature is in [0, inf]."""
    _values(name, x, lambda v: v >= 0, "at least 0 (0 and inf are legal)")


# Static arguments --------------------------------------------------------------------------------


def positive_integer(name: str, x: Any, least: int = 1, most: int | None = None) -> int:
    """`x` as an int of at least `least` and at most `most`; `ValueError` for anything else."""
    legal = isinstance(x, (int, np.integer)) and not isinstance(x, (bool, np.bool_))
    if not legal or x < least or (most is not None and x > most):
        upper = "of at least" if most is None else "from"
        span = f"{upper} {least}" if most is None else f"{upper} {least} to {most}"
        raise ValueError(f"{name} must be an integer {span}, got {x!r}")
    return int(x)


def one_of(name: str, x: Any, choices: Sequence[str]) -> None:
    """`x` is one of the strings `choices`."""
    if x not in choices:
        listed = [repr(choice) for choice in choices]
        listing = " or ".join([", ".join(listed[:-1]), listed[-1]] if listed[1:] else listed)
        raise ValueError(f"{name} must be {listing}, got {x!r}")


def key(x: Any) -> None:
    """`x` is one typed PRNG key."""
    if not (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key must be a typed PRNG key (jax.random.key), got {type(x).__name__}")
    if x.shape != ():
        raise ValueError(f"key must be a single key, got an array of keys of shape {x.shape}")


# Types and shapes --------------------------------------------------------------------------------


def real(name: str, x: Any) -> None:
    """The array `x` holds real numbers."""
    if not any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        shown = repr(x.item() if x.ndim == 0 else x.tolist()) if x.dtype == object else ""
        what = f"{shown:.60}" if shown else f"dtype {x.dtype}"
        raise TypeError(f"{name} must be real numbers, got {what}")


def compute_dtype(dtype: Any) -> Any:
    """The float dtype of computations: half precision is promoted to float32, everywhere alike."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def as_float(name: str, x: Any, dtype: Any = None) -> Array:
    """`x` as a real floating array in `dtype`; `TypeError` for anything else.

    Without a `dtype` float32 and float64 keep theirs, half precision becomes float32, and integers
    become the default float of `jax.numpy`, without passing through a narrower integer type.
    """
    if not isinstance(x, jax.Array):
        try:
            x = np.asarray(x)
        except jax.errors.TracerArrayConversionError:
            x = jnp.asarray(x)  # a list that holds a tracer
        except (ValueError, TypeError, OverflowError):
            raise TypeError(f"{name} must be real numbers, got {x!r:.60}") from None
    real(name, x)
    if dtype is None:
        integer = jnp.issubdtype(x.dtype, jnp.integer)
        dtype = compute_dtype(jax.dtypes.canonicalize_dtype(float if integer else x.dtype))
    if isinstance(x, jax.Array) and x.dtype == dtype and not x.weak_type:
        return x
    # Naming the dtype moves a NumPy array to the device without compiling a program for it.
    return jnp.asarray(x.astype(dtype), dtype)


def mask(where: Any, shape: tuple[int, ...], of: str = "rewards") -> Array:
    """`where` as a bool array of `shape`, against which it may broadcast; all True if it is None."""
    if where is None:
        return jnp.ones(shape, bool)
    named = bool if isinstance(where, np.ndarray) and where.dtype.kind == "b" else None
    where = jnp.asarray(where, named)
    if where.dtype != bool:
        raise ValueError(f"where must be bool, got dtype {where.dtype}")
    try:
        return jnp.broadcast_to(where, shape)
    except ValueError:
        raise ValueError(
            f"where must broadcast against {of} {shape}, got shape {where.shape}"
        ) from None


def outcomes(name: str, x: Array, what: str = "outcome") -> None:
    """`x` has at least one entry on its last axis."""
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(
            f"{name} must have at least one {what} on its last axis, got shape {x.shape}"
        )


def vector(name: str, x: Any) -> None:
    """The array `x` is a vector with at least one entry."""
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"{name} must be a vector with at least one entry, got shape {x.shape}")


def scalar_or_vector(name: str, x: Any) -> None:
    """The array `x` is a number or a vector with at least one entry."""
    if x.ndim > 1 or x.size == 0:
        raise ValueError(f"{name} must be a scalar or a vector, got shape {x.shape}")


def batch_shape(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The broadcast of named batch shapes; `ValueError` quoting them all if there is none."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"batch shapes do not broadcast: {listed}") from None


def float_dtype(dtype: Any = None) -> Any:
    """The float dtype of computations that `dtype` stands for; without one the default float."""
    try:
        dtype = jnp.dtype(float if dtype is None else dtype)
    except TypeError:
        raise TypeError(f"dtype must be a floating dtype, got {dtype!r}") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be a floating dtype, got {dtype}")
    return compute_dtype(jax.dtypes.canonicalize_dtype(dtype))


def same_outcomes(name: str, x: Array, size: int) -> None:
    """`x` has the problem's `size` outcomes on its last axis."""
    if x.ndim == 0 or x.shape[-1] != size:
        raise ValueError(
            f"{name} must have the problem's K = {size} outcomes on its last axis,"
            f" got shape {x.shape}"
        )


# The number of candidates ------------------------------------------------------------------------


def log_candidates(n: Any, log_n: Any, dtype: Any = None) -> Array:
    """Log n in `dtype`, from exactly one of `n` and `log_n`; `n` is a finite real number >= 1.

    Without a `dtype` in the float dtype of the one that is given, as `as_float` has it.
    """
    if (n is None) == (log_n is None):
        raise ValueError(f"give exactly one of n and log_n, got n={n!r} and log_n={log_n!r}")
    name, given, least = ("n", n, 1) if log_n is None else ("log_n", log_n, 0)
    dtype = as_float(name, given).dtype if dtype is None else dtype
    value = concrete(given)
    if value is not None:
        real(name, value)
        legal = (value >= least) & np.isfinite(value)
        offending(name, value, ~legal, f"finite and at least {least}")
    if value is not None and not isinstance(given, jax.core.Tracer):
        value = value.astype(np.float64)  # log n of a large integer keeps its digits
        value = np.asarray(np.log(value) if log_n is None else value, dtype)
        return jnp.asarray(value, dtype)
    given = as_float(name, given)
    given = jnp.where(given >= least, given, jnp.nan)
    return (jnp.log(given) if log_n is None else given).astype(dtype)


# Options that were positional --------------------------------------------------------------------


def keyword_only(*options: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Accept the named keyword-only options by position too, with a `DeprecationWarning`.

    For one release: what used to come after the positional arguments still may, in the order given.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        positional = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            extra = args[positional:]
            if not extra:
                return function(*args, **kwargs)
            named = dict(zip(options, extra, strict=False))
            if len(extra) > len(options) or named.keys() & kwargs.keys():
                return function(*args, **kwargs)  # which raises the usual TypeError
            listed = ", ".join(f"{option}=..." for option in named)
            warnings.warn(
                f"{function.__name__}: pass {listed} by keyword; by position it will be an error"
                " in the next release",
                DeprecationWarning,
                stacklevel=2,
            )
            return function(*args[:positional], **kwargs, **named)  # type: ignore[arg-type]

        return call

    return decorate
