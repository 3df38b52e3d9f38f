"""`jax_debug_nans` and `jax_debug_infs`: as with `jax.lax.scan`, the loop that makes one raises."""

import functools

import jax
import jax.numpy as jnp
import pytest

import recurrax

XS = jnp.ones((4, 2, 3))
W = jnp.eye(3)


def nan_forward(h, x, w):
    return jnp.tanh(h @ w + x @ w) + jnp.sqrt(x - 2.0), h


def inf_forward(h, x, w):
    return 0.5 * h + x @ w + 1 / (x - 1.0), h


def nan_backward(h, x, w):
    return jnp.tanh(h @ w + x @ w) + jnp.sqrt((h - h) * x), h


def inf_backward(h, x, w):
    return jnp.tanh(h @ w + x @ w) + jnp.sqrt(x - 1.0), h


@pytest.fixture
def watched(request):
    jax.config.update(request.param, True)
    yield
    jax.config.update(request.param, False)


@pytest.mark.parametrize(
    ("watched", "step"),
    [
        ("jax_debug_nans", nan_forward),
        ("jax_debug_infs", inf_forward),
        ("jax_debug_nans", nan_backward),
        ("jax_debug_infs", inf_backward),
    ],
    indirect=["watched"],
)
@pytest.mark.parametrize("runner", ["native", "xla", "lax"])
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_loops_that_make_one_raise(watched, step, runner, jitted):
    def loss(w, h, xs):
        f = lambda h, x: step(h, x, w)  # noqa: E731
        last, ys = recurrax.scan(f, h, xs, runner=runner)
        return last.sum() + ys.sum()

    forward = "forward" in step.__name__
    function = loss if forward else jax.grad(loss, argnums=(0, 1, 2))
    with pytest.raises(FloatingPointError):
        (jax.jit(function) if jitted else function)(W, XS[0], XS)
    if not forward:
        loss(W, XS[0], XS)
    well = functools.partial(jax.jit(function) if jitted else function, W, XS[0])
    jax.block_until_ready(well(4.0 * XS) if step is not nan_backward else 0)
