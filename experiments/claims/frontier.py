"""Claims on reward against KL from the reference law, and on the limits of the temperature."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.claims import (
    AMINIAN,
    BEIRAMI,
    CHECK,
    DERIVED,
    TOLERANCES,
    VARIATIONAL,
    Claim,
    at_most,
    bound,
)

NAME = "frontier"


def claims(dataset: xr.Dataset) -> list[Claim]:
    """Optimality of the tilted laws, bounds, and the limits of low and high temperature."""
    hard, base = dataset.sel(temperature=0.0), dataset.sel(temperature=np.inf)
    between = dataset.isel(temperature=slice(1, -1))
    low, high = between.isel(temperature=0), between.isel(temperature=-1)
    temperature, n = between.temperature, dataset.n
    # J(Q) = E_Q[r] - λ KL(Q‖P), in units of λ or of the reward range, whichever is larger.
    lead = (between.reward - between.tilted_reward) - temperature * (
        between.kl_soft_base - between.kl_tilted_base
    )
    loss = temperature * between.kl_soft_tilted
    # Selection reaches KL log n at most; half of it is well within reach.
    reached = between.kl_tilted_base <= np.log(float(n[-1])) / 2
    several = n > 1
    first_order = (1 - 1 / n) * dataset.base_variance / float(high.temperature)
    second_order = ((1 - 1 / n) / float(high.temperature)) ** 2 * dataset.base_variance / 2
    near_infinity = TOLERANCES.near_infinity / float(high.temperature)
    t = TOLERANCES

    def off(value: xr.DataArray, expected: xr.DataArray) -> xr.DataArray:
        return abs(value / expected - 1).where(several, drop=True)

    return [
        at_most(
            NAME,
            "E[r] - λ KL(·‖P) is below that of the tilted law by exactly λ KL(P_n‖P*)",
            abs(lead + loss) / np.maximum(temperature, 1.0),
            t.rounding,
            "largest difference",
            source=VARIATIONAL,
        ),
        at_most(
            NAME,
            "the shortfall λ KL(P_n‖P*) from the frontier falls as n grows, at every λ",
            loss.transpose(..., "n").diff("n"),
            t.rounding,
            "largest rise from one n to the next",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "n → ∞ spans the frontier: at no λ is soft best-of-n far below it",
            loss.isel(n=-1).where(reached, 0.0),
            t.near,
            f"largest shortfall in reward ranges at n = {int(n[-1])}, tilted laws of KL ≤ (log n)/2,",
            source=DERIVED,
        ),
        bound(
            NAME,
            "KL(P_n‖P) ≤ log(n/(1 + (n-1) e^{-Δ/λ}))",
            dataset.kl_soft_base,
            dataset.kl_base_upper,
            source=AMINIAN,
        ),
        bound(
            NAME,
            "hard best-of-n: KL(P_n‖P) ≤ log n - (n-1)/n",
            hard.kl_soft_base,
            dataset.best_of_n_kl,
            source=BEIRAMI,
        ),
        bound(
            NAME,
            "hard best-of-n: win rate ≤ n/(n+1)",
            hard.win_rate,
            dataset.best_of_n_win_rate,
            source=BEIRAMI,
        ),
        bound(
            NAME,
            "soft best-of-n earns less than hard by at most λ log n",
            (hard.reward - between.reward).clip(-t.rounding),
            temperature * np.log(n) + t.rounding,
            source=DERIVED,
        ),
        at_most(
            NAME,
            "λ → 0: reward, KL(P_n‖P) and win rate of hard best-of-n",
            [abs(low[x] - hard[x]) for x in ("reward", "kl_soft_base", "win_rate")],
            t.near_zero,
            f"largest difference at λ = {float(low.temperature):g} range",
            source=CHECK,
        ),
        at_most(
            NAME,
            "λ → ∞: reward - E_P[r] = (1 - 1/n) Var_P(r)/λ + O(λ⁻²)",
            off(high.reward - dataset.base_reward, first_order),
            near_infinity,
            f"relative error at λ = {float(high.temperature):g} range",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "λ → ∞: KL(P_n‖P) = (1 - 1/n)² Var_P(r)/2λ² + O(λ⁻³)",
            off(high.kl_soft_base, second_order),
            near_infinity,
            f"relative error at λ = {float(high.temperature):g} range",
            source=DERIVED,
        ),
        at_most(
            NAME,
            "λ = ∞ and n = 1: the reference law itself",
            np.concatenate(
                [
                    np.abs(x).ravel()
                    for x in (
                        base.kl_soft_base.values,
                        dataset.kl_soft_base.sel(n=1).values,
                        (base.reward - dataset.base_reward).values,
                        (dataset.reward.sel(n=1) - dataset.base_reward).values,
                    )
                ]
            ),
            t.rounding,
            "largest KL or difference of reward",
            source=CHECK,
        ),
    ]
