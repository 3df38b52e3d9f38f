"""Products made by the tiles of a loop themselves, some steps at a time."""

import functools

import direct
import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import draw
from recurrences import assert_same, lstm
from test_alongside import (
    CASES,
    FEATURES,
    UNITS,
    arguments,
    both_ways,
    company_found,
    gradient_of,
    weights,
)
from test_windows import AVX2

import recurrax
from recurrax.loop import scan_batch_major
from recurrax.loop.native.target import host
from recurrax.loop.runners import native
from recurrax.loop.runners.swapping import Swapping


def fenced(at_end):
    return functools.partial(direct.call_fenced, at_end=at_end)


SIZES = pytest.mark.parametrize(
    ("batch", "length", "threads", "reverse"),
    [
        (9, 30, 2, False),  # tiles of 5 and 4 rows; the last window is short
        (16, 24, 2, True),  # as many steps as one window has
        (33, 13, 2, False),  # a tile of 17 rows, and 13 steps: a window of 11, then single steps
        (70, 9, 2, True),  # three tiles, more than threads
        (2, 150, 1, False),  # one tile
    ],
)


@pytest.mark.parametrize("case", CASES)
@SIZES
def test_values_and_gradients_are_those_of_the_parts(case, batch, length, threads, reverse):
    args = arguments(case, length, batch)
    program = interpreter.traced(gradient_of(CASES[case][0], reverse), *args)
    loops = direct.Loops(threads, call=fenced(at_end=reverse), accompanied=True)
    assert_same(program(loops), program(), 4e-6)
    assert (loops.accompanied_loops, loops.swapped) == (2, 0)


@pytest.mark.parametrize("case", CASES)
@SIZES
def test_arrays_that_begin_with_the_batch(case, batch, length, threads, reverse):
    """They are read and written where they lie: what is multiplied, results, their cotangents."""
    w, init, xs = arguments(case, length, batch)
    args = w, init, jnp.swapaxes(xs, 0, 1)
    program = interpreter.traced(gradient_of(CASES[case][0], reverse, scan_batch_major), *args)
    loops = direct.Loops(threads, call=fenced(at_end=reverse), accompanied=True)
    assert_same(program(loops), program(), 4e-6)
    # x for each weight, y; backward x, the cotangent of y, that of x for each weight, and y where
    # it is kept.
    swapped = {"lstm": 1 + 1 + 1 + 1 + 1, "both ways": 2 + 1 + 1 + 1 + 2 + 1}
    assert (loops.accompanied_loops, loops.swapped) == (2, swapped[case])


def test_what_no_product_makes_begins_with_the_batch_too():
    """Masks with and without features, an x that is only added, results of two kinds."""

    def loss(w, init, xs):
        def step(h, given):
            x, more, mask, row_mask = given
            new = jnp.tanh(x @ w["kernel"] + h @ w["own"] + more)
            h = jnp.where(row_mask[:, None], jnp.where(mask, new, 0.5 * h), h)
            return h, (h, (h * more).sum(-1))

        _, ys = scan_batch_major(step, init, xs)
        return sum(jnp.sin(y).sum() for y in ys)

    w = {"kernel": draw(1, FEATURES, UNITS), "own": draw(2, UNITS, UNITS, scale=0.3)}
    batch, length = 21, 17
    marks = np.random.default_rng(0).random((batch, length, UNITS)) < 0.7
    xs = draw(4, batch, length, FEATURES), draw(5, batch, length, UNITS), marks, marks[..., 0]
    gradient = jax.value_and_grad(lambda w, init, *x: loss(w, init, (*x, *xs[2:])), (0, 1, 2, 3))
    program = interpreter.traced(gradient, w, draw(3, batch, UNITS), *xs[:2])
    for at_end in (False, True):
        loops = direct.Loops(2, call=fenced(at_end=at_end), accompanied=True)
        assert_same(program(loops), program(), 4e-6)
        assert loops.accompanied_loops == 2
        assert loops.swapped >= 12


def test_arrays_are_transposed_where_their_windows_would_not_stay_in_the_cache(monkeypatch):
    found = company_found(monkeypatch)
    init = (jnp.zeros((64, 256)),) * 2
    args = weights(96, 256), init, jnp.zeros((64, 24, 96))
    jax.jit(gradient_of(lstm, False, scan_batch_major)).lower(*args)
    assert [bool(f and f.windows) for f in found] == [True, False]
    assert found[0].swapping == Swapping()


def test_second_derivatives_and_batches_of_arrays_that_begin_with_the_batch():
    def of_bias(scan):
        def loss(bias, xs):
            w = weights() | {"bias": bias}
            (last, _), ys = scan(lstm(w), (jnp.zeros((9, UNITS)),) * 2, xs)
            return jnp.sin(last).sum() + jnp.cos(ys).sum()

        def twice(bias, xs):
            return jax.grad(lambda b, x: jnp.sum(jax.grad(loss)(b, x) ** 2), (0, 1))(bias, xs)

        return jax.jit(jax.vmap(twice, in_axes=(None, 0)))

    def by_time(step, init, xs):
        last, ys = jax.lax.scan(step, init, jnp.swapaxes(xs, 0, 1))
        return last, jnp.swapaxes(ys, 0, 1)

    for batch in (1, 2):
        bias, xs = weights()["bias"], draw(4, batch, 9, 31, FEATURES)
        assert_same(of_bias(scan_batch_major)(bias, xs), of_bias(by_time)(bias, xs), 2e-5)


def test_no_array_of_a_layer_is_transposed():
    args = arguments("lstm", 30, 16)
    args = *args[:2], jnp.swapaxes(args[2], 0, 1)
    compiled = jax.jit(gradient_of(lstm, False, scan_batch_major)).lower(*args).compile()
    assert " transpose(" not in compiled.as_text() and " copy(" not in compiled.as_text()


@pytest.mark.parametrize("target", [direct.SSE, AVX2])
def test_other_processors(target):
    if not host().is_x86 or host().vector_bytes < target.vector_bytes:
        pytest.skip("this processor does not run it")
    args = arguments("both ways", 31, 9)
    program = interpreter.traced(gradient_of(both_ways, False), *args)
    loops = direct.Loops(2, target, accompanied=True)
    assert_same(program(loops), program(), 4e-6)
    assert loops.accompanied_loops == 2


def test_a_product_that_is_a_result_too():
    """What leaves the loop has its memory, and products read it again from there."""

    def loss(w, taps, init, xs):
        def step(h, x):
            x, tap = x
            h = jnp.tanh(x @ w["kernel"] + h @ w["own"] + tap)
            return h, h

        return jnp.sin(recurrax.scan(step, init, (xs, taps))[1]).sum()

    w = {"kernel": draw(1, FEATURES, UNITS), "own": draw(2, UNITS, UNITS, scale=0.3)}
    args = w, draw(3, 40, 9, UNITS), draw(4, 9, UNITS), draw(5, 40, 9, FEATURES)
    program = interpreter.traced(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)), *args)
    loops = direct.Loops(2, call=fenced(at_end=True), accompanied=True)
    assert_same(program(loops), program(), 4e-6)
    assert loops.accompanied_loops == 2


def test_parts_of_one_stack():
    """A gate of its own weight reads a range of the columns of what another reads whole."""

    def loss(w, init, xs):
        def step(h, x):
            z = x @ w["kernel"]
            r = jax.nn.sigmoid(z[:, :UNITS] + h @ w["first"])
            h = jnp.tanh(z[:, UNITS:] + (r * h) @ w["second"])
            return h, h

        return jnp.sin(recurrax.scan(step, init, xs)[1]).sum()

    w = {"kernel": draw(1, FEATURES, 2 * UNITS), "first": draw(2, UNITS, UNITS, scale=0.3)}
    w["second"] = draw(3, UNITS, UNITS, scale=0.3)
    args = w, draw(4, 19, UNITS), draw(5, 26, 19, FEATURES)
    program = interpreter.traced(jax.value_and_grad(loss, argnums=(0, 1, 2)), *args)
    loops = direct.Loops(2, call=fenced(at_end=False), accompanied=True)
    assert_same(program(loops), program(), 4e-6)
    assert loops.accompanied_loops == 2


@pytest.mark.parametrize(
    ("length", "units", "taken"), [(24, UNITS, True), (7, UNITS, False), (24, 320, False)]
)
def test_a_loop_lets_steps_pass_if_it_is_long_and_its_weights_are_small(
    length, units, taken, monkeypatch
):
    found = company_found(monkeypatch)
    init = (jnp.zeros((32, units)),) * 2
    args = weights(units=units), init, jnp.zeros((length, 32, FEATURES))
    jax.jit(gradient_of(lstm, False)).lower(*args)
    assert [bool(f and f.windows) for f in found] == [taken, taken]


def test_one_kernel_serves_all_lengths_that_suit_its_windows(monkeypatch):
    names = set()
    ensure = native.ensure
    monkeypatch.setattr(native, "ensure", lambda n, *rest: (names.add(n), ensure(n, *rest)))
    monkeypatch.setattr(native, "thread_count", lambda: 2)
    for length in (20, 40, 70):  # windows of 10 steps
        jax.jit(gradient_of(lstm, False)).lower(*arguments("lstm", length, 32))
    assert len(names) == 2


@pytest.mark.parametrize("scan", [recurrax.scan, scan_batch_major])
def test_double_precision(scan):
    w, init, xs = arguments("lstm", 30, 9)
    xs = jnp.swapaxes(xs, 0, 1) if scan is scan_batch_major else xs
    args = jax.tree.map(lambda a: np.asarray(a, np.float64), (w, init, xs))
    with jax.enable_x64(True):
        program = interpreter.traced(gradient_of(lstm, False, scan), *args)
        loops = direct.Loops(2, accompanied=True)
        assert_same(program(loops), program(), 1e-13)
    assert loops.accompanied_loops == 2


def test_each_call_gives_the_same_to_the_last_bit():
    """Whichever thread took which tile, parts are added up in one order."""
    compute, args = jax.jit(gradient_of(lstm, False)), arguments("lstm", 40, 70)
    first = jax.tree.map(np.asarray, compute(*args))
    for _ in range(20):
        jax.tree.map(np.testing.assert_array_equal, compute(*args), first)
