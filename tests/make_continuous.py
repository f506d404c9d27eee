"""Write `reference/continuous.json`, laws of continuous rewards: `make_continuous.py [LAW ...]`.

In mpmath at 25 digits: Gauss-Legendre panels over the reward, the trapezoid rule over log t, of error
e^{-π²/h} at spacing h. Both are repeated, coarser, for the number of digits that agree.
"""

import itertools
import json
import sys
from pathlib import Path

from mpmath import mp

mp.dps = 25
N = (1.5, 8.0, 100.0, 1000.0)
TEMPERATURES = (0.5, 1.0, 2.0)
HALF_WIDTH = mp.mpf(1) / 2


def normal(r, mean=0, scale=1):
    return mp.exp(-(((r - mean) / scale) ** 2) / 2) / (scale * mp.sqrt(2 * mp.pi))


def span(low, high, step):
    count = round((high - low) / step)
    return [low + step * mp.mpf(k) for k in range(count + 1)]


LAWS = {  # density, ends of the panels, n, temperatures
    "normal": (normal, span(-11, 13, 0.5), N, TEMPERATURES),
    "uniform": (lambda r: mp.mpf(1), span(0, 1, 0.25), N, TEMPERATURES),
    "exponential": (lambda r: mp.exp(-r), span(0, 64, 0.5), N, TEMPERATURES),
    "mixture": (
        lambda r: (normal(r) + normal(r, 4, HALF_WIDTH)) / 2,
        span(-11, 13, 0.25),
        N,
        TEMPERATURES,
    ),
    # Rewards beyond `FAR` select alike: two of 8 draws are there with probability 1e-19.
    "pareto": (
        lambda r: 3 / r**4,
        [*span(1, 17, 0.5), *(17 * mp.mpf(2) ** (mp.mpf(k) / 8) for k in range(1, 281))],
        (2.0, 8.0),
        (20.0,),
    ),
}
FAR = 2000


def panels(density, ends, points):
    """Rewards and probabilities at the nodes, as lists."""
    rule = [(x, w) for x, w in mp.quad_rule[points]]
    rewards, probs = [], []
    for a, b in itertools.pairwise(ends):
        for x, w in rule:
            r = (a + b) / 2 + (b - a) / 2 * x
            rewards.append(r)
            probs.append(density(r) * w * (b - a) / 2)
    return rewards, probs


def legendre(points):
    """Nodes and weights of Gauss and Legendre, by Newton's method on the recurrence."""
    found = []
    for k in range(1, points + 1):
        x = mp.cos(mp.pi * (k - mp.mpf(1) / 4) / (points + mp.mpf(1) / 2))
        for _ in range(60):
            before, now = mp.mpf(1), x
            for j in range(2, points + 1):
                before, now = now, ((2 * j - 1) * x * now - (j - 1) * before) / j
            slope = points * (x * now - before) / (x * x - 1)
            step = now / slope
            x -= step
            if abs(step) < mp.mpf(10) ** (-mp.dps):
                break
        found.append((x, 2 / ((1 - x * x) * slope**2)))
    return found


def laws(rewards, probs, temperature, numbers, spacing):
    """`{n: law at the nodes}`."""
    log_w = [min(r, FAR) / temperature for r in rewards]
    low = -max(log_w) - mp.log(max(numbers)) - 60
    count = int((-min(log_w) + 5 - low) / spacing)
    law = {n: [mp.mpf(0)] * len(probs) for n in numbers}
    w = [mp.exp(x) for x in log_w]
    for k in range(count + 1):
        t = mp.exp(low + k * spacing)
        left = [mp.exp(-t * x) if t * x < 140 else mp.mpf(0) for x in w]
        phi = mp.fdot(zip(probs, left, strict=True))
        if not phi:
            continue
        for n, sums in law.items():
            factor = n * t * spacing * phi ** (mp.mpf(n) - 1)
            if factor > mp.mpf(10) ** -60:
                for i, x in enumerate(left):
                    if x:
                        sums[i] += factor * x
    return {
        n: [s * p * x for s, p, x in zip(sums, probs, w, strict=True)] for n, sums in law.items()
    }


def values(name, points, spacing):
    """`{(n, temperature): (mass, mean reward, KL(P_n‖P))}`."""
    density, ends, numbers, temperatures = LAWS[name]
    rewards, probs = panels(density, ends, points)
    found = {}
    for temperature in temperatures:
        for n, law in laws(rewards, probs, mp.mpf(temperature), numbers, spacing).items():
            kl = mp.fsum(q * mp.log(q / p) for q, p in zip(law, probs, strict=True) if q)
            found[n, temperature] = mp.fsum(law), mp.fdot(zip(law, rewards, strict=True)), kl
    return found


def main():
    path = Path(__file__).parent / "reference" / "continuous.json"
    names = sys.argv[1:] or list(LAWS)
    cases = (
        [x for x in json.loads(path.read_text())["cases"] if x[0] not in names]
        if sys.argv[1:]
        else []
    )
    mp.quad_rule = {points: legendre(points) for points in (16, 20)}
    for name in names:
        fine, coarse = values(name, 20, mp.mpf(1) / 5), values(name, 16, mp.mpf(1) / 4)
        for (n, temperature), exact in fine.items():
            change = max(abs(a / b - 1) for a, b in zip(coarse[n, temperature], exact, strict=True))
            numbers = mp.nstr(exact[1], 18), mp.nstr(exact[2], 18), mp.nstr(change, 3)
            cases.append([name, n, temperature, *numbers])
            print(*cases[-1], mp.nstr(exact[0] - 1, 3), flush=True)
    header = {
        "command": "python tests/make_continuous.py",
        "columns": ["law", "n", "temperature", "mean reward", "KL(P_n‖P)", "change from coarser"],
    }
    lines = ",\n".join(json.dumps(x) for x in cases)
    text = (
        json.dumps(header, indent=1, ensure_ascii=False)[:-2] + f',\n "cases": [\n{lines}\n]\n}}\n'
    )
    path.write_text(text)


if __name__ == "__main__":
    main()
