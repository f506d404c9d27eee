"""Kernels that take a key: selecting one of n candidates, streams of candidates, decoding.

The public functions are in `select`, `rules`, `reservoir` and `decoding`. Below is the noise, for the
rooms that build on it.
"""

from softbon_jax.sampling._noise import exponential, gumbel, uniform

__all__ = ["exponential", "gumbel", "uniform"]
