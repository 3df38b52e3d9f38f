"""Kernels for AArch64 under QEMU: asked for with `-m emulated`, on a machine that has it."""

import functools

import direct
import emulated
import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import partners
import pytest
from accuracy import WORST, sample, worst_error
from against_xla import assert_close, body_of, draw
from hypothesis import HealthCheck, Phase, given, settings
from named_weights import values_and_gradients
from published_cells import CELLS
from random_cells import cells
from random_cells import values_and_gradients as random_values_and_gradients
from recurrences import assert_same, lstm
from row_functions import FUNCTIONS, B, F, T

import recurrax
from recurrax.loop import scan_batch_major
from recurrax.loop.native import gathering, multiplying, pairing, stacks
from recurrax.loop.native.kernel import compile_module
from recurrax.loop.runners import xla

pytestmark = pytest.mark.emulated


def run(body, args, length, threads=1, target=emulated.NEON):
    given = [np.asarray(a) for a in args]
    how = {"threads": threads, "target": target, "call": emulated.call}
    return direct.run(body, given, reverse=False, length=length, **how)


def test_functions_of_float32():
    width = 1 << 14
    x = sample()
    xs = np.resize(x, (-(-x.size // width), width))
    body = body_of(lambda c, s, xs: ((), [f(xs[0]) for f, *_ in WORST.values()]), (), (), (xs,))
    for name, ours in zip(WORST, run(body, [xs], len(xs)), strict=True):
        assert worst_error(name, x, ours.ravel()[: x.size]) <= WORST[name][2], name


@pytest.mark.parametrize("part", range(3))
def test_functions_of_rows(part):
    functions = list(FUNCTIONS.values())[part::3]

    def step(consts, carry, xs):
        values = [f(carry[0] + xs[0]) for f in functions]
        return (0.5 * jnp.tanh(values[0]),), values

    carry, xs = draw(0, B, F), draw(1, T, B, F)
    body = body_of(step, (), (carry,), (xs,))
    theirs = jax.jit(lambda *a: xla.run(body, *a, length=T, reverse=False))([], [carry], [xs])
    assert_close(run(body, [carry, xs], T), theirs, 4e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_small_floats_are_read_and_written(dtype):
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)[None]
    wide = np.ldexp(np.float32(1.7), np.arange(-40, 40)) * np.float32([[1], [-1.1]])
    xs = [every, wide.reshape(1, -1)]

    def step(consts, carry, xs):
        return (), (xs[0].astype(jnp.float32), xs[1].astype(dtype))

    read, written = run(body_of(step, (), (), xs), xs, 1)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(read, every.astype(np.float32))
        np.testing.assert_array_equal(written, xs[1].astype(dtype))


@pytest.mark.parametrize("target", [emulated.NEON, emulated.OLD], ids=lambda t: t.cpu)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("units", "batch", "threads"), [(37, 33, 4), (16, 1, 1), (5, 70, 8)])
def test_values_and_gradients_of_an_lstm(dtype, units, batch, threads, target):
    with jax.enable_x64(dtype == np.float64):
        shapes = {"kernel": (3, 4 * units), "recurrent": (units, 4 * units), "bias": (4 * units,)}
        w = {k: draw(len(k), *s, dtype=dtype, scale=0.2) for k, s in shapes.items()}
        init = tuple(draw(k, batch, units, dtype=dtype) for k in range(2))
        xs = draw(7, 6, batch, 3, dtype=dtype)

        def loss(w, init, xs):
            return sum(jnp.sin(y).sum() for y in jax.tree.leaves(recurrax.scan(lstm(w), init, xs)))

        gradient = interpreter.traced(jax.value_and_grad(loss, argnums=(0, 1, 2)), w, init, xs)
        call = functools.partial(emulated.call, target=target)
        native = direct.Loops(threads, target, call)
        assert_same(gradient(native), gradient(), 2e-6 if dtype == np.float32 else 1e-14)
        assert native.taken == 2


@pytest.mark.parametrize("target", [emulated.NEON, emulated.OLD], ids=lambda t: t.cpu)
def test_two_threads_share_the_products_of_one_row(target, monkeypatch):
    partners.share_everything(monkeypatch)
    partners.await_one(monkeypatch)
    monkeypatch.setattr(pairing, "_PATIENCE", 1 << 40)
    shapes = {"kernel": (3, 28), "recurrent": (7, 28), "bias": (28,)}
    w = {name: draw(len(name), *shape, scale=0.3) for name, shape in shapes.items()}
    init, xs = (draw(4, 1, 7), draw(5, 1, 7)), draw(6, 60, 1, 3)

    def loss(w, init, xs):
        return sum(jnp.sin(y).sum() for y in jax.tree.leaves(recurrax.scan(lstm(w), init, xs)))

    gradient = interpreter.traced(jax.value_and_grad(loss, argnums=(0, 1, 2)), w, init, xs)
    loops = direct.Loops(2, target, functools.partial(emulated.call, target=target), True)
    assert_same(gradient(loops), gradient(), 1e-5)
    assert loops.accompanied_loops == 2
    partners.change(monkeypatch, after=partners.spoil)
    assert np.isnan(gradient(loops)[0])


@pytest.mark.parametrize(
    ("batch", "units", "scan"),
    [
        (1, 5, recurrax.scan),
        (9, 5, recurrax.scan),
        (16, 24, recurrax.scan),
        (9, 5, scan_batch_major),
    ],
)
def test_products_go_with_a_loop(batch, units, scan):
    """Alongside that of one row, a window of steps at a time where there are more; those of many
    rows ask for what the next step needs."""
    shapes = {"kernel": (3, 4 * units), "recurrent": (units, 4 * units), "bias": (4 * units,)}
    w = {name: draw(len(name), *shape, scale=0.3) for name, shape in shapes.items()}
    init, xs = (draw(4, batch, units), draw(5, batch, units)), draw(6, 39, batch, 3)
    if scan is scan_batch_major:
        xs = jnp.swapaxes(xs, 0, 1)

    def loss(w, init, xs):
        return sum(jnp.sin(y).sum() for y in jax.tree.leaves(scan(lstm(w), init, xs)))

    gradient = interpreter.traced(jax.value_and_grad(loss, argnums=(0, 1, 2)), w, init, xs)
    native = direct.Loops(2, emulated.NEON, emulated.call, accompanied=True)
    assert_same(gradient(native), gradient(), 4e-6)
    assert native.accompanied_loops == 2
    assert (native.swapped > 0) == (scan is scan_batch_major)


@pytest.mark.parametrize("step", CELLS, ids=lambda c: c.__name__)
def test_values_and_gradients_of_published_cells(step):
    program = interpreter.traced(functools.partial(values_and_gradients, recurrax.scan, step))
    native = direct.Loops(2, emulated.NEON, emulated.call)
    assert_same(program(native), program())
    assert native.taken == 2 or native.refused


@settings(max_examples=25, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(cell=cells)
def test_values_and_gradients_of_random_cells(cell):
    compute = functools.partial(random_values_and_gradients, recurrax.scan, cell, jnp.float32)
    program = interpreter.traced(compute)
    native = direct.Loops(3, emulated.NEON, emulated.call)
    assert_same(program(native), program())
    assert native.taken == 2 and native.refused == []


@pytest.mark.parametrize(("rows", "left", "right"), [(1, 1, 1), (37, 13, 29), (301, 26, 100)])
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_products_of_all_steps_together(rows, left, right, kind):
    dtype = {"f32": np.float32, "f64": np.float64}[kind]
    a, d, w = (
        np.random.default_rng(k).normal(size=s).astype(dtype)
        for k, s in enumerate([(rows, left), (rows, right), (left, right)])
    )
    problem = gathering.Problem(rows, left, right, kind, start=0, features=right)
    made = gathering.build_gather(problem, emulated.NEON, 3)
    result = np.empty((left, right), dtype)
    emulated.call(compile_module(made, emulated.NEON), [a, d], [result])
    np.testing.assert_allclose(result, a.T @ d, rtol=0, atol=40 * np.finfo(dtype).eps * rows**0.5)
    stack = stacks.Stack(rows, 1, False)
    problem = multiplying.Multiplication(stack, stack, left, right, kind)
    made = multiplying.build_multiplication(problem, emulated.NEON, 3)
    result = np.empty((rows, right), dtype)
    emulated.call(compile_module(made, emulated.NEON), [a, w], [result])
    np.testing.assert_allclose(result, a @ w, rtol=0, atol=40 * np.finfo(dtype).eps * left**0.5)
