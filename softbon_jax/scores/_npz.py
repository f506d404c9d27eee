"""Arrays of NumPy in a zip archive: nothing is unpickled, and no header is believed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Any failure is a `ValueError`: readers of damaged files raise errors of many kinds."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {error}") from None


def read_npz(
    path: Path, most_rows: int | None, most_bytes: int
) -> tuple[list[str], Callable[[Sequence[str], Sequence[str]], dict[str, np.ndarray]]]:
    """The names of the arrays, and a function that reads scores and identifiers, the prompt first."""
    damaged = f"{path}: not an npz file of plain arrays"
    with _refusing(damaged), zipfile.ZipFile(path) as archive:
        sizes = {x.filename: x.file_size for x in archive.infolist()}
    names = [name.removesuffix(".npy") for name in sizes if name.endswith(".npy")]

    def load(scores: Sequence[str], others: Sequence[str]) -> dict[str, np.ndarray]:
        arrays = {}
        with _refusing(damaged), zipfile.ZipFile(path) as archive:
            headers = {
                name: _header(archive, f"{name}.npy")
                for name in dict.fromkeys([*scores, *others])
                if name in names
            }
        for name, (shape, dtype, start) in headers.items():
            kinds, what = ("biuf", "") if name in scores else ("biufUS", " or strings")
            if dtype.kind not in kinds or dtype == np.longdouble:
                raise ValueError(f"{damaged}: array {name!r} holds {dtype}, not numbers{what}")
            size = math.prod(shape)
            if most_rows is not None and size > most_rows:
                raise ValueError(f"{path}: more than {most_rows:,} rows (most_rows, --max-rows)")
            if max(size, *shape, 0) * max(dtype.itemsize, 1) > most_bytes:
                raise ValueError(
                    f"{path} holds more than {most_bytes:,} bytes when unpacked; allow more "
                    "(most_bytes, --max-bytes)"
                )
            if start + size * dtype.itemsize != sizes[f"{name}.npy"]:
                raise ValueError(
                    f"{damaged}: array {name!r} is cut short, or is not of the shape {shape}"
                )
        with _refusing(damaged), zipfile.ZipFile(path) as archive:
            for name in headers:
                with archive.open(f"{name}.npy") as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        return _flat(path, arrays, list(scores), others[0])

    return names, load


def _header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and dtype of an array, and where its data begin; none of them is to be believed."""
    with archive.open(member) as file:
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
        return shape, dtype, file.tell()


def _flat(
    path: Path, arrays: dict[str, np.ndarray], scores: list[str], prompt: str
) -> dict[str, np.ndarray]:
    """The rows of arrays of one shape, `[rows]` or `[prompts, N]`."""
    reward = scores[0]
    shape = arrays[reward].shape
    if len(shape) == 1 and prompt not in arrays:
        raise ValueError(
            f"{path}: no array {prompt!r}, which only [prompts, N] arrays can do without"
        )
    if len(shape) not in (1, 2):
        raise ValueError(f"{path}: array {reward!r} must be 1-D or [prompts, N], is {shape}")
    if len(shape) == 2:
        names = arrays.get(prompt, np.arange(shape[0]))
        if names.shape == shape[:1]:
            arrays[prompt] = np.repeat(names, shape[1]).reshape(shape)
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(
                f"{path}: array {name!r} has shape {array.shape}, {reward!r} has shape {shape}"
            )
    flat = {name: array.ravel() for name, array in arrays.items()}
    # A slot of a [prompts, N] array that is NaN under every reward is empty, not a bad score.
    if len(shape) == 2:
        keep = ~np.all([np.isnan(flat[name]) for name in scores], axis=0)
        flat = {name: array[keep] for name, array in flat.items()}
    return flat
