"""The command `softbon`: from a file of scores to a decision."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from softbon_jax import _checks, problem, scores
from softbon_jax.command import (
    _files,
    _inspect as inspection,
    _options,
    _processes,
    _terminal,
    advice,
    compilation_cache,
    report,
)
from softbon_jax.exact.metrics import metrics
from softbon_jax.sampling.select import select
from softbon_jax.tuning.calibrate import temperature_for_kl

LEARN = """Soft best-of-n draws n responses and returns one of them with probability proportional
to exp(reward / λ). A larger n and a smaller λ (temperature, in the units of the reward) give more
reward and move further from the policy, in KL; where the reward is a proxy, past some point they
give less of what it stands for.

  softbon inspect scores.csv.gz                 what is in the file, and how it is read
  softbon analyze scores.csv.gz                 reward and KL at each n and λ
  softbon analyze scores.csv.gz --kl 2 --html report.html
                                                the best point within 2 nats, as a web page
  softbon select scores.csv.gz --n 8 --temperature 0.5 --out selected.csv
                                                mark the response to serve
  softbon plan --probs 0.5 0.3 0.2 --rewards 0 1 2 --kl 0.5
                                                the same for a law that is known, exactly

`softbon COMMAND --help` explains the options.

What JAX compiles is kept for the next run in the folder named by the environment variable
SOFTBON_CACHE, by default softbon_jax in the user's cache; SOFTBON_CACHE=off keeps nothing."""

LARGEST = 1e150
"""The squares of larger scores, of which standard errors are made, are not finite."""

FEW = 512
"""With fewer prompts most of the time is compilation, which is then made quick."""

ANALYZE = """Reads scored responses (CSV and its kin, JSON, Parquet, Arrow, npz; one row a response, or
one a prompt with lists of responses), and estimates without bias what soft best-of-n would select
from new responses of the same policy, for every n up to the number of responses a prompt has. Only
the scores are needed.

Columns: the prompt that a row answers (--prompt), the reward that selects (--reward), and optionally
the score that is really wanted (--gold), such as correctness (0 or 1), a better judge or a length.
With a gold score the recommendation maximizes gold, and the command says whether the proxy is
over-optimized.

Several columns after --reward or --gold are averaged: --reward judge_1 judge_2 --gold judge_3. With
noisy judges of one kind, --reward judge_1 judge_2 judge_3 --leave-one-out lets each of them judge
what the others select, so that their noise is not counted as gain.

With --answer, a column of the answer that a response gives, votes are set beside selection by scores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `softbon`.

    The persistent compilation cache is turned on (`compilation_cache.enable`), and 64-bit mode for as
    long as the command runs. `analyze` of fewer than `FEW` prompts adds a flag to `XLA_FLAGS`
    (`compilation_cache.quick`).

    Args:
      arguments: those of the command line, without the name of the program; None for `sys.argv`.

    Returns:
      The exit status: 0 for success; 2 for bad input or options, with one line on standard error.

    Raises:
      SystemExit: `--help`, or options that do not parse, also with one line on standard error.

    Numerics: float64.
    Source: `softbon COMMAND --help` and the documentation of the command.

    Example:
      >>> from softbon_jax.command.main import main
      >>> main("plan --probs 0.5 0.5 --rewards 0 1 --n 1 2".split())
             n          λ     reward   KL(nats)   win rate
             1          0        0.5          0        0.5
             2          0       0.75     0.1308      0.625
      0
    """
    options = _parser().parse_args(arguments)
    compilation_cache.enable()
    try:
        with jax.enable_x64(True):
            options.work(options)
    except MemoryError as error:
        what = _options.named(options) if hasattr(options, "file") else "the law"
        reason = f": {error}" if str(error) else ""
        _terminal.complain(f"{what} does not fit into memory{reason}")
    except (ValueError, OSError, ImportError) as error:
        _terminal.complain(error)
    else:
        return 0
    if getattr(options, "distributed", False):
        _processes.leave()
    return 2


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _terminal.Parser(prog="softbon", description=LEARN, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    analyze = commands.add_parser(
        "analyze",
        help="reward, gold and KL against n and λ, and the best point",
        description=ANALYZE,
        formatter_class=raw,
    )
    _options.file_options(analyze)
    analyze.add_argument(
        "--n",
        type=int,
        nargs="+",
        help="numbers of responses; default: powers of two the pools allow",
    )
    analyze.add_argument(
        "--temperature", type=float, nargs="+",
        help="temperatures λ in reward units, 0 = hard best-of-n, inf = one at random; default: 0, inf "
        "and seven that spend from 7%% to 95%% of the KL of hard best-of-n",
    )  # fmt: skip
    analyze.add_argument(
        "--kl", type=float, help="budget: largest mean KL from the policy, in nats"
    )
    analyze.add_argument(
        "--budget-n", type=int, help="budget: largest number of responses a prompt"
    )
    analyze.add_argument(
        "--leave-one-out", action="store_true",
        help="select by all --reward columns but one and value by that one, averaged over which",
    )  # fmt: skip
    analyze.add_argument("--html", type=Path, help="write a self-contained report here")
    analyze.add_argument("--json", type=Path, help="write all numbers here")
    analyze.add_argument("--seed", type=int, default=0, help="of the bootstrap over prompts")
    analyze.add_argument(
        "--float32", action="store_true",
        help="estimate in float32, in a third of the time: off by up to 1e-5 of the range of the scores",
    )  # fmt: skip
    analyze.add_argument(
        "--distributed", action="store_true",
        help="one of several processes that divide the prompts, as srun or mpirun starts them; "
        "each reads the files, the first one writes",
    )  # fmt: skip
    analyze.set_defaults(work=_analyze)

    look = commands.add_parser(
        "inspect",
        help="columns, pools, ties, missing scores and outliers of a file",
        description="Shows the columns of a file and what is in them, the pools as they are read, and "
        "the command that analyzes them, with every column by its name.",
    )
    _options.file_options(look)
    look.set_defaults(work=_inspect, leave_one_out=False, seed=0, temperature=None)

    choose = commands.add_parser(
        "select",
        help="mark the selected response of every prompt",
        description="Copies the file with one more column: 1 for the response of each prompt that soft "
        "best-of-n selects, 0 for the others. The same seed selects the same responses.",
    )
    _options.file_options(choose, many=False)
    choose.add_argument("--n", type=int, help="select among the first n of a prompt; default: all")
    choose.add_argument("--temperature", type=float, required=True, help="λ in reward units")
    choose.add_argument("--seed", type=int, default=0, help="of the selection")
    choose.add_argument("--column", default="selected", help="name of the new column")
    choose.add_argument("--out", type=Path, required=True, help="file to write, of the same format")
    choose.set_defaults(work=_select, leave_one_out=False)

    known = commands.add_parser(
        "plan",
        help="the exact trade-off for a known law",
        description="For a reference law with known probabilities and rewards: the exact mean "
        "reward, KL from the law and win rate of soft best-of-n. With --kl, the temperature at which "
        "the KL is that.",
    )
    known.add_argument("--probs", type=float, nargs="+", help="of the outcomes; default: all equal")
    known.add_argument(
        "--rewards", type=float, nargs="+",
        help="of the outcomes; default: 64 quantiles of a standard normal reward",
    )  # fmt: skip
    known.add_argument(
        "--n", type=float, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="real numbers"
    )
    what = known.add_mutually_exclusive_group()
    what.add_argument(
        "--temperature", type=float, default=None, help="λ in reward units; default: 0"
    )
    what.add_argument("--kl", type=float, help="KL budget of every n, in nats")
    known.set_defaults(work=_plan)
    return parser


# The commands ------------------------------------------------------------------------------------


def _check_outputs(outputs: dict[str, Path | None], sources: Sequence[Path]) -> None:
    """That every output can be written, and that none replaces another or the scores."""
    seen = {os.path.realpath(source): "the file of scores" for source in sources}
    for option, path in outputs.items():
        if path is None:
            continue
        with _files.naming(option, path):
            _files.check_output(path)
        place = os.path.realpath(path)
        if place in seen and (path.is_file() or not path.exists()):
            raise ValueError(f"{option} {path} is {seen[place]}; name another file")
        seen[place] = f"also the file of {option}"


def _analyze(options: argparse.Namespace) -> None:
    if options.distributed:
        _processes.join()  # before anything is computed
    _options.check_file_options(options)
    if options.answer is not None and (options.leave_one_out or options.gold == ["none"]):
        other = "--leave-one-out" if options.leave_one_out else "--gold none"
        raise ValueError(
            f"--answer {options.answer} needs a gold score that says how good each answer is, "
            f"not {other}"
        )
    _positive("--kl", options.kl)
    _positive("--budget-n", options.budget_n)
    for size in options.n or ():
        _checks.positive_integer("--n", size)
    if _processes.first():
        outputs = {"--html": options.html, "--json": options.json}
        _check_outputs(outputs, scores.files_of(options.file))
    if options.html:
        report.drawing()
    with _terminal.progress() as tell:
        text = _analysis(options, tell)
    if _processes.first():
        _terminal.say(text)


def _analysis(options: argparse.Namespace, tell: Callable[[str], None]) -> str:
    """The report of `_analyze`, once its options are checked; every step is told."""
    tell(f"reading {_options.named(options)}")
    pools = _options.read(options, least=2)
    if pools.answers is not None and pools.gold is None:
        raise ValueError(
            f"--answer {options.answer} needs a gold score that says how good each answer is (--gold)"
        )
    if len(pools.where) < FEW:
        compilation_cache.quick()
    largest = int(pools.where.sum(1).max())
    if max(options.n or [1]) > largest:
        raise ValueError(f"--n must be at most {largest}, the largest pool, got {max(options.n)}")
    known = [x for x in (pools.rewards, pools.gold) if x is not None]
    if max(np.abs(x[np.isfinite(x)]).max(initial=0.0) for x in known) > LARGEST:
        raise ValueError(
            f"{_options.named(options)}: scores beyond {LARGEST:g} overflow; rescale them"
        )
    n = advice.default_n(pools) if options.n is None else np.array([1, *options.n])
    temperature = (
        advice.default_temperatures(pools)
        if options.temperature is None
        else np.unique(options.temperature)
    )

    def estimating(of: str = "") -> Callable[[int, int], None]:
        def told(done: int, total: int) -> None:
            part = f", part {min(done + 1, total)} of {total}" if total > 1 else ""
            tell(f"estimating{of}{part}")

        return told

    how = {"float32": options.float32}
    table = advice.tabulate(pools, n, temperature, tell=estimating(), **how)
    tell("resampling prompts")
    choice = advice.choose(table, kl=options.kl, n=options.budget_n, seed=options.seed)
    limits = [f"mean KL ≤ {options.kl:g} nats"] if options.kl is not None else []
    limits += [f"n ≤ {options.budget_n}"] if options.budget_n is not None else []
    per_prompt = None
    # Where all prompts have the lowest λ of the grid, no other λ spends that KL.
    if choice.ok and choice.n > 1 and choice.temperature > table.temperature.min():
        told = estimating(" on half of the responses")
        halves = advice.halves(pools, table, choice.n, seed=options.seed, tell=told, **how)
        per_prompt = advice.per_prompt_temperatures(table, choice.n, choice.kl, halves=halves)
    verdicts = {}
    if table.gold is not None:
        # The lowest temperature, where selection is strongest, and the recommended one.
        asked = {*table.temperature[:1], *([choice.temperature] if choice.ok else [])}
        for t in sorted(t for t in asked if np.isfinite(t)):
            verdicts[float(t)] = advice.overoptimized(table, t, seed=options.seed)
    ballot = None
    if pools.answers is not None:
        tell("counting votes")
        usual = choice.ok and 0 < choice.temperature < np.inf
        shared = choice.temperature if usual else None
        ballot = advice.ballot(pools, table, shared, seed=options.seed)
    analysis = report.Analysis(
        source=_options.named(options),
        scores=pools,
        table=table,
        budget=" and ".join(limits) or "any budget",
        choice=choice,
        per_prompt=per_prompt,
        verdicts=verdicts,
        ballot=ballot,
    )
    if not _processes.first():
        return ""
    # Everything is made before anything is written.
    tell("drawing" if options.html else "writing")
    page = report.as_html(analysis) if options.html else None
    numbers = (
        json.dumps(report.as_json(analysis), indent=1, allow_nan=False) if options.json else None
    )
    for option, path, text in (("--html", options.html, page), ("--json", options.json, numbers)):
        if text is not None:
            with _files.naming(option, path), _files.replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
    return report.as_text(analysis)


def _positive(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{option} must be positive, got {value}")


def _select(options: argparse.Namespace) -> None:
    _options.check_file_options(options)
    if options.n is not None:
        _checks.positive_integer("--n", options.n)
    kind = scores.format_of(options.file)
    if kind not in ("csv", "jsonl", "parquet"):
        raise ValueError(
            f"{options.file}: select does not write {kind}; convert the file to CSV, JSON "
            "lines or Parquet"
        )
    if scores.format_of(options.out) != scores.format_of(options.file):
        raise ValueError(f"--out must be of the format of {options.file.name}, got {options.out}")
    with _files.naming("--out", options.out):
        _files.check_output(options.out)
    if kind == "parquet":
        _files.parquet()
    unchanged = _files.watch(options.file)
    pools = _options.read(options, least=1)
    if options.n is not None:
        short = int(np.argmin(pools.where.sum(1)))
        fewest = pools.where[short].sum()
        if fewest < options.n:
            raise ValueError(
                f"--n asks for {options.n}, prompt {pools.prompts[short]!r} has {fewest} responses"
            )
    n = pools.where.shape[1] if options.n is None else options.n
    index = select(
        jax.random.key(options.seed),
        pools.rewards[:, :n],
        options.temperature,
        where=pools.where[:, :n],
    )
    chosen = _chosen(pools, np.asarray(index))
    with _files.naming("--out", options.out), _files.replacing(options.out) as temporary:
        unchanged()
        _files.copy_with_column(options.file, temporary, options.column, chosen, name=options.out)
        unchanged()
    total = pools.read if pools.places is None else int(pools.where.sum())
    _terminal.say(
        f"{_terminal.printable(options.out)}: {len(pools.prompts)} of {total} responses selected"
    )


def _chosen(pools: scores.Scores, index: np.ndarray) -> list[Any]:
    """For each row 1 if it is selected, else 0; a list of them where a row holds several responses."""
    marks = np.zeros(pools.where.shape, int)
    marks[np.arange(len(index)), index] = 1
    if pools.places is None:
        flat = np.zeros(pools.read, int)
        flat[pools.rows[pools.where]] = marks[pools.where]
        return list(map(int, flat))
    rows: list[Any] = [[] for _ in range(pools.read)]
    order = np.argsort(pools.places[pools.where], kind="stable")
    for row, mark in zip(pools.rows[pools.where][order], marks[pools.where][order], strict=True):
        rows[row].append(int(mark))
    return rows


def _inspect(options: argparse.Namespace) -> None:
    _options.check_file_options(options)
    _terminal.say("\n".join(_terminal.printable(line) for line in inspection.lines(options)))


def _plan(options: argparse.Namespace) -> None:
    _positive("--kl", options.kl)
    _checks.finite_at_least("--n", options.n, 1)
    if options.temperature is not None:
        _checks.temperature(options.temperature, name="--temperature")
    if options.rewards is None:
        if options.probs is not None:
            raise ValueError("--probs needs --rewards")
        rewards = np.array([NormalDist().inv_cdf((k + 0.5) / 64) for k in range(64)])
    else:
        _checks.finite("--rewards", options.rewards)
        rewards = np.array(options.rewards)
    probs = (
        np.full(len(rewards), 1 / len(rewards))
        if options.probs is None
        else np.array(options.probs)
    )
    # The range of rewards of the largest or the smallest numbers is not finite, or is rounded.
    largest = np.abs(rewards).max()
    unit = 1.0 if largest == 0 or 1 / LARGEST < largest < LARGEST else largest
    with np.errstate(over="ignore"):  # a sum that is infinite is refused because it is not 1
        known = problem.from_probs(probs, rewards / unit)
    n = np.array(options.n, float)
    if options.kl is None:
        temperature = np.full(n.shape, (options.temperature or 0.0) / unit)
        reached = np.ones(n.shape, bool)
    else:
        # A budget that hard best-of-n cannot spend is infeasible, and the temperature is then 0.
        answer = temperature_for_kl(known, n, options.kl)
        temperature, reached = np.asarray(answer.value), np.asarray(answer.feasible)
    exact = metrics(known, n, temperature)
    lines = [f"{'n':>8} {'λ':>10} {'reward':>10} {'KL(nats)':>10} {'win rate':>10}"]
    reward = np.asarray(exact.reward) * unit
    reward = np.where(np.abs(reward) < 1e-12 * largest, 0.0, reward)  # rounding
    columns = (n, temperature * unit, reward, exact.kl_soft_base, exact.win_rate, reached)
    for size, t, reward, kl, win, enough in zip(*map(np.asarray, columns), strict=True):
        note = "" if enough else "   (spends less: hard best-of-n)"
        lines.append(f"{size:8g} {t:10.4g} {reward:10.4g} {kl:10.4g} {win:10.4g}{note}")
    _terminal.say("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
