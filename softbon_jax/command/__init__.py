"""The command `softbon`: from a file of scores to a decision."""

from softbon_jax.command._files import replacing

__all__ = ["replacing"]
