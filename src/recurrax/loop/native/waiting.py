"""Waiting for what another thread does."""

from collections.abc import Callable

from recurrax.loop.native.emit import Builder, Register, declared, i32, i64, integer, void
from recurrax.loop.native.target import Target

SPINS_BEFORE_YIELD = 4000


def let_others_run(b: Builder) -> None:
    """Let a thread that waits for this processor go first."""
    b.call(declared(b.module, "sched_yield", i32, []), [])


def pause(b: Builder, target: Target) -> None:
    """Let the processor know that this thread waits."""
    if target.is_x86:
        b.call(declared(b.module, "llvm.x86.sse2.pause", void, []), [])
    else:  # AArch64's `yield` takes no time, waiting for what was begun before does
        b.call(declared(b.module, "llvm.aarch64.isb", void, [i32]), [i32(15)])


def wait_until(b: Builder, target: Target, condition: Callable[[], Register]) -> None:
    """Wait until `condition()` holds; after a while, let other threads have the processor."""
    look, again, rest, done = (
        b.function.append_basic_block(n) for n in ("look", "again", "rest", "done")
    )
    before = b.block
    b.branch(look)
    b.position_at_end(look)
    turns = b.phi(i64)
    turns.add_incoming(integer(0), before)
    b.cbranch(condition(), done, again)
    b.position_at_end(again)
    pause(b, target)
    following = b.add(turns, integer(1))
    turns.add_incoming(following, again)
    b.cbranch(b.icmp_signed("<", following, integer(SPINS_BEFORE_YIELD)), look, rest)
    b.position_at_end(rest)
    let_others_run(b)
    turns.add_incoming(integer(0), rest)
    b.branch(look)
    b.position_at_end(done)
