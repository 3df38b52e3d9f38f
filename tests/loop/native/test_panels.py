"""Weights in panels, as they are and transposed, of sizes that leave something over."""

import ctypes
import itertools
import sys

import jax
import numpy as np
import pytest
from against_xla import assert_like_xla, body_of, draw, run_native

from recurrax.loop.native import kernel
from recurrax.loop.native.emit import Module
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import host
from recurrax.loop.native.tile import TileCode
from recurrax.loop.native.weights import Weights


@pytest.mark.parametrize("inputs, outputs", [(16, 16), (17, 33), (40, 24), (5, 70), (129, 65)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_transposed_weight_gives_the_product_of_its_transpose(inputs, outputs, dtype):
    with jax.enable_x64(dtype == np.float64):
        w, x = draw(0, outputs, inputs, dtype=dtype), draw(1, 3, 4, inputs, dtype=dtype)
        body = body_of(lambda c, s, x: ((x[0] @ c[0].T,), ()), (w,), (x[0] @ w.T,), (x,))
        ((last,), _) = run_native(body, [w], [x[0] @ w.T], [x])
        x64, w64 = np.asarray(x[-1], np.float64), np.asarray(w, np.float64)
        bound = 4 * np.finfo(dtype).eps * (np.abs(x64) @ np.abs(w64).T)
        assert (np.abs(last - x64 @ w64.T) <= bound).all()


@pytest.mark.parametrize("steps, rows", [(1, 1), (4, 1), (1, 3), (2, 8)])
@pytest.mark.parametrize("inputs, outputs", [(3, 1), (16, 48), (17, 33), (129, 70)])
def test_weights_of_short_loops_are_read_where_they_lie(steps, rows, inputs, outputs):
    w, x = draw(0, inputs + 2, outputs + 3), draw(1, steps, rows, inputs)

    def step(consts, carry, xs):
        return (xs[0] @ consts[0][1:-1, 2:-1] + carry[0],), (xs[0] @ consts[0][2:, :outputs],)

    carry = draw(2, rows, outputs)
    lowered = lower(body_of(step, (w,), (carry,), (x,)))
    assert kernel.is_short(lowered, steps) and not kernel.is_short(lowered, 17)
    code = TileCode(
        Module("m", host()), kernel.scheduled(lowered, host()), host(), False, rows, sys.maxsize
    )
    assert not code.weights.packed
    assert_like_xla(step, (w,), (carry,), (x,))


@pytest.mark.parametrize("outputs", [7, 130, 400])
def test_a_single_row_reads_its_weights_where_they_lie_in_long_loops(outputs):
    w, x = draw(0, 21, outputs), draw(1, 20, 1, 21)

    def step(consts, carry, xs):
        return (xs[0] @ consts[0] + carry[0],), ()

    assert_like_xla(step, (w,), (draw(2, 1, outputs),), (x,))


def panels_of(w, layout):
    """What packing `w`, inputs × outputs, should give."""
    made = []
    for run in layout.panels():
        for k in range(run.count):
            width = run.vectors * layout.lanes
            panel = np.zeros((layout.inputs, width), w.dtype)
            part = w[:, run.column + k * width :][:, :width]
            panel[:, : part.shape[1]] = part
            made.append(panel.ravel())
    return np.concatenate(made)


@pytest.mark.parametrize("inputs, outputs", [(3, 1), (16, 48), (40, 24), (129, 700), (1000, 90)])
@pytest.mark.parametrize("transposed", [False, True])
def test_threads_may_pack_a_weight_in_parts(inputs, outputs, transposed):
    w = np.array(draw(0, inputs, outputs))
    module = Module("m", host())
    weights = Weights(module, host().lanes(32), 3, 0)
    strides = (1, inputs) if transposed else (outputs, 1)
    weight = Weight(0, "float32", 0, inputs, outputs, *strides)
    weights.add(weight, "f32")
    (packed,) = weights.packed.values()
    packed.pack.linkage = "external"
    engine = kernel._linked(kernel.compile_module(module, host()), packed.pack.name)
    pack = ctypes.CFUNCTYPE(None, *[ctypes.c_size_t] * 4)(
        engine.get_function_address(packed.pack.name)
    )
    layout = weights.layout(weight, "f32")
    given = np.ascontiguousarray(w.T if transposed else w)
    bounds = [*range(0, inputs, packed.inputs), inputs]
    assert len(bounds) - 1 == packed.parts == weights.parts
    assert packed.parts > 1 or inputs * outputs < 1 << 14
    for order in (slice(None), slice(None, None, -1)):
        made = np.full(layout.size + 2, np.nan, "f4")
        for first, stop in list(itertools.pairwise(bounds))[order]:
            pack(given.ctypes.data, made.ctypes.data + 4, first, stop)
        np.testing.assert_array_equal(made[1:-1], panels_of(w, layout))
        assert np.isnan(made[[0, -1]]).all()
