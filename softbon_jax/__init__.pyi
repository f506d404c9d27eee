"""The public names, for type checkers and editors. At run time see `__init__.py`."""

from softbon_jax import bounds as bounds, calibrate as calibrate, rates as rates, scores as scores
from softbon_jax._memory import memory_limit as memory_limit
from softbon_jax.continuous import Continuous as Continuous, from_distribution as from_distribution
from softbon_jax.exact.chains import markov_metrics as markov_metrics, soft_values as soft_values
from softbon_jax.exact.judges import (
    Noise as Noise,
    log_noisy_best_of_n as log_noisy_best_of_n,
    log_noisy_soft_bon as log_noisy_soft_bon,
    normal_noise as normal_noise,
)
from softbon_jax.exact.laws import (
    log_best_of_n as log_best_of_n,
    log_best_of_poisson as log_best_of_poisson,
    log_ratio_soft_bon as log_ratio_soft_bon,
    log_rejection as log_rejection,
    log_soft_bon as log_soft_bon,
    log_tilted as log_tilted,
    log_uniform_race as log_uniform_race,
)
from softbon_jax.exact.metrics import (
    Metrics as Metrics,
    law_metrics as law_metrics,
    metrics as metrics,
    race_metrics as race_metrics,
    sweep as sweep,
)
from softbon_jax.exact.numbers import (
    Generating as Generating,
    Geometric as Geometric,
    OnePlusPoisson as OnePlusPoisson,
    PositiveBinomial as PositiveBinomial,
)
from softbon_jax.exact.orders import f_divergence as f_divergence, renyi as renyi
from softbon_jax.exact.sequences import (
    Costs as Costs,
    Rounded as Rounded,
    block_problem as block_problem,
    blockwise_metrics as blockwise_metrics,
    log_block_law as log_block_law,
    round_to_lattice as round_to_lattice,
    sequence_costs as sequence_costs,
    symbolwise_metrics as symbolwise_metrics,
)
from softbon_jax.exact.spread import (
    cvar as cvar,
    quantile as quantile,
    tail_probability as tail_probability,
)
from softbon_jax.exact.stopping import (
    log_random_n as log_random_n,
    log_stopped as log_stopped,
    mean_random_n as mean_random_n,
    mean_stopped_n as mean_stopped_n,
    random_n_metrics as random_n_metrics,
    stopped_metrics as stopped_metrics,
)
from softbon_jax.pools.credits import pool_credits as pool_credits, pool_weights as pool_weights
from softbon_jax.pools.curves import (
    Curve as Curve,
    LeaveOneOut as LeaveOneOut,
    curve_difference as curve_difference,
    leave_one_out as leave_one_out,
    leave_one_out_curve as leave_one_out_curve,
    plug_in_curve as plug_in_curve,
    pool_curve as pool_curve,
)
from softbon_jax.pools.divergences import (
    KlCurve as KlCurve,
    TiltedKl as TiltedKl,
    pool_effective_size as pool_effective_size,
    pool_kl as pool_kl,
)
from softbon_jax.pools.extrapolation import (
    Extrapolated as Extrapolated,
    extrapolate_curve as extrapolate_curve,
)
from softbon_jax.pools.tables import PoolTable as PoolTable, pool_table as pool_table
from softbon_jax.pools.tails import Tail as Tail, pool_tail as pool_tail
from softbon_jax.pools.votes import (
    WeightedVotes as WeightedVotes,
    pool_votes as pool_votes,
    pool_weighted_votes as pool_weighted_votes,
)
from softbon_jax.pools.win_rates import pool_win_rate as pool_win_rate
from softbon_jax.problem import (
    Problem as Problem,
    bernoulli as bernoulli,
    dirichlet as dirichlet,
    empirical as empirical,
    from_logits as from_logits,
    from_probs as from_probs,
    jackpot as jackpot,
    uniform_quantiles as uniform_quantiles,
    worst_case as worst_case,
    zipf as zipf,
)
from softbon_jax.sampling.decoding import Decoded as Decoded, decode as decode
from softbon_jax.sampling.reservoir import (
    Reservoir as Reservoir,
    reservoir_init as reservoir_init,
    reservoir_merge as reservoir_merge,
    reservoir_update as reservoir_update,
)
from softbon_jax.sampling.rules import (
    pessimism_log_probs as pessimism_log_probs,
    poisson_mask as poisson_mask,
    select_pessimist as select_pessimist,
    select_rejection as select_rejection,
)
from softbon_jax.sampling.select import (
    select as select,
    select_best as select_best,
    select_many as select_many,
    select_race as select_race,
    selection_log_probs as selection_log_probs,
)
from softbon_jax.simulation.monte_carlo import (
    Estimate as Estimate,
    Fluctuation as Fluctuation,
    conditional_fluctuation as conditional_fluctuation,
    simulate as simulate,
)
from softbon_jax.simulation.pessimism import (
    PessimismLaw as PessimismLaw,
    pessimism_law as pessimism_law,
    simulate_pessimism as simulate_pessimism,
)
from softbon_jax.tuning.allocation import Allocation as Allocation, allocate as allocate
from softbon_jax.tuning.calibrate import (
    Calibration as Calibration,
    Frontier as Frontier,
    frontier as frontier,
    n_for_kl as n_for_kl,
    temperature_for_kl as temperature_for_kl,
    temperature_for_reward as temperature_for_reward,
)
from softbon_jax.tuning.distillation import Distilled as Distilled, distill as distill
from softbon_jax.tuning.hedging import Hedge as Hedge, hedge as hedge
from softbon_jax.tuning.thresholds import Threshold as Threshold, best_threshold as best_threshold

__version__: str
