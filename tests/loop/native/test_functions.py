"""tanh, exp and their kin against float64, in units in the last place."""

import dataclasses

import direct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accuracy import WORST, sample, ulps, worst_error
from against_xla import body_of, run_native

from recurrax.loop.native.target import host
from recurrax.loop.runners import native

WIDTH = 1 << 14
AVX2 = dataclasses.replace(direct.SSE, cpu="haswell", vector_bytes=32)


def evaluate(function, x):
    """`function` of all of `x`, computed natively."""
    steps = -(-x.size // WIDTH)
    padded = jnp.asarray(np.resize(x, (steps, WIDTH)))
    body = body_of(lambda consts, carry, xs: ((), (function(xs[0]),)), (), (), (padded,))
    _, (y,) = run_native(body, [], [], [padded])
    return np.asarray(y).ravel()[: x.size]


@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, host()) for name in WORST), ("tanh", AVX2), ("logistic", AVX2)],
)
def test_all_of_float32(name, target, monkeypatch):
    if target is AVX2 and (not host().is_x86 or host().vector_bytes < 32):
        pytest.skip("this processor does not run AVX2")
    monkeypatch.setattr(native, "host", lambda: target)
    function, _, worst = WORST[name]
    x = sample()
    assert worst_error(name, x, evaluate(function, x)) <= worst


@pytest.mark.parametrize("function", [jnp.sin, jnp.cos, jnp.tan])
def test_angles(function):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=20_000) * 10.0 ** rng.integers(-6, 9, 20_000)).astype(np.float32)
    exact = {jnp.sin: np.sin, jnp.cos: np.cos, jnp.tan: np.tan}[function](x.astype(np.float64))
    assert ulps(evaluate(function, x), exact).max() <= 1.0
    assert np.isnan(evaluate(function, np.float32([np.inf, np.nan]))).all()


def test_powers():
    x, y = np.meshgrid(
        np.float32([-np.inf, -3, -2, -1, -0.5, -0.0, 0, 0.3, 1, 2.5, 40, np.inf]),
        np.float32([-3, -2, -0.5, 0, 0.5, 1, 2, 3, 7.25]),
    )
    padded = [jnp.asarray(np.resize(v, (1, v.size))) for v in (x, y)]
    body = body_of(lambda consts, carry, xs: ((), (xs[0] ** xs[1],)), (), (), padded)
    _, (ours,) = run_native(body, [], [], padded)
    with np.errstate(all="ignore"):
        exact = x.astype(np.float64) ** y.astype(np.float64)
    assert ulps(np.asarray(ours).reshape(x.shape), exact).max() <= 1.0


@pytest.mark.parametrize("name", ["tanh", "logistic", "exp", "log", "log1p", "expm1"])
def test_float64(name):
    function, reference, _ = WORST[name]
    x = np.random.default_rng(0).normal(size=WIDTH) * 10.0 ** np.arange(-8, 8).repeat(WIDTH // 16)
    with jax.enable_x64(True):
        ours = evaluate(function, x)
    with np.errstate(all="ignore"):
        exact = reference(x)
    ordinary = np.isfinite(exact) & (np.abs(exact) > 1e-300)
    error = np.abs(ours[ordinary] - exact[ordinary]) / np.spacing(np.abs(exact[ordinary]))
    assert error.max() <= 4
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(exact))
