"""What a kernel tells the driver of itself: a table of sizes and functions, and the handler.

The driver (`driver.py`) is compiled once for all kernels. A kernel's module holds the table, the
functions that it names, and the handler that XLA calls, which hands both on.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    declared,
    function,
    i8,
    i64,
    pointer,
    void,
)
from recurrax.loop.native.memory import LINE, aligned

HANDLER, DRIVER = "handler", "recurrax_drive"
# Of a block: where the addresses of buffers begin, and what everything in it is aligned to.
BUFFERS, ALIGNMENT = 320, LINE
HUGE_PAGE = 2 << 20

PREPARE = ir.FunctionType(void, [pointer] * 2)
TILE = ir.FunctionType(void, [pointer] * 3 + [i64] * 2)
DRIVE = ir.FunctionType(pointer, [pointer] * 2)


class Field(enum.IntEnum):
    """Words of the table, eight bytes each; `NUM_GROWN` pairs (result, bytes) follow them."""

    SPARE = 0  # a block put by for the next call, or null
    PREPARE = 1
    TILE = 2
    FINISH = 3  # or null
    MESSAGE = 4  # said when there is no memory
    NUM_INPUTS = 5
    NUM_OUTPUTS = 6
    TILES = 7
    WORKERS = 8
    PACKED_AT = 9
    SCRATCH_AT = 10
    SCRATCH_STRIDE = 11
    BLOCK_BYTES = 12
    BLOCK_ALIGNMENT = 13
    LENGTH = 14
    LENGTH_OF = 15  # an argument, a result (counted after the arguments), or -1
    LENGTH_AXIS = 16
    NUM_GROWN = 17

    @property
    def offset(self) -> int:
        return 8 * self


GROWN_AT = 8 * len(Field)


@dataclasses.dataclass(frozen=True)
class Work:
    """What the driver shares out.

    `prepare(b, buffers, packed)` runs once, on the calling thread. `tile(b, buffers, scratch,
    packed, ticket, length)` is emitted where one tile's work belongs, and `finish(b, buffers,
    packed)`, on the calling thread, where all of it is done. `length_of` is the number of
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
    finish: Callable[[Builder, Register, Register], None] | None = None

    def numbers(self) -> dict[Field, int]:
        """The words of the table that are numbers."""
        packed_at = aligned(BUFFERS + 8 * (self.num_inputs + self.num_outputs))
        scratch_at = packed_at + aligned(self.packed_bytes)
        scratch_stride = aligned(self.scratch_bytes) + ALIGNMENT
        workers = max(1, min(self.threads, self.tiles))
        size = scratch_at + workers * scratch_stride + ALIGNMENT
        alignment = HUGE_PAGE if size >= 2 * HUGE_PAGE else ALIGNMENT
        place, is_result, axis = self.length_of or (-1, False, 0)
        return {
            Field.NUM_INPUTS: self.num_inputs,
            Field.NUM_OUTPUTS: self.num_outputs,
            Field.TILES: self.tiles,
            Field.WORKERS: workers,
            Field.PACKED_AT: packed_at,
            Field.SCRATCH_AT: scratch_at,
            Field.SCRATCH_STRIDE: scratch_stride,
            Field.BLOCK_BYTES: aligned(size, alignment),
            Field.BLOCK_ALIGNMENT: alignment,
            Field.LENGTH: self.length,
            Field.LENGTH_OF: place + (self.num_inputs if is_result else 0),
            Field.LENGTH_AXIS: axis,
            Field.NUM_GROWN: len(self.grown_results),
        }


def emit_handler(module: ir.Module, work: Work) -> None:
    """`XLA_FFI_Error* handler(XLA_FFI_CallFrame*)`, the one public function of the module."""
    words: dict[Field, Any] = dict.fromkeys((Field.SPARE, Field.FINISH), ir.Constant(pointer, None))
    parts = [(Field.PREPARE, work.prepare, PREPARE), (Field.TILE, work.tile, TILE)]
    if work.finish is not None:
        parts.append((Field.FINISH, work.finish, PREPARE))
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
    table: Register = ir.GlobalVariable(module, content.type, "work")
    table.linkage, table.initializer = "internal", content

    handler = ir.Function(module, ir.FunctionType(pointer, [pointer]), HANDLER)
    b = ir.IRBuilder(handler.append_basic_block("entry"))
    drive = declared(module, DRIVER, DRIVE.return_type, DRIVE.args)
    b.ret(b.call(drive, [handler.args[0], table]))


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
