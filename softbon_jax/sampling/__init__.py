"""Kernels that take a key: selecting one of n candidates, streams of candidates, decoding.

The public functions are in `select`, `rules`, `reservoir` and `decoding`. Below is what the rooms above
build on: the noise, and rewards scaled by the temperature.
"""

from softbon_jax.sampling._candidates import scaled
from softbon_jax.sampling._noise import exponential, gumbel, uniform

__all__ = ["exponential", "gumbel", "scaled", "uniform"]
