"""For training: what each of a prompt's candidates contributes to soft best-of-n, and its chance."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from softbon_jax import _checks
from softbon_jax.pools import _arguments, _credits, _grid, _unbiased, _worker

Array = jax.Array


def _kernel(less: bool) -> _grid.Kernel:
    soft, hard, base = _credits.soft, _credits.hard, _credits.base
    soft, hard, base = (partial(kernel, less=less) for kernel in (soft, hard, base))
    return _grid.Kernel(soft, hard, base, _credits.elements)


WITH_BASELINE, WITHOUT = _kernel(True), _kernel(False)
WEIGHTS = _grid.Kernel(
    _credits.weights(_unbiased.soft),
    _credits.weights(_unbiased.hard),
    _credits.equal_weights,
    _credits.elements,
)


def pool_credits(
    rewards: Any,
    n: Any,
    temperature: Any,
    *,
    values: Any = None,
    baseline: bool = True,
    where: Any = None,
    nodes: int | None = None,
) -> Array:
    """Credits c_i with which Σ c_i ∇log π(y_i) is unbiased for the gradient of soft best-of-n.

    A policy that is served through soft best-of-n should be trained on what that selects. With T(S) the
    softmax average of the values in a subset S of n of a prompt's N candidates,

      c_i = the mean over all S of T(S) 1{i in S}, less (n/N) times the mean of T over the subsets of
        n - 1 of the others, if there is a baseline.

    The first part is unbiased for ∇E[T] because T(S) Σ_{i in S} ∇log π(y_i) is; the second one does not
    depend on y_i, and takes out most of the noise. With the baseline c_i is the mean of n/N times what
    joining a subset of n - 1 of the others changes, p_i (v_i - T), so that only its own pull counts.

    Args:
      rewards: `[prompts, N]` scores that select, in the units of `temperature`, traced.
      n: scalar, integer >= 1, traced. Concrete if possible: it sets the cost.
      temperature: scalar, at least 0, traced. 0 is the best of n, ties sharing equally; at inf the
        credits are those of the mean, with the mean of the others as the baseline (RLOO).
      values: `[prompts, N]` what is to be earned, traced; the rewards if None.
      baseline: static. For n = 1 there is no subset of n - 1: the baseline is 0 there.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out (ragged pools).
      nodes: static, as in `pool_curve`.

    Returns:
      `[prompts, N]` in the dtype of `pool_curve`, in the units of the values; 0 for candidates left
      out. NaN for all of a prompt whose pool has fewer than n candidates, or where a traced argument is
      bad. Credits are constants to whoever trains: `jax.lax.stop_gradient` where rewards depend on what
      is trained.

    Raises:
      TypeError: as `pool_curve`; `baseline` is not a bool.
      ValueError: as `pool_curve`; n or temperature is not a scalar.

    Numerics: error below 1e-12 of the spread of the values in float64, 1e-6 in float32; without the
      baseline the sum of the credits is n times `pool_curve`. One backward pass for all candidates, a
      few times the cost of `pool_curve` at one n. Memory is that of one prompt.
    Source: derived here, by the derivative of the mean over subsets in x_i -> x_i (1 + ε_i); at λ = 0
      the weights of PKPO (arXiv:2505.15201), and for 0/1 rewards those of pass@k.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3]])
      >>> np.round(np.float64(sb.pool_credits(scores, 2, 0.2)), 3).tolist()
      [[-0.019, 0.286, 0.028, -0.001]]
    """
    if not isinstance(baseline, (bool, np.bool_)):
        raise TypeError(f"baseline must be True or False, got {_checks.shown(baseline)}")
    pools = _arguments.checked_pools(rewards, values, where)
    request = _arguments.checked(pools, n, temperature, nodes)
    for name, given in (("n", request.n), ("temperature", request.temperature)):
        if given.ndim:
            raise ValueError(f"{name} must be a scalar, got shape {given.shape}")
    kernel = WITH_BASELINE if baseline else WITHOUT
    return _worker.for_each_candidate(request, kernel, _credits.work_for)


def pool_weights(
    rewards: Any, n: Any, temperature: Any, *, where: Any = None, nodes: int | None = None
) -> Array:
    """How often soft best-of-n of n of a prompt's N candidates selects each of them.

    The mean over all subsets S of n of e^{r_i/λ} 1{i in S} / Σ_{j in S} e^{r_j/λ}. Summed against any
    values it is `pool_curve` of these. So it is the weight of a response in whatever is to be averaged
    over what is selected: in fine-tuning towards the rule's own law, in a histogram, for a quantile.

    Args:
      rewards: `[prompts, N]` scores that select, in the units of `temperature`, traced.
      n: `[M]` or scalar, integers >= 1, traced.
      temperature: `[T]` or scalar, at least 0, traced; 0 and inf as in `pool_curve`.
      where: bool, broadcasts against rewards, traced; False leaves a candidate out.
      nodes: static, as in `pool_curve`.

    Returns:
      `[prompts, T, M, N]` without the axis of a scalar, in the dtype of rewards, at least float32. The
      last axis sums to 1; 0 for candidates left out. NaN where n is above a pool's size.

    Raises:
      TypeError: as `pool_curve`.
      ValueError: as `pool_curve`.

    Numerics: error below 1e-13 in float64, 1e-6 in float32; one backward pass of `pool_curve` for every
      n, and its memory that of one prompt.
    Source: derived here, as the derivative of the mean over subsets by the values.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.4, 0.3]])
      >>> np.round(np.float64(sb.pool_weights(scores, [1, 2, 4], 0.2)), 3).tolist()
      [[[0.25, 0.25, 0.25, 0.25], [0.113, 0.475, 0.238, 0.175], [0.026, 0.861, 0.071, 0.043]]]
    """
    pools = _arguments.checked_pools(rewards, None, where)
    request = _arguments.checked(pools, n, temperature, nodes, averaged=False)
    return _worker.for_each_candidate(request, WEIGHTS, _unbiased.work_for)
