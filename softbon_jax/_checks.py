"""Argument checks that name the argument and the offending value, before any work is done.

Types and shapes are always checked. Values are checked when they are concrete. Under `jit` or `vmap`
they are unknown, and the same check puts NaN in the place of an illegal value; what is computed from it
is NaN (`_batching.nan_in_nan_out`).
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
P = ParamSpec("P")
R = TypeVar("R")


LARGEST_SIZE = 2**31 - 1
"""The most that a static number may be: sizes and indices are 32-bit integers."""
LARGEST_FILE = 2**63 - 1
"""The most bytes that can be counted."""

# Arrays ------------------------------------------------------------------------------------------


def shown(x: Any) -> str:
    """`x` for a message, in at most 60 characters."""
    try:
        text = repr(x)
    except Exception:  # such as that of an integer of more than 4300 digits
        return f"a value of type {type(x).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _array(name: str, x: Any, kind: str) -> Any:
    """`x` as a NumPy or JAX array of any dtype; TypeError if it is no array of numbers at all."""
    if isinstance(x, jax.Array):
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} must be {kind}, got a masked array, whose mask would be lost")
    try:
        return np.asarray(x)
    except jax.errors.TracerArrayConversionError:
        pass  # a list that holds a tracer
    except Exception:
        raise TypeError(f"{name} must be {kind}, got {shown(x)}") from None
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be {kind}, got a list of tracers and others") from None


def real(name: str, x: Any) -> Any:
    """`x` as a NumPy or JAX array of real numbers, traced or not; TypeError for anything else."""
    array = _array(name, x, "real numbers")
    dtype = array.dtype
    kind = getattr(dtype, "kind", "")  # which a dtype of keys does not have
    if kind == "O" and all(type(item) in (int, float) for item in array.flat):
        try:
            return array.astype(np.float64)  # integers that are too large for a dtype of NumPy
        except OverflowError:
            raise ValueError(f"{name} must be below 1.8e308, got a larger integer") from None
    if kind and kind in "iuf" and dtype.itemsize <= 8:
        return array
    if kind == "V" and jnp.issubdtype(dtype, jnp.number):  # bfloat16 and narrower types
        return array
    given = f"dtype {dtype}" if isinstance(x, (np.generic, np.ndarray, jax.Array)) else shown(x)
    raise TypeError(f"{name} must be real numbers, got {given}")


def as_float(name: str, x: Any, dtype: Any = None, *, host: bool = False) -> Array:
    """`x` as a real floating array in `dtype`; `TypeError` for anything else.

    Without a `dtype` float32 and float64 keep theirs, half precision becomes float32, and integers
    become the default float of `jax.numpy`, without passing through a narrower integer type. With
    `host`, what is no array of JAX becomes one of NumPy.
    """
    x = real(name, x)
    if dtype is None:
        integer = jnp.issubdtype(x.dtype, jnp.integer)
        dtype = compute_dtype(jax.dtypes.canonicalize_dtype(float if integer else x.dtype))
    if isinstance(x, jax.Array) and x.dtype == dtype and not x.weak_type:
        return x
    x = _cast(x, dtype)
    if host and not isinstance(x, jax.Array):
        return x
    # Naming the dtype moves a NumPy array to the device without compiling a program for it.
    return jnp.asarray(x, dtype)


def _cast(x: Any, dtype: Any) -> Any:
    with np.errstate(over="ignore", under="ignore"):  # inf and 0 are what numbers round to
        return x.astype(dtype)


def compute_dtype(dtype: Any) -> Any:
    """The float dtype of computations: half precision is promoted to float32, everywhere alike."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def bools(name: str, x: Any) -> Any:
    """`x` as a NumPy or JAX array of bool; `ValueError` for another dtype."""
    array = _array(name, x, "bool")
    if array.dtype != bool:
        raise ValueError(f"{name} must be bool, got dtype {array.dtype}")
    return array


def leaves(name: str, tree: Any) -> Any:
    """A pytree with every leaf as a JAX array; `TypeError` where one is none."""

    def leaf(x: Any) -> Array:
        try:
            return jnp.asarray(x)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"{name} must be a pytree of arrays or numbers, got a leaf {shown(x)}"
            ) from None

    return jax.tree.map(leaf, tree)


def instance(name: str, x: Any, kind: type) -> None:
    """`x` is a `kind`; `TypeError` otherwise."""
    if not isinstance(x, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {shown(x)}")


# Values ------------------------------------------------------------------------------------------


def concrete(x: Any) -> np.ndarray | None:
    """The value of `x` as a NumPy array, or None if it is being traced by `jit` or `vmap`.

    Under an eager `jax.grad` the primal value is known and is returned. An array of which other
    processes hold parts is as good as traced.
    """
    known = not isinstance(x, jax.Array) or isinstance(x, jax.core.Tracer)
    if not (known or x.is_fully_addressable or x.is_fully_replicated):
        return None
    try:
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


def _values(
    name: str,
    x: Any,
    dtype: Any,
    legal: Callable[[Any], Any],
    requirement: str,
    *,
    host: bool = False,
) -> Array:
    """`x` as `as_float` has it, where it is legal: else `ValueError`, or NaN where it is traced."""
    x = real(name, x)
    value, given = concrete(x), as_float(name, x, dtype, host=host)
    if value is None:
        return jnp.where(legal(given), given, jnp.nan)
    offending(name, value, ~legal(value), requirement)
    if given.dtype != value.dtype:  # in which what was finite may not be
        offending(name, value, ~legal(_cast(value, given.dtype)), f"{requirement} in {given.dtype}")
    return given


def finite(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is finite."""
    return _values(name, x, dtype, lambda v: abs(v) < math.inf, "finite")


def finite_positive(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is positive and finite."""
    return _values(name, x, dtype, lambda v: (v > 0) & (v < math.inf), "positive and finite")


def not_negative(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is in [0, inf]."""
    return _values(name, x, dtype, lambda v: v >= 0, "at least 0")


def finite_not_negative(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is in [0, inf)."""
    return finite_at_least(name, x, 0, dtype)


def finite_at_least(name: str, x: Any, least: float, dtype: Any = None) -> Array:
    """Every entry of `x` is in [least, inf)."""
    requirement = f"finite and at least {least}"
    return _values(name, x, dtype, lambda v: (v >= least) & (v < math.inf), requirement)


def finite_above(name: str, x: Any, least: float, dtype: Any = None) -> Array:
    """Every entry of `x` is in (least, inf)."""
    requirement = f"finite and above {least:g}"
    return _values(name, x, dtype, lambda v: (v > least) & (v < math.inf), requirement)


def whole(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is one of 1, 2, ..."""
    return _values(name, x, dtype, lambda v: (v >= 1) & (v % 1 == 0), "an integer of at least 1")


def not_nan(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is a number, finite or not."""
    return _values(name, x, dtype, lambda v: v == v, "a number")


def below_inf(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is finite or -inf."""
    return _values(name, x, dtype, lambda v: v < math.inf, "finite or -inf")


def inside_unit_interval(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is in (0, 1)."""
    return _values(name, x, dtype, lambda v: (v > 0) & (v < 1), "strictly between 0 and 1")


def in_unit_interval(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is in [0, 1]."""
    return _values(name, x, dtype, lambda v: (v >= 0) & (v <= 1), "from 0 to 1")


def positive_probability(name: str, x: Any, dtype: Any = None) -> Array:
    """Every entry of `x` is in (0, 1]."""
    return _values(name, x, dtype, lambda v: (v > 0) & (v <= 1), "in (0, 1]")


def temperature(x: Any, dtype: Any = None, name: str = "temperature") -> Array:
    """Every entry of a temperature is in [0, inf]; one that is no array of JAX stays on the host.

    A compiled function takes it from there at once. To put a number on the device first, and to wait
    for it, takes as long as a small law.
    """
    x = _values(name, x, dtype, lambda v: v >= 0, "at least 0 (0 and inf are legal)", host=True)
    value = None if isinstance(x, jax.core.Tracer) else concrete(x)
    if value is not None and ((value > 0) & (value < jnp.finfo(x.dtype).tiny)).any():
        # Subnormal numbers are 0 to XLA on CPU; what looks at the value must see the same.
        return _placed(np.where(value < jnp.finfo(x.dtype).tiny, 0, value).astype(x.dtype), x)
    return x


def is_divided(x: Any) -> bool:
    """Whether it is an array, and not a traced one, on several devices."""
    known = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    return known and len(x.sharding.device_set) > 1


def _placed(value: np.ndarray, given: Any) -> Any:
    """A value as an array where the argument is: on its devices, divided as that is, or on the host."""
    if is_divided(given):
        return jax.device_put(value, given.sharding)
    if not isinstance(given, jax.Array):
        return value
    return jnp.asarray(value, value.dtype)  # without its dtype a scalar would compile a program


# Static arguments --------------------------------------------------------------------------------


def positive_integer(name: str, x: Any, least: int = 1, most: int | None = None) -> int:
    """`x` as an int of at least `least` and at most `most`, without which at most `LARGEST_SIZE`.

    `ValueError` for anything else.
    """
    legal = isinstance(x, (int, np.integer)) and not isinstance(x, (bool, np.timedelta64))
    if not legal or x < least or (most is not None and x > most):
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an integer {span}, got {shown(x)}")
    if x > LARGEST_SIZE and most is None:
        raise ValueError(f"{name} must be at most {LARGEST_SIZE}, got {shown(x)}")
    return int(x)


def number(name: str, x: Any) -> float:
    """`x` as a Python float; `TypeError` if it is not one concrete real number."""
    value = concrete(real(name, x))
    if value is None or value.ndim != 0:
        raise TypeError(f"{name} must be one real number, got {shown(x)}")
    return float(value)


def one_of(name: str, x: Any, choices: Sequence[str]) -> None:
    """`x` is one of the strings `choices`."""
    if not isinstance(x, str) or x not in choices:
        listed = [repr(choice) for choice in choices]
        listing = " or ".join([", ".join(listed[:-1]), listed[-1]] if listed[1:] else listed)
        raise ValueError(f"{name} must be {listing}, got {shown(x)}")


def key(x: Any) -> None:
    """`x` is one typed PRNG key."""
    if not (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key must be a typed PRNG key (jax.random.key), got {shown(x)}")
    if x.shape != ():
        raise ValueError(f"key must be a single key, got an array of keys of shape {x.shape}")


# Types and shapes --------------------------------------------------------------------------------


def mask(where: Any, shape: tuple[int, ...], of: str = "rewards") -> Array:
    """`where` as a bool array of `shape`, against which it may broadcast; all True if it is None."""
    if where is None:
        return jnp.ones(shape, bool)
    where = jnp.asarray(bools("where", where), bool)
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
    given = list(shapes.values())
    if all(shape == given[0] for shape in given):
        return given[0]
    try:
        return np.broadcast_shapes(*given)
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"batch shapes do not broadcast: {listed}") from None


def float_dtype(dtype: Any = None) -> Any:
    """The float dtype of computations that `dtype` stands for; without one the default float."""
    given = dtype
    try:
        if isinstance(dtype, tuple):  # NumPy would take (None, None) for the default
            raise TypeError
        dtype = jnp.dtype(float if dtype is None else dtype)
    except Exception:
        raise TypeError(f"dtype must be a floating dtype, got {shown(given)}") from None
    if not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize > 8:
        raise TypeError(f"dtype must be a floating dtype of at most 64 bits, got {dtype}")
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

    Without a `dtype` in the float dtype of the one that is given, as `as_float` has it. Like a
    `temperature`, what is no array of JAX stays on the host.
    """
    if (n is None) == (log_n is None):
        raise ValueError(
            f"give exactly one of n and log_n, got n={shown(n)} and log_n={shown(log_n)}"
        )
    name, given, least = ("n", n, 1) if log_n is None else ("log_n", log_n, 0)
    dtype = as_float(name, given, host=True).dtype if dtype is None else dtype
    given = real(name, given)
    value = concrete(given)
    if value is not None:
        legal = (value >= least) & np.isfinite(value)
        offending(name, value, ~legal, f"finite and at least {least}")
    if value is not None and not isinstance(given, jax.core.Tracer):
        value = value.astype(np.float64)  # log n of a large integer keeps its digits
        value = np.asarray(np.log(value) if log_n is None else value, dtype)
        return _placed(value, given)
    given = as_float(name, given)
    given = jnp.where((given >= least) & (given < math.inf), given, jnp.nan)
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
