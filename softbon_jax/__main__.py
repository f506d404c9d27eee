"""`python -m softbon_jax` is the command `softbon`."""

import importlib.metadata
import os
import sys

from softbon_jax.command.main import main


def run() -> int:
    """The command in a process of its own, where most of the time would be compilation."""
    flags = []
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # others may not know it, and abort
        flags.append("--xla_cpu_use_fusion_emitters=false")  # compiles in half the time, runs as fast
    if sys.argv[1:2] == ["plan"]:
        flags.append("--xla_backend_optimization_level=0")  # it computes for milliseconds
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()
    return main()


if __name__ == "__main__":
    raise SystemExit(run())
