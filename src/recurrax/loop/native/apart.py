"""A helper's way to a processor of its own.

Linux wakes a thread where it ran last or where its waker runs, and looks for an idle processor only
among those that share a cache. So a helper may come to wait behind the very thread that asked for
it, for milliseconds, while another processor idles: until their loads are compared again. The
caller therefore says where it runs and, where it cannot do without helpers, lets one that waits
there go first; a helper that finds itself there asks to run anywhere else, and so is moved at once,
and then wherever it might before. (Of processors that are switched off, Linux then forgets that it
might.)
"""

import sys

from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    declared,
    i32,
    i64,
    integer,
    load_field,
    pointer,
    store_field,
)

_CAN_MOVE = sys.platform == "linux"
_MASK_BYTES = 128  # a bit for each of 1024 processors, as the C library counts them


def note_processor(b: Builder, block: Register, field: int) -> None:
    """Write down, at `field` of a call's block, where the caller runs."""
    if _CAN_MOVE:
        store_field(b, block, field, _processor(b))


def move_apart(b: Builder, block: Register, field: int) -> None:
    """Leave the processor that the block says the caller runs on, if this thread is there."""
    if not _CAN_MOVE:
        return
    mask = b.alloca(i64, _MASK_BYTES // 8)
    here = _processor(b)
    is_same = b.icmp_signed("==", here, load_field(b, block, field, i32))
    is_known = b.icmp_unsigned("<", here, i32(8 * _MASK_BYTES))  # or it is -1
    with b.if_then(b.and_(is_same, is_known), likely=False):
        known = _affinity(b, "sched_getaffinity", mask)
        with b.if_then(b.icmp_signed("==", known, i32(0))):
            number = b.zext(here, i64)
            word = at(b, mask, i64, b.lshr(number, integer(6)))
            before = b.load(word, typ=i64)
            own = b.shl(integer(1), b.and_(number, integer(63)))
            b.store(b.and_(before, b.not_(own)), word)
            _affinity(b, "sched_setaffinity", mask)  # refused where there is no other
            b.store(before, word)
            _affinity(b, "sched_setaffinity", mask)


def _processor(b: Builder) -> Register:
    return b.call(declared(b.module, "sched_getcpu", i32, []), [])


def _affinity(b: Builder, name: str, mask: Register) -> Register:
    """Read or set where this thread may run; 0 if that went well."""
    function = declared(b.module, name, i32, [i32, i64, pointer])
    return b.call(function, [i32(0), integer(_MASK_BYTES), mask])
