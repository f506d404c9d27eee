"""Files made to do harm, and what the command says to each."""

import gzip
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HEAD = "prompt_id,proxy_reward\n"
GOOD = HEAD + "a,1\na,3\n"
ROWS = [{"prompt_id": "a", "proxy_reward": 1.0}, {"prompt_id": "a", "proxy_reward": 3.0}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


# Makers of files ----------------------------------------------------------------------------------


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(text, *pieces, version=b"\x01\x00", name="proxy_reward"):
    """An npz file of one array with this header, and these data."""
    text = text.encode() + b"\n"
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as array:
            for piece in (b"\x93NUMPY" + version + length + text, *pieces):
                array.write(piece)
        if name != "proxy_reward":
            archive.writestr("proxy_reward.npy", npy(np.ones(2)))
    return file.getvalue()


def claims(shape, descr="<f8", data=b""):
    return header(described(shape, descr), data)


def described(shape, descr):
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}"


def zipped(piece, count, start=""):
    """A gzip file of a start and of many equal pieces, made piece by piece."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(start.encode()), *(packer.compress(piece) for _ in range(count))]
    return b"".join([*parts, packer.flush()])


def blank(text, lines):
    return zipped(b"\n" * 2**16, lines // 2**16, text)


def parquet(rows=ROWS, **options):
    file = io.BytesIO()
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    pq.write_table(table, file, **options)
    return file.getvalue()


def of_score(value):
    return parquet([{"prompt_id": "a", "proxy_reward": value}])


def more(text):
    return LINES.replace("{", "{" + text + ", ")


def rewards(text):
    return LINES + f'{{"prompt_id": "a", "proxy_reward": {text}}}\n'


DEEP = "[" * 100_000 + "]" * 100_000
ZIP = "x.npz: not an npz file of plain arrays"
GZ = "x.csv.gz: not a plain or packed text file"
SCORE = "column 'proxy_reward' must be a finite number, is"
RECORD = np.zeros(2, [("x", "f8"), ("y", "i4")])
LARGE_TEXT = pa.table({"prompt_id": ["x" * 10**6] * 1000, "proxy_reward": [1.0] * 1000})

FILES = {
    "good": ("x.csv", GOOD, None),
    "good gz": ("x.csv.gz", gzip.compress(GOOD.encode()), None),
    "good json": ("x.jsonl", LINES, None),
    "good parquet": ("x.parquet", parquet(), None),
    "byte order mark": ("x.csv", "\ufeff" + GOOD, None),
    "byte order mark json": ("x.jsonl", "\ufeff" + LINES, None),
    "line ends of windows": ("x.csv", GOOD.replace("\n", "\r\n"), None),
    "line ends of an old mac": ("x.csv", GOOD.replace("\n", "\r"), None),
    "no last line end": ("x.csv", GOOD.rstrip(), None),
    "blank lines": ("x.csv", "\n\n" + GOOD.replace("\n", "\n\n"), None),
    "blank lines json": ("x.jsonl", "\n \n" + LINES.replace("\n", "\n\n"), None),
    "quotes": ("x.csv", HEAD + '"a","1"\n"a","3"', None),
    "capitals": ("X.TSV", GOOD.replace(",", "\t"), None),
    "capitals gz": ("X.Tsv.GZ", gzip.compress(GOOD.replace(",", "\t").encode()), None),
    "tsv inside the name": ("x.tsv.old.csv", GOOD, None),
    "capitals csv": ("X.CSV", GOOD, None),
    "two gzip members": ("x.csv.gz", gzip.compress(HEAD.encode()) + gzip.compress(b"a,1\na,3"), None),
    "a name in any script": ("оценки 評.csv", GOOD, None),
    "lone surrogate": ("x.jsonl", LINES.replace('"a"', '"\\ud800"'), None),
    "largest scores": ("x.csv", HEAD + "a,-1e308\na,1e308\n", None),
    "smallest scores": ("x.csv", HEAD + "a,0\na,5e-324\n", None),
    "a column of megabytes json": ("x.jsonl", more(f'"t": "{"x" * 3_000_000}"'), None),
    "digits kept": ("x.jsonl", more(f'"t": 1e400, "u": {"9" * 400}'), None),
    "empty": ("x.csv", "", "x.csv: not a CSV file with a header: it is empty"),
    "empty gz": ("x.csv.gz", b"", "x.csv.gz: not a CSV file with a header: it is empty"),
    "empty json": ("x.jsonl", "", "x.jsonl: no column 'prompt_id'; the columns are none"),
    "empty parquet": ("x.parquet", b"", "x.parquet: not a Parquet file"),
    "header only": ("x.csv", HEAD, "x.csv: no rows below the header"),
    "only blank lines": ("x.csv", "\n" * 1000, "x.csv: not a CSV file with a header"),
    "utf-16": ("x.csv", GOOD.encode("utf-16"), None),
    "utf-16 without a mark": ("x.csv", GOOD.encode("utf-16-le"), None),
    "utf-16 json": ("x.jsonl", LINES.encode("utf-16-be"), None),
    "latin-1": ("x.csv", (HEAD + "é,1\né,3\n").encode("latin-1"), None),
    "bytes that are no text": ("x.jsonl", bytes(range(128, 256)), "x.jsonl: row 1 is not JSON"),
    "NUL": ("x.csv", HEAD + "a,1\na,3\0\n", f"x.csv: row 2, {SCORE} '3\\x00'"),
    "NUL at the end": ("x.csv", GOOD + "\0", "x.csv: line 4 has 1 cells"),
    "NUL json": ("x.jsonl", LINES + "\0\n", "x.jsonl: row 3 is not JSON"),
    "a cell of megabytes": ("x.csv", HEAD + "a," + "1" * 3_000_000, f"x.csv: row 1, {SCORE} '111"),
    "a line without end": ("x.csv", HEAD + "a," * 2**23 + "1", "x.csv: line 2 has 3 cells"),
    "a line without end json": ("x.jsonl", LINES + "[" * (2**24 + 1), "a row is longer than 16777216"),
    "an open quote": ("x.csv", GOOD + 'a,"4\na,5\n', "x.csv: line 4 has a quote that is not"),
    "an open quote in the header": ("x.csv", '"' + GOOD, "x.csv: the header: unexpected end"),
    "too few cells": ("x.csv", GOOD + "a\n", "x.csv: line 4 has 1 cells, the header has 2"),
    "too many cells": ("x.csv", GOOD + "a,1,2\n", "x.csv: line 4 has 3 cells"),
    "a header of 100,000 columns": ("x.csv", ",".join(f"c{i}" for i in range(100_000)), "99,980 more"),
    "twice the same column": ("x.csv", "a,b,a\n1,2,3\n", "x.csv: the header has column 'a' twice"),
    "an escape in the header": ("x.csv", "\x1b[2J,b\n1,2\n", "the columns are \\x1b[2J, b"),
    "an escape in a score": ("x.csv", GOOD + "a,\x1b[31m\n", f"x.csv: row 3, {SCORE} '\\x1b[31m'"),
    "a score in words": ("x.csv", GOOD + "a,high\n", f"x.csv: row 3, {SCORE} 'high'"),
    "a score of 500 letters": ("x.csv", GOOD + "a," + "h" * 500 + "\n", f"x.csv: row 3, {SCORE} 'hhh"),
    "a score with underscores": ("x.csv", GOOD + "a,1_0\n", f"x.csv: row 3, {SCORE} '1_0'"),
    "a score beyond floats": ("x.csv", GOOD + "a,1e999\n", f"x.csv: row 3, {SCORE} '1e999'"),
    "400 digits": ("x.csv", GOOD + "a," + "9" * 400 + "\n", f"x.csv: row 3, {SCORE} '999"),
    "nan": ("x.csv", GOOD + "a,NaN\n", f"x.csv: row 3, {SCORE} 'NaN'"),
    "no score": ("x.csv", GOOD + "a,\n", f"x.csv: row 3, {SCORE} empty"),
    "no prompt": ("x.csv", GOOD + " ,1\n", "x.csv: row 3, column 'prompt_id' must be an identifier"),
    "400 digits json": ("x.jsonl", rewards("9" * 400), f"x.jsonl: row 3, {SCORE} '999"),
    "5000 digits json": ("x.jsonl", rewards("9" * 5000), f"x.jsonl: row 3, {SCORE} '999"),
    "1e400 json": ("x.jsonl", rewards("1e400"), f"x.jsonl: row 3, {SCORE} '1e400'"),
    "-Infinity json": ("x.jsonl", rewards("-Infinity"), f"x.jsonl: row 3, {SCORE} '-Infinity'"),
    "a list json": ("x.jsonl", rewards("[[1, 2]]"), f"x.jsonl: row 3, {SCORE} '[1,2]'"),
    "deep json": ("x.jsonl", rewards(DEEP), f"x.jsonl: row 3, {SCORE} '[[["),
    "deep json first": ("x.jsonl", DEEP, "no column 'prompt_id'; the columns are none"),
    "deep objects": ("x.jsonl", '{"a":' * 10**5 + "1" + "}" * 10**5, "the columns are a;"),
    "fairly deep json": ("x.jsonl", rewards("[" * 400 + "]" * 400), f"x.jsonl: row 3, {SCORE} '[[[[["),
    "an object as prompt": ("x.jsonl", LINES.replace('"a"', '{"b": []}'), None),
    "null as prompt": ("x.jsonl", LINES.replace('"a"', "null"), "row 1, column 'prompt_id'"),
    "half a row": ("x.jsonl", LINES[:-10], "x.jsonl: row 2 is not JSON"),
    "no object": ("x.jsonl", LINES + "3\n", "x.jsonl: row 3 is not a JSON object"),
    "a list as response": (
        "x.jsonl", more('"response_id": []'), "row 1: column 'response_id' has 0 entries",
    ),
    "the same response twice": (
        "x.jsonl", more('"response_id": 7'), "x.jsonl: rows 1 and 2 have the same prompt",
    ),
    "a cell of megabytes json": ("x.jsonl", rewards(f'"{"x" * 3_000_000}"'), f"row 3, {SCORE} 'xxx"),
    "not gzip": ("x.csv.gz", GOOD, f"{GZ}: Not a gzipped file"),
    "cut gzip": ("x.csv.gz", gzip.compress(GOOD.encode())[:-9], GZ),
    "gzip and rubbish": ("x.csv.gz", gzip.compress(GOOD.encode()) + b"rubbish", GZ),
    "gzip of zeros": ("x.csv.gz", zipped(bytes(2**20), 2**6, GOOD), "x.csv.gz: line 4: Maximum line"),
    "gzip of spaces": ("x.csv.gz", gzip.compress(b" " * 2**25), "x.csv.gz: the header: field larger"),
    "gzip of gzip": ("x.csv.gz", gzip.compress(gzip.compress(GOOD.encode())), "no column 'prompt_id'"),
    "gzipped parquet": ("x.parquet.gz", gzip.compress(parquet()), "x.parquet.gz: the name must end in"),
    "zstandard": ("x.csv.zst", b"\x28\xb5\x2f\xfd", "x.csv.zst: not a plain or packed text file"),
    "no ending": ("x", GOOD, "x: the name must end in"),
    "only gz": ("x.gz", GOOD, "x.gz: the name must end in"),
    "hidden": (".csv", GOOD, ".csv: the name must end in"),
    "parquet of csv": ("x.parquet", GOOD, "x.parquet: not a Parquet file"),
    "parquet cut": ("x.parquet", parquet()[:-30], "x.parquet: not a Parquet file"),
    "parquet of strings": (
        "x.parquet", of_score("b"), f"x.parquet: row 1, {SCORE} 'b'",
    ),
    "parquet of lists": (
        "x.parquet", of_score([[1.0, 2.0]]), f"x.parquet: row 1, {SCORE} '[1.0,2.0]'",
    ),
    "parquet of nothing": (
        "x.parquet", of_score(None), "'proxy_reward' is empty in all 1",
    ),
    "parquet without rows": ("x.parquet", parquet(pa.Table.from_pylist(ROWS)[:0]), "parquet: no rows"),
    "parquet with a column twice": (
        "x.parquet",
        parquet(pa.table([["a"], [1.0], [2.0]], ["prompt_id", "proxy_reward", "proxy_reward"])),
        "x.parquet: the header has column 'proxy_reward' twice",
    ),
}  # fmt: skip
"""By name: name of the file, content, and message; None where the higher score is selected."""

ARRAYS = {
    "an npy": (npy(np.ones(2)), ZIP),
    "a pickle": (npy(np.array([{}], object)), ZIP),
    "strings": (npz(proxy_reward=np.array(["a", "b"])), f"{ZIP}: array 'proxy_reward' holds <U1"),
    "bytes": (npz(proxy_reward=np.array([b"a"])), f"{ZIP}: array 'proxy_reward' holds |S1"),
    "records": (npz(proxy_reward=RECORD), f"{ZIP}: array 'proxy_reward' holds"),
    "complex": (
        npz(proxy_reward=np.ones(2, complex)),
        f"{ZIP}: array 'proxy_reward' holds complex",
    ),
    "dates": (
        npz(proxy_reward=np.zeros(2, "M8[s]")),
        f"{ZIP}: array 'proxy_reward' holds datetime",
    ),
    "long doubles": (
        npz(proxy_reward=np.ones(2, np.longdouble)),
        f"{ZIP}: array 'proxy_reward' holds",
    ),
    "objects": (npz(proxy_reward=np.array([[1, [2]]], object)), ZIP),
    "object prompts": (npz(proxy_reward=np.ones(1), prompt_id=np.array([{}], object)), ZIP),
    "a number": (npz(proxy_reward=np.float64(1)), "must be 1-D or [prompts, N], is ()"),
    "a cube": (npz(proxy_reward=np.ones((2, 2, 2))), "must be 1-D or [prompts, N], is (2, 2, 2)"),
    "no prompts": (npz(proxy_reward=np.ones(2)), "x.npz: no array 'prompt_id'"),
    "no scores": (
        npz(reward=np.ones(2)),
        "x.npz: no array 'prompt_id'",
    ),
    "unequal": (npz(proxy_reward=np.ones(2), prompt_id=np.ones(3)), "has shape (3,)"),
    "empty": (npz(proxy_reward=np.ones((0, 3))), "x.npz: no rows below the header"),
    "infinite": (
        npz(proxy_reward=np.array([[1, np.inf]])),
        "x.npz: row 2, column 'proxy_reward' must be",
    ),
    "terabytes": (claims((10**12,)), "x.npz holds more than 17,179,869,184 bytes"),
    "terabytes of nothing": (claims((10**12, 0)), "x.npz holds more than 17,179,869,184 bytes"),
    "a wide string": (claims((2,), f"<U{2**31 - 1}"), f"{ZIP}"),
    "more than there is": (claims((1000,), data=bytes(8)), "array 'proxy_reward' is cut short"),
    "less than there is": (claims((1,), data=bytes(80)), "array 'proxy_reward' is cut short"),
    "a negative length": (claims((-1,), data=bytes(8)), "x.npz: "),
    "a long shape": (claims((1,) * 100, data=bytes(8)), "x.npz: "),
    "no header": (header("}"), ZIP),
    "a deep header": (header("(" * 5000), ZIP),
    "a long header": (header(" " * 20_000), ZIP),
    "code in the header": (header("__import__('os').abort()"), ZIP),
    "another version": (header("{}", version=b"\x09\x00"), ZIP),
    "a zip without arrays": (
        b"PK\x05\x06" + bytes(18),
        "no column 'proxy_reward'; the columns are none",
    ),
    "half a zip": (npz(proxy_reward=np.ones((2, 2)))[:-30], ZIP),
}
"""By name: the content of an npz file, and the message."""
