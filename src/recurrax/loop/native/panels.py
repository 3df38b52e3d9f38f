"""A weight laid out for the product kernel: panels a few vectors wide, each with its rows in order.

A panel of v vectors holds, for each input in turn, the v · lanes outputs that the kernel keeps in
registers; the last panel is filled up with zeros. Panels stand one after another. Where packing
takes longer than the products, the kernel reads the weight where it lies, with the same borders.
"""

import dataclasses
from collections.abc import Callable

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Builder,
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


def over_panels(b: Builder, layout: Layout, panel: Callable[[Register, int, int], None]) -> None:
    """`panel(column, outputs that it has, vectors)` for each panel: the last may be filled up."""
    for run in layout.panels():
        width = run.vectors * layout.lanes
        tail = run.column + (run.count - 1) * width
        partial = layout.outputs < tail + width
        last = run.column + (run.count - partial) * width
        loop(b, run.column, last, width, [], lambda c, _, w=width, v=run.vectors: panel(c, w, v))
        if partial:
            panel(integer(tail), layout.outputs - tail, run.vectors)


def emit_pack(
    module: ir.Module, name: str, weight: Weight, layout: Layout, kind: str
) -> ir.Function:
    """`void pack(weight, panels, first, stop)`: copies, widens and, where it must, transposes the
    inputs from `first` on, a multiple of the lanes, to `stop`."""
    made, b = function(module, name, void, [pointer, pointer, i64, i64])
    first, stop = made.args[2:]
    lanes = layout.lanes
    pack = _Pack(b, made.args[0], made.args[1], weight, layout, kind)
    whole = integer(layout.inputs - layout.inputs % lanes)
    last = b.select(b.icmp_signed("<", stop, whole), stop, whole)
    with b.if_then(b.icmp_signed("<", first, last)):
        loop(b, first, last, lanes, [], lambda k, _: pack.strip(k, lanes))
    if layout.inputs % lanes:
        with b.if_then(b.icmp_signed(">", stop, whole)):
            pack.strip(whole, layout.inputs % lanes)
    b.ret_void()
    return made


class _Pack:
    """Emits how a weight's inputs are packed, as many at a time as there are lanes, or fewer: what
    is read and what is written then lies in a few places each."""

    def __init__(self, b, source, target, weight: Weight, layout: Layout, kind: str):
        self._b, self._source, self._target = b, source, target
        self._weight, self._layout, self._kind = weight, layout, kind
        self._dtype = memory.SPILLED[kind]
        self._stored = memory.stored_type(self._dtype)

    def strip(self, k: Register, count: int) -> None:
        """Pack `count` inputs from `k` on."""
        b, layout = self._b, self._layout

        def panel(column: Register, used: int, vectors: int) -> None:
            width = vectors * layout.lanes
            start = b.add(b.mul(column, integer(layout.inputs)), b.mul(k, integer(width)))
            base = at(b, self._target, self._stored, start)
            if self._weight.output_stride == 1:
                self._rows(base, k, count, column, used, width)
            else:
                self._columns(base, k, count, column, used, width)

        over_panels(b, layout, panel)

    def _rows(self, base, k, count: int, column, used: int, width: int) -> None:
        """Outputs are neighbours in the weight: a panel's row is a few vectors of the weight's."""
        b, weight, lanes = self._b, self._weight, self._layout.lanes

        def row(i: Register, _) -> None:
            start = b.add(b.mul(b.add(k, i), integer(weight.input_stride)), column)
            for v in range(0, width, lanes):
                here = Lanes(lanes, max(0, min(lanes, used - v)))
                if here.used:
                    places = [weight.offset, start, v]
                    vector = memory.load(b, self._source, weight.dtype, places, here)
                else:
                    vector = zero(here.type(memory.TYPES[self._kind]))
                places = [b.mul(i, integer(width)), v]
                memory.store(b, vector, base, self._dtype, places, Lanes(lanes, lanes))

        loop(b, 0, count, 1, [], row)

    def _columns(self, base, k, count: int, column, used: int, width: int) -> None:
        """Inputs are neighbours, or nothing is: in squares where these are whole, else singly."""
        b, weight, lanes = self._b, self._weight, self._layout.lanes
        in_squares = weight.input_stride == 1 and count == lanes
        turned = used - used % lanes if in_squares else 0
        if turned:
            callee = _square(b.module, weight.dtype, self._kind, lanes)
            type_ = memory.stored_type(weight.dtype)

            def square(place: Register, _) -> None:
                start = b.mul(b.add(column, place), integer(weight.output_stride))
                here = at(b, self._source, type_, start, k, weight.offset)
                there = at(b, base, self._stored, place)
                b.call(callee, [here, there, integer(weight.output_stride), integer(width)])

            loop(b, 0, turned, lanes, [], square)

        def output(c: Register, _) -> None:
            start = b.mul(b.add(column, c), integer(weight.output_stride))

            def one(i: Register, _) -> None:
                place = b.add(start, b.mul(b.add(k, i), integer(weight.input_stride)))
                places, here = [weight.offset, place], Lanes.scalar()
                put(i, c, memory.load(b, self._source, weight.dtype, places, here))

            loop(b, 0, count, 1, [], one)

        def put(i: Register, c: Register, number: Register) -> None:
            to = b.add(b.mul(i, integer(width)), c)
            memory.store(b, number, base, self._dtype, [to], Lanes.scalar())

        def nothing(c: Register, _) -> None:
            number = zero(memory.TYPES[self._kind])
            loop(b, 0, count, 1, [], lambda i, _: put(i, c, number))

        loop(b, turned, used, 1, [], output)
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
