"""Where each claim comes from: the paper, other papers, a derivation of ours, or our own checks.

The paper is Verdun, Oesterling, Lakkaraju and Calmon, arXiv:2505.03156. Its claims are that the
divergence from the tilted law and the relative reward gap are O(1/n); the constants are those in which
`softbon_jax.bounds` states them.
"""

from __future__ import annotations

PAPER = "arXiv:2505.03156"
DERIVED = "derived here"
CHECK = "check of the computation"
BEIRAMI = "arXiv:2401.01879"
AMINIAN = "arXiv:2507.05913"
HEDGING = "arXiv:2506.19248"
VARIATIONAL = "Donsker and Varadhan's variational formula"

# The first pair whose phrase is in the statement decides.
_SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "frontier": (
        ("no law beats", VARIATIONAL),
        ("e^{-Δ/λ}", AMINIAN),
        ("hard best-of-n:", BEIRAMI),
        ("earns less than hard", DERIVED),
        ("λ → ∞", DERIVED),
        ("λ → 0", CHECK),
        ("the reference law itself", CHECK),
    ),
    "kl_rate": (
        ("the O(1/n²) bound", DERIVED),
        ("≤", PAPER),
        ("fixed problem", DERIVED),
        ("ratio", DERIVED),
        ("simulation", CHECK),
    ),
    "reward_rate": (
        ("≤", PAPER),
        ("never", DERIVED),
        ("fixed problem", DERIVED),
        ("ratio", DERIVED),
        ("simulation", CHECK),
    ),
    "tv_rate": (("", DERIVED),),
    "simulation_check": (("", CHECK),),
    "blocks": (
        ("log(1 + ((1 + CV²)^m - 1)/n)", PAPER + " for the product law"),
        ("m D - log n", DERIVED),
        ("larger blocks", DERIVED),
        ("", CHECK),
    ),
    "threshold": (
        ("log(1 + ((1 + CV²)^m - 1)/n)", PAPER + " for the product law"),
        ("as n grows", CHECK),
        ("", DERIVED),
    ),
    "gain": (("never falls", CHECK), ("", DERIVED)),
    "samples_needed": (
        ("e^ε - 1", PAPER + " solved for n"),
        ("", DERIVED),
    ),
    "decoding": (
        ("no decoding beats", VARIATIONAL),
        ("with many candidates", DERIVED),
        ("", CHECK),
    ),
    "pool_frontier": (
        ("no law beats", VARIATIONAL),
        ("hard best-of-n:", BEIRAMI),
        ("n = 1", CHECK),
    ),
    "pools": (
        ("log n - (n-1)/n", BEIRAMI),
        ("turns down in gold", "arXiv:2210.10760"),
        ("over-optimize less", "arXiv:2210.10760"),
        ("", CHECK),
    ),
    "estimator_bias": (("", DERIVED),),
    "rivals": (
        ("no rule beats", VARIATIONAL),
        ("simulation", CHECK),
        ("", DERIVED),
    ),
    "hard_limit": (
        ("KL of the best outcome", DERIVED),
        ("the mean of Beirami's estimator", DERIVED),
        ("Beirami's estimator ≤", BEIRAMI),
        ("KL = ", CHECK),
        ("", BEIRAMI),
    ),
    "poisson": (
        ("no rule is cheaper", VARIATIONAL),
        ("", HEDGING),
    ),
    "hedging": (
        ("is largest at", HEDGING + ", the optimum derived here"),
        ("√(p(p+1))", DERIVED),
        ("no point", CHECK),
        ("tilt misses", DERIVED),
        ("for each prompt", DERIVED),
        ("budgets", CHECK),
    ),
    "distillation": (("training", VARIATIONAL), ("", PAPER)),
}


def source_of(experiment: str, statement: str) -> str:
    """The source of a claim; ValueError for one that has none."""
    for phrase, source in _SOURCES.get(experiment, ()):
        if phrase in statement:
            return source
    raise ValueError(f"the claim {statement!r} of {experiment} has no source")
