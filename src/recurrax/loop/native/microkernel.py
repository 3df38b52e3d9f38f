"""The product of a tile's rows with a packed weight, blocks of it held in registers.

A block is a few rows by a few vectors of outputs: for each input, one number of each row is spread
over a vector and multiplied into the block. Its sums start from the addends and are written once.
Blocks are as even as the tile allows, so that no thin block is left over at the end. What
is read lies in the caches as a rule, so that memory has time for what others need (`fetching.py`).
"""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    function,
    i1,
    i8,
    integer,
    loop,
    pointer,
    prefetch,
    splat,
    void,
    zero,
)
from recurrax.loop.native.functions import fma
from recurrax.loop.native.memory import LINE, TYPES, Lanes
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
    to input, from group to group."""

    block: int
    row: int
    input: int
    group: int = 0

    @classmethod
    def by_rows(cls, stride: int, group: int = 0) -> "Operand":
        """Rows that lie `stride` apart."""
        return cls(stride, stride, 1, group)

    @classmethod
    def by_blocks(cls, inputs: int, rows: int) -> "Operand":
        """Blocks of `rows` rows, in each all rows of the first input, then of the second, ..."""
        return cls(inputs, 1, rows)


@dataclasses.dataclass(frozen=True)
class Run:
    """`times` groups of `count` panels of `vectors` vectors each, from `column` on.

    A group has `width` outputs; its first block is number `first` of all.
    """

    column: int
    vectors: int
    count: int
    times: int
    width: int
    first: int


@dataclasses.dataclass(frozen=True)
class Lines:
    """Cache lines to ask for: `count` neighbours in each of `runs` runs, `apart` bytes apart."""

    count: int
    runs: int = 1
    apart: int = 0

    @property
    def total(self) -> int:
        return self.count * self.runs

    def offset(self, b: Builder, number: Register) -> Register:
        """How many bytes after the first of them line `number` lies."""
        if self.runs == 1:
            return b.mul(number, integer(LINE))
        run = b.udiv(number, integer(self.count))
        place = b.sub(number, b.mul(run, integer(self.count)))
        return b.add(b.mul(run, integer(self.apart)), b.mul(place, integer(LINE)))


@dataclasses.dataclass(frozen=True)
class Shape:
    """All that a product kernel is specialised to; `blocks` are (rows, times), in order.

    The sums start from the `addends`, or where it `adds_up`, from what stands in the result; if
    that `is_far`, out of the caches, each block asks for the place of the next one. Meanwhile the
    product asks for memory that others will need: the lines `fetched`, one place for each. Those
    of more than one run stand alone. All blocks are gone over in each of `groups`, whose results
    lie `result_group` apart; groups know of no addends, and fetch nothing.
    """

    blocks: tuple[tuple[int, int], ...]
    kind: str
    operand: Operand
    result_stride: int
    addends: tuple[Addend, ...]
    layout: Layout
    fetched: tuple[Lines, ...] = ()
    adds_up: bool = False
    is_far: bool = False
    groups: int = 1
    result_group: int = 0

    @property
    def rows(self) -> int:
        return sum(size * times for size, times in self.blocks)

    @property
    def row_blocks(self) -> int:
        return sum(times for _, times in self.blocks)

    @property
    def lines_a_block(self) -> int:
        """How many lines one block asks for, all of one place."""
        return -(-self.layout.inputs // _UNROLL)

    def runs(self, registers: int) -> list[Run]:
        """The panels, in order, those that are gone over alike together."""
        block, layout, found, blocks = block_for(registers), self.layout, [], 0
        for panel in layout.panels():
            width = panel.vectors * layout.lanes
            together = max(1, block.rows * block.vectors // (self.rows * panel.vectors))
            partial = layout.outputs < panel.column + panel.count * width
            whole = panel.count - partial
            single = whole % together
            start = panel.column
            for count, times in ((together, whole // together), (1, single), (1, int(partial))):
                if not times:
                    continue
                used = min(count * width, layout.outputs - start)
                found.append(Run(start, panel.vectors, count, times, used, blocks))
                start += times * used
                blocks += times * self.row_blocks
        return found

    def blocks_for(self, lines: Lines) -> int:
        """How many blocks ask for the lines of one place."""
        return -(-lines.total // self.lines_a_block)

    def can_fetch(self, registers: int) -> bool:
        """Whether there is time to ask for all that is `fetched`."""
        last = self.runs(registers)[-1]
        return sum(map(self.blocks_for, self.fetched)) <= last.first + last.times * self.row_blocks


def block_for(registers: int) -> Block:
    """Found by measurement: the largest block whose sums LLVM keeps in registers.

    With 32 registers, 4×4 to 14×2 are all within a twentieth of the processor's peak; of those, 8×3
    goes over the weight least often, which is what counts once it does not fit a cache.
    """
    return Block(8, 3) if registers >= 32 else Block(4, 3)


def widest(registers: int, rows: int) -> int:
    """Vectors of a panel for tiles of `rows` rows.

    Few rows leave registers for more vectors: sums enough to hide how long each takes, and one
    stream from the cache in place of several. More than 8 bring nothing.
    """
    block = block_for(registers)
    return max(block.vectors, min(8, block.rows * block.vectors // rows))


def even(count: int, largest: int) -> tuple[tuple[int, int], ...]:
    """`count` things as runs (size, times) of at most `largest`, sizes differing by one at most."""
    number = -(-count // largest)
    small, more = divmod(count, number)
    runs = ((small + 1, more),) if more else ()
    return (*runs, (small, number - more))


def emit_product(module: ir.Module, name: str, shape: Shape, registers: int) -> ir.Function:
    """`void product(operand, panels, result, backwards, addends..., places to fetch from...)`.

    The panels are gone over from the last to the first where `backwards` is true. Every other step
    does so when a weight is larger than a cache: what the step before used last is still in it.
    """
    arguments = [pointer] * 3 + [i1] + [pointer] * (len(shape.addends) + len(shape.fetched))
    made, b = function(module, name, void, arguments)
    backwards, type_ = made.args[3], TYPES[shape.kind]

    def panels(run: Run, column: Register, number: Register) -> None:
        loop(b, 0, shape.groups, 1, [], lambda g, _: group(run, column, number, g))

    def group(run: Run, column: Register, number: Register, g: Register) -> None:
        operand = at(b, made.args[0], type_, b.mul(g, integer(shape.operand.group)))
        result = at(b, made.args[2], type_, b.mul(g, integer(shape.result_group)))
        emit = _Emitter(b, [operand, made.args[1], result, *made.args[3:]], shape, run)
        row = before = 0
        for size, times in shape.blocks:

            def block(k: Register, _, size=size, row=row, before=before) -> None:
                here = b.add(integer(row), b.mul(k, integer(size)))
                emit.block(size, here, column, b.add(number, b.add(integer(before), k)))

            loop(b, 0, times, 1, [], block)
            row += size * times
            before += times

    for run in shape.runs(registers):

        def turn(k: Register, _, run=run) -> None:
            last = run.column + (run.times - 1) * run.width
            along = b.mul(k, integer(run.width))
            column = b.add(integer(run.column), along)
            if run.times > 1:
                column = b.select(backwards, b.sub(integer(last), along), column)
            number = b.add(integer(run.first), b.mul(k, integer(shape.row_blocks)))
            panels(run, column, number)

        loop(b, 0, run.times, 1, [], turn)
    b.ret_void()
    return made


class _Emitter:
    """Emits one block: `size` rows by the neighbouring panels of a group."""

    def __init__(self, b, arguments, shape: Shape, run: Run):
        self.b = b
        self.operand, self.panels, self.result = arguments[:3]
        first_fetched = 4 + len(shape.addends)
        self.addends, self.fetched = arguments[4:first_fetched], arguments[first_fetched:]
        self.shape = shape
        self.vectors = run.vectors
        self.count = run.count
        lanes = shape.layout.lanes
        self.places = [
            (v * lanes, Lanes(lanes, max(0, min(lanes, run.width - v * lanes))))
            for v in range(run.count * run.vectors)
        ]

    def _stretch(self, number: Register) -> tuple[Register, Register, Register]:
        """The place that block `number` asks for lines of, its first one, and the last that there
        are. When all have been asked for, it is one line that is there.
        """
        b, before = self.b, 0
        start, first, last = self.operand, integer(0), integer(0)
        for place, lines in zip(self.fetched, self.shape.fetched, strict=True):
            reached = b.icmp_signed(">=", number, integer(before))
            done = b.mul(b.sub(number, integer(before)), integer(self.shape.lines_a_block))
            before += self.shape.blocks_for(lines)
            is_here = b.and_(reached, b.icmp_signed("<", number, integer(before)))
            start = b.select(is_here, place, start)
            first = b.select(is_here, done, first)
            last = b.select(is_here, integer(lines.total - 1), last)
        return start, first, last

    def _fetch(self, k: Register, stretch: tuple[Register, Register, Register]) -> None:
        """Ask for the line of a stretch whose turn it is at input `k`."""
        b, (start, first, last) = self.b, stretch
        line = b.add(first, b.udiv(k, integer(_UNROLL)))
        line = b.select(b.icmp_signed("<", line, last), line, last)
        offset = self.shape.fetched[0].offset(b, line)
        prefetch(b, at(b, start, i8, offset), to_write=False)

    def _fetch_next(self, size: int, row: Register, column: Register) -> None:
        """Ask for where the result of the block below goes, if there is one."""
        b, type_ = self.b, TYPES[self.shape.kind]
        below = at(b, self.result, type_, column)
        for i in range(size, 2 * size):
            line = at(b, below, type_, self._row(row, i, self.shape.result_stride))
            for place, _ in self.places:
                prefetch(b, at(b, line, type_, place), to_write=True)

    def block(self, size: int, row: Register, column: Register, number: Register) -> None:
        stretch = self._stretch(number) if self.fetched else None
        if self.shape.is_far:
            self._fetch_next(size, row, column)
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
            if stretch is not None:
                self._fetch(k, stretch)
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
        bases, addends = self.addends, self.shape.addends
        if self.shape.adds_up:
            bases = [*bases, self.result]
            own = Addend(memory.SPILLED[self.shape.kind], self.shape.result_stride)
            addends = (*addends, own)
        for base, addend in zip(bases, addends, strict=True):
            if not lanes.used:
                continue
            offsets = [column, offset]
            if addend.stride:
                offsets.insert(0, self._row(row, i, addend.stride))
            vector = memory.load(self.b, base, addend.dtype, offsets, lanes)
            total = vector if total is None else self.b.fadd(total, vector)
        return zero(lanes.type(TYPES[self.shape.kind])) if total is None else total
