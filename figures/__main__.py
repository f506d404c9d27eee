"""python -m figures [NAME ...]: draw figures from saved results."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from experiments import NAMES, module, runner
from figures import style
from softbon_jax.command import replacing


def render(
    results: Path, out: Path, names: Sequence[str] = NAMES, suffix: str = "svg", columns: int = 2
) -> Iterator[Path]:
    """Draw the figures of experiments from their results in `results`, and yield each path.

    Figures are at most two columns of a journal wide, or one.

    Raises:
      runner.ResultError: a result is missing or damaged.
    """
    for name in names:
        yield render_one(name, results, out, suffix, columns)


def render_one(name: str, results: Path, out: Path, suffix: str = "svg", columns: int = 2) -> Path:
    """Draw the figure of one experiment, as `render` does; the path of the figure."""
    out.mkdir(parents=True, exist_ok=True)
    dataset = runner.load(name, results)
    with style.one_column() if columns == 1 else nullcontext():
        figure = importlib.import_module(f"figures.{name}").draw(dataset)
    path = out / f"{name}.{suffix}"
    with replacing(path) as temporary:
        style.save(figure, temporary, suffix)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw all figures, or those that are named: 0, or 2 if a result is missing."""
    gallery = Path(__file__).resolve().parent / "gallery"
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of an experiment; all by default")
    parser.add_argument(
        "--results", type=Path, default=Path("results/paper"), help="where results are"
    )
    parser.add_argument("--out", type=Path, default=gallery, help="where figures go")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    parser.add_argument(
        "--columns", type=int, choices=(1, 2), default=2, help="of a journal, the largest width"
    )
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            module(name)  # an unknown one is refused before anything is drawn
        names = options.names or NAMES
        for path in render(options.results, options.out, names, options.format, options.columns):
            print(path)
    except (runner.ResultError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
