"""`over_batch`: a toy worker over all leading axes, as NumPy broadcasts them, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softbon_jax._batching import CHUNK_ELEMENTS, over_batch

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
