"""Timings of the package against what one would write without it."""
