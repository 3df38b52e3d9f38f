"""What a tile needs at its next step is asked for while a product runs."""

import ctypes
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_like_xla, body_of, draw

from recurrax.loop.native import kernel, microkernel
from recurrax.loop.native.emit import Module, i8
from recurrax.loop.native.lower import lower
from recurrax.loop.native.microkernel import Lines, Operand, Shape, block_for, emit_product, even
from recurrax.loop.native.panels import Layout
from recurrax.loop.native.target import host
from recurrax.loop.native.tile import TileCode

REGISTERS = host().registers


def shape(rows, inputs, outputs, lines=()):
    lanes = host().lanes(32)
    layout = Layout(inputs, outputs, lanes, block_for(REGISTERS).vectors)
    blocks = even(rows, block_for(REGISTERS).rows)
    return Shape(blocks, "f32", Operand.by_rows(inputs), outputs, (), layout, tuple(lines))


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


def compiled(made):
    """The product as a function of addresses; what it asks for, it sets to 1 or, to write, 2."""
    module = Module("product", host())
    emit_product(module, "product", made, REGISTERS).linkage = "external"
    engine = kernel._linked(kernel.compile_module(module, host()), "product")
    takes = [ctypes.c_size_t] * (4 + len(made.fetched))
    call = ctypes.CFUNCTYPE(None, *takes)(engine.get_function_address("product"))
    return engine, call


def mark(b, address, *, to_write):
    b.store(i8(1 + to_write), address)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs", "lines"),
    [
        (16, 128, 512, (Lines(128), Lines(512), Lines(5))),
        (9, 33, 70, (Lines(17), Lines(1))),
        (8, 64, 130, (Lines(40),)),
        (32, 7, 48, (Lines(4), Lines(4))),
        (32, 64, 130, (Lines(6, runs=64, apart=640),)),
        (24, 33, 70, (Lines(1, runs=33, apart=128),)),
    ],
)
def test_a_product_asks_for_every_line_and_no_other(
    rows, inputs, outputs, lines, backwards, monkeypatch
):
    monkeypatch.setattr(microkernel, "prefetch", mark)
    made = shape(rows, inputs, outputs, lines)
    assert made.can_fetch(REGISTERS)
    engine, call = compiled(made)
    # asked for with ten lines on either side, which must be left alone
    sizes = [n.count + (n.runs - 1) * n.apart // 64 + 20 for n in lines]
    marked = [np.zeros((size, 64), np.uint8) for size in sizes]
    operand, panels = np.zeros((rows, inputs), "f4"), np.zeros(made.layout.size, "f4")
    result = np.zeros((rows, outputs), "f4")
    places = [m.ctypes.data + 640 for m in marked]
    call(operand.ctypes.data, panels.ctypes.data, result.ctypes.data, int(backwards), *places)
    for n, size, lines_there in zip(lines, sizes, marked, strict=True):
        expected = np.zeros((size, 64), np.uint8)
        for run in range(n.runs):
            start = 10 + run * n.apart // 64
            expected[start : start + n.count, 0] = 1
        np.testing.assert_array_equal(lines_there, expected)
    del engine


def test_a_product_asks_for_where_its_next_block_goes(monkeypatch):
    """A result out of the caches, of which each block reads and writes its own."""
    monkeypatch.setattr(microkernel, "prefetch", mark)
    block = block_for(REGISTERS)
    rows, outputs = 3 * block.rows, block.vectors * host().lanes(32)
    made = dataclasses.replace(shape(rows, 4, outputs), adds_up=True, is_far=True)
    engine, call = compiled(made)
    operand, panels = np.zeros((rows, 4), "f4"), np.zeros(made.layout.size, "f4")
    result = np.zeros((rows + block.rows, outputs), "f4")
    call(operand.ctypes.data, panels.ctypes.data, result.ctypes.data, 0)
    del engine
    bits = result.view(np.uint32)
    apart = host().lanes(32)
    # a block's sums start from what was marked, and what it writes is what it read
    assert (bits[block.rows :, ::apart] == 2).all()
    assert np.count_nonzero(bits) == np.count_nonzero(bits[block.rows :, ::apart])


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
    assert product.fetched == ((Lines(lines), Lines(lines)) if asking else ())
    assert ("llvm.prefetch" in str(module)) == (units > 1)
    assert_like_xla(step, consts, carry, xs)
