"""Files of scores: which there are, of what format, and their text, unpacked and in UTF-8."""

from __future__ import annotations

import glob
import gzip
import importlib
import io
import re
import stat
import zlib
from collections import Counter
from pathlib import Path
from typing import IO, Any, NamedTuple

from softbon_jax.scores._engine import Engine

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".npz": "npz",
}
"""The format of a file by the end of its name."""

PACKED = {".gz": "gzip", ".zst": "zstd"}
TEXT = ("csv", "json", "jsonl")

MOST_BYTES = 2**34
"""Files that hold more, when unpacked, are refused."""

MOST_LINE = 2**24
"""The longest line or JSON object, in bytes."""


def format_of(path: Path | str) -> str:
    """The format of a file of scores, by its name.

    Args:
      path: the file, which need not exist; `.gz` or `.zst` after the ending of a text format is allowed.

    Returns:
      "csv", "json", "jsonl", "parquet", "arrow" or "npz"; TSV and .txt are "csv".

    Raises:
      ValueError: the name ends in none of `FORMATS`.

    Numerics: none.
    Source: derived here: the endings in common use.

    Example:
      >>> sb.scores.format_of("scores.tsv.gz"), sb.scores.format_of("scores.ndjson")
      ('csv', 'jsonl')
    """
    path = Path(path)
    kind = FORMATS.get(_ending(path))
    if kind is None or (path.suffix.lower() in PACKED and kind not in TEXT):
        known = ", ".join(FORMATS)
        raise ValueError(f"{path}: the name must end in one of {known} (text also in .gz or .zst)")
    return kind


def delimiter_of(path: Path | str) -> str:
    r"""The character between the cells of a file of the format "csv", by its name.

    Args:
      path: the file, which need not exist.

    Returns:
      A tab for .tsv and .txt, in capitals or not, packed or not; else a comma. What is between the cells
      of a file that exists, `read` finds in its header.

    Raises:
      Nothing.

    Numerics: none.
    Source: derived here: the endings in common use.

    Example:
      >>> sb.scores.delimiter_of("SCORES.TSV"), sb.scores.delimiter_of("scores.csv.gz")
      ('\t', ',')
    """
    return "\t" if _ending(Path(path)) in (".tsv", ".txt") else ","


def _ending(path: Path) -> str:
    """The ending that tells the format, in lower case: the last, or the one before `.gz` or `.zst`."""
    path = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return path.suffix.lower()


def files_of(path: Any) -> list[Path]:
    """The files that a path, several, a folder or a pattern stand for.

    Args:
      path: a file, which need not exist; a folder; a pattern, as `glob` has it; or several of these.

    Returns:
      The files; those of a folder or a pattern in the order of their names.

    Raises:
      ValueError: a folder or a pattern has no files of scores, or a file is named twice.

    Numerics: none.
    Source: derived here.

    Example:
      >>> [x.name for x in sb.scores.files_of(["a.csv", "b.parquet"])]
      ['a.csv', 'b.parquet']
    """
    if not isinstance(path, (str, Path)):
        files = [file for one in path for file in files_of(one)]
        twice = [str(name) for name, count in Counter(files).items() if count > 1]
        if twice or not files:
            raise ValueError(f"{min(twice)} is named twice" if twice else "no file is named")
        return files
    path = Path(path)
    if path.is_dir() and _ending(path) not in FORMATS:
        inside = sorted(x for x in path.iterdir() if _ending(x) in FORMATS and x.name[0] != ".")
        if not inside:
            raise ValueError(f"{path}: the folder holds no file of scores ({', '.join(FORMATS)})")
        return inside
    if re.search(r"[*?\[]", str(path)) and not path.exists():
        found = [Path(x) for x in sorted(glob.glob(str(path), recursive=True))]
        if not found:
            raise ValueError(f"{path}: no file has such a name")
        return found
    return [path]


def check_file(path: Path) -> str:
    """The format of a regular file that can be opened."""
    kind = format_of(path)
    if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would be waited for, a device has no end
        raise ValueError(f"{path} is not a regular file; save the scores to one")
    with path.open("rb"):  # a file that cannot be opened raises its own OSError
        pass
    return kind


# Text --------------------------------------------------------------------------------------------


def _unpacked(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked as the end of its name says."""
    packed = PACKED.get(path.suffix.lower())
    if packed == "zstd":
        try:
            arrow: Any = importlib.import_module("pyarrow")
        except ImportError:
            raise ImportError(
                f"{path}: .zst needs pyarrow: pip install 'softbon-jax[command]'"
            ) from None
        return io.BufferedReader(arrow.input_stream(str(path), compression="zstd"))
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def open_text(path: Path | str, encoding: str = "utf-8-sig", *, errors: str = "strict") -> IO[str]:
    """A text file opened for reading, unpacked if its name ends in `.gz` or `.zst`.

    Args:
      path: the file.
      encoding: of its text; by default UTF-8 with or without a byte order mark.
      errors: what to do with bytes that are not such text, as `open` has it.

    Returns:
      The open file, with line ends as they are, as `csv` asks for; close it or use it in `with`.

    Raises:
      OSError: the file cannot be opened. One that is not packed text fails when it is read:
        `gzip.BadGzipFile`, `zlib.error`, `EOFError` or `UnicodeDecodeError`.

    Numerics: none.
    Source: gzip is RFC 1952.

    Example:
      >>> import gzip, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "scores.csv.gz"
      >>> _ = path.write_bytes(gzip.compress(b"prompt_id,proxy_reward"))
      >>> with sb.scores.open_text(path) as file:
      ...     print(file.read())
      prompt_id,proxy_reward
    """
    return io.TextIOWrapper(_unpacked(Path(path)), encoding=encoding, errors=errors, newline="")


_SURROGATE = re.compile(
    r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
"""Half a pair in JSON, which is no text; it is kept as the six characters that stand for it."""


def _mended(found: re.Match[str]) -> str:
    return f"{found[1]}\\{found[2].lower()}"


class Text(NamedTuple):
    """A file of text that the engine can read.

    Attributes:
      path: the file, or a copy of it in UTF-8.
      encoding: that of the file, as Python names it.
      packed: how `path` is packed, as the engine names it.
    """

    path: Path
    encoding: str
    packed: str


def text_of(
    engine: Engine, path: Path, most_bytes: int, encoding: str | None, rewrite: bool = False
) -> Text:
    """The text of a file, read through once if it is packed (the engine believes any checksum).

    It is copied where it is not in UTF-8, and with `rewrite`, which mends half pairs of JSON.
    """
    packed = PACKED.get(path.suffix.lower())
    size = 0
    try:
        with _unpacked(path) as file:
            head = file.read(4096)
        if encoding is None:
            encoding = _encoding_of(head)
        copy = rewrite or encoding != "utf-8-sig"
        if not (packed or copy):
            size = path.stat().st_size
        elif not copy:
            with _unpacked(path) as file:
                while piece := file.read(2**20):
                    size = _counted(path, size + len(piece), most_bytes)
        else:
            target = engine.copies / f"copy-{len(list(engine.copies.iterdir()))}"
            with (
                open_text(path, encoding) as read,
                target.open("w", encoding="utf-8", newline="") as write,
            ):
                while line := read.readline(MOST_LINE):
                    size = _counted(path, size + len(line), most_bytes)
                    write.write(_SURROGATE.sub(_mended, line) if rewrite else line)
            return Text(target, encoding, "none")
    except (UnicodeError, LookupError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not a plain or packed text file: {error}") from None
    except OSError as error:
        if error.errno is not None and packed != "zstd":
            raise
        raise ValueError(f"{path}: not a plain or packed text file: {error}") from None
    _counted(path, size, most_bytes)
    return Text(linked(engine, path), encoding, packed or "none")


def _encoding_of(head: bytes) -> str:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    even, odd = head[0:512:2], head[1:512:2]
    for marked, other, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if b"\0" not in other and marked.count(0) > 0.6 * max(len(marked), 8):
            return name
    return "utf-8-sig"


def _counted(path: Path, size: int, most_bytes: int) -> int:
    if size > most_bytes:
        raise ValueError(
            f"{path} holds more than {most_bytes:,} bytes when unpacked; analyze a sample of the "
            "prompts, or allow more (most_bytes, --max-bytes)"
        )
    return size


def linked(engine: Engine, path: Path) -> Path:
    """A name for a file that is no pattern, in the only folder that the engine may read."""
    link = engine.copies / f"file-{len(list(engine.copies.iterdir()))}"
    link.symlink_to(path.absolute())
    return link


def head_of(path: Path, encoding: str) -> str:
    """The beginning of a file of text."""
    with open_text(path, encoding, errors="replace") as file:
        return file.read(2**22)


def delimiter_in(path: Path, head: str) -> str:
    """What is most frequent in a header, outside quotes."""
    bare = re.sub(r'"[^"]*"', "", (head.lstrip("\r\n").splitlines() or [""])[0])
    return max(dict.fromkeys([delimiter_of(path), ",", ";", "\t", "|"]), key=bare.count)


def dialect_of(path: Path) -> tuple[str, str]:
    """The character between the cells of a file of text, and its encoding, as `read` finds them.

    Args:
      path: the file.

    Returns:
      The character, and the name of the encoding.

    Raises:
      OSError: the file cannot be opened.

    Numerics: none.
    Source: derived here: what is most frequent in the header, outside quotes.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "scores.csv"
      >>> _ = path.write_text("prompt_id;proxy_reward")
      >>> sb.scores.dialect_of(path)
      (';', 'utf-8-sig')
    """
    with _unpacked(path) as file:
        encoding = _encoding_of(file.read(4096))
    try:
        with open_text(path, encoding) as whole:
            while whole.read(2**20):
                pass
    except UnicodeDecodeError:
        encoding = "latin-1"
    return delimiter_in(path, head_of(path, encoding)), encoding
