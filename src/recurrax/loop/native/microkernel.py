"""The product of a tile's rows with a packed weight, blocks of it held in registers.

A block is a few rows by a few vectors of outputs: for each input, one number of each row is spread
over a vector and multiplied into the block. Its sums start from the addends and are written once.
Blocks are as even as the tile allows, so that no thin block is left over at the end.
"""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Register,
    at,
    function,
    i1,
    integer,
    loop,
    pointer,
    splat,
    void,
    zero,
)
from recurrax.loop.native.functions import fma
from recurrax.loop.native.memory import TYPES, Lanes
from recurrax.loop.native.panels import Layout

_UNROLL = 2


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows × vectors that fit the registers together with what they are made from."""

    rows: int
    vectors: int


@dataclasses.dataclass(frozen=True)
class Addend:
    """What the sums start from: its dtype in memory, and the distance between its rows (or 0)."""

    dtype: str
    stride: int


@dataclasses.dataclass(frozen=True)
class Operand:
    """Strides of the left operand: from block to block for each row, from row to row, from input
    to input."""

    block: int
    row: int
    input: int

    @classmethod
    def by_rows(cls, stride: int) -> "Operand":
        """Rows that lie `stride` apart."""
        return cls(stride, stride, 1)

    @classmethod
    def by_blocks(cls, inputs: int, rows: int) -> "Operand":
        """Blocks of `rows` rows, in each all rows of the first input, then of the second, ..."""
        return cls(inputs, 1, rows)


@dataclasses.dataclass(frozen=True)
class Shape:
    """All that a product kernel is specialised to; `blocks` are (rows, times), in order."""

    blocks: tuple[tuple[int, int], ...]
    kind: str
    operand: Operand
    result_stride: int
    addends: tuple[Addend, ...]
    layout: Layout

    @property
    def rows(self) -> int:
        return sum(size * times for size, times in self.blocks)


def block_for(registers: int) -> Block:
    """Found by measurement: the largest block whose sums LLVM keeps in registers.

    With 32 registers, 4×4 to 14×2 are all within a twentieth of the processor's peak; of those, 8×3
    goes over the weight least often, which is what counts once it does not fit a cache.
    """
    return Block(8, 3) if registers >= 32 else Block(4, 3)


def even(count: int, largest: int) -> tuple[tuple[int, int], ...]:
    """`count` things as runs (size, times) of at most `largest`, sizes differing by one at most."""
    number = -(-count // largest)
    small, more = divmod(count, number)
    runs = ((small + 1, more),) if more else ()
    return (*runs, (small, number - more))


def emit_product(module: ir.Module, name: str, shape: Shape, registers: int) -> ir.Function:
    """`void product(operand, panels, result, backwards, addends...)`.

    The panels are gone over from the last to the first where `backwards` is true. Every other step
    does so when a weight is larger than a cache: what the step before used last is still in it.
    """
    arguments = [pointer] * 3 + [i1] + [pointer] * len(shape.addends)
    made, b = function(module, name, void, arguments)
    backwards = made.args[3]
    block = block_for(registers)
    layout, lanes = shape.layout, shape.layout.lanes
    for run in layout.panels():
        width = run.vectors * lanes
        together = max(1, block.rows * block.vectors // (shape.rows * run.vectors))
        partial = layout.outputs < run.column + run.count * width
        whole = run.count - partial
        grouped = whole - whole % together

        def panels(column, count: int, used: int, vectors: int = run.vectors) -> None:
            row = 0
            for size, times in shape.blocks:
                emit = _Emitter(b, made.args, shape, vectors, count, used)
                if times == 1:
                    emit.block(size, integer(row), column)
                else:
                    last = row + size * times
                    loop(b, row, last, size, [], lambda r, _, s=size, e=emit: e.block(s, r, column))
                row += size * times

        start = run.column
        for count, number in ((together, grouped // together), (1, whole - grouped)):
            if number:
                last = start + number * count * width
                step = count * width

                def turn(c, _, ends=start + last - step, n=count, p=panels, s=step) -> None:
                    p(b.select(backwards, b.sub(integer(ends), c), c), n, s)

                loop(b, start, last, step, [], turn)
                start = last
        if partial:
            panels(integer(start), 1, layout.outputs - start)
    b.ret_void()
    return made


class _Emitter:
    """Emits one block: `size` rows by `count` neighbouring panels of `vectors` vectors each."""

    def __init__(self, b, arguments, shape: Shape, vectors: int, count: int, used: int):
        self.b = b
        self.operand, self.panels, self.result = arguments[:3]
        self.addends = arguments[4:]
        self.shape = shape
        self.vectors = vectors
        self.count = count
        lanes = shape.layout.lanes
        self.places = [
            (v * lanes, Lanes(lanes, max(0, min(lanes, used - v * lanes))))
            for v in range(count * vectors)
        ]

    def block(self, size: int, row: Register, column: Register) -> None:
        b, layout = self.b, self.shape.layout
        type_ = TYPES[self.shape.kind]
        inputs = layout.inputs
        operand = self.shape.operand
        # From an input to the next, from a column to the next, and from a panel to the next.
        along, across = (
            (layout.in_place, 1) if layout.in_place else (self.vectors * layout.lanes, inputs)
        )
        apart = self.vectors * layout.lanes * across
        left = at(b, self.operand, type_, b.mul(row, integer(operand.block)))
        panels = at(b, self.panels, type_, b.mul(column, integer(across)))
        sums = [self._start(i, row, column, place) for i in range(size) for place in self.places]
        # Packed panels are filled up with zeros; beside a weight in place lies something else.
        full = Lanes(layout.lanes, layout.lanes)
        reads = [lanes if layout.in_place else full for _, lanes in self.places]
        starts = [
            p * apart + v * layout.lanes for p in range(self.count) for v in range(self.vectors)
        ]

        def step(here: Register, there: Register, k: int, sums: list[Register]) -> list[Register]:
            def weight(n: int) -> Register:
                return self._weight(there, k * along + starts[n], reads[n])

            def number(i: int) -> Register:
                at_input = at(b, here, type_, i * operand.row + k * operand.input)
                return splat(b, b.load(at_input, typ=type_), layout.lanes)

            sums = list(sums)
            # The fewer of both stay in registers, the others come and go one at a time.
            if size < len(starts):
                numbers = [number(i) for i in range(size)]
                for n in range(len(starts)):
                    w = weight(n)
                    for i, x in enumerate(numbers):
                        sums[i * len(starts) + n] = fma(b, x, w, sums[i * len(starts) + n])
                return sums
            weights = [weight(n) for n in range(len(starts))]
            for i in range(size):
                x = number(i)
                for n, w in enumerate(weights):
                    sums[i * len(weights) + n] = fma(b, x, w, sums[i * len(weights) + n])
            return sums

        def several(k: Register, sums: list[Register], times: int = _UNROLL) -> list[Register]:
            here = at(b, left, type_, b.mul(k, integer(operand.input)))
            there = at(b, panels, type_, b.mul(k, integer(along)))
            for more in range(times):
                sums = step(here, there, more, sums)
            return sums

        whole = inputs - inputs % _UNROLL
        sums = loop(b, 0, whole, _UNROLL, sums, several)
        if whole < inputs:
            sums = several(integer(whole), sums, inputs - whole)
        for i in range(size):
            for v, (place, lanes) in enumerate(self.places):
                if lanes.used:
                    offsets = [self._row(row, i, self.shape.result_stride), column, place]
                    dtype = memory.SPILLED[self.shape.kind]
                    memory.store(
                        b, sums[i * len(self.places) + v], self.result, dtype, offsets, lanes
                    )

    def _row(self, row: Register, i: int, stride: int) -> Register:
        return self.b.mul(self.b.add(row, integer(i)), integer(stride))

    def _weight(self, base: Register, offset: int, lanes: Lanes) -> Register:
        return memory.load(self.b, base, memory.SPILLED[self.shape.kind], [offset], lanes)

    def _start(self, i: int, row: Register, column: Register, place: tuple[int, Lanes]) -> Register:
        """What the sums at `place` of row `i` start from."""
        offset, lanes = place
        total = None
        for base, addend in zip(self.addends, self.shape.addends, strict=True):
            if not lanes.used:
                continue
            offsets = [column, offset]
            if addend.stride:
                offsets.insert(0, self._row(row, i, addend.stride))
            vector = memory.load(self.b, base, addend.dtype, offsets, lanes)
            total = vector if total is None else self.b.fadd(total, vector)
        return zero(lanes.type(TYPES[self.shape.kind])) if total is None else total
