"""From pools of scored candidates to curves against n: no likelihoods are needed.

A pool holds N responses to one prompt, drawn independently from the policy, with the rewards that
select and perhaps other values to be averaged (a gold reward, a length, correctness as 0 or 1).
`pool_curve` averages over all subsets of n of them, which is unbiased for the policy; `plug_in_curve`
takes the pool for the policy, which is biased by O(1/N).
"""

from __future__ import annotations

import math
import operator
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from softbon_jax import _checks, _memory
from softbon_jax._averages import mean_last
from softbon_jax.pools import _arguments, _grid, _plug_in, _sorted, _unbiased, _worker
from softbon_jax.pools._grid import Curve as Curve

Array = jax.Array

UNBIASED = _grid.Kernel(_unbiased.soft, _unbiased.hard, _unbiased.base, _unbiased.elements)
PLUG_IN = _grid.Kernel(_plug_in.soft_value, _plug_in.hard_value, _unbiased.base, _plug_in.elements)


@_checks.keyword_only("values", "where")
def pool_curve(
    rewards: Any,
    n: Any,
    temperature: Any,
    *,
    values: Any = None,
    where: Any = None,
    nodes: int | None = None,
) -> Curve:
    """The expected value of what soft best-of-n selects, unbiased, for every n up to the pool's size.

    For each prompt, the complete U-statistic: the mean over all subsets S of n of its N candidates of

      Σ_{i in S} v_i e^{r_i/λ} / Σ_{i in S} e^{r_i/λ},

    r = `rewards`, v = `values`, λ = `temperature`. With 0/1 values it is a soft pass@k; at λ = 0 with
    values = rewards of 0 and 1 it is pass@k.

    Args:
      rewards: `[prompts, N]` scores that select, in the units of `temperature`, traced. A draw of
        reward -inf is never selected while another is in the subset; its value must be given.
      n: `[M]` or scalar, integers >= 1, traced. Concrete if possible: the largest one below N sets
        the cost.
      temperature: `[T]` or scalar, at least 0, traced. 0 is hard best-of-n, exact ties sharing
        equally; `inf` a candidate at random.
      values: `[prompts, N]` what is averaged, traced; the rewards if None. Selecting and averaging
        the same noisy score is optimistic about what the score stands for: give a second score here.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out (ragged pools).
      nodes: static number of quadrature nodes. Default: enough, where rewards, `where`, n and
        temperature are concrete; else 512, which resolves range/temperature up to about 120.

    Returns:
      `Curve` in the common dtype of rewards and values, at least float32, without the axis of a
      scalar n or temperature. NaN where n is above a pool's size, and under tracing where `nodes` are
      too few or an argument is bad.

    Raises:
      TypeError: an argument is not real numbers.
      ValueError: shapes do not match, a pool without candidates, rewards that are neither finite nor
        -inf or values that are not finite where they count, n not an integer >= 1 or above the size of
        every pool, a negative temperature, `nodes` not a positive integer. Values are checked when they
        are concrete.

    Numerics: error below 1e-13 of the spread of the values in float64 (1e-6 in float32), plus machine
      epsilon times range/temperature, where rewards that are less than that apart are concerned.
      Rewards of -inf need concrete rewards and temperatures; traced they give NaN. Cost
      O(prompts · N · n · log(N e^{range/λ})), independent of λ once range/λ is above 40; memory is that
      of one prompt and the result. Differentiable in rewards, values and temperature.
    Source: derived here: 1/Σw = ∫ e^{-tΣw} dt, and a recursion for means over subsets; at λ = 0 the
      weight of the i-th worst is C(i-1, n-1)/C(N, n), as for pass@k (arXiv:2107.03374).

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3], [0.5, 0.2, 0.2, 0.7]])
      >>> curve = sb.pool_curve(scores, n=[1, 2, 4], temperature=0.2)
      >>> np.round(np.float64(curve.mean), 3).tolist()
      [0.425, 0.554, 0.71]
    """
    pools = _arguments.checked_pools(rewards, values, where)
    request = _arguments.checked(pools, n, temperature, nodes)
    return _worker.curve(request, UNBIASED, _unbiased.work_for)


@_checks.keyword_only("values", "where")
def plug_in_curve(
    rewards: Any,
    n: Any,
    temperature: Any,
    *,
    values: Any = None,
    where: Any = None,
    nodes: int | None = None,
) -> Curve:
    """The expected value of what soft best-of-n selects from the empirical law of each pool.

    That is, n draws *with* replacement: biased by O(1/N) for the policy that the candidates came from,
    and meant for comparison with `pool_curve`.

    Args:
      rewards: `[prompts, N]` scores that select, traced.
      n: `[M]` or scalar, integers >= 1, at most the size of the largest pool, traced.
      temperature: `[T]` or scalar, at least 0, traced.
      values: `[prompts, N]` what is averaged, traced; the rewards if None.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.

    Returns:
      `Curve`, as `pool_curve`.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`.

    Numerics: O(N · nodes) a prompt, n and λ, in the memory of one prompt; errors as in `pool_curve`.
    Source: the law of arXiv:2505.03156's sampler on the empirical distribution, see `log_soft_bon`.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3], [0.5, 0.2, 0.2, 0.7]])
      >>> curve = sb.plug_in_curve(scores, n=[1, 2, 4], temperature=0.2)
      >>> np.round(np.float64(curve.mean), 3).tolist()
      [0.425, 0.522, 0.611]
    """
    pools = _arguments.checked_pools(rewards, values, where)
    request = _arguments.checked(pools, n, temperature, nodes)
    return _worker.curve(request, PLUG_IN, _plug_in.nodes_for)


def curve_difference(first: Any, second: Any) -> Curve:
    """The mean over prompts of first less second, with the standard error of the paired difference.

    Two points of curves over the same prompts share their draws, so that their difference is known much
    better than either. "Better" should mean this difference and its standard error.

    Args:
      first: `[prompts, ...]` estimates for each prompt, such as the `per_prompt` of a `Curve` or some
        of its columns, traced; NaN where there is none.
      second: likewise, of the same prompts; the other axes broadcast.

    Returns:
      `Curve` of the differences, with axes `...` in the place of `[.., M]`. `prompts` counts those that
      have both; the others have NaN in `per_prompt`.

    Raises:
      TypeError: an argument is not real numbers.
      ValueError: an argument without prompts, or shapes that do not match.

    Numerics: in the wider dtype of the two, at least float32.
    Source: the standard error of a mean of paired differences.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3], [0.5, 0.2, 0.2, 0.7]])
      >>> curve = sb.pool_curve(scores, n=[1, 2, 4], temperature=[0.0, 0.2]).per_prompt
      >>> gain = sb.curve_difference(curve[:, 0, 2], curve[:, 1, 1])
      >>> print(f"{gain.mean:.3f} ± {gain.standard_error:.3f}")
      0.246 ± 0.056
    """
    both = [_checks.as_float(*x) for x in (("first", first), ("second", second))]
    for name, x in zip(("first", "second"), both, strict=True):
        if x.ndim == 0 or x.shape[0] == 0:
            raise ValueError(f"{name} must be [prompts, ...], got shape {x.shape}")
    shapes = [x.shape for x in both]
    if shapes[0][0] != shapes[1][0]:
        raise ValueError(f"first has {shapes[0][0]} prompts, second has {shapes[1][0]}")
    try:
        np.broadcast_shapes(*(shape[1:] for shape in shapes))
    except ValueError:
        raise ValueError(
            f"first and second must broadcast, got shapes {shapes[0]} and {shapes[1]}"
        ) from None
    return _difference(*both)


# Several judges ----------------------------------------------------------------------------------


class LeaveOneOut(NamedTuple):
    """Every judge in turn as the one that values what the others select; both `[J, ..., N]`.

    Attributes:
      rewards: the averages of all judges but one, which select.
      values: the scores of the judge left out.
    """

    rewards: Array
    values: Array


def leave_one_out(judges: Any) -> LeaveOneOut:
    """Every judge in turn as the one that values what the others select.

    Args:
      judges: `[..., N, J]` scores of J >= 2 judges, on one scale, traced.

    Returns:
      `LeaveOneOut`, two arrays `[J, ..., N]` in the dtype of `judges`, at least float32.

    Raises:
      TypeError: judges are not real numbers.
      ValueError: fewer than two judges.

    Numerics: averages of known scores are equal where the exact ones are, decimals such as 0.1 taken as
      decimals; traced scores are summed in increasing order, so that it does not matter who gave which.
    Source: cross-fitting. Where the noise of the judges is independent, what the one left out thinks
      of what the others select is an unbiased estimate of its true score.

    Example:
      >>> turns = sb.leave_one_out(np.array([[1.0, 2.0, 6.0], [4.0, 4.0, 1.0]]))
      >>> turns.rewards.tolist()
      [[4.0, 2.5], [3.5, 2.5], [1.5, 4.0]]
      >>> turns.values.tolist()
      [[1.0, 4.0], [2.0, 4.0], [6.0, 1.0]]
    """
    turns = _turns_of(_checked_judges(judges, "[..., N, J]"))
    return LeaveOneOut(*map(jnp.asarray, turns))


@_checks.keyword_only("where")
def leave_one_out_curve(
    judges: Any, n: Any, temperature: Any, *, where: Any = None, nodes: int | None = None
) -> Curve:
    """The expected score of what soft best-of-n selects by J - 1 of J noisy judges, unbiased.

    The mean over the judges j of `pool_curve` with the average of the others as the rewards that
    select and judge j as the value. To select and value by the same judges counts their noise as
    gain; here, where it is independent, it averages out. What is estimated is selection by J - 1
    judges; by all J it would be slightly better.

    Args:
      judges: `[prompts, N, J]` scores of J >= 2 judges, exchangeable and on one scale, traced.
      n: `[M]` or scalar, integers >= 1, traced.
      temperature: `[T]` or scalar, at least 0, in units of the scores, traced.
      where: bool, broadcasts against `[prompts, N]`, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.

    Returns:
      `Curve`, as `pool_curve`; the errors are over prompts.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: fewer than two judges, or as `pool_curve`.

    Numerics: that of `pool_curve`, J times its cost.
    Source: cross-fitting, see `leave_one_out`.

    Example:
      >>> judges = np.array([[[1.0, 2.0, 6.0], [4.0, 4.0, 1.0], [0.0, 3.0, 3.0]]])
      >>> curve = sb.leave_one_out_curve(judges, n=[1, 2, 3], temperature=0.5)
      >>> np.round(np.float64(curve.mean), 3).tolist()
      [2.667, 1.976, 1.436]
    """
    judges = _checked_judges(judges, "[prompts, N, J]")
    if judges.ndim != 3:
        raise ValueError(f"judges must be [prompts, N, J], got shape {judges.shape}")
    where = _arguments.checked_mask(where, judges.shape[:2])
    kept, value = _checks.concrete(where), _checks.concrete(judges)
    if kept is not None and value is not None:
        bad = kept[..., None] & ~np.isfinite(value)
        _checks.offending("judges", value, bad, "finite where they count")
    pools = _turns(judges, where)
    request = _arguments.checked(pools, n, temperature, nodes)
    return _worker.curve(request, UNBIASED, _unbiased.work_for, turns=judges.shape[-1])


def _checked_judges(judges: Any, shape: str) -> Array:
    judges = _checks.as_float("judges", judges)
    if judges.ndim < 2 or judges.shape[-1] < 2:
        raise ValueError(f"judges must be {shape} with J >= 2, got shape {judges.shape}")
    return judges


# The compiled workers ----------------------------------------------------------------------------


@jax.jit
def _difference(first: Array, second: Array) -> Curve:
    shape = np.broadcast_shapes(first.shape[1:], second.shape[1:])
    dtype = jnp.promote_types(first.dtype, second.dtype)
    _memory.check(4 * first.shape[0] * math.prod(shape) * dtype.itemsize)

    def widened(x: Array) -> Array:
        ones = (1,) * (len(shape) - (x.ndim - 1))
        return jnp.broadcast_to(
            x.astype(dtype).reshape(x.shape[0], *ones, *x.shape[1:]), (x.shape[0], *shape)
        )

    return _grid.over_prompts(widened(first) - widened(second))


def _turns_of(judges: Array) -> Any:
    """Known scores are averaged as decimals, on the host, so that what ties exactly ties."""
    known = _checks.concrete(judges)
    if known is None:
        return _leave_one_out(judges)
    count = known.shape[-1]
    _memory.check(4 * known.nbytes)
    others = [mean_last(np.delete(known, j, axis=-1)) for j in range(count)]
    means, each = np.stack(others).astype(known.dtype), np.moveaxis(known, -1, 0)
    return means, np.ascontiguousarray(each)


@jax.jit
def _leave_one_out(judges: Array) -> LeaveOneOut:
    # Sorted, so that the sum does not depend on which judge gave which score.
    _memory.check((judges.shape[-1] + 4) * _memory.size_of(judges))
    each = list(jnp.moveaxis(judges, -1, 0))
    rest = [jnp.sort(jnp.stack(each[:j] + each[j + 1 :]), axis=0) for j in range(len(each))]
    sums = [reduce(operator.add, list(x)) for x in rest]
    return LeaveOneOut(jnp.stack(sums) / (len(each) - 1), jnp.stack(each))


def _turns(judges: Array, where: Array) -> _sorted.Pools:
    """The pools `[J * prompts, N]` of all turns."""
    selecting, valuing = (x.reshape(-1, x.shape[-1]) for x in _turns_of(judges))
    kept = _checks.concrete(where)
    tiled = (np if kept is not None else jnp).tile(where, (judges.shape[-1], 1))
    return _sorted.Pools(*map(jnp.asarray, (selecting, valuing, tiled)))
