"""The driver that every kernel's handler calls: memory, and tiles shared out among threads.

A call owns a **block** of memory: counters, the addresses of its buffers, the packed weights and
scratch for each thread at work. Tiles are claimed by an atomic ticket, and so are, before them, the
parts of what has to be made ready, the packing of weights. The caller asks XLA's pool for helpers
and then works too; it waits only for what somebody is at, never for a helper to start (two calls on
one pool would wait for each other for ever). A helper that comes late finds no ticket left, and one
that comes where the caller runs moves on (`apart.py`). It may outlive the call, so the block counts
who refers to it, and the last one puts it by for the next call of the same kernel: its pages need
not be faulted in again.

Threads that find no tile may find jobs alongside it (`alongside.py`), or be the partner of who runs
the only one (`pairing.py`).

What a kernel is like stands in its table of work (`work.py`). The driver reads it there, and so is
compiled once: a kernel needs no driver of its own, which would take LLVM as long as its loop.
"""

import sys
from collections.abc import Callable

import llvmlite.ir as ir

from recurrax.loop.native import pairing
from recurrax.loop.native.alongside import LOCK, NEXT, emit_company, job_at
from recurrax.loop.native.apart import move_apart, note_processor
from recurrax.loop.native.emit import (
    Builder,
    Module,
    Register,
    at,
    declared,
    function,
    i1,
    i8,
    i32,
    i64,
    integer,
    load_field,
    loop,
    pointer,
    store_field,
    void,
)
from recurrax.loop.native.ffi import Frame, emit_metadata_answer
from recurrax.loop.native.target import Target
from recurrax.loop.native.waiting import let_others_run, wait_until
from recurrax.loop.native.work import (
    BUFFERS,
    DONE,
    DRIVE,
    DRIVER,
    FINISH,
    GROWN_AT,
    HUGE_PAGE,
    LENGTH,
    PREPARE,
    PROCESSOR,
    PROGRESS,
    TILE,
    WORK,
    Field,
    word,
)

# Of a block; counters that threads write have a cache line each.
_REFERENCES, _TICKET, _WORKERS, _PART, _PREPARED = 0, 64, 192, 448, 456
_LARGEST_KEPT = 64 << 20
_MADV_HUGEPAGE = 14


def build_driver(target: Target) -> ir.Module:
    """`XLA_FFI_Error* recurrax_drive(XLA_FFI_CallFrame*, work)`, alone in a module."""
    module = Module("driver", target)
    pairing.emit_meeting(module, target)
    serve = pairing.emit_serve(module, target)
    prepare = _emit_prepare(module, target)
    labour = _emit_labour(module, prepare, emit_company(module, target, serve), serve)
    release = _emit_release(module)
    task, b = function(module, "task", void, [pointer])
    _leave_caller(b, task.args[0])
    b.call(labour, [task.args[0], i1(False)])
    b.call(release, [task.args[0]])
    b.ret_void()

    drive = ir.Function(module, DRIVE, DRIVER)
    b = ir.IRBuilder(drive.append_basic_block("entry"))
    call_frame, work = drive.args
    request = b.alloca(pointer, 8)
    emit_metadata_answer(b, call_frame)
    frame = Frame(b, call_frame)
    block = _take_block(b, frame, request, work)
    _fill_in(b, frame, block, work)

    def ask() -> None:
        error = frame.schedule(request, task, block)
        with b.if_then(b.icmp_unsigned("!=", error, ir.Constant(pointer, None)), likely=False):
            frame.destroy_error(request, error)
            b.call(release, [block])

    tiles, workers = word(b, work, Field.TILES), word(b, work, Field.WORKERS)
    with b.if_then(b.icmp_signed(">", workers, integer(1))):
        note_processor(b, block, PROCESSOR)
        loop(b, 0, b.sub(workers, integer(1)), 1, [], lambda _k, _: ask())
        is_alone = b.icmp_signed("==", word(b, work, Field.JOBS), integer(0))
        with b.if_then(b.or_(b.icmp_signed(">", tiles, integer(1)), is_alone)):
            let_others_run(b)
    b.call(labour, [block, i1(True)])
    finished = at(b, block, i8, DONE)
    wait_until(
        b,
        target,
        lambda: b.icmp_signed(">=", b.load_atomic(finished, "acquire", 8, typ=i64), tiles),
    )
    finish = load_field(b, work, Field.FINISH.offset, FINISH.as_pointer())
    with b.if_then(b.icmp_unsigned("!=", finish, ir.Constant(finish.type, None))):
        packed = at(b, block, i8, word(b, work, Field.PACKED_AT))
        b.call(finish, [at(b, block, i8, BUFFERS), packed])
    b.call(release, [block])
    b.ret(ir.Constant(pointer, None))
    return module


def _leave_caller(b: Builder, block: Register) -> None:
    """Let a helper go to another processor than the caller's, if there is something left to do."""
    work = load_field(b, block, WORK, pointer)
    ticket = b.load_atomic(at(b, block, i8, _TICKET), "monotonic", 8, typ=i64)
    has_tile = b.icmp_signed("<", ticket, word(b, work, Field.TILES))
    has_job = b.icmp_signed(">", word(b, work, Field.JOBS), integer(0))
    with b.if_then(b.or_(has_tile, b.or_(has_job, pairing.has_partner(b, work)))):
        move_apart(b, block, PROCESSOR)


def _repeat(b: Builder, times: Register, body: Callable[[Register], None]) -> None:
    """`for i in range(times): body(i)`, which may be no turn at all."""
    with b.if_then(b.icmp_signed(">", times, integer(0))):
        loop(b, 0, times, 1, [], lambda i, _: body(i))


def _take_block(b: Builder, frame: Frame, request, work) -> Register:
    """The block put by, or a new one; leaves the driver with an error if there is no memory."""
    null = ir.Constant(pointer, None)
    spare = at(b, work, i8, Field.SPARE.offset)
    kept = b.inttoptr(b.atomic_rmw("xchg", spare, integer(0), "seq_cst"), pointer)
    found = b.block
    with b.if_then(b.icmp_unsigned("==", kept, null), likely=False):
        aligned = declared(b.module, "aligned_alloc", pointer, [i64, i64])
        alignment = word(b, work, Field.BLOCK_ALIGNMENT)
        size = word(b, work, Field.BLOCK_BYTES)
        new = b.call(aligned, [alignment, size])
        with b.if_then(b.icmp_unsigned("==", new, null), likely=False):
            message = load_field(b, work, Field.MESSAGE.offset, pointer)
            b.ret(frame.out_of_memory(request, message))
            b.position_at_end(b.function.append_basic_block("after"))
        with b.if_then(b.icmp_signed("==", alignment, integer(HUGE_PAGE))):
            _ask_for_huge_pages(b, new, size)
        allocated = b.block
    block = b.phi(pointer)
    block.add_incoming(kept, found)
    block.add_incoming(new, allocated)
    return block


def _fill_in(b: Builder, frame: Frame, block: Register, work: Register) -> None:
    store_field(b, block, WORK, work)
    b.atomic_rmw("add", at(b, work, i8, Field.USERS.offset), integer(1), "seq_cst")
    store_field(b, block, _REFERENCES, word(b, work, Field.WORKERS))
    for counter in (_TICKET, DONE, _WORKERS, _PART, _PREPARED, PROGRESS, *pairing.WORDS):
        store_field(b, block, counter, integer(0))

    def start(k: Register) -> None:
        job = job_at(b, block, work, k)
        for counter in (NEXT, LOCK):
            store_field(b, job, counter, integer(0))

    _repeat(b, word(b, work, Field.JOBS), start)
    inputs, outputs = word(b, work, Field.NUM_INPUTS), word(b, work, Field.NUM_OUTPUTS)
    buffers = at(b, block, i8, BUFFERS)
    results = at(b, buffers, pointer, inputs)
    for count, given, kept in ((inputs, frame.args, buffers), (outputs, frame.rets, results)):

        def note(k: Register, given=given, kept=kept) -> None:
            b.store(frame.data(given, k), at(b, kept, pointer, k))

        _repeat(b, count, note)

    given, told_by = word(b, work, Field.LENGTH), word(b, work, Field.LENGTH_OF)
    before = b.block
    with b.if_then(b.icmp_signed(">=", told_by, integer(0))):
        is_argument = b.icmp_signed("<", told_by, inputs)
        table = b.select(is_argument, frame.args, frame.rets)
        place = b.select(is_argument, told_by, b.sub(told_by, inputs))
        told = frame.axis_size(table, place, word(b, work, Field.LENGTH_AXIS))
        after = b.block
    length = b.phi(i64)
    length.add_incoming(given, before)
    length.add_incoming(told, after)
    store_field(b, block, LENGTH, length)

    def grown(k: Register) -> None:
        pair = at(b, at(b, work, i8, GROWN_AT), i64, b.mul(k, integer(2)))
        result, size = (load_field(b, pair, offset, i64) for offset in (0, 8))
        _ask_for_huge_pages(b, frame.data(frame.rets, result), b.mul(length, size))

    _repeat(b, word(b, work, Field.NUM_GROWN), grown)


def _ask_for_huge_pages(b: Builder, data: Register, size: Register) -> None:
    """Fresh memory is faulted in 2 MiB at a time, not 4 KiB: the kernel then spends a tenth.

    Advised are whole huge pages alone: what else lies on the pages at both ends is not ours.
    """
    if sys.platform != "linux":
        return
    first = b.ptrtoint(data, i64)
    inside = b.add(first, integer(HUGE_PAGE - 1))
    start, stop = (b.and_(end, integer(-HUGE_PAGE)) for end in (inside, b.add(first, size)))
    advise = declared(b.module, "madvise", i32, [pointer, i64, i32])
    with b.if_then(b.icmp_unsigned("<", start, stop)):
        b.call(advise, [b.inttoptr(start, pointer), b.sub(stop, start), i32(_MADV_HUGEPAGE)])


def _emit_prepare(module: ir.Module, target: Target) -> ir.Function:
    """`void prepare(block)`: make parts ready until all are; whoever is there takes the next."""
    made, b = function(module, "prepare", void, [pointer])
    block = made.args[0]
    work = load_field(b, block, WORK, pointer)
    parts = word(b, work, Field.PARTS)
    code = load_field(b, work, Field.PREPARE.offset, PREPARE.as_pointer())
    buffers = at(b, block, i8, BUFFERS)
    packed = at(b, block, i8, word(b, work, Field.PACKED_AT))
    following, ready = (at(b, block, i8, field) for field in (_PART, _PREPARED))
    with b.if_then(b.icmp_signed("==", parts, integer(0))):
        b.ret_void()
    claim, take, wait = (made.append_basic_block(n) for n in ("claim", "take", "wait"))
    b.branch(claim)
    b.position_at_end(claim)
    part = b.atomic_rmw("add", following, integer(1), "seq_cst")
    b.cbranch(b.icmp_signed("<", part, parts), take, wait)
    b.position_at_end(take)
    b.call(code, [buffers, packed, part])
    b.atomic_rmw("add", ready, integer(1), "seq_cst")
    b.branch(claim)
    b.position_at_end(wait)

    def are_ready() -> Register:
        return b.icmp_signed(">=", b.load_atomic(ready, "acquire", 8, typ=i64), parts)

    wait_until(b, target, are_ready)
    b.ret_void()
    return made


def _emit_labour(
    module: ir.Module, prepare: ir.Function, company: ir.Function, serve: ir.Function
) -> ir.Function:
    """`void labour(block, stays)`: run tiles until no ticket is left, and then keep company.

    First of all, what the tiles read is made ready.
    """
    made, b = function(module, "labour", void, [pointer, i1])
    block = made.args[0]
    work = load_field(b, block, WORK, pointer)
    b.call(prepare, [block])
    tiles = word(b, work, Field.TILES)
    ticket = at(b, block, i8, _TICKET)
    worker = b.atomic_rmw("add", at(b, block, i8, _WORKERS), integer(1), "seq_cst")
    start = b.mul(worker, word(b, work, Field.SCRATCH_STRIDE))
    scratch = at(b, block, i8, start, word(b, work, Field.SCRATCH_AT))
    buffers = at(b, block, i8, BUFFERS)
    packed = at(b, block, i8, word(b, work, Field.PACKED_AT))
    first = b.atomic_rmw("add", ticket, integer(1), "seq_cst")
    with b.if_then(b.icmp_signed("<", first, tiles)):
        length = load_field(b, block, LENGTH, i64)
        tile = load_field(b, work, Field.TILE.offset, TILE.as_pointer())
        before = b.block
        head = made.append_basic_block("tile")
        done = made.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)
        mine = b.phi(i64)
        mine.add_incoming(first, before)
        b.call(tile, [buffers, scratch, packed, mine, length])
        b.atomic_rmw("add", at(b, block, i8, DONE), integer(1), "seq_cst")
        following = b.atomic_rmw("add", ticket, integer(1), "seq_cst")
        mine.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, tiles), head, done)
        b.position_at_end(done)
    with b.if_else(b.icmp_signed(">", word(b, work, Field.JOBS), integer(0))) as (jobs, none):
        with jobs:
            b.call(company, [block, scratch, made.args[1]])
        with none, b.if_then(pairing.has_partner(b, work)):
            pairing.serve_to_the_end(b, serve, block, scratch)
    b.ret_void()
    return made


def _emit_release(module: ir.Module) -> ir.Function:
    """`void release(block)`: one reference less; the last puts the block by, or frees it."""
    made, b = function(module, "release", void, [pointer])
    block = made.args[0]
    free = declared(module, "free", void, [pointer])
    before = b.atomic_rmw("sub", at(b, block, i8, _REFERENCES), integer(1), "seq_cst")
    with b.if_then(b.icmp_signed("==", before, integer(1))):
        work = load_field(b, block, WORK, pointer)
        small = b.icmp_signed("<=", word(b, work, Field.BLOCK_BYTES), integer(_LARGEST_KEPT))
        with b.if_else(small) as (put_by, let_go):
            with put_by:
                spare = at(b, work, i8, Field.SPARE.offset)
                old = b.atomic_rmw("xchg", spare, b.ptrtoint(block, i64), "seq_cst")
                b.call(free, [b.inttoptr(old, pointer)])
            with let_go:
                b.call(free, [block])
        # The table is read no more: it may be freed now.
        b.atomic_rmw("sub", at(b, work, i8, Field.USERS.offset), integer(1), "seq_cst")
    b.ret_void()
    return made
