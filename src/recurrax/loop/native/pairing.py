"""Two threads on one row: who runs the tile, and a partner that makes half of a product's outputs.

A loop over one row is bound by the reading of its weights, at the rate of one core's cache. A
thread that has nothing else to do declares itself **present**. From then on the tile posts its
products: it writes down where the operand lies and where half of the result is wanted, makes the
other half meanwhile, and waits for the answer. The partner answers each post, and says with it
whether it stays; so it may go and do other jobs in between (`alongside.py`), and the tile makes
both halves. They are the same to the last bit, whoever makes them.

The partner touches what lies outside the block only between a post and its answer, and the tile
waits for every answer: when the call returns, nobody reads its arrays. Where an answer takes so
long that the partner must have lost its processor, it is not asked again in this call.
"""

import llvmlite.ir as ir

from recurrax.loop.native.apart import let_others_run, pause
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
from recurrax.loop.native.work import (
    ANSWER,
    BUFFERS,
    HALF,
    MEET,
    MEETING,
    POSTED,
    PROGRESS,
    WORK,
    Field,
    word,
)

# Of a post: its number, where the operand lies, where the result goes.
_NUMBER, _OPERAND, _RESULT = POSTED, POSTED + 8, POSTED + 16
_ENDED = -1
# Turns of waiting: the first without a pause, which would take as long as most answers; after the
# last the processor is left to others.
_SPINS, _SPINS_BEFORE_YIELD = 1000, 5000


def has_half(b: Builder, work: Register) -> Register:
    """Whether a tile posts products."""
    half = load_field(b, work, Field.HALF.offset, pointer)
    return b.icmp_unsigned("!=", half, ir.Constant(pointer, None))


def is_present(b: Builder, buffers: Register) -> Register:
    """Whether a partner waits for posts."""
    answer = at(b, buffers, i8, ANSWER - BUFFERS)
    return b.trunc(b.load_atomic(answer, "acquire", 8, typ=i64), i1)


def post(b: Builder, buffers: Register, number: Register, operand: Register, result: Register):
    """Ask the partner for its half of a product; `number` is that of the post, from 1 on."""
    store_field(b, buffers, _OPERAND - BUFFERS, operand)
    store_field(b, buffers, _RESULT - BUFFERS, result)
    store_release(b, number, at(b, buffers, i8, _NUMBER - BUFFERS))


def meet(b: Builder, buffers: Register, number: Register) -> Register:
    """Wait for the answer to a post; tells whether it took too long."""
    callee = declared(b.module, MEETING, MEET.return_type, MEET.args)
    return b.call(callee, [buffers, number])


def end(b: Builder, buffers: Register) -> None:
    """Let the partner go: nothing will be posted any more."""
    store_release(b, integer(_ENDED), at(b, buffers, i8, _NUMBER - BUFFERS))


def emit_meeting(module: ir.Module, target: Target) -> None:
    """The public function `MEETING`."""
    made = ir.Function(module, MEET, MEETING)
    b = ir.IRBuilder(made.append_basic_block("entry"))
    buffers, number = made.args
    answer = at(b, buffers, i8, ANSWER - BUFFERS)
    before = b.block
    look, again, longer, rest, done = (
        made.append_basic_block(n) for n in ("look", "again", "longer", "rest", "done")
    )
    b.branch(look)
    b.position_at_end(look)
    turns = b.phi(i64)
    turns.add_incoming(integer(0), before)
    answered = b.lshr(b.load_atomic(answer, "acquire", 8, typ=i64), integer(1))
    b.cbranch(b.icmp_signed("==", answered, number), done, again)
    b.position_at_end(again)
    following = b.add(turns, integer(1))
    turns.add_incoming(following, again)
    b.cbranch(b.icmp_signed("<", following, integer(_SPINS)), look, longer)
    b.position_at_end(longer)
    pause(b, target)
    turns.add_incoming(following, longer)
    b.cbranch(b.icmp_signed("<", following, integer(_SPINS_BEFORE_YIELD)), look, rest)
    b.position_at_end(rest)
    let_others_run(b)
    turns.add_incoming(following, rest)
    b.branch(look)
    b.position_at_end(done)
    b.ret(b.icmp_signed(">=", turns, integer(_SPINS_BEFORE_YIELD)))


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

    def say(number: Register, stays: Register) -> None:
        told = b.or_(b.shl(number, integer(1)), b.zext(stays, i64))
        store_release(b, told, answer)

    first = number_of_post()
    with b.if_then(b.icmp_signed("==", first, integer(_ENDED))):
        b.ret_void()
    say(first, i1(True))
    before = b.block
    look, idle, rest, found, task, leave = (
        made.append_basic_block(n) for n in ("look", "idle", "rest", "found", "task", "leave")
    )
    b.branch(look)
    b.position_at_end(look)
    last, turns = b.phi(i64), b.phi(i64)
    number = number_of_post()
    b.cbranch(b.icmp_signed("==", number, last), idle, found)
    b.position_at_end(idle)
    pause(b, target)
    turn = b.add(turns, integer(1))
    b.cbranch(b.icmp_signed("<", turn, integer(_SPINS_BEFORE_YIELD)), look, rest)
    b.position_at_end(rest)
    let_others_run(b)
    b.branch(look)
    b.position_at_end(found)
    b.cbranch(b.icmp_signed("==", number, integer(_ENDED)), leave, task)
    b.position_at_end(task)
    operand, result = (load_field(b, block, field, pointer) for field in (_OPERAND, _RESULT))
    b.call(half, [buffers, packed, number, operand, result])
    steps = b.load_atomic(at(b, block, i8, PROGRESS), "acquire", 8, typ=i64)
    stays = b.icmp_signed("<", steps, wanted)
    say(number, stays)
    b.cbranch(stays, look, leave)
    for source, known, spent in (
        (before, first, integer(0)),
        (idle, last, turn),
        (rest, last, integer(0)),
        (task, number, integer(0)),
    ):
        last.add_incoming(known, source)
        turns.add_incoming(spent, source)
    b.position_at_end(leave)
    b.ret_void()
    return made
