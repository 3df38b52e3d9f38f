"""Odd sizes, every batch, the edges of every buffer."""

import direct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_like_xla, body_of, draw

from recurrax.loop.native import kernel
from recurrax.loop.native.in_place import carries_in_place, in_place
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import host
from recurrax.loop.runners import native


def gated(consts, carry, xs):
    """A gated step with a normalisation: products, slices, a reduction."""
    weight, bias = consts
    i, f, g = jnp.split(carry[0] @ weight + bias + xs[0], 3, -1)
    h = jax.nn.sigmoid(f) * carry[0] + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 0.1)
    return (h,), (h, i)


def arguments(units, batch, length=3):
    consts = (draw(1, units, 3 * units, scale=units**-0.5), draw(2, 3 * units))
    return consts, (draw(3, batch, units),), (draw(4, length, batch, 3 * units),)


@pytest.mark.parametrize("units", [1, 3, 7, 17, 129])
def test_odd_units(units):
    assert_like_xla(gated, *arguments(units, 3))


@pytest.mark.parametrize("batch", [1, 2, 5, 8, 9, 16, 17, 31, 33, 64, 65])
def test_batches(batch):
    assert_like_xla(gated, *arguments(5, batch))


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(("units", "batch"), [(1, 1), (7, 3), (17, 9), (16, 8)])
def test_nothing_outside_the_buffers_is_touched(units, batch, at_end):
    """The handler gets a frame of our own: a stray read or write would end the process."""
    consts, carry, xs = (tuple(map(np.asarray, group)) for group in arguments(units, batch))
    body = body_of(gated, consts, carry, xs)
    code = direct.compiled(lower(body), reverse=False, length=3, threads=1, target=host())
    step = jax.jit(lambda c, k, x: jax.lax.scan(lambda s, v: gated(c, s, (v,)), k, x[0]))
    expected = [np.asarray(v) for v in jax.tree.leaves(step(consts, carry, xs))]
    inputs = [*consts, *carry, *xs]
    memory = [direct.Fenced(np.ascontiguousarray(v), at_end) for v in inputs]
    results = [direct.Fenced(np.zeros_like(v), at_end) for v in expected]
    direct.call(
        direct.link(code),
        [(m.address, v.shape) for m, v in zip(memory, inputs, strict=True)],
        [(m.address, v.shape) for m, v in zip(results, expected, strict=True)],
    )
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_allclose(ours.read(), theirs, atol=3e-6)


def test_arguments_are_not_overwritten():
    """A result may take an argument's place in memory only where nobody reads it again."""
    consts, carry, xs = (draw(1, 6, 6),), (draw(2, 4, 6),), (draw(3, 5, 4, 6),)

    def step(consts, carry, xs):
        z = carry[0] @ consts[0] + xs[0]
        return (jnp.tanh(z),), (z,)

    body = body_of(step, consts, carry, xs)
    assert in_place(kernel.scheduled(lower(body), host())) == {2: 1}
    before = np.array(xs[0])

    @jax.jit
    def twice(xs):
        first = native.run(body, consts, carry, xs, length=5, reverse=False)
        return first, native.run(body, consts, carry, xs, length=5, reverse=False), xs

    first, second, same = twice(xs)
    np.testing.assert_array_equal(xs[0], before)
    np.testing.assert_array_equal(same[0], before)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert_like_xla(step, consts, carry, xs)


def test_results_of_another_shape_stand_elsewhere():
    """The numbers of a row are the same, but XLA does not lay one shape over another."""

    def step(consts, carry, xs):
        return (carry[0] * 0.5,), (xs[0].reshape(4, 6) * carry[0],)

    consts, carry, xs = (), (draw(2, 4, 6),), (draw(3, 5, 4, 2, 3),)
    body = body_of(step, consts, carry, xs)
    assert in_place(kernel.scheduled(lower(body), host())) == {1: 1}
    assert native.overwritten(body, lower(body), host()) == {}
    assert_like_xla(step, consts, carry, xs)


def test_results_in_the_place_of_arguments():
    """What is read before, or in one loop at the same features, may share memory, else not."""

    def places(function, carried=lambda x, s: s * 0.5):
        xs, carry = (draw(3, 5, 4, 32),), (draw(2, 4, 16),)

        def step(c, s, x):
            return (carried(x[0], s[0]),), (function(x[0], s[0]),)

        assert_like_xla(step, (), carry, xs)
        return in_place(kernel.scheduled(lower(body_of(step, (), carry, xs)), host()))

    assert places(lambda x, s: jnp.concatenate([x[:, 16:] * s, x[:, :16] + s], -1)) == {1: 1}
    assert places(lambda x, s: x[:, ::-1][:, :32] * 2) == {}
    assert places(lambda x, s: jnp.roll(x, 3, -1) * 2) == {}
    normed = lambda x, s: x * x.sum(-1, keepdims=True) + s[:, :1]  # noqa: E731
    assert places(normed) == {1: 1}
    assert places(lambda x, s: x * s[:, :1], lambda x, s: s * normed(x, s)[:, 16:]) == {}


def test_carries_in_place():
    """A sum stands where it stood, and so does what a product has read; not what is read later."""
    consts, carry = (draw(1, 20, 20, scale=0.2),), tuple(draw(k, 5, 20) for k in range(3))
    xs = (draw(4, 6, 5, 20),)

    def step(consts, carry, xs):
        h, total, other = carry
        z = jnp.tanh(h @ consts[0] + xs[0])
        return (z, total + z * xs[0], xs[0] * h[:, :1]), (z * other,)

    lowered = lower(body_of(step, consts, carry, xs))
    assert carries_in_place(kernel.scheduled(lowered, host())) == {0, 1}
    assert_like_xla(step, consts, carry, xs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gates_that_a_product_reads_are_written_once(dtype):
    """As the cotangents of an LSTM are: in pieces, as a result, from where the product takes them;
    numbers of fewer bits than it needs are written apart."""
    consts, carry = (draw(1, 40, 20, scale=0.2),), (draw(2, 5, 20),)
    xs = (draw(4, 6, 5, 20),)

    def step(consts, carry, xs):
        gates = jnp.concatenate([jnp.tanh(carry[0]), carry[0] * xs[0]], -1)
        return (gates @ consts[0],), (gates.astype(dtype),)

    schedule = kernel.scheduled(lower(body_of(step, consts, carry, xs)), host())
    assert len(schedule.scratch) == (dtype == "bfloat16")
    assert_like_xla(step, consts, carry, xs)
