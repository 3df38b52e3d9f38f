"""Jobs alongside a loop of one tile, for the threads that have no tile.

A job is done window by window (so many steps each), in order, by whichever thread is free: each
window is claimed by the job's lock. **Leading** jobs make what the loop reads. They may run as far
ahead as they like, and who runs the tile does a window itself if it comes there first. **Trailing**
jobs are made of what the loop reads and writes, so they follow it, and the caller does what is left
of them at the end. So nobody waits but for a window that somebody is at.
"""

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    function,
    i1,
    i8,
    i64,
    integer,
    load_field,
    loop,
    pointer,
    void,
)
from recurrax.loop.native.memory import LINE
from recurrax.loop.native.pairing import has_partner
from recurrax.loop.native.target import Target
from recurrax.loop.native.waiting import (
    SPINS_BEFORE_SLEEP,
    let_others_run,
    wait_a_turn,
    wait_until,
)
from recurrax.loop.native.work import (
    BUFFERS,
    DONE,
    JOB,
    LEAD,
    LEADER,
    LENGTH,
    NEVER,
    PROGRESS,
    WORK,
    Field,
    word,
)

# Of a job: windows done, and whether somebody is at one.
NEXT, LOCK = 0, 8
# Turns of waiting, the last of which it sleeps, before a helper leaves.
_PATIENCE = SPINS_BEFORE_SLEEP + 16


def job_at(b: Builder, block: Register, work: Register, k: Register) -> Register:
    """The counters of job `k`."""
    return at(b, block, i8, b.mul(k, integer(LINE)), word(b, work, Field.JOBS_AT))


def emit_company(module: ir.Module, target: Target, serve: ir.Function) -> ir.Function:
    """`void company(block, scratch, stays)`: do windows until all jobs and the tile are done.

    Where there is no window to do, `serve` (`pairing.py`) until there is. Who does not stay leaves
    also where there has been nothing to do for long. The module gets a public function besides,
    `LEADER`.
    """
    take = _emit_take(module)
    _emit_leader(module, take, target)
    made, b = function(module, "company", void, [pointer, pointer, i1])
    block, scratch, stays = made.args
    work = load_field(b, block, WORK, pointer)
    leading, jobs = word(b, work, Field.LEADING), word(b, work, Field.JOBS)
    entry = b.block
    look, busy, idle, leave = (
        made.append_basic_block(n) for n in ("look", "busy", "idle", "leave")
    )
    b.branch(look)
    b.position_at_end(look)
    turns = b.phi(i64)
    finished = b.load_atomic(at(b, block, i8, DONE), "acquire", 8, typ=i64)
    finished = b.icmp_signed(">=", finished, word(b, work, Field.TILES))
    steps = load_field(b, block, LENGTH, i64)
    gone_through = b.load_atomic(at(b, block, i8, PROGRESS), "acquire", 8, typ=i64)
    behind = b.select(finished, steps, gone_through)

    nothing, never = integer(0), integer(NEVER)

    def one(i: Register, so_far: list[Register]) -> list[Register]:
        """Do a window of the `i`th job to look at, unless one of another has been done."""
        left, taken, next_end = so_far
        # Caller and helper look from either end: a result stays with who began it.
        k = b.select(stays, b.sub(b.sub(jobs, integer(1)), i), i)
        ready = b.select(b.icmp_signed("<", k, leading), steps, behind)
        ready = b.select(b.icmp_signed("==", taken, integer(0)), ready, integer(0))
        taken = b.add(taken, b.call(take, [block, scratch, k, ready]))
        counters = job_at(b, block, work, k)
        seen = b.load_atomic(at(b, counters, i8, NEXT), "acquire", 8, typ=i64)
        left = b.add(left, b.sub(steps, _bound(b, work, seen)))
        window_end = _bound(b, work, b.add(seen, integer(1)))
        # Somebody is at a leading window, and will be done soon.
        is_late = b.and_(b.icmp_signed("<", k, leading), b.icmp_signed("<", window_end, never))
        window_end = b.select(is_late, nothing, window_end)
        is_sooner = b.icmp_signed("<", window_end, next_end)
        return [left, taken, b.select(is_sooner, window_end, next_end)]

    left, taken, next_end = loop(b, 0, jobs, 1, [nothing, nothing, never], one)
    all_done = b.and_(finished, b.icmp_signed("==", left, integer(0)))
    b.cbranch(all_done, leave, busy)
    b.position_at_end(busy)
    b.cbranch(b.icmp_signed(">", taken, integer(0)), look, idle)
    b.position_at_end(idle)
    with b.if_then(b.and_(has_partner(b, work), b.icmp_signed(">", next_end, nothing))):
        b.call(serve, [block, scratch, next_end])
    following = wait_a_turn(b, target, turns)
    is_patient = b.icmp_signed("<", following, integer(_PATIENCE))
    waited = b.block
    b.cbranch(b.or_(stays, is_patient), look, leave)
    for before, waits in ((entry, nothing), (busy, nothing), (waited, following)):
        turns.add_incoming(waits, before)
    b.position_at_end(leave)
    b.ret_void()
    return made


def _bound(b: Builder, work: Register, window: Register) -> Register:
    """The step where a window begins."""
    return b.load(at(b, load_field(b, work, Field.BOUNDS.offset, pointer), i64, window), typ=i64)


def _emit_take(module: ir.Module) -> ir.Function:
    """`int64 take(block, scratch, job, ready)`: do the next window of a job, if it ends among the
    first `ready` steps and nobody is at it; tells whether."""
    made, b = function(module, "take", i64, [pointer, pointer, i64, i64])
    block, scratch, k, ready = made.args
    work = load_field(b, block, WORK, pointer)
    counters = job_at(b, block, work, k)
    following, lock = (at(b, counters, i8, offset) for offset in (NEXT, LOCK))

    def is_ready() -> tuple[Register, Register]:
        window = b.load_atomic(following, "acquire", 8, typ=i64)
        return window, b.icmp_signed("<=", _bound(b, work, b.add(window, integer(1))), ready)

    with b.if_then(b.not_(is_ready()[1])):
        b.ret(integer(0))
    held = b.atomic_rmw("xchg", lock, integer(1), "seq_cst")
    with b.if_then(b.icmp_signed("!=", held, integer(0))):
        b.ret(integer(0))
    window, is_left = is_ready()
    with b.if_then(is_left):
        code = load_field(b, work, Field.JOB.offset, JOB.as_pointer())
        buffers = at(b, block, i8, BUFFERS)
        packed = at(b, block, i8, word(b, work, Field.PACKED_AT))
        b.call(code, [buffers, scratch, packed, k, window])
        b.atomic_rmw("xchg", following, b.add(window, integer(1)), "seq_cst")
    b.atomic_rmw("xchg", lock, integer(0), "seq_cst")
    b.ret(b.zext(is_left, i64))
    return made


def _emit_leader(module: ir.Module, take: ir.Function, target: Target) -> None:
    """`LEADER`: see to it that all leading jobs have done the window of a step."""
    made = ir.Function(module, LEAD, LEADER)
    b = ir.IRBuilder(made.append_basic_block("entry"))
    buffers, scratch, step = made.args
    block = at(b, buffers, i8, -BUFFERS)
    work = load_field(b, block, WORK, pointer)
    steps = load_field(b, block, LENGTH, i64)

    def one(k: Register, _) -> None:
        following = at(b, job_at(b, block, work, k), i8, NEXT)

        def is_there() -> Register:
            window = b.load_atomic(following, "acquire", 8, typ=i64)
            return b.icmp_signed(">", _bound(b, work, window), step)

        def is_made() -> Register:
            with b.if_then(b.not_(is_there())):
                seen = b.load_atomic(following, "acquire", 8, typ=i64)
                with b.if_then(b.icmp_signed("==", seen, integer(0))):
                    let_others_run(b)  # a helper may wait for this very processor
                b.call(take, [block, scratch, k, steps])
            return is_there()

        wait_until(b, target, is_made)

    loop(b, 0, word(b, work, Field.LEADING), 1, [], one)
    b.ret_void()
