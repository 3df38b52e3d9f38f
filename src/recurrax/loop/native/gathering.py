"""The product for weight gradients: AᵀD, the contraction over all time steps and rows.

Some hundred rows are contracted at a time (`contracting.py`), and added to the result. A thread
owns a range of the rows, and the threads' results are added up: so nobody copies what another
copies too. Where a result is too large for that, a thread owns a range of its columns or of its
rows, whichever there are more of.
"""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.contracting import Contraction, Terms
from recurrax.loop.native.emit import (
    Builder,
    Module,
    Register,
    Type,
    at,
    function,
    i8,
    i64,
    integer,
    load_pointer,
    loop,
    pointer,
    void,
    zero,
)
from recurrax.loop.native.memory import SPILLED, TYPES, Lanes
from recurrax.loop.native.microkernel import Block, block_for, even
from recurrax.loop.native.stacks import Stack
from recurrax.loop.native.target import Target
from recurrax.loop.native.work import Work, constant_data, emit_handler

# Rows contracted at a time; of how many neither they nor the result are in the cache as a rule.
_CHUNKS = range(640, 319, -1)
_MANY = 128
# Threads share out rows where there are so many for each number of the result's longer side that
# the others add up.
_ADDING = 4
_ROWS = 32


@dataclasses.dataclass(frozen=True)
class Problem:
    """A of `rows` × `left`, D of `rows` × `right`, both of register kind `kind`.

    D is the columns from `start` on of a matrix of `features` columns. Its rows lie one behind the
    other, and so do those of A, if `lies` does not tell another way.
    """

    rows: int
    left: int
    right: int
    kind: str
    start: int
    features: int
    lies: Stack | None = None

    @property
    def unit(self) -> int:
        """Rows that A is gone over by."""
        return self.lies.batch if self.lies else 1

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.left * self.right


@dataclasses.dataclass(frozen=True)
class Part:
    """One thread's share of the result, `left` × `right`, over `rows` rows of A and D: the first
    of all rows, if `fresh`."""

    rows: int
    left: int
    right: int
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class _Axis:
    """What the threads share out, as units of so many of its numbers."""

    name: str
    whole: int
    unit: int


def _axis(problem: Problem, target: Target, lanes: int, threads: int) -> _Axis:
    largest = max(problem.left, problem.right)
    if threads > 1 and _ADDING * (threads - 1) * largest < problem.rows:
        return _Axis("rows", problem.rows, problem.lies.batch if problem.lies else _ROWS)
    if problem.right >= problem.left:
        return _Axis("right", problem.right, lanes)
    return _Axis("left", problem.left, block_for(target.registers).rows)


def build_gather(problem: Problem, target: Target, threads: int) -> ir.Module:
    """The module of AᵀD."""
    module = Module("gather", target)
    lanes = target.lanes(64 if problem.kind == "f64" else 32)
    axis = _axis(problem, target, lanes, threads)
    tiles = _tiles(axis.whole, axis.unit, threads)
    emitter = GatherCode(module, problem, target, lanes)
    functions = {n: emitter.tile(n, axis.name) for n in sorted({size for _, size in tiles})}
    partial = emitter.result_bytes if axis.name == "rows" else 0

    def result(b: Builder, buffers, packed, ticket: Register) -> Register:
        """Where a tile's part goes: of rows, all but the first's lie in packed memory."""
        own = load_pointer(b, buffers, 2)
        if not partial:
            return own
        other = at(b, packed, i8, b.mul(b.sub(ticket, integer(1)), integer(partial)))
        return b.select(b.icmp_signed("==", ticket, integer(0)), own, other)

    def tile(b: Builder, buffers, scratch, packed, ticket, length) -> None:
        del length
        starts = ir.Constant(ir.ArrayType(i64, len(tiles)), [start for start, _ in tiles])
        table = constant_data(module, "starts", starts)
        start = b.load(at(b, table, i64, ticket), typ=i64)
        part = result(b, buffers, packed, ticket)
        for size, code in functions.items():
            runs = [k for k, (_, n) in enumerate(tiles) if n == size]
            inside = b.and_(
                b.icmp_signed(">=", ticket, integer(runs[0])),
                b.icmp_signed("<=", ticket, integer(runs[-1])),
            )
            with b.if_then(inside):
                b.call(code, [buffers, part, scratch, start])

    def finish(b: Builder, buffers, packed) -> None:
        total = load_pointer(b, buffers, 2)
        for k in range(len(tiles) - 1):
            emitter.add(b, total, at(b, packed, i8, k * partial))

    work = Work(
        num_inputs=2,
        num_outputs=1,
        tiles=len(tiles),
        threads=threads,
        packed_bytes=(len(tiles) - 1) * partial,
        scratch_bytes=emitter.scratch_bytes,
        tile=tile,
        length=0,
        length_of=None,
        finish=finish if partial else None,
    )
    emit_handler(module, work)
    return module


def _block(registers: int) -> Block:
    """Of a product that reads and writes its result anew for a few rows.

    Found by measurement, for 16 rows; for hundreds, all blocks are alike.
    """
    return Block(4, 4) if registers >= 32 else block_for(registers)


def _tiles(whole: int, unit: int, threads: int) -> list[tuple[int, int]]:
    """(start, size) of each thread's range, in whole units but for the last."""
    units = -(-whole // unit)
    tiles, start = [], 0
    for size, times in even(units, -(-units // threads)):
        for _ in range(times):
            stop = min(start + size * unit, whole)
            tiles.append((start, stop - start))
            start = stop
    return tiles


def _chunks(rows: int, unit: int) -> tuple[tuple[int, int], ...]:
    """Rows taken at a time, in whole units, as (rows, times): all alike if that can be."""
    for size in _CHUNKS:
        if rows % size == 0 and size % unit == 0:
            return ((size, rows // size),)
    runs = even(rows // unit, max(1, _CHUNKS[0] // unit))
    return tuple((size * unit, times) for size, times in runs)


class GatherCode:
    """Emits what a gather consists of; a thread at one needs `scratch_bytes` of memory."""

    def __init__(
        self, module: ir.Module, problem: Problem, target: Target, lanes: int, name: str = ""
    ):
        self.module = module
        self.name = name
        self.problem = problem
        self.target = target
        self.lanes = lanes
        self.dtype = SPILLED[problem.kind]
        self.type: Type = TYPES[problem.kind]
        self.block = _block(target.registers)
        self.scratch_bytes = 0
        self._made: dict[Part, ir.Function] = {}

    @property
    def result_bytes(self) -> int:
        return memory.aligned(self.problem.left * self.problem.right * memory.size(self.dtype))

    def tile(self, size: int, axis: str) -> ir.Function:
        """`void tile(buffers, result, scratch, start)`: `size` of an axis from `start` on."""
        problem = self.problem
        made, b = function(self.module, f"tile{size}", void, [pointer, pointer, pointer, i64])
        buffers, result, scratch, start = made.args
        left, right = (load_pointer(b, buffers, k) for k in range(2))
        nothing = integer(0)
        first, row, column = (start if axis == n else nothing for n in ("rows", "left", "right"))
        share = dataclasses.replace(Part(problem.rows, problem.left, problem.right), **{axis: size})
        result = self._at(b, result, b.add(b.mul(row, integer(problem.right)), column))
        left = self._at(b, left, b.add(self._row(b, first), row))
        right = self._at(b, right, integer(problem.start))
        right = self._at(b, right, b.add(b.mul(first, integer(problem.features)), column))
        self.clear(b, result, share.left, share.right)
        taken = 0
        for rows, times in _chunks(share.rows, problem.unit):
            part = dataclasses.replace(share, rows=rows)
            code = self.chunk(part)

            def chunk(r: Register, _, code=code) -> None:
                here = self._at(b, left, self._row(b, r))
                there = self._at(b, right, b.mul(r, integer(problem.features)))
                b.call(code, [here, there, result, scratch])

            loop(b, taken, taken + rows * times, rows, [], chunk)
            taken += rows * times
        b.ret_void()
        return made

    def _row(self, b: Builder, r: Register) -> Register:
        """Where row `r` of A begins, the first one of a unit."""
        lies, width = self.problem.lies, self.problem.left
        if lies is None:
            return b.mul(r, integer(width))
        return b.mul(b.udiv(r, integer(lies.batch)), integer(lies.between_steps(width)))

    def _copy(self, b: Builder, contraction: Contraction, left, scratch, rows: int) -> None:
        """Take that many rows of A, from `left` on."""
        lies, width = self.problem.lies, self.problem.left
        if lies is None:
            contraction.copy(b, scratch, 0, left, integer(width), integer(0), rows)
            return
        apart = integer(lies.between_rows(width))

        def step(s: Register, _) -> None:
            first = b.mul(s, integer(lies.batch))
            here = self._at(b, left, self._row(b, first))
            contraction.copy(b, scratch, 0, here, apart, first, lies.batch)

        loop(b, 0, rows // lies.batch, 1, [], step)

    def add(self, b: Builder, total: Register, part: Register) -> None:
        """Add one thread's result to another's."""
        count = self.problem.left * self.problem.right
        whole = count - count % self.lanes

        def some(k, used: int) -> None:
            lanes = Lanes(self.lanes, used)
            values = [memory.load(b, x, self.dtype, [k], lanes) for x in (total, part)]
            memory.store(b, b.fadd(*values), total, self.dtype, [k], lanes)

        loop(b, 0, whole, self.lanes, [], lambda k, _: some(k, self.lanes))
        if whole < count:
            some(whole, count - whole)

    def _at(self, b: Builder, base: Register, offset: Register) -> Register:
        return at(b, base, self.type, offset)

    def clear(self, b: Builder, result: Register, rows: int, columns: int) -> None:
        """Set that much of the result to zero."""

        def row(r: Register, _) -> None:
            base = b.mul(r, integer(self.problem.right))
            whole = columns - columns % self.lanes

            def clear(c, used: int) -> None:
                lanes = Lanes(self.lanes, used)
                nothing = zero(lanes.type(self.type))
                memory.store(b, nothing, result, self.dtype, [base, c], lanes)

            loop(b, 0, whole, self.lanes, [], lambda c, _: clear(c, self.lanes))
            if whole < columns:
                clear(whole, columns - whole)

        loop(b, 0, rows, 1, [], row)

    def chunk(self, part: Part) -> ir.Function:
        """`void chunk(left, right, result, scratch)`: adds the product of some rows, or stores it
        where they are the first."""
        if part not in self._made:
            self._made[part] = self._chunk(part)
        return self._made[part]

    def _chunk(self, part: Part) -> ir.Function:
        name = f"{self.name}{'fresh' * part.fresh}{part.rows}x{part.left}x{part.right}"
        made, b = function(self.module, f"chunk{name}", void, [pointer] * 4)
        left, right, result, scratch = made.args
        problem = self.problem
        terms = Terms(
            kind=problem.kind,
            rows=part.rows,
            lefts=(part.left,),
            right=part.right,
            features=problem.features,
            between=problem.right,
            far=part.rows >= _MANY,
            fresh=part.fresh,
        )
        contraction = Contraction(self.module, f"contract{name}", self.target, terms, self.block)
        self.scratch_bytes = max(self.scratch_bytes, contraction.scratch_bytes)
        self._copy(b, contraction, left, scratch, part.rows)
        contraction.add(b, scratch, right, [result])
        b.ret_void()
        return made
