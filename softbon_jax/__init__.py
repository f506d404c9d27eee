"""Exact laws, rates and simulation of Soft Best-of-n sampling, in JAX.

    import softbon_jax as sb

    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    sb.metrics(problem, n=16, temperature=0.3).kl_tilted_soft

Arrays are `[..., K]` with outcomes on the last axis, divergences are in nats, and `temperature` is
the paper's λ (arXiv:2505.03156), in reward units.
"""

from softbon_jax import bounds, calibrate, rates, scores
from softbon_jax.exact.chains import markov_metrics, soft_values
from softbon_jax.exact.laws import (
    log_best_of_n,
    log_best_of_poisson,
    log_ratio_soft_bon,
    log_rejection,
    log_soft_bon,
    log_tilted,
    log_uniform_race,
)
from softbon_jax.exact.metrics import Metrics, law_metrics, metrics, race_metrics, sweep
from softbon_jax.exact.numbers import Generating, Geometric, OnePlusPoisson, PositiveBinomial
from softbon_jax.exact.sequences import (
    Costs,
    Rounded,
    block_problem,
    blockwise_metrics,
    log_block_law,
    round_to_lattice,
    sequence_costs,
    symbolwise_metrics,
)
from softbon_jax.exact.stopping import (
    log_random_n,
    log_stopped,
    mean_random_n,
    mean_stopped_n,
    random_n_metrics,
    stopped_metrics,
)
from softbon_jax.pools.curves import (
    Curve,
    LeaveOneOut,
    leave_one_out,
    leave_one_out_curve,
    plug_in_curve,
    pool_curve,
)
from softbon_jax.pools.divergences import KlCurve, TiltedKl, pool_effective_size, pool_kl
from softbon_jax.problem import (
    Problem,
    bernoulli,
    dirichlet,
    empirical,
    from_logits,
    from_probs,
    jackpot,
    uniform_quantiles,
    worst_case,
    zipf,
)
from softbon_jax.sampling.decoding import Decoded, decode
from softbon_jax.sampling.reservoir import (
    Reservoir,
    reservoir_init,
    reservoir_merge,
    reservoir_update,
)
from softbon_jax.sampling.rules import (
    pessimism_log_probs,
    poisson_mask,
    select_pessimist,
    select_rejection,
)
from softbon_jax.sampling.select import (
    select,
    select_best,
    select_many,
    select_race,
    selection_log_probs,
)
from softbon_jax.simulation.monte_carlo import (
    Estimate,
    Fluctuation,
    conditional_fluctuation,
    simulate,
)
from softbon_jax.simulation.pessimism import PessimismLaw, pessimism_law, simulate_pessimism
from softbon_jax.tuning.allocation import Allocation, allocate
from softbon_jax.tuning.calibrate import (
    Calibration,
    Frontier,
    frontier,
    n_for_kl,
    temperature_for_kl,
    temperature_for_reward,
)
from softbon_jax.tuning.distillation import Distilled, distill
from softbon_jax.tuning.hedging import Hedge, hedge
from softbon_jax.tuning.thresholds import Threshold, best_threshold

__version__ = "0.1.0"

__all__ = [
    "Allocation",
    "Calibration",
    "Costs",
    "Curve",
    "Decoded",
    "Distilled",
    "Estimate",
    "Fluctuation",
    "Frontier",
    "Generating",
    "Geometric",
    "Hedge",
    "KlCurve",
    "LeaveOneOut",
    "Metrics",
    "OnePlusPoisson",
    "PessimismLaw",
    "PositiveBinomial",
    "Problem",
    "Reservoir",
    "Rounded",
    "Threshold",
    "TiltedKl",
    "allocate",
    "bernoulli",
    "best_threshold",
    "block_problem",
    "blockwise_metrics",
    "bounds",
    "calibrate",
    "conditional_fluctuation",
    "decode",
    "dirichlet",
    "distill",
    "empirical",
    "from_logits",
    "from_probs",
    "frontier",
    "hedge",
    "jackpot",
    "law_metrics",
    "leave_one_out",
    "leave_one_out_curve",
    "log_best_of_n",
    "log_best_of_poisson",
    "log_block_law",
    "log_random_n",
    "log_ratio_soft_bon",
    "log_rejection",
    "log_soft_bon",
    "log_stopped",
    "log_tilted",
    "log_uniform_race",
    "markov_metrics",
    "mean_random_n",
    "mean_stopped_n",
    "metrics",
    "n_for_kl",
    "pessimism_law",
    "pessimism_log_probs",
    "plug_in_curve",
    "poisson_mask",
    "pool_curve",
    "pool_effective_size",
    "pool_kl",
    "race_metrics",
    "random_n_metrics",
    "rates",
    "reservoir_init",
    "reservoir_merge",
    "reservoir_update",
    "round_to_lattice",
    "scores",
    "select",
    "select_best",
    "select_many",
    "select_pessimist",
    "select_race",
    "select_rejection",
    "selection_log_probs",
    "sequence_costs",
    "simulate",
    "simulate_pessimism",
    "soft_values",
    "stopped_metrics",
    "sweep",
    "symbolwise_metrics",
    "temperature_for_kl",
    "temperature_for_reward",
    "uniform_quantiles",
    "worst_case",
    "zipf",
]
