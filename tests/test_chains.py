"""Sequences with memory: against every path in mpmath, and what follows from independence.

A scheme compiles programs of its own. `make test` looks at one, `make slow` at one of each kind, and
`make test-long` at the others: whole rewards by state, blocks without values, steps without values.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

import softbon_jax as sb
from tests import oracles

INITIAL = [0.2, 0.5, 0.3]
KERNEL = [[0.5, 0.3, 0.2], [0.0, 0.6, 0.4], [0.7, 0.1, 0.2]]
ON_STATES = [0.0, 0.25, 1.0]
ON_STEPS = [[0.0, 0.5, -0.25], [1.0, 0.25, 0.0], [0.5, 2.0, 0.75]]
NO_LATTICE = [0.0, 0.3, 2**-0.5]
VALUES = [[0.5, -1.0, 0.25], [0.0, 0.75, 0.5], [0.25, 0.0, -0.5]]
SCHEMES = {  # rewards, block size, values
    "whole": (ON_STEPS, None, None),
    "whole, no lattice": (NO_LATTICE, None, None),
    "whole, values": (ON_STATES, 3, VALUES),
    "blocks": (ON_STATES, 2, None),
    "blocks, values": (ON_STEPS, 2, VALUES),
    "steps": (ON_STATES, 1, None),
    "steps, values": (ON_STEPS, 1, VALUES),
}
TEMPERATURES, N = (0.0, 0.3, 2.0, np.inf), (2, 3)
SMOOTH = [x for x in sb.Metrics._fields if x not in ("tv", "win_rate", "relative_reward_gap")]


def relative(got, exact):
    """The error of a number relative to it; of 0 the number itself."""
    got = float(got)
    if mp.isnan(exact) or mp.isinf(exact):
        return 0.0 if np.array_equal(got, float(exact), equal_nan=True) else np.inf
    return float(abs(got - exact) / (abs(exact) if abs(exact) > 1e-40 else 1))


def chain(rewards, length=3, dtype=None):
    return *(jnp.asarray(x, dtype) for x in (INITIAL, KERNEL, rewards)), length


def marked(names, quick=(), slow=()):
    """The names: the quick ones, those of the slow tests, and the others for the long ones."""
    marks = {x: [] for x in quick} | dict.fromkeys(slow, pytest.mark.slow)
    return [pytest.param(x, marks=marks.get(x, pytest.mark.long)) for x in names]


@pytest.mark.parametrize(
    "name", marked(SCHEMES, ["steps, values"], ["whole, no lattice", "blocks, values"])
)
def test_metrics_against_every_path(name):
    rewards, size, values = SCHEMES[name]
    temperatures, n = np.array(TEMPERATURES)[:, None], np.array(N, float)
    got = sb.markov_metrics(*chain(rewards), n, temperatures, size, values)
    for (i, temperature), (j, x) in itertools.product(enumerate(TEMPERATURES), enumerate(N)):
        exact = oracles.markov_metrics(
            INITIAL, KERNEL, rewards, 3, x, temperature, size, values, digits=40
        )
        for field in sb.Metrics._fields:
            error = relative(getattr(got, field)[i, j], exact[field])
            assert error < 1e-11, (temperature, x, field, error)


def test_there_are_many_cases():
    assert len(SCHEMES) * len(TEMPERATURES) * len(N) >= 40


@pytest.mark.parametrize("rewards", [ON_STATES, ON_STEPS])
def test_soft_values_against_every_path(rewards):
    found = sb.soft_values(KERNEL, rewards, 4, np.array([*TEMPERATURES, 1e8]))
    for got, temperature in zip(found, (*TEMPERATURES, 1e8), strict=True):
        exact = np.array(oracles.soft_values(KERNEL, rewards, 4, temperature), float)
        np.testing.assert_allclose(got, exact, rtol=1e-14, atol=1e-15)


@pytest.mark.slow
def test_with_soft_values_the_divergence_vanishes_with_all_its_digits():
    initial, kernel = [*INITIAL[:1], 0.8], [[0.75, 0.25], [0.375, 0.625]]
    n = np.array([3.0, 1e4, 1e10])
    values = sb.soft_values(kernel, [0.0, 1.0], 2, 0.3)
    got = sb.markov_metrics(initial, kernel, [0.0, 1.0], 2, n, 0.3, 1, values)
    precise = oracles.soft_values(kernel, [0.0, 1.0], 2, 0.3, digits=80)
    for i, x in enumerate(n):
        exact = oracles.markov_metrics(initial, kernel, [0.0, 1.0], 2, x, 0.3, 1, precise)
        for field in SMOOTH:
            assert relative(getattr(got, field)[i], exact[field]) < 1e-11, (x, field)
    assert got.kl_tilted_soft[2] < 1e-19


@pytest.mark.parametrize(
    "name",
    marked(
        ["whole", "blocks", "blocks, values", "steps, values"], slow=["whole", "blocks, values"]
    ),
)
def test_gradients_against_differences_of_the_precise_metrics(name):
    """Along one direction in everything at once: probabilities, rewards, values, temperature."""
    rewards, size, values = SCHEMES[name]
    random = np.random.default_rng(0)
    rewards = np.array(rewards)
    along = [random.normal(size=np.shape(x)) for x in (INITIAL, KERNEL, rewards, VALUES)]
    possible = np.array(KERNEL) > 0
    along[0] -= along[0].mean()
    along[1] *= possible
    along[1] -= possible * (along[1].sum(1) / possible.sum(1))[:, None]

    def moved(step):
        starts = (INITIAL, KERNEL, rewards, VALUES)
        return [np.asarray(x) + step * d for x, d in zip(starts, along, strict=True)]

    def smooth(step):
        initial, kernel, r, v = moved(step)
        v = None if values is None else v
        found = sb.markov_metrics(initial, kernel, r, 3, 2.0, 0.4 + step, size, v)
        return jnp.stack([getattr(found, x) for x in SMOOTH])

    got = jax.jacfwd(smooth)(0.0)
    with mp.workdps(60):
        h, ends = mpf(10) ** -15, []
        for step in (h, -h):
            exactly = [
                np.vectorize(lambda x, d, s=step: mpf(float(x)) + s * mpf(float(d)), [object])(
                    x, d
                ).tolist()
                for x, d in zip((INITIAL, KERNEL, rewards, VALUES), along, strict=True)
            ]
            given = exactly[:3], exactly[3] if values is not None else None
            ends.append(oracles.markov_metrics(*given[0], 3, 2, mpf(0.4) + step, size, given[1]))
        for slope, field in zip(got, SMOOTH, strict=True):
            exact = (ends[0][field] - ends[1][field]) / (2 * h)
            assert relative(slope, exact) < 1e-8, field


@pytest.mark.slow
def test_backward_and_forward_gradients_agree():
    arguments = chain(ON_STATES)[:3]

    def total(*x):
        return sb.markov_metrics(*x, 3, 4.0, 0.4, 2).kl_soft_tilted

    backward = jax.grad(total, argnums=(0, 1, 2))(*arguments)
    random = np.random.default_rng(1)
    along = [jnp.asarray(random.normal(size=x.shape)) for x in arguments]
    _, forward = jax.jvp(total, arguments, tuple(along))
    assert all(np.isfinite(x).all() for x in backward)
    found = sum(np.sum(x * y) for x, y in zip(backward, along, strict=True))
    np.testing.assert_allclose(found, forward, rtol=1e-10)


@pytest.mark.parametrize("size", marked([1, 3, 7], slow=[3]))
def test_without_memory_it_is_the_sequence_of_independent_symbols(size):
    probs = np.array([0.5, 0.3, 0.2])
    n, problem = np.array([1.0, 5.5, 1e6]), sb.from_probs(probs, ON_STATES)
    kernel = np.tile(probs, (3, 1))
    a = sb.markov_metrics(probs, kernel, ON_STATES, 7, n, 0.4, size)
    b = sb.blockwise_metrics(problem, 7, n, 0.4, block_size=size)
    for field in sb.Metrics._fields:
        x, y = getattr(a, field), getattr(b, field)
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-15, err_msg=field)


@pytest.mark.slow
def test_a_thousand_states_and_n_of_e_to_hundreds():
    given = chain(ON_STATES, 1000)
    log_n = np.array([0.0, 200.0, 500.0])
    whole = sb.markov_metrics(*given, log_n=log_n, temperature=0.3)
    needed = float(whole.kl_tilted_base[0])
    np.testing.assert_allclose(whole.kl_tilted_soft, needed - log_n, rtol=1e-9)
    values = sb.soft_values(*given[1:], 0.3)
    steps = sb.markov_metrics(*given, log_n=log_n[:2], temperature=0.3, block_size=1, values=values)
    np.testing.assert_allclose(steps.kl_tilted_base, needed, rtol=1e-11)
    np.testing.assert_allclose(steps.kl_tilted_soft[0], needed, rtol=1e-11)
    # n² KL is a sum over the steps: the thousandth adds what the five hundredth does.
    half = sb.markov_metrics(
        *chain(ON_STATES, 500), log_n=log_n[1], temperature=0.3, block_size=1, values=values[500:]
    )
    ratio = float(steps.kl_tilted_soft[1] / half.kl_tilted_soft)
    assert ratio == pytest.approx(2.0, rel=2e-3)
    assert 0 < float(steps.kl_tilted_soft[1]) < 1e-160


@pytest.mark.slow
def test_values_count_up_to_a_constant_and_other_values_leave_a_floor():
    given = chain(ON_STATES)
    values = np.asarray(sb.soft_values(*given[1:], 0.3))
    kinds = np.stack([values, values + np.array([[5.0], [-3.0], [7.0]]), values + 1e-3 * values**2])
    found = sb.markov_metrics(*given, 1e8, 0.3, 1, kinds).kl_tilted_soft
    np.testing.assert_allclose(found[1], found[0], rtol=1e-11)
    assert found[2] > 1e4 * found[0]


@pytest.mark.slow
def test_float32_agrees():
    n, temperatures = jnp.array([1.0, 4.0, 64.0]), jnp.array([0.3, 0.5, 2.0])
    given = chain(ON_STATES)
    eager = sb.markov_metrics(*given, n, temperatures, 1, nodes=256)
    single = chain(ON_STATES, dtype=np.float32)
    low = sb.markov_metrics(*single, np.float32(n), np.float32(temperatures), 1)
    for field in SMOOTH:
        x, y = (getattr(a, field) for a in (eager, low))
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6, err_msg=field)
        assert y.dtype == np.float32


@pytest.mark.parametrize("name", marked(["whole", "blocks", "steps, values"], slow=["blocks"]))
def test_a_traced_kernel_and_mapped_temperatures_give_the_same(name):
    rewards, size, values = SCHEMES[name]
    initial, kernel, rewards, length = chain(rewards)

    def of_kernel(kernel, temperature):
        return sb.markov_metrics(initial, kernel, rewards, length, 8.0, temperature, size, values)

    mapped, temperatures = jax.jit(jax.vmap(of_kernel, (None, 0))), np.array([0.0, 0.3])
    eager, traced = (f(kernel, temperatures) for f in (of_kernel, mapped))
    for x, y in zip(eager, traced, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-14)
    for field in mapped(2 * kernel, temperatures):
        assert np.isnan(field).all()


@pytest.mark.slow
def test_what_is_wrong_is_said():
    given = chain(ON_STATES)
    with pytest.raises(ValueError, match=r"block_size must be at most length = 3, got 4"):
        sb.markov_metrics(*given, 2.0, 0.3, 4)
    with pytest.raises(ValueError, match=r"values must be of shape \[..., 3, 3\], got \(2, 3\)"):
        sb.markov_metrics(*given, 2.0, 0.3, 1, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"the sum of kernel .* must be 1, got 1.5 at index 0"):
        sb.soft_values([[1.0, 0.5], [0.5, 0.5]], [0.0, 1.0], 2, 1.0)
    with pytest.raises(ValueError, match=r"initial must be of shape \(3,\), got \(2,\)"):
        sb.markov_metrics([0.5, 0.5], *given[1:], 2.0, 0.3)
    with pytest.raises(ValueError, match="round them, as round_to_lattice does"):
        sb.markov_metrics(*chain(np.sqrt([2.0, 3.0, 5.0]), 1000), 2.0, 0.3)
    with pytest.raises(TypeError, match="the rewards of blocks must be concrete"):
        jax.jit(lambda r: sb.markov_metrics(*given[:2], r, 3, 2.0, 0.3, 2))(given[2])


@pytest.mark.slow
def test_whole_sequences_with_values_are_selected_by_them():
    """Against all 16 sequences of two states: what is selected by reward plus the last value."""
    kernel, rewards, last = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([0.0, 1.0]), [0.0, 0.8]
    paths = list(itertools.product(range(2), repeat=4))
    steps = [kernel[(0, *path[:-1]), path] for path in paths]  # as if from state 0
    totals = rewards[np.array(paths)].sum(1)
    scores = totals + np.array([last[path[-1]] for path in paths])
    law = sb.log_soft_bon(sb.from_probs(np.prod(steps, axis=1), scores), 3, 0.5)
    values = np.zeros((4, 2))
    values[-1] = last
    whole = sb.markov_metrics(kernel[0], kernel, rewards, 4, 3, 0.5, values=values)
    np.testing.assert_allclose(whole.reward, np.exp(law) @ totals, rtol=1e-12)
