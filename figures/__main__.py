"""python -m figures: draw every figure from saved results."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import NAMES, runner
from figures import style


def render(results: Path, out: Path, suffix: str = "svg") -> list[Path]:
    """Draw each experiment's figure from its result in `results`; the paths of the files written.

    Raises:
      runner.ResultError: a result is missing or damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in NAMES:
        figure = importlib.import_module(f"figures.{name}").draw(runner.load(name, results))
        paths.append(out / f"{name}.{suffix}")
        style.save(figure, paths[-1])
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw all figures; 0, or 2 if a result is not there."""
    gallery = Path(__file__).resolve().parent / "gallery"
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=Path("results/paper"), help="where results are"
    )
    parser.add_argument("--out", type=Path, default=gallery, help="where figures go")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args(arguments)
    try:
        paths = render(options.results, options.out, options.format)
    except runner.ResultError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
