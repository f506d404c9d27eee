"""Public names that are imported when they are first used, as in SPEC 1 of Scientific Python.

A program that needs one function does not pay for importing all.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attach(
    package: str,
    *,
    modules: Sequence[str],
    names: Mapping[str, Sequence[str]],
    reachable: Sequence[str] = (),
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package.

    Args:
      package: its name.
      modules: those directly below it that are public themselves.
      names: public names by the module that defines them, below the package.
      reachable: further modules directly below it that are attributes, but not in `__all__`.
    """
    home = {name: module for module, those in names.items() for name in those}
    public = sorted([*modules, *home])

    def getattr_(name: str) -> Any:
        if name in home:
            value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        elif name in modules or name in reachable:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)
        setattr(sys.modules[package], name, value)  # the next look finds it without us
        return value

    return getattr_, lambda: public, public
