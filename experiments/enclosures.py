"""Rigorous enclosures, by ball arithmetic (python-flint), of what the library computes in floats.

A ball is a midpoint and a radius that certainly covers the true value: rounding, the error of the
quadrature and the tail that it leaves out are all in the radius. The inputs are the very floats that the
library gets. Nothing here is shared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from flint import acb, arb, ctx

BITS = 320
"""Working precision: a divergence of 1e-24, formed from differences of 1, keeps 70 digits."""

Ball = Any  # flint.arb


@contextmanager
def precise() -> Iterator[None]:
    """The working precision `BITS`, for as long as the block runs."""
    before, ctx.prec = ctx.prec, BITS
    try:
        yield
    finally:
        ctx.prec = before


class Laws(NamedTuple):
    """The laws of one problem at one temperature, a ball an outcome; P is normalized."""

    base: list[Ball]
    rewards: list[Ball]
    weights: list[Ball]  # W = P*/P
    mean: Ball  # E_P[w] with w = e^{(r - max r)/λ}

    @property
    def tilted(self) -> list[Ball]:
        """P*."""
        return [p * w for p, w in zip(self.base, self.weights, strict=True)]

    def expect(self, of: Callable[[Ball, Ball], Ball]) -> Ball:
        """E_{P*}[of(W, r)]."""
        values = map(of, self.weights, self.rewards)
        return sum((p * x for p, x in zip(self.tilted, values, strict=True)), arb(0))


def laws(probs: Sequence[float | Ball], rewards: Sequence[float], temperature: float) -> Laws:
    """P, W and μ of concrete floats; probabilities may be balls."""
    p, r = [arb(x) for x in probs], [arb(x) for x in rewards]
    total = sum(p, arb(0))
    p = [x / total for x in p]
    w = [((x - arb(max(rewards))) / arb(temperature)).exp() for x in r]
    mean = sum((a * b for a, b in zip(p, w, strict=True)), arb(0))
    return Laws(p, r, [x / mean for x in w], mean)


def soft_ratios(of: Laws, n: int) -> list[Ball]:
    """ρ = P_n/P* for an integer n >= 2: ρ(x) = ∫ e^{-v W(x)/n} φ(v/(nμ))^{n-1} dv over v > 0.

    What is left out beyond v = T is positive and at most φ(T)^{n-1} e^{-T W/n} n/W, for φ falls.
    """

    def phi(v: Any) -> Any:
        terms = (p * (-v * w / n).exp() for p, w in zip(of.base, of.weights, strict=True))
        return sum(terms, v * 0)

    ratios = []
    for weight in of.weights:
        end = 64
        while True:
            tail = phi(arb(end)) ** (n - 1) * (-end * weight / n).exp() * n / weight
            if tail < arb(2) ** -BITS:
                break
            end *= 2

        def integrand(v: Any, _: bool, weight: Ball = weight) -> Any:
            return (-v * weight / n).exp() * phi(v) ** (n - 1)  # entire: n is an integer

        body = acb.integral(integrand, 0, end).real
        ratios.append(body + tail.union(arb(0)))
    return ratios


def selected(of: Laws, ratios: Sequence[Ball]) -> list[Ball]:
    """P_n = ρ P*."""
    return [p * x for p, x in zip(of.tilted, ratios, strict=True)]


def reward_gap(of: Laws, ratios: Sequence[Ball]) -> Ball:
    """E_{P*}[r] - E_{P_n}[r]."""
    triples = zip(of.tilted, ratios, of.rewards, strict=True)
    return sum((p * (1 - x) * r for p, x, r in triples), arb(0))


def spent(of: Laws, ratios: Sequence[Ball]) -> Ball:
    """KL(P_n‖P)."""
    pairs = zip(selected(of, ratios), of.base, strict=True)
    return sum((q * (q / p).log() for q, p in pairs), arb(0))


def relative_entropy(p: Sequence[Ball], ratios: Sequence[Ball]) -> Ball:
    """KL(p‖p · ratios) = -Σ p log ratio."""
    return -sum((a * x.log() for a, x in zip(p, ratios, strict=True)), arb(0))


def distance(value: float, ball: Ball) -> float:
    """An upper bound, rounded up, of |value - the true value| relative to the latter."""
    return float((abs(arb(value) - ball) / abs(ball)).upper()) * (1 + 2.0**-50)
