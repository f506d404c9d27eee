"""`softbon_jax.tuning.calibrate` under its public name."""

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
