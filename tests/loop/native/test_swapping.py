"""Stacks that begin with (batch, time), taken where they lie by loops and by products alike."""

import functools

import direct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import draw
from recurrences import assert_same, lstm
from test_alongside import CASES, FEATURES, UNITS, arguments, gradient_of, weights

import recurrax
from recurrax.loop import scan_batch_major
from recurrax.loop.native import kernel
from recurrax.loop.native.gathering import Problem, build_gather
from recurrax.loop.native.multiplying import Multiplication, build_multiplication
from recurrax.loop.native.stacks import Stack
from recurrax.loop.native.target import host
from recurrax.loop.runners import native


def by_time(step, init, xs, reverse=False):
    last, ys = jax.lax.scan(step, init, jnp.swapaxes(xs, 0, 1), reverse=reverse)
    return last, jnp.swapaxes(ys, 0, 1)


@pytest.fixture
def apart(monkeypatch):
    """Loops and products are kernels of their own, as they are where windows have no room."""
    monkeypatch.setattr(native, "run_accompanied", lambda *_, **__: None)


def turned_by_xla(function, *args):
    text = jax.jit(function).lower(*args).compile().as_text()
    return " transpose(" in text or " copy(" in text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(8, 1), (16, 4), (24, 7), (40, 18)])
def test_layers_are_those_of_lax_and_nothing_is_turned(case, reverse, batch, length, apart):
    w, init, xs = arguments(case, length, batch)
    args = w, init, jnp.swapaxes(xs, 0, 1)
    ours = gradient_of(CASES[case][0], reverse, scan_batch_major)
    assert_same(jax.jit(ours)(*args), gradient_of(CASES[case][0], reverse, by_time)(*args), 4e-6)
    # W.T of a gradient that is itself a result has to be turned.
    assert turned_by_xla(ours, *args) == (case == "both ways")


@pytest.mark.parametrize("batch", [1, 12, 520])
def test_other_batches_are_left_to_xla(batch, apart):
    """A step's rows are no whole blocks, or too many."""
    w, init, xs = arguments("lstm", 5, batch)
    args = w, init, jnp.swapaxes(xs, 0, 1)
    ours = gradient_of(lstm, False, scan_batch_major)
    assert_same(jax.jit(ours)(*args), gradient_of(lstm, False, by_time)(*args), 4e-6)
    assert turned_by_xla(ours, *args) == (batch > 1)


def test_a_layer_too_large_for_windows_is_not_turned():
    w = weights(256, 512)
    args = w, (draw(1, 16, 512), draw(2, 16, 512)), draw(3, 16, 6, 256)
    ours = gradient_of(lstm, False, scan_batch_major)
    assert_same(jax.jit(ours)(*args), gradient_of(lstm, False, by_time)(*args), 2e-5)
    assert not turned_by_xla(ours, *args)


def test_layers_on_top_of_each_other_are_not_turned(apart):
    first, second = weights(), weights(UNITS, UNITS)

    def loss(w, v, init, xs):
        ys = scan_batch_major(lstm(w), init, xs)[1]
        return jnp.sin(scan_batch_major(lstm(v), init, ys)[1]).sum()

    gradient = jax.grad(loss, (0, 1, 2, 3))
    init = (jnp.zeros((8, UNITS)),) * 2
    assert not turned_by_xla(gradient, first, second, init, draw(4, 8, 9, FEATURES))


def test_what_has_no_features_or_is_no_number(apart):
    def loss(scan, w, init, xs, marks):
        def step(h, given):
            x, mark, row_mark = given
            h = jnp.where(row_mark[:, None], jnp.where(mark, jnp.tanh(x @ w + h), 0.5 * h), h)
            return h, (h, h.sum(-1))

        last, ys = scan(step, init, (xs, marks, marks[..., 0]))
        return last.sum() + sum(jnp.cos(y).sum() for y in ys)

    def lax_scan(step, init, xs):
        last, ys = jax.lax.scan(step, init, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), xs))
        return last, jax.tree.map(lambda y: jnp.swapaxes(y, 0, 1), ys)

    marks = np.random.default_rng(0).random((16, 6, UNITS)) < 0.7
    args = draw(1, FEATURES, UNITS), draw(2, 16, UNITS), draw(3, 16, 6, FEATURES), marks
    results = [
        jax.jit(jax.value_and_grad(lambda *a, s=s: loss(s, *a), (0, 1, 2)))(*args)
        for s in (scan_batch_major, lax_scan)
    ]
    assert_same(*results, 4e-6)


SIZES = pytest.mark.parametrize(
    ("steps", "batch", "inputs", "outputs"), [(3, 8, 5, 70), (40, 16, 33, 9), (2, 136, 20, 50)]
)


@SIZES
@pytest.mark.parametrize("swapped", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_stacks(steps, batch, inputs, outputs, swapped, transposed):
    left, result = (Stack(steps, batch, s) for s in swapped)
    problem = Multiplication(left, result, inputs, outputs, "f32", transposed)
    code = kernel.compile_module(build_multiplication(problem, host(), 2), host())
    a, w = (
        np.array(draw(k, *s)) for k, s in enumerate([(steps, batch, inputs), (inputs, outputs)])
    )
    given = [a.swapaxes(0, 1).copy() if left.swapped else a, w.T.copy() if transposed else w]
    made = np.empty((batch, steps, outputs) if result.swapped else (steps, batch, outputs), "f4")
    for at_end in (False, True):
        made[:] = np.nan
        direct.call_fenced(code, given, [made], at_end=at_end)
        found = made.swapaxes(0, 1) if result.swapped else made
        np.testing.assert_allclose(found, a @ w, rtol=0, atol=2e-5)


@SIZES
@pytest.mark.parametrize("threads", [1, 2])
def test_weight_gradients_of_stacks(steps, batch, inputs, outputs, threads):
    """Shared out by rows, by columns of the one or of the other; in chunks of whole steps."""
    lies = Stack(steps, batch, True)
    problem = Problem(steps * batch, inputs, outputs - 2, "f32", 1, outputs, lies)
    code = kernel.compile_module(build_gather(problem, host(), threads), host())
    a, d = (np.array(draw(k, steps, batch, n)) for k, n in enumerate((inputs, outputs)))
    made = np.empty((inputs, outputs - 2), "f4")
    for at_end in (False, True):
        made[:] = np.nan
        direct.call_fenced(code, [a.swapaxes(0, 1).copy(), d], [made], at_end=at_end)
        expected = np.einsum("tbk,tbn->kn", a, d[..., 1:-1], dtype=np.float64)
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kept_together", [False, True])
def test_what_a_program_turns_itself_is_taken_from_where_it_lay(kept_together, monkeypatch):
    """`jnp.swapaxes` before `scan`: XLA does it only for what is turned twice, or made before."""
    if not kept_together:
        monkeypatch.setattr(native, "run_accompanied", lambda *_, **__: None)
    w, init, xs = arguments("lstm", 9, 16)

    def loss(scan, turn, w, xs):
        last, ys = scan(lstm(w), init, turn(xs))
        return jnp.sin(ys).sum() + sum(c.sum() for c in last)

    def gradient(scan, turn):
        return jax.value_and_grad(functools.partial(loss, scan, turn))

    by_batch = jnp.swapaxes(xs, 0, 1)
    turns = {
        "once": (lambda x: jnp.swapaxes(x, 0, 1), by_batch, False),
        "more than that": (lambda x: 2 * jnp.swapaxes(x, 0, 1), by_batch, True),
        "other axes": (lambda x: jnp.transpose(x, (1, 2, 0)), jnp.transpose(xs, (2, 0, 1)), True),
        "twice": (lambda x: jnp.swapaxes(jnp.swapaxes(x, 0, 1), 0, 1), xs, False),
    }
    for turn, x, is_turned in turns.values():
        ours = gradient(recurrax.scan, turn)
        assert_same(jax.jit(ours)(w, x), jax.jit(gradient(jax.lax.scan, turn))(w, x), 2e-5)
        assert turned_by_xla(ours, w, x) == is_turned
