"""Soft best-of-n along a Markov chain, through every path, in mpmath.

The chance of a path is the product of those of its blocks, each from all blocks that could have been
drawn. P* and every metric are those of the definitions, over whole paths.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from math import inf
from typing import Any

from mpmath import mp, mpf

from .metrics import definitions
from .precise import exact_law_by_counts, law_of, problem_of, tilted_of

Path = tuple[int, ...]


def soft_values(
    kernel: Sequence, rewards: Sequence, length: int, temperature: float, digits: int = 60
) -> list[list[mpf]]:
    """λ log E[e^{future/λ}] by every path from each state, `[length][S]`; limits at 0 and inf."""
    with mp.workdps(digits):
        size = len(kernel)
        out = []
        for t in range(length):
            row = []
            for state in range(size):
                chances, futures = [], []
                for path in product(range(size), repeat=length - 1 - t):
                    steps = list(pairwise((state, *path)))
                    chance = mp.fprod(mpf(kernel[a][b]) for a, b in steps)
                    if chance > 0:
                        chances.append(chance)
                        futures.append(mp.fsum(_reward(rewards, a, b) for a, b in steps))
                chances = [x / mp.fsum(chances) for x in chances]
                row.append(_soft_mean(chances, futures, temperature))
            out.append(row)
        return out


def _soft_mean(chances: list[mpf], values: list[mpf], temperature: float) -> mpf:
    if temperature == 0:
        return max(values)
    if temperature == inf:
        return mp.fdot(chances, values)
    top, scale = max(values), mpf(temperature)
    weights = [mp.exp((x - top) / scale) for x in values]
    return top + scale * mp.log(mp.fdot(chances, weights))


def _reward(rewards: Sequence, a: int | None, b: int) -> mpf:
    """Of the step from a to b; a is None for the first state."""
    if isinstance(rewards[0], Sequence):
        return mpf(0) if a is None else mpf(rewards[a][b])
    return mpf(rewards[b])


def markov_metrics(
    initial: Sequence,
    kernel: Sequence,
    rewards: Sequence,
    length: int,
    n: Any,
    temperature: Any,
    block_size: int | None = None,
    values: Sequence | None = None,
    digits: int = 60,
    small_n: int = 4,
) -> dict[str, mpf]:
    """Every metric of the selected path; entries may be mpmath's numbers, taken as they are.

    Up to `small_n` candidates an integer n is summed over all counts, another n integrated.
    """
    with mp.workdps(digits + 30):
        laws = [[mpf(x) for x in row] for row in (initial, *kernel)]
        first, *rows = [[x / mp.fsum(row) for x in row] for row in laws]
        size = length if block_size is None else block_size

        def steps(start: int | None, path: Path) -> list[tuple[int | None, int]]:
            return list(pairwise((start, *path)))

        def chance(start: int | None, path: Path) -> mpf:
            return mp.fprod(first[b] if a is None else rows[a][b] for a, b in steps(start, path))

        def total(start: int | None, path: Path) -> mpf:
            return mp.fsum(_reward(rewards, a, b) for a, b in steps(start, path))

        @cache
        def block_law(start: int | None, end: int, count: int) -> dict[Path, mpf]:
            """The law of the block of `count` states that ends at position `end`."""
            paths = [x for x in product(range(len(rows)), repeat=count) if chance(start, x) > 0]
            scores = [
                total(start, x) + (mpf(0) if values is None else mpf(values[end - 1][x[-1]]))
                for x in paths
            ]
            log_probs = [mp.log(chance(start, x)) for x in paths]
            problem = problem_of(log_probs, scores)
            inner = 0 < temperature < inf and len(set(scores)) > 1
            if inner and n == int(n) and n <= small_n:
                by_group = [mp.log(x) for x in problem.group_p]
                law = exact_law_by_counts(by_group, problem.group_r, int(n), temperature, digits)
                shares = zip(problem.p, problem.group, strict=True)
                law = [law[k] * x / problem.group_p[k] for x, k in shares]
            else:
                law = law_of(problem, mpf(n), mpf(temperature), digits)
            return dict(zip(paths, law, strict=True))

        def selected(path: Path) -> mpf:
            out, start = mpf(1), None
            for begin in range(0, length, size):
                block = path[begin : begin + size]
                out *= block_law(start, begin + len(block), len(block))[block]
                start = block[-1]
            return out

        paths = [x for x in product(range(len(rows)), repeat=length) if chance(None, x) > 0]
        problem = problem_of(
            [mp.log(chance(None, x)) for x in paths], [total(None, x) for x in paths]
        )
        law = [selected(x) for x in paths]
        out = definitions(problem, law, tilted_of(problem, mpf(temperature)))
        if size < length:
            out["tv"] = out["win_rate"] = mp.nan
        return out
