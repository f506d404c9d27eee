"""Distillation: fit a policy's logits to E[r] - λ KL(·‖P) with optax, and see where it lands."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from softbon_jax import _arguments, _batching, _checks, _loops, exact
from softbon_jax.problem import Problem

Array = jax.Array


class Distilled(NamedTuple):
    """A trained policy; arrays of one batch shape `[...]`.

    Attributes:
      log_probs: `[..., K]` log-probabilities after the last step, nats.
      kl_to_tilted: `[..., steps]` KL(policy‖P*) before each step, nats: how far the objective is below
        its maximum, divided by λ.
    """

    log_probs: Array
    kl_to_tilted: Array


def distill(
    problem: Problem, temperature: Any, *, steps: int = 500, learning_rate: float = 0.1
) -> Distilled:
    """Maximize E_Q[r] - λ KL(Q‖P) over the logits of Q by Adam, starting from P.

    The maximizer is the tilted law P*, because the objective is λ log E_P[e^{r/λ}] - λ KL(Q‖P*).

    Args:
      problem: `[..., K]` reference law and rewards, traced.
      temperature: `[...]` λ, reward units, traced; positive and finite, for at 0 and inf the maximizer
        is known without training.
      steps: static; steps of Adam, with a cosine decay of the learning rate to 0.
      learning_rate: static; of the first step, in nats of a logit.

    Returns:
      `Distilled` of the broadcast batch shape, in the problem's dtype.

    Raises:
      TypeError: a temperature, a rate or a problem that does not hold real numbers.
      ValueError: a temperature or a learning rate that is not positive and finite, steps below 1, a bad
        problem, or shapes that do not broadcast. Values are checked when concrete; traced bad values
        give NaN.

    Numerics: exact gradients, no samples. Outcomes of probability 0 keep it.
    Source: arXiv:2505.03156 for the target; the objective in the form above is the Gibbs variational
    principle.

    Example:
      >>> problem = sb.from_probs([0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0])
      >>> trained = sb.distill(problem, 0.3, steps=200)
      >>> np.round(np.exp(np.float64(trained.log_probs)), 3).tolist()
      [0.103, 0.168, 0.152, 0.577]
    """
    problem = _arguments.checked_problem(problem)
    temperature = _checks.finite_positive("temperature", temperature, problem.rewards.dtype)
    learning_rate = _checks.number("learning_rate", learning_rate)
    _checks.finite_positive("learning_rate", learning_rate)
    steps = _checks.positive_integer("steps", steps)
    _checks.batch_shape(problem=problem.batch_shape, temperature=temperature.shape)
    # optax 0.2.8 mixes dtypes, which the strict setting of a caller would refuse.
    with jax.numpy_dtype_promotion("standard"):
        return _distill(problem, temperature, steps, learning_rate)


@functools.partial(jax.jit, static_argnames=("steps", "learning_rate"))
def _distill(problem: Problem, temperature: Array, steps: int, learning_rate: float) -> Distilled:
    import optax  # late, for the sake of those who do not distill

    # At the default of 1e-8, near the optimum, Adam divides by gradients that are all but 0 and bursts.
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), eps=3e-4)

    def one(log_probs: Array, rewards: Array, temperature: Array) -> Distilled:
        chex.assert_rank([log_probs, rewards, temperature], [1, 1, 0])
        temperature = jnp.where((temperature > 0) & (temperature < jnp.inf), temperature, jnp.nan)
        terms = exact.tilted_terms(Problem(log_probs, rewards), temperature)
        live = terms.log_probs > -jnp.inf
        start = jnp.where(live, terms.log_probs, 0.0)
        target = jnp.where(live, terms.log_tilted, 0.0)

        def loss(logits: Array) -> Array:
            """KL(Q‖P*): the objective is its maximum less λ times this."""
            log_q = jax.nn.log_softmax(jnp.where(live, logits, -jnp.inf))
            change = jnp.where(live, target - jnp.where(live, log_q, 0.0), 0.0)
            # Non-negative terms: KL is 0 at the optimum to the last digit.
            return jnp.sum(jnp.exp(log_q) * (jnp.expm1(change) - change))

        def step(state: tuple, _: None) -> tuple[tuple, Array]:
            logits, moments = state
            value, slope = jax.value_and_grad(loss)(logits)
            updates, moments = optimizer.update(slope, moments)
            return (optax.apply_updates(logits, updates), moments), value

        (logits, _), values = _loops.scan(step, (start, optimizer.init(start)), None, length=steps)
        return Distilled(jax.nn.log_softmax(jnp.where(live, logits, -jnp.inf)), values)

    return _batching.over_batch(one, problem, (temperature,), elements=problem.num_outcomes)
