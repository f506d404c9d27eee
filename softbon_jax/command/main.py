"""The command `softbon`: from a file of scores to a decision."""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import problem, scores
from softbon_jax.command import _files, advice, report
from softbon_jax.exact.metrics import metrics
from softbon_jax.sampling import select as selection
from softbon_jax.tuning.calibrate import temperature_for_kl

LEARN = """Soft best-of-n draws n responses and returns one of them with probability proportional
to exp(reward / λ). A larger n and a smaller λ (temperature, in the units of the reward) earn more
reward and move further from the policy, in KL; where the reward is a proxy, past some point they
earn less of what it stands for.

  softbon analyze scores.csv.gz                 what each n and λ would earn and cost
  softbon analyze scores.csv.gz --kl 2 --html report.html
                                                the best of them within 2 nats, as a page
  softbon select scores.csv.gz --n 8 --temperature 0.5 --out selected.csv
                                                mark the response that is to be served
  softbon plan --probs 0.5 0.3 0.2 --rewards 0 1 2 --kl 0.5
                                                the same for a law that is known, exactly

`softbon COMMAND --help` explains the options."""

ANALYZE = """Reads scored responses (CSV, TSV, JSON lines, Parquet, npz; a row a response), and
estimates without bias what soft best-of-n would select from new responses of the same policy, for
every n up to the number of responses a prompt has. Nothing is needed but the scores.

Columns: which prompt a row answers (--prompt), the reward that selects (--reward), and if there is
one the score that is really wanted (--gold), such as correctness (0 or 1), a better judge or a
length. With a gold score the recommendation maximises gold, and the command says whether the proxy
is over-optimized.

Several columns after --reward or --gold are averaged: --reward judge_1 judge_2 --gold judge_3. With
noisy judges of one kind, --reward judge_1 judge_2 judge_3 --leave-one-out lets each of them value
what the others select, so that their noise does not pass for gain."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 2 if input or options make no sense."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        with jax.enable_x64(True):
            options.work(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="softbon", description=LEARN, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    analyze = commands.add_parser(
        "analyze",
        help="reward, gold and KL against n and λ, and the best point",
        description=ANALYZE,
        formatter_class=raw,
    )
    _file_options(analyze)
    analyze.add_argument(
        "--n",
        type=int,
        nargs="+",
        help="numbers of responses; default: powers of two the pools allow",
    )
    analyze.add_argument(
        "--temperature", type=float, nargs="+",
        help="temperatures λ in reward units, 0 = hard best-of-n, inf = one at random; default: 0, inf "
        "and seven multiples of the typical spread of a prompt's rewards",
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
    analyze.set_defaults(work=_analyze)

    choose = commands.add_parser(
        "select",
        help="mark the selected response of every prompt",
        description="Copies the file with a column more, 1 for the response of each prompt that soft "
        "best-of-n selects and 0 for the others. The same seed selects the same responses.",
    )
    _file_options(choose)
    choose.add_argument("--n", type=int, help="select among the first n of a prompt; default: all")
    choose.add_argument("--temperature", type=float, required=True, help="λ in reward units")
    choose.add_argument("--seed", type=int, default=0, help="of the selection")
    choose.add_argument("--column", default="selected", help="name of the new column")
    choose.add_argument("--out", type=Path, required=True, help="file to write, of the same format")
    choose.set_defaults(work=_select, leave_one_out=False)

    known = commands.add_parser(
        "plan",
        help="the exact trade-off for a law that is known",
        description="For a reference law with known probabilities and rewards: the exact mean "
        "reward, KL from the law and win rate of soft best-of-n. With --kl, the temperature that "
        "spends it.",
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
    what.add_argument("--kl", type=float, help="nats from the law that every n may spend")
    known.set_defaults(work=_plan)
    return parser


def _file_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="scores: .csv .tsv .jsonl (also .gz) .parquet .npz")
    parser.add_argument("--prompt", default="prompt_id", help="column (default %(default)s)")
    parser.add_argument(
        "--reward", nargs="+", default=["proxy_reward"], metavar="COLUMN",
        help="column, or several that are averaged (default proxy_reward)",
    )  # fmt: skip
    parser.add_argument(
        "--gold", nargs="+", default=["auto"], metavar="COLUMN",
        help="column, several that are averaged, or none; default: gold_reward if the file has it",
    )  # fmt: skip
    parser.add_argument(
        "--response",
        default="auto",
        help="column of identifiers, none; default: response_id if there",
    )
    parser.add_argument(
        "--missing", choices=("error", "drop"), default="error",
        help="what to do with rows whose score is empty or not finite (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-rows", type=int, default=scores.MOST_ROWS, help="refuse larger files"
    )


def _read(options: argparse.Namespace, least: int) -> scores.Scores:
    return scores.read(
        options.file,
        prompt=options.prompt,
        reward=options.reward,
        gold={"none": None, "auto": "auto"}.get(" ".join(options.gold), options.gold),
        response=None if options.response == "none" else options.response,
        missing=options.missing,
        least=least,
        most_rows=options.max_rows,
        leave_one_out=options.leave_one_out,
    )


# The commands ------------------------------------------------------------------------------------


def _analyze(options: argparse.Namespace) -> None:
    for name, value in (("--kl", options.kl), ("--budget-n", options.budget_n)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    pools = _read(options, least=2)
    n = advice.default_n(pools) if options.n is None else np.array([1, *options.n])
    if n.min() < 1:
        raise ValueError(f"--n must be at least 1, got {n.min()}")
    temperature = (
        advice.default_temperatures(pools)
        if options.temperature is None
        else np.unique(options.temperature)
    )
    table = advice.tabulate(pools, n, temperature, _progress)
    choice = advice.choose(table, kl=options.kl, n=options.budget_n, seed=options.seed)
    limits = [f"mean KL ≤ {options.kl:g} nats"] if options.kl is not None else []
    limits += [f"n ≤ {options.budget_n}"] if options.budget_n is not None else []
    per_prompt = None
    if choice.ok and choice.n > 1:
        per_prompt = advice.per_prompt_temperatures(table, choice.n, choice.kl)
    verdicts = {}
    if table.gold is not None:
        finite = [t for t in table.temperature if np.isfinite(t)]
        asked = {finite[0], choice.temperature} if choice.ok else set(finite[:1])
        for t in sorted(t for t in asked if np.isfinite(t)):
            verdicts[float(t)] = advice.overoptimized(table, t, seed=options.seed)
    analysis = report.Analysis(
        options.file.name,
        pools,
        table,
        " and ".join(limits) or "any budget",
        choice,
        per_prompt,
        verdicts,
    )
    # Everything is made before anything is written.
    page = report.as_html(analysis) if options.html else None
    numbers = (
        json.dumps(report.as_json(analysis), indent=1, allow_nan=False) if options.json else None
    )
    for path, text in ((options.html, page), (options.json, numbers)):
        if text is not None:
            with _files.replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
    print(report.as_text(analysis))


def _progress(done: int, total: int) -> None:
    """A line that overwrites itself, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(
            f"\rtemperature {min(done + 1, total)} of {total}", end=end, file=sys.stderr, flush=True
        )


def _select(options: argparse.Namespace) -> None:
    if scores.format_of(options.out) != scores.format_of(options.file):
        raise ValueError(f"--out must be of the format of {options.file.name}, got {options.out}")
    pools = _read(options, least=1)
    if options.n is not None:
        if options.n < 1:
            raise ValueError(f"--n must be at least 1, got {options.n}")
        short = int(np.argmin(pools.where.sum(1)))
        fewest = pools.where[short].sum()
        if fewest < options.n:
            raise ValueError(
                f"--n asks for {options.n}, prompt {pools.prompts[short]!r} has {fewest} responses"
            )
    n = pools.where.shape[1] if options.n is None else options.n
    index = selection.select(
        jax.random.key(options.seed),
        jnp.asarray(pools.rewards[:, :n]),
        options.temperature,
        where=jnp.asarray(pools.where[:, :n]),
    )
    chosen = np.zeros(pools.read, int)
    chosen[pools.rows[np.arange(len(pools.prompts)), np.asarray(index)]] = 1
    with _files.replacing(options.out) as temporary:
        _copy(options.file, temporary, options.out, options.column, chosen)
    print(f"{options.out}: {chosen.sum()} of {pools.read} responses selected")


def _copy(source: Path, target: Path, name: Path, column: str, values: np.ndarray) -> None:
    """The file with a column more, in the format of `name`."""
    kind = scores.format_of(source)
    if kind == "parquet":
        parquet: Any = importlib.import_module("pyarrow.parquet")
        table = parquet.read_table(source)
        if column in table.column_names:
            raise ValueError(
                f"{source}: there is a column {column!r} already; name another: --column"
            )
        parquet.write_table(table.append_column(column, [values]), target)
        return
    if kind == "npz":
        raise ValueError(f"{source}: select does not write npz; convert the file to CSV or Parquet")
    zipped = name.suffix.lower() == ".gz"
    with (
        scores.open_text(source) as read,
        (gzip.open if zipped else open)(target, "wt", encoding="utf-8", newline="") as write,
    ):
        if kind == "jsonl":
            lines = (line for line in read if line.strip())
            for line, value in zip(lines, values, strict=True):
                row = json.loads(line)
                if column in row:
                    raise ValueError(f"{source}: there is a key {column!r} already; use --column")
                write.write(json.dumps({**row, column: int(value)}, ensure_ascii=False) + "\n")
            return
        delimiter = "\t" if ".tsv" in source.suffixes else ","
        rows = (row for row in csv.reader(read, delimiter=delimiter) if row)
        writer = csv.writer(write, delimiter=delimiter, lineterminator="\n")
        header = next(rows)
        if column in header:
            raise ValueError(
                f"{source}: there is a column {column!r} already; name another: --column"
            )
        writer.writerow([*header, column])
        writer.writerows([*row, int(value)] for row, value in zip(rows, values, strict=True))


def _plan(options: argparse.Namespace) -> None:
    if options.rewards is None:
        if options.probs is not None:
            raise ValueError("--probs needs --rewards")
        ranks = (np.arange(64) + 0.5) / 64
        rewards = np.asarray(jax.scipy.special.ndtri(jnp.asarray(ranks)))
    else:
        rewards = np.array(options.rewards)
    probs = (
        np.full(len(rewards), 1 / len(rewards))
        if options.probs is None
        else np.array(options.probs)
    )
    known = problem.from_probs(probs, rewards)
    n = np.array(options.n, float)
    if options.kl is None:
        temperature = np.full(n.shape, options.temperature or 0.0)
        reached = np.ones(n.shape, bool)
    else:
        if not options.kl > 0:
            raise ValueError(f"--kl must be positive, got {options.kl}")
        # Beyond hard best-of-n the budget cannot be spent, and the temperature is 0.
        answer = temperature_for_kl(known, n, options.kl)
        temperature, reached = np.asarray(answer.value), np.asarray(answer.feasible)
    exact = metrics(known, n, jnp.asarray(temperature))
    print(f"{'n':>8} {'λ':>10} {'reward':>10} {'KL(nats)':>10} {'win rate':>10}")
    columns = (n, temperature, exact.reward, exact.kl_soft_base, exact.win_rate, reached)
    for size, t, reward, kl, win, enough in zip(*map(np.asarray, columns), strict=True):
        note = "" if enough else "   (spends less: hard best-of-n)"
        print(f"{size:8g} {t:10.4g} {reward:10.4g} {kl:10.4g} {win:10.4g}{note}")


if __name__ == "__main__":
    sys.exit(main())
