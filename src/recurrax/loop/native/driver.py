"""The handler that XLA calls: memory, packing, and tiles shared out among threads.

A call owns a **block** of memory: counters, the addresses of its buffers, the packed weights and
scratch for each thread at work. Tiles are claimed by an atomic ticket. The caller asks XLA's pool
for helpers and then works too; it waits only for tiles that somebody holds, never for a helper to
start (two calls on one pool would wait for each other for ever). A helper that comes late finds no
ticket left. It may outlive the call, so the block counts who refers to it, and the last one puts it
by for the next call of the same kernel: its pages need not be faulted in again.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    declared,
    function,
    i8,
    i32,
    i64,
    integer,
    load_field,
    pointer,
    store_field,
    void,
)
from recurrax.loop.native.ffi import Frame, emit_metadata_answer
from recurrax.loop.native.target import Target

_REFERENCES, _TICKET, _DONE, _WORKERS, _LENGTH = 0, 64, 128, 192, 256
_BUFFERS = 320
_ALIGNMENT = 64
_LARGEST_KEPT = 64 << 20
_HUGE_PAGE = 2 << 20
_SPINS_BEFORE_YIELD = 4000
_MADV_HUGEPAGE = 14


@dataclasses.dataclass(frozen=True)
class Work:
    """What the driver shares out.

    `prepare(b, buffers, packed)` runs once, on the calling thread. `tile(b, buffers, scratch,
    packed, ticket, length)` is emitted where one tile's work belongs. `length_of` is the number of
    the argument (or result), and its axis, that tells the length, or None with `length` given.
    `grown_results` are results and their bytes for each unit of length.
    """

    num_inputs: int
    num_outputs: int
    tiles: int
    threads: int
    packed_bytes: int
    scratch_bytes: int
    prepare: Callable[[Builder, Register, Register], None]
    tile: Callable[..., None]
    length: int
    length_of: tuple[int, bool, int] | None
    grown_results: tuple[tuple[int, int], ...] = ()

    @property
    def workers(self) -> int:
        return max(1, min(self.threads, self.tiles))

    @property
    def packed_at(self) -> int:
        size = _BUFFERS + 8 * (self.num_inputs + self.num_outputs)
        return -(-size // _ALIGNMENT) * _ALIGNMENT

    @property
    def scratch_at(self) -> int:
        return self.packed_at + -(-self.packed_bytes // _ALIGNMENT) * _ALIGNMENT

    @property
    def scratch_stride(self) -> int:
        return -(-self.scratch_bytes // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT

    @property
    def block_bytes(self) -> int:
        return self.scratch_at + self.workers * self.scratch_stride + _ALIGNMENT


def emit_handler(module: ir.Module, work: Work, target: Target, name: str = "handler") -> None:
    """`XLA_FFI_Error* handler(XLA_FFI_CallFrame*)`, the one public function of the module."""
    spare = _global(module, "spare", ir.Constant(pointer, None))
    labour = _emit_labour(module, work)
    release = _emit_release(module, work, spare)
    task, b = function(module, "task", void, [pointer])
    b.call(labour, [task.args[0]])
    b.call(release, [task.args[0]])
    b.ret_void()

    handler = ir.Function(module, ir.FunctionType(pointer, [pointer]), name)
    b = ir.IRBuilder(handler.append_basic_block("entry"))
    request = b.bitcast(b.alloca(i64, 8), pointer)
    emit_metadata_answer(b, handler.args[0])
    frame = Frame(b, handler.args[0])
    block = _take_block(b, frame, request, spare, work)
    _fill_in(b, frame, block, work)
    work.prepare(b, at(b, block, i8, _BUFFERS), at(b, block, i8, work.packed_at))
    for _ in range(work.workers - 1):
        error = frame.schedule(request, b.bitcast(task, pointer), block)
        with b.if_then(b.icmp_unsigned("!=", error, ir.Constant(pointer, None)), likely=False):
            frame.destroy_error(request, error)
            b.call(release, [block])
    b.call(labour, [block])
    if work.workers > 1:
        _wait(b, block, work, target)
    b.call(release, [block])
    b.ret(ir.Constant(pointer, None))


def _global(module: ir.Module, name: str, value: ir.Constant) -> Register:
    """A variable private to the module."""
    made: Any = ir.GlobalVariable(module, value.type, name)
    made.linkage = "internal"
    made.initializer = value
    return made


def _counter(b: Builder, block: Register, offset: int) -> Register:
    return b.bitcast(at(b, block, i8, offset), i64.as_pointer())


def _take_block(b, frame: Frame, request, spare, work: Work) -> Register:
    """The block put by, or a new one; leaves the handler with an error if there is no memory."""
    null = ir.Constant(pointer, None)
    word = b.bitcast(spare, i64.as_pointer())
    kept = b.inttoptr(b.atomic_rmw("xchg", word, integer(0), "seq_cst"), pointer)
    found = b.block
    with b.if_then(b.icmp_unsigned("==", kept, null), likely=False):
        aligned = declared(b.module, "aligned_alloc", pointer, [i64, i64])
        alignment = _HUGE_PAGE if work.block_bytes >= 2 * _HUGE_PAGE else _ALIGNMENT
        size = -(-work.block_bytes // alignment) * alignment
        new = b.call(aligned, [integer(alignment), integer(size)])
        with b.if_then(b.icmp_unsigned("==", new, null), likely=False):
            text = bytearray(f"no memory for a loop's {size} bytes\0".encode())
            message = _global(b.module, "message", ir.Constant(ir.ArrayType(i8, len(text)), text))
            b.ret(frame.out_of_memory(request, b.bitcast(message, pointer)))
            b.position_at_end(b.function.append_basic_block("after"))
        if alignment == _HUGE_PAGE:
            _ask_for_huge_pages(b, new, integer(size))
        allocated = b.block
    block = b.phi(pointer)
    block.add_incoming(kept, found)
    block.add_incoming(new, allocated)
    return block


def _fill_in(b: Builder, frame: Frame, block: Register, work: Work) -> None:
    store_field(b, block, _REFERENCES, integer(work.workers))
    for counter in (_TICKET, _DONE, _WORKERS):
        store_field(b, block, counter, integer(0))
    told = work.length_of
    length = frame.axis_size(*told) if told is not None else integer(work.length)
    store_field(b, block, _LENGTH, length)
    for k in range(work.num_inputs):
        store_field(b, block, _BUFFERS + 8 * k, frame.data(k, False))
    for k in range(work.num_outputs):
        data = frame.data(k, True)
        store_field(b, block, _BUFFERS + 8 * (work.num_inputs + k), data)
    for k, size in work.grown_results:
        _ask_for_huge_pages(b, frame.data(k, True), b.mul(length, integer(size)))


def _ask_for_huge_pages(b: Builder, data: Register, size: Register) -> None:
    """Fresh memory is faulted in 2 MiB at a time, not 4 KiB: the kernel then spends a tenth.

    The advice reaches as far as the pages at both ends do: what lies beside a result in one
    allocation of XLA's is another of the same program, and to others it does no harm.
    """
    if sys.platform != "linux":
        return
    first = b.ptrtoint(data, i64)
    start = b.and_(first, integer(-_HUGE_PAGE))
    stop = b.and_(b.add(b.add(first, size), integer(_HUGE_PAGE - 1)), integer(-_HUGE_PAGE))
    advise = declared(b.module, "madvise", i32, [pointer, i64, i32])
    with b.if_then(b.icmp_signed(">=", size, integer(_HUGE_PAGE // 2))):
        b.call(advise, [b.inttoptr(start, pointer), b.sub(stop, start), i32(_MADV_HUGEPAGE)])


def _emit_labour(module: ir.Module, work: Work) -> ir.Function:
    """`void labour(block)`: run tiles until no ticket is left."""
    made, b = function(module, "labour", void, [pointer])
    block = made.args[0]
    tiles = integer(work.tiles)
    ticket = _counter(b, block, _TICKET)
    first = b.atomic_rmw("add", ticket, integer(1), "seq_cst")
    with b.if_then(b.icmp_signed("<", first, tiles)):
        worker = b.atomic_rmw("add", _counter(b, block, _WORKERS), integer(1), "seq_cst")
        start = b.add(b.mul(worker, integer(work.scratch_stride)), integer(work.scratch_at))
        scratch = at(b, block, i8, start)
        buffers = b.bitcast(at(b, block, i8, _BUFFERS), pointer.as_pointer())
        packed = at(b, block, i8, work.packed_at)
        length = load_field(b, block, _LENGTH, i64)
        before = b.block
        head = made.append_basic_block("tile")
        done = made.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)
        mine = b.phi(i64)
        mine.add_incoming(first, before)
        work.tile(b, buffers, scratch, packed, mine, length)
        b.atomic_rmw("add", _counter(b, block, _DONE), integer(1), "seq_cst")
        following = b.atomic_rmw("add", ticket, integer(1), "seq_cst")
        mine.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, tiles), head, done)
        b.position_at_end(done)
    b.ret_void()
    return made


def _emit_release(module: ir.Module, work: Work, spare: Register) -> ir.Function:
    """`void release(block)`: one reference less; the last puts the block by, or frees it."""
    made, b = function(module, "release", void, [pointer])
    block = made.args[0]
    free = declared(module, "free", void, [pointer])
    before = b.atomic_rmw("sub", _counter(b, block, _REFERENCES), integer(1), "seq_cst")
    with b.if_then(b.icmp_signed("==", before, integer(1))):
        leftover = block
        if work.block_bytes <= _LARGEST_KEPT:
            word = b.bitcast(spare, i64.as_pointer())
            old = b.atomic_rmw("xchg", word, b.ptrtoint(block, i64), "seq_cst")
            leftover = b.inttoptr(old, pointer)
        b.call(free, [leftover])
    b.ret_void()
    return made


def _wait(b: Builder, block: Register, work: Work, target: Target) -> None:
    """Wait for the tiles that others hold; after a while, let other threads have the processor."""
    finished = _counter(b, block, _DONE)
    spin, again = (b.function.append_basic_block(n) for n in ("spin", "again"))
    rest, done = (b.function.append_basic_block(n) for n in ("rest", "done"))
    before = b.block
    b.branch(spin)
    b.position_at_end(spin)
    turns = b.phi(i64)
    turns.add_incoming(integer(0), before)
    count = b.load_atomic(finished, "acquire", 8)
    b.cbranch(b.icmp_signed("<", count, integer(work.tiles)), again, done)
    b.position_at_end(again)
    if target.is_x86:
        b.call(declared(b.module, "llvm.x86.sse2.pause", void, []), [])
    following = b.add(turns, integer(1))
    turns.add_incoming(following, again)
    b.cbranch(b.icmp_signed("<", following, integer(_SPINS_BEFORE_YIELD)), spin, rest)
    b.position_at_end(rest)
    b.call(declared(b.module, "sched_yield", i32, []), [])
    turns.add_incoming(integer(0), rest)
    b.branch(spin)
    b.position_at_end(done)


def share(rows: int, threads: int, multiple: int, largest: int) -> int:
    """Rows of a tile: one tile a thread, in whole blocks of `multiple`, at most `largest`."""
    wanted = -(-rows // threads)
    if wanted > multiple:
        wanted = -(-wanted // multiple) * multiple
    return min(wanted, largest, rows)
