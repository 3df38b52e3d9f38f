"""Two threads on one row: both go through the steps, and each makes half of large products.

A loop over one row is bound by the reading of its weights, at the rate of one core's cache. A
thread that has nothing else to do becomes the **partner** of who runs the tile: it runs the tile's
code too, on scratch memory of its own, all elementwise work included. Of a large product each makes
half of the outputs, and they **swap** halves: once across from core to core, as against there and
back if one asked the other. What both compute is the same to the last bit, and so it is whoever
makes a half. The tile alone writes results; where there is one row, none of them takes the place of
an argument (`in_place.py`), which the partner may still read.

A partner that is free **waits** to be invited. At the beginning of a step the tile lays its carry
ready and **invites** it. The partner knows beforehand at which step it leaves, for other jobs
(`alongside.py`), and says so with its last half; the tile makes both halves again.

The tile does not wait long for a half: where the system has taken the partner's processor away, it
parts from it and makes that half too. The partner, once back, leaves; it may be invited anew. The
call does not end while it is at it, since it reads what the call was given.
"""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    declared,
    function,
    i1,
    i8,
    i64,
    integer,
    load_field,
    pointer,
    store_field,
    store_release,
)
from recurrax.loop.native.target import Target
from recurrax.loop.native.waiting import (
    SPINS_BEFORE_YIELD,
    pause,
    rest,
    wait_until,
)
from recurrax.loop.native.work import (
    BUFFERS,
    LENGTH,
    MEET,
    MEETING,
    NEVER,
    PARTNERS_OWN,
    TILE,
    TILES_OWN,
    WORK,
    Field,
    word,
)

# Of the tile: what it said last, and from which step on it invites (that and 1).
_TILE_SAID, _INVITED = TILES_OWN, TILES_OWN + 8
# Of the partner: what it said last, how often it has waited to be invited, whether it is at it, and
# at which step it leaves.
_PARTNER_SAID, _WAITED, _IS_AT_IT, _LEAVES_AT = range(PARTNERS_OWN, PARTNERS_OWN + 32, 8)
WORDS = (_TILE_SAID, _INVITED, _PARTNER_SAID, _WAITED, _IS_AT_IT, _LEAVES_AT)
# What the tile says besides that a half is there: that no partner is needed any more, or not this
# time.
_ENDED, _PARTED = -1, -2
# Turns of waiting for a half without a pause, which would take as long as most halves.
_SPINS = 1000
# Turns with a pause (10 ns or more each) before the tile goes on alone, and bytes of the partner's
# half that are worth another.
_PATIENCE, _BYTES_A_TURN = 500, 128
_FOR_EVER = 1 << 62


@dataclasses.dataclass(frozen=True)
class Role:
    """Which of the two a thread is: a register, as both run the same code."""

    is_tile: Register

    def of(self, b: Builder, tile: Register, partner: Register) -> Register:
        """What is the tile's or the partner's."""
        return b.select(self.is_tile, tile, partner)


def _place(b: Builder, buffers: Register, field: int) -> Register:
    """The address of a field of the block that holds `buffers`."""
    return at(b, buffers, i8, field - BUFFERS)


def has_partner(b: Builder, work: Register) -> Register:
    """Whether a tile has something to share."""
    return b.icmp_signed("!=", word(b, work, Field.PAIRED), integer(0))


def times_waited(b: Builder, buffers: Register) -> Register:
    """How often the partner has waited to be invited: once more than it was, if it waits."""
    return _load(b, _place(b, buffers, _WAITED))


def invite(b: Builder, buffers: Register, step: Register) -> None:
    """Let the partner, which waits, begin at `step`; the carry lies ready."""
    for said in (_TILE_SAID, _PARTNER_SAID):  # one that was late may have said something since
        store_release(b, integer(0), _place(b, buffers, said))
    invited = b.add(step, integer(1))
    store_release(b, invited, _place(b, buffers, _INVITED))


def partners_steps(b: Builder, buffers: Register) -> tuple[Register, Register]:
    """The step at which the partner begins, and the one at which it leaves."""
    invited, leaves_at = (
        load_field(b, buffers, field - BUFFERS, i64) for field in (_INVITED, _LEAVES_AT)
    )
    length = load_field(b, buffers, LENGTH - BUFFERS, i64)
    stop = b.select(b.icmp_signed("<", leaves_at, length), leaves_at, length)
    # A late one is invited for a step at least.
    stop = b.select(b.icmp_signed("<", stop, invited), invited, stop)
    return b.sub(invited, integer(1)), stop


def say(b: Builder, buffers: Register, role: Role, number: Register, stays: Register) -> None:
    """Tell the other that half `number` is there, from 1 on, and whether the next will be made."""
    told = b.or_(b.shl(number, integer(1)), b.zext(stays, i64))
    place = role.of(b, _place(b, buffers, _TILE_SAID), _place(b, buffers, _PARTNER_SAID))
    store_release(b, told, place)


def meet(b: Builder, buffers: Register, role: Role, number: Register, size: int) -> Register:
    """Wait for the other's half, which takes the reading of `size` bytes.

    Returns:
        1, or 0 if that was the last one; negative if there is none, since the tile has lost
        patience or the partner is no longer needed.
    """
    callee = declared(b.module, MEETING, MEET.return_type, MEET.args)
    patience = integer(_SPINS + _PATIENCE + size // _BYTES_A_TURN)
    other = role.of(b, _place(b, buffers, _PARTNER_SAID), _place(b, buffers, _TILE_SAID))
    patience = role.of(b, patience, integer(_FOR_EVER))
    return b.call(callee, [other, number, patience])


def part(b: Builder, buffers: Register) -> None:
    """Let a partner go that is late."""
    store_release(b, integer(_PARTED), _place(b, buffers, _TILE_SAID))


def dismiss(b: Builder, buffers: Register) -> None:
    """Let the partner go for good."""
    store_release(b, integer(_ENDED), _place(b, buffers, _TILE_SAID))


def end(b: Builder, buffers: Register) -> None:
    """Let the partner go, and wait until it has."""
    said = _place(b, buffers, _TILE_SAID)
    b.atomic_rmw("xchg", said, integer(_ENDED), "seq_cst")
    is_at_it = _place(b, buffers, _IS_AT_IT)

    def has_left() -> Register:
        return b.icmp_signed("==", _load(b, is_at_it, "seq_cst"), integer(0))

    wait_until(b, b.module.target, has_left)


def _load(b: Builder, address: Register, ordering: str = "acquire") -> Register:
    return b.load_atomic(address, ordering, 8, typ=i64)


def emit_meeting(module: ir.Module, target: Target) -> None:
    """The public function `MEETING`."""
    made = ir.Function(module, MEET, MEETING)
    b = ir.IRBuilder(made.append_basic_block("entry"))
    place, number, patience = made.args
    before = b.block
    look, there, wait, again, longer, tired, late = (
        made.append_basic_block(n)
        for n in ("look", "there", "wait", "again", "longer", "tired", "late")
    )
    b.branch(look)
    b.position_at_end(look)
    turns = b.phi(i64)
    said = _load(b, place)
    half = b.ashr(said, integer(1))
    b.cbranch(b.icmp_signed(">=", half, number), there, wait)
    b.position_at_end(there)
    # Who has made the next half already has not left.
    b.ret(b.or_(b.and_(said, integer(1)), b.zext(b.icmp_signed(">", half, number), i64)))
    b.position_at_end(wait)
    following = b.add(turns, integer(1))
    is_over = b.or_(b.icmp_signed("<", said, integer(0)), b.icmp_signed(">=", following, patience))
    b.cbranch(is_over, late, again)
    b.position_at_end(again)
    b.cbranch(b.icmp_signed("<", following, integer(_SPINS)), look, longer)
    b.position_at_end(longer)
    pause(b, target)
    b.cbranch(b.icmp_signed("<", following, integer(SPINS_BEFORE_YIELD)), look, tired)
    b.position_at_end(tired)
    rest(b, b.icmp_signed(">=", following, integer(2 * SPINS_BEFORE_YIELD)))
    rested = b.block
    b.branch(look)
    turns.add_incoming(integer(0), before)
    for block in (again, longer, rested):
        turns.add_incoming(following, block)
    b.position_at_end(late)
    b.ret(integer(-1))


def emit_serve(module: ir.Module, target: Target) -> ir.Function:
    """`bool serve(block, scratch, step)`: be the partner, once invited, until the tile parts from
    it, ends or reaches a step; tells whether none is needed any more."""
    made, b = function(module, "serve", i1, [pointer, pointer, i64])
    block, scratch, step = made.args
    work = load_field(b, block, WORK, pointer)
    tile_said, invited, waited, is_at_it = (
        at(b, block, i8, field) for field in (_TILE_SAID, _INVITED, _WAITED, _IS_AT_IT)
    )

    def has_ended() -> Register:
        return b.icmp_signed("==", _load(b, tile_said, "seq_cst"), integer(_ENDED))

    with b.if_then(has_ended()):  # a tile that has let its partner go reads that line at each step
        b.ret(i1(True))
    # Either this thread sees that the tile has ended, or the tile that this thread is at it.
    b.atomic_rmw("xchg", is_at_it, integer(1), "seq_cst")
    with b.if_then(b.not_(has_ended())):
        store_field(b, block, _LEAVES_AT, step)
        before = _load(b, invited)
        store_release(b, b.add(_load(b, waited), integer(1)), waited)

        def is_decided() -> Register:
            return b.or_(b.icmp_signed("!=", _load(b, invited), before), has_ended())

        wait_until(b, target, is_decided)
        with b.if_then(b.icmp_signed("!=", _load(b, invited), before)):
            tile = load_field(b, work, Field.TILE.offset, TILE.as_pointer())
            packed = at(b, block, i8, word(b, work, Field.PACKED_AT))
            length = load_field(b, block, LENGTH, i64)
            b.call(tile, [at(b, block, i8, BUFFERS), scratch, packed, integer(1), length])
    store_release(b, integer(0), is_at_it)
    b.ret(has_ended())
    return made


def serve_to_the_end(b: Builder, serve: ir.Function, block: Register, scratch: Register) -> None:
    """Be the partner again and again, having nothing else to do."""
    again, done = (b.function.append_basic_block(n) for n in ("again", "done"))
    b.branch(again)
    b.position_at_end(again)
    b.cbranch(b.call(serve, [block, scratch, integer(NEVER)]), done, again)
    b.position_at_end(done)
