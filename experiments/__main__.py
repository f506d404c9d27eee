"""python -m experiments list | run NAME | reproduce | verify."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import rich.console
import tyro

import experiments
from experiments import runner, verify
from experiments.claims import Claim

Size = Literal["smoke", "paper"]

USAGE = """usage: python -m experiments COMMAND [options]

commands:
  list         the experiments and what they show
  run NAME     compute one experiment and save its result
  reproduce    compute all, draw all figures, check all claims
  verify       check the claims, computing what is missing

Each command explains its options with --help; `run NAME --help` lists the settings of NAME."""


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Compute every experiment, draw every figure and check every claim.

    Attributes:
      config: which of the two sets of settings.
      out: folder of results; results/CONFIG by default.
      gallery: folder of figures; figures/gallery for the paper config, else OUT/figures.
      force: compute again what is there.
    """

    config: Size = "paper"
    out: Path | None = None
    gallery: Path | None = None
    force: bool = False


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check every claim against the saved results, computing those that are missing.

    Attributes:
      config: which of the two sets of settings.
      out: folder of results; results/CONFIG by default.
      format: how the table is printed.
    """

    config: Size = "paper"
    out: Path | None = None
    format: Literal["table", "markdown", "json"] = "table"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if a claim fails, 2 if the command makes no sense."""
    jax.config.update("jax_enable_x64", True)
    given = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (given[0], given[1:]) if given else ("", [])
    commands = {"list": _list, "run": _run, "reproduce": _reproduce, "verify": _verify}
    if command not in commands:
        asked = command in ("-h", "--help")
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    try:
        return commands[command](rest)
    except (runner.ResultError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(arguments: Sequence[str]) -> int:
    if arguments:
        raise ValueError(f"list takes no options, got {' '.join(arguments)}")
    for name in experiments.NAMES:
        summary = (experiments.module(name).__doc__ or "").splitlines()[0]
        print(f"{name:14} {summary}")
    return 0


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"run needs the name of an experiment: {', '.join(experiments.NAMES)}")
    name, *rest = arguments
    experiment = experiments.module(name)
    # The settings that the options override must be known before the options can be explained.
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    peek.add_argument("--config", default="paper")
    size = peek.parse_known_args(rest)[0].config
    if size not in ("smoke", "paper"):
        raise ValueError(f"--config must be smoke or paper, got {size!r}")
    settings = getattr(experiment, size.upper())
    options = dataclasses.make_dataclass(
        "Options",
        [
            ("settings", Annotated[experiment.Config, tyro.conf.arg(name="")], settings),
            ("config", Annotated[Size, tyro.conf.arg(help="which settings")], "paper"),
            ("out", Annotated[Path | None, tyro.conf.arg(help="folder of results")], None),
            ("force", Annotated[bool, tyro.conf.arg(help="overwrite what is there")], False),
        ],
        frozen=True,
    )
    chosen: Any = tyro.cli(
        options,
        args=rest,
        prog=f"python -m experiments run {name}",
        description=experiment.__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    out = chosen.out or default_results(size)
    runner.execute(name, chosen.settings, out, force=chosen.force)
    print(out / name / "data.nc")
    return 0


def _reproduce(arguments: Sequence[str]) -> int:
    import figures.__main__ as draw  # drawing is not needed by the other commands

    prog = "python -m experiments reproduce"
    options = tyro.cli(Reproduce, args=arguments, prog=prog, config=(tyro.conf.FlagCreatePairsOff,))
    out = options.out or default_results(options.config)
    for name in experiments.NAMES:
        settings = getattr(experiments.module(name), options.config.upper())
        runner.execute(name, settings, out, force=options.force)
    paper_gallery = runner.REPOSITORY / "figures" / "gallery"
    gallery = paper_gallery if options.config == "paper" else out / "figures"
    for path in draw.render(out, options.gallery or gallery):
        print(path)
    return _table(verify.check(options.config, out), "table")


def _verify(arguments: Sequence[str]) -> int:
    options = tyro.cli(Verify, args=arguments, prog="python -m experiments verify")
    out = options.out or default_results(options.config)
    return _table(verify.check(options.config, out), options.format)


def _table(claims: list[Claim], style: str) -> int:
    if style == "table":
        console = rich.console.Console()
        # Where there is no terminal to fit, the table is as wide as it needs to be to be read.
        console.print(verify.as_table(claims), width=None if console.is_terminal else 160)
    else:
        print(verify.as_markdown(claims) if style == "markdown" else verify.as_json(claims))
    return 0 if all(claim.passed for claim in claims) else 1


def default_results(size: str) -> Path:
    """Where results of a config go unless told otherwise."""
    return Path("results") / size


if __name__ == "__main__":
    sys.exit(main())
