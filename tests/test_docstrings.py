"""Every public docstring has its sections, names what it describes, and its example runs.

`python -m tests.test_docstrings` runs the examples in JAX's own configuration, without 64-bit numbers;
with `first`, the first one of each source file that does not compile for long, as `make slow` does.
`make test-long` runs them all, and those that compile the longest with 64 bits as well.
"""

import contextlib
import doctest
import inspect
import io
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax.command import _grid, _intervals, _per_prompt, advice, compilation_cache, report
from tests.public import LENGTHY

SECTIONS = ("Args", "Returns", "Raises", "Numerics", "Source", "Example")
MODULES = (
    *(sb, sb.bounds, sb.calibrate, sb.rates, sb.scores, advice, compilation_cache),
    *(_grid, _intervals, _per_prompt, report),
)
HEAD = re.compile(rf"({'|'.join((*SECTIONS, 'Attributes'))}):(.*)")
DEPRECATED = "Deprecated"
"""So begins the docstring of a name that is kept for one release: it says what to call instead."""


# What is public -----------------------------------------------------------------------------------


def members(module):
    """The public functions and classes of a module by name, those that it only imports left out."""
    names = getattr(module, "__all__", None) or [x for x in vars(module) if not x.startswith("_")]
    for name in names:
        thing = getattr(module, name)
        is_function = inspect.isfunction(inspect.unwrap(thing))
        home = getattr(thing, "__module__", "")
        own = home == module.__name__ or home.startswith(f"{module.__name__}.")
        if (is_function or isinstance(thing, type)) and (own or hasattr(module, "__all__")):
            yield name, thing


PUBLIC = {}
for _module in MODULES:
    for _name, _thing in members(_module):
        if _thing not in PUBLIC.values():
            PUBLIC[f"{_module.__name__}.{_name}"] = _thing
FUNCTIONS = {name: x for name, x in PUBLIC.items() if not isinstance(x, type)}
CLASSES = {name: x for name, x in PUBLIC.items() if isinstance(x, type)}


# What a docstring says ----------------------------------------------------------------------------


def sections(docstring):
    """[(title, lines)] in the order of the docstring; what stands behind a title is its first line."""
    found = []
    for line in docstring.splitlines():
        head = HEAD.fullmatch(line)
        if head:
            found.append((head[1], [head[2].strip()]))
        elif found and (line.startswith(" ") or not line.strip()):
            found[-1][1].append(line)
        elif found:
            found.append(("", [line]))  # a paragraph after a section belongs to none
    return found


def entries(lines):
    """The names that a list of arguments or attributes explains."""
    lines = [line for line in lines if line.strip()]
    indents = [len(line) - len(line.lstrip()) for line in lines]
    heads = [x.strip() for x, i in zip(lines, indents, strict=True) if i == min(indents)]
    names = [name.strip().lstrip("*") for x in heads for name in x.split(":")[0].split(",")]
    return [name.split(" (")[0] for name in names]


def is_deprecated(thing):
    return (inspect.getdoc(thing) or "").startswith(DEPRECATED)


def faults(function):
    """What is wrong with the docstring of a function."""
    found = sections(inspect.getdoc(function) or "")
    titles = [title for title, _ in found if title in SECTIONS]
    arguments = list(inspect.signature(function).parameters)
    optional = () if arguments else ("Args", "Raises")
    missing = [x for x in SECTIONS if x not in titles and x not in optional]
    out = [f"{title} is missing" for title in missing]
    out += [f"{title} is there twice" for title in set(titles) if titles.count(title) > 1]
    out += [f"{title} is empty" for title, lines in found if title and not "".join(lines).strip()]
    if titles != sorted(titles, key=SECTIONS.index):
        out.append(f"sections in the order {', '.join(titles)}")
    for title, lines in found:
        if title == "Args":
            explained = entries(lines[1:])
            out += [f"argument {x} is not explained" for x in arguments if x not in explained]
            out += [f"{x} is no argument" for x in explained if x not in arguments]
    return out


def faults_of_class(record):
    """What is wrong with the docstring of a class: a field that is not explained, or no attribute."""
    fields = getattr(record, "_fields", None) or list(getattr(record, "__dataclass_fields__", ()))
    named = [
        entries(x[1:])
        for title, x in sections(inspect.getdoc(record) or "")
        if title == "Attributes"
    ]
    named = [name for names in named for name in names]
    out = [f"attribute {x} is not explained" for x in fields if x not in named]
    others = [x for x in named if x not in fields]  # a property may be named too
    known = inspect.get_annotations(record)
    return out + [f"{x} is no attribute" for x in others if not (hasattr(record, x) or x in known)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_every_section(name):
    function = FUNCTIONS[name]
    if is_deprecated(function):
        words = re.findall(r"`([\w.]+)`", inspect.getdoc(function))
        assert any(x.split(".")[-1] in {y.split(".")[-1] for y in PUBLIC} for x in words)
    else:
        assert not faults(function), "; ".join(faults(function))


@pytest.mark.parametrize("name", CLASSES)
def test_classes_explain_their_fields(name):
    found = faults_of_class(CLASSES[name])
    assert not found, "; ".join(found)


# Examples -----------------------------------------------------------------------------------------


def went_wrong(name, thing):
    """What went wrong when the docstring's examples ran; "" if nothing."""
    namespace = {"sb": sb, "jax": jax, "jnp": jnp, "np": np}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), namespace, name, name, 0)
    if not any(example.want for example in test.examples):
        return f"{name}: no example that prints something"
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
    )
    out = io.StringIO()
    runner.run(test, out=out.write)
    return out.getvalue()


EXAMPLES = {
    name: x
    for name, x in PUBLIC.items()
    if not is_deprecated(x) and (name in FUNCTIONS or ">>>" in (x.__doc__ or ""))
}


IN_EXAMPLES = {
    "bounds.kl_asymptote", "bounds.kl_asymptote_coefficient", "command._grid.tabulate",
    "command._per_prompt.halves", "command.report.as_json", "from_distribution",
}  # fmt: skip
"""What is so in its example: it calls others as well, or is no function of `FUNCTIONS` there."""


def is_lengthy(name):
    return name.removeprefix("softbon_jax.") in LENGTHY | IN_EXAMPLES


def first_of_files():
    """The first example of every source file, lengthy ones left out."""
    found = {}
    for name, thing in EXAMPLES.items():
        if not is_lengthy(name):
            found.setdefault(thing.__module__, name)
    return list(found.values())


def test_the_lengthy_examples_are_there():
    named = {f"softbon_jax.{x}" for x in LENGTHY | IN_EXAMPLES}
    assert {name for name in EXAMPLES if is_lengthy(name)} == named


LONGEST = {
    "allocate", "blockwise_metrics", "command._per_prompt.halves", "hedge", "log_noisy_soft_bon",
    "markov_metrics", "renyi", "simulate",
}  # fmt: skip


def marks(name):
    if not is_lengthy(name):
        return []
    return pytest.mark.long if name.removeprefix("softbon_jax.") in LONGEST else pytest.mark.slow


OF_AN_EXTRA = {
    "scores.describe": "duckdb",
    "scores.read": "duckdb",
    "command.report.as_html": "matplotlib",
}
"""What the package by itself does not bring: the wheel is tested without the extras."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(x, marks=marks(x)) for x in EXAMPLES])
def test_examples_run(name, tmp_path, monkeypatch):
    if needed := OF_AN_EXTRA.get(name.removeprefix("softbon_jax.")):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    # what users have: the strict promotion of the tests is for the inside of the package
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        failed = went_wrong(name, EXAMPLES[name])
    assert not failed, failed


@pytest.mark.parametrize(
    "which",
    [pytest.param(["first"], marks=pytest.mark.slow), pytest.param([], marks=pytest.mark.long)],
    ids=["first", "all"],
)
def test_examples_give_the_same_without_64_bits(which):
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_docstrings", *which],
        cwd=root,
        env={**os.environ, "JAX_ENABLE_X64": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The checks themselves ----------------------------------------------------------------------------


def half(number, *, below=False):
    """Half of a number.

    Args:
      number: even,
        or not.
      below: round down.

    Returns:
      A number.

    Raises:
      TypeError: it is no number.

    Numerics: exact.
    Source: everyone knows.

    Example:
      >>> half(3, below=True)
      1
    """
    return number // 2 if below else number / 2


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Numerics: exact.", "", "Numerics is missing"),
        ("Source: everyone knows.", "Source:", "Source is empty"),
        ("      below: round down.\n", "", "argument below is not explained"),
        ("  below: round", "  above: round", "above is no argument"),
        ("      A number.", "", "Returns is empty"),
        (
            "Raises:\n      TypeError: it is no number.",
            "Numerics: again.",
            "Numerics is there twice",
        ),
        ("Numerics: exact.\n    Source: everyone knows.", "Source: x.\n    Numerics: x.", "order"),
    ],
)
def test_faults_are_found(old, new, fault):
    assert faults(half) == []
    spoiled = types.FunctionType(half.__code__, globals(), "half", half.__defaults__)
    spoiled.__kwdefaults__ = half.__kwdefaults__
    assert old in half.__doc__
    spoiled.__doc__ = half.__doc__.replace(old, new)
    assert any(fault in found for found in faults(spoiled)), faults(spoiled)


def test_failing_and_silent_examples_are_found():
    def example(text):
        half_of = types.FunctionType(half.__code__, globals(), "half")
        half_of.__doc__ = text
        return went_wrong("half", half_of)

    assert example("Example:\n  >>> int(jnp.sum(np.arange(3)))\n  3") == ""
    assert "Got:\n    3" in example("Example:\n  >>> int(jnp.sum(np.arange(3)))\n  4")
    assert "no example" in example("Example:\n  >>> problem = sb.zipf(3)")


def main():
    failures, names = 0, first_of_files() if "first" in sys.argv[1:] else list(EXAMPLES)
    for name in names:
        with contextlib.redirect_stdout(io.StringIO()):
            failed = went_wrong(name, EXAMPLES[name])
        print(failed, end="")
        failures += bool(failed)
    print(f"{failures} of {len(names)} examples fail, 64-bit {jax.config.jax_enable_x64}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
