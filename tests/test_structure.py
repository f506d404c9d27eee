"""The house: who may import whom, how long a file may be, and that no function hides a module."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import softbon_jax

ROOT = Path(softbon_jax.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# From the ground up: a room imports from rooms on lower floors, and from its own.
FLOORS = [
    {"_special", "_checks", "_batching", "_fits"},
    {"problem", "rates"},
    {"_arguments"},
    {"exact"},
    {"bounds", "sampling", "pools", "scores"},
    {"simulation", "tuning"},
    {"command", "calibrate"},
    {"softbon_jax", "__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module):
    """`softbon_jax.exact._soft` is in `exact`; the package itself is `softbon_jax`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """The dotted names that a module imports from the package, names taken from modules included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "softbon_jax"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_downward(path):
    own = room_of(name_of(path))
    for name in imports(path):
        other = room_of(name)
        assert other == own or FLOOR[other] < FLOOR[own], f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_private_name_crosses_a_folder(path):
    """What starts with an underscore is for the folder that it is in, and for folders inside that."""
    folder = path.parent.relative_to(ROOT.parent).parts
    for name in imports(path):
        parts = name.split(".")
        for depth, part in enumerate(parts):
            if part.startswith("_") and not part.startswith("__"):
                assert folder[:depth] == tuple(parts[:depth]), f"{name_of(path)} imports {name}"


def test_a_room_keeps_to_its_floor_without_circles():
    rooms = {room_of(name_of(path)) for path in MODULES}
    assert rooms <= set(FLOOR)
    assert len(FLOORS) - 1 <= 7  # levels between folders


def test_no_module_is_hidden_by_a_function_of_its_name():
    for info in pkgutil.walk_packages([str(ROOT)], "softbon_jax."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        parent, _, name = info.name.rpartition(".")
        assert getattr(importlib.import_module(parent), name) is module, info.name


def test_folders_hold_reexports_or_nothing():
    for path in ROOT.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            names = isinstance(node, ast.Assign) and all(
                isinstance(x, ast.Name) and x.id in ("__all__", "__version__") for x in node.targets
            )
            assert docstring or names or isinstance(node, (ast.Import, ast.ImportFrom)), path


def test_a_reader_meets_few_and_short_files():
    assert len([x for x in ROOT.iterdir() if x.suffix == ".py"]) <= 16
    for path in MODULES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 450, f"{name_of(path)} has {lines} lines"
