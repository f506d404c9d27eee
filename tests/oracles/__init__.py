"""Independent oracles: NumPy, SciPy and mpmath, slow and obvious. Nothing is shared with the package.

* `laws`: soft and hard best-of-n in float64, through all `K**n` tuples of candidates
  (`law_by_tuples`), all vectors of multinomial counts (`law_by_counts`), by the trapezoid rule.
* `rules`: the uniform race, best of a Poisson number, rejection, selection of several.
* `pools`, `sequences`: subsets of a pool and its empirical law; totals of sequences.
* `precise`: the law for real n to any number of digits (`exact_law`), in mpmath.
* `metrics`, `gradients`: every metric and its derivatives from the definitions, by plain sums and
  differences of the precise law at two resolutions that must agree.
* `stored`: the results of `make_reference.py` (`load_reference`).

Numbers of the mpmath part come back as mpmath's, to be used inside `mpmath.workdps`. Arguments
everywhere: `log_probs` [K] (natural logs up to a common constant, `-inf` for an outcome that cannot
happen; normalized here) or `probs` [K], `rewards` [K], `n` (a real number >= 1 unless said otherwise)
and `temperature` (0 is hard best-of-n, inf the reference law). float64 inputs are taken as exact.
"""

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
from .pools import empirical_divergences, jackknifed_divergences, mean_over_subsets
from .precise import RELATIVE_DIGITS, exact_law, exact_law_by_counts, exact_tilted
from .rules import (
    plackett_luce,
    poisson_law,
    race_selection,
    rejection_law_by_tuples,
    uniform_race_law,
)
from .sequences import law_of_totals
from .stored import Case, load_reference

__all__ = [
    "METRICS",
    "PROVEN_DIGITS",
    "PROVEN_GRADIENT_DIGITS",
    "RELATIVE_DIGITS",
    "Case",
    "Exact",
    "agreeing_digits",
    "decimal",
    "empirical_divergences",
    "exact_gradients",
    "exact_law",
    "exact_law_by_counts",
    "exact_metrics",
    "exact_tilted",
    "hard_law",
    "jackknifed_divergences",
    "law_by_counts",
    "law_by_trapezoid",
    "law_by_tuples",
    "law_of_totals",
    "load_reference",
    "mean_over_subsets",
    "metrics_of_law",
    "plackett_luce",
    "poisson_law",
    "race_selection",
    "rejection_law_by_tuples",
    "softmax",
    "tilted_law",
    "uniform_race_law",
]
