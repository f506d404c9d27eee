"""python -m experiments list | run NAME | reproduce | verify | share I/K."""

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
from experiments import runner, verify, workers
from experiments.claims import Claim
from experiments.progress import Progress
from softbon_jax.command import check_output, compilation_cache, naming, printable, replacing

Size = Literal["smoke", "paper"]

USAGE = """usage: python -m experiments COMMAND [options]

commands:
  list         the experiments and what they show
  run NAME     compute one experiment and save its result
  reproduce    compute all, check all claims, draw all figures, write the report
  verify       check the claims, computing what is missing
  share I/K    compute the I-th of K shares of all cells, I from 0, for `reproduce` or `verify` to find

Each command explains its options with --help; `run NAME --help` lists the settings of NAME."""


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Compute every experiment, check every claim, draw every figure, write the report.

    It can be stopped at any time: started again, it computes only what is missing.

    Attributes:
      config: which of the two sets of settings to use.
      out: folder of results; results/CONFIG by default. The report is OUT/report.html.
      only: names of experiments; all by default.
      gallery: folder of figures; figures/gallery for the paper config, else OUT/figures.
      page: the table of claims as a page; docs/claims.md for all of the paper config, else none.
      force: compute again what is up to date.
      processes: how many compute, side by side; one a core by default, and one on an accelerator.
    """

    config: Size = "paper"
    out: Path | None = None
    only: tuple[str, ...] = ()
    gallery: Path | None = None
    page: Path | None = None
    force: bool = False
    processes: int | None = None


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check every claim against the saved results, computing those that are missing.

    The exit status is 0 if all claims pass, 1 if one fails and 2 if the command is invalid. The
    tolerances are in experiments/claims/__init__.py.

    Attributes:
      config: which of the two sets of settings to use.
      out: folder of results; results/CONFIG by default.
      only: names of experiments; all by default.
      format: of the printed table.
      json: also save the claims to this file, as JSON.
      junit: also save them to this file, as JUnit XML.
      processes: how many compute, side by side; one a core by default, and one on an accelerator.
    """

    config: Size = "paper"
    out: Path | None = None
    only: tuple[str, ...] = ()
    format: Literal["table", "markdown", "json", "junit"] = "table"
    json: Path | None = None
    junit: Path | None = None
    processes: int | None = None


@dataclasses.dataclass(frozen=True)
class Share:
    """Compute one share of the cells of the experiments: on a cluster, one a job.

    `reproduce` or `verify` with the same options takes what it finds and computes what is missing, so
    any of the jobs may be stopped, and started again.

    Attributes:
      part: I/K, the I-th of K shares, I from 0 to K - 1; such as $SLURM_PROCID/$SLURM_NTASKS.
      config: which of the two sets of settings to use.
      out: folder of results, which all jobs can write to; results/CONFIG by default.
      only: names of experiments; all by default.
      processes: how many compute, side by side; one a core by default, and one on an accelerator.
    """

    part: tyro.conf.Positional[str]
    config: Size = "paper"
    out: Path | None = None
    only: tuple[str, ...] = ()
    processes: int | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 if all is well, 1 if a claim fails, 2 if the command is invalid."""
    jax.config.update("jax_enable_x64", True)
    compilation_cache.enable()
    compilation_cache.quick()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (given[0], given[1:]) if given else ("", [])
    commands = {
        "list": _list,
        "run": _run,
        "reproduce": _reproduce,
        "verify": _verify,
        "share": _share,
    }
    if command not in commands:
        asked = command in ("-h", "--help")
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    try:
        return commands[command](rest)
    except (runner.ResultError, ValueError, OSError) as error:
        print(f"error: {printable(error)}", file=sys.stderr)
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
    # The defaults of the options depend on --config, so it is read first.
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
            (
                "config",
                Annotated[Size, tyro.conf.arg(help="which settings to start from")],
                "paper",
            ),
            ("out", Annotated[Path | None, tyro.conf.arg(help="folder of results")], None),
            (
                "force",
                Annotated[bool, tyro.conf.arg(help="compute again what is up to date")],
                False,
            ),
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
    out = chosen.out or runner.default_results(size)
    runner.execute(name, chosen.settings, out, force=chosen.force)
    print(out / name / "data.nc")
    return 0


def _reproduce(arguments: Sequence[str]) -> int:
    import figures.__main__ as draw  # the other commands draw nothing
    from experiments import report

    prog = "python -m experiments reproduce"
    options = tyro.cli(Reproduce, args=arguments, prog=prog, config=(tyro.conf.FlagCreatePairsOff,))
    out = options.out or runner.default_results(options.config)
    paper_gallery = runner.REPOSITORY / "figures" / "gallery"
    gallery = options.gallery or (paper_gallery if options.config == "paper" else out / "figures")
    narrow = out / "one_column"
    names, number = _names(options.only), _processes(options.processes)
    whole = options.config == "paper" and not options.only
    table = options.page or (runner.REPOSITORY / "docs" / "claims.md" if whole else None)
    with Progress(verify.steps(options.config, names) + len(names) + 1 + bool(table)) as progress:

        def drawn(call: workers.Task, name: str) -> None:
            path = call(draw.render_one, name, out, gallery)
            call(draw.render_one, name, out, narrow, "svg", 1)  # for the report alone
            progress.step(f"drawn {path}")

        claims = verify.check(
            options.config, out, names, progress, force=options.force, processes=number, then=drawn
        )
        whole_page = report.as_html(claims, options.config, out, gallery, narrow)
        pages = {out / "report.html": whole_page}
        if table:
            pages[table] = verify.as_page(claims, options.config)
        for page, text in pages.items():
            with replacing(page) as temporary:
                temporary.write_text(text, encoding="utf-8")
            progress.step(f"written {page}")
    return _print(claims, "table")


def _verify(arguments: Sequence[str]) -> int:
    options = tyro.cli(Verify, args=arguments, prog="python -m experiments verify")
    out = options.out or runner.default_results(options.config)
    names, number = _names(options.only), _processes(options.processes)
    files = [
        (option, path, text)
        for option, path, text in (
            ("--json", options.json, verify.as_json),
            ("--junit", options.junit, verify.as_junit),
        )
        if path is not None
    ]
    for option, path, _ in files:  # before anything is computed
        with naming(option, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            check_output(path)
    claims = verify.check(options.config, out, names, processes=number)
    for option, path, text in files:
        with naming(option, path), replacing(path) as temporary:
            temporary.write_text(text(claims) + "\n", encoding="utf-8")
    return _print(claims, options.format)


def _share(arguments: Sequence[str]) -> int:
    options = tyro.cli(Share, args=arguments, prog="python -m experiments share")
    own, shares = _part(options.part)
    out = options.out or runner.default_results(options.config)
    names, number = _names(options.only), _processes(options.processes)
    configs = {name: getattr(experiments.module(name), options.config.upper()) for name in names}
    cells = [(x, i) for x in names for i in range(len(experiments.module(x).cells(configs[x])))]
    some = cells[own::shares]
    with Progress(len(some)) as progress, workers.processes(number) as call:

        def compute(name: str) -> None:
            indices = [i for x, i in some if x == name]
            runner.compute_some(name, configs[name], out, indices, progress, call)

        workers.side_by_side(compute, list(dict.fromkeys(x for x, _ in some)), number)
    return 0


def _part(text: str) -> tuple[int, int]:
    own, _, shares = text.partition("/")
    if not (own.isdecimal() and shares.isdecimal() and int(own) < int(shares)):
        raise ValueError(f"share takes I/K with I from 0 to K - 1, got {printable(text)!r}")
    return int(own), int(shares)


def _names(only: Sequence[str]) -> Sequence[str]:
    """The requested experiments; an unknown name is refused before anything is computed."""
    for name in only:
        experiments.module(name)
    return only or experiments.NAMES


def _processes(given: int | None) -> int:
    if given is not None and given < 1:
        raise ValueError(f"--processes must be at least 1, got {given}")
    return workers.default_number() if given is None else given


def _print(claims: list[Claim], style: str) -> int:
    if style == "table":
        # Where there is no terminal to fit, the table is wide enough to be read.
        fits = rich.console.Console().is_terminal
        rich.console.Console(width=None if fits else 160).print(verify.as_table(claims))
    else:
        formats = {"markdown": verify.as_markdown, "json": verify.as_json, "junit": verify.as_junit}
        print(formats[style](claims))
    return 0 if all(claim.passed for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
