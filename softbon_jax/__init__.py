"""Exact laws, rates and simulation of Soft Best-of-n sampling, in JAX.

    import softbon_jax as sb

    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    sb.metrics(problem, n=16, temperature=0.3).kl_tilted_soft

Arrays are `[..., K]` with outcomes on the last axis, divergences are in nats, and `temperature` is
the paper's λ (arXiv:2505.03156), in reward units.
"""

from softbon_jax._lazy import attach

__version__ = "0.2.0"

# Type checkers and editors read the same names in __init__.pyi.
__getattr__, __dir__, __all__ = attach(
    __name__,
    modules=("bounds", "calibrate", "rates", "scores"),
    reachable=("continuous", "exact", "pools", "problem", "sampling", "simulation", "tuning"),
    names={
        "_memory": ["memory_limit"],
        "continuous": ["Continuous", "from_distribution"],
        "exact.chains": ["markov_metrics", "soft_values"],
        "exact.judges": ["Noise", "log_noisy_best_of_n", "log_noisy_soft_bon", "normal_noise"],
        "exact.laws": [
            "log_best_of_n",
            "log_best_of_poisson",
            "log_ratio_soft_bon",
            "log_rejection",
            "log_soft_bon",
            "log_tilted",
            "log_uniform_race",
        ],
        "exact.metrics": ["Metrics", "law_metrics", "metrics", "race_metrics", "sweep"],
        "exact.numbers": ["Generating", "Geometric", "OnePlusPoisson", "PositiveBinomial"],
        "exact.orders": ["f_divergence", "renyi"],
        "exact.sequences": [
            "Costs",
            "Rounded",
            "block_problem",
            "blockwise_metrics",
            "log_block_law",
            "round_to_lattice",
            "sequence_costs",
            "symbolwise_metrics",
        ],
        "exact.spread": ["cvar", "quantile", "tail_probability"],
        "exact.stopping": [
            "log_random_n",
            "log_stopped",
            "mean_random_n",
            "mean_stopped_n",
            "random_n_metrics",
            "stopped_metrics",
        ],
        "pools.credits": ["pool_credits", "pool_weights"],
        "pools.curves": [
            "Curve",
            "LeaveOneOut",
            "curve_difference",
            "leave_one_out",
            "leave_one_out_curve",
            "plug_in_curve",
            "pool_curve",
        ],
        "pools.divergences": ["KlCurve", "TiltedKl", "pool_effective_size", "pool_kl"],
        "pools.extrapolation": ["Extrapolated", "extrapolate_curve"],
        "pools.tables": ["PoolTable", "pool_table"],
        "pools.tails": ["Tail", "pool_tail"],
        "pools.votes": ["WeightedVotes", "pool_votes", "pool_weighted_votes"],
        "pools.win_rates": ["pool_win_rate"],
        "problem": [
            "Problem",
            "bernoulli",
            "dirichlet",
            "empirical",
            "from_logits",
            "from_probs",
            "jackpot",
            "uniform_quantiles",
            "worst_case",
            "zipf",
        ],
        "sampling.decoding": ["Decoded", "decode"],
        "sampling.reservoir": [
            "Reservoir",
            "reservoir_init",
            "reservoir_merge",
            "reservoir_update",
        ],
        "sampling.rules": [
            "pessimism_log_probs",
            "poisson_mask",
            "select_pessimist",
            "select_rejection",
        ],
        "sampling.select": [
            "select",
            "select_best",
            "select_many",
            "select_race",
            "selection_log_probs",
        ],
        "simulation.monte_carlo": [
            "Estimate",
            "Fluctuation",
            "conditional_fluctuation",
            "simulate",
        ],
        "simulation.pessimism": ["PessimismLaw", "pessimism_law", "simulate_pessimism"],
        "tuning.allocation": ["Allocation", "allocate"],
        "tuning.calibrate": [
            "Calibration",
            "Frontier",
            "frontier",
            "n_for_kl",
            "temperature_for_kl",
            "temperature_for_reward",
        ],
        "tuning.distillation": ["Distilled", "distill"],
        "tuning.hedging": ["Hedge", "hedge"],
        "tuning.thresholds": ["Threshold", "best_threshold"],
    },
)
