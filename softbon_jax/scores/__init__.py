"""Files of scored responses, read into padded pools with a mask."""

from softbon_jax.scores.reading import (
    FORMATS,
    MOST_ROWS,
    Columns,
    Dropped,
    Missing,
    Scores,
    format_of,
    names_of,
    open_text,
    padded,
    read,
)

__all__ = [
    "FORMATS",
    "MOST_ROWS",
    "Columns",
    "Dropped",
    "Missing",
    "Scores",
    "format_of",
    "names_of",
    "open_text",
    "padded",
    "read",
]
