"""A weight laid out for the product kernel: panels a few vectors wide, each with its rows in order.

A panel of v vectors holds, for each input in turn, the v · lanes outputs that the kernel keeps in
registers; the last panel is filled up with zeros. Panels stand one after another. Where packing
takes longer than the products, the kernel reads the weight where it lies, with the same borders.
"""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Register,
    at,
    function,
    i64,
    integer,
    loop,
    pointer,
    transposed,
    void,
    zero,
)
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import Lanes


@dataclasses.dataclass(frozen=True)
class Panel:
    """Vectors `first`, `first + vectors` of all outputs; `count` such panels follow one another."""

    column: int
    vectors: int
    count: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """The panels of a weight of `inputs` × `outputs`.

    `in_place` is the distance between the inputs of a weight that is not packed, or 0.
    """

    inputs: int
    outputs: int
    lanes: int
    widest: int
    in_place: int = 0

    @property
    def size(self) -> int:
        """Numbers in all panels."""
        return self.inputs * self.vectors * self.lanes

    @property
    def vectors(self) -> int:
        return -(-self.outputs // self.lanes)

    def panels(self) -> list[Panel]:
        """Runs of panels of one width, as wide as can be and as even as can be."""
        number = -(-self.vectors // self.widest)
        narrow, wide = divmod(self.vectors, number)
        runs = [Panel(0, narrow + 1, wide)] if wide else []
        runs.append(Panel(wide * (narrow + 1) * self.lanes, narrow, number - wide))
        return runs

    def used(self, column: int) -> int:
        """How many lanes of the vector at `column` are outputs."""
        return max(0, min(self.lanes, self.outputs - column))


def emit_pack(
    module: ir.Module, name: str, weight: Weight, layout: Layout, kind: str
) -> ir.Function:
    """`void pack(weight, panels)`: copies, widens and, where it must, transposes."""
    made, b = function(module, name, void, [pointer, pointer])
    source, target = made.args
    stored = memory.stored_type(memory.SPILLED[kind])
    lanes = layout.lanes
    for run in layout.panels():
        width = run.vectors * lanes
        tail = run.column + (run.count - 1) * width
        partial = layout.outputs < tail + width
        whole = run.count - partial

        def panel(column, used: int, width: int = width) -> None:
            base = at(b, target, stored, b.mul(column, integer(layout.inputs)))
            if weight.output_stride == 1:
                _copy_rows(b, source, base, weight, column, used, width, lanes, layout, kind)
            else:
                _copy_columns(b, source, base, weight, column, used, width, layout, kind)

        if whole:
            last = run.column + whole * width
            loop(b, run.column, last, width, [], lambda c, _, p=panel, w=width: p(c, w))
        if partial:
            panel(integer(tail), layout.outputs - tail)
    b.ret_void()
    return made


def _copy_rows(b, source, base, weight, column, used, width, lanes, layout, kind) -> None:
    """Outputs are neighbours in the weight: a panel's row is a few vectors of the weight's."""
    spilled = memory.SPILLED[kind]

    def row(k: Register, _) -> None:
        start = b.add(b.mul(k, integer(weight.input_stride)), column)
        for v in range(0, width, lanes):
            here = Lanes(lanes, max(0, min(lanes, used - v)))
            if here.used:
                places = [weight.offset, start, v]
                vector = memory.load(b, source, weight.dtype, places, here)
            else:
                vector = zero(here.type(memory.TYPES[kind]))
            memory.store(
                b, vector, base, spilled, [b.mul(k, integer(width)), v], Lanes(lanes, lanes)
            )

    loop(b, 0, layout.inputs, 1, [], row)


def _copy_columns(b, source, base, weight, column, used, width, layout, kind) -> None:
    """Inputs are neighbours, or nothing is: in squares where they are whole, else one by one."""
    lanes = layout.lanes
    in_squares = weight.input_stride == 1 and used >= lanes and layout.inputs >= lanes
    inputs = layout.inputs - layout.inputs % lanes if in_squares else 0
    outputs = used - used % lanes if in_squares else 0
    spilled = memory.SPILLED[kind]

    def squares(k: Register, _) -> None:
        def square(place: Register, _) -> None:
            start = b.mul(b.add(column, place), integer(weight.output_stride))
            here = at(b, source, memory.stored_type(weight.dtype), start, k, weight.offset)
            row = b.mul(k, integer(width))
            there = at(b, base, memory.stored_type(spilled), row, place)
            b.call(turned, [here, there, integer(weight.output_stride), integer(width)])

        loop(b, 0, outputs, lanes, [], square)

    turned = _square(b.module, weight.dtype, kind, lanes) if in_squares else None

    def output(c: Register, first: int) -> None:
        start = b.mul(b.add(column, c), integer(weight.output_stride))

        def one(k: Register, _) -> None:
            place = b.add(start, b.mul(k, integer(weight.input_stride)))
            number = memory.load(b, source, weight.dtype, [weight.offset, place], Lanes.scalar())
            to = b.add(b.mul(k, integer(width)), c)
            memory.store(b, number, base, spilled, [to], Lanes.scalar())

        loop(b, first, layout.inputs, 1, [], one)

    def nothing(c: Register, _) -> None:
        def one(k: Register, _) -> None:
            to = b.add(b.mul(k, integer(width)), c)
            memory.store(b, zero(memory.TYPES[kind]), base, spilled, [to], Lanes.scalar())

        loop(b, 0, layout.inputs, 1, [], one)

    loop(b, 0, inputs, lanes, [], squares)
    if inputs < layout.inputs:
        loop(b, 0, outputs, 1, [], lambda c, _: output(c, inputs))
    loop(b, outputs, used, 1, [], lambda c, _: output(c, 0))
    loop(b, used, width, 1, [], nothing)


def _square(module: ir.Module, dtype: str, kind: str, lanes: int) -> ir.Function:
    """`void square(source, target, between, apart)`: a square of numbers, turned in registers.

    Its rows lie `between` numbers apart in the source, and `apart` in the target. It is a function
    of its own since LLVM takes long over so many shuffles: a module has them once.
    """
    name = f"square_{dtype}_{kind}"
    known = module.globals.get(name)
    if known is not None:
        return known
    made, b = function(module, name, void, [pointer, pointer, i64, i64])
    source, target, between, apart = made.args
    whole = Lanes(lanes, lanes)
    rows = [
        memory.load(b, source, dtype, [b.mul(integer(i), between)], whole) for i in range(lanes)
    ]
    for j, row in enumerate(transposed(b, rows)):
        memory.store(b, row, target, memory.SPILLED[kind], [b.mul(integer(j), apart)], whole)
    b.ret_void()
    return made
