"""What a tile needs at its next step is asked for while a product runs."""

import ctypes

import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_like_xla, body_of, draw

from recurrax.loop.native import kernel, microkernel
from recurrax.loop.native.emit import Module, i8
from recurrax.loop.native.lower import lower
from recurrax.loop.native.microkernel import Operand, Shape, block_for, emit_product, even
from recurrax.loop.native.panels import Layout
from recurrax.loop.native.target import host
from recurrax.loop.native.tile import TileCode

REGISTERS = host().registers


def shape(rows, inputs, outputs, lines=()):
    lanes = host().lanes(32)
    layout = Layout(inputs, outputs, lanes, block_for(REGISTERS).vectors)
    blocks = even(rows, block_for(REGISTERS).rows)
    return Shape(blocks, "f32", Operand.by_rows(inputs), outputs, (), layout, lines)


@pytest.mark.parametrize("rows", [1, 3, 8, 17, 32])
@pytest.mark.parametrize("outputs", [1, 40, 48, 130, 512])
def test_blocks_are_numbered_and_cover_all_outputs(rows, outputs):
    made = shape(rows, 5, outputs)
    column = blocks = 0
    for run in made.runs(REGISTERS):
        assert (run.column, run.first) == (column, blocks)
        assert run.times > 0
        column += run.times * run.width
        blocks += run.times * made.row_blocks
    assert column == outputs


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs", "lines"),
    [(16, 128, 512, (128, 512, 5)), (9, 33, 70, (17, 1)), (8, 64, 130, (40,)), (32, 7, 48, (4, 4))],
)
def test_a_product_asks_for_every_line_and_no_other(
    rows, inputs, outputs, lines, backwards, monkeypatch
):
    def mark(b, address, *, to_write):
        assert not to_write
        b.store(i8(1), address)

    monkeypatch.setattr(microkernel, "prefetch", mark)
    module = Module("product", host())
    made = shape(rows, inputs, outputs, lines)
    assert made.can_fetch(REGISTERS)
    emit_product(module, "product", made, REGISTERS).linkage = "external"
    engine = kernel._linked(kernel.compile_module(module, host()), "product")
    marked = [np.zeros((n + 20, 64), np.uint8) for n in lines]
    operand, panels = np.zeros((rows, inputs), "f4"), np.zeros(made.layout.size, "f4")
    result = np.zeros((rows, outputs), "f4")
    call = ctypes.CFUNCTYPE(None, *4 * [ctypes.c_size_t], *len(lines) * [ctypes.c_size_t])(
        engine.get_function_address("product")
    )
    # asked for with ten lines on either side, which must be left alone
    places = [m.ctypes.data + 640 for m in marked]
    call(operand.ctypes.data, panels.ctypes.data, result.ctypes.data, int(backwards), *places)
    for count, lines_there in zip(lines, marked, strict=True):
        expected = np.zeros((count + 20, 64), np.uint8)
        expected[10 : count + 10, 0] = 1
        np.testing.assert_array_equal(lines_there, expected)


@pytest.mark.parametrize(
    ("rows", "units", "asking"),
    [(16, 64, True), (2, 64, False), (16, 1, False), (16, 800, False)],
)
def test_the_product_of_a_step_asks_if_there_is_time(rows, units, asking):
    consts, carry = (draw(1, units, units, scale=0.3 / units**0.5),), (draw(2, 2 * rows, units),)
    xs = (draw(3, 6, 2 * rows, units),)

    def step(c, s, x):
        z = s[0] @ c[0] + x[0]
        return (jnp.tanh(z),), (z,)

    lowered = lower(body_of(step, consts, carry, xs))
    module = Module("m", host())
    code = TileCode(module, kernel.scheduled(lowered, host()), host(), False, 3)
    code.emit(rows)
    (product,) = code._products
    lines = -(-rows * units * 4 // 64)
    assert product.fetched == ((lines, lines) if asking else ())
    assert ("llvm.prefetch" in str(module)) == (units > 1)
    assert_like_xla(step, consts, carry, xs)
