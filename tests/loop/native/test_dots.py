"""Products of one row with weights that lie the other way round, read where they lie."""

import ctypes

import numpy as np
import pytest
from against_xla import assert_like_xla, body_of, draw
from direct import SSE

from recurrax.loop.native import kernel
from recurrax.loop.native.dots import Dots, emit_dots
from recurrax.loop.native.emit import Module
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import host
from recurrax.loop.native.tile import TileCode

SIZES = [1, 3, 7, 16, 17, 33, 70, 129]
TARGETS = {"host": host(), **({"sse": SSE} if host().is_x86 else {})}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("inputs", SIZES)
def test_each_output_is_a_dot_product_and_nothing_beside_is_read_or_written(inputs, target, dtype):
    bits, target = np.dtype(dtype).itemsize * 8, TARGETS[target]
    apart, module = inputs + 2, Module("m", target)
    for outputs in SIZES:
        dots = Dots(inputs, outputs, apart, f"f{bits}", target.lanes(bits), (dtype,))
        emit_dots(module, f"product{outputs}", dots).linkage = "external"
    engine = kernel._linked(kernel.compile_module(module, target), "product1")
    arguments = [*[ctypes.c_size_t] * 3, ctypes.c_bool, ctypes.c_size_t]
    random = np.random.default_rng(inputs)
    for outputs in SIZES:
        run = ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address(f"product{outputs}"))
        # What is no argument is NaN.
        weight = np.full((outputs + 1, apart), np.nan, dtype)
        row, addend, result = (np.full(n + 2, np.nan, dtype) for n in (inputs, outputs, outputs))
        weight[1:, :inputs] = random.normal(size=(outputs, inputs))
        row[1:-1], addend[1:-1] = random.normal(size=inputs), random.normal(size=outputs)
        w, x, a = (v.astype("f8") for v in (weight[1:, :inputs], row[1:-1], addend[1:-1]))
        bound = (inputs + 2) * np.finfo(dtype).eps * (np.abs(w) @ np.abs(x) + np.abs(a))
        given, to, added = (v[1:].ctypes.data for v in (row, result, addend))
        made = []
        for backwards in (False, True):
            result[:] = np.nan
            run(given, weight[1:].ctypes.data, to, backwards, added)
            assert np.isnan(result[[0, -1]]).all()
            assert (np.abs(result[1:-1] - (w @ x + a)) <= bound).all()
            made.append(result.copy())
        np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    "steps, rows, inputs, outputs, stays",
    [
        (40, 1, 70, 33, True),
        (40, 1, 256, 128, True),
        (40, 3, 70, 33, False),
        (40, 1, 1030, 257, False),
        (4, 1, 1030, 257, True),
        (4, 2, 70, 33, False),
    ],
)
def test_a_turned_weight_stays_for_one_row_if_it_is_small_or_the_loop_is_short(
    steps, rows, inputs, outputs, stays, monkeypatch
):
    def step(consts, carry, xs):
        return (xs[0] @ consts[0].T + carry[0] / 2,), ()

    made = []

    class Watched(TileCode):
        def emit(self, rows):
            made.append(self.weights)
            return super().emit(rows)

    w, carry, x = draw(0, outputs, inputs), draw(1, rows, outputs), draw(2, steps, rows, inputs)
    monkeypatch.setattr(kernel, "TileCode", Watched)
    lowered = lower(body_of(step, (w,), (carry,), (x,)))
    kernel.build_loop(lowered, host(), False, steps, threads=1)
    assert all(bool(weights.packed) != stays for weights in made) and made
    assert_like_xla(step, (w,), (carry,), (x,))
