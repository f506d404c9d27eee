"""How often each answer has the most votes in a subset of a pool's candidates.

Let F_k be the mean over the k-subsets of some classes of: 1 if all of these have fewer than c votes, s^τ
if τ of them have c and the others fewer, and else 0. One class of N_b more candidates gives

  F_k <- Σ_{j <= c} h(j; k) F_{k-j} (s if j = c, else 1),

where h is the hypergeometric chance that j of the k are of that class. With the F of the classes before
class a, and of those after it, the chance that a has c votes, and the others none more, is a sum over
how the n - c other votes are split. Sharing equally, 1/(1 + τ) = ∫ s^τ ds over [0, 1], which a few
Gauss nodes give exactly. All terms are positive, and none is above 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _loops

Array = jax.Array


class Pairs(NamedTuple):
    """Every number of votes c with every Gauss node it needs; arrays of NumPy.

    Attributes:
      votes: `[P]` c.
      node: `[P]` s.
      weight: `[largest + 1, S]` of the nodes of each c, 0 where it has fewer.
      place: `[largest + 1, S]` where its nodes are among the pairs.
    """

    votes: np.ndarray
    node: np.ndarray
    weight: np.ndarray
    place: np.ndarray


def pairs(largest: int, num_classes: int) -> Pairs:
    """Those for subsets of up to `largest` candidates."""
    counts = [0] + [_nodes(largest // c, num_classes) for c in range(1, largest + 1)]
    most = max(counts)
    votes: list[int] = []
    nodes: list[float] = []
    weight, place = np.zeros((largest + 1, most)), np.zeros((largest + 1, most), np.int32)
    for c in range(1, largest + 1):
        x, w = np.polynomial.legendre.leggauss(counts[c])
        weight[c, : counts[c]] = w / 2
        place[c, : counts[c]] = len(votes) + np.arange(counts[c])
        votes += [c] * counts[c]
        nodes += list((x + 1) / 2)
    return Pairs(np.array(votes, np.int32), np.array(nodes), weight, place)


def elements(slots: int, largest: int, num_classes: int) -> int:
    """The array elements that a pool needs at a time."""
    counts = [_nodes(largest // c, num_classes) for c in range(1, largest + 1)]
    return (largest + 1) * (6 * slots * max(counts) + 5 * sum(counts))


def _nodes(tied: int, num_classes: int) -> int:
    """Gauss nodes that are exact for s^τ, τ up to what ties beside one of `tied` at most."""
    others = min(tied, num_classes) - 1
    return (others + 2) // 2


def votes(
    answers: Array, where: Array, n: Array, largest: int, num_classes: int, dtype: Any
) -> Array:
    """`[M, classes]` for one pool `[N]`, n from 1 to `largest`; nonsense where n is above its size."""
    table = pairs(largest, num_classes)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, answers.size + 1)))])
    factorials = jnp.asarray(logs, dtype)
    slots, size = answers.size, jnp.sum(where, dtype=jnp.int32)
    upward = _steps(answers, where)
    before = _products(upward, table, largest, factorials)
    after = _products(_steps(num_classes - 1 - answers, where), table, largest, factorials)
    # In the other order the classes above come first, then this one, in the same order inside.
    above = size - upward.first - upward.total
    after = after[jnp.clip(above + upward.rank - 1, 0, slots - 1)]
    rank = jnp.minimum(upward.rank, largest)
    weight = jnp.asarray(table.weight, dtype)[rank]
    usable = upward.present & (upward.rank <= largest)
    k = jnp.arange(largest + 1, dtype=jnp.int32)[None]

    def at(n: Array) -> Array:
        """`[classes]`."""
        rest = n - rank[:, None] - k
        log_share = (
            _log_choose(upward.first[:, None], k, factorials)
            + _log_choose(upward.total, rank, factorials)[:, None]
            + _log_choose(above[:, None], rest, factorials)
            - _log_choose(size, n, factorials)
        )
        index = jnp.broadcast_to(jnp.clip(rest, 0, largest)[:, None], after.shape)
        both = before * jnp.take_along_axis(after, index, axis=2)
        both = jnp.sum(jnp.sum(both * jnp.exp(log_share)[:, None], axis=2) * weight, axis=1)
        label = jnp.where(usable, upward.label, num_classes)
        return jax.ops.segment_sum(jnp.where(usable, both, 0.0), label, num_classes)

    return jax.lax.map(at, n)


class Steps(NamedTuple):
    """The candidates of a pool by class, `[N]`, empty slots last.

    Attributes:
      label: the class.
      first: where the class begins.
      rank: 1, 2, ... within the class.
      total: how many the class has.
      present: whether it is a candidate.
    """

    label: Array
    first: Array
    rank: Array
    total: Array
    present: Array


def _steps(answers: Array, where: Array) -> Steps:
    slots = answers.size
    label = jnp.sort(jnp.where(where, answers, jnp.iinfo(jnp.int32).max))
    index = jnp.arange(slots, dtype=jnp.int32)
    present = index < jnp.sum(where, dtype=jnp.int32)
    new = jnp.concatenate([jnp.ones(1, bool), label[1:] != label[:-1]])
    first = jax.lax.cummax(jnp.where(new, index, 0))
    group = jnp.cumsum(new) - 1
    total = jax.ops.segment_sum(present.astype(jnp.int32), group, slots)[group]
    return Steps(label, first, index - first + 1, total, present)


def _log_choose(total: Array, k: Array, table: Array) -> Array:
    """Log C(total, k) for integers, from the table of log factorials; -inf outside 0..total."""
    most = table.size - 1
    inside = (k >= 0) & (k <= total)
    total, k = jnp.clip(total, 0, most), jnp.clip(k, 0, most)
    rest = jnp.clip(total - k, 0, most)
    return jnp.where(inside, table[total] - table[k] - table[rest], -jnp.inf)


def _products(steps: Steps, table: Pairs, largest: int, factorials: Array) -> Array:
    """`[N, S, largest + 1]`: for each candidate F of the classes before its own, by the size k.

    At as many votes as its rank, for their nodes.
    """
    dtype = factorials.dtype
    votes = jnp.asarray(table.votes)[:, None]
    node = jnp.asarray(table.node, dtype)[:, None]
    place, last = jnp.asarray(table.place), largest + 1
    k = jnp.arange(last, dtype=jnp.int32)
    start = jnp.zeros((table.votes.size, last), dtype).at[:, 0].set(1.0)

    def share(one: Steps, j: Array) -> Array:
        """`[last]`: the chance that j of k are of the class, 0 where there are not as many as k."""
        ways = _log_choose(one.total, j, factorials) + _log_choose(one.first, k - j, factorials)
        of_all = _log_choose(one.first + one.total, k, factorials)
        possible = ways > -jnp.inf
        return jnp.where(possible, jnp.exp(jnp.where(possible, ways - of_all, 0.0)), 0.0)

    def step(state: tuple[Array, Array], one: Steps) -> tuple[tuple[Array, Array], Array]:
        base, total = state
        new = one.rank == 1
        base = jnp.where(new, total, base)
        total = jnp.where(new, total * share(one, jnp.zeros_like(one.rank))[None], total)
        shifted = jax.lax.dynamic_slice_in_dim(
            jnp.concatenate([jnp.zeros_like(base), base], axis=1),
            jnp.maximum(last - one.rank, 0),
            last,
            axis=1,
        )
        part = jnp.where(one.rank < votes, 1.0, jnp.where(one.rank == votes, node, 0.0))
        usable = one.present & (one.rank <= largest)
        more = part * (jnp.where(usable, share(one, one.rank), 0.0)[None] * shifted)
        return (base, total + more), base[place[jnp.minimum(one.rank, largest)]]

    return _loops.scan(step, (start, start), steps)[1]
