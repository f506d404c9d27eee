"""`python -m softbon_jax` is the command `softbon`."""

import gc
import os
import sys

from softbon_jax.command import compilation_cache
from softbon_jax.command.main import main


def run() -> int:
    """The command in a process of its own."""
    # Tracing makes very many objects, few of them in cycles: they need be looked at seldom.
    gc.set_threshold(50_000)
    if sys.argv[1:2] != ["analyze"]:  # which decides by what it reads
        compilation_cache.quick()
    if sys.argv[1:2] == ["plan"]:
        # It computes for milliseconds, and most of its time would be compilation.
        quick = "--xla_backend_optimization_level=0"
        os.environ["XLA_FLAGS"] = f"{quick} {os.environ.get('XLA_FLAGS', '')}".strip()
    status = main()
    gc.freeze()  # or the interpreter looks through all of them once more as it ends
    return status


if __name__ == "__main__":
    raise SystemExit(run())
