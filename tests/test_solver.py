"""The root of a function in a bracket: against SciPy, at the ends, where none is, and its slope."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from softbon_jax.tuning._solver import crossing

FALLING = {
    "smooth": lambda x, c: c - jnp.expm1(x),
    "flat": lambda x, c: c**3 - x**3,
    "steep": lambda x, c: jnp.tanh(1e6 * (c - x)),
    "a step": lambda x, c: jnp.where(x < c, 1.0, -1.0),
    "far below at one end": lambda x, c: c - jnp.exp(30 * x),
}


def test_roots_are_those_of_scipy():
    """For each function a batch of brackets, whose searches end after different numbers of steps."""
    c, low, high = (np.array(x) for x in ([0.3, 0.7, 0.999], [-1.0, -5.0, -0.1], [1.0, 2.0, 20.0]))
    for name, f in FALLING.items():
        got = jax.jit(jax.vmap(lambda c, a, b, f=f: crossing(f, a, b, c)))(c, low, high)
        exact = [
            optimize.brentq(lambda x, c=c, f=f: float(f(x, c)), a, b, xtol=1e-15)
            for c, a, b in zip(c, low, high, strict=True)
        ]
        tolerance = 1e-5 if name == "flat" else 1e-14  # a triple root is as flat as that
        np.testing.assert_allclose(got.at, exact, rtol=tolerance, atol=tolerance, err_msg=name)
        assert not got.under.any()


def test_ends_and_brackets_without_a_root():
    ends = jax.jit(lambda low, high: crossing(lambda x, c: c - x, low, high, jnp.array(1.0)))
    np.testing.assert_array_equal([ends(0.0, 1.0).at, ends(1.0, 2.0).at], [1.0, 1.0])
    for low, high, under in ((2.0, 3.0, True), (0.0, 0.5, False), (np.nan, 2.0, False)):
        got = ends(low, high)
        assert np.isnan(got.at)
        assert got.under == under
    nothing = jax.jit(lambda c: crossing(lambda x, c: c - x, jnp.array(0.0), jnp.array(2.0), c))
    assert np.isnan(nothing(jnp.nan).at)


def test_derivatives_are_those_of_the_inverse():
    def root(c):
        return crossing(lambda x, c: c - jnp.exp(x), jnp.array(-5.0), jnp.array(5.0), c).at

    np.testing.assert_allclose(
        [root(2.0), jax.grad(root)(2.0), jax.grad(jax.grad(root))(2.0)],
        [np.log(2), 1 / 2, -1 / 4],
        rtol=1e-14,
    )
