"""Leading terms as n grows, for a fixed problem: they bound nothing."""

from __future__ import annotations

from typing import Any

import jax

from softbon_jax.bounds import _moments
from softbon_jax.problem import Problem

Array = jax.Array


def kl_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """Var_{P*}(W)/2, the limit of n² KL(P*‖P_n), and of n² KL(P_n‖P*), as n grows.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` nats. At temperature 0, where the divergence falls exponentially, and at inf: 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here from P_n/P* - 1 = (1 + CV² - W)/n + O(1/n²). The divergence of a fixed
      problem is of order 1/n²; the O(1/n) of arXiv:2505.03156 is an upper bound.
    """
    return _moments.of(_moments.by_power(_moments.log_half_variance, 0), problem, temperature)


def kl_asymptote(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """KL(P*‖P_n) ~ Var_{P*}(W)/(2 n²) as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` nats; the relative error is O(1/n), and it may exceed the divergence many times over
      while n is below CV². At temperature 0 and inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `kl_asymptote_coefficient`.
    """
    return _moments.at(
        _moments.by_power(_moments.log_half_variance, 2), problem, n, temperature, log_n
    )


def tv_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """E_{P*}|1 + CV² - W|/2, the limit of n TV(P_n, P*) as n grows.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` without unit. At temperature 0 and inf, 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: not differentiable where W of an outcome equals its mean under P*; the gradient there
      is a subgradient, and 0 if the rewards are constant.
    Source: derived here from P_n/P* - 1 = (1 + CV² - W)/n + O(1/n²).
    """
    return _moments.of(_moments.by_power(_moments.log_half_deviation, 0), problem, temperature)


def tv_asymptote(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """TV(P_n, P*) ~ E_{P*}|1 + CV² - W|/(2n) as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` without unit; it may exceed 1 at small n. At temperature 0 and inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `tv_asymptote_coefficient`.
    """
    return _moments.at(
        _moments.by_power(_moments.log_half_deviation, 1), problem, n, temperature, log_n
    )


def fluctuation_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """The limit of √n E[TV(R, P*)] as n grows, R being the softmax measure over the n draws.

    Σ_x (E_P[W² (1_x - P*(x))²])^½ / √(2π); see `conditional_fluctuation` for R.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` without unit. At temperature 0, where R and P* are on the best outcomes, and at inf,
      where they are the empirical and the reference law, the formula holds as it stands.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the gradient is 0 at an outcome whose moment is 0.
    Source: derived here: R - P* is the mean over the draws of W(X)(1_x - P*), but for terms of order
      1/n, and the mean size of a centered normal of variance v is (2v/π)^½.
    """
    return _moments.of(_moments.by_power(_moments.log_fluctuation, 0), problem, temperature)


def fluctuation_asymptote(
    problem: Problem, n: Any, temperature: Any, *, log_n: Any = None
) -> Array:
    """E[TV(R, P*)] ~ its coefficient / √n as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` without unit; it may exceed 1 at small n.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `fluctuation_asymptote_coefficient`.
    """
    return _moments.at(
        _moments.by_power(_moments.log_fluctuation, 0.5), problem, n, temperature, log_n
    )


def reward_gap_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """Cov_{P*}(r, W), the limit of n (E_{P*}r - E_{P_n}r) as n grows; rewards of any sign.

    Args:
      problem: `[..., K]` reference law and rewards.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` in reward units, >= 0. At temperature 0 and inf, 0.

    Raises:
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here from P_n/P* - 1 = (1 + CV² - W)/n + O(1/n²).
    """
    return _moments.of(_moments.by_power(_moments.log_covariance, 0), problem, temperature)


def reward_gap_asymptote(problem: Problem, n: Any, temperature: Any, *, log_n: Any = None) -> Array:
    """E_{P*}r - E_{P_n}r ~ Cov_{P*}(r, W)/n as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards.
      n: `[...]` number of candidates, real >= 1, traced; None when `log_n` is given.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n.

    Returns:
      `[...]` in reward units. At temperature 0 and inf, 0.

    Raises:
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Source: derived here; see `reward_gap_asymptote_coefficient`.
    """
    return _moments.at(
        _moments.by_power(_moments.log_covariance, 1), problem, n, temperature, log_n
    )
