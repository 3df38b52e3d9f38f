"""Windows: kernels over arrays that begin with (batch, time)."""

import dataclasses

import direct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_close, body_of, draw

from recurrax.loop.body import Feed
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import host
from recurrax.loop.native.windows import Windows
from recurrax.loop.runners import native, xla

AVX2 = dataclasses.replace(direct.SSE, cpu="haswell", vector_bytes=32)


def step(consts, carry, xs):
    """Reads two products and two arrays, gives floats, whole numbers and truth values."""
    (weight,), (z, gate, x, mask) = consts, xs
    new = jnp.tanh(z + carry[0] @ weight) * jax.nn.sigmoid(gate) + x[:, :1]
    new = jnp.where(mask[:, None], new, carry[0])
    return (new,), (new, mask, carry[0].astype(jnp.bfloat16))


def arguments(batch, length, features=5, units=7):
    rng = np.random.default_rng(0)
    x = np.asarray(draw(1, batch, length, features))
    mask = rng.random((batch, length)) < 0.8
    w, v = np.asarray(draw(2, features, units)), np.asarray(draw(3, units, features))
    consts = (np.asarray(draw(4, units, units, scale=units**-0.5)),)
    carry = (np.asarray(draw(5, batch, units)),)
    feeds = [Feed(x, w), Feed(x, v, transposed=True), Feed(x), Feed(mask)]
    by_time = [np.swapaxes(a, 0, 1) for a in (x @ w, x @ v.T, x, mask)]
    return consts, carry, feeds, by_time


def run(batch, length, *, steps, reverse=False, threads=1, target=None, at_end=False):
    """The kernel's results and XLA's, arrays between guarded pages."""
    consts, carry, feeds, by_time = arguments(batch, length)
    body = body_of(step, consts, carry, by_time)
    lowered = lower(body)
    arrays, sources = native._sources(feeds, len(consts) + len(carry))
    inputs = [*consts, *carry, *arrays]
    windows = Windows(steps, sources, len(inputs))
    how = {"reverse": reverse, "length": length, "threads": threads, "target": target or host()}
    engine = direct.link(direct.compiled(lowered, windows=windows, **how))
    last, ys = jax.jit(lambda *a: xla.run(body, *a, length=length, reverse=reverse))(
        consts, carry, by_time
    )
    expected = [np.ascontiguousarray(a) for a in (*last, *(jnp.swapaxes(y, 0, 1) for y in ys))]
    memory = [direct.Fenced(np.ascontiguousarray(v), at_end) for v in inputs]
    results = [direct.Fenced(np.zeros_like(v), at_end) for v in expected]
    direct.call(
        engine,
        [(m.address, v.shape) for m, v in zip(memory, inputs, strict=True)],
        [(m.address, v.shape) for m, v in zip(results, expected, strict=True)],
    )
    return [m.read() for m in results], expected


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("batch", "length", "steps"),
    [(1, 1, 1), (1, 7, 3), (3, 6, 6), (9, 5, 2), (17, 4, 3), (16, 8, 4), (40, 3, 2)],
)
def test_windows_of_all_sizes(batch, length, steps, reverse):
    assert_close(*run(batch, length, steps=steps, reverse=reverse, at_end=reverse), 5e-3)
    ours, theirs = run(batch, length, steps=steps, reverse=reverse)
    assert_close(ours[:2], theirs[:2], 2e-6)


@pytest.mark.parametrize("target", [direct.SSE, AVX2])
def test_other_processors(target):
    if not host().is_x86 or host().vector_bytes < target.vector_bytes:
        pytest.skip("this processor does not run it")
    ours, theirs = run(19, 5, steps=2, threads=3, target=target)
    assert_close(ours[:2], theirs[:2], 3e-6)


def refused(step, feeds, by_time, carry, consts=()):
    body = body_of(step, consts, carry, by_time)
    length = by_time[0].shape[0]
    assert native.refusal(body, consts, carry, by_time, length) is None
    how = {"length": length, "reverse": False}
    return native.run_batch_major(body, consts, carry, feeds, **how) is None


def test_what_windows_do_not_serve():
    """Rows that are more than the batch, a result without rows, products of two dtypes."""
    x, w = draw(0, 4, 3, 5), draw(1, 5, 5)
    carry, by_time = (draw(2, 4, 5),), (jnp.swapaxes(x, 0, 1),)

    def plain(consts, carry, xs):
        return (carry[0] + xs[0],), (carry[0],)

    assert not refused(plain, [Feed(x, w)], by_time, carry)
    assert refused(plain, [Feed(x.astype(jnp.bfloat16), w)], by_time, carry)

    def counting(consts, carry, xs):
        return (carry[0] + xs[0], carry[1] + 1), (carry[1],)

    assert refused(counting, [Feed(x)], by_time, (*carry, jnp.zeros((1,))))
    wide = draw(3, 4, 3, 2, 5)
    assert refused(plain, [Feed(wide)], (jnp.swapaxes(wide, 0, 1),), (draw(4, 4, 2, 5),))
