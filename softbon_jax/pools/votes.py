"""Majority votes: how often each answer is the most frequent one among n of a pool's candidates."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _sharding
from softbon_jax.pools import _arguments, _votes

Array = jax.Array


def pool_votes(answers: Any, n: Any, *, where: Any = None, num_classes: int | None = None) -> Array:
    """The chance that each answer has the most votes among n of a prompt's candidates, unbiased.

    The mean, over all subsets of n of a prompt's N candidates, of 1/(number of answers with the most
    votes) for those answers, and 0 for the others: majority voting, maj@n, self-consistency, with ties
    broken at random. The accuracy against n is the column of the right answer. Selection of an answer
    by scores is `pool_curve` with values of 1 where a candidate has the right answer, and 0 elsewhere.

    Args:
      answers: `[prompts, N]` integers from 0, traced: labels of answers, which need to mean the same
        only within a prompt. `np.unique(texts, return_inverse=True)[1]` makes them.
      n: `[M]` or scalar, integers >= 1, traced. Concrete if possible: the largest sets the cost.
      where: bool, broadcasts against answers, traced; False leaves a candidate out (ragged pools).
      num_classes: static, how many labels there are; by default the largest of known answers, plus 1.

    Returns:
      `[prompts, M, classes]`, or `[prompts, classes]` for a scalar n, in the default float dtype; the
      last axis sums to 1. NaN where n is above a pool's size, and where a traced argument is bad.

    Raises:
      TypeError: answers or n are not real numbers.
      ValueError: shapes do not match, a pool without candidates, answers that are not integers from 0 to
        num_classes - 1, n not an integer >= 1 or above the size of every pool, answers traced without
        `num_classes`. Values are checked when they are concrete.

    Numerics: relative error below 1e-12 in float64, 1e-4 in float32, however rare an answer is. Time is
      O(prompts · N · n² log n); memory is that of one prompt, O(N · n min(n, classes)).
    Source: derived here: a product over classes of truncated hypergeometric sums, the sum over ties by
      Gauss quadrature. maj@n is that of self-consistency (arXiv:2203.11171).

    Example:
      >>> answers = np.array([[0, 0, 0, 1, 1, 2, 0, 1]])
      >>> np.round(np.float64(sb.pool_votes(answers, [1, 3, 7])), 3).tolist()
      [[[0.5, 0.375, 0.125], [0.571, 0.357, 0.071], [0.75, 0.25, 0.0]]]
    """
    answers = _checks.real("answers", answers)
    if answers.ndim != 2:
        raise ValueError(f"answers must be [prompts, N], got shape {answers.shape}")
    if 0 in answers.shape:
        raise ValueError(f"answers must not be empty, got shape {answers.shape}")
    where = _arguments.checked_mask(where, answers.shape, of="answers")
    known, kept = _checks.concrete(answers), _checks.concrete(where)
    if num_classes is not None:
        num_classes = _checks.positive_integer("num_classes", num_classes)
    most = answers.shape[1]
    if kept is not None:
        most = _arguments.largest_pool(kept)
    if known is not None and kept is not None:
        bad = kept & ~((known >= 0) & (known == np.floor(known)) & (known < np.inf))
        _checks.offending("answers", known, bad, "integers of at least 0")
        largest = int(known[kept].max())
        if num_classes is None:
            num_classes = _checks.positive_integer("the largest of answers, plus 1,", largest + 1)
        _checks.offending(
            "answers", known, kept & (known >= num_classes), f"below num_classes = {num_classes}"
        )
    if num_classes is None:
        raise ValueError("num_classes must be given where answers or where are traced")
    n = _arguments.checked_n(n, most)
    number = _checks.concrete(n)
    return _votes_of(
        answers,
        where,
        n,
        largest=most if number is None else int(number.max()),
        num_classes=num_classes,
    )


@partial(jax.jit, static_argnames=("largest", "num_classes"))
def _votes_of(answers: Array, where: Array, n: Array, *, largest: int, num_classes: int) -> Array:
    dtype = jax.dtypes.canonicalize_dtype(float)
    legal = (answers >= 0) & (answers < num_classes) & (answers == jnp.floor(answers))
    labels = jnp.where(where & legal, answers, 0).astype(jnp.int32)
    legal = jnp.all(legal | ~where, axis=1)
    size = jnp.sum(where, axis=1, dtype=jnp.int32)
    whole = n.reshape(-1).astype(dtype)
    fits = (whole >= 1) & (whole == jnp.floor(whole))
    usable = jnp.where(fits, jnp.minimum(whole, largest), 1.0).astype(jnp.int32)

    def prompt(one: tuple[Array, Array], usable: Array) -> Array:
        return _votes.votes(*one, usable, largest, num_classes, dtype)

    out = _sharding.each_row(prompt, (labels, where), usable)
    good = legal[:, None] & fits[None] & (whole[None] <= size.astype(dtype)[:, None])
    out = jnp.where(good[:, :, None], out, jnp.nan)
    return out.reshape(len(out), *n.shape, num_classes)
