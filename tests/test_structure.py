"""The house: who may import whom, how long a file may be, and that no function hides a module."""

import ast
import functools
import importlib
import pkgutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import softbon_jax
from tests.mutants import __main__ as mutants

ROOT = Path(softbon_jax.__file__).parent
REPOSITORY = ROOT.parent
MODULES = sorted(ROOT.rglob("*.py"))
EXPERIMENTS, FIGURES, BENCHMARKS, TESTS = (
    sorted((REPOSITORY / folder).rglob("*.py"))
    for folder in ("experiments", "figures", "benchmarks", "tests")
)
LINES = 450

# From the ground up: a room imports from rooms on lower floors, and from its own.
FLOORS = [
    {"_lazy", "_special", "_averages", "_checks", "_fits", "_loops", "_memory", "_sharding"},
    {"problem", "rates", "_batching"},
    {"_arguments", "continuous"},
    {"exact"},
    {"bounds", "sampling", "pools", "scores"},
    {"simulation", "tuning"},
    {"command", "calibrate"},
    {"softbon_jax", "__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


# Reading a module ---------------------------------------------------------------------------------


def room_of(name):
    """`softbon_jax.exact._soft` is in `exact`; the package and what it re-exports in `softbon_jax`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else parts[0]


def name_of(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(path):
    return path.parent.relative_to(REPOSITORY).parts


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


class Uses(ast.NodeVisitor):
    """The dotted names that a module takes from the package, wherever in it and in whatever way.

    Attributes:
      imported: what import statements name, names taken from modules included.
      reached: what is reached through an imported name, as `exact._soft` after `import exact`.
    """

    def __init__(self, source, label=""):
        self.imported, self.reached, self.bound, self.label = set(), set(), {}, label
        tree = ast.parse(source)
        for node in ast.walk(tree):  # also in functions and under `if TYPE_CHECKING`
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.note(node)
        self.visit(tree)

    def note(self, node):
        """An import statement: what it names, and what the names are called here."""
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{self.label}: relative import"
        for alias in node.names:
            is_from = isinstance(node, ast.ImportFrom)
            name = f"{node.module}.{alias.name}" if is_from else alias.name
            if name.split(".")[0] == "softbon_jax":
                self.imported.add(name)
                assert alias.name != "*", f"{self.label}: from {node.module} import *"
                # `import a.b` binds a, `import a.b as c` binds c to a.b
                short = alias.asname or (alias.name if is_from else name.split(".")[0])
                self.bound[short] = name if is_from or alias.asname else short

    def visit_Attribute(self, node):
        """A chain of attributes that begins with an imported name."""
        parts, base = [], node
        while isinstance(base, ast.Attribute):
            parts.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name) and base.id in self.bound:
            self.reached.add(".".join([self.bound[base.id], *parts]))
        self.generic_visit(node)

    def visit_Call(self, node):
        """An import by a string, and a name got by a string, cannot be followed: not of the package."""
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        strings = [x.value for x in ast.walk(node) if isinstance(x, ast.Constant)]
        if called in ("import_module", "__import__"):
            assert not any("softbon_jax" in str(x) for x in strings), f"{self.label}: {called}"
            assert any(isinstance(x, str) for x in strings), f"{self.label}: {called} of a variable"
        if called in ("getattr", "attrgetter"):
            private = [x for x in strings if isinstance(x, str) and is_private(x)]
            assert not private, f"{self.label}: {called} of {private}"
        self.generic_visit(node)


@functools.cache
def uses(path):
    return Uses(path.read_text(encoding="utf-8"), name_of(path))


RECORDS = {"_replace", "_asdict", "_fields", "_make"}
"""Methods of named tuples that Python gives an underscore, though they are public."""


def climbs(own, used):
    """What a module takes from rooms that are not below its own."""
    room = room_of(own)
    return [
        name
        for name in sorted(used.imported)
        if room_of(name) != room and FLOOR[room_of(name)] >= FLOOR[room]
    ]


def crossings(folder, used):
    """The private names that a module in `folder` takes from folders that it is not in."""
    return [
        name
        for name in sorted(used.imported | used.reached)
        for depth, part in enumerate(name.split("."))
        if is_private(part) and part not in RECORDS
        if tuple(folder[:depth]) != tuple(name.split(".")[:depth])
    ]


# The house ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_downward(path):
    assert not climbs(name_of(path), uses(path))


@pytest.mark.parametrize("path", MODULES + EXPERIMENTS + FIGURES, ids=name_of)
def test_no_private_name_crosses_a_folder(path):
    """What starts with an underscore is for the folder that it is in, and for folders inside that.

    A private name of a module is for that module alone. Benchmarks time what is inside.
    """
    assert not crossings(folder_of(path), uses(path))


def test_every_room_has_a_floor():
    rooms = {name_of(path).split(".")[1] for path in MODULES if name_of(path) != "softbon_jax"}
    assert rooms <= set(FLOOR)
    assert len(FLOORS) - 1 <= 7  # levels between folders


def test_no_circles():
    """Nor inside a room, where a module is the longest part of a name that is one."""
    names = {name_of(path) for path in MODULES}

    def module_of(name):
        while name not in names:
            name = name.rpartition(".")[0]
        return name

    graph = {name_of(x): {module_of(name) for name in uses(x).imported} for x in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


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
            bound = ast.walk(node.targets[0]) if isinstance(node, ast.Assign) else ()
            names = isinstance(node, ast.Assign) and all(
                x.id in ("__all__", "__version__", "__getattr__", "__dir__")
                for x in bound
                if isinstance(x, ast.Name)
            )
            assert docstring or names or isinstance(node, (ast.Import, ast.ImportFrom)), path


def test_type_checkers_read_the_public_names():
    """The stub names what the package finds, each in the module that defines it."""
    stub = {}
    for node in ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8")).body:
        for alias in getattr(node, "names", ()):
            assert alias.asname == alias.name  # a stub exports no other import
            stub[alias.name] = node.module
    assert sorted(stub) == softbon_jax.__all__
    for name, module in stub.items():
        value = getattr(importlib.import_module(module), name)
        assert value is getattr(softbon_jax, name), name


def test_public_names_are_imported_when_used():
    """Also while JAX traces: no module makes an array when it is imported, which would belong to it."""
    code = """
import sys, softbon_jax as sb
before = sorted(x for x in sys.modules if x.startswith("softbon_jax"))
assert before == ["softbon_jax", "softbon_jax._lazy"], before
assert dir(sb) == sb.__all__
import jax
with jax.checking_leaks():
    jax.make_jaxpr(lambda x: (x, [getattr(sb, name) for name in sb.__all__])[0])(1.0)
assert all(name in vars(sb) for name in sb.__all__)  # and not looked for again
print(sb.metrics(sb.bernoulli(0.5), n=2, temperature=1.0).kl_soft_base)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 0.1
    for name in ("continuous", "exact", "pools", "problem", "sampling", "simulation", "tuning"):
        assert softbon_jax.__getattr__(name) is importlib.import_module(f"softbon_jax.{name}")
    with pytest.raises(AttributeError, match="module 'softbon_jax' has no attribute 'metric'"):
        _ = softbon_jax.metric


def test_folders_are_packages():
    """A folder without an `__init__.py` would be left out of what is read here, and be importable."""
    for path in MODULES:
        assert (path.parent / "__init__.py").exists(), path.parent


def test_a_reader_meets_few_and_short_files():
    assert len([x for x in ROOT.iterdir() if x.suffix == ".py"]) <= 16
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in MODULES + EXPERIMENTS + FIGURES + BENCHMARKS + TESTS
    }
    assert {name: lines for name, lines in lengths.items() if lines > LINES} == {}


# What the reading notices -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "from softbon_jax.exact import _soft",
        "import softbon_jax.exact._soft as soft",
        "def f():\n    from softbon_jax.exact._soft import tilted_terms",
        "from softbon_jax.exact.laws import _log_tilted as law",
        "from softbon_jax import exact\nexact._soft.tilted_terms()",
        "from softbon_jax import exact as e\nx = [e.laws._log_tilted]",
        "import softbon_jax.exact\nsoftbon_jax.exact._soft",
        "import softbon_jax as sb\nsb.exact._plan.Plan",
    ],
)
def test_private_names_are_noticed(source):
    assert crossings(("softbon_jax", "bounds"), Uses(source))
    # what is private to a module is so in its own folder too
    assert bool(crossings(("softbon_jax", "exact"), Uses(source))) == ("_log" in source)


@pytest.mark.parametrize(
    "source",
    [
        "from softbon_jax.tuning import hedging",
        "import softbon_jax",
        "import softbon_jax as sb",
        "from softbon_jax import metrics",
        "def f():\n    import softbon_jax.pools as p",
        "if TYPE_CHECKING:\n    from softbon_jax.command import main",
        "from softbon_jax.sampling.select import select",
    ],
)
def test_imports_that_climb_are_noticed(source):
    """From a room on the same floor too."""
    assert climbs("softbon_jax.bounds.soft", Uses(source))


@pytest.mark.parametrize(
    "source",
    [
        "from . import soft",
        "from softbon_jax.exact import *",
        "importlib.import_module('softbon_jax.exact._soft')",
        "__import__(name)",
        "getattr(exact, '_soft')",
    ],
)
def test_ways_around_are_noticed(source):
    with pytest.raises(AssertionError):
        Uses(source)


def test_what_is_allowed():
    source = """
from softbon_jax import _checks, exact
from softbon_jax.bounds import _moments
from softbon_jax.problem import Problem
Problem(a, b)._replace(rewards=c)
_checks.finite("x", x), exact.tilted_terms(x), _moments.Tilt._fields, __name__
importlib.import_module("matplotlib"), getattr(value, name)
"""
    assert not crossings(("softbon_jax", "bounds"), Uses(source))
    assert not climbs("softbon_jax.bounds.soft", Uses(source))


def test_every_mutant_has_its_place():
    """The text that it changes is there, once: `make mutants` takes an hour to say so."""
    assert len(mutants.load()) >= 120
