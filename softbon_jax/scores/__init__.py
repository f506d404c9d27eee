"""Files of scored responses, read into padded pools with a mask; errors name file, row and column.

One row a response, or one row a prompt with lists of responses: the prompt, the reward that selects,
perhaps a gold reward and an identifier; where several columns are named for one score, their mean. CSV
and its kin, JSON in any layout, Parquet and Arrow are read by DuckDB, locked down to the files named;
npz by NumPy. Nothing is unpickled.
"""

from softbon_jax.scores._files import (
    FORMATS,
    MOST_BYTES,
    MOST_LINE,
    delimiter_of,
    dialect_of,
    files_of,
    format_of,
    open_text,
)
from softbon_jax.scores._pools import describe, padded, read
from softbon_jax.scores._records import Columns, Dropped, Scores, names_of
from softbon_jax.scores._rows import Missing

__all__ = [
    "FORMATS",
    "MOST_BYTES",
    "MOST_LINE",
    "Columns",
    "Dropped",
    "Missing",
    "Scores",
    "delimiter_of",
    "describe",
    "dialect_of",
    "files_of",
    "format_of",
    "names_of",
    "open_text",
    "padded",
    "read",
]
