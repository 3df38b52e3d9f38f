"""From a lowered step to a function that XLA can call: emit, compile, keep, register."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import pathlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import llvmlite.ir as ir

from recurrax.loop import holding
from recurrax.loop.native import cache, doors, memory
from recurrax.loop.native.driver import build_driver
from recurrax.loop.native.emit import Module, integer
from recurrax.loop.native.jobs import Company, CompanyCode
from recurrax.loop.native.lower import Step
from recurrax.loop.native.microkernel import block_for, widest
from recurrax.loop.native.paired import PairedCode, is_worth_waking, shared_products
from recurrax.loop.native.passing import PassingCode
from recurrax.loop.native.schedule import Schedule
from recurrax.loop.native.target import Target, host, initialise
from recurrax.loop.native.tile import TileCode
from recurrax.loop.native.windows import Windows
from recurrax.loop.native.work import DRIVER, HANDLER, LEADER, MEETING, Work, emit_handler, share

LARGEST_TILE = 32
_SHORT = 16  # rows in all steps together; found by measurement, for 64 to 512 units
# A tile of one row uses a number of a weight once a step, so packing gains only order; weights of
# more bytes than this are read faster in order: as they lie, and turned.
_IN_ORDER, _TURNED = 512 << 10, 1 << 20
_OBJECT_FILES = (b"\x7fELF", b"\xcf\xfa\xed\xfe")  # of Linux, of macOS
_lock = threading.Lock()
_locks: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()
_engines: "weakref.WeakValueDictionary[str, llvm.ExecutionEngine]" = weakref.WeakValueDictionary()
_kernels: "weakref.WeakValueDictionary[str, doors.Kernel]" = weakref.WeakValueDictionary()


@functools.cache
def _compiler_version() -> str:
    """Changes whenever this compiler's own sources do."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    versions = (importlib.metadata.version("recurrax"), llvmlite.__version__)
    digest.update(repr(versions).encode())
    return digest.hexdigest()


def fingerprint(*parts: object) -> str:
    """A name for generated code: equal parts, the same processor and compiler, the same name."""
    digest = hashlib.sha256(repr((_compiler_version(), *parts)).encode())
    return f"{cache.PREFIX}{digest.hexdigest()[:32]}"


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """One thread at a time makes the code `name`; others may make theirs meanwhile."""
    with _lock:
        lock = _locks.setdefault(name, threading.Lock())
    with lock:
        yield


def ensure(name: str, target: Target, build: Callable[[], ir.Module]) -> None:
    """See to it that XLA knows the handler `name`, from the disk or made new, as long as the
    program that is being lowered may be run."""
    with _alone(name):
        kernel = _kernels.get(name)
        if kernel is None:
            code, engine = _made(name, target, build, HANDLER)
            kernel = _kernels[name] = doors.opened(name, code, engine, _closed_doors())
        holding.hold(kernel)


def _revive(name: str, code: bytes) -> None:
    """Open the door of a kernel that was let go, for good."""
    with _alone(name):
        kernel = _kernels.get(name)
        if kernel is None:
            engine = _linked(code)
            assert engine is not None
            kernel = _kernels[name] = doors.opened(name, code, engine, _closed_doors())
        holding.hold(kernel)


def made(
    name: str, target: Target, build: Callable[[], ir.Module], entry: str
) -> llvm.ExecutionEngine:
    """The code `name`, from the disk or made new, `entry` being one of its public functions.

    It is there as long as somebody refers to what is returned.
    """
    with _alone(name):
        engine = _engines.get(name)
        if engine is None:
            _, engine = _made(name, target, build, entry)
            _engines[name] = engine
        return engine


def _made(name: str, target: Target, build, entry: str) -> tuple[bytes, llvm.ExecutionEngine]:
    code = cache.load(name)
    engine = None if code is None else _linked(code, entry)
    if code is None or engine is None:
        code = compile_module(build(), target)
        cache.store(name, code)
        engine = _linked(code, entry)
    assert engine is not None
    return code, engine


def compile_module(module: ir.Module, target: Target) -> bytes:
    """Object code for `module`. No optimisation passes: they cost more than they bring here."""
    machine = target.machine()
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    # In a context of its own, which no other thread works on.
    parsed = llvm.parse_assembly(str(module), llvm.create_context())
    parsed.verify()
    return _emitted(machine, parsed)


def _emitted(machine: llvm.TargetMachine, module: llvm.ModuleRef) -> bytes:
    """Object code, made while other threads may make theirs.

    llvmlite lets one thread at a time call LLVM. Most of a compilation is this one call, on things
    that are the thread's own, so it goes past that lock where llvmlite has it where it is known.
    """
    library = llvm.ffi.lib
    emit = getattr(library.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    if emit is None:
        return machine.emit_object(module)
    with llvm.ffi.OutputString() as error:
        held = emit(machine, module, 1, error)
        if not held:
            raise RuntimeError(str(error))
    try:
        start, size = library.LLVMPY_GetBufferStart(held), library.LLVMPY_GetBufferSize(held)
        return ctypes.string_at(start, size)
    finally:
        library.LLVMPY_DisposeMemoryBuffer(held)


def _linked(code: bytes, entry: str = HANDLER) -> llvm.ExecutionEngine | None:
    """Object code made ready to run, or None if it is no object code."""
    initialise()
    if not code.startswith(_OBJECT_FILES):  # LLVM does not survive being handed something else
        return None
    if entry == HANDLER:
        _driver()
    empty = llvm.parse_assembly("")
    engine = llvm.create_mcjit_compiler(empty, host().machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine if engine.get_function_address(entry) else None


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    """`make`, called by one thread alone and never again."""
    made, lock = functools.cache(make), threading.RLock()

    @functools.wraps(make)
    def once() -> Any:
        with lock:
            return made()

    return once


@_once
def _driver() -> llvm.ExecutionEngine:
    """The driver, from the disk or made new; kernels linked from now on find it."""
    target = host()
    _, engine = _made(fingerprint(DRIVER, target), target, lambda: build_driver(target), DRIVER)
    for name in (DRIVER, LEADER, MEETING):
        llvm.add_symbol(name, engine.get_function_address(name))
    return engine


@_once
def _closed_doors() -> Iterator[tuple[int, int, Callable]]:
    """Doors that lead nowhere yet, without end; taken by one thread at a time."""
    target, modules = host(), []

    def make() -> llvm.ExecutionEngine:
        name = fingerprint("doors", target)
        _, engine = _made(name, target, lambda: doors.build_doors(target), doors.TURN)
        doors.revive_by(engine, _revive)
        modules.append(engine)
        return engine

    return doors.endless(make)


def has_length(step: Step) -> bool:
    """Whether a call tells the number of steps by the shape of an argument or a result."""
    carried = step.num_consts + step.num_carry
    return len(step.inputs) > carried or len(step.outputs) > step.num_carry


@functools.lru_cache(maxsize=64)
def scheduled(step: Step, target: Target) -> Schedule:
    """The schedule of a step, for the width of the numbers that it works on."""
    kinds = {v.kind for v in step.graph.values}
    return Schedule(step, target.lanes(64 if "f64" in kinds and "f32" not in kinds else 32))


def is_short(step: Step, length: int) -> bool:
    """Whether packing the weights would take longer than the steps themselves."""
    return length * step.rows <= _SHORT


def is_paired(
    step: Step, target: Target, length: int, threads: int, company: Company | None = None
) -> bool:
    """Whether two threads share the products of a loop over one row."""
    if step.rows > 1 or threads == 1 or is_short(step, length):
        return False
    schedule = scheduled(step, target)
    # Who keeps company has been woken anyway.
    return bool(shared_products(schedule)) if company else is_worth_waking(schedule, length)


def tile_rows(step: Step, target: Target, threads: int) -> int:
    """Rows that a thread takes at a time."""
    return share(step.rows, threads, block_for(target.registers).rows, LARGEST_TILE)


def build_loop(
    step: Step,
    target: Target,
    reverse: bool,
    length: int,
    threads: int,
    windows: Windows | None = None,
    company: Company | None = None,
) -> ir.Module:
    """The module of a loop's kernel; `length` counts only where no shape tells it."""
    schedule = scheduled(step, target)
    module = Module("loop", target, repeatable=step.looks_for_equals)
    rows = tile_rows(step, target, threads)
    short = is_short(step, length)
    in_place = sys.maxsize if short else _IN_ORDER if rows == 1 else 0
    turned = 0 if rows > 1 else sys.maxsize if short else _TURNED
    panels = widest(target.registers, rows)
    if windows is None:
        paired = is_paired(step, target, length, threads, company)
        made = PairedCode if paired else TileCode
        code = made(module, schedule, target, reverse, panels, in_place, turned, company)
    else:
        code = PassingCode(module, schedule, target, reverse, rows, in_place, windows)
    beside = CompanyCode(module, company, target) if company else None
    tiles = -(-step.rows // rows)
    rest = step.rows - (tiles - 1) * rows
    whole = code.emit(rows)
    last = code.emit(rest) if rest != rows else whole

    def tile(b, buffers, scratch, packed, ticket, length) -> None:
        first_row = b.mul(ticket, integer(rows))
        arguments = [buffers, scratch, packed, first_row, length]
        if last is whole:
            b.call(whole, arguments)
            return
        with b.if_else(b.icmp_signed("<", ticket, integer(tiles - 1))) as (then, otherwise):
            with then:
                b.call(whole, arguments)
            with otherwise:
                b.call(last, arguments)

    places = [code.buffer(k) for k in range(len(step.outputs))]
    results = [None if p is None else p - code.num_arguments for p in places]
    passing = code if isinstance(code, PassingCode) else None
    finish = None
    if passing is not None and passing.gathers and tiles > 1:
        finish = functools.partial(passing.finish, tiles=tiles)
    products = windows.trailing if windows else company.products if company else ()
    work = Work(
        num_inputs=code.num_arguments,
        num_outputs=sum(r is not None for r in results) + len(products),
        tiles=tiles,
        threads=threads,
        packed_bytes=code.packed_bytes
        + (beside.packed_bytes if beside else 0)
        + (passing.parts_bytes(tiles) if passing else 0),
        scratch_bytes=max(code.scratch_bytes, beside.scratch_bytes if beside else 0),
        parts=code.weights.parts,
        prepare=code.weights.pack_part,
        tile=tile,
        length=length,
        length_of=_length_of(step, windows, results),
        grown_results=tuple(_grown(step, results)),
        finish=finish,
        jobs=beside.jobs(code.packed_bytes) if beside else None,
        paired=isinstance(code, PairedCode),
    )
    emit_handler(module, work)
    return module


def _length_of(
    step: Step, windows: Windows | None, results: Sequence[int | None]
) -> tuple[int, bool, int] | None:
    """What tells the number of steps (`Work`); `results` are those with a buffer, by number."""

    def axis(number: int) -> int:
        return int(windows is not None and windows.lies_by_batch(number))

    carried = step.num_consts + step.num_carry
    if len(step.inputs) > carried:
        source = windows.sources[0] if windows else None
        argument = source.argument if source else carried
        return argument, False, axis(argument)
    first_result = windows.num_arguments if windows else 0
    for k, result in enumerate(results[step.num_carry :], first_result + step.num_carry):
        if result is not None:
            return result, True, axis(k)
    return None


def _grown(step: Step, results: Sequence[int | None]) -> Iterator[tuple[int, int]]:
    """The results that grow with the steps, and their bytes for each."""
    for k, result in list(enumerate(results))[step.num_carry :]:
        place = step.outputs[k]
        if result is not None:
            size = place.width * memory.size(place.dtype) * (step.rows if place.by_row else 1)
            yield result, size
