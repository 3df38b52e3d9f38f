"""Two threads on one row: who runs the tile, and a partner that makes half of a product's outputs.

A loop over one row is bound by the reading of its weights, at the rate of one core's cache. A
thread that has nothing else to do declares itself **present**. From then on the tile posts its
products: it writes down where the operand lies and where half of the result is wanted, makes the
other half meanwhile, and takes the answer. With an answer the partner says whether it stays; so it
may go and do other jobs in between (`alongside.py`), and the tile makes both halves. They are the
same to the last bit, whoever makes them.

Nobody waits long for the partner: where the system has taken its processor away, the tile makes the
other half too, and posts again once the partner has caught up. That may be when the call is over,
so a partner reads and writes nothing outside the block, which outlives the call, and writes only
where nobody but it does. Its weights are in the block too; while it copies them, when it comes, the
tile does not end.
"""

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
    void,
)
from recurrax.loop.native.target import Target
from recurrax.loop.native.waiting import pause, wait_until
from recurrax.loop.native.work import (
    ANSWER,
    BUFFERS,
    HALF,
    MEET,
    MEETING,
    POSTED,
    PROGRESS,
    READY,
    WORK,
    Field,
    word,
)

# Of a post: its number, where the operand lies, where the result goes.
_NUMBER, _OPERAND, _RESULT = POSTED, POSTED + 8, POSTED + 16
_ENDED = -1
# Of a partner (at `READY`): whether it gets ready, or is.
_GETS_READY, _IS_READY = 1, 2
# Turns of waiting for an answer without a pause, which would take as long as most answers.
_SPINS = 1000
# Turns with a pause (at least 15 ns each) before the tile goes on alone, and bytes of the partner's
# half that are worth another.
_PATIENCE, _BYTES_A_TURN = 500, 128


def has_half(b: Builder, work: Register) -> Register:
    """Whether a tile posts products."""
    half = load_field(b, work, Field.HALF.offset, pointer)
    return b.icmp_unsigned("!=", half, ir.Constant(pointer, None))


def is_free(b: Builder, buffers: Register) -> Register:
    """Whether a partner waits for the next post."""
    number, answer = (
        b.load_atomic(at(b, buffers, i8, field - BUFFERS), "acquire", 8, typ=i64)
        for field in (_NUMBER, ANSWER)
    )
    return b.icmp_signed("==", answer, _told(b, number, i1(True)))


def _told(b: Builder, number: Register, stays: Register) -> Register:
    """What the partner answers to a post."""
    return b.or_(b.shl(number, integer(1)), b.zext(stays, i64))


def post(
    b: Builder, buffers: Register, number: Register, operand: Register, result: Register
) -> None:
    """Ask the partner for its half of a product; `number` is that of the post, from 1 on."""
    store_field(b, buffers, _OPERAND - BUFFERS, operand)
    store_field(b, buffers, _RESULT - BUFFERS, result)
    store_release(b, number, at(b, buffers, i8, _NUMBER - BUFFERS))


def meet(b: Builder, buffers: Register, number: Register, size: int) -> Register:
    """Wait for the answer to a post, but not for long; tells whether it is there.

    The partner's half takes the reading of `size` bytes.
    """
    callee = declared(b.module, MEETING, MEET.return_type, MEET.args)
    patience = integer(_SPINS + _PATIENCE + size // _BYTES_A_TURN)
    return b.call(callee, [buffers, number, patience])


def dismiss(b: Builder, buffers: Register) -> None:
    """Post nothing to the partner any more."""
    store_release(b, integer(_ENDED), at(b, buffers, i8, _NUMBER - BUFFERS))


def end(b: Builder, buffers: Register) -> None:
    """Post nothing any more, and see to it that the partner is at nothing outside the block."""
    target = b.module.target
    b.atomic_rmw("xchg", at(b, buffers, i8, _NUMBER - BUFFERS), integer(_ENDED), "seq_cst")
    state = at(b, buffers, i8, READY - BUFFERS)

    def is_apart() -> Register:
        now = b.load_atomic(state, "seq_cst", 8, typ=i64)
        return b.icmp_signed("!=", now, integer(_GETS_READY))

    wait_until(b, target, is_apart)


def emit_meeting(module: ir.Module, target: Target) -> None:
    """The public function `MEETING`."""
    made = ir.Function(module, MEET, MEETING)
    b = ir.IRBuilder(made.append_basic_block("entry"))
    buffers, number, patience = made.args
    answer = at(b, buffers, i8, ANSWER - BUFFERS)
    before = b.block
    look, again, longer, done = (
        made.append_basic_block(n) for n in ("look", "again", "longer", "done")
    )
    b.branch(look)
    b.position_at_end(look)
    turns = b.phi(i64)
    answered = b.lshr(b.load_atomic(answer, "acquire", 8, typ=i64), integer(1))
    is_there = b.icmp_signed("==", answered, number)
    following = b.add(turns, integer(1))
    b.cbranch(is_there, done, again)
    b.position_at_end(again)
    b.cbranch(b.icmp_signed("<", following, integer(_SPINS)), look, longer)
    b.position_at_end(longer)
    pause(b, target)
    b.cbranch(b.icmp_signed("<", following, patience), look, done)
    turns.add_incoming(integer(0), before)
    turns.add_incoming(following, again)
    turns.add_incoming(following, longer)
    b.position_at_end(done)
    b.ret(is_there)


def emit_serve(module: ir.Module, target: Target) -> ir.Function:
    """`void serve(block, wanted)`: be the partner until the tile ends or has done so many steps."""
    made, b = function(module, "serve", void, [pointer, i64])
    block, wanted = made.args
    work = load_field(b, block, WORK, pointer)
    half = load_field(b, work, Field.HALF.offset, HALF.as_pointer())
    buffers = at(b, block, i8, BUFFERS)
    packed = at(b, block, i8, word(b, work, Field.PACKED_AT))
    posted, answer = at(b, block, i8, _NUMBER), at(b, block, i8, ANSWER)

    def number_of_post() -> Register:
        return b.load_atomic(posted, "acquire", 8, typ=i64)

    def has_ended(number: Register) -> Register:
        return b.icmp_signed("==", number, integer(_ENDED))

    def say(number: Register, stays: Register) -> None:
        store_release(b, _told(b, number, stays), answer)

    state = at(b, block, i8, READY)
    is_ready = b.icmp_signed("==", b.load_atomic(state, "acquire", 8, typ=i64), integer(_IS_READY))
    with b.if_then(b.not_(is_ready)):
        # Either this thread sees that the tile has ended, or the tile that this thread is at it.
        b.atomic_rmw("xchg", state, integer(_GETS_READY), "seq_cst")
        has_begun = b.not_(has_ended(b.load_atomic(posted, "seq_cst", 8, typ=i64)))
        with b.if_then(has_begun):
            null = ir.Constant(pointer, None)
            b.call(half, [buffers, packed, integer(0), null, null])
        store_release(b, integer(_IS_READY), state)
    first = number_of_post()
    with b.if_then(has_ended(first)):
        b.ret_void()
    say(first, i1(True))
    before = b.block
    following, task, leave = (made.append_basic_block(n) for n in ("following", "task", "leave"))
    b.branch(following)
    b.position_at_end(following)
    last = b.phi(i64)
    wait_until(b, target, lambda: b.icmp_signed("!=", number_of_post(), last))
    number = number_of_post()
    b.cbranch(has_ended(number), leave, task)
    b.position_at_end(task)
    operand, result = (load_field(b, block, field, pointer) for field in (_OPERAND, _RESULT))
    b.call(half, [buffers, packed, number, operand, result])
    steps = b.load_atomic(at(b, block, i8, PROGRESS), "acquire", 8, typ=i64)
    stays = b.icmp_signed("<", steps, wanted)
    say(number, stays)
    b.cbranch(stays, following, leave)
    last.add_incoming(first, before)
    last.add_incoming(number, task)
    b.position_at_end(leave)
    b.ret_void()
    return made
