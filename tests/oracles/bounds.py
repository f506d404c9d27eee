"""Bounds and asymptotes from their definitions, in mpmath at the working precision."""

from typing import Any, NamedTuple

from mpmath import mp, mpf

from .precise import Numbers


class Moments(NamedTuple):
    """What bounds are made of, on the outcomes of positive probability, W = P*/P."""

    p: list[mpf]
    tilted: list[mpf]
    w: list[mpf]
    r: list[mpf]


def moments(log_probs: Numbers, rewards: Numbers, temperature: Any) -> Moments:
    """P, P*, W and r as exact numbers in the working precision, temperature < inf or inf."""
    kept = [(mpf(a), mpf(b)) for a, b in zip(log_probs, rewards, strict=True) if a != -mp.inf]
    p = [mp.exp(a) for a, _ in kept]
    p = [x / mp.fsum(p) for x in p]
    r = [b for _, b in kept]
    top = max(r)
    if temperature == 0:
        w = [mpf(x == top) for x in r]
    else:
        w = [mp.exp((x - top) / mpf(temperature)) for x in r]
    mean = mp.fdot(p, w)
    w = [x / mean for x in w]
    return Moments(p, [a * b for a, b in zip(p, w, strict=True)], w, r)


def cv_squared(m: Moments) -> mpf:
    return mp.fdot(m.p, [(x - 1) ** 2 for x in m.w])


def scaled_range(m: Moments, temperature: Any) -> mpf:
    """The range of r over the temperature."""
    width = max(m.r) - min(m.r)
    if temperature == 0:
        return mp.inf if width else mpf(0)
    return width / mpf(temperature)


def kl_tilted_base(m: Moments) -> mpf:
    return mp.fsum(a * mp.log(b) for a, b in zip(m.tilted, m.w, strict=True) if a > 0)


def _sinh_squared(m: Moments, temperature: Any) -> mpf:
    x = scaled_range(m, temperature)
    return mp.inf if x == mp.inf else mp.sinh(x / 2) ** 2


def _quadratic_bound(m: Moments, n: mpf) -> mpf:
    if cv_squared(m) == 0:
        return mpf(0)
    b, excess = min(m.w), max(m.w) - 1
    if b == 0:
        return mp.inf
    square = mp.fdot(m.tilted, [(x - 1) ** 2 for x in m.w])
    return (1 + excess / n) * 2 / (n - 1 + b) ** 2 * (square + cv_squared(m) ** 2 / b**2)


def _relative_excess(m: Moments) -> mpf:
    if min(m.r) == max(m.r):
        return mpf(0)
    weighted = [a * b for a, b in zip(m.r, m.w, strict=True)]
    return mp.fdot(m.tilted, weighted) / mp.fdot(m.tilted, m.r) - 1


def _centered_w(m: Moments) -> list[mpf]:
    center = mp.fdot(m.tilted, m.w)
    return [x - center for x in m.w]


def _half_variance(m: Moments) -> mpf:
    return mp.fdot(m.tilted, [x**2 for x in _centered_w(m)]) / 2


def _half_deviation(m: Moments) -> mpf:
    return mp.fdot(m.tilted, [abs(x) for x in _centered_w(m)]) / 2


def _covariance(m: Moments) -> mpf:
    center = mp.fdot(m.tilted, m.r)
    product = [(a - center) * b for a, b in zip(m.r, _centered_w(m), strict=True)]
    return mp.fdot(m.tilted, product)


def _fluctuation(m: Moments) -> mpf:
    def moment(x: int) -> mpf:
        away = [(i == x) - m.tilted[x] for i in range(len(m.p))]
        return mp.fdot(m.p, [(a * b) ** 2 for a, b in zip(m.w, away, strict=True)])

    return mp.fsum(mp.sqrt(moment(x)) for x in range(len(m.p))) / mp.sqrt(2 * mp.pi)


KL_BUDGET = 0.03125  # of `n_for_kl_upper`

# By the name of the package's function: a formula of the moments, n and the temperature.
BOUNDS: dict[str, Any] = {
    "cv_squared": lambda m, n, t: cv_squared(m),
    "effective_sample_size": lambda m, n, t: n / (1 + cv_squared(m)),
    "kl_upper": lambda m, n, t: mp.log1p(cv_squared(m) / n),
    "kl_upper_linear": lambda m, n, t: cv_squared(m) / n,
    "kl_upper_sinh": lambda m, n, t: _sinh_squared(m, t) / n,
    "kl_upper_quadratic": lambda m, n, t: _quadratic_bound(m, n),
    "n_for_kl_upper": lambda m, n, t: max(mpf(1), cv_squared(m) / mp.expm1(KL_BUDGET)),
    "log_n_for_kl_upper": lambda m, n, t: mp.log(BOUNDS["n_for_kl_upper"](m, n, t)),
    "relative_gap_upper": lambda m, n, t: _relative_excess(m) / (n + _relative_excess(m)),
    "relative_gap_upper_crude": lambda m, n, t: (max(m.w) - 1) / (n + max(m.w) - 1),
    "kl_base_upper": lambda m, n, t: mp.log(n / (1 + (n - 1) * mp.exp(-scaled_range(m, t)))),
    "kl_asymptote_coefficient": lambda m, n, t: _half_variance(m),
    "kl_asymptote": lambda m, n, t: _half_variance(m) / n**2,
    "tv_asymptote_coefficient": lambda m, n, t: _half_deviation(m),
    "tv_asymptote": lambda m, n, t: _half_deviation(m) / n,
    "fluctuation_asymptote_coefficient": lambda m, n, t: _fluctuation(m),
    "fluctuation_asymptote": lambda m, n, t: _fluctuation(m) / mp.sqrt(n),
    "reward_gap_asymptote_coefficient": lambda m, n, t: _covariance(m),
    "reward_gap_asymptote": lambda m, n, t: _covariance(m) / n,
}


def least_kl(win_rate: Any) -> tuple[mpf, mpf]:
    """(βm - log((e^β - 1)/β), β) of the law with density ∝ e^{βu} on [0, 1] and mean m, by bisection."""
    m = mpf(win_rate)

    def mean(beta: mpf) -> mpf:
        return 1 / -mp.expm1(-beta) - 1 / beta

    if m == mpf(1) / 2:
        return mpf(0), mpf(0)
    low, high = mpf(10) ** -mp.dps, 2 / min(m, 1 - m)  # of |β|
    for _ in range(4 * mp.dps):
        middle = (low + high) / 2 if high < 10 * low else mp.sqrt(low * high)
        low, high = (middle, high) if mean(middle) < max(m, 1 - m) else (low, middle)
    beta = mp.sign(m - mpf(1) / 2) * low
    return beta * m - mp.log(mp.expm1(beta) / beta), beta


def two_outcome_distances(n: int, p: float, w: float) -> dict[str, mpf]:
    """KL(P*‖P_n) and TV of soft best-of-n on two outcomes, the worse of weight w < 1, for large n.

    B of the n draws are the better outcome, of probability p, and it is selected with probability
    B/(B + (n-B) w): a sum over the binomial law of B. With rewards 0 and 1 TV is the reward gap too.
    """
    p, w = mpf(p), mpf(w)
    term, high = (1 - p) ** n, mpf(0)
    for b in range(1, n + 1):
        term *= p / (1 - p) * (n - b + 1) / b
        high += term * b / (b + (n - b) * w)
    target = p / (p + (1 - p) * w)
    kl = target * mp.log(target / high) + (1 - target) * mp.log((1 - target) / (1 - high))
    return {"kl": kl, "tv": target - high}
