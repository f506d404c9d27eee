"""Files of scored responses, read into padded pools with a mask; errors name row and column.

One row a response: the prompt it answers, the reward that selects, perhaps a gold reward and an
identifier; where several columns are named for one score, their mean. CSV and TSV, JSON lines (all
plain or gzipped), Parquet and npz. Files are read as a stream, nothing is unpickled, and only Parquet
needs more than NumPy (pyarrow).
"""

from softbon_jax.scores._formats import (
    FORMATS,
    MOST_BYTES,
    MOST_ROWS,
    delimiter_of,
    format_of,
    open_text,
)
from softbon_jax.scores._pools import Missing, padded, read
from softbon_jax.scores._records import Columns, Dropped, Scores, names_of

__all__ = [
    "FORMATS",
    "MOST_BYTES",
    "MOST_ROWS",
    "Columns",
    "Dropped",
    "Missing",
    "Scores",
    "delimiter_of",
    "format_of",
    "names_of",
    "open_text",
    "padded",
    "read",
]
