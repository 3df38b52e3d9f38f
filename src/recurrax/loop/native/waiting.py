"""Waiting for what another thread does: looking again and again at first, asleep after a while.

Most waits are shorter than it takes to wake a sleeper. A long one, for a thread that the system has
stopped, would burn a processor that others want, or the quota of a container, for which that very
thread then stands still the longer.
"""

from collections.abc import Callable

from recurrax.loop.native.emit import Builder, Register, declared, i32, i64, integer, void
from recurrax.loop.native.target import Target

SPINS_BEFORE_YIELD = 4096
# Looking for so long takes 0.4 ms to 2. A sleep, in microseconds, to which Linux adds 50, prolongs
# what is longer than that by a tenth or so.
SPINS_BEFORE_SLEEP = 8 * SPINS_BEFORE_YIELD
_SLEEP = 50


def let_others_run(b: Builder) -> None:
    """Let a thread that waits for this processor go first."""
    b.call(declared(b.module, "sched_yield", i32, []), [])


def pause(b: Builder, target: Target) -> None:
    """Let the processor know that this thread waits."""
    if target.is_x86:
        b.call(declared(b.module, "llvm.x86.sse2.pause", void, []), [])
    else:  # AArch64's `yield` takes no time, waiting for what was begun before does
        b.call(declared(b.module, "llvm.aarch64.isb", void, [i32]), [i32(15)])


def rest(b: Builder, is_long: Register) -> None:
    """Let others have the processor: those that wait for it or, where the wait is long, all."""
    with b.if_else(is_long, likely=False) as (long, short):
        with long:
            b.call(declared(b.module, "usleep", i32, [i32]), [i32(_SLEEP)])
        with short:
            let_others_run(b)


def wait_a_turn(b: Builder, target: Target, turns: Register) -> Register:
    """Wait a little, having waited for so many turns; counts this one in."""
    pause(b, target)
    following = b.add(turns, integer(1))
    is_long = b.icmp_signed(">", following, integer(SPINS_BEFORE_SLEEP))
    past = b.and_(following, integer(SPINS_BEFORE_YIELD - 1))
    is_due = b.icmp_signed("==", past, integer(0))
    with b.if_then(b.or_(is_due, is_long), likely=False):
        rest(b, is_long)
    return following


def wait_until(b: Builder, target: Target, condition: Callable[[], Register]) -> None:
    """Wait until `condition()` holds; after a while, let other threads have the processor."""
    look, again, done = (b.function.append_basic_block(n) for n in ("look", "again", "done"))
    before = b.block
    b.branch(look)
    b.position_at_end(look)
    turns = b.phi(i64)
    turns.add_incoming(integer(0), before)
    b.cbranch(condition(), done, again)
    b.position_at_end(again)
    following = wait_a_turn(b, target, turns)
    turns.add_incoming(following, b.block)
    b.branch(look)
    b.position_at_end(done)
