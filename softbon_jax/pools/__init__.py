"""Curves and divergences from pools of scored candidates: no likelihoods are needed."""

from softbon_jax.pools.credits import pool_credits, pool_weights
from softbon_jax.pools.curves import (
    Curve,
    LeaveOneOut,
    curve_difference,
    leave_one_out,
    leave_one_out_curve,
    plug_in_curve,
    pool_curve,
)
from softbon_jax.pools.divergences import (
    FEWEST_EFFECTIVE,
    KlCurve,
    TiltedKl,
    pool_effective_size,
    pool_kl,
)
from softbon_jax.pools.extrapolation import Extrapolated, extrapolate_curve
from softbon_jax.pools.tables import PoolTable, pool_table
from softbon_jax.pools.tails import Tail, pool_tail
from softbon_jax.pools.votes import WeightedVotes, pool_votes, pool_weighted_votes
from softbon_jax.pools.win_rates import pool_win_rate

__all__ = [
    "FEWEST_EFFECTIVE",
    "Curve",
    "Extrapolated",
    "KlCurve",
    "LeaveOneOut",
    "PoolTable",
    "Tail",
    "TiltedKl",
    "WeightedVotes",
    "curve_difference",
    "extrapolate_curve",
    "leave_one_out",
    "leave_one_out_curve",
    "plug_in_curve",
    "pool_credits",
    "pool_curve",
    "pool_effective_size",
    "pool_kl",
    "pool_table",
    "pool_tail",
    "pool_votes",
    "pool_weighted_votes",
    "pool_weights",
    "pool_win_rate",
]
