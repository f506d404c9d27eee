"""What several commands take: the options of files of scores, and the reading that they ask for."""

from __future__ import annotations

import argparse
from pathlib import Path

from softbon_jax import _checks, scores

LARGEST = 1e150
"""The squares of larger scores, of which standard errors are made, are not finite."""


def file_options(parser: argparse.ArgumentParser, *, many: bool = True) -> None:
    """Add the options; `many` files, or one."""
    kinds = ".csv .tsv .txt .json .jsonl .ndjson (also .gz .zst) .parquet .arrow .npz"
    if many:
        parser.add_argument(
            "file", type=Path, nargs="+", help=f"files, a folder or a pattern: {kinds}"
        )
    else:
        parser.add_argument("file", type=Path, help=f"scores: {kinds}")
    column = "column, or path into nested data such as judgments[0].score"
    parser.add_argument(
        "--prompt", nargs="+", default=["auto"], metavar="COLUMN",
        help=f"{column}, or several that make the key (default prompt_id, or a known name)",
    )  # fmt: skip
    parser.add_argument(
        "--reward", nargs="+", default=["auto"], metavar="COLUMN",
        help=f"{column}, or several that are averaged (default proxy_reward, or a known name)",
    )  # fmt: skip
    parser.add_argument(
        "--gold", nargs="+", default=["auto"], metavar="COLUMN",
        help="column, several that are averaged, or none; default: gold_reward, or a known name",
    )  # fmt: skip
    parser.add_argument(
        "--response", default="auto",
        help="column of identifiers, or none; default: response_id if the file has it",
    )  # fmt: skip
    if many:
        parser.add_argument(
            "--answer", metavar="COLUMN",
            help=f"{column}, of the answer that a response gives: compare votes with the scores",
        )  # fmt: skip
    parser.add_argument(
        "--where", metavar="SQL", help="pick rows, such as \"filter = 'strict-match'\""
    )
    parser.add_argument(
        "--steps", choices=("last", "min", "mean", "sum", "prod", "none"),
        help="how a list of scores of steps becomes one score; none: lists hold responses",
    )  # fmt: skip
    parser.add_argument(
        "--success", nargs="+", default=[], metavar="WORD",
        help="words that count as 1, all others of their column as 0; default: pass, C, correct, ok",
    )  # fmt: skip
    parser.add_argument(
        "--missing", choices=("error", "drop", "lose"), default="error",
        help="what to do with rows whose score is empty or not finite: refuse the file, leave them out "
        "(which makes failures invisible), or keep the draw, to lose to any other (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--delimiter", help="between the cells of text; default: as in the header")
    parser.add_argument("--decimal", choices=(".", ","), help="decimal mark; default: found out")
    parser.add_argument("--encoding", help="of text; default: UTF-8, or UTF-16 that says so")
    parser.add_argument(
        "--max-rows", type=int, help="refuse files with more rows (default: no limit)"
    )
    parser.add_argument(
        "--max-bytes", type=int, default=scores.MOST_BYTES,
        help="refuse files that hold more when unpacked (default %(default)s)",
    )  # fmt: skip


def read(options: argparse.Namespace, least: int) -> scores.Scores:
    """The pools that the options ask for."""
    return scores.read(
        options.file,
        prompt=options.prompt,
        reward=options.reward,
        gold={"none": None, "auto": "auto"}.get(" ".join(options.gold), options.gold),
        response=None if options.response == "none" else options.response,
        where=options.where,
        steps=options.steps,
        success=options.success,
        missing=options.missing,
        least=least,
        most_rows=options.max_rows,
        most_bytes=options.max_bytes,
        leave_one_out=options.leave_one_out,
        delimiter=options.delimiter,
        decimal=options.decimal,
        encoding=options.encoding,
        answer=getattr(options, "answer", None),
    )


def named(options: argparse.Namespace) -> str:
    """The files, in words: without their folders."""
    files = scores.files_of(options.file)
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"


def check_file_options(options: argparse.Namespace) -> None:
    """What `analyze` and `select` both take, before anything is read."""
    for file in scores.files_of(options.file):
        scores.format_of(file)
    if options.max_rows is not None:
        _checks.positive_integer("--max-rows", options.max_rows)
    _checks.positive_integer("--max-bytes", options.max_bytes, most=_checks.LARGEST_FILE)
    _checks.positive_integer("--seed", options.seed, least=0, most=2**63 - 1)
    if options.temperature is not None:
        _checks.temperature(options.temperature, name="--temperature")


def positive(option: str, value: float | None) -> None:
    """Refuse a value that is given and not positive."""
    if value is not None and not value > 0:
        raise ValueError(f"{option} must be positive, got {value}")
