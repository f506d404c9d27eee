"""Exact laws, rates and simulation of Soft Best-of-n sampling, in JAX.

    import softbon_jax as sb

    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    sb.metrics(problem, n=16, temperature=0.3).kl_tilted_soft

Arrays are `[..., K]` with outcomes on the last axis, divergences are in nats, and `temperature` is
the paper's λ (arXiv:2505.03156), in reward units.
"""

from softbon_jax import bounds, calibrate, rates, scores
from softbon_jax._memory import memory_limit
from softbon_jax.continuous import Continuous, from_distribution
from softbon_jax.exact.chains import markov_metrics, soft_values
from softbon_jax.exact.judges import (
    Noise,
    log_noisy_best_of_n,
    log_noisy_soft_bon,
    normal_noise,
)
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
from softbon_jax.exact.orders import f_divergence, renyi
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
from softbon_jax.exact.spread import cvar, quantile, tail_probability
from softbon_jax.exact.stopping import (
    log_random_n,
    log_stopped,
    mean_random_n,
    mean_stopped_n,
    random_n_metrics,
    stopped_metrics,
)
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
from softbon_jax.pools.divergences import KlCurve, TiltedKl, pool_effective_size, pool_kl
from softbon_jax.pools.extrapolation import Extrapolated, extrapolate_curve
from softbon_jax.pools.tables import PoolTable, pool_table
from softbon_jax.pools.tails import Tail, pool_tail
from softbon_jax.pools.votes import WeightedVotes, pool_votes, pool_weighted_votes
from softbon_jax.pools.win_rates import pool_win_rate
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

__version__ = "0.2.0"

__all__ = [
    "Allocation",
    "Calibration",
    "Continuous",
    "Costs",
    "Curve",
    "Decoded",
    "Distilled",
    "Estimate",
    "Extrapolated",
    "Fluctuation",
    "Frontier",
    "Generating",
    "Geometric",
    "Hedge",
    "KlCurve",
    "LeaveOneOut",
    "Metrics",
    "Noise",
    "OnePlusPoisson",
    "PessimismLaw",
    "PoolTable",
    "PositiveBinomial",
    "Problem",
    "Reservoir",
    "Rounded",
    "Tail",
    "Threshold",
    "TiltedKl",
    "WeightedVotes",
    "allocate",
    "bernoulli",
    "best_threshold",
    "block_problem",
    "blockwise_metrics",
    "bounds",
    "calibrate",
    "conditional_fluctuation",
    "curve_difference",
    "cvar",
    "decode",
    "dirichlet",
    "distill",
    "empirical",
    "extrapolate_curve",
    "f_divergence",
    "from_distribution",
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
    "log_noisy_best_of_n",
    "log_noisy_soft_bon",
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
    "memory_limit",
    "metrics",
    "n_for_kl",
    "normal_noise",
    "pessimism_law",
    "pessimism_log_probs",
    "plug_in_curve",
    "poisson_mask",
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
    "quantile",
    "race_metrics",
    "random_n_metrics",
    "rates",
    "renyi",
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
    "tail_probability",
    "temperature_for_kl",
    "temperature_for_reward",
    "uniform_quantiles",
    "worst_case",
    "zipf",
]
