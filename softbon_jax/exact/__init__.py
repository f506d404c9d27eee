"""Exact laws of selection rules and what they gain and cost.

The public functions are in `laws`, `metrics`, `stopping`, `sequences` and `chains`, laws of N in
`numbers`. Below are the kernels of one problem, for the rooms that build on them.
"""

from softbon_jax.exact._divergences import both_ways, change, relative_entropy
from softbon_jax.exact._factors import AtNodes, Stopped, at_nodes, law_of, stop_at
from softbon_jax.exact._plan import Plan, quadrature_plan
from softbon_jax.exact._rules import (
    finite_n,
    hard_terms,
    race_terms,
    rank_masses,
)
from softbon_jax.exact._soft import (
    TiltedTerms,
    elements_at_once,
    interior_temperature,
    normalized,
    on_support,
    soft_terms,
    tilted_terms,
)
from softbon_jax.exact.numbers import OnePlusPoisson, random_log_base_ratio

__all__ = [
    "AtNodes",
    "OnePlusPoisson",
    "Plan",
    "Stopped",
    "TiltedTerms",
    "at_nodes",
    "both_ways",
    "change",
    "elements_at_once",
    "finite_n",
    "hard_terms",
    "interior_temperature",
    "law_of",
    "normalized",
    "on_support",
    "quadrature_plan",
    "race_terms",
    "random_log_base_ratio",
    "rank_masses",
    "relative_entropy",
    "soft_terms",
    "stop_at",
    "tilted_terms",
]
