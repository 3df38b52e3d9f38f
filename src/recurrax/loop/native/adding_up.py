"""The gradient of a table of which rows were looked up: their cotangents, added up row by row.

A tile owns a range of columns, so that no two threads write to the same place, over some of the
rows of cotangents: each such part of the rows has a result of its own, which keeps sums of very
many numbers accurate.
"""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Builder,
    Module,
    Register,
    at,
    function,
    i32,
    i64,
    integer,
    load_pointer,
    loop,
    pointer,
    void,
    zero,
)
from recurrax.loop.native.memory import SPILLED, TYPES, Lanes
from recurrax.loop.native.target import Target
from recurrax.loop.native.work import Work, emit_handler

_PART = 4096
_UNROLLED = 8
# A number that is read, added and written takes as long as so many operations of a product.
_LIKE_FLOPS = 30


@dataclasses.dataclass(frozen=True)
class Sums:
    """Rows of `columns` numbers of register kind `kind`, `rows` of them, added up to `count`."""

    rows: int
    columns: int
    count: int
    kind: str

    @property
    def flops(self) -> int:
        return _LIKE_FLOPS * self.rows * self.columns

    @property
    def part(self) -> int:
        """Rows that are added up into one result."""
        return min(self.rows, max(_PART, 4 * self.count))

    @property
    def parts(self) -> int:
        return -(-self.rows // self.part)


def build_sums(sums: Sums, target: Target, threads: int) -> ir.Module:
    """The module of: indices (rows,), numbers (rows, columns) to sums (parts, count, columns)."""
    module = Module("sums", target)
    lanes = target.lanes(64 if sums.kind == "f64" else 32)
    share = -(-sums.columns // (threads * lanes)) * lanes
    ranges = -(-sums.columns // share)
    widths = [min(share, sums.columns - k * share) for k in range(ranges)]
    codes = {n: _emit_range(module, sums, lanes, n) for n in sorted(set(widths))}

    def tile(b: Builder, buffers, scratch, packed, ticket, length) -> None:
        del scratch, packed, length
        which = b.srem(ticket, integer(ranges))
        arguments = [buffers, b.sdiv(ticket, integer(ranges)), b.mul(which, integer(share))]
        if len(codes) == 1:
            b.call(codes[widths[0]], arguments)
            return
        with b.if_else(b.icmp_signed("<", which, integer(ranges - 1))) as (whole, last):
            with whole:
                b.call(codes[share], arguments)
            with last:
                b.call(codes[widths[-1]], arguments)

    work = Work(
        num_inputs=2,
        num_outputs=1,
        tiles=ranges * sums.parts,
        threads=threads,
        packed_bytes=0,
        scratch_bytes=0,
        tile=tile,
        length=0,
        length_of=None,
    )
    emit_handler(module, work)
    return module


def _emit_range(module: ir.Module, sums: Sums, lanes: int, width: int) -> ir.Function:
    """`void range(buffers, part, column)`: the sums of `width` columns over a part of the rows."""
    made, b = function(module, f"range{width}", void, [pointer, i64, i64])
    buffers, part, column = made.args
    indices, numbers, results = (load_pointer(b, buffers, k) for k in range(3))
    dtype, type_ = SPILLED[sums.kind], TYPES[sums.kind]
    results = at(b, results, type_, b.mul(part, integer(sums.count * sums.columns)), column)
    numbers = at(b, numbers, type_, column)

    def over_columns(of_vectors) -> None:
        """Call `of_vectors(first column, [lanes of each vector])` until all columns are done."""
        block = _UNROLLED * lanes
        whole = width - width % block
        loop(b, 0, whole, block, [], lambda c, _: of_vectors(c, [lanes] * _UNROLLED))
        rest = [min(lanes, width - c) for c in range(whole, width, lanes)]
        if rest:
            of_vectors(integer(whole), rest)

    def each(place: Register, c: Register, used: list[int], value) -> None:
        """Write `value(offsets, lanes)` to row `place` of the result, all read before any."""
        taken = [(k * lanes, Lanes(lanes, n)) for k, n in enumerate(used)]
        found = [value([place, c, k], each_lanes) for k, each_lanes in taken]
        for (k, each_lanes), x in zip(taken, found, strict=True):
            memory.store(b, x, results, dtype, [place, c, k], each_lanes)

    def clear(r: Register, _) -> None:
        place = b.mul(r, integer(sums.columns))
        over_columns(lambda c, used: each(place, c, used, lambda _, lanes: zero(lanes.type(type_))))

    def add(r: Register, _) -> None:
        index = b.load(at(b, indices, i32, r), typ=i32)
        place = b.mul(b.sext(index, i64), integer(sums.columns))
        source = b.mul(r, integer(sums.columns))

        def total(offsets: list, lanes: Lanes) -> Register:
            known = memory.load(b, results, dtype, offsets, lanes)
            return b.fadd(known, memory.load(b, numbers, dtype, [source, *offsets[1:]], lanes))

        over_columns(lambda c, used: each(place, c, used, total))

    loop(b, 0, sums.count, 1, [], clear)
    first = b.mul(part, integer(sums.part))
    stop = b.add(first, integer(sums.part))
    last = integer(sums.rows)
    loop(b, first, b.select(b.icmp_signed("<", stop, last), stop, last), 1, [], add)
    b.ret_void()
    return made
