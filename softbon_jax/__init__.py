"""Exact laws, rates and simulation of Soft Best-of-n sampling, in JAX.

    import softbon_jax as sb

    problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
    sb.metrics(problem, n=16, temperature=0.3).kl_tilted_soft

Arrays are `[..., K]` with outcomes on the last axis, divergences are in nats, and `temperature` is
the paper's λ (arXiv:2505.03156), in reward units.
"""

from softbon_jax import bounds, rates
from softbon_jax.decoding import Decoded, decode
from softbon_jax.law import (
    log_best_of_n,
    log_ratio_soft_bon,
    log_soft_bon,
    log_tilted,
)
from softbon_jax.metrics import Metrics, law_metrics, metrics, sweep
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
from softbon_jax.sequences import (
    Costs,
    Rounded,
    block_problem,
    blockwise_metrics,
    log_block_law,
    round_to_lattice,
    sequence_costs,
    symbolwise_metrics,
)

__version__ = "0.1.0"

__all__ = [
    "Costs",
    "Decoded",
    "Metrics",
    "Problem",
    "Rounded",
    "bernoulli",
    "block_problem",
    "blockwise_metrics",
    "bounds",
    "decode",
    "dirichlet",
    "empirical",
    "from_logits",
    "from_probs",
    "jackpot",
    "law_metrics",
    "log_best_of_n",
    "log_block_law",
    "log_ratio_soft_bon",
    "log_soft_bon",
    "log_tilted",
    "metrics",
    "rates",
    "round_to_lattice",
    "sequence_costs",
    "sweep",
    "symbolwise_metrics",
    "uniform_quantiles",
    "worst_case",
    "zipf",
]
