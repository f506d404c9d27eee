"""The command `softbon`: from a file of scores to a decision."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from softbon_jax.command import _options, _processes, _terminal, compilation_cache

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
    long as the command runs. `analyze` of fewer than 512 prompts adds a flag to `XLA_FLAGS`
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
            _work(options.command)(options)
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


def _work(command: str) -> Callable[[argparse.Namespace], None]:
    """What a command does, imported when it is asked for: `plan` needs no pools."""
    if command == "analyze":
        from softbon_jax.command._analyze import run
    elif command == "inspect":
        from softbon_jax.command._inspect import run
    elif command == "select":
        from softbon_jax.command._select import run
    else:
        from softbon_jax.command._plan import run
    return run


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
    analyze.set_defaults(command="analyze")

    look = commands.add_parser(
        "inspect",
        help="columns, pools, ties, missing scores and outliers of a file",
        description="Shows the columns of a file and what is in them, the pools as they are read, and "
        "the command that analyzes them, with every column by its name.",
    )
    _options.file_options(look)
    look.set_defaults(command="inspect", leave_one_out=False, seed=0, temperature=None)

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
    choose.set_defaults(command="select", leave_one_out=False)

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
    known.set_defaults(command="plan")
    return parser


if __name__ == "__main__":
    sys.exit(main())
