"""Kernels that XLA knows by name, and that are let go when no program uses them any more.

XLA keeps the address under a name for ever, and a program keeps the address alone. So what it is
given is a **door**: a few bytes that stay, and lead to the kernel as long as it is there. A program
that is lowered holds on to its `Kernel` (`holding.py`); with the last of them the door is closed,
and the kernel's code, and the memory it has put by, are freed as soon as nobody is inside: a call,
or a helper that outlives it. Who comes to a closed door after all, since XLA held the program for
longer than JAX did, has the kernel linked again, and then it stays.
"""

import ctypes
import dataclasses
import functools
import itertools
import logging
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator

import llvmlite.binding as llvm
import llvmlite.ir as ir

from recurrax.loop.native import ffi
from recurrax.loop.native.emit import (
    Builder,
    Module,
    Register,
    at,
    function,
    i8,
    i64,
    integer,
    load_field,
    pointer,
)
from recurrax.loop.native.target import Target
from recurrax.loop.native.work import HANDLER, TABLE, Field, constant_data

log = logging.getLogger(__name__)
COUNT = 64  # doors of a module
SLOTS, REVIVER, TURN = "recurrax_slots", "recurrax_reviver", "recurrax_turn"
# Of a door's slot, a cache line of its own: calls inside, and where it leads to, or null.
_INSIDE, _HANDLER, _SLOT = 0, 8, 64
_CALL = ir.FunctionType(pointer, [pointer])


def build_doors(target: Target) -> ir.Module:
    """`COUNT` handlers `door0`, ..., and `int64 TURN(slot, handler)`: let a door lead elsewhere, or
    nowhere; tells how many calls are inside."""
    module = Module("doors", target)
    slots, reviver = (
        _memory(module, n, size) for n, size in ((SLOTS, COUNT * _SLOT), (REVIVER, 8))
    )
    enter = _emit_enter(module, reviver)
    for k in range(COUNT):
        door = ir.Function(module, _CALL, f"door{k}")
        b = ir.IRBuilder(door.append_basic_block("entry"))
        b.ret(b.call(enter, [door.args[0], at(b, slots, i8, k * _SLOT)]))
    turn = ir.Function(module, ir.FunctionType(i64, [pointer, i64]), TURN)
    b = ir.IRBuilder(turn.append_basic_block("entry"))
    slot, handler = turn.args
    b.atomic_rmw("xchg", at(b, slot, i8, _HANDLER), handler, "seq_cst")
    b.ret(b.load_atomic(at(b, slot, i8, _INSIDE), "seq_cst", 8, typ=i64))
    return module


def _memory(module: ir.Module, name: str, size: int) -> Register:
    """Public memory of a module, zeros to begin with."""
    made: Register = ir.GlobalVariable(module, ir.ArrayType(i8, size), name)
    made.initializer, made.align = ir.Constant(made.value_type, None), _SLOT
    return made


def _emit_enter(module: ir.Module, reviver: Register) -> ir.Function:
    """`XLA_FFI_Error* enter(XLA_FFI_CallFrame*, slot)`: what all doors do."""
    made, b = function(module, "enter", pointer, [pointer, pointer])
    frame, slot = made.args
    inside = at(b, slot, i8, _INSIDE)
    b.atomic_rmw("add", inside, integer(1), "seq_cst")  # before the look: who closes sees one
    known = b.load_atomic(at(b, slot, i8, _HANDLER), "seq_cst", 8, typ=i64)
    before = b.block
    with b.if_then(b.icmp_signed("==", known, integer(0)), likely=False):
        revive = load_field(b, reviver, 0, ir.FunctionType(i64, [pointer]).as_pointer())
        revived = b.call(revive, [slot])
        with b.if_then(b.icmp_signed("==", revived, integer(0)), likely=False):
            _leave(b, inside)
            text = bytearray(b"recurrax: a kernel that was let go cannot be linked again\0")
            said = constant_data(module, "gone", ir.Constant(ir.ArrayType(i8, len(text)), text))
            b.ret(ffi.Frame(b, frame).out_of_memory(b.alloca(pointer, 8), said))
            b.position_at_end(made.append_basic_block("after"))
        after = b.block
    handler = b.phi(i64)
    handler.add_incoming(known, before)
    handler.add_incoming(revived, after)
    result = b.call(b.inttoptr(handler, _CALL.as_pointer()), [frame])
    _leave(b, inside)
    b.ret(result)
    return made


def _leave(b: Builder, inside: Register) -> None:
    b.atomic_rmw("sub", inside, integer(1), "seq_cst")


class Kernel:
    """A handler that XLA may call, as long as somebody refers to this."""

    __slots__ = ("__weakref__",)


@dataclasses.dataclass
class _Door:
    name: str
    address: int
    slot: int
    turn: Callable[[int, int], int]
    code: bytes = b""  # compressed, to be linked again
    handler: int = 0


_lock = threading.Lock()
_doors: dict[str, _Door] = {}
_by_slot: dict[int, _Door] = {}
_leaving: list[tuple[_Door, llvm.ExecutionEngine, int]] = []


def opened(
    name: str, code: bytes, engine: llvm.ExecutionEngine, doors: Iterator[tuple[int, int, Callable]]
) -> Kernel:
    """Let XLA know the handler in `engine` as `name`, as long as what is returned is there.

    One thread at a time opens a door of one name. `doors` are those that lead nowhere yet.
    """
    handler, kernel = engine.get_function_address(HANDLER), Kernel()
    with _lock:
        door = _doors.get(name)
        is_new = door is None
        if door is None:
            door = _doors[name] = _Door(name, *next(doors), code=zlib.compress(code, 1))
            _by_slot[door.slot] = door
        door.handler = handler
        door.turn(door.slot, handler)
    free_empty()
    if is_new:
        ffi.register(name, door.address)
    weakref.finalize(kernel, _close, door, engine, handler).atexit = False
    return kernel


def of_engine(engine: llvm.ExecutionEngine) -> Iterator[tuple[int, int, Callable]]:
    """The doors in a module of them."""
    turn = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(
        engine.get_function_address(TURN)
    )
    slots = engine.get_global_value_address(SLOTS)
    for k in range(COUNT):
        yield engine.get_function_address(f"door{k}"), slots + k * _SLOT, turn


def revive_by(engine: llvm.ExecutionEngine, revive: Callable[[str, bytes], None]) -> None:
    """Who comes to a closed door of a module has `revive(name, code)` open it."""

    @ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
    def called(slot: int) -> int:
        try:
            door = _by_slot[slot]
            revive(door.name, zlib.decompress(door.code))
            return door.handler
        except Exception:
            log.exception("a kernel that was let go cannot be linked again")
            return 0

    _callbacks.append(called)
    address = ctypes.cast(called, ctypes.c_void_p).value
    ctypes.c_void_p.from_address(engine.get_global_value_address(REVIVER)).value = address


_callbacks: list[object] = []


def _close(door: _Door, engine: llvm.ExecutionEngine, handler: int) -> None:
    """Let an engine go, at once or with one of the next."""
    _leaving.append((door, engine, handler))
    free_empty()


def free_empty() -> None:
    """Free the engines that wait to go and that nobody is inside of any more.

    Python's collector may call this amid anything, so it waits for nothing.
    """
    if not _lock.acquire(blocking=False):
        return
    try:
        for each in list(_leaving):
            if _is_empty(*each):
                _leaving.remove(each)
                spare = ctypes.c_int64.from_address(_table(each[1])).value
                _free()(spare)
                each[1].close()
    finally:
        _lock.release()


def _is_empty(door: _Door, engine: llvm.ExecutionEngine, handler: int) -> bool:
    """Whether nobody is inside, nor can come in."""
    if door.handler == handler:
        door.handler = 0
    inside = door.turn(door.slot, door.handler)
    users = ctypes.c_int64.from_address(_table(engine) + Field.USERS.offset).value
    return inside == 0 and users == 0


def _table(engine: llvm.ExecutionEngine) -> int:
    return engine.get_global_value_address(TABLE)


@functools.cache
def _free() -> Callable[[int], None]:
    free = ctypes.CDLL(None).free
    free.argtypes, free.restype = [ctypes.c_void_p], None
    return free


def endless(make: Callable[[], llvm.ExecutionEngine]) -> Iterator[tuple[int, int, Callable]]:
    """Doors, of a new module whenever one is used up."""
    return itertools.chain.from_iterable(of_engine(make()) for _ in itertools.count())
