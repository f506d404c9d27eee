"""The law of the true outcome under a noisy judge, from its definition in mpmath."""

from mpmath import mp, mpf

from .laws import law_by_counts

DENSITIES = {
    "normal": (mp.npdf, mp.ncdf),
    "gumbel": (lambda z: mp.exp(-z - mp.exp(-z)), lambda z: mp.exp(-mp.exp(-z))),
    "logistic": (lambda z: mp.exp(-z) / (1 + mp.exp(-z)) ** 2, lambda z: 1 / (1 + mp.exp(-z))),
}


def noisy_law(log_probs, rewards, n, temperature, noise, log_weights):
    """By all counts of pairs of outcome and noise; `noise` and `log_weights` are `[K, J]`."""
    pairs = [
        (log_probs[i] + log_weights[i][j], rewards[i] + noise[i][j], i)
        for i in range(len(rewards))
        for j in range(len(noise[i]))
    ]
    logs, scores, owners = zip(*pairs, strict=True)
    law = law_by_counts(list(logs), list(scores), n, temperature)
    return [sum(x for x, i in zip(law, owners, strict=True) if i == k) for k in range(len(rewards))]


def noisy_best_law(probs, rewards, n, scales, noise):
    """By adaptive quadrature of the density of the largest score."""
    density, below = DENSITIES[noise]
    p, r, c = ([mpf(float(x)) for x in y] for y in (probs, rewards, scales))
    outcomes = range(len(p))
    ends = [min(r) - 60 * max(c), *sorted(r), *(max(r) + k * max(c) for k in (3, 6, 12, 30, 80))]

    def integrand(s, k):
        f = mp.fsum(p[i] * below((s - r[i]) / c[i]) for i in outcomes)
        return n * f ** (mpf(n) - 1) * density((s - r[k]) / c[k]) / c[k] if f else mpf(0)

    return [p[k] * mp.quad(lambda s, k=k: integrand(s, k), ends) for k in outcomes]
