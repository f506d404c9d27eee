"""`over_batch`: a toy worker over all leading axes, as NumPy broadcasts them, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax._batching import CHUNK_ELEMENTS, joined, over_batch, over_outcomes
from softbon_jax.exact import _plan, _soft

K = 3


def toy(x, y, scale):
    """Every kind of result: a vector, a scalar, and both as parts of a pytree."""
    assert x.shape == (K,)
    assert y.shape == (2,)
    assert scale.shape == ()
    return {"vector": scale * x, "scalars": (x.sum() - scale, y.max())}


def arguments(*shapes):
    keys = jax.random.split(jax.random.key(0), 3)
    ends = ((K,), (2,), ())
    return [jax.random.normal(key, (*s, *e)) for key, s, e in zip(keys, shapes, ends, strict=True)]


SHAPES = [
    ((), (), ()),
    ((7,), (), ()),
    ((5, 1), (4,), (1, 1)),
    ((1,), (2, 1), (3, 1, 7)),
    ((), (), (0,)),
]


@pytest.mark.parametrize("chunk", [0, 1, 3, 100])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_broadcasts_as_numpy_does_whatever_the_chunk(shapes, chunk):
    x, y, scale = arguments(*shapes)
    elements = CHUNK_ELEMENTS // chunk if chunk else 2 * CHUNK_ELEMENTS  # which leaves chunks of 1
    got = over_batch(toy, (x, y), (scale,), elements=elements)
    x, y, scale = (np.asarray(z) for z in (x, y, scale))
    shape = np.broadcast_shapes(*shapes)
    np.testing.assert_array_equal(got["vector"], np.broadcast_to(scale[..., None] * x, (*shape, K)))
    first, second = got["scalars"]
    np.testing.assert_allclose(first, np.broadcast_to(x.sum(-1) - scale, shape), rtol=1e-15)
    np.testing.assert_array_equal(second, np.broadcast_to(y.max(-1), shape))


def test_vectors_alone():
    x, y, _ = arguments((4,), (), ())
    got = over_batch(lambda x, y: x.max() + y.min(), (x, y), elements=1)
    np.testing.assert_array_equal(got, x.max(-1) + y.min(-1))


def test_chunks_do_not_repeat_the_program():
    """Seven rows in chunks of three: the worker is traced once, and its gradient is that of all rows."""
    traces = []

    def worker(x):
        traces.append(x)
        return jnp.sum(x**2)

    x = jnp.arange(21.0).reshape(7, 3)
    slope = jax.grad(lambda x: over_batch(worker, (x,), elements=CHUNK_ELEMENTS // 3).sum())(x)
    assert len(traces) == 1
    np.testing.assert_array_equal(slope, 2 * x)


def test_memory_is_that_of_a_chunk():
    size, batch = 1000, 400

    def memory(elements):
        def call(x):
            return over_batch(
                lambda x: jnp.sort(jnp.outer(x, x).ravel())[0], (x,), elements=elements
            )

        compiled = jax.jit(call).lower(jnp.ones((batch, size), jnp.float32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    one = 4 * size**2
    assert memory(1) >= batch * one
    chunk = CHUNK_ELEMENTS // size**2
    assert memory(size**2) < 4 * chunk * one


@pytest.mark.parametrize("block", [1, 4, 5, 7, 10, 100])
def test_outcomes_in_blocks(block):
    """Sums over 10 outcomes, and an array on them, whatever the size of a block; derivatives too."""
    x = jnp.linspace(-1.0, 1.0, 10)

    def both(x):
        rows = jnp.arange(3.0)[:, None]

        def worker(x, y):
            return jnp.sum(x * y), rows + jnp.sin(x)[None]

        sums, parts = over_outcomes(worker, (x, x), (0.0, 1.0), block=block)
        return jnp.sum(sums), joined(parts, 10)

    total, array = both(x)
    assert total == pytest.approx(float(x @ x), rel=1e-14)
    np.testing.assert_allclose(array, np.arange(3.0)[:, None] + np.sin(x)[None], rtol=1e-15)
    slope = jax.grad(lambda x: both(x)[0] + jnp.sum(both(x)[1]))(x)
    np.testing.assert_allclose(slope, 2 * x + 3 * np.cos(x), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True])
def test_exact_laws_of_outcomes_in_blocks(wide, monkeypatch):
    """Three blocks of 256, the last one not full, give the law and slope of one block."""
    rng = np.random.default_rng(0)
    weights, rewards = rng.exponential(size=600), jnp.asarray(rng.normal(size=600))
    log_probs = jnp.asarray(np.log(weights / weights.sum())).at[7].set(-jnp.inf)
    log_probs = log_probs - jax.nn.logsumexp(log_probs)
    plan = _plan.Plan(96, wide, 0.28125)
    log_n = jnp.log(jnp.array([1.5, 16.0]))

    def law(rewards):
        terms = _soft.tilted_terms(sb.Problem(log_probs, rewards), jnp.float64(0.4))
        soft = _soft.soft_terms(terms, jnp.float64(0.4), log_n, plan)
        return jnp.sum(soft.probs @ jnp.cos(rewards)), soft

    def run():
        return jax.jit(lambda x: jax.grad(law, has_aux=True)(x))(rewards)

    whole = run()
    monkeypatch.setattr(_soft, "OUTCOMES_AT_ONCE", 1)
    in_blocks = run()
    assert "f64[256]" in str(jax.make_jaxpr(law)(rewards))
    for x, y in zip(*map(jax.tree.leaves, (whole, in_blocks)), strict=True):
        assert np.all(np.isfinite(x) | (np.asarray(x) == -np.inf))
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)
