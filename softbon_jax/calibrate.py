"""Choosing λ and n for a budget of divergence or for a mean reward."""

from softbon_jax.tuning.calibrate import (
    Calibration,
    Divergence,
    Frontier,
    frontier,
    n_for_kl,
    temperature_for_kl,
    temperature_for_reward,
)

__all__ = [
    "Calibration",
    "Divergence",
    "Frontier",
    "frontier",
    "n_for_kl",
    "temperature_for_kl",
    "temperature_for_reward",
]
