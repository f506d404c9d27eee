"""Bounds and large-n asymptotes of soft best-of-n and of the rules beside it: `sb.bounds.<name>`.

With w = e^{r/λ} and W = w/E_P[w], the target is P* = P·W, and what is said of soft best-of-n is made
of moments of W: CV² = Var_P(W) = χ²(P*‖P), Var_{P*}(W), Cov_{P*}(r, W). A bound holds for every real
n >= 1. An asymptote is the leading term as n grows with the problem held fixed; it bounds nothing, and
it is close only once n is well above max W, which can be far above 1 + CV². `problem` is the law of a
single selected outcome; in the functions of sequences (`m`) it is the law of one symbol.

What follows holds for every function and is not repeated in each.

Shapes: outcomes are on the last axis. All other arguments broadcast against each other and against
the batch axes of `problem`; the result has that shape, and the float dtype of the problem, or of the
arguments where there is no problem. `log_n` (nats) may be given instead of `n`, for an n that
overflows.

Tracing: every argument is traced and none is static, so that new values do not compile again. Bad
values raise `ValueError` when they are concrete and give NaN when traced. What is not real numbers
raises `TypeError`. Temperatures 0 and inf are legal.

Gradients: with respect to log-probabilities they are along the simplex. At temperature 0 the gradient
with respect to temperature and rewards is 0 where the result is finite; the gradient of an infinite
result means nothing.

Numerics: moments are sums of non-negative terms in log space, formed from W/E[W] - 1 without
cancellation, so they keep their digits where W is nearly constant or an outcome nearly certain, and
overflow to inf, or underflow to 0, only where the result itself does. Relative error in float64 about
1e-15·(10 + range/temperature + |log result|), called the usual accuracy below.

Sources: arXiv:2505.03156 is credited with what its abstract states: the sampler, the target, and that
the divergence and the relative reward gap are O(1/n). "Rate: arXiv:2505.03156; form: derived here"
means that the explicit expression is not taken from it.
"""

from softbon_jax.bounds.asymptotes import (
    fluctuation_asymptote,
    fluctuation_asymptote_coefficient,
    kl_asymptote,
    kl_asymptote_coefficient,
    reward_gap_asymptote,
    reward_gap_asymptote_coefficient,
    tv_asymptote,
    tv_asymptote_coefficient,
)
from softbon_jax.bounds.rules import (
    best_of_n_kl,
    best_of_n_kl_estimate,
    best_of_n_win_rate,
    best_of_poisson_kl,
    best_of_poisson_win_rate,
    expected_best_of_n_kl_estimate,
    least_kl_for_win_rate,
    race_tv_upper,
)
from softbon_jax.bounds.sequences import (
    block_gain_upper,
    block_kl_lower,
    block_kl_upper,
    log_n_for_block_gain,
    log_n_for_block_kl_lower,
    log_n_for_block_kl_upper,
    threshold_exponent,
    threshold_exponent_upper,
)
from softbon_jax.bounds.soft import (
    cv_squared,
    effective_sample_size,
    kl_base_upper,
    kl_upper,
    kl_upper_linear,
    kl_upper_quadratic,
    kl_upper_sinh,
    log_n_for_kl_upper,
    n_for_kl_upper,
    relative_gap_upper,
    relative_gap_upper_crude,
)

__all__ = [
    "best_of_n_kl",
    "best_of_n_kl_estimate",
    "best_of_n_win_rate",
    "best_of_poisson_kl",
    "best_of_poisson_win_rate",
    "block_gain_upper",
    "block_kl_lower",
    "block_kl_upper",
    "cv_squared",
    "effective_sample_size",
    "expected_best_of_n_kl_estimate",
    "fluctuation_asymptote",
    "fluctuation_asymptote_coefficient",
    "kl_asymptote",
    "kl_asymptote_coefficient",
    "kl_base_upper",
    "kl_upper",
    "kl_upper_linear",
    "kl_upper_quadratic",
    "kl_upper_sinh",
    "least_kl_for_win_rate",
    "log_n_for_block_gain",
    "log_n_for_block_kl_lower",
    "log_n_for_block_kl_upper",
    "log_n_for_kl_upper",
    "n_for_kl_upper",
    "race_tv_upper",
    "relative_gap_upper",
    "relative_gap_upper_crude",
    "reward_gap_asymptote",
    "reward_gap_asymptote_coefficient",
    "threshold_exponent",
    "threshold_exponent_upper",
    "tv_asymptote",
    "tv_asymptote_coefficient",
]
