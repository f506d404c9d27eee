"""Ways to choose an answer among those that responses give, valued on the same prompts."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import numpy as np

from softbon_jax import _checks
from softbon_jax.command._grid import Table
from softbon_jax.pools.votes import pool_votes, pool_weighted_votes
from softbon_jax.scores import Scores

MOST_EXACT = 2**22
"""Of N · n · min(n, answers), the numbers that an exact count of plain votes keeps for a pool of N;
beyond it they are counted in random subsets too."""

SUBSETS = 200
"""Random subsets a prompt, whose error averages out over the prompts."""


class Ballot(NamedTuple):
    """What each rule for choosing an answer earns; the first rule is the plain vote.

    Attributes:
      rules: their names, in words.
      sampled: whether a rule is valued on random subsets, at all n or at those beyond `MOST_EXACT`.
      value: `[rules, prompts, M]` mean gold, in its own units, of the answer chosen among n responses.
      mixed: number of prompts with responses of one answer and unequal gold.
    """

    rules: tuple[str, ...]
    sampled: tuple[bool, ...]
    value: np.ndarray
    mixed: int


def ballot(scores: Scores, table: Table, temperature: float | None, *, seed: int = 0) -> Ballot:
    """Votes, plain and weighted, beside soft and hard best-of-n.

    Args:
      scores: pools with answers and gold.
      table: estimates, from `tabulate`.
      temperature: λ of soft best-of-n and of the weights, above 0 and finite, one of
        `table.temperature`; None for the middle one of these, if there is one.
      seed: of the random subsets.

    Returns:
      `Ballot`. Where responses of one answer have unequal gold, a vote earns their mean.

    Raises:
      ValueError: the pools have no answers, or no gold; the temperature is 0, infinite or not in the
        table; `seed` is not an integer of at least 0.

    Numerics: best-of-n, and plain votes up to `MOST_EXACT`, are means over all subsets of a pool;
      weighted votes, and plain ones beyond it, over `SUBSETS` random subsets a prompt.
    Source: `sb.pool_votes`, `sb.pool_weighted_votes`, `sb.pool_curve`.

    Example:
      >>> from softbon_jax.command import advice
      >>> pools = sb.scores.padded({"a": [0.0, 0.0, 1.0]}, {"a": [1.0, 1.0, 0.0]})
      >>> pools = pools._replace(answers=np.array([[0, 0, 1]]))
      >>> found = advice.ballot(pools, advice.tabulate(pools, [1, 3], [0.0]), None)
      >>> dict(zip(found.rules, found.value[:, 0, 1].tolist()))
      {'most votes': 1.0, 'hard best-of-n': 0.0, 'largest mean reward': 0.0}
    """
    if scores.answers is None or scores.gold is None or table.gold is None:
        raise ValueError("scores must have answers and gold, which says how good each answer is")
    seed = _checks.positive_integer("seed", seed, least=0, most=2**63 - 1)
    usual = table.temperature[(table.temperature > 0) & np.isfinite(table.temperature)]
    if temperature is not None and temperature not in usual:
        raise ValueError(f"temperature must be one of {usual.tolist()}, got {temperature}")
    if temperature is None and usual.size:
        temperature = float(usual[usual.size // 2])
    answers, gold, where, rewards = (
        x[table.prompts] for x in (scores.answers, scores.gold, scores.where, scores.rewards)
    )
    earned, mixed = _by_answer(answers, gold, where)
    classes = earned.shape[1]
    keys = jax.random.split(jax.random.key(seed), 3)

    def chosen(estimate: jax.Array) -> np.ndarray:
        return np.einsum("pmc,pc->pm", np.asarray(estimate), earned)

    def sampled(
        key: jax.Array, weights: np.ndarray, combine: Literal["sum", "mean"] = "sum"
    ) -> np.ndarray:
        return chosen(
            pool_weighted_votes(
                key, answers, np.where(where, weights, 0.0), table.n, where=where,
                num_classes=classes, subsets=SUBSETS, combine=combine,
            ).estimate
        )  # fmt: skip

    few = where.shape[1] * table.n * np.minimum(table.n, classes) <= MOST_EXACT
    votes = np.empty((len(answers), table.n.size))
    if few.any():
        exact = pool_votes(answers, table.n[few], where=where, num_classes=classes)
        votes[:, few] = chosen(exact)
    if not few.all():
        votes[:, ~few] = sampled(keys[0], np.ones(where.shape))[:, ~few]
    rules = [("most votes", not few.all(), votes)]
    if temperature is not None:
        soft = table.gold[:, np.flatnonzero(table.temperature == temperature)[0]]
        rules.append((f"soft best-of-n at λ = {temperature:g}", False, soft))
    if table.temperature[0] == 0:
        rules.append(("hard best-of-n", False, table.gold[:, 0]))
    best = np.max(rewards, axis=1, keepdims=True, where=where, initial=-np.inf)
    if temperature is not None:
        with np.errstate(invalid="ignore"):  # where all draws of a prompt are lost
            weights = np.nan_to_num(np.exp((rewards - best) / temperature), nan=1.0)
        name = f"largest total of exp(reward/{temperature:g})"
        rules.append((name, True, sampled(keys[1], weights)))
    finite = where & np.isfinite(rewards)
    lowest = np.min(rewards, axis=1, keepdims=True, where=finite, initial=np.inf)
    above = np.where(finite, rewards - lowest, 0.0)
    rules.append(("largest mean reward", True, sampled(keys[2], above, "mean")))
    names, by_subsets, values = zip(*rules, strict=True)
    return Ballot(names, by_subsets, np.stack(values), mixed)


def _by_answer(answers: np.ndarray, gold: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, int]:
    """Mean gold of each answer `[prompts, classes]`, and the prompts where an answer has several."""
    row = np.broadcast_to(np.arange(len(answers))[:, None], answers.shape)[where]
    shape = len(answers), int(answers[where].max()) + 1
    least, most = np.full(shape, np.inf), np.full(shape, -np.inf)
    total, count = np.zeros(shape), np.zeros(shape)
    place = row, answers[where]
    for add, into, x in (
        (np.minimum, least, gold[where]), (np.maximum, most, gold[where]),
        (np.add, total, gold[where]), (np.add, count, 1.0),
    ):  # fmt: skip
        add.at(into, place, x)
    return total / np.maximum(count, 1.0), int(np.any(most > least, axis=1).sum())
