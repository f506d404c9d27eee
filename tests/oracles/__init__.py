"""Independent oracles: NumPy, SciPy and mpmath, slow and obvious. Nothing is shared with the package.

* `laws`: soft and hard best-of-n in float64, through all `K**n` tuples of candidates
  (`law_by_tuples`), all vectors of multinomial counts (`law_by_counts`), by the trapezoid rule.
* `rules`: the uniform race, best of a Poisson number, rejection, selection of several.
* `bounds`: bounds and asymptotes from their definitions, in mpmath.
* `chains`: soft best-of-n along a Markov chain, and its soft values, through every path.
* `drawing`: a random number of draws, and draws up to a threshold, through all counts.
* `pools`, `sequences`: subsets of a pool and its empirical law; totals of sequences.
* `precise`: the law for real n to any number of digits (`exact_law`), in mpmath.
* `metrics`, `gradients`: every metric and its derivatives from the definitions, by plain sums and
  differences of the precise law at two resolutions that must agree.
* `bounds`: every bound and asymptote (`BOUNDS`), from the moments of W.
* `stored`: the results of `make_reference.py` (`load_reference`).

Numbers of the mpmath part come back as mpmath's, to be used inside `mpmath.workdps`. Arguments
everywhere: `log_probs` [K] (natural logs up to a common constant, `-inf` for an outcome that cannot
happen; normalized here) or `probs` [K], `rewards` [K], `n` (a real number >= 1 unless said otherwise)
and `temperature` (0 is hard best-of-n, inf the reference law). float64 inputs are taken as exact.
"""

from .bounds import (
    BOUNDS,
    KL_BUDGET,
    Moments,
    cv_squared,
    kl_tilted_base,
    least_kl,
    moments,
    scaled_range,
    two_outcome_distances,
)
from .chains import markov_metrics, soft_values
from .drawing import (
    law_by_integral,
    mean_stopped_n,
    random_n_law,
    stopped_factors,
    stopped_law,
)
from .draws import (
    blockwise_law,
    expected_fluctuation,
    expected_log_weight,
    grouped_jackknife,
    markov_blocks,
)
from .gradients import PROVEN_GRADIENT_DIGITS, exact_gradients
from .laws import (
    hard_law,
    law_by_counts,
    law_by_trapezoid,
    law_by_tuples,
    softmax,
    tilted_law,
)
from .metrics import (
    METRICS,
    PROVEN_DIGITS,
    Exact,
    agreeing_digits,
    decimal,
    exact_metrics,
    metrics_of_law,
)
from .pools import (
    all_jackknifed_divergences,
    credits_over_subsets,
    empirical_divergences,
    jackknifed_divergences,
    mean_over_subsets,
    policy_gradient,
    votes_over_subsets,
    weighted_votes_over_subsets,
    win_rate_over_subsets,
)
from .precise import RELATIVE_DIGITS, exact_law, exact_law_by_counts, exact_tilted
from .rules import (
    exact_race_law,
    hedging_uniform_density,
    plackett_luce,
    poisson_law,
    race_selection,
    rejection_law_by_tuples,
    uniform_race_law,
)
from .sequences import law_of_totals
from .stored import Case, load_reference

__all__ = [
    "BOUNDS",
    "KL_BUDGET",
    "METRICS",
    "PROVEN_DIGITS",
    "PROVEN_GRADIENT_DIGITS",
    "RELATIVE_DIGITS",
    "Case",
    "Exact",
    "Moments",
    "agreeing_digits",
    "all_jackknifed_divergences",
    "blockwise_law",
    "credits_over_subsets",
    "cv_squared",
    "decimal",
    "empirical_divergences",
    "exact_gradients",
    "exact_law",
    "exact_law_by_counts",
    "exact_metrics",
    "exact_race_law",
    "exact_tilted",
    "expected_fluctuation",
    "expected_log_weight",
    "grouped_jackknife",
    "hard_law",
    "hedging_uniform_density",
    "jackknifed_divergences",
    "kl_tilted_base",
    "law_by_counts",
    "law_by_integral",
    "law_by_trapezoid",
    "law_by_tuples",
    "law_of_totals",
    "least_kl",
    "load_reference",
    "markov_blocks",
    "markov_metrics",
    "mean_over_subsets",
    "mean_stopped_n",
    "metrics_of_law",
    "moments",
    "plackett_luce",
    "poisson_law",
    "policy_gradient",
    "race_selection",
    "random_n_law",
    "rejection_law_by_tuples",
    "scaled_range",
    "soft_values",
    "softmax",
    "stopped_factors",
    "stopped_law",
    "tilted_law",
    "two_outcome_distances",
    "uniform_race_law",
    "votes_over_subsets",
    "weighted_votes_over_subsets",
    "win_rate_over_subsets",
]
