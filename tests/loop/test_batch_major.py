"""Loops over (batch, time, ...): one kernel in inference, the usual parts for derivatives."""

import functools

import jax
import jax.numpy as jnp
import pytest
from recurrences import BATCH, FEATURES, LENGTH, UNITS, assert_same

from recurrax import scan
from recurrax.loop import scan_batch_major

MASK = jnp.arange(LENGTH) < jnp.array([LENGTH, 1, 4])[:, None]


def weights():
    k, r, b = jax.random.split(jax.random.key(1), 3)
    return {
        "kernel": jax.random.normal(k, (FEATURES, 3 * UNITS)),
        "recurrent": 0.5 * jax.random.normal(r, (UNITS, 3 * UNITS)),
        "bias": jax.random.normal(b, (3 * UNITS,)),
    }


def arguments():
    w = weights()
    xs = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, FEATURES)), MASK
    return w, (0.1 * jnp.ones((BATCH, UNITS)), jnp.int32(0)), xs


def step(w, carry, x):
    """Gates, a mask, a count of steps that is nobody's row, x itself beside its product."""
    (h, count), (x, mask) = carry, x
    z, r, g = jnp.split(x @ w["kernel"] + w["bias"] + h @ w["recurrent"], 3, -1)
    new = jax.nn.sigmoid(z) * h + jax.nn.sigmoid(r) * jnp.tanh(g) + x.sum(-1, keepdims=True)
    new = jnp.where(mask[:, None], new, h)
    return (new, count + 1), {"h": new, "norm": jnp.square(new).sum(-1)}


def by_time(w, carry, xs, **how):
    carry, ys = scan(
        functools.partial(step, w), carry, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), xs), **how
    )
    return carry, jax.tree.map(lambda y: jnp.swapaxes(y, 0, 1), ys)


def by_batch(w, carry, xs, **how):
    return scan_batch_major(functools.partial(step, w), carry, xs, **how)


def kernels(function, *args):
    return jax.jit(function).lower(*args).as_text().count("custom_call @recurrax")


@pytest.mark.parametrize("reverse", [False, True])
def test_values_and_gradients(reverse):
    """One kernel, and no transpose; for gradients the usual ones."""
    args = arguments()
    how = {"reverse": reverse}
    ours = functools.partial(by_batch, **how)
    theirs = functools.partial(by_time, runner="xla", **how)
    assert_same(jax.jit(ours)(*args), jax.jit(theirs)(*args))
    assert kernels(ours, *args) == 1
    assert "stablehlo.transpose" not in jax.jit(ours).lower(*args).as_text()

    def loss(function):
        def of(w, h, x):
            (h, _), ys = function(w, (h, jnp.int32(0)), (x, MASK))
            return jnp.square(h).sum() + jnp.sin(ys["h"]).sum() + ys["norm"].mean()

        return jax.jit(jax.grad(of, argnums=(0, 1, 2)))

    w, (h, _), (x, _) = args
    assert_same(loss(ours)(w, h, x), loss(theirs)(w, h, x))
    eager = jax.grad(lambda w: ours(w, *args[1:])[1]["norm"].sum())(w)
    assert_same(eager, jax.jit(jax.grad(lambda w: theirs(w, *args[1:])[1]["norm"].sum()))(w))


@pytest.mark.parametrize("how", [{"runner": "xla"}, {"runner": "lax"}, {"segments": 2}])
def test_other_ways_to_run(how):
    args = arguments()
    ours = jax.jit(functools.partial(by_batch, **how))(*args)
    assert_same(ours, jax.jit(functools.partial(by_time, runner="xla"))(*args))
    assert_same(by_batch(*args), ours)


def test_vmap_and_gradient_in_both_orders():
    w, carry, (x, mask) = arguments()
    stack = jnp.stack([x, 2 * x, -x])

    def of(function):
        def loss(w, x):
            (h, _), ys = function(w, carry, (x, mask))
            return jnp.square(h).sum() + ys["norm"].sum()

        def batched(w, stack):
            (h, count), ys = jax.vmap(
                lambda x: function(w, carry, (x, mask)), out_axes=((1, None), 2)
            )(stack)
            over = jax.vmap(jax.grad(loss), in_axes=(None, 0))(w, stack)
            under = jax.grad(lambda w: jax.vmap(loss, in_axes=(None, 0))(w, stack).sum())(w)
            again = jax.vmap(lambda s: loss({**w, "bias": s * w["bias"]}, x))(jnp.arange(3.0))
            return h, count, ys, over, under, again

        return jax.jit(batched)

    assert_same(of(by_batch)(w, stack), of(functools.partial(by_time, runner="xla"))(w, stack))


def test_what_is_not_taken_whole():
    """Work after the loop, other work before it, a number for all rows, a loop inside a loop."""
    w, (h, _), (x, _) = arguments()
    back = w["kernel"].T

    def projected(h, x):
        h = jnp.tanh(x @ w["kernel"][:, :UNITS] + h)
        return h, h @ w["recurrent"]

    def stacked(h, x):
        h = jnp.tanh(x @ w["kernel"] @ back @ w["kernel"][:, :UNITS] + h)
        return h, h

    def counted(h, x):
        h = jnp.tanh(x @ w["kernel"][:, :UNITS] + h)
        return h, (h, h.mean())

    def nested(h, x):
        rows = jnp.broadcast_to(x[:, None], (BATCH, 2, FEATURES))
        h, ys = scan_batch_major(lambda h, x: projected(h, x), h, rows)
        return h, ys[:, -1]

    for f in (projected, stacked, counted, nested):
        ours = jax.jit(lambda h, x, f=f: scan_batch_major(f, h, x))(h, x)
        last, ys = jax.jit(lambda h, x, f=f: scan(f, h, x, runner="xla"))(h, x.swapaxes(0, 1))
        theirs = last, jax.tree.map(lambda y: y.swapaxes(0, 1) if y.ndim > 1 else y, ys)
        assert_same(ours, theirs)
