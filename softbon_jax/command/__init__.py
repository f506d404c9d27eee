"""The command `softbon`: from a file of scores to a decision."""

from softbon_jax.command._files import check_output, naming, replacing
from softbon_jax.command._terminal import printable

__all__ = ["check_output", "naming", "printable", "replacing"]
