"""Rows wherever they stand: carries, inputs and outputs with features first, or between rows."""

import direct
import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_close, assert_like_xla, body_of, draw
from recurrences import assert_same

import recurrax
from recurrax.loop.native.lower import lower
from recurrax.loop.runners import straight

T, B, F, H = 3, 5, 4, 6


def gated(w, h, x):
    """Features first: columns are rows."""
    i, f, g = jnp.split(w["in"] @ x + w["rec"] @ h + w["bias"][:, None], 3, 0)
    h = jax.nn.sigmoid(f) * h + jax.nn.sigmoid(i) * jnp.tanh(g)
    return h, (h - h.mean(0)) * w["mask"]


def simple(w, h, x):
    h = jnp.tanh(w["in"][:H] @ x + w["rec"][:H] @ h)
    return h, h


def stacked(w, states, x):
    """Two states in one array, ahead of the rows; y with features first."""
    h, c = states
    c = 0.5 * c + jnp.tanh(h @ w["rec"][:H].T + x.T @ w["in"][:H].T)
    return jnp.stack([c * w["mask"].T, c]), c.T


def between(w, h, x):
    """Rows between two axes of features."""
    h = jnp.tanh(jnp.einsum("hg,gbk->hbk", w["rec"][:H], h) + (w["in"][:H] @ x)[..., None])
    return h, h.sum(-1)


CARRIES = {gated: (H, B), simple: (H, B), stacked: (2, B, H), between: (H, B, 2)}


def arguments(step, dtype=np.float32):
    shapes = {"in": (3 * H, F), "rec": (3 * H, H), "bias": (3 * H,)}
    w = {k: draw(len(k), *s, dtype=dtype, scale=0.4) for k, s in shapes.items()}
    w["mask"] = (draw(9, H, B) > 0).astype(dtype)
    return w, draw(1, *CARRIES[step], dtype=dtype), draw(2, T, F, B, dtype=dtype)


@pytest.mark.parametrize("step", CARRIES, ids=lambda step: step.__name__)
def test_values_and_gradients(step):
    def gradient(w, init, xs):
        def loss(*args):
            (last, ys) = recurrax.scan(lambda h, x: step(args[0], h, x), *args[1:])
            return jnp.sin(last).sum() + jnp.cos(ys).sum()

        return jax.value_and_grad(loss, argnums=(0, 1, 2))(w, init, xs)

    program = interpreter.traced(gradient, *arguments(step))
    native = direct.Loops(threads=2)
    assert_same(program(native), program(), 2e-6)
    assert native.taken == 2


def test_xla_lays_the_arrays_out():
    w, init, xs = arguments(gated)
    leaves, tree = jax.tree.flatten(w)

    def step(consts, carry, xs):
        h, y = gated(jax.tree.unflatten(tree, consts), carry[0], xs[0])
        return (h,), (y,)

    body = body_of(step, leaves, (init,), (xs,))
    lowered = lower(body)
    assert lowered.rows == B and lowered.outputs[1].order == (1, 0)
    assert_like_xla(step, leaves, (init,), (xs,), reverse=True)

    frame = straight.StepFrame(straight.StepProgram(body, [np.asarray(x) for x in leaves]))
    frame.carry[0][...], frame.xs[0][...] = init, xs[0]
    frame.run()
    assert_close((frame.carry[0], frame.ys[0]), gated(w, init, xs[0]), 2e-6)
