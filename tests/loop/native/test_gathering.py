"""The product for weight gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import draw

from recurrax.loop.runners import native

SHAPES = [(1, 1, 1), (3, 5, 2), (37, 13, 29), (301, 26, 100), (300, 200, 3), (2000, 33, 65)]


@pytest.mark.parametrize(("rows", "left", "right"), SHAPES)
def test_against_float64(rows, left, right):
    a, d = draw(0, rows, left), draw(1, rows, right)
    exact = np.asarray(a, np.float64).T @ np.asarray(d, np.float64)
    np.testing.assert_allclose(native.gather(a, d), exact, rtol=0, atol=2e-6 * rows**0.5 * 3)


def test_float64_and_jit():
    with jax.enable_x64(True):
        a, d = (draw(k, 70, n, dtype=np.float64) for k, n in ((0, 9), (1, 20)))
        np.testing.assert_allclose(jax.jit(native.gather)(a, d), a.T @ d, rtol=0, atol=1e-13)


def test_what_is_not_served_goes_to_xla():
    a, d = draw(0, 20, 3).astype(jnp.bfloat16), draw(1, 20, 4).astype(jnp.bfloat16)
    np.testing.assert_array_equal(native.gather(a, d), jnp.matmul(a.T, d))
    assert native.gather(jnp.zeros((0, 3)), jnp.zeros((0, 4))).shape == (3, 4)
