"""Leading terms as n grows with the problem held fixed; conventions: `sb.bounds`.

They bound nothing. All rest on P_n/P* - 1 = (1 + CV² - W)/n + O(1/n²), an expansion in W/n: a term is
close to what it stands for only once n is well above max W, which lies between 1 + CV² and
(1 + CV²)/P*(best outcome).
"""

from __future__ import annotations

from typing import Any

import jax

from softbon_jax.bounds import _moments
from softbon_jax.problem import Problem

Array = jax.Array


def kl_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """Var_{P*}(W)/2, the limit of n² KL(P*‖P_n), and of n² KL(P_n‖P*), as n grows.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` nats. At temperature 0, where the divergence falls exponentially, and at inf: 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, from squares of W - E_{P*}[W].
    Source: derived here: to leading order KL is half of E_{P*}[(P_n/P* - 1)²]. The divergence of a fixed
      problem is of order 1/n²; the O(1/n) of arXiv:2505.03156 is an upper bound.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> limit = sb.bounds.kl_asymptote_coefficient(problem, 0.3)
      >>> exact = 1e4**2 * sb.metrics(problem, 1e4, 0.3).kl_tilted_soft
      >>> round(float(limit), 2), round(float(exact), 2)
      (3.05, 3.06)
    """
    return _moments.of(_moments.by_power(_moments.log_half_variance, 0), problem, temperature)


def kl_asymptote(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """KL(P*‖P_n) ~ Var_{P*}(W)/(2 n²) as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` nats, with a relative error of order max(W)/n. At n below max W it may exceed the
      divergence by orders of magnitude, even where n is far above 1 + CV². At temperature 0 and
      inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, beside the error of leaving out higher orders.
    Source: derived here; see `kl_asymptote_coefficient`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> n = jnp.array([10.0, 100.0, 1000.0])
      >>> ratio = sb.bounds.kl_asymptote(problem, n, 0.3) / sb.metrics(problem, n, 0.3).kl_tilted_soft
      >>> np.round(np.float64(ratio), 2).tolist()
      [0.71, 0.94, 0.99]
    """
    return _moments.at(
        _moments.by_power(_moments.log_half_variance, 2), problem, n, temperature, log_n
    )


def tv_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """E_{P*}|1 + CV² - W|/2, the limit of n TV(P_n, P*) as n grows.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` dimensionless. At temperature 0 and inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy. Not differentiable where W of an outcome equals its mean under P*; the
      gradient there is a subgradient, and 0 if the rewards are constant.
    Source: derived here: the expansion of P_n/P*, as 1 + CV² = E_{P*}[W].

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.tv_asymptote_coefficient(problem, 0.3)), 4)
      1.2084
    """
    return _moments.of(_moments.by_power(_moments.log_half_deviation, 0), problem, temperature)


def tv_asymptote(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """TV(P_n, P*) ~ E_{P*}|1 + CV² - W|/(2n) as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` dimensionless; it may exceed 1 at small n. At temperature 0 and inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, beside the error of leaving out higher orders.
    Source: derived here; see `tv_asymptote_coefficient`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> n = jnp.array([10.0, 100.0, 1000.0])
      >>> ratio = sb.bounds.tv_asymptote(problem, n, 0.3) / sb.metrics(problem, n, 0.3).tv
      >>> np.round(np.float64(ratio), 2).tolist()
      [0.84, 0.97, 1.0]
    """
    return _moments.at(
        _moments.by_power(_moments.log_half_deviation, 1), problem, n, temperature, log_n
    )


def fluctuation_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """The limit of √n E[TV(R, P*)] as n grows, R being the softmax measure over the n draws.

    Σ_x (E_P[W² (1_x - P*(x))²])^½ / √(2π); `sb.conditional_fluctuation` simulates E[TV(R, P*)].

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` dimensionless. The formula holds at temperature 0 too, where R and P* are supported on
      the best outcomes, and at inf, where they are the empirical and the reference law.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy. The gradient is 0 at an outcome whose moment is 0.
    Source: derived here: up to terms of order 1/n, R - P* is the mean over the draws of W(X)(1_x - P*),
      and the mean absolute value of a centered normal of variance v is (2v/π)^½.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.fluctuation_asymptote_coefficient(problem, 0.3)), 4)
      0.7911
    """
    return _moments.of(_moments.by_power(_moments.log_fluctuation, 0), problem, temperature)


def fluctuation_asymptote(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """E[TV(R, P*)] ~ its coefficient / √n as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` dimensionless; it may exceed 1 at small n.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, beside the error of leaving out higher orders.
    Source: derived here; see `fluctuation_asymptote_coefficient`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.fluctuation_asymptote(problem, 1000, 0.3)), 4)
      0.025
    """
    return _moments.at(
        _moments.by_power(_moments.log_fluctuation, 0.5), problem, n, temperature, log_n
    )


def reward_gap_asymptote_coefficient(problem: Problem, temperature: Any) -> Array:
    """Cov_{P*}(r, W), the limit of n (E_{P*}r - E_{P_n}r) as n grows; rewards of any sign.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      temperature: `[...]` in reward units, traced.

    Returns:
      `[...]` in reward units, >= 0. At temperature 0 and inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy; every term of the covariance is non-negative as it is summed.
    Source: derived here: the expansion of P_n/P*, multiplied by r.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> round(float(sb.bounds.reward_gap_asymptote_coefficient(problem, 0.3)), 4)
      0.8547
    """
    return _moments.of(_moments.by_power(_moments.log_covariance, 0), problem, temperature)


def reward_gap_asymptote(
    problem: Problem, n: Any = None, temperature: Any = None, *, log_n: Any = None
) -> Array:
    """E_{P*}r - E_{P_n}r ~ Cov_{P*}(r, W)/n as n grows: the leading term, not a bound.

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      n: `[...]` number of candidates, real >= 1, traced.
      temperature: `[...]` in reward units, traced.
      log_n: `[...]` log n instead of n, traced.

    Returns:
      `[...]` in reward units. At temperature 0 and inf, 0.

    Raises:
      TypeError: an argument that is not real numbers.
      ValueError: n < 1, a bad temperature or problem, or shapes that do not broadcast.

    Numerics: the usual accuracy, beside the error of leaving out higher orders.
    Source: derived here; see `reward_gap_asymptote_coefficient`.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> exact = sb.metrics(problem, 1000, 0.3).reward_gap
      >>> leading = sb.bounds.reward_gap_asymptote(problem, 1000, 0.3)
      >>> round(float(leading), 5), round(float(exact), 5)
      (0.00085, 0.00086)
    """
    return _moments.at(
        _moments.by_power(_moments.log_covariance, 1), problem, n, temperature, log_n
    )
