"""Votes, plain and weighted: how often each answer wins among n of a pool's candidates."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _batching, _checks
from softbon_jax.pools import _arguments, _blocks, _votes, _weighted

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
    request = _checked(answers, n, where, num_classes)
    number = _checks.concrete(request.n)
    return _blocks.anyhow(
        _votes_of,
        (request.answers, request.where),
        request.n,
        largest=request.most if number is None else int(number.max()),
        num_classes=request.num_classes,
    )


class WeightedVotes(NamedTuple):
    """Estimates from random subsets; `[..]` is `[prompts, M, classes]` or `[prompts, classes]`.

    Attributes:
      estimate: `[..]` the chance that each answer has the most weight.
      standard_error: `[..]` of the sampling of subsets alone, not of prompts or of candidates; NaN for
        one subset, and 0 where all subsets agree, which does not make the estimate exact.
    """

    estimate: Array
    standard_error: Array


def pool_weighted_votes(
    key: Array,
    answers: Any,
    weights: Any,
    n: Any,
    *,
    where: Any = None,
    num_classes: int | None = None,
    subsets: int = 1000,
    combine: Literal["sum", "mean"] = "sum",
) -> WeightedVotes:
    """The chance that each answer has the most weight among n of a prompt's candidates, by sampling.

    Weighted voting selects the answer with the largest sum of weights, such as a verifier's
    probabilities or e^{reward/λ}, or with the largest mean; answers that tie share equally. The number
    estimated is the mean over all subsets of n of a prompt's N candidates. There is no exact recursion
    for it, because sums of weights may take as many values as there are subsets; the sum of equal
    weights is `pool_votes`.

    Args:
      key: typed key, consumed.
      answers: `[prompts, N]` integers from 0, traced: labels of answers, as for `pool_votes`.
      weights: `[prompts, N]` finite numbers >= 0, traced; only their ratios within a prompt matter.
      n: `[M]` or scalar, integers >= 1, traced.
      where: bool, broadcasts against answers, traced; False leaves a candidate out (ragged pools).
      num_classes: static, how many labels there are; by default the largest of known answers, plus 1.
      subsets: static, how many random subsets, without replacement, are drawn for each prompt.
      combine: static, "sum" or "mean": how the weights of an answer's candidates become one.

    Returns:
      `WeightedVotes` in the dtype of the weights, without the axis of a scalar n. All n use the same
      subsets: that of a smaller n is part of that of a larger one. So estimates at different n are
      correlated, and their differences are known better than the errors say. NaN where n is above a
      pool's size, and where a traced argument is bad.

    Raises:
      TypeError: the key is not a typed key; answers, weights or n are not real numbers.
      ValueError: as `pool_votes`; the weights have another shape than the answers, or one that counts is
        negative or not finite; `subsets` is not an integer of at least 1; `combine` is neither word.

    Numerics: without bias; the standard error is below 1/(2 sqrt(subsets)). Totals that differ by less
      than rounding, a share of N eps, tie. An answer of weight 0 wins only where all have weight 0.
      Time is O(prompts · subsets · N (log N + M · classes)); memory does not depend on `subsets`. The
      gradient by the weights is 0.
    Source: weighted majority voting, or self-consistency (arXiv:2203.11171, arXiv:2206.02336).

    Example:
      >>> answers = np.array([[0, 0, 0, 1, 1, 2, 0, 1]])
      >>> weights = np.array([[0.1, 0.2, 0.1, 0.9, 0.8, 0.3, 0.2, 0.7]])
      >>> votes = sb.pool_weighted_votes(jax.random.key(0), answers, weights, [1, 3, 7])
      >>> np.round(np.float64(votes.estimate), 2).tolist()
      [[[0.5, 0.39, 0.11], [0.13, 0.81, 0.06], [0.0, 1.0, 0.0]]]
    """
    _checks.key(key)
    request = _checked(answers, n, where, num_classes)
    weights = _checks.as_float("weights", weights)
    if weights.shape != request.answers.shape:
        raise ValueError(
            f"weights has shape {weights.shape}, answers has shape {request.answers.shape}"
        )
    subsets = _checks.positive_integer("subsets", subsets)
    _checks.one_of("combine", combine, ("sum", "mean"))
    known, kept = _checks.concrete(weights), _checks.concrete(request.where)
    if known is not None and kept is not None:
        bad = kept & ~((known >= 0) & (known < np.inf))
        _checks.offending("weights", known, bad, "finite and at least 0 where they count")
    index = np.arange(len(weights), dtype=np.int32)
    return _blocks.anyhow(
        _weighted_votes_of,
        (index, request.answers, weights, request.where),
        key,
        request.n,
        num_classes=request.num_classes,
        subsets=subsets,
        by_mean=combine == "mean",
    )


class _Request(NamedTuple):
    """Checked arguments; `most` is the size of the largest pool, where it is known."""

    answers: Any
    where: Array
    n: Any
    num_classes: int
    most: int


def _checked(answers: Any, n: Any, where: Any, num_classes: int | None) -> _Request:
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
    return _Request(answers, where, _arguments.checked_n(n, most), num_classes, most)


class _Usable(NamedTuple):
    """Arguments that no longer harm, and `good`, `[prompts, M]`, where they were right."""

    labels: Array
    n: Array
    good: Array


def _usable(
    answers: Array, where: Array, n: Array, largest: int, num_classes: int, dtype: Any
) -> _Usable:
    legal = (answers >= 0) & (answers < num_classes) & (answers == jnp.floor(answers))
    labels = jnp.where(where & legal, answers, 0).astype(jnp.int32)
    legal = jnp.all(legal | ~where, axis=1)
    size = jnp.sum(where, axis=1, dtype=jnp.int32)
    whole = n.reshape(-1).astype(dtype)
    fits = (whole >= 1) & (whole == jnp.floor(whole))
    usable = jnp.where(fits, jnp.minimum(whole, largest), 1.0).astype(jnp.int32)
    good = legal[:, None] & fits[None] & (whole[None] <= size.astype(dtype)[:, None])
    return _Usable(labels, usable, good)


@partial(jax.jit, static_argnames=("largest", "num_classes"))
def _votes_of(rows: tuple[Array, Array], n: Array, *, largest: int, num_classes: int) -> Array:
    answers, where = rows
    dtype = jax.dtypes.canonicalize_dtype(float)
    labels, usable, good = _usable(answers, where, n, largest, num_classes, dtype)

    def prompt(one: tuple[Array, Array], usable: Array) -> Array:
        return _votes.votes(*one, usable, largest, num_classes, dtype)

    elements = _votes.elements(answers.shape[1], largest, num_classes)
    out = _batching.each_row(prompt, (labels, where), usable, elements=elements, dtype=dtype)
    out = jnp.where(good[:, :, None], out, jnp.nan)
    return out.reshape(len(out), *n.shape, num_classes)


@partial(jax.jit, static_argnames=("num_classes", "subsets", "by_mean"))
def _weighted_votes_of(
    rows: tuple[Array, Array, Array, Array],
    key: Array,
    n: Array,
    *,
    num_classes: int,
    subsets: int,
    by_mean: bool,
) -> WeightedVotes:
    index, answers, weights, where = rows
    prompts, slots = answers.shape
    labels, usable, good = _usable(answers, where, n, slots, num_classes, weights.dtype)
    legal = jnp.all((weights >= 0) & (weights < jnp.inf) | ~where, axis=1)

    def prompt(one: tuple[Array, ...], key: Array, usable: Array) -> tuple[Array, Array]:
        index, labels, weights, where = one
        own = jax.random.fold_in(key, index)
        return _weighted.weighted_votes(
            own,
            labels,
            weights,
            where,
            usable,
            subsets=subsets,
            num_classes=num_classes,
            by_mean=by_mean,
        )

    elements = _weighted.elements(slots, n.size, num_classes, subsets)
    rows = (index, labels, weights, where)
    out = _batching.each_row(prompt, rows, key, usable, elements=elements, dtype=weights.dtype)
    good = (good & legal[:, None])[:, :, None]
    return WeightedVotes(
        *(jnp.where(good, x, jnp.nan).reshape(prompts, *n.shape, num_classes) for x in out)
    )
