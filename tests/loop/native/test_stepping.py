"""A step called straight from Python, against the loop of one step."""

import direct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_close, body_of, draw

from recurrax.loop.native import kernel, stepping
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import Target
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.runners import straight, xla


def step(consts, carry, xs):
    """A gated step with a normalisation, a flag and a count: products, slices, a reduction."""
    weight, bias, kernel = consts
    h, flag, count = carry
    i, f, g = jnp.split(h @ weight + bias + xs[0] @ kernel, 3, -1)
    h = jax.nn.sigmoid(f) * h + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jnp.where(flag, h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 0.1), h)
    return (h, ~flag, count + 1), (h.sum(-1) * count, i)


def arguments(units, rows, dtype=np.float32):
    consts = [
        draw(1, units, 3 * units, dtype=dtype, scale=units**-0.5),
        draw(2, 3 * units, dtype=dtype),
        draw(3, 5, 3 * units, dtype=dtype),
    ]
    flag = jnp.arange(rows)[:, None] % 2 == 0
    carry = [draw(4, rows, units, dtype=dtype), flag, jnp.zeros((), jnp.int32)]
    return consts, carry, [draw(5, 3, rows, 5, dtype=dtype)]


def run(body, consts, carry, xs):
    """The steps one after another; the last carry and the results of every step."""
    frame = straight.StepFrame(straight.StepProgram(body, [np.asarray(x) for x in consts]))
    for own, value in zip(frame.carry, carry, strict=True):
        own[...] = value
    results = []
    for t in range(xs[0].shape[0]):
        for own, x in zip(frame.xs, xs, strict=True):
            own[...] = x[t]
        frame.run()
        results.append([y.copy() for y in frame.ys])
    return frame.carry, [np.stack(ys) for ys in zip(*results, strict=True)]


@pytest.mark.parametrize(("units", "rows"), [(1, 1), (17, 1), (130, 1), (7, 9), (7, 32), (7, 70)])
def test_steps_give_what_the_loop_gives(units, rows, fenced):
    consts, carry, xs = arguments(units, rows)
    body = body_of(step, *map(tuple, (consts, carry, xs)))
    theirs = jax.jit(lambda *a: xla.run(body, *a, length=3, reverse=False))(consts, carry, xs)
    assert_close(run(body, consts, carry, xs), theirs, 2e-6)


@pytest.fixture(params=["up to its end", "from its beginning"])
def fenced(request, monkeypatch):
    """Nothing beside what a program and its frames hold may be touched."""
    at_end = request.param == "up to its end"

    def memory(size):
        return direct.Fenced(np.zeros(size, np.uint8), at_end).in_place()

    monkeypatch.setattr(straight, "_memory", memory)


def look_ups(consts, carry, xs):
    """Rows of tables: of one that is only looked up, of one that products read too."""
    table, embeddings = consts
    (h,), (where, first) = carry, xs
    h = jnp.tanh(h + jnp.take(table, where, axis=0, mode="clip"))
    h = h + jnp.take(embeddings, jnp.argmax(h > first, -1), axis=0, mode="clip")
    return (h,), (h @ embeddings.T, jnp.take_along_axis(h, where[:, None], 1, mode="clip"))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32])
@pytest.mark.parametrize("rows", [1, 40])
def test_what_indices_pick_is_held_and_nothing_beside_it(rows, dtype, fenced):
    limits = np.iinfo(dtype)
    where = np.random.default_rng(0).integers(0, 9, (3, rows)).astype(dtype)
    where[:, -1] = limits.min, limits.max, limits.max // 2 + 1
    consts, carry = (draw(0, 9, 5), draw(1, 6, 5)), (draw(2, rows, 5),)
    xs = [jnp.asarray(where), draw(3, 3, rows, 1)]
    body = body_of(look_ups, consts, carry, tuple(xs))
    theirs = jax.jit(lambda *a: xla.run(body, *a, length=3, reverse=False))(consts, carry, xs)
    assert_close(run(body, consts, carry, xs), theirs, 2e-6)


def test_consts_of_other_dtypes_are_held_as_the_step_reads_them(fenced):
    consts, carry, xs = (jnp.arange(9), draw(0, 5)), (draw(1, 2, 9),), [draw(2, 3, 2, 9)]
    body = body_of(lambda c, s, x: ((s[0] * c[0],), (x[0] * c[1].sum(),)), consts, carry, tuple(xs))
    theirs = jax.jit(lambda *a: xla.run(body, *a, length=3, reverse=False))(consts, carry, xs)
    wide = [np.asarray(consts[0], np.int64), np.asarray(consts[1], np.float64)]
    narrow = [np.asarray(consts[0], np.int8), np.asarray(consts[1])]
    for given in wide, narrow:
        assert_close(run(body, given, carry, xs), theirs, 2e-6)


def test_a_step_that_takes_long_gives_up_python_s_lock(monkeypatch):
    monkeypatch.setattr(straight, "_LONG_STEP", 0)
    consts, carry, xs = arguments(4, 2)
    body = body_of(step, *map(tuple, (consts, carry, xs)))
    theirs = jax.jit(lambda *a: xla.run(body, *a, length=3, reverse=False))(consts, carry, xs)
    assert_close(run(body, consts, carry, xs), theirs, 2e-6)


def test_compiles_for_another_processor():
    target = Target("aarch64-unknown-linux-gnu", "neoverse-n1", "", 16, 32)
    body = body_of(step, *map(tuple, arguments(7, 70)))
    code = kernel.compile_module(stepping.build_step(lower(body), target), target)
    assert code[:4] == b"\x7fELF"


def test_steps_are_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(kernel, "compile_module", None)
    grows = body_of(lambda c, s, x: ((s[0] > 0,), ()), (), (draw(1, 2, 3),), (draw(2, 1, 2, 3),))
    with pytest.raises(Unsupported, match="changes its shape or dtype"):
        straight.StepProgram(grows, [])
    empty = body_of(lambda c, s, x: (s, x), (), (draw(1, 2, 3),), (draw(2, 1, 2, 0),))
    with pytest.raises(Unsupported, match="holds nothing"):
        straight.StepProgram(empty, [])
