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
from recurrax.loop.native.target import host
from recurrax.loop.runners import native


def fenced(at_end):
    return functools.partial(direct.call_fenced, at_end=at_end)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("batch", "length", "threads", "reverse"),
    [
        (9, 30, 2, False),  # tiles of 5 and 4 rows; the last window is short
        (16, 24, 2, True),  # as many steps as one window has
        (33, 13, 2, False),  # a tile of 17 rows, and 13 steps: a window of 11, then single steps
        (70, 9, 2, True),  # three tiles, more than threads
        (2, 150, 1, False),  # one tile
    ],
)
def test_values_and_gradients_are_those_of_the_parts(case, batch, length, threads, reverse):
    args = arguments(case, length, batch)
    program = interpreter.traced(gradient_of(CASES[case][0], reverse), *args)
    loops = direct.Loops(threads, call=fenced(at_end=reverse), accompanied=True)
    assert_same(program(loops), program(), 4e-6)
    assert loops.accompanied_loops == 2


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


def test_double_precision():
    args = jax.tree.map(lambda a: np.asarray(a, np.float64), arguments("lstm", 30, 9))
    with jax.enable_x64(True):
        program = interpreter.traced(gradient_of(lstm, False), *args)
        loops = direct.Loops(2, accompanied=True)
        assert_same(program(loops), program(), 1e-13)
    assert loops.accompanied_loops == 2


def test_each_call_gives_the_same_to_the_last_bit():
    """Whichever thread took which tile, parts are added up in one order."""
    compute, args = jax.jit(gradient_of(lstm, False)), arguments("lstm", 40, 70)
    first = jax.tree.map(np.asarray, compute(*args))
    for _ in range(20):
        jax.tree.map(np.testing.assert_array_equal, compute(*args), first)
