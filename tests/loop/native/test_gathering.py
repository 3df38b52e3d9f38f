"""The products of all time steps together: for inputs, and for weight gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import body_of, draw

from recurrax.loop import plan
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.runners import native

SHAPES = [(1, 1, 1), (3, 5, 2), (37, 13, 29), (301, 26, 100), (300, 200, 3), (5000, 33, 65)]


@pytest.mark.parametrize(("rows", "left", "right"), SHAPES)
def test_against_float64(rows, left, right):
    a, d = draw(0, rows, left), draw(1, rows, right)
    a64, d64 = np.asarray(a, np.float64).T, np.asarray(d, np.float64)
    for start, width in ((0, right), (right // 3, -(-right // 2))):
        d64_here = d64[:, start : start + width]
        far = np.abs(native.gather(a, d, start, width) - a64 @ d64_here)
        assert (far <= 5e-7 * (np.abs(a64) @ np.abs(d64_here))).all()


def test_float64_and_jit():
    with jax.enable_x64(True):
        a, d = (draw(k, 70, n, dtype=np.float64) for k, n in ((0, 9), (1, 20)))
        np.testing.assert_allclose(
            jax.jit(native.gather, static_argnums=(2, 3))(a, d, 0, 20), a.T @ d, rtol=0, atol=1e-13
        )


def test_what_is_not_served_goes_to_xla():
    a, d = draw(0, 20, 3).astype(jnp.bfloat16), draw(1, 20, 4).astype(jnp.bfloat16)
    np.testing.assert_array_equal(native.gather(a, d, 1, 2), jnp.matmul(a.T, d[:, 1:3]))
    assert native.gather(jnp.zeros((0, 3)), jnp.zeros((0, 4)), 0, 4).shape == (3, 4)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_products_against_float64(rows, inputs, outputs):
    a, w = draw(0, rows, inputs), draw(1, inputs, outputs)
    a64, w64 = np.asarray(a, np.float64), np.asarray(w, np.float64)
    far = np.abs(native.product(a, w) - a64 @ w64)
    assert (far <= 5e-7 * (np.abs(a64) @ np.abs(w64))).all()


def test_without_a_known_platform_xla_takes_over(monkeypatch):
    """One warning says why; products and bodies are refused, nothing fails."""
    native.platform_refusal.cache_clear()
    plan.native_unavailable.cache_clear()

    def unknown():
        raise Unsupported("an interface of version 9.9")

    monkeypatch.setattr(native.ffi, "check_version", unknown)
    a, d = draw(0, 20, 3), draw(1, 20, 4)
    np.testing.assert_allclose(native.gather(a, d, 0, 4), a.T @ d, atol=1e-5)
    np.testing.assert_allclose(native.product(a.T, d), a.T @ d, atol=1e-5)
    body = body_of(lambda c, s, x: ((s[0] * 2,), ()), (), (a,), ())
    assert native.refusal(body, [], [a], [], 3) == "an interface of version 9.9"
    with pytest.warns(RuntimeWarning, match="9.9") as said:
        for _ in range(2):
            assert plan.choose(body, length=3, runner=None).runner == "xla"
    assert len(said) == 1
    native.platform_refusal.cache_clear()
    plan.native_unavailable.cache_clear()
