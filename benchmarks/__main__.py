"""python -m benchmarks [PART ...]: some parts, or all of them."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

import jax

import softbon_jax as sb
from softbon_jax.command import compilation_cache

PARTS = ("sweep", "selection", "simulation", "variants", "sequences", "pools", "calibration")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are named, in order, each in its own precision.

    The first call of a contestant is cold only with `SOFTBON_CACHE=off`; otherwise it may find its
    program in the compilation cache. Steady calls are the same either way.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="times each contestant is called")
    parser.add_argument("--json", type=Path, help="folder for all timings, one file a part")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    device = jax.devices()[0]
    cache = "on" if compilation_cache.enable() else "off"
    print(
        f"softbon_jax {sb.__version__}, jax {jax.__version__}, {device.device_kind}, "
        f"compilation cache {cache}"
    )
    for part in options.parts or PARTS:
        module = importlib.import_module(f"benchmarks.bench_{part}")
        print(f"\n=== {part}: {(module.__doc__ or '').splitlines()[0]}")
        with jax.enable_x64(module.DOUBLE):
            module.run(options.rounds or module.ROUNDS, options.json and options.json / part)


if __name__ == "__main__":
    main()
