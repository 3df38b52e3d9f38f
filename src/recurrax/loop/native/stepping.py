"""One step as a plain C function, for who calls it straight and not through XLA.

A call takes one argument, a **table** of addresses: the step's arguments, its results, the packed
weights, the scratch memory. Everything runs on the calling thread.
"""

import contextlib
from collections.abc import Iterator

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Module,
    Register,
    declared,
    i32,
    integer,
    load_pointer,
    loop,
    pointer,
    store_field,
    void,
)
from recurrax.loop.native.kernel import scheduled, tile_rows
from recurrax.loop.native.lower import Step
from recurrax.loop.native.microkernel import widest
from recurrax.loop.native.target import Target
from recurrax.loop.native.tile import TileCode

_DENORMALS_AS_ZERO = 0x8040  # of MXCSR: results, and operands


def build_step(step: Step, target: Target) -> ir.Module:
    """The module of a step: `void step(table)`, `void pack(table)`, `void sizes(int64*)`.

    `pack` fills the packed weights from the arguments, which `step` then reads no more where they
    are only multiplied with. `sizes` tells the bytes of packed weights and of scratch memory.
    """
    module = Module("step", target, repeatable=step.looks_for_equals)
    rows = tile_rows(step, target, threads=1)
    panels = widest(target.registers, rows)
    code = TileCode(module, scheduled(step, target), target, reverse=False, widest=panels)
    last = (step.rows - 1) // rows * rows
    whole = code.emit(rows) if last else None
    rest = code.emit(step.rows - last) if step.rows - last != rows or not whole else whole
    buffers = len(step.inputs) + len(step.outputs)

    table, b = _public(module, "step")
    packed, scratch = (load_pointer(b, table, buffers + k) for k in range(2))

    def tile(function: ir.Function, first_row: Register) -> None:
        b.call(function, [table, scratch, packed, first_row, integer(1)])

    with _denormals_as_zero(b, target):
        # The first one last: a carry that all rows share is brought out by it alone, to where the
        # others read it.
        tile(rest, integer(last))
        if whole is not None:
            before = integer(last - rows)
            loop(b, 0, last, rows, [], lambda row, _: tile(whole, b.sub(before, row)))
    b.ret_void()

    table, b = _public(module, "pack")
    packed = load_pointer(b, table, buffers)
    code.weights.pack(b, table, packed)
    b.ret_void()

    sizes, b = _public(module, "sizes")
    for k, size in enumerate((code.weights.bytes, code.scratch_bytes)):
        store_field(b, sizes, 8 * k, integer(size))
    b.ret_void()
    return module


@contextlib.contextmanager
def _denormals_as_zero(b: Builder, target: Target) -> Iterator[None]:
    """Compute as XLA does: states that fade away become 0, not numbers 50 times as slow."""
    if not target.is_x86:  # others are as fast at them
        yield
        return
    before, now = b.alloca(i32), b.alloca(i32)
    save, load = (
        declared(b.module, f"llvm.x86.sse.{name}mxcsr", void, [pointer]) for name in ("st", "ld")
    )
    b.call(save, [before])
    b.store(b.or_(b.load(before), i32(_DENORMALS_AS_ZERO)), now)
    b.call(load, [now])
    yield
    b.call(load, [before])


def _public(module: ir.Module, name: str) -> tuple[Register, Builder]:
    made = ir.Function(module, ir.FunctionType(void, [pointer]), name)
    return made.args[0], ir.IRBuilder(made.append_basic_block("entry"))
