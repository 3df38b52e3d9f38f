"""What a kernel tells the driver of itself: a table of sizes and functions, and the handler.

The driver (`driver.py`) is compiled once for all kernels. A kernel's module holds the table, the
functions that it names, and the handler that XLA calls, which hands both on.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    declared,
    function,
    i8,
    i64,
    integer,
    load_field,
    pointer,
    void,
)
from recurrax.loop.native.memory import LINE, aligned

HANDLER, TABLE, DRIVER = "handler", "recurrax_work", "recurrax_drive"
LEADER, MEETING = "recurrax_lead", "recurrax_meet"
# Of a block: tiles done, the steps of the call, the work, the caller's processor, the steps done by
# the one tile of a loop with jobs alongside, what is its own and its partner's to write
# (`pairing.py`), where the addresses of buffers begin, and what all in it is aligned to.
DONE, LENGTH, WORK, PROCESSOR, PROGRESS, TILES_OWN = 128, 256, 264, 272, 320, 384
PARTNERS_OWN, BUFFERS, ALIGNMENT = 512, 576, LINE
HUGE_PAGE = 2 << 20
TICK = 8  # steps: windows of jobs begin and end at its multiples, but for the last
NEVER = (1 << 63) - 1

PREPARE = ir.FunctionType(void, [pointer] * 2 + [i64])
FINISH = ir.FunctionType(void, [pointer] * 2)
TILE = ir.FunctionType(void, [pointer] * 3 + [i64] * 2)
JOB = ir.FunctionType(void, [pointer] * 3 + [i64] * 2)
LEAD = ir.FunctionType(void, [pointer] * 2 + [i64])
MEET = ir.FunctionType(i64, [pointer] + [i64] * 2)
DRIVE = ir.FunctionType(pointer, [pointer] * 2)


class Field(enum.IntEnum):
    """Words of the table, eight bytes each; `NUM_GROWN` pairs (result, bytes) follow them."""

    SPARE = 0  # a block put by for the next call, or null
    PREPARE = 1  # or null
    TILE = 2
    FINISH = 3  # or null
    JOB = 4  # or null
    PAIRED = 5  # whether tile number 1 is the partner's
    MESSAGE = 6  # said when there is no memory
    NUM_INPUTS = 7
    NUM_OUTPUTS = 8
    TILES = 9
    JOBS = 10
    LEADING = 11
    BOUNDS = 12  # of windows, and a number that no step reaches
    WORKERS = 13
    JOBS_AT = 14
    PACKED_AT = 15
    SCRATCH_AT = 16
    SCRATCH_STRIDE = 17
    BLOCK_BYTES = 18
    BLOCK_ALIGNMENT = 19
    LENGTH = 20
    LENGTH_OF = 21  # an argument, a result (counted after the arguments), or -1
    LENGTH_AXIS = 22
    PARTS = 23
    NUM_GROWN = 24
    USERS = 25  # blocks in use: until there is none, somebody may read this table

    @property
    def offset(self) -> int:
        return 8 * self


GROWN_AT = 8 * len(Field)


@dataclasses.dataclass(frozen=True)
class Jobs:
    """`count` jobs alongside a loop of one tile, `leading` ahead of it and the others behind.

    Window k of each is the steps from `bounds[k]` to `bounds[k + 1]` (`alongside.py`). `emit(b,
    buffers, scratch, packed, job, window)` is emitted where one window's work belongs.
    """

    count: int
    leading: int
    bounds: Sequence[int]
    emit: Callable[..., None]


@dataclasses.dataclass(frozen=True)
class Work:
    """What the driver shares out.

    `prepare(b, buffers, packed, part)` is emitted where one of `parts` is made ready, which all are
    before any tile begins. `tile(b, buffers, scratch, packed, ticket, length)` is emitted where one
    tile's work belongs, and `finish(b, buffers, packed)`, on the calling thread, where all of it is
    done. `length_of` is the number of the argument (or result), and its axis, that tells the
    length, or None with `length` given.
    If it is `paired`, a partner of the one tile runs it too, with ticket 1 (`pairing.py`).
    `grown_results` are results and their bytes for each unit of length.
    """

    num_inputs: int
    num_outputs: int
    tiles: int
    threads: int
    packed_bytes: int
    scratch_bytes: int
    tile: Callable[..., None]
    length: int
    length_of: tuple[int, bool, int] | None
    parts: int = 0
    prepare: Callable[..., None] | None = None
    grown_results: tuple[tuple[int, int], ...] = ()
    finish: Callable[[Builder, Register, Register], None] | None = None
    jobs: Jobs | None = None
    paired: bool = False

    def numbers(self) -> dict[Field, int]:
        """The words of the table that are numbers."""
        jobs = self.jobs.count if self.jobs else 0
        jobs_at = aligned(BUFFERS + 8 * (self.num_inputs + self.num_outputs))
        packed_at = jobs_at + jobs * LINE
        scratch_at = packed_at + aligned(self.packed_bytes)
        scratch_stride = aligned(self.scratch_bytes) + ALIGNMENT
        # One thread keeps up with one tile; to wake more takes the caller's time.
        has_company = jobs > 0 or self.paired
        workers = max(1, min(self.threads, self.tiles + has_company))
        size = scratch_at + workers * scratch_stride + ALIGNMENT
        alignment = HUGE_PAGE if size >= 2 * HUGE_PAGE else ALIGNMENT
        place, is_result, axis = self.length_of or (-1, False, 0)
        return {
            Field.NUM_INPUTS: self.num_inputs,
            Field.NUM_OUTPUTS: self.num_outputs,
            Field.TILES: self.tiles,
            Field.PAIRED: int(self.paired),
            Field.JOBS: jobs,
            Field.LEADING: self.jobs.leading if self.jobs else 0,
            Field.WORKERS: workers,
            Field.JOBS_AT: jobs_at,
            Field.PACKED_AT: packed_at,
            Field.SCRATCH_AT: scratch_at,
            Field.SCRATCH_STRIDE: scratch_stride,
            Field.BLOCK_BYTES: aligned(size, alignment),
            Field.BLOCK_ALIGNMENT: alignment,
            Field.LENGTH: self.length,
            Field.LENGTH_OF: place + (self.num_inputs if is_result else 0),
            Field.LENGTH_AXIS: axis,
            Field.PARTS: self.parts,
            Field.NUM_GROWN: len(self.grown_results),
            Field.USERS: 0,
        }


def emit_handler(module: ir.Module, work: Work) -> None:
    """`XLA_FFI_Error* handler(XLA_FFI_CallFrame*)`, the one public function of the module,
    and the public table `TABLE`."""
    null = ir.Constant(pointer, None)
    words: dict[Field, Any] = dict.fromkeys(
        (Field.SPARE, Field.PREPARE, Field.FINISH, Field.JOB, Field.BOUNDS), null
    )
    parts = [(Field.TILE, work.tile, TILE)]
    if work.prepare is not None:
        parts.append((Field.PREPARE, work.prepare, PREPARE))
    if work.finish is not None:
        parts.append((Field.FINISH, work.finish, FINISH))
    if work.jobs is not None:
        parts.append((Field.JOB, work.jobs.emit, JOB))
        bounds = [*work.jobs.bounds, NEVER]
        listed = ir.Constant(ir.ArrayType(i64, len(bounds)), bounds)
        words[Field.BOUNDS] = constant_data(module, "bounds", listed)
    for field, emit, type_ in parts:
        made, b = function(module, field.name.lower(), void, type_.args)
        emit(b, *made.args)
        b.ret_void()
        words[field] = made

    numbers = work.numbers()
    text = bytearray(f"no memory for a loop's {numbers[Field.BLOCK_BYTES]} bytes\0".encode())
    said = ir.Constant(ir.ArrayType(i8, len(text)), text)
    words[Field.MESSAGE] = constant_data(module, "message", said)
    words |= {field: ir.Constant(i64, n) for field, n in numbers.items()}
    grown = [ir.Constant(i64, n) for n in itertools.chain(*work.grown_results)]
    content = ir.Constant.literal_struct([*(words[field] for field in Field), *grown])
    table: Register = ir.GlobalVariable(module, content.type, TABLE)
    table.initializer = content

    handler = ir.Function(module, ir.FunctionType(pointer, [pointer]), HANDLER)
    b = ir.IRBuilder(handler.append_basic_block("entry"))
    drive = declared(module, DRIVER, DRIVE.return_type, DRIVE.args)
    b.ret(b.call(drive, [handler.args[0], table]))


def word(b: Builder, work: Register, field: Field) -> Register:
    """A number of the table."""
    return load_field(b, work, field.offset, i64)


def await_step(b: Builder, buffers: Register, scratch: Register, step: Register) -> None:
    """Wait for what the loop reads at `step`, if a window may begin there."""
    with b.if_then(b.icmp_signed("==", b.and_(step, integer(TICK - 1)), integer(0))):
        lead = declared(b.module, LEADER, LEAD.return_type, LEAD.args)
        b.call(lead, [buffers, scratch, step])


def announce(b: Builder, buffers: Register, count: Register) -> None:
    """Tell the jobs that trail the loop that `count` steps are done, if a window may end there."""
    with b.if_then(b.icmp_signed("==", b.and_(count, integer(TICK - 1)), integer(0))):
        b.atomic_rmw("xchg", at(b, buffers, i8, PROGRESS - BUFFERS), count, "seq_cst")


def constant_data(module: ir.Module, name: str, value: ir.Constant) -> Register:
    """Data private to the module, never written."""
    made: Register = ir.GlobalVariable(module, value.type, name)
    made.linkage, made.initializer, made.global_constant = "internal", value, True
    return made


def share(rows: int, threads: int, multiple: int, largest: int) -> int:
    """Rows of a tile: one tile a thread, in whole blocks of `multiple`, at most `largest`."""
    wanted = -(-rows // threads)
    if wanted > multiple:
        wanted = -(-wanted // multiple) * multiple
    return min(wanted, largest, rows)
